# Waiting: await_task() holds neither a transaction's snapshot nor its locks, and
# every kind of waiter wakes when the task ends, not when its time is over.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.allow_mock' => 'on' });
my $waiter = EduaiSession->new($node);
my $pid = $waiter->ask('SELECT pg_backend_pid();');

sub value { return $node->safe_psql('postgres', $_[0]) }

# What the waiting session holds once it sleeps: its xmin and its locks on relations.
sub held
{
	wait_until(sub { value("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid") eq 't' }, 20, 'the session waits');
	return value(qq{SELECT coalesce(backend_xmin::text, 'none') = 'none', (SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype = 'relation')
		FROM pg_stat_activity WHERE pid = $pid});
}

my $task = value(q{SELECT eduai.enqueue('custom', '{}')});
$waiter->send("CALL eduai.await_task($task, '1 hour', NULL);");
is(held(), 't|0', 'await_task() holds no snapshot and no lock on a table');
value("SELECT eduai.cancel_task($task)");
like($waiter->answer(20), qr/^\($task,custom,normal,cancelled,/, 'and wakes when the task ends');

$task = value(q{SELECT eduai.enqueue('custom', '{}')});
$waiter->send("SELECT (eduai.wait_task($task, '1 hour')).state;");
like(held(), qr/^f\|/, 'wait_task() holds the snapshot of its statement');
value("SELECT eduai.cancel_task($task)");
is($waiter->answer(20), 'cancelled', 'and wakes when the task ends');

# a result wakes a waiter as a cancel does, and a rolled back cancel does not
value(q{SELECT eduai.add_provider('m', 'mock', '', options => '{"text": "late"}')});
$task = value(q{SELECT eduai.enqueue('chat', '{"model": "m", "prompt": "x"}', on_refusal => 'defer')});
$waiter->send("SELECT (t).state, (t).result ->> 'text' FROM eduai.wait_tasks(ARRAY[$task], '1 hour') t;");
held();
value("BEGIN; SELECT eduai.cancel_task($task); ROLLBACK;");
value(q{SELECT eduai.add_instance('m', 'm', 'm')});
is($waiter->answer(20), 'completed|late', 'a result wakes a waiter');

$node->stop('fast');
done_testing();
