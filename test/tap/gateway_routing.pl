# How instances are chosen: the six algorithms, sessions that stay, route() and
# the dispatcher of one mind, and a trace that can be made again.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.sweep_interval' => '1h', 'eduai.test_mode' => 'on', 'eduai.trace_routing' => 'on', 'eduai.queue_max_size' => 0 });
my $sim = start_simulator();

sub value { return $node->safe_psql('postgres', $_[0]) }

value(qq{
	SELECT eduai.configure_pool('chat', '{chat}', 200);
	SELECT eduai.add_provider('sim', 'openai', '$sim->{base_url}/v1', options => '{"allow_loopback": true}')});

sub balance
{
	my ($algorithm) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET eduai.balancer = '$algorithm'");
	value('SELECT pg_reload_conf()');
	wait_until(sub { value('SHOW eduai.balancer') eq $algorithm }, 5, "$algorithm is set");
}

sub end_all
{
	wait_until(sub { value(q{SELECT count(*) FROM eduai.task WHERE finished_at IS NULL}) == 0 }, 30, 'all have ended');
}

# So many tasks of a model, one after the other or all at once; how many each instance got.
sub spread
{
	my ($model, $n, $at_once) = @_;
	my $from = value('SELECT coalesce(max(task_id), 0) FROM eduai.task');
	for (1 .. ($at_once ? 1 : $n))
	{
		value("SELECT count(eduai.enqueue('chat', '{\"model\": \"$model\", \"prompt\": \"x\"}')) FROM generate_series(1, " . ($at_once ? $n : 1) . ')');
		end_all();
	}
	return value("SELECT string_agg(instance || ' ' || n, ', ' ORDER BY instance) FROM (
		SELECT instance, count(*) AS n FROM eduai.task WHERE task_id > $from GROUP BY 1) x");
}

# ---- the algorithms ----

for my $k (1 .. 3)
{
	value("SELECT eduai.add_instance('r$k', 'sim', 'round', weight => $k)");
	value("SELECT eduai.add_instance('c$k', 'sim', 'connections\@latency=800', max_concurrent => 10 * $k, options => '{\"aliases\": [\"connections\"]}')");
	value("SELECT eduai.add_instance('p$k', 'sim', 'price', max_concurrent => 2, price_input => 4 - $k, price_output => 1)");
}
my %latency = (t1 => 300, t2 => 5, t3 => 150);
value("SELECT eduai.add_instance('$_', 'sim', 'time-$_\@latency=$latency{$_}', price_input => $latency{$_}, options => '{\"aliases\": [\"time\"]}')") for sort keys %latency;

