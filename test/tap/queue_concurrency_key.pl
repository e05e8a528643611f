# metadata.concurrency_key: of the tasks with one key of a tenant at most one runs,
# in the order in which they became ready, whoever claims and however attempts end;
# tasks of other keys and without are not kept waiting.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.queue_max_size' => 0 });
my $dir = PostgreSQL::Test::Utils::tempdir();

sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	SELECT eduai.configure_pool('keyed', '{}', 100, reserved_critical => 0);
	SELECT eduai.define_task_type('keyed', 'application', 'keyed', max_attempts => 100);
	SELECT eduai.allow_tenant(current_user::name, t) FROM unnest(ARRAY['a', 'b', 'default']) t;});

sub enqueue
{
	my ($key) = @_;
	my $metadata = defined $key ? "jsonb_build_object('concurrency_key', '$key')" : "'{}'";
	return value("SELECT eduai.enqueue('keyed', '{}', metadata => $metadata)");
}

my $s = EduaiSession->new($node);
my $other = EduaiSession->new($node);
sub claim { return $_[0]->ask(qq{SELECT string_agg(task_id::text, ' ' ORDER BY task_id) FROM eduai.claim_tasks('w', '{keyed}', 100, lease => '@{[ $_[1] // '1 min' ]}');}) }
sub complete
{
	my ($session, $id, $attempt) = @_;
	my $answer = $session->ask("SELECT eduai.complete_task($id, @{[ $attempt // 1 ]});");
	die "complete_task($id): $answer" if $answer ne '';
}

# Claims until something comes: a claim that waits may return early, without a row.
sub wait_to_claim
{
	my ($session) = @_;
	return wait_until(sub { $session->ask(q{SELECT string_agg(task_id || '|' || attempt, ' ' ORDER BY task_id) FROM eduai.claim_tasks('w', '{keyed}', 100, lease => '1 min', wait => '5 s');}, 30) }, 30, 'there is a task');
}

# one of each key at a time
my ($a1, $a2, $b1, $none1, $a3, $none2) = (enqueue('a'), enqueue('a'), enqueue('b'), enqueue(), enqueue('a'), enqueue());
is(claim($s), "$a1 $b1 $none1 $none2", 'the first of each key, and all without');
is(claim($other), '', 'the others wait for their key');
is(value("SELECT string_agg(state, ' ') FROM eduai.get_tasks(ARRAY[$a1, $a2, $a3])"), 'running ready ready', 'and are ready');
complete($s, $b1);
is(claim($other), '', 'another key is no use to them');
$other->send(q{SELECT string_agg(task_id || '|' || attempt, ' ') FROM eduai.claim_tasks('o', '{keyed}', 100, wait => '1 hour');});
wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%1 hour%' AND backend_type = 'client backend' AND pid <> pg_backend_pid()}) == 1 }, 20, 'a claim waits');
my $begun = time();
complete($s, $a1);
is($other->answer(20), "$a2|1", 'the next of the key wakes who waits');
cmp_ok(time() - $begun, '<', 2, 'at once');

# however the attempt ends: failed, cancelled, lapsed, rolled back
is(claim($s), '', 'the third waits');
$other->ask("SELECT eduai.fail_task($a2, 1, 'x', retry_after => '1 hour');");
is(wait_to_claim($s), "$a3|1", 'a failed attempt gives the key back');
my $a4 = enqueue('a');
is(claim($other), '', 'the fourth waits');
value("SELECT eduai.cancel_task($a3)");
is(wait_to_claim($s), "$a4|1", 'so does a cancelled one');
my $a5 = enqueue('a');
is(claim($other), '', 'the fifth waits');
$s->ask("SELECT eduai.extend_lease($a4, 1, '200 ms');");
my $next = wait_to_claim($other);
ok($next eq "$a5|1" || $next eq "$a4|2", 'so does one whose lease is over') or diag $next;
my ($id, $attempt) = split /\|/, $next;
complete($other, $id, $attempt);
($id, $attempt) = split /\|/, wait_to_claim($other);
complete($other, $id, $attempt);
is(value("SELECT string_agg(state, ' ') FROM eduai.get_tasks(ARRAY[$a4, $a5])"), 'completed completed', 'both are done, one after the other');

