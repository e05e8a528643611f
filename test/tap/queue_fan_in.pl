# Many parents of one child end at once, in many sessions, and when the
# dispatcher cannot hear of it: the child runs, as soon as the last has ended.
#
# The sweep, which would find it later, is off, but where it is meant.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => {
	'eduai.sweep_interval' => '1h', 'eduai.test_mode' => 'on', 'eduai.allow_mock' => 'on',
	'eduai.queue_max_size' => '0', 'max_prepared_transactions' => '5' });

sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{SELECT eduai.define_task_type('part', 'application', 'custom', max_attempts => 1);
	SELECT eduai.define_task_type('whole', 'application', 'custom', max_attempts => 1);
	SELECT eduai.configure_pool('custom', '{custom}', 2000);
	SELECT eduai.add_provider('quick', 'mock', '');
	SELECT eduai.add_instance('quick', 'quick', 'quick');
	SELECT eduai.add_provider('bad', 'mock', '', options => '{"status": 400}');
	SELECT eduai.add_instance('bad', 'bad', 'bad')});

# tasks of a type, their ids
sub parts { return split /,/, value("SELECT array_to_string(eduai.enqueue_batch('part', array_fill('{}'::jsonb, ARRAY[$_[0]])), ',')") }
sub ids { return 'ARRAY[' . join(',', @_) . ']::bigint[]' }
sub whole { return value("SELECT eduai.enqueue('whole', '{}', depends_on => " . ids(@_) . ')') }

# ---- a thousand parents, twenty sessions, all of whose transactions are open at once

my @parents = parts(1000);
my $child = whole(@parents);
my @sessions = map { EduaiSession->new($node) } 1 .. 20;
for my $s (@sessions)
{
	is($s->ask(q{BEGIN; SELECT count(*) FROM (SELECT eduai.complete_task(task_id, attempt, jsonb_build_object('id', task_id))
		FROM eduai.claim_tasks('w', '{part}', 50)) c;}, 30), '50', 'fifty parents complete, nobody is waited for')
}
$_->send('COMMIT;') for @sessions[0 .. 18];
$_->answer for @sessions[0 .. 18];
is(value("SELECT state FROM eduai.wait_task($child, '300 ms')"), 'waiting', 'fifty are not complete yet');
$sessions[19]->ask('COMMIT;');
wait_for_task($node, $child, 'ready', 20);
is(value("SELECT jsonb_array_length(parents) FROM eduai.claim_tasks('w', '{whole}')"), 1000, 'it sees what each of them gave');
is(value("SELECT count(*) FROM eduai.task_dependency"), 0, 'no edge is left');

# ---- the gateway's tasks as parents, of a child that is being enqueued

for my $model ('quick', 'bad')
{
	my $s = $sessions[0];
	my $parent = value(qq{SELECT eduai.enqueue('chat', '{"model": "later", "messages": [{"role": "user", "content": "x"}]}', on_refusal => 'defer')});
	my $wanted = $model eq 'quick' ? 'ready' : 'dead';
	my $late = $s->ask("BEGIN; SELECT eduai.enqueue('whole', '{}', depends_on => ARRAY[$parent]::bigint[]);");
	value("SELECT eduai.add_instance('later', '$model', 'later')");
	is(value("SELECT state FROM eduai.wait_task($parent)"), $model eq 'quick' ? 'completed' : 'dead', 'the parent ends first');
	$s->ask('COMMIT;');
	wait_for_task($node, $late, $wanted, 20);
	value(q{SELECT eduai.remove_instance('later')});
}

# ---- children that are rolled back leave nothing

my ($parent) = parts(1);
my $s = $sessions[0];
$s->ask("BEGIN; SELECT eduai.enqueue('whole', '{}', depends_on => ARRAY[$parent]::bigint[]); ROLLBACK;");
my $kept = $s->ask(qq{
	BEGIN;
	SELECT eduai.enqueue('whole', '{}', depends_on => ARRAY[$parent]::bigint[]);
	SAVEPOINT s;
	SELECT eduai.enqueue('whole', '{}', depends_on => ARRAY[$parent]::bigint[]);
	ROLLBACK TO s;
	COMMIT;});
$kept =~ s/\n.*//s;
is(value(q{SELECT count(*) FROM eduai.task_dependency}), 1, 'one edge');
value(q{SELECT eduai.complete_task(task_id, attempt) FROM eduai.claim_tasks('w', '{part}')});
wait_for_task($node, $kept, 'ready', 20);

# ---- more news than there are places: notifications are left out, children are not

value(q{SELECT eduai.test_pause('turn-before-commit', true)});
($parent) = parts(1);
$child = whole($parent);
wait_until(sub { value(q{SELECT eduai.test_paused('turn-before-commit')}) > 0 }, 20, 'the dispatcher is held');
my @many = parts(20000);
is(value(q{SELECT count(*) FILTER (WHERE eduai.cancel_task(task_id)) FROM unnest(} . ids(@many) . q{) task_id}), 20000, 'tasks end');
value(q{SELECT eduai.complete_task(task_id, attempt) FROM eduai.claim_tasks('w', '{part}')});
my $second = whole($parent, (parts(1))[0]);
value(q{SELECT eduai.complete_task(task_id, attempt) FROM eduai.claim_tasks('w', '{part}')});
value(q{SELECT eduai.test_pause('turn-before-commit', false)});
wait_for_task($node, $child, 'ready', 30);
wait_for_task($node, $second, 'ready', 30);

# ---- a child that was prepared: the sweep

($parent) = parts(1);
$s->ask("BEGIN; SELECT eduai.enqueue('whole', '{}', depends_on => ARRAY[$parent]::bigint[]); PREPARE TRANSACTION 'p';");
$_->quit for @sessions;
$node->append_conf('postgresql.conf', "eduai.sweep_interval = '200ms'");
$node->restart('fast');
value(q{SELECT eduai.complete_task(task_id, attempt) FROM eduai.claim_tasks('w', '{part}')});
value(q{COMMIT PREPARED 'p'});
$child = value(q{SELECT max(task_id) FROM eduai.task_request});
wait_for_task($node, $child, 'ready', 20);

# ---- who ended a task cannot prepare

$s = EduaiSession->new($node);
my $refused = $s->ask("BEGIN; SELECT eduai.cancel_task($kept); PREPARE TRANSACTION 'q';");
like($refused, qr/0A000/, 'a cancelled task');
is(value("SELECT state FROM eduai.get_task($kept)"), 'ready', 'it is as it was');

$node->stop('fast');
done_testing();
