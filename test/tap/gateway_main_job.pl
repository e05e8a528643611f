# The main job: an event, the learner's progress, an AI task and a row of the
# application's own commit together or not at all; so do the answer, its cost, the
# event that follows it and what the application does with it.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use JSON::PP ();
use Test::More;

my $node = new_node(conf => { 'eduai.sweep_interval' => '1s' });
my $sim = start_simulator();
sim_default($sim, undef, 'latency=20;tokens_in=1000;tokens_out=500');
add_fleet($node, $sim);
add_fleet($node, $sim, provider => 'embedder', model => 'sim-embed', task_types => '{embeddings}');
add_fleet($node, $sim, provider => 'claude', kind => 'anthropic', model => 'sim-claude', api_key => 'key');
$node->safe_psql('postgres', q{
	CREATE TABLE submission (nonce text, answer text);
	CREATE TABLE comment (task_id bigint, state text, text text, by name DEFAULT current_user);
	CREATE FUNCTION comment(t eduai.task_status) RETURNS void LANGUAGE sql
		AS $$ INSERT INTO public.comment VALUES (t.task_id, t.state, t.result->>'text') $$;
});

my $session = EduaiSession->new($node);
my $count = 0;

sub value { return $node->safe_psql('postgres', $_[0]) }

sub payload
{
	my ($nonce, $model) = @_;
	return qq('{"model": "@{[$model // 'sim-chat']}", "user": "$nonce", "messages": [{"role": "user", "content": "Is it right?"}]}');
}

# What an application does when a pupil has answered.
sub job
{
	my ($nonce, $model) = @_;
	return qq{
		SELECT count(*) FROM eduai.append_event('learner-$nonce', 'exercise_completed',
			'{"exercise": "e1", "skill": "fractions", "correct": true, "time_spent": 30}', user_id => '$nonce');
		INSERT INTO submission VALUES ('$nonce', '3/4');
		SELECT eduai.enqueue('chat', @{[payload($nonce, $model)]}, user_id => '$nonce', on_result => 'public.comment');
	};
}

sub requests
{
	my ($nonce) = @_;
	return scalar grep { $_->{user} eq $nonce } @{ sim_journal($sim) };
}

# All that a job changes: events, progress, the row, the task.
sub traces
{
	my ($nonce) = @_;
	return value(qq{SELECT eduai.stream_version('learner-$nonce'),
		(SELECT count(*) FROM eduai.progress WHERE user_id = '$nonce'),
		(SELECT count(*) FROM submission WHERE nonce = '$nonce'),
		(SELECT count(*) FROM eduai.task WHERE payload->>'user' = '$nonce')});
}

# A task that is enqueued now and completes has been claimed in a turn that would
# have claimed what was committed before it.
sub marker
{
	my $id = value("SELECT eduai.enqueue('chat', " . payload('marker-' . ++$count) . ')');
	wait_for_task($node, $id, 'completed', 20);
}

# ---- nothing of what rolls back ----

like($session->ask('BEGIN; ' . job('rolled-back') . ' ROLLBACK;'), qr/\n\d+$/, 'a job in a transaction that rolls back');
like($session->ask('BEGIN; SAVEPOINT s; ' . job('savepoint') . ' ROLLBACK TO s; SELECT 1; COMMIT;'), qr/\n1$/, 'in a savepoint');
my $plpgsql = job('exception');
$plpgsql =~ s/\bSELECT (count|eduai)/PERFORM $1/g;
is($session->ask("DO \$do\$ BEGIN BEGIN $plpgsql RAISE EXCEPTION 'no'; EXCEPTION WHEN raise_exception THEN NULL; END; END \$do\$;"),
	'', 'in a block that raises');
like($session->ask('BEGIN; ' . job('failed') . ' SELECT 1/0; COMMIT;'), qr/22012/, 'in a transaction that fails');
my $leaver = EduaiSession->new($node);
$leaver->ask('BEGIN; ' . job('left'));
$leaver->kill;
wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'}) == 0 }, 10, 'the session has ended');
# A nested savepoint whose parent rolls back takes the task along, one that is released does not.
like($session->ask('BEGIN; SAVEPOINT a; SAVEPOINT b; ' . job('nested') . ' RELEASE b; ROLLBACK TO a; COMMIT;'), qr/\n\d+$/, 'in a released savepoint of one that rolls back');

marker();
for my $nonce (qw(rolled-back savepoint exception failed left nested))
{
	is(requests($nonce), 0, "$nonce: no request");
	is(traces($nonce), '0|0|0|0', "$nonce: no trace");
}

# ---- all of what commits ----

