# eduai.queue_events: what the dispatcher does to tasks is in the log, once and
# in order; whoever waits for it is woken; and the dispatcher waits for nobody
# who holds a task's stream.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.queue_events' => 'all' });
my $sim = start_simulator();
sim_default($sim, undef, 'latency=1');
add_fleet($node, $sim);

sub value { return $node->safe_psql('postgres', $_[0]) }

sub enqueue
{
	my ($more) = @_;
	return value(qq{SELECT eduai.enqueue('chat', '{"messages": [{"role": "user", "content": "hello"}]}', user_id => 'ann'} . ($more // '') . ')');
}

sub told
{
	my ($task) = @_;
	return value(qq{SELECT string_agg(concat_ws(' ', version, event_type, data->>'state', data->>'attempt', data->>'error_code'), ', ' ORDER BY version) FROM eduai.read_stream('task-$task')});
}

# ---- the life of a task ----

my $listener = EduaiSession->new($node);
$listener->ask(q{SELECT eduai.create_subscription('board', category => 'task');});
$listener->send(q{SELECT event_type FROM eduai.fetch_events('board', 1, wait => '60 s');});
my $task = enqueue();
is($listener->answer(20), 'task_enqueued', 'a fetch that waits is woken');
wait_for_task($node, $task, 'completed');
is(told($task), '1 task_enqueued ready 0, 2 task_started running 1, 3 task_completed completed 1', 'a task that completes');
is(value(qq{SELECT string_agg(concat_ws(' ', data ? 'instance', (data->>'wait_ms')::int >= 0, (data->>'run_ms')::int >= 1, data ? 'cost_usd', user_id), ', ' ORDER BY version)
	FROM eduai.read_stream('task-$task')}), 'f f, t t f, t t t t', 'with where and how long, without the learner');
unlike(value(qq{SELECT string_agg(data::text, '') FROM eduai.read_stream('task-$task')}), qr/hello|ann/, 'and without what was said');
is(value(q{SELECT string_agg(event_type, ' ' ORDER BY "position") FROM eduai.fetch_events('board', 100)}), 'task_enqueued task_started task_completed', 'a subscription gets them in order');

# ---- retries ----

sim_default($sim, undef, 'status=500');
$task = enqueue(q{, max_attempts => 2});
wait_for_task($node, $task, 'dead', 60);
like(told($task), qr/^1 task_enqueued ready 0, 2 task_started running 1, 3 task_retried (?:ready|scheduled) 1 \w+, 4 task_started running 2, 5 task_dead dead 2 \w+$/, 'a task that is tried twice');
sim_default($sim, undef, 'latency=1');
value("SELECT eduai.retry_task($task)");
wait_for_task($node, $task, 'completed');
like(told($task), qr/, 6 task_retried ready 2 \w+, 7 task_started running 3, 8 task_completed completed 3$/, 'and taken back');

# ---- many ----

my $count = value(q{SELECT cardinality(eduai.enqueue_batch('chat', array_fill('{"messages": [{"role": "user", "content": "x"}]}'::jsonb, ARRAY[300])))});
wait_until(sub { value(q{SELECT count(*) FROM eduai.task WHERE finished_at IS NULL}) eq '0' }, 60, 'the batch ends');
is(value(q{SELECT string_agg(concat_ws(' ', n, kinds), ', ') FROM (SELECT count(*) AS n, kinds FROM
	(SELECT string_agg(event_type, ' ' ORDER BY version) AS kinds FROM eduai.read_all(max_count => 10000, category => 'task') GROUP BY stream) s
	WHERE kinds !~ 'retried' GROUP BY kinds) t}), ($count + 1) . ' task_enqueued task_started task_completed', 'each of many tasks has each event once');

# ---- a held stream ----

sim_default($sim, undef, 'latency=500');
my $held = enqueue();
wait_for_task($node, $held, 'running');
my $holder = EduaiSession->new($node);
is($holder->ask(qq{BEGIN; SELECT count(*) FROM eduai.append_event('task-$held', 'note', '{}');}), '1', 'an application holds the stream of a task');
my $other = enqueue();
wait_for_task($node, $other, 'completed');
wait_for_task($node, enqueue(), 'completed');
is(value("SELECT state FROM eduai.get_task($held)"), 'running', 'the end of that task waits, others do not');
$holder->ask('ROLLBACK;');
wait_for_task($node, $held, 'completed');
is(told($held), '1 task_enqueued ready 0, 2 task_started running 1, 3 task_completed completed 1', 'and is recorded, once, when it is free');

$_->quit for $listener, $holder;
$node->stop;
done_testing();
