# Tasks that the router does not start: deferred or refused, each by itself, the
# others of its lane and of its key untouched, and what follows from its end.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.sweep_interval' => '1h', 'eduai.queue_max_size' => 8, 'eduai.balancer' => 'round_robin' });
my $sim = start_simulator();

sub value { return $node->safe_psql('postgres', $_[0]) }

# A call to dear may cost 1 USD, one to cheap nothing; nobody knows what one to
# endless may cost.
value(qq{
	SELECT eduai.add_provider('sim', 'openai', '$sim->{base_url}/v1', options => '{"allow_loopback": true}');
	SELECT eduai.add_instance('dear', 'sim', 'dear', price_output => 1000, options => '{"max_output_tokens": 1000}');
	SELECT eduai.add_instance('chained', 'sim', 'chained', price_output => 1000, options => '{"max_output_tokens": 1000, "fallback": ["cheap"]}');
	SELECT eduai.add_instance('cheap', 'sim', 'cheap', options => '{"max_output_tokens": 1000}');
	SELECT eduai.add_instance('endless', 'sim', 'endless', price_output => 1000);
	SELECT eduai.add_instance('both-1', 'sim', 'both', price_output => 1000, options => '{"max_output_tokens": 1000}');
	SELECT eduai.add_instance('both-2', 'sim', 'both', price_output => 1, options => '{"max_output_tokens": 1000}')});

sub enqueue
{
	my ($model, $user, $more) = @_;
	return value(qq{SELECT eduai.enqueue('chat', '{"model": "$model", "prompt": "x"}', user_id => '$user', on_refusal => 'defer'} . ($more // '') . ')');
}

sub state_of { return value("SELECT state || ' ' || attempt || ' ' || coalesce(error->>'code', '-') FROM eduai.get_task($_[0])") }
sub all_end { wait_until(sub { value(q{SELECT count(*) FROM eduai.task WHERE finished_at IS NULL AND state <> 'scheduled'}) == 0 }, 20, $_[0]) }

# ---- refused ----

value(q{SELECT eduai.pause_queue('chat')});
my $refused = value(q{SELECT eduai.enqueue('chat', '{"model": "dear", "prompt": "x"}', user_id => 'u-1', metadata => '{"concurrency_key": "k"}')});
my $behind = enqueue('dear', 'u-2', q{, metadata => '{"concurrency_key": "k"}'});
my $child = enqueue('dear', 'u-2', ", depends_on => '{$refused}'");
my $grandchild = enqueue('dear', 'u-2', ", depends_on => '{$child}'");
my $runs = enqueue('dear', 'u-2', qq{, depends_on => '{$refused}', metadata => '{"on_parent_failure": "run"}'});
value(q{SELECT eduai.set_budget('user:u-1', 0.5, on_exceeded => 'refuse'); SELECT eduai.resume_queue('chat')});
all_end('those that may run have run');
is(state_of($refused), 'dead 0 budget_exceeded', 'a task that costs too much ends without an attempt');
is(value("SELECT error->'attempts' = '[]' AND error->>'message' <> '' AND instance IS NULL FROM eduai.get_task($refused)"), 't', 'and says why');
is(value("SELECT count(*) FROM eduai.usage_ledger WHERE task_id = $refused"), 0, 'the ledger knows nothing of it');
is(state_of($behind), 'completed 1 -', 'the one behind it, of its lane and its key, runs');
is(state_of($child) . ', ' . state_of($grandchild), 'dead 0 parent_failed, dead 0 parent_failed', 'its dependants end with it');
is(state_of($runs), 'completed 1 -', 'but for those that want to run all the same');
is(value(q{SELECT count(eduai.enqueue('chat', '{"model": "cheap", "prompt": "x"}', user_id => 'u-2')) FROM generate_series(1, 8)}), 8, 'its place in the queue is free');
all_end('they have run');
is(value("SELECT state FROM eduai.wait_task($refused, '1 s')"), 'dead', 'who waits for it is told');

my $endless = value(q{SELECT eduai.enqueue('chat', '{"model": "endless", "prompt": "x"}', user_id => 'u-2')});
wait_for_task($node, $endless, 'completed');
value(q{SELECT eduai.pause_queue('chat')});
$endless = value(q{SELECT eduai.enqueue('chat', '{"model": "endless", "prompt": "x"}', user_id => 'u-2')});
value(q{SELECT eduai.set_budget('user:u-2', 100, on_exceeded => 'refuse'); SELECT eduai.resume_queue('chat')});
wait_for_task($node, $endless, 'dead');
is(state_of($endless), 'dead 0 budget_unbounded', 'where a budget applies, a cost without a bound is refused');

# ---- deferred ----

value(q{SELECT eduai.set_budget('user:u-3', 0.5)});
my $later = enqueue('dear', 'u-3', q{, metadata => '{"concurrency_key": "k"}'});
my $now = enqueue('dear', 'u-4', q{, metadata => '{"concurrency_key": "k"}'});
wait_for_task($node, $now, 'completed');
is(value("SELECT state || ' ' || attempt FROM eduai.get_task($later)"), 'scheduled 0', 'one that has to wait for its budget lets the next of its lane and key go first');
is(value("SELECT run_at = (SELECT ends_at FROM eduai.budget_period('1 day')) FROM eduai.get_task($later)"), 't', 'it comes back when the budget does');
is(value("SELECT eduai.cancel_task($later)"), 't', 'it can be cancelled');

# Many of them: each is looked at once, not at every turn.
value(q{SELECT set_config('eduai.queue_max_size', '0', false); SELECT count(eduai.enqueue('chat', '{"model": "dear", "prompt": "x"}', user_id => 'u-3', priority => 'critical'))
	FROM generate_series(1, 1500)});
$now = enqueue('dear', 'u-4', q{, priority => 'critical'});
wait_for_task($node, $now, 'completed', 30);
wait_until(sub { value(q{SELECT count(*) FROM eduai.task WHERE user_id = 'u-3' AND state = 'scheduled'}) == 1500 }, 30, 'all are deferred');
is(value(q{SELECT sum(attempt) FROM eduai.task WHERE user_id = 'u-3'}), 0, 'more than a claim can defer: all are, without an attempt');

# ---- the cheapest ----

value(q{SELECT eduai.set_budget('user:u-5', 0.5, on_exceeded => 'cheapest')});
my @tasks = map { enqueue('both', 'u-5') } 1 .. 4;
all_end('the cheapest were asked');
is(value(q{SELECT string_agg(DISTINCT instance, ' ') FROM eduai.task WHERE user_id = 'u-5'}), 'both-2', 'the cheapest takes what is too dear by turns');
my $fallback = enqueue('chained', 'u-5');
wait_for_task($node, $fallback, 'completed');
is(value("SELECT instance FROM eduai.get_task($fallback)"), 'cheap', 'and the chain goes on where the asked for are all too dear');
is(value(q{SELECT count(*) FROM eduai.task t, eduai.usage_ledger l WHERE t.task_id = l.task_id AND t.user_id = 'u-5'}), 5, 'in an attempt each');
is(value(q{SELECT sum(reserved) FROM eduai.budget_status}) + 0, 0, 'nothing stays reserved');
is(value(q{SELECT string_agg(name, ' ') FROM eduai.instance_status WHERE in_flight <> 0}), '', 'or in flight');

$node->stop;
done_testing();
