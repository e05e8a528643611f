# Tasks of prepared transactions: committed from another session after a restart
# they are dispatched within the sweep's period; rolled back they never were.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(fsync => 1, conf => { 'eduai.sweep_interval' => '1s', 'eduai.queue_lanes' => 32768, 'eduai.queue_max_size' => 0, max_prepared_transactions => 20 });
my $sim = start_simulator();
add_fleet($node, $sim);

sub value { return $node->safe_psql('postgres', $_[0]) }

sub enqueue_sql
{
	my ($nonce, $more) = @_;
	return qq{SELECT eduai.enqueue('chat', '{"model": "sim-chat", "user": "$nonce", "prompt": "x"}'} . ($more ? ", $more" : '') . ');';
}

sub prepare
{
	my ($name, @statements) = @_;
	$node->safe_psql('postgres', join("\n", 'BEGIN;', @statements, "PREPARE TRANSACTION '$name';"));
}

sub sent { return join ' ', sort map { $_->{user} } @{ sim_journal($sim) } }
sub state_of { return value("SELECT string_agg(state, ' ' ORDER BY task_id) FROM eduai.task WHERE payload->>'user' = '$_[0]'") }

# Several sweeps: what could be dispatched has been.
sub sweeps
{
	my $count = q{SELECT coalesce((jsonb_path_query_first(eduai.health(), '$.workers[*] ? (@.worker == "dispatcher")')->>'wakes_by_timeout')::int, 0)};
	my $start = value($count);
	wait_until(sub { value($count) >= $start + 3 }, 30, 'three sweeps');
}

for my $restart (0, 1)
{
	my $when = $restart ? ', over a restart' : '';
	my $r = "r$restart";

	prepare("commit$r", enqueue_sql("commit-$r"));
	prepare("back$r", enqueue_sql("back-$r"));
	prepare("saved$r", enqueue_sql("kept-$r"), 'SAVEPOINT s;', enqueue_sql("undone-$r"), 'ROLLBACK TO s;', 'SAVEPOINT t;', enqueue_sql("released-$r"), 'RELEASE t;');
	prepare("plpgsql$r", qq{DO \$\$ BEGIN
		PERFORM eduai.enqueue('chat', '{"model": "sim-chat", "user": "before-$r", "prompt": "x"}');
		BEGIN
			PERFORM eduai.enqueue('chat', '{"model": "sim-chat", "user": "caught-$r", "prompt": "x"}');
			RAISE EXCEPTION 'no';
		EXCEPTION WHEN raise_exception THEN
			PERFORM eduai.enqueue('chat', '{"model": "sim-chat", "user": "handler-$r", "prompt": "x"}');
		END;
	END \$\$;});
	prepare("later$r", enqueue_sql("later-$r", q{run_at => clock_timestamp() + interval '2 s'}));
	prepare("family$r", qq{WITH p AS (SELECT eduai.enqueue('chat', '{"model": "sim-chat", "user": "parent-$r", "prompt": "x"}') AS id)
		SELECT eduai.enqueue('chat', '{"model": "sim-chat", "user": "child-$r", "prompt": "x"}', depends_on => ARRAY[id]) FROM p;});
	$node->restart if $restart;
	sweeps();
	unlike(sent(), qr/-$r/, "nothing of a prepared transaction is sent$when");

	my $start = time();
	value("COMMIT PREPARED 'commit$r'");
	wait_until(sub { state_of("commit-$r") eq 'completed' }, 10, 'a committed one completes');
	cmp_ok(time() - $start, '<', 2, "COMMIT PREPARED: dispatched within the sweep's period of 1 s$when");
	value("ROLLBACK PREPARED 'back$r'");
	value("COMMIT PREPARED '$_$r'") for qw(saved plpgsql later family);
	wait_until(sub { value(qq{SELECT count(*) FROM eduai.task WHERE state = 'completed' AND payload->>'user' LIKE '%-$r'}) == 8 }, 20, 'all complete');
	sweeps();
	is(value(qq{SELECT string_agg(payload->>'user' || ' ' || state, ', ' ORDER BY payload->>'user') FROM eduai.task WHERE payload->>'user' LIKE '%-$r'}),
		join(', ', map { "$_-$r completed" } sort qw(commit kept released before handler later parent child)), "the tasks exist just as their transactions say$when");
	is(join(' ', grep { /-$r$/ } split / /, sent()), join(' ', map { "$_-$r" } sort qw(commit kept released before handler later parent child)), "each was sent once, and no other$when");
}

# What started stays of the session that started it.
my $session = EduaiSession->new($node);
value(q{SELECT eduai.enqueue('custom', '{}')});
for my $sql (q{SELECT count(*) FROM eduai.claim_tasks('w', '{custom}');})
{
	$session->ask('BEGIN;');
	is($session->ask($sql), '1', 'a claim');
	like($session->ask(q{PREPARE TRANSACTION 'claim';}), qr/ERROR:  0A000/, 'cannot be prepared');
}
is(value(q{SELECT count(*) FROM eduai.claim_tasks('w', '{custom}')}), '1', 'and the task is free again');

# A sweep over thirty thousand lanes, as after a start, rests a hundred times as
# long as it took; a transaction that was prepared meanwhile does not wait for that.
value(q{SELECT cardinality(eduai.enqueue_batch('custom', ARRAY(SELECT jsonb_build_object('model', 'm' || n) FROM generate_series(1, 30000) n)))});
$node->restart;
my $after = value(enqueue_sql('after-start') =~ s/;$//r);
wait_for_task($node, $after, 'completed', 20);
prepare('rested', enqueue_sql('rested'));
my $committed = time();
value(q{COMMIT PREPARED 'rested'});
wait_until(sub { (state_of('rested') // '') eq 'completed' }, 60, 'it completes');
cmp_ok(time() - $committed, '<', 3.5, 'what was prepared is swept for at once, however much there is to rest');

$node->stop;
done_testing();