my $listener = EduaiSession->new($node);
$listener->ask('LISTEN eduai_task;');
my $open = EduaiSession->new($node);
$open->ask('BEGIN; ' . job('committed'));
marker();
is(requests('committed'), 0, 'before the commit nothing is sent');
is(traces('committed'), '0|0|0|0', 'and nothing is seen');
$open->ask('COMMIT;');
my $id = value(q{SELECT task_id FROM eduai.task WHERE payload->>'user' = 'committed'});
is(value("SELECT state FROM eduai.wait_task($id, '20 s')"), 'completed', 'after it the task completes');

is(requests('committed'), 1, 'one request was sent');
is(traces('committed'), '2|1|1|1', 'the event, the progress, the row and the task are there, and one event more');
is(value("SELECT result->>'text' LIKE 'simulated answer%', result->'usage'->>'input', result->'usage'->>'output', attempt, cost_usd, instance FROM eduai.get_task($id)"),
	't|1000|500|1|0.002|sim-1', 'the result');
is(value("SELECT attempt, instance, model, tokens_in, tokens_out, cost_usd, outcome, ms > 0 FROM eduai.usage_ledger WHERE task_id = $id"),
	'1|sim-1|sim-chat|1000|500|0.002|completed|t', 'the ledger, with 1000 tokens at 1 and 500 at 2 USD per million');
is(value("SELECT version, event_type, data->>'task_id', data->>'state' FROM eduai.read_stream('learner-committed', 2)"),
	"2|ai_feedback_given|$id|completed", 'the event that follows');
is(value(q{SELECT eduai.user_progress('committed')->>'exercises_completed'}), '1', 'the progress');
is(value("SELECT state, text LIKE 'simulated answer%' FROM comment WHERE task_id = $id"), 'completed|t', 'the row of the handler');

