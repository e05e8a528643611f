# Budgets in a dump, restored: what was spent is spent there, calls that were in
# flight count at their bounds and reserve nothing, what was set holds. And two
# enqueues at the last cent: both are let in, one call leaves.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => {
	'eduai.database' => 'postgres,restored', 'eduai.sweep_interval' => '500ms', 'eduai.balancer' => 'cost_optimized',
	'eduai.hedge_after' => '100ms', 'eduai.hedge_max_percent' => 100 });
my $sim = start_simulator();
my $other = start_simulator();
my $dir = PostgreSQL::Test::Utils::tempdir();

sub value { return $node->safe_psql($_[1] // 'postgres', $_[0]) }
sub status { return value(q{SELECT string_agg(concat_ws('|', scope, trim_scale(usd), trim_scale(spent), trim_scale(reserved)), ' ' ORDER BY scope) FROM eduai.budget_status}, $_[0]) }
sub enqueue_sql { return qq{SELECT eduai.enqueue('chat', '{"model": "$_[0]", "prompt": "x", "max_tokens": 1000}', user_id => 'u', max_attempts => 1, priority => '@{[$_[1] // 'normal']}')} }
sub state_of { return value("SELECT state || ' ' || coalesce(error->>'code', '') FROM eduai.get_task($_[0])", $_[1]) }

value(qq{
	SELECT eduai.add_provider('sim', 'openai', '$sim->{base_url}/v1', options => '{"allow_loopback": true}');
	SELECT eduai.add_provider('other', 'openai', '$other->{base_url}/v1', options => '{"allow_loopback": true}');
	SELECT eduai.add_instance('quick', 'sim', 'quick\@tokens_in=100;tokens_out=1000', price_output => 10, options => '{"aliases": ["quick"]}');
	SELECT eduai.add_instance('hung', 'sim', 'hung\@silent', price_output => 10, options => '{"first_byte_ms": 3600000, "aliases": ["hung"]}');
	SELECT eduai.add_instance('raced', 'sim', 'raced\@silent', price_output => 10, options => '{"first_byte_ms": 3600000, "aliases": ["race"]}');
	SELECT eduai.add_instance('racer', 'other', 'racer\@silent', price_output => 20, options => '{"first_byte_ms": 3600000, "aliases": ["race"]}');
	SELECT eduai.set_budget('tenant', 1, on_exceeded => 'refuse'), eduai.set_budget('user:*', 0.5), eduai.set_budget('provider:sim', 3);
	-- a tenant without a budget of its own
	SELECT eduai.allow_tenant('postgres', 'default'), eduai.allow_tenant('postgres', 'free')});

# ---- a dump ----

my $done = value(enqueue_sql('quick'));
wait_for_task($node, $done, 'completed', 20);
my $hung = value(enqueue_sql('hung'));
my $raced = value(enqueue_sql('race', 'critical'));
my $free = value("SET eduai.tenant = 'free'; " . enqueue_sql('race', 'critical'));
wait_until(sub { value('SELECT count(*) FROM eduai.provider_hedge') == 2 }, 20, 'five calls are in flight for three tasks');
is(value('SELECT count(*) FROM eduai.budget_reservation'), 4, '... and a budget applies to all but one');
my $of_sim = value(q{SELECT trim_scale(sum(bound_usd)) FROM eduai.budget_reservation WHERE provider = 'sim'});
my $bounds = value('SELECT trim_scale(sum(bound_usd)) FROM eduai.budget_reservation WHERE tenant_id = \'default\'');
my $spent = value(q{SELECT trim_scale(spent) FROM eduai.budget_status WHERE scope = 'tenant'});
is(value(q{SELECT string_agg((bound_usd = CASE provider WHEN 'other' THEN 0.02 ELSE 0.01 END)::text, ',') FROM eduai.budget_reservation}), 'true,true,true,true', 'reserved at their bounds');
my $before = status();
my ($dump) = run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
# Its dispatcher sees the budgets before what was counted of them is there.
my $wait = q{DO $$ DECLARE since int; seen int; deadline timestamptz := clock_timestamp() + interval '60 s';
	BEGIN
		LOOP
			SELECT (w ->> 'wakes_by_timeout')::int INTO seen FROM jsonb_array_elements(eduai.health() -> 'workers') w WHERE w ->> 'worker' = 'dispatcher';
			since := coalesce(since, seen);
			EXIT WHEN seen >= since + 3;
			IF clock_timestamp() > deadline THEN RAISE 'the dispatcher does nothing'; END IF;
			PERFORM pg_sleep(0.05);
		END LOOP;
	END $$;};
is($dump =~ s/^(?=COPY eduai\.budget_counted )/$wait\n/mg, 1, 'budgets come first');
append_to_file("$dir/dump.sql", $dump);
my $sent = sim_stats($sim)->{requests};
value('CREATE DATABASE restored TEMPLATE template0');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', "$dir/dump.sql" ], 'the dump is restored');

wait_until(sub { value('SELECT (SELECT count(*) FROM eduai.budget_reservation) + (SELECT count(*) FROM eduai.provider_hedge)', 'restored') == 0 }, 30, 'nothing is reserved or in flight there');
is(status('restored'), value(qq{SELECT concat_ws(' ', 'provider:sim|3|' || $spent + $of_sim || '|0', 'tenant|1|' || $spent + $bounds || '|0', 'user:*|0.5|' || $spent + $bounds || '|0', 'user:u|0.5|' || $spent + $bounds || '|0')}),
	'what was in flight counts at its bound, of every budget');
is(value("SELECT string_agg(concat_ws(':', task_id, instance, outcome, hedge, counted_usd = bound_usd), ' ' ORDER BY task_id, hedge) FROM eduai.usage_ledger WHERE task_id <> $done", 'restored'),
	"$hung:hung:uncertain:f:t $raced:raced:uncertain:f:t $raced:racer:uncertain:t:t", '... and is in the ledger, second calls too');
is(value("SET eduai.tenant = 'free'; SELECT string_agg(concat_ws(':', task_id, instance, outcome, hedge), ' ' ORDER BY hedge) FROM eduai.usage_ledger", 'restored'),
	"$free:raced:uncertain:f $free:racer:uncertain:t", '... without a budget, too');
is(state_of($raced, 'restored') . state_of($hung, 'restored'), 'uncertain uncertain' x 2, '... as one attempt each');
is(status(), $before, 'the original has what it had');
is(sim_stats($sim)->{requests}, $sent, 'nothing was sent');
value(q{SELECT eduai.set_budget('user:new', 0.1)}, 'restored');
is(value('SELECT count(*), count(DISTINCT budget_id) FROM eduai.budget', 'restored'), '4|4', 'a new one has a number of its own');

# ---- the last cent, there ----

value(q{SELECT eduai.adopt_database()}, 'restored');
value(qq{SELECT eduai.set_budget('tenant', $spent + $bounds + 0.0101, on_exceeded => 'refuse')}, 'restored');
my @sessions = map { EduaiSession->new($node, 'restored') } 1 .. 2;
$_->ask('BEGIN;') for @sessions;
my @asked = map { $_->ask(enqueue_sql('quick') . ';') } @sessions;
$_->ask('COMMIT;') for @sessions;
$_->quit for @sessions;
wait_until(sub { join(' ', sort map { state_of($_, 'restored') } @asked) eq 'completed  dead budget_exceeded' }, 30, 'of two at the last cent one is served, the other refused');
pass('of two at the last cent one is served, the other refused');
is(value(q{SELECT spent <= usd AND reserved = 0 FROM eduai.budget_status WHERE scope = 'tenant'}, 'restored'), 't', '... and the budget holds');
my (undef, undef, $refused) = $node->psql('restored', enqueue_sql('quick'));
like($refused, qr/budget "tenant" of [0-9.]+ USD per 1 day would be exceeded/, 'the next one is refused at once');

$node->stop('fast');
stop_simulator($_) for $sim, $other;
done_testing();
