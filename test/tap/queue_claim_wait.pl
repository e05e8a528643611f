# Waiting claims: woken at once by what they can have and by nothing else, whatever
# makes it so; no polling meanwhile.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;
use Time::HiRes ();

my $node = new_node(conf => { 'eduai.test_mode' => 'on', autovacuum => 'off' });
$node->safe_psql('postgres', q{
	SELECT eduai.configure_pool('one', '{}', 1);
	SELECT eduai.define_task_type('slow', 'application', 'one');
	SELECT eduai.configure_pool('many', '{}', 100);
	SELECT eduai.define_task_type('quick', 'application', 'many');
	SELECT eduai.define_task_type('other', 'application', 'many');});

sub value { return $node->safe_psql('postgres', $_[0]) }

# A session that will claim, waiting for an hour unless told otherwise.
sub waiter
{
	my ($name, $types, $more) = @_;
	my $s = EduaiSession->new($node);
	my $pid = $s->backend_pid;
	my $self = { s => $s, pid => $pid, sql => sprintf(q{SELECT payload ->> 'n' FROM eduai.claim_tasks('%s', '%s', %s);}, $name, $types, $more // q{lease => '1 hour', wait => '1 hour'}) };
	return $self;
}

# Leases are long: the end of one would wake a claim, too.
# Sends the claim and returns once it sleeps.
sub begin_waiting
{
	for my $w (@_)
	{
		$w->{s}->send($w->{sql});
		asleep($w);
	}
}

sub asleep
{
	my ($w) = @_;
	wait_until(sub { value("SELECT state = 'active' AND wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $w->{pid}") eq 't' }, 20, 'the claim waits');
}

# How often the backend went to sleep so far; asked while it sleeps.
sub switches
{
	my ($w) = @_;
	wait_until(sub { open my $stat, '<', "/proc/$w->{pid}/stat" or die "no $w->{pid}: $!"; return <$stat> =~ /\) S / }, 20, 'the process sleeps');
	open my $status, '<', "/proc/$w->{pid}/status" or die "no status of $w->{pid}: $!";
	my ($count) = map { /^voluntary_ctxt_switches:\s+(\d+)/ ? $1 : () } <$status>;
	return $count;
}

# nothing comes: the time is over, and it was slept through
{
	my $w = waiter('idle', '{quick}', q{lease => '1 hour', wait => '3 s'});
	my $begun = Time::HiRes::time();
	begin_waiting($w);
	my $before = switches($w);
	is($w->{s}->answer(20), '', 'a claim returns empty when its wait is over');
	my $took = Time::HiRes::time() - $begun;
	ok($took >= 2.9 && $took < 10, 'not before, not long after') or diag "$took s";
	my $woken = switches($w) - $before;
	cmp_ok($woken, '<', 15, 'it slept through its wait');
	$w->{s}->quit;
}

# an enqueue wakes one of two; the other sleeps on
my $first = waiter('first', '{quick}');
my $second = waiter('second', '{quick,other}');
begin_waiting($first, $second);
{
	my $enqueuer = EduaiSession->new($node);
	$enqueuer->ask('BEGIN;');
	$enqueuer->ask(q{SELECT eduai.enqueue('quick', '{"n": 1}');});
	ok(!$first->{s}->answered && !$second->{s}->answered, 'what is not committed wakes nobody');
	my $sleeps = switches($second);
	my $committed = Time::HiRes::time();
	$enqueuer->ask('COMMIT;');
	is($first->{s}->answer(20), '1', 'who has waited longest gets the task');
	cmp_ok(Time::HiRes::time() - $committed, '<', 2, 'at once');
	asleep($second);
	ok(!$second->{s}->answered, 'the other sleeps on');
	is(switches($second), $sleeps, 'and was not woken');
	$enqueuer->quit;
}

# a task of a type that only it wants, among many
value(q{SELECT eduai.enqueue('other', '{"n": 2}')});
is($second->{s}->answer(20), '2', 'a waiter wakes for each of its types');

# a schedule that is due, a retry, a rollback, a parent
begin_waiting($first);
value(q{SELECT eduai.enqueue('quick', '{"n": 3}', run_at => clock_timestamp() + interval '200 ms')});
is($first->{s}->answer(20), '3', 'a scheduled task wakes when it is due');

begin_waiting($first);
my $dead = value(q{SELECT eduai.enqueue('other', '{"n": 4}')});
value(qq{SELECT eduai.claim_tasks('x', '{other}', lease => '1 hour')});
value(qq{SELECT eduai.fail_task($dead, 1, 'x', retry => false)});
$second->{sql} =~ s/\{quick,other\}/{other}/;
begin_waiting($second);
value("SELECT eduai.retry_task($dead)");
is($second->{s}->answer(20), '4', 'a task that is tried again wakes');

{
	my $holder = EduaiSession->new($node);
	begin_waiting($second);
	$holder->ask('BEGIN;');
	# what the claim that waits may not see yet is claimed by the one that rolls back
	value(q{SELECT eduai.pause_queue('other')});
	value(q{SELECT eduai.enqueue('other', '{"n": 5}')});
	ok(!$second->{s}->answered, 'a paused type wakes nobody');
	value(q{SELECT eduai.resume_queue('other')});
	is($second->{s}->answer(20), '5', 'a resumed type wakes');
	$holder->ask('ROLLBACK;');
	value(q{SELECT eduai.enqueue('other', '{"n": 6}')});
	$holder->ask('BEGIN;');
	is($holder->ask(q{SELECT payload ->> 'n' FROM eduai.claim_tasks('h', '{other}', lease => '1 hour');}), '6', 'a claim that will roll back');
	begin_waiting($second);
	$holder->ask('ROLLBACK;');
	is($second->{s}->answer(20), '6', 'what a rolled back claim gives back wakes');
	begin_waiting($second);
	value(q{SELECT eduai.enqueue('other', '{"n": 7}')});
	$second->{s}->answer(20);
	$holder->quit;
}

# a slot: the claim that waits for the pool of one gets the task when the slot is free
{
	my @ids = split /\n/, value(q{SELECT eduai.enqueue('slow', jsonb_build_object('n', n)) FROM generate_series(1, 3) n});
	is(value(q{SELECT payload ->> 'n' FROM eduai.claim_tasks('s', '{slow}', 10, lease => '1 hour')}), '1', 'a pool of one gives one');
	my @w = map { waiter("slot-$_", '{slow}') } 1, 2;
	begin_waiting(@w);
	my $sleeps = switches($w[1]);
	value("SELECT eduai.complete_task($ids[0], 1)");
	is($w[0]{s}->answer(20), '2', 'a slot that is given back wakes one who waits for it');
	asleep($w[1]);
	is(switches($w[1]), $sleeps, 'and nobody else');
	value(q{SELECT eduai.configure_pool('one', '{slow}', 2, reserved_critical => 0)});
	is($w[1]{s}->answer(20), '3', 'a pool that becomes larger wakes');

	# a slot that the first cannot use (its tenant has nothing) goes to the next
	value(q{SELECT eduai.configure_pool('one', '{slow}', 1)});
	value("SELECT eduai.complete_task($ids[1], 1)");
	value(q{SELECT eduai.allow_tenant(current_user::name, t) FROM unnest(ARRAY['a', 'default']) t});
	my $stranger = waiter('stranger', '{slow}');
	$stranger->{s}->ask(q{SET eduai.tenant = 'a';});
	value(q{SELECT eduai.enqueue('slow', '{"n": 8}')});
	begin_waiting($stranger);
	begin_waiting($w[0]);
	my $freed = Time::HiRes::time();
	value("SELECT eduai.complete_task($ids[2], 1)");
	is($w[0]{s}->answer(20), '8', 'a slot that is of no use to the first who waits goes to the next');
	# (a lease that may be over wakes everybody, sooner or later)
	cmp_ok(Time::HiRes::time() - $freed, '<', 4, 'at once');
	asleep($stranger);
	ok(!$stranger->{s}->answered, 'who sleeps on');
	value("SELECT pg_terminate_backend($stranger->{pid})");
	$_->{s}->kill for $stranger;
	$_->{s}->quit for @w;
}

# a claim that waits can be cancelled, and its session ended
begin_waiting($second);
value("SELECT pg_cancel_backend($second->{pid})");
like($second->{s}->answer(20), qr/57014/, 'a claim that waits can be cancelled');
begin_waiting($second);
$second->{s}->kill;
# it notices when it writes: what it claimed then is given back within its lease
is(value(q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%claim_tasks%' AND pid <> pg_backend_pid()}) <= 2, 1, 'others wait on');
value(q{SELECT eduai.enqueue('quick', '{"n": 9}')});
is($first->{s}->answer(20), '9', 'the first waited all the time for its type');
$first->{s}->quit;

$node->stop('fast');
done_testing();
