-- An adaptive tier follows what is reported, and is never above its limit.
\pset format unaligned
\pset tuples_only on
SELECT eduai.define_tier('t_adapt', 100, '1 hour', adaptive => true);
CREATE FUNCTION pg_temp.period(good int, bad int, latency interval) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM eduai.rate_report('t_adapt', true, latency) FROM generate_series(1, good);
	PERFORM eduai.rate_report('t_adapt', false, latency) FROM generate_series(1, bad);
	PERFORM eduai.test_clock(make_interval(secs => 10 * (1 + coalesce(nullif(current_setting('test.periods', true), ''), '0')::int)));
	PERFORM set_config('test.periods', (1 + coalesce(nullif(current_setting('test.periods', true), ''), '0')::int)::text, false);
	RETURN (SELECT concat_ws(' ', limit_count, (SELECT factor FROM eduai.rate_tiers WHERE name = 't_adapt')) FROM eduai.rate_peek('adapt:1', 't_adapt'));
END $$;
SELECT limit_count FROM eduai.rate_peek('adapt:1', 't_adapt');
SELECT pg_temp.period(100, 0, '10 ms');
SELECT pg_temp.period(80, 20, '10 ms');
SELECT pg_temp.period(100, 0, '10 s');
SELECT pg_temp.period(100, 0, '10 ms');
SELECT pg_temp.period(0, 100, NULL) FROM generate_series(1, 8);
-- a tenth of it is left: that much goes in; a call that costs more goes in alone
SELECT limit_count FROM eduai.rate_peek('adapt:1', 't_adapt');
SELECT count(*) FILTER (WHERE eduai.rate_ok('adapt:1', 't_adapt')) FROM generate_series(1, 100);
SELECT eduai.rate_ok('adapt:2', 't_adapt', 60), eduai.rate_ok('adapt:2', 't_adapt', 1);
SELECT pg_temp.period(100, 0, '10 ms') FROM generate_series(1, 20);
-- of a tier that is not adaptive nothing is noted
SELECT count(eduai.rate_report('public', false)) FROM generate_series(1, 100);
SELECT limit_count FROM eduai.rate_peek('adapt:3');
SELECT eduai.test_clock('0'), eduai.rate_reset('adapt:1'), eduai.rate_reset('adapt:2'), eduai.drop_tier('t_adapt');
