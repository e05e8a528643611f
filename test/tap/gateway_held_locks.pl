# The dispatcher never waits for what an application holds.
#
# One application holds a learner's stream, a second the row of a task, a third
# rows that a task's handler writes. Their results wait; everybody else's do not.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => { 'eduai.sweep_interval' => '1s' });
my $sim = start_simulator();
sim_default($sim, undef, 'latency=100');
add_fleet($node, $sim);
$node->safe_psql('postgres', q{
	SELECT eduai.configure_pool('chat', '{chat}', 50);
	CREATE TABLE score (learner text PRIMARY KEY, answers int NOT NULL);
	INSERT INTO score VALUES ('learner-C', 0), ('learner-F', 0);
	CREATE FUNCTION score(t eduai.task_status) RETURNS void LANGUAGE sql
		AS $$ UPDATE public.score SET answers = answers + 1 WHERE learner = 'learner-' || t.user_id $$;
});

sub enqueue
{
	my ($user, $more) = @_;
	return $node->safe_psql('postgres', sprintf(
		q{SELECT eduai.enqueue('chat', '{"messages": [{"role": "user", "content": "hello"}], "user": "%s"}', user_id => '%s'%s)},
		$user, $user, $more // ''));
}

sub value { return $node->safe_psql('postgres', $_[0]) }
sub state_of { return value("SELECT state FROM eduai.get_task($_[0])") }

sub feedback
{
	my ($user) = @_;
	return value("SELECT count(*) FROM eduai.read_stream('learner-$user') WHERE event_type = 'ai_feedback_given'");
}

sub held_effects
{
	return join ' ', feedback('A'), feedback('B'), feedback('C'), feedback('D'),
	  value(q{SELECT answers FROM score WHERE learner = 'learner-C'});
}

# ---- the holders ----

my $stream_holder = EduaiSession->new($node);
my $row_holder = EduaiSession->new($node);
my $handler_holder = EduaiSession->new($node);
my $progress_holder = EduaiSession->new($node);

# Another learner's progress row, by a plain row lock rather than eduai's own.
value(q{SELECT eduai.append_event('learner-D', 'note', '{}', user_id => 'D')});
$stream_holder->ask(q{BEGIN; SELECT count(*) FROM eduai.append_event('learner-A', 'note', '{}', user_id => 'A');});
is($progress_holder->ask(q{BEGIN; SELECT key FROM eduai.projection_state WHERE projection = 1 AND key = 'D' FOR UPDATE;}), 'D', 'a progress row is held');
$handler_holder->ask(q{BEGIN; UPDATE score SET answers = answers + 100 WHERE learner = 'learner-C';});

# A task can be cancelled only once it is there; its answer must come later than that.
sim_default($sim, 'sim-chat', 'latency=1000');
my $task_b = enqueue('B');
wait_until(sub { state_of($task_b) eq 'running' && sim_stats($sim)->{open} == 1 }, 10, 'task B is in flight');
is($row_holder->ask("BEGIN; SELECT eduai.cancel_task($task_b);"), 't', 'B is being cancelled, uncommitted');
sim_default($sim, 'sim-chat', 'latency=100');
my $task_a = enqueue('A');
my $task_c = enqueue('C', q{, on_result => 'public.score'});
my $task_d = enqueue('D');
wait_until(sub { sim_stats($sim)->{completed} == 4 }, 10, 'the provider has answered all four');
pass('the provider has answered all four');

# ---- everybody else ----

for my $round (1 .. 3)
{
	my $start = time();
	my @others = map { enqueue("other-$_") } 1 .. 10;
	my $slowest = value("SELECT max(extract(epoch FROM finished_at - enqueued_at)) FROM eduai.wait_tasks(ARRAY[@{[join ',', @others]}], '20 s')");
	is(value("SELECT count(*) FROM eduai.get_tasks(ARRAY[@{[join ',', @others]}]) WHERE state = 'completed'"), '10', "round $round: ten others complete");
	cmp_ok($slowest, '<', 2, sprintf 'the slowest in %.2f s', $slowest);
}
# The same learner's row in another table, a handler of another learner.
wait_for_task($node, enqueue('F', q{, on_result => 'public.score'}), 'completed', 5);
is(value(q{SELECT answers FROM score WHERE learner = 'learner-F'}), '1', 'a handler with free rows ran');

is(join(' ', map { state_of($_) } $task_a, $task_b, $task_c, $task_d), 'running running running running', 'the four wait');
is(held_effects(), '0 0 0 0 0', 'without any effect');
# For a row that eduai's own locks do not stand for, D's, it tries 100 ms now and then.
my $waits = grep { value(q{SELECT wait_event_type FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher'}) eq 'Lock' } 1 .. 40;
cmp_ok($waits, '<=', 20, "the dispatcher waits for no lock for long: in $waits of 40 looks");

# ---- the holders end ----

$stream_holder->ask('COMMIT;');
wait_for_task($node, $task_a, 'completed', 10);
pass('A completes when its stream is free');
is(state_of($task_c), 'running', 'C still waits');
$handler_holder->ask('COMMIT;');
wait_for_task($node, $task_c, 'completed', 10);
pass('C completes when the rows of its handler are free');
$progress_holder->ask('COMMIT;');
wait_for_task($node, $task_d, 'completed', 10);
pass('D completes when its progress row is free');
is(state_of($task_b), 'running', 'B still waits');
$row_holder->ask('COMMIT;');
is(state_of($task_b), 'cancelled', 'B is cancelled');
wait_until(sub { value("SELECT outcome FROM eduai.usage_ledger WHERE task_id = $task_b") ne '' }, 10, 'the ledger knows of B');
like(value("SELECT outcome FROM eduai.usage_ledger WHERE task_id = $task_b"), qr/^(?:refused|cancelled)$/, 'its answer is refused');
is(value("SELECT result FROM eduai.get_task($task_b)"), '', 'and not recorded');
is(held_effects(), '1 0 1 1 101', 'A, C and D had their effects once, B none');
is(value("SELECT string_agg(attempt || ' ' || (SELECT count(*) FROM eduai.usage_ledger l WHERE l.task_id = t.task_id), ',' ORDER BY task_id)
	FROM eduai.get_tasks(ARRAY[$task_a, $task_c, $task_d]) t"), '1 1,1 1,1 1', 'with one attempt and one row in the ledger each');

# A table that is being changed: nothing can be recorded, and nothing is lost.
my $timeouts = q{(SELECT (w->>'wakes_by_timeout')::int FROM jsonb_array_elements(eduai.health()->'workers') w WHERE w->>'worker' = 'dispatcher')};
my $answered = sim_stats($sim)->{completed};
is($stream_holder->ask('BEGIN; LOCK TABLE eduai.provider_call IN SHARE MODE;'), '', 'the ledger is locked');
my @locked = map { enqueue("locked-$_") } 1 .. 20;
wait_until(sub { sim_stats($sim)->{completed} == $answered + 20 }, 10, 'the provider has answered them');
# Long enough for each to be tried again and again.
my $tried = value("SELECT $timeouts");
wait_until(sub { value("SELECT $timeouts") >= $tried + 6 }, 20, 'the dispatcher has tried often');
is(value("SELECT string_agg(DISTINCT state, ',') FROM eduai.get_tasks(ARRAY[@{[join ',', @locked]}])"), 'running', 'they wait');
$stream_holder->ask('COMMIT;');
is(value("SELECT string_agg(DISTINCT state, ',') FROM eduai.wait_tasks(ARRAY[@{[join ',', @locked]}], '20 s')"), 'completed', 'and complete when it is free');

# A cancellation that is rolled back lets the answer in after all.
sim_default($sim, 'sim-chat', 'latency=1000');
my $task_e = enqueue('E');
wait_until(sub { state_of($task_e) eq 'running' && sim_stats($sim)->{open} == 1 }, 10, 'task E is in flight');
$row_holder->ask("BEGIN; SELECT eduai.cancel_task($task_e);");
wait_until(sub { sim_stats($sim)->{open} == 0 }, 10, 'the provider has answered E');
$row_holder->ask('ROLLBACK;');
wait_for_task($node, $task_e, 'completed', 10);
is(feedback('E'), '1', 'a cancellation that is rolled back lets the answer in');

my %requests;
$requests{ $_->{user} }++ for @{ sim_journal($sim) };
is(join(' ', map { $requests{$_} // 0 } qw(A B C D E)), '1 1 1 1 1', 'each was sent once');

$_->quit for $stream_holder, $row_holder, $handler_holder, $progress_holder;
$node->stop;
done_testing();
