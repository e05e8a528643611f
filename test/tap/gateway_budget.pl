# Money cannot be overspent.
#
# A thousand sessions ask at once for tasks of up to 0.10 USD from providers that
# fail at random, report less than was reserved, or lose their answers, against a
# budget of 5 USD; then what a budget must survive: providers that report more
# than the bound, a budget set while calls are in flight, kill -9, midnight,
# another time zone, and lost sums.

use strict;
use warnings;

use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	conf => { 'eduai.test_mode' => 'on', 'eduai.sweep_interval' => '200ms', 'eduai.queue_max_size' => 0, max_connections => 120,
		# providers that fail are not this test's subject
		'eduai.breaker_open' => '1ms', 'eduai.breaker_ramp' => 0 });
my $sim = start_simulator(seed => test_seed() % 1000000);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# USD per million tokens: 1 in, 10 out
sub instance
{
	my ($name, $behaviour, $price) = @_;
	$price //= 10;
	sql(qq{SELECT eduai.add_instance('$name', 'sim', '$name\@$behaviour', price_input => $price / 10.0, price_output => $price,
		max_concurrent => 200, options => '{"aliases": ["$name"], "first_byte_ms": 20000}')});
}

sub enqueue
{
	my ($model, $tokens, $more) = @_;
	return sql(qq{SELECT eduai.enqueue('chat', '{"model": "$model", "prompt": "x", "max_tokens": $tokens}', max_attempts => 1 } . ($more // '') . ')');
}

sub all_ended
{
	wait_until(sub { sql(q{SELECT (SELECT count(*) FROM eduai.task_live WHERE state <> 'scheduled' OR backoff) + (SELECT count(*) FROM eduai.fresh_task)}) == 0 }, 180, 'all tasks have ended or wait for a budget');
}

sub status { return sql(qq{SELECT trim_scale(spent) || '|' || trim_scale(reserved) FROM eduai.budget_status WHERE scope = '$_[0]'}) }

sub dispatcher { return sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher'}) }

sub crash
{
	my $pid = dispatcher();
	kill 'KILL', $pid;
	wait_until(sub { my $now = try_query($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher'}); $now && $now =~ /^\d+$/ && $now != $pid },
		60, 'another dispatcher runs');
}

sql(qq{
	SELECT eduai.configure_pool('chat', '{chat}', 400);
	SELECT eduai.add_provider('sim', 'openai', '$sim->{base_url}/v1', options => '{"allow_loopback": true}');
	CREATE TABLE refused (sqlstate text, detail text);
	CREATE TABLE seen (usd numeric);
});
instance('less', 'tokens_in=50;tokens_out=300;error=0.2;latency=lognormal:30:120');
instance('exact', 'tokens_in=50;tokens_out=9000;error=0.2;latency=lognormal:30:120');
instance('lost', 'cut_after=100;latency=30');
instance('mute', 'no_usage;latency=30');
instance('burst', 'tokens_in=50;tokens_out=9000;latency=1000');
instance('more', 'tokens_in=200000;latency=500');
instance('slow', 'tokens_in=100;tokens_out=100;latency=1500');
instance('quick', 'tokens_in=100;tokens_out=100');
instance('dear', 'tokens_in=100;tokens_out=100', 100);

# ---- a thousand sessions ----

# Every other task is patient: enqueue lets it in whatever is spent, and the
# dispatcher alone is in its way.
sql(q{
	SELECT eduai.set_budget('tenant', 5, on_exceeded => 'refuse');
	CREATE FUNCTION ask(kind int, tokens int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		d text;
	BEGIN
		PERFORM eduai.enqueue('chat', jsonb_build_object('prompt', 'x', 'max_tokens', tokens,
			'model', (ARRAY['less', 'less', 'less', 'exact', 'less', 'less', 'less', 'exact', 'lost', 'mute'])[kind]),
			max_attempts => 2, on_refusal => CASE WHEN tokens % 2 = 0 THEN 'defer' ELSE 'error' END);
	EXCEPTION WHEN SQLSTATE 'UE005' THEN
		GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL;
		INSERT INTO refused VALUES (SQLSTATE, d);
	END $$;
});
$node->pgbench('-n -C -c 50 -t 20', 0, [qr/1000\/1000/], [], 'a thousand sessions', {
	ask => q{
		\set kind random(1, 10)
		\set tokens random(500, 9000)
		SELECT ask(:kind, :tokens);
		INSERT INTO seen SELECT spent + reserved FROM eduai.budget_status WHERE scope = 'tenant';
	} });
all_ended();
is(sql(q{SELECT count(*) FROM seen WHERE usd > 5}), 0, 'no session ever saw more than 5 USD spent and reserved');
is(sql(q{SELECT count(*) > 0 FROM seen WHERE usd > 0 AND usd <= 5}), 't', '... and they looked while money was spent');
my ($spent, $reserved) = split /\|/, status('tenant');
cmp_ok($spent, '<=', 5, "spent is never over 5: $spent");
cmp_ok($spent, '>', 4.5, '... and nearly all of it was used');
is($reserved, 0, 'nothing stays reserved');
is(sql(q{SELECT trim_scale(sum(coalesce(counted_usd, cost_usd))) FROM eduai.usage_ledger}), $spent, 'what is spent is what the ledger says');
is(sql(q{SELECT sum(bound_usd) > 5 FROM eduai.usage_ledger}), 't', 'what was reserved and not used was reserved again');
is(sql(q{SELECT (SELECT count(*) FROM refused) + (SELECT count(*) FROM eduai.task)}), 1000, 'each task was refused or accepted');
cmp_ok(sql(q{SELECT count(*) FROM refused WHERE sqlstate = 'UE005' AND detail ~ '^Scope tenant, spent [0-9.]+, reserved [0-9.]+, usd 5 per 1 day; '}), '>', 0, 'some were refused, with their reason');
is(sql(q{SELECT count(*) FROM eduai.task WHERE state = 'dead' AND NOT EXISTS (SELECT FROM eduai.usage_ledger l WHERE l.task_id = task.task_id)
	AND error->>'code' IS DISTINCT FROM 'budget_exceeded'}), 0, 'what was accepted and not sent says that its budget was spent');
is(sql(q{SELECT string_agg(DISTINCT state, ' ' ORDER BY state) FROM eduai.task}), 'completed dead scheduled', 'nothing else became of any');
is(sql(q{SELECT count(*) FROM eduai.task WHERE state = 'scheduled' AND (error->>'code' <> 'budget_exceeded' OR metadata->>'on_refusal' IS NULL)}), 0, 'only the patient wait, for the budget');
is(sql(q{SELECT count(*) FROM eduai.usage_ledger WHERE code = 'http_500' AND counted_usd IS NOT NULL}), 0, 'a provider that refuses is not paid');
is(sql(q{SELECT count(*) > 0 AND bool_and(cost_usd = 0 AND counted_usd = bound_usd) FROM eduai.usage_ledger WHERE code = 'body_cut' OR instance = 'mute'}), 't',
	'an answer that was lost, or does not say what it used, counts at its bound');
is(sql(q{SELECT count(*) FROM eduai.usage_ledger WHERE cost_usd > bound_usd}), 0, 'no call cost more than its bound');
# health checks have no model
is(scalar(grep { $_->{model} } @{ sim_journal($sim) }), sql(q{SELECT count(*) FROM eduai.usage_ledger}), 'each request is in the ledger');
sql(q{SELECT eduai.cancel_task(task_id) FROM eduai.task WHERE finished_at IS NULL});
sql(q{SELECT eduai.set_budget('tenant', NULL)});

# ---- two hundred at the dispatcher at once ----

# Each would fit by what is spent: only what the others have reserved is in the way.
sql(q{SELECT eduai.set_instance_state('burst', 'draining')});
my $had = sql(q{SELECT trim_scale(sum(coalesce(counted_usd, cost_usd))) FROM eduai.usage_ledger});
sql(qq{SELECT eduai.set_budget('tenant', $had + 5, on_exceeded => 'refuse')});
sql(q{SELECT count(eduai.enqueue('chat', '{"model": "burst", "prompt": "x", "max_tokens": 9000}', max_attempts => 1, on_refusal => 'defer')) FROM generate_series(1, 200)});
sql(q{SELECT eduai.set_instance_state('burst', 'active')});
wait_until(sub { sql(q{SELECT sum(in_flight) FROM eduai.instance_status}) > 0 }, 30, 'calls leave');
cmp_ok(sql(q{SELECT spent + reserved - usd FROM eduai.budget_status WHERE scope = 'tenant'}), '<=', 0, 'of two hundred at once no more leave than the budget has room for');
all_ended();
is(sql(qq{SELECT sum(cost_usd) > 4.9 AND sum(cost_usd) <= 5 FROM eduai.usage_ledger WHERE instance = 'burst'}), 't', '... and it is used to the last call');
is(sql(q{SELECT spent <= usd AND reserved = 0 FROM eduai.budget_status WHERE scope = 'tenant'}), 't', '... and never exceeded');
sql(q{SELECT eduai.cancel_task(task_id) FROM eduai.task WHERE finished_at IS NULL});
sql(q{SELECT eduai.set_budget('tenant', NULL)});

# ---- a provider that reports more than the bound ----

sql(q{SELECT eduai.set_budget('user:over', 0.5)});
enqueue('more', 1000, ", user_id => 'over'") for 1 .. 12;
all_ended();
is(sql(q{SELECT spent - (SELECT sum(cost_usd - bound_usd) FROM eduai.usage_ledger WHERE user_id = 'over') <= 0.5 FROM eduai.budget_status WHERE scope = 'user:over'}), 't',
	'more than the bound is counted as it was: the excess alone is over the budget');
is(sql(q{SELECT spent = (SELECT sum(cost_usd) FROM eduai.usage_ledger WHERE user_id = 'over') FROM eduai.budget_status WHERE scope = 'user:over'}), 't', '... truthfully');
my $late = enqueue('quick', 10, ", user_id => 'over'");
wait_until(sub { sql("SELECT state FROM eduai.get_task($late)") eq 'scheduled' }, 30, 'the next one waits');
is(sql(qq{SELECT t.run_at = b.resets_at AND t.error->>'code' = 'budget_exceeded' FROM eduai.get_task($late) t, eduai.budget_status b WHERE b.scope = 'user:over'}), 't',
	'... until the next period, and says why');
sql(q{SELECT eduai.set_budget('user:over', 100)});
wait_until(sub { sql("SELECT state FROM eduai.get_task($late)") eq 'completed' }, 30, 'it runs when the budget is raised');
sql(q{SELECT eduai.set_budget('user:over', NULL)});

# ---- set while calls are in flight ----

enqueue('slow', 1000) for 1 .. 5;
wait_until(sub { sql(q{SELECT count(*) FROM eduai.task_live WHERE state = 'running'}) == 5 }, 30, 'five calls are in flight');
my $before = sql(q{SELECT trim_scale(sum(coalesce(counted_usd, cost_usd))) FROM eduai.usage_ledger});
sql(qq{SELECT eduai.set_budget('tenant', $before + 0.02)});
wait_until(sub { status('tenant') =~ /\|0\.05\d+$/ }, 30, 'they are reserved for a budget that is set now');
is((split /\|/, status('tenant'))[0], $before, 'what was spent before is counted');
my $waits = enqueue('quick', 1000);
all_ended();
wait_until(sub { sql("SELECT state FROM eduai.get_task($waits)") eq 'completed' }, 30, 'what they held and did not use is had by the next');
is(status('tenant'), sql(q{SELECT trim_scale(sum(coalesce(counted_usd, cost_usd))) || '|0' FROM eduai.usage_ledger}), 'and all is settled');
sql(q{SELECT eduai.set_budget('tenant', NULL)});

# ---- cheapest, patience, no bound ----

sql(q{SELECT eduai.add_instance('dear_cheap', 'sim', 'cheap@tokens_in=100;tokens_out=100', price_input => 0.1, price_output => 1, options => '{"aliases": ["dear"], "tier": 2}')});
sql(q{SELECT eduai.set_budget('user:thrifty', 0.05, on_exceeded => 'cheapest')});
my $cheap = enqueue('dear', 1000, ", user_id => 'thrifty'");
wait_until(sub { sql("SELECT state FROM eduai.get_task($cheap)") eq 'completed' }, 30, 'the cheapest instance is taken');
is(sql("SELECT instance FROM eduai.get_task($cheap)"), 'dear_cheap', '... where the first choice is too dear');
sql(q{SELECT eduai.set_budget('user:patient', 0, on_exceeded => 'refuse')});
my $patient = enqueue('quick', 1000, ", user_id => 'patient', on_refusal => 'defer'");
wait_until(sub { sql("SELECT state FROM eduai.get_task($patient)") eq 'scheduled' }, 30, 'who is patient waits where others are refused');
sql(q{SELECT eduai.set_budget('user:patient', NULL)});
wait_until(sub { sql("SELECT state FROM eduai.get_task($patient)") eq 'completed' }, 30, '... and is served when the budget is gone');
sql(q{SELECT eduai.set_budget('user:endless', 5)});
my $endless = sql(q{SELECT eduai.enqueue('chat', '{"model": "quick", "prompt": "x"}', user_id => 'endless')});
wait_until(sub { sql("SELECT state FROM eduai.get_task($endless)") eq 'dead' }, 30, 'a call without a bound is not sent');
like(sql("SELECT error->>'code' || ': ' || (error->>'message') FROM eduai.get_task($endless)"), qr/^budget_unbounded: .*set max_tokens/, '... and says what to do');

# ---- kill -9 ----

sql(q{SELECT eduai.set_budget('tenant', 100), eduai.set_budget('user:*', 50)});
my @killed = map { enqueue('slow', 1000, ", user_id => 'k$_'") } 1 .. 4;
wait_until(sub { sql(q{SELECT count(*) FROM eduai.budget_reservation}) == 4 }, 30, 'four calls are reserved');
my $bound = sql(q{SELECT trim_scale(sum(bound_usd)) FROM eduai.budget_reservation});
my ($spent_before) = split /\|/, status('tenant');
# One is cancelled while nobody can notice: nobody will record its end.
my $stopped = dispatcher();
kill 'STOP', $stopped;
is(sql("SELECT eduai.cancel_task($killed[0])"), 't', 'one of them is cancelled');
crash();
wait_until(sub { status('tenant') =~ /\|0$/ && sql(q{SELECT count(*) FROM eduai.budget_reservation}) == 0 }, 30, 'nothing is reserved after kill -9');
is(sql(qq{SELECT trim_scale(spent - $spent_before) FROM eduai.budget_status WHERE scope = 'tenant'}), $bound, 'calls whose answers were lost count at their bounds');
is(sql(qq{SELECT count(*) FROM eduai.usage_ledger WHERE task_id IN (@{[join ',', @killed]}) AND outcome = 'uncertain' AND cost_usd = 0 AND counted_usd = bound_usd
	AND user_id LIKE 'k_' AND task_type = 'chat' AND provider = 'sim'}), 4, '... in the ledger, the cancelled one, too');
is(sql(q{SELECT count(*) FROM eduai.budget_status WHERE scope LIKE 'user:k%' AND spent > 0 AND reserved = 0}), 4, '... and of their users');

# ---- sums that are lost are made of the ledger ----

my $known = status('tenant');
$node->stop('fast');
$node->start;
is(status('tenant'), $known, 'a restart changes nothing');
sql(q{DELETE FROM eduai.budget_counted; DELETE FROM eduai.budget_spent; SELECT eduai.set_budget('provider:sim', 1000)});
is(status('tenant'), $known, 'before they are counted again, the ledger tells');
wait_until(sub { sql(q{SELECT count(*) FROM eduai.budget_counted}) == sql(q{SELECT count(*) FROM eduai.budget}) }, 30, 'they are counted again');
is(status('tenant'), $known, '... to the same');
is(status('provider:sim'), $known, 'a provider has as much from its ledger');

# ---- another time zone, and midnight ----

sub at_status { return sql(q{SELECT to_char(resets_at AT TIME ZONE 'UTC', 'HH24:MI') FROM eduai.budget_status WHERE scope = 'tenant'}) }
is(at_status(), '00:00', 'days end at midnight');
sql(q{ALTER SYSTEM SET eduai.timezone = 'Asia/Kathmandu'});
sql('SELECT pg_reload_conf()');
wait_until(sub { at_status() eq '18:15' }, 30, '... of the time zone');
wait_until(sub { sql(q{SELECT count(*) FROM eduai.budget_counted WHERE timezone = 'Asia/Kathmandu'}) > 0 }, 30, 'budgets are counted in it');
is((split /\|/, status('tenant'))[0], sql(q{SELECT coalesce(trim_scale(sum(coalesce(counted_usd, cost_usd))), 0) FROM eduai.usage_ledger, eduai.budget_period('1 day') p
	WHERE started_at >= p.starts_at AND started_at < p.ends_at}), 'what was spent in the day that it is there');
like((psql_stderr(q{ALTER SYSTEM SET eduai.timezone = 'Nowhere/Town'})), qr/invalid value for parameter "eduai.timezone"/, 'a zone that does not exist is refused');
is(sql(q{SET timezone = 'UTC'; SELECT p.* FROM eduai.budget_period('1 day', '2026-03-29 12:00Z') p}), '2026-03-28 18:15:00+00|2026-03-29 18:15:00+00', 'a day there');
sql(q{ALTER SYSTEM SET eduai.timezone = 'Europe/Berlin'});
sql('SELECT pg_reload_conf()');
wait_until(sub { sql(q{SHOW eduai.timezone}) eq 'Europe/Berlin' }, 30, 'in Berlin');
is(sql(q{SET timezone = 'UTC'; SELECT p.* FROM eduai.budget_period('1 day', '2026-03-29 12:00Z') p}), '2026-03-28 23:00:00+00|2026-03-29 22:00:00+00', '... a day in spring has 23 hours');
is(sql(q{SET timezone = 'UTC'; SELECT p.* FROM eduai.budget_period('1 month', '2026-03-29 12:00Z') p}), '2026-02-28 23:00:00+00|2026-03-31 22:00:00+00', '... and March an hour less');
sql(q{ALTER SYSTEM RESET eduai.timezone});
sql('SELECT pg_reload_conf()');
wait_until(sub { at_status() eq '00:00' && sql(q{SELECT count(*) FROM eduai.budget_counted WHERE timezone <> 'UTC'}) == 0 }, 30, 'back in UTC');

my $day = sql(q{SELECT resets_at FROM eduai.budget_status WHERE scope = 'tenant'});
my ($today) = split /\|/, status('tenant');
sql(qq{SELECT eduai.set_budget('tenant', $today + 0.03)});
# A second before midnight: a call that ends in the next day is this day's.
sql(qq{SELECT eduai.test_clock('$day'::timestamptz - interval '1 s' - clock_timestamp())});
my $over_midnight = enqueue('slow', 1000);
wait_until(sub { sql(q{SELECT count(*) FROM eduai.budget_reservation}) == 1 }, 30, 'a call begins before midnight');
my $tomorrow = enqueue('quick', 2500);
wait_until(sub { sql("SELECT state FROM eduai.get_task($over_midnight)") eq 'completed' }, 30, 'it ends after midnight');
wait_until(sub { sql("SELECT state FROM eduai.get_task($tomorrow)") eq 'completed' }, 30, 'what waited for the next day runs');
is(sql(qq{SELECT trim_scale(s.usd - $today) FROM eduai.budget_spent s JOIN eduai.budget b USING (tenant_id, budget_id) WHERE b.scope = 'tenant' AND s.starts_at = '$day'::timestamptz - interval '1 day'}),
	sql("SELECT cost_usd FROM eduai.get_task($over_midnight)"), 'it is of the day that it began in');
is(status('tenant'), sql("SELECT cost_usd || '|0' FROM eduai.get_task($tomorrow)"), '... and the next day has only its own');

sub psql_stderr
{
	my (undef, undef, $err) = $node->psql('postgres', $_[0]);
	return $err;
}

$node->stop('fast');
stop_simulator($sim);
done_testing();