my ($r1, $r2) = (enqueue('r'), enqueue('r'));
is($s->ask(q{BEGIN; SELECT string_agg(task_id::text, ' ') FROM eduai.claim_tasks('w', '{keyed}', 100);}), $r1, 'a claim that is not committed has the key');
is(claim($other), '', 'for others, too');
$s->ask('ROLLBACK;');
my $got = wait_to_claim($other);
ok($got eq "$r1|1" || $got eq "$r2|1", 'rolled back, it gives it back') or diag $got;
($id) = split /\|/, $got;
complete($other, $id);
($id) = split /\|/, wait_to_claim($other);
complete($other, $id);

# the key is its tenant's
$s->ask(q{SET eduai.tenant = 'a';});
$other->ask(q{SET eduai.tenant = 'b';});
my ($ta, $tb) = map { $_->ask(q{SELECT eduai.enqueue('keyed', '{}', metadata => '{"concurrency_key": "a"}');}) } $s, $other;
is(claim($s), $ta, 'a key of one tenant');
is(claim($other), $tb, 'keeps no other tenant waiting');
complete($s, $ta);
complete($other, $tb);
$_->ask(q{SET eduai.tenant = 'default';}) for $s, $other;

# it survives the server
my ($v1, $v2) = (enqueue('v'), enqueue('v'));
is(claim($s), $v1, 'a task of a key runs');
$node->restart('immediate');
$_->quit for $s, $other;
($s, $other) = map { EduaiSession->new($node) } 1, 2;
is(claim($other), '', 'the key is busy after a restart');
complete($s, $v1);
is(wait_to_claim($other), "$v2|1", 'and free when the task is done');
complete($other, $v2);

# many claimers, few keys: never two of a key
my $seed = test_seed();
value(q{SELECT count(eduai.enqueue('keyed', '{}', metadata => jsonb_build_object('concurrency_key', 'k' || n % 5))) FROM generate_series(1, 400) n});
my @claimers;
for my $n (1 .. 10)
{
	my $pid = fork() // die "fork: $!";
	push @claimers, $pid and next if $pid;
	srand($seed + $n);
	my $c = EduaiSession->new($node);
	while (!-e "$dir/stop")
	{
		my $claim = "SELECT task_id, attempt FROM eduai.claim_tasks('c$n', '{keyed}', 3, lease => '500 ms', wait => '200 ms');";
		$claim = "BEGIN; $claim ROLLBACK;" if rand() < 0.1;
		for my $task (map { [ split /\|/ ] } grep { /^\d+\|\d+$/ } split /\n/, $c->ask($claim, 60))
		{
			$c->ask("SELECT eduai.complete_task($task->[0], $task->[1]);", 60) if rand() < 0.97;
		}
	}
	$c->quit;
	POSIX::_exit(0);
}
END { local ($?, $!); kill 'KILL', @claimers if @claimers }
my ($looks, $double, $busy) = (0, 0, 0);
wait_until(
	sub {
		my ($keys, $most) = split /\|/, value(q{SELECT count(*), coalesce(max(n), 0) FROM
			(SELECT count(*) AS n FROM eduai.task_live WHERE state = 'running' AND concurrency_key IS NOT NULL GROUP BY concurrency_key) s});
		$looks++;
		$busy++ if $keys > 1;
		$double++ if $most > 1;
		return value(q{SELECT count(*) FROM eduai.task_live WHERE state <> 'scheduled' AND worker_name IS DISTINCT FROM 'w'}) == 0;
	}, 90, 'all tasks are done');
append_to_file("$dir/stop", '');
waitpid $_, 0 for @claimers;
@claimers = ();
is($double, 0, "never did two tasks of a key run ($looks looks)");
cmp_ok($busy, '>', 5, 'several keys were busy at once');
is(value(q{SELECT count(*) FROM eduai.task_end WHERE state = 'completed'}) > 400, 1, 'all were completed');

$_->quit for $s, $other;
$node->stop('fast');
done_testing();