my $heard = '';
wait_until(sub { $heard .= $listener->ask('SELECT;'); $heard =~ /"task_id": $id\b/ }, 10, 'the notification arrives');
my ($notification) = $heard =~ /"eduai_task" with payload "(\{[^\n]*"task_id": $id\b[^\n]*\})"/;
is_deeply(JSON::PP::decode_json($notification // '{}'), { task_id => $id, state => 'completed', tenant => 'default' }, 'the notification');

# What is seen of a result is all of it or nothing.
my $partial = 0;
for my $n (1 .. 20)
{
	my $task = $session->ask("SELECT eduai.enqueue('chat', " . payload("whole-$n") . ", user_id => 'whole-$n', on_result => 'public.comment');");
	wait_until(
		sub {
			# One snapshot for all: each function would take its own.
			my $seen = value("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT (state = 'completed')::int,
				(SELECT count(*) FROM eduai.usage_ledger WHERE task_id = $task), (SELECT count(*) FROM comment WHERE task_id = $task),
				eduai.stream_version('learner-whole-$n') FROM eduai.get_task($task); COMMIT");
			$partial++ unless $seen eq '0|0|0|0' || $seen eq '1|1|1|1';
			return $seen eq '1|1|1|1';
		},
		20,
		'the task has ended');
}
is($partial, 0, 'nobody saw a part of a result');

# ---- a handler that fails ----

value(q{CREATE FUNCTION fail(t eduai.task_status) RETURNS void LANGUAGE plpgsql
	AS $$ BEGIN INSERT INTO public.comment VALUES (t.task_id, 'half', ''); RAISE 'no comment'; END $$});
$id = value("SELECT eduai.enqueue('chat', " . payload('handler') . ", user_id => 'handler', on_result => 'public.fail')");
is(value("SELECT state, result ? 'text', error->>'code', error->'on_result'->>'message' FROM eduai.wait_task($id, '20 s')"),
	'completed|t|on_result_failed|no comment', 'the error of a handler is on the task, whose result is kept');
is(value("SELECT count(*) FROM comment WHERE task_id = $id"), '0', 'what the handler wrote is undone');
is(value(q{SELECT eduai.stream_version('learner-handler')}), '1', 'and nothing else is');

# ---- a handler that goes on ----

# It appends an event and enqueues a task about what it was told, in the commit
# that records the result.
value(q{CREATE FUNCTION go_on(t eduai.task_status) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	PERFORM eduai.append_event('learner-' || t.user_id, 'note', jsonb_build_object('about', t.task_id), user_id => t.user_id);
	PERFORM eduai.enqueue('chat', '{"model": "sim-chat", "user": "went-on", "messages": [{"role": "user", "content": "And now?"}]}',
		user_id => t.user_id, metadata => jsonb_build_object('after', t.task_id)); END $$});
$id = value("SELECT eduai.enqueue('chat', " . payload('goes-on') . ", user_id => 'goes-on', on_result => 'public.go_on')");
is(value("SELECT state, error FROM eduai.wait_task($id, '20 s')"), 'completed|', 'a handler appends and enqueues');
my $next = value("SELECT task_id FROM eduai.task WHERE metadata->>'after' = '$id'");
is(value("SELECT state FROM eduai.wait_task($next, '20 s')"), 'completed', 'the task that it enqueued runs');
is(value(q{SELECT string_agg(event_type, ' ' ORDER BY version) FROM eduai.read_stream('learner-goes-on')}),
	'ai_feedback_given note ai_feedback_given', 'its event stands between the two answers');
is(requests('went-on'), 1, 'by one request');

# ---- an ordinary role ----

value(q{CREATE ROLE app IN ROLE eduai_app; GRANT INSERT ON submission, comment TO app});
like($session->ask('SET ROLE app; BEGIN; ' . job('ordinary') . ' COMMIT; RESET ROLE;'), qr/\n\d+$/, 'the job as a role with eduai_app only');
$id = value(q{SELECT task_id FROM eduai.task WHERE payload->>'user' = 'ordinary'});
is(value("SELECT state, error FROM eduai.wait_task($id, '20 s')"), 'completed|', 'completes');
is(value("SELECT by, state FROM comment WHERE task_id = $id"), 'app|completed', 'and its handler ran as that role');
is(traces('ordinary'), '2|1|1|1', 'with all its effects');

# ---- other kinds ----

$id = value("SELECT eduai.enqueue('chat', " . payload('anthropic', 'sim-claude') . ", user_id => 'anthropic')");
is(value("SELECT state, result->>'text' LIKE 'simulated answer%', instance, cost_usd FROM eduai.wait_task($id, '20 s')"),
	'completed|t|claude-1|0.002', 'a task for the anthropic kind');
is((grep { $_->{endpoint} =~ /messages/ } @{ sim_journal($sim) }) + 0, 1, 'was one request to its endpoint');
is(value(q{SELECT eduai.stream_version('learner-anthropic')}), '1', 'and one event');
$id = value(q{SELECT eduai.enqueue('embeddings', '{"model": "sim-embed", "input": "three quarters"}')});
is(value("SELECT state, jsonb_array_length(result->'embedding'), instance, cost_usd > 0 FROM eduai.wait_task($id, '20 s')"),
	'completed|8|embedder-1|t', 'an embedding');

# ---- PREPARE TRANSACTION ----

sub prepared
{
	my ($nonce) = @_;
	my $answer = $session->ask("BEGIN; SELECT eduai.enqueue('chat', " . payload($nonce) . "); PREPARE TRANSACTION '$nonce';");
	return $answer =~ /^(\d+)$/ ? $1 : die "PREPARE TRANSACTION: $answer";
}

my ($first, $second, $third) = map { prepared("prepared-$_") } 1 .. 3;
marker();
is(requests("prepared-$_"), 0, "prepared-$_: nothing is sent before COMMIT PREPARED") for 1 .. 3;
value(q{COMMIT PREPARED 'prepared-1'});
# No callback tells the dispatcher; the sweep (1 s) finds it.
wait_for_task($node, $first, 'completed', 5);
is(requests('prepared-1'), 1, 'committed from another session, it is sent');

$session->quit;
$node->restart;
$session = EduaiSession->new($node);
value(q{COMMIT PREPARED 'prepared-2'});
value(q{ROLLBACK PREPARED 'prepared-3'});
wait_for_task($node, $second, 'completed', 5);
is(requests('prepared-2'), 1, 'committed after a restart, it is sent');
my $sweeps = q{SELECT (w->>'wakes_by_timeout')::int FROM jsonb_array_elements(eduai.health()->'workers') w WHERE w->>'worker' = 'dispatcher'};
my $before = value($sweeps);
wait_until(sub { value($sweeps) >= $before + 2 }, 20, 'two more sweeps');
marker();
is(requests('prepared-3'), 0, 'rolled back, it is never sent');
is(value("SELECT count(*) FROM eduai.task WHERE task_id = $third"), '0', 'nor is it there');

# ---- synchronous_commit = off ----

$id = $session->ask("SET synchronous_commit = off; SELECT eduai.enqueue('chat', " . payload('lazy') . ');');
wait_for_task($node, $id, 'completed', 20);
is(requests('lazy'), 1, 'a session with synchronous_commit = off');

my %requests;
$requests{ $_->{user} }++ for @{ sim_journal($sim) };
is(join(' ', grep { $requests{$_} > 1 && $_ ne '' } sort keys %requests), '', 'nothing was sent twice');

$_->quit for $session, $listener, $open;
$node->stop;
done_testing();
