# Leases: a worker that stands still loses its task to another and is told so; one
# that dies, or whose server does, gives it back; heartbeats keep it; a payload that
# kills its workers ends up dead.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;
use Time::HiRes ();

my $node = new_node(fsync => 1, conf => { 'eduai.test_mode' => 'on' });
$node->safe_psql('postgres', q{
	SELECT eduai.configure_pool('work', '{}', 100, reserved_critical => 0);
	SELECT eduai.define_task_type('work', 'application', 'work', max_attempts => 3);});

sub value { return $node->safe_psql('postgres', $_[0]) }
sub enqueue { return value(q{SELECT eduai.enqueue('work', '{}')}) }
sub task { return value("SELECT state, attempt, result FROM eduai.get_task($_[0])") }
sub claim { return qq{SELECT task_id, attempt FROM eduai.claim_tasks('$_[0]', '{work}', 10, lease => '$_[1]');} }
sub wait_to_claim { return qq{SELECT task_id, attempt FROM eduai.claim_tasks('$_[0]', '{work}', 10, lease => '1 min', wait => '30 s');} }

# Claims with patience until the wanted tasks (a sorted list of "id|attempt") were had.
sub claim_until
{
	my ($s, $worker, @wanted) = @_;
	my @got;
	wait_until(
		sub {
			push @got, split /\n/, $s->ask(wait_to_claim($worker), 60);
			return @got >= @wanted;
		}, 30, "$worker claims @wanted");
	return is_deeply([ sort @got ], [ sort @wanted ], "$worker gets the tasks");
}

my $other = EduaiSession->new($node);

# ---- workers that stand still ----
{
	my @calls = (
		[ 'a completion', sub { "SELECT eduai.complete_task($_[0], 1, '\"late\"');" } ],
		[ 'a heartbeat', sub { "SELECT eduai.extend_lease($_[0], 1);" } ],
		[ 'a heartbeat with progress', sub { "SELECT eduai.extend_lease($_[0], 1, progress => '{\"current\": 1}');" } ],
		[ 'a failure', sub { "SELECT eduai.fail_task($_[0], 1, 'late');" } ]);
	my @workers;
	for my $call (@calls)
	{
		my $id = enqueue();
		my $s = EduaiSession->new($node);
		my $pid = $s->backend_pid;
		is($s->ask(claim('still', '1 s')), "$id|1", "$call->[0]: claimed");
		kill 'STOP', $pid or die "could not stop $pid";
		$s->send($call->[1]->($id));
		push @workers, { s => $s, pid => $pid, id => $id, what => $call->[0] };
	}
	my $begun = Time::HiRes::time();
	claim_until($other, 'other', map { "$_->{id}|2" } @workers);
	cmp_ok(Time::HiRes::time() - $begun, '<', 3, 'once their leases were over');
	is($other->ask("SELECT eduai.complete_task($_->{id}, 2, '\"other\"');"), '', "$_->{what}: the other finishes") for @workers;
	kill 'CONT', $_->{pid} for @workers;
	for my $w (@workers)
	{
		like($w->{s}->answer(20), qr/UE009: attempt 1 of task $w->{id} was superseded\nDETAIL:  The task is completed/, "$w->{what} that comes late is refused");
		is(task($w->{id}), 'completed|2|"other"', 'and changes nothing');
		$w->{s}->quit;
	}
}

# the same while the other still works: the number of the attempt tells them apart
{
	my $id = enqueue();
	my $s = EduaiSession->new($node);
	$s->ask(claim('still', '100 ms'));
	claim_until($other, 'other', "$id|2");
	like($s->ask("SELECT eduai.complete_task($id, 1);"), qr/UE009: .*\nDETAIL:  Attempt 2 has taken its place/, 'a late completion is refused');
	like($s->ask("SELECT eduai.extend_lease($id, 1);"), qr/UE009/, 'so is a heartbeat');
	is($s->ask("SELECT eduai.complete_tasks(ARRAY[$id], ARRAY[1]);"), '0', 'and one in a batch');
	is(task($id), 'running|2|', 'the other works on');
	is($other->ask("SELECT eduai.complete_task($id, 2);"), '', 'and finishes');
	$s->quit;
}

# ---- a worker that dies ----
{
	my $id = enqueue();
	my $s = EduaiSession->new($node);
	is($s->ask(claim('dies', '1 s')), "$id|1", 'a worker claims and dies');
	my $begun = Time::HiRes::time();
	$s->kill;
	claim_until($other, 'other', "$id|2");
	my $took = Time::HiRes::time() - $begun;
	ok($took > 0.5 && $took < 2.5, 'within its lease the task is another\'s') or diag "$took s";
	$other->ask("SELECT eduai.complete_task($id, 2);");
	is(value("SELECT leases FROM eduai.worker_status WHERE worker = 'dies'"), '0', 'it has no lease any more');
}

