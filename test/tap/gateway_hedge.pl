# A second call for a critical chat of which nothing has come: who gets one, who
# wins, what the loser costs, and what a crash leaves of both.

use strict;
use warnings;

use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

# cost_optimized: what is cheap is asked first, whatever is learnt
my $node = new_node(
	conf => {
		'eduai.test_mode' => 'on', 'eduai.sweep_interval' => '1h', 'eduai.balancer' => 'cost_optimized',
		'eduai.hedge_after' => '200ms', 'eduai.hedge_max_percent' => 100
	});
my $sim = start_simulator();
my $other = start_simulator();

sub value { return $node->safe_psql('postgres', $_[0]) }

sub instance
{
	my ($name, $provider, $price, $behaviour, $alias) = @_;
	value(qq{SELECT eduai.add_instance('$name', '$provider', '$name\@$behaviour', price_input => $price, price_output => $price,
		max_concurrent => 200, options => '{"aliases": ["$alias"], "first_byte_ms": 20000}')});
}

# race(ALIAS, cheap one's behaviour, dear one's): both serve the alias
sub race
{
	my ($alias, $first, $second) = @_;
	instance("${alias}_1", 'sim', 0.001, $first, $alias);
	instance("${alias}_2", 'other', 10, $second, $alias);
}

sub enqueue
{
	my ($alias, $priority, $more) = @_;
	return value(qq{SELECT eduai.enqueue('chat', '{"model": "$alias", "user": "$alias", "prompt": "x", "max_tokens": 1000}',
		priority => '@{[$priority // 'critical']}', max_attempts => 1 @{[$more // '']})});
}

# The calls of a task in the order in which they left: instance:what:second call?
sub calls
{
	return value(qq{SELECT string_agg(concat_ws(':', instance, outcome, code, hedge), ' ' ORDER BY started_at) FROM eduai.usage_ledger WHERE task_id = $_[0]});
}

sub requests
{
	my ($at, $user) = @_;
	return grep { $_->{user} eq $user } @{ sim_journal($at) };
}

sub set
{
	my ($name, $setting) = @_;
	value("ALTER SYSTEM SET $name = '$setting'");
	value('SELECT pg_reload_conf()');
	wait_until(sub { value("SHOW $name") eq $setting }, 10, "$name is $setting");
}

sub in_flight { return value('SELECT sum(in_flight) FROM eduai.instance_status') }
sub nothing_open { return is(value('SELECT count(*) FROM eduai.provider_hedge') . in_flight(), '00', "$_[0]: nothing is left of it") }
sub dispatcher { return try_query($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher'}) // '' }

sub crash
{
	my $pid = dispatcher();
	kill 'KILL', $pid;
	wait_until(sub { my $now = dispatcher(); $now =~ /^\d+$/ && $now != $pid }, 60, 'another dispatcher runs');
}

value(qq{
	SELECT eduai.configure_pool('chat', '{chat}', 400);
	SELECT eduai.add_provider('sim', 'openai', '$sim->{base_url}/v1', options => '{"allow_loopback": true}');
	SELECT eduai.add_provider('other', 'openai', '$other->{base_url}/v1', options => '{"allow_loopback": true}');
	SELECT eduai.add_provider('twin', 'openai', '$sim->{base_url}/v1', options => '{"allow_loopback": true}')});

# ---- a slow one and a fast one ----

race('slow', 'latency=8000', 'latency=50;text=fast');
my $task = enqueue('slow');
wait_for_task($node, $task, 'completed', 20);
is(calls($task), 'slow_1:cancelled:hedge_lost:f slow_2:completed:t', 'the second call answers, the first one is given up');
is(value("SELECT (result->>'text') || attempt || instance FROM eduai.get_task($task)"), 'fast1slow_2', '... within the one attempt');
cmp_ok(value("SELECT extract(epoch FROM finished_at - started_at) FROM eduai.get_task($task)"), '<', 4, '... long before the first one would have');
cmp_ok(value("SELECT extract(epoch FROM max(started_at) - min(started_at)) * 1000 FROM eduai.usage_ledger WHERE task_id = $task"), '>=', 200, '... and not before the time');
is(value(q{SELECT string_agg(concat_ws(':', name, breaker, requests, successes, failures, last_error), ' ' ORDER BY name) FROM eduai.instance_status}),
	'slow_1:closed:1:0:0 slow_2:closed:1:1:0', 'being given up is no failure');
is((requests($sim, 'slow'))[0]{outcome}, 'aborted', 'its transfer was aborted');
is(value(q{SELECT (eduai.route('chat', 'least_response_time', '{"model": "slow", "prompt": "x"}')).instance}), 'slow_2', '... and the time that it took is known');
is(value("SELECT counted_usd > 0 AND cost_usd = 0 FROM eduai.usage_ledger WHERE task_id = $task AND NOT hedge"), 't', 'nobody knows what it cost: it counts at its bound');
nothing_open('a hedged task');

# ---- what route() says of it ----

sub reason { return value(qq{SELECT (eduai.route('chat', NULL, '{"model": "$_[0]", "prompt": "x", "priority": "$_[1]"}')).reason}) }
like(reason('slow', 'critical'), qr/^slow_1 by .* If nothing comes within 200 ms, slow_2 is asked, too, .* no more than 100 % of such calls/, 'route() tells of a second call');
unlike(reason('slow', 'high'), qr/nothing c/, '... where one would be made');

$task = enqueue('slow', 'high');
wait_until(sub { requests($sim, 'slow') == 2 }, 10, 'one that is not critical is sent');
race('race', 'latency=500;text=first', 'latency=8000');
my $second = enqueue('race');
wait_for_task($node, $second, 'completed', 20);
is(calls($second), 'race_1:completed:f race_2:cancelled:hedge_lost:t', 'the first call wins when it is faster');
is(scalar requests($other, 'slow'), 1, 'what is not critical is not hedged');
is(value("SELECT eduai.cancel_task($task)"), 't', 'it is cancelled');
wait_until(sub { calls($task) eq 'slow_1:cancelled:cancelled:f' }, 10, '... and in the ledger as such');

# ---- where there is nobody else ----

instance('twin_1', 'sim', 0.001, 'latency=500', 'twin');
instance('twin_2', 'twin', 10, 'latency=10', 'twin');
$task = enqueue('twin');
wait_for_task($node, $task, 'completed', 20);
is(calls($task), 'twin_1:completed:f', 'another provider at the same host is nobody else');
like(reason('twin', 'critical'), qr/If nothing came within 200 ms, there would be nobody of another provider and host/, '... and route() says so');
race('shut', 'latency=500', 'latency=10');
value(q{SELECT eduai.set_instance_state('shut_2', 'draining')});
$task = enqueue('shut');
wait_for_task($node, $task, 'completed', 20);
is(calls($task), 'shut_1:completed:f', 'nor is one that takes nobody');

# ---- streams: who speaks first goes on ----

race('voice', 'latency=500;chunk_ms=30;text=' . join('+', map { "w$_" } 1 .. 40), 'latency=8000;text=never');
$task = enqueue('voice');
wait_until(sub { value("SELECT count(*) FROM eduai.task_output($task, 0, '0')") > 0 }, 20, 'the first call speaks');
wait_until(sub { (requests($other, 'voice'))[0]{outcome} eq 'aborted' }, 20, 'the other one is given up at once');
is(value("SELECT state FROM eduai.get_task($task)"), 'running', '... while the answer comes');
wait_for_task($node, $task, 'completed', 20);
is(calls($task), 'voice_1:completed:f voice_2:cancelled:hedge_lost:t', '... which wins');
is(value("SELECT string_agg(delta, '' ORDER BY seq) FROM eduai.task_output($task, 0, '0')"), value("SELECT result->>'text' FROM eduai.get_task($task)"), 'what was shown is the answer, and nothing else');

# ---- both at once: the dispatcher is held while they answer, and then sees both in one look ----

sub held
{
	my ($alias, $what) = @_;
	my $start = Time::HiRes::time();
	my $task = enqueue($alias);
	wait_until(sub { requests($other, $alias) == 1 && value(q{SELECT count(*) FROM eduai.provider_hedge}) == 1 }, 20, "both calls fly: $what");
	value(q{SELECT eduai.test_pause('turn-before-commit', true)});
	my $turn = value(q{SELECT eduai.enqueue('chat', '{"model": "twin", "prompt": "x"}')});
	wait_until(sub { value(q{SELECT eduai.test_paused('turn-before-commit')}) > 0 }, 10, 'the dispatcher is held');
	is(value("SELECT state FROM eduai.get_task($task)") . value("SELECT count(*) FROM eduai.task_output($task, 0, '0')"), 'running0', "neither has spoken: $what");
	wait_until(sub { Time::HiRes::time() - $start > 2.4 }, 10, 'both speak') if $alias eq 'duo';
	wait_until(sub { 2 == grep { $_->{outcome} eq 'sent' } requests($sim, $alias), requests($other, $alias) }, 10, 'both are whole') if $alias eq 'pair';
	value(q{SELECT eduai.test_pause('turn-before-commit', false)});
	wait_for_task($node, $task, 'completed', 20);
	wait_for_task($node, $turn, 'completed', 20);
	return $task;
}

my $words = join '+', map { "w$_" } 1 .. 40;
race('duo', "latency=2000;chunk_ms=50;text=first+$words", "latency=1700;chunk_ms=50;text=second+$words");
$task = held('duo', 'two streams');
is(calls($task), 'duo_1:completed:f duo_2:cancelled:hedge_lost:t', 'of two that speak at once the first call goes on');
is(value("SELECT string_agg(delta, '' ORDER BY seq) FROM eduai.task_output($task, 0, '0')"), value("SELECT result->>'text' FROM eduai.get_task($task)"), '... and alone is shown');
like(value("SELECT result->>'text' FROM eduai.get_task($task)"), qr/^first w1 .*w40$/, '... to its end');
nothing_open('two streams');
race('pair', 'latency=1500;text=first', 'latency=1200;text=second');
$task = held('pair', 'two answers');
like(calls($task), qr/^(?:pair_1:completed:f pair_2:refused:t|pair_1:refused:f pair_2:completed:t)$/, 'of two that are whole at once one is the answer, the other is paid for');
nothing_open('two answers');

# ---- failures ----

race('half', 'error_latency=400;status=500', 'latency=500;text=good');
$task = enqueue('half');
wait_for_task($node, $task, 'completed', 20);
is(calls($task), 'half_1:failed:http_500:f half_2:completed:t', 'a failure waits for the other call');
is(value("SELECT cost_usd = (SELECT sum(cost_usd) FROM eduai.usage_ledger WHERE task_id = $task) FROM eduai.get_task($task)"), 't', 'the task costs what both did');
race('both', 'error_latency=400;status=500', 'error_latency=500;status=503');
$task = enqueue('both');
wait_for_task($node, $task, 'dead', 20);
is(value("SELECT string_agg(concat_ws(':', a->>'attempt', a->>'instance', a->>'code'), ' ') FROM eduai.get_task($task) t, jsonb_array_elements(t.error->'attempts') a"),
	'1:both_1:http_500 1:both_2:http_503', 'two failures are one attempt, and both are told');
is(value(q{SELECT string_agg(concat_ws(':', name, failures), ' ' ORDER BY name) FROM eduai.instance_status WHERE name LIKE 'both%'}), 'both_1:1 both_2:1', '... and their instances know');

# ---- cancelling both ----

race('two', 'latency=8000', 'latency=8000');
$task = enqueue('two');
wait_until(sub { requests($other, 'two') == 1 }, 10, 'both calls fly');
is(in_flight(), 2, '... and count');
is(value("SELECT eduai.cancel_task($task)"), 't', 'their task is cancelled');
wait_until(sub { (calls($task) // '') eq 'two_1:cancelled:cancelled:f two_2:cancelled:cancelled:t' }, 10, 'both are aborted');
nothing_open('a cancelled task');

# ---- money ----

value(q{SELECT eduai.set_budget('user:poor', 0.005), eduai.set_budget('user:rich', 1)});
race('paid', 'latency=500', 'latency=500');
$task = enqueue('paid', 'critical', ", user_id => 'poor'");
wait_for_task($node, $task, 'completed', 20);
is(calls($task), 'paid_1:completed:f', 'a budget that the second bound exceeds lets none leave');
$task = enqueue('paid', 'critical', ", user_id => 'rich'");
wait_until(sub { value(q{SELECT count(*) FROM eduai.budget_reservation}) == 2 }, 20, 'both bounds are reserved');
cmp_ok(value(q{SELECT reserved FROM eduai.budget_status WHERE scope = 'user:rich'}), '>', 0.01, '... and seen');
wait_for_task($node, $task, 'completed', 20);
is(value(q{SELECT reserved || ':' || (spent = (SELECT sum(coalesce(counted_usd, cost_usd)) FROM eduai.usage_ledger WHERE user_id = 'rich')) FROM eduai.budget_status WHERE scope = 'user:rich'}),
	'0:true', 'both are settled');
is(value("SELECT bool_and(bound_usd > 0) AND bool_and(counted_usd IS NOT DISTINCT FROM CASE WHEN outcome = 'cancelled' THEN bound_usd END) FROM eduai.usage_ledger WHERE task_id = $task"), 't', '... the loser at its bound');
race('later', 'latency=1000', 'latency=3000');
$task = enqueue('later', 'critical', ", user_id => 'new'");
wait_until(sub { value(q{SELECT count(*) FROM eduai.provider_hedge}) == 1 }, 20, 'both calls fly without a budget');
value(q{SELECT eduai.set_budget('user:new', 1)});
wait_until(sub { value(q{SELECT count(*) FROM eduai.budget_reservation WHERE user_id = 'new'}) == 2 }, 20, 'one that is set now reserves both');
wait_for_task($node, $task, 'completed', 20);

# ---- a record before its bytes ----

race('held', 'latency=8000', 'latency=8000');
set('eduai.hedge_after', '1h');
$task = enqueue('held');
wait_until(sub { requests($sim, 'held') == 1 }, 10, 'the first call leaves');
value(q{SELECT eduai.test_pause('turn-before-commit', true)});
set('eduai.hedge_after', '200ms');
wait_until(sub { value(q{SELECT eduai.test_paused('turn-before-commit')}) > 0 }, 10, 'the turn that chose the second is not committed');
is(scalar requests($other, 'held'), 0, 'it has not left');
my $pid = dispatcher();
kill 'KILL', $pid;
wait_until(sub { my $now = dispatcher(); $now =~ /^\d+$/ && $now != $pid }, 60, 'the dispatcher dies there');
value(q{SELECT eduai.test_pause('turn-before-commit', false)});
wait_for_task($node, $task, 'uncertain', 20);
is(calls($task), 'held_1:uncertain:uncertain:f', 'what was not committed was never');
is(scalar requests($other, 'held'), 0, '... and did not leave');

# ---- kill -9 with both in flight ----

$task = enqueue('two', 'critical', ", user_id => 'rich'");
wait_until(sub { requests($other, 'two') == 2 && value(q{SELECT count(*) FROM eduai.provider_hedge}) == 1 }, 10, 'both calls fly, on record');
crash();
wait_for_task($node, $task, 'uncertain', 20);
wait_until(sub { calls($task) eq 'two_1:uncertain:uncertain:f two_2:uncertain:uncertain:t' }, 20, 'both are uncertain');
is(value("SELECT attempt || ':' || jsonb_array_length(error->'attempts') FROM eduai.get_task($task)"), '1:1', '... as one attempt');
is(value("SELECT count(*) FROM eduai.usage_ledger WHERE task_id = $task AND counted_usd = bound_usd AND provider IS NOT NULL AND user_id = 'rich'"), 2, '... and count at their bounds');
is(value(q{SELECT reserved FROM eduai.budget_status WHERE scope = 'user:rich'}), 0, 'nothing is reserved');
nothing_open('a crash');

# ---- the allowance ----

set('eduai.hedge_max_percent', 10);
race('many', 'latency=400', 'latency=400');
crash();
value(q{SELECT count(eduai.enqueue('chat', '{"model": "many", "user": "many", "prompt": "x"}', priority => 'critical')) FROM generate_series(1, 60)});
wait_until(sub { value(q{SELECT count(*) FROM eduai.task WHERE finished_at IS NULL}) == 0 }, 60, 'all have ended');
my $hedges = value(q{SELECT count(*) FROM eduai.usage_ledger WHERE hedge AND instance LIKE 'many%'});
cmp_ok($hedges, '<=', 7, 'of 60 slow calls a tenth is hedged, and the one to begin with');
cmp_ok($hedges, '>=', 5, '... so many');
is(scalar requests($other, 'many'), $hedges, '... which were sent');
set('eduai.hedge_after', '0');
$task = enqueue('race');
wait_for_task($node, $task, 'completed', 20);
is(calls($task), 'race_1:completed:f', 'switched off, nothing is hedged');
unlike(reason('slow', 'critical'), qr/nothing c/, '... and route() says nothing of it');
is(value(q{SELECT count(*) FROM eduai.usage_ledger}), scalar(@{ sim_journal($sim) }) + scalar(@{ sim_journal($other) }), 'each request is in the ledger');

$node->stop('fast');
stop_simulator($_) for $sim, $other;
done_testing();