balance('round_robin');
is(spread('round', 12), 'r1 4, r2 4, r3 4', 'round_robin: as much each');
balance('weighted_round_robin');
is(spread('round', 12), 'r1 2, r2 4, r3 6', 'weighted_round_robin: by weight');
balance('least_connections');
is(spread('connections', 30, 1), 'c1 5, c2 10, c3 15', 'least_connections: as full each');
balance('cost_optimized');
is(spread('price', 3), 'p3 3', 'cost_optimized: the cheapest');
is(value(q{SELECT instance, fallbacks FROM eduai.route('chat', request => '{"model": "price", "prompt": "x"}')}), 'p3|{p2,p1}', 'route(): then the next dearer');
balance('least_response_time');
spread('time', 3, 1);
my %before = map { split / / } split /, /, spread('time', 10);
cmp_ok($before{t2} // 0, '>=', 9, 'least_response_time: the fastest');
balance('adaptive');
my %after = map { split / / } split /, /, spread('time', 10);
cmp_ok($after{t2} // 0, '>=', 8, 'adaptive: the fastest, but for what it tries');

# ---- route() says what the dispatcher does ----

# Where none are equal: between equals the dispatcher goes round.
for my $algorithm (qw(least_response_time cost_optimized))
{
	balance($algorithm);
	for my $model (qw(time price))
	{
		my $said = value("SELECT instance FROM eduai.route('chat', request => '{\"model\": \"$model\", \"prompt\": \"x\"}')");
		is(value("SELECT instance FROM eduai.route('chat', '$algorithm', '{\"model\": \"$model\", \"prompt\": \"x\"}')"), $said, "$algorithm, $model: asking twice changes nothing");
		is(spread($model, 1), "$said 1", "$algorithm, $model: so it is done");
	}
}

# ---- sessions ----

# By rounds all are as good: the session alone decides. (By adaptive it may leave
# an instance that is slow just now.)
balance('round_robin');
value("SELECT eduai.add_instance('s$_', 'sim', 'chatty\@latency=20', max_concurrent => 50, options => '{\"aliases\": [\"chatty\"]}')") for 1 .. 4;

sub sessions
{
	for (1 .. 5)
	{
		value(q{SELECT count(eduai.enqueue('chat', '{"model": "chatty", "prompt": "x"}', metadata => jsonb_build_object('session', 'session-' || s)))
			FROM generate_series(1, 12) s});
		end_all();
	}
	my $rows = value(q{SELECT metadata->>'session', string_agg(DISTINCT instance, '+') FROM eduai.task
		WHERE model = 'chatty' AND metadata ? 'session' AND state = 'completed' GROUP BY 1});
	return map { split /\|/ } split /\n/, $rows;
}

my %at = sessions();
is(join(' ', grep { $at{$_} =~ /\+/ } sort keys %at), '', 'each session keeps to one instance');
my %used = map { $_ => 1 } values %at;
cmp_ok(scalar keys %used, '>=', 2, 'several have sessions');
like(value(q{SELECT reason FROM eduai.route('chat', request => '{"model": "chatty", "metadata": {"session": "session-1"}}')}),
	qr/^\Q$at{'session-1'}\E by round_robin: .* its session's/, 'route() knows it');
is(value(q{SELECT count(DISTINCT r.instance) FROM generate_series(1, 5),
		eduai.route('chat', request => '{"model": "chatty", "user": "u-1", "metadata": {"sticky": true}}') r}), 1, 'sticky by the user');
is(value(q{SELECT count(DISTINCT r.instance) FROM generate_series(1, 20), eduai.route('chat', 'adaptive', '{"model": "chatty", "metadata": {"session": "a"}}') r}), 1,
	'a session is a session by any algorithm');
my $gone = $at{'session-1'};
value("SELECT eduai.set_instance_state('$gone', 'disabled')");
my $from = value('SELECT max(task_id) FROM eduai.task');
value(q{SELECT count(eduai.enqueue('chat', '{"model": "chatty", "prompt": "x"}', metadata => jsonb_build_object('session', 'session-' || s)))
	FROM generate_series(1, 12) s});
end_all();
my %now = map { split /\|/ } split /\n/, value("SELECT metadata->>'session', instance FROM eduai.task WHERE task_id > $from");
is(join(' ', grep { $at{$_} ne $gone && $now{$_} ne $at{$_} } sort keys %at), '', 'when one goes, the sessions of the others stay');
is(join(' ', grep { $now{$_} eq $gone } sort keys %now), '', 'its own move');

# ---- the trace ----

my ($rows, $same, $algorithms, $kept) = split /\|/, value(q{
	SELECT count(*), count(*) FILTER (WHERE r->'order' = decision->'order' AND r->'scores' = decision->'scores' AND r->'kept_session' = decision->'kept_session'),
		count(DISTINCT decision->>'algorithm'), count(*) FILTER (WHERE (decision->>'kept_session')::boolean)
	FROM (SELECT decision, eduai.test_replay(decision) AS r FROM eduai.routing_trace) x});
cmp_ok($rows, '>', 100, "$rows choices were traced");
is($same, $rows, 'made again, each is the same');
is($algorithms, 6, 'by all algorithms');
cmp_ok($kept, '>=', 60, 'those of sessions among them');
is( value(q{SELECT count(*) FROM eduai.routing_trace t JOIN eduai.task k USING (task_id)
		WHERE t.attempt = k.attempt AND t.decision->'order'->>0 IS DISTINCT FROM k.instance AND t.trace_id =
			(SELECT max(trace_id) FROM eduai.routing_trace l WHERE l.task_id = t.task_id AND l.attempt = t.attempt)}), 0, 'and each task went where its choice says');
is(value(q{SELECT eduai.test_replay(jsonb_set(decision, '{options,0,in_flight}', '1000'))->'order' <> decision->'order' FROM eduai.routing_trace
	WHERE decision->'order'->>0 = decision->'options'->0->>'name' AND NOT (decision->'options'->0->>'probe')::boolean ORDER BY trace_id LIMIT 1}), 't',
	'with other inputs it is another');
is( value(q{SELECT eduai.test_replay(d || '{"random": 0}')->'order' <> eduai.test_replay(d || '{"random": 0.9}')->'order'
		FROM (SELECT decision || jsonb_build_object('now_us', (decision->>'now_us')::bigint + 60000000) AS d FROM eduai.routing_trace
			WHERE decision->>'algorithm' = 'adaptive' AND jsonb_array_length(decision->'order') > 1 ORDER BY trace_id DESC LIMIT 1) x}), 't',
	'and so with another chance, where one was not heard of for long');
$node->safe_psql('postgres', q{ALTER SYSTEM SET eduai.trace_routing = off});
value('SELECT pg_reload_conf()');
wait_until(sub { my $n = value('SELECT count(*) FROM eduai.routing_trace'); spread('round', 1); value('SELECT count(*) FROM eduai.routing_trace') == $n }, 10, 'off, nothing is traced');
pass('off, nothing is traced');

$node->stop;
done_testing();