# ---- heartbeats, and transactions that are at work ----
{
	my $id = enqueue();
	my $s = EduaiSession->new($node);
	$s->ask(claim('alive', '700 ms'));
	my $end = Time::HiRes::time() + 2;
	my $beats = 0;
	wait_until(sub { $beats++; $s->ask("SELECT eduai.extend_lease($id, 1, '700 ms');"); return Time::HiRes::time() > $end }, 20, 'two seconds of heartbeats');
	is(task($id), 'running|1|', 'heartbeats keep a task');
	cmp_ok($beats, '>', 10, 'there were many');
	is($s->ask("SELECT eduai.complete_task($id, 1, '\"beaten\"');"), '', 'its worker finishes');
	is(task($id), 'completed|1|"beaten"', 'in one attempt');

	# who has said what became of the task has all the time to commit
	$id = enqueue();
	is($s->ask(claim('alive', '300 ms')), "$id|1", 'a short lease');
	is($s->ask("BEGIN; SELECT eduai.complete_task($id, 1, '\"in time\"');"), '', 'completed, not committed');
	is($other->ask(q{SELECT count(*) FROM eduai.claim_tasks('other', '{work}', wait => '1 s');}), '0', 'nobody else gets it');
	is($s->ask('COMMIT;'), '', 'it commits');
	is(task($id), 'completed|1|"in time"', 'and is the result');

	# rolled back: the lease is over then
	$id = enqueue();
	is($s->ask(claim('alive', '300 ms')), "$id|1", 'another');
	$s->ask("BEGIN; SELECT eduai.complete_task($id, 1);");
	is($other->ask(q{SELECT count(*) FROM eduai.claim_tasks('other', '{work}', wait => '500 ms');}), '0', 'nobody else gets it');
	$s->ask('ROLLBACK;');
	claim_until($other, 'other', "$id|2");
	$other->ask("SELECT eduai.complete_task($id, 2);");
	$s->quit;
}

# ---- a payload that kills its workers ----
{
	my $id = enqueue();
	claim_until($other, 'other', "$id|1");
	$other->ask("SELECT eduai.extend_lease($id, 1, '50 ms');");
	for my $attempt (2, 3)
	{
		claim_until($other, 'other', "$id|$attempt");
		$other->ask("SELECT eduai.extend_lease($id, $attempt, '50 ms');");
	}
	wait_for_task($node, $id, 'dead');
	is(value("SELECT attempt, error ->> 'code', jsonb_path_query_array(error, '\$.attempts[*].code') FROM eduai.get_task($id)"),
		'3|lease_lapsed|["lease_lapsed", "lease_lapsed", "lease_lapsed"]', 'what kills its workers is dead after its attempts');
	is(value(q{SELECT running FROM eduai.pool_status WHERE name = 'work'}), '0', 'and no slot is lost');
}

# ---- without the dispatcher ----
{
	value('SELECT eduai.stop_workers()');
	my $id = enqueue();
	my $s = EduaiSession->new($node);
	is($s->ask(claim('late', '100 ms')), "$id|1", 'a lease that will be over');
	wait_until(sub { value("SELECT started_at < clock_timestamp() - interval '300 ms' FROM eduai.get_task($id)") eq 't' }, 20, 'it is over');
	is($s->ask("SELECT eduai.extend_lease($id, 1, '100 ms') > now();"), 't', 'a lease that is over, and nobody has noticed, can be extended');
	wait_until(sub { value("SELECT started_at < clock_timestamp() - interval '600 ms' FROM eduai.get_task($id)") eq 't' }, 20, 'it is over again');
	is($s->ask("SELECT eduai.complete_task($id, 1, '\"late but first\"');"), '', 'and the task completed');
	is(task($id), 'completed|1|"late but first"', 'by a late worker, when nobody else has it');

	$id = enqueue();
	$s->ask(claim('late', '100 ms'));
	claim_until($other, 'other', "$id|2");
	$other->ask("SELECT eduai.complete_task($id, 2);");
	$s->quit;
	value('SELECT eduai.start_workers()');
}

# ---- a server that dies ----
{
	my ($kept, $lost) = (enqueue(), enqueue());
	is($other->ask(claim('other', '3 s')), "$kept|1\n$lost|1", 'two tasks run');
	$node->stop('immediate');
	$node->start;
	$other->quit;
	$other = EduaiSession->new($node);
	my $begun = Time::HiRes::time();
	is(value(q{SELECT running FROM eduai.pool_status WHERE name = 'work'}), '2', 'they run after a restart');
	is(task($kept), 'running|1|', 'as they did');
	is($other->ask("SELECT eduai.extend_lease($kept, 1, '1 min') > now();"), 't', 'a heartbeat is heard');
	claim_until($other, 'successor', "$lost|2");
	my $took = Time::HiRes::time() - $begun;
	ok($took > 1.5 && $took < 6, 'leases begin again with the server, then the silent are over') or diag "$took s";
	is($other->ask("SELECT eduai.complete_task($kept, 1, '\"through\"');"), '', 'and the other is completed');
	is(task($kept), 'completed|1|"through"', 'by who had it before');
	$other->ask("SELECT eduai.complete_task($lost, 2);");
	is(value(q{SELECT running FROM eduai.pool_status WHERE name = 'work'}), '0', 'no slot is lost');
}

$other->quit;
$node->stop('fast');
done_testing();
