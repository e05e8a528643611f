-- simulate_balancer(): the same by the same seed, what it must show, and bad input.
CREATE FUNCTION pg_temp.run(algorithm text, more jsonb, seed bigint DEFAULT 1) RETURNS jsonb LANGUAGE sql AS $$
	SELECT eduai.simulate_balancer(algorithm, '{"duration_s": 300, "arrivals_per_s": 3}'::jsonb || more, seed)
$$;
\set two '{"instances": [{"name": "a", "latency_ms": [800, 2000], "price_output": 1}, {"name": "b", "latency_ms": [1000, 2500], "price_output": 1}]}'
\set algorithms 'unnest(ARRAY[''adaptive'', ''round_robin'', ''weighted_round_robin'', ''least_connections'', ''least_response_time'', ''cost_optimized'']) a'

-- the same everywhere and always: whole numbers of chance, sums and products
SELECT pg_temp.run('adaptive', :'two');
SELECT pg_temp.run('round_robin', :'two', -7);
SELECT a, pg_temp.run(a, :'two') = pg_temp.run(a, :'two') AS same, pg_temp.run(a, :'two') <> pg_temp.run(a, :'two', 2) AS another_seed
FROM :algorithms;
-- the contract's keys; requests do not depend on the algorithm
SELECT count(DISTINCT r->'requests'), min(keys) = max(keys) AS same_keys, min(keys)
FROM :algorithms, pg_temp.run(a, :'two') r, LATERAL (SELECT string_agg(k, ' ') FROM jsonb_object_keys(r) k) k(keys);
-- latencies are those asked for: on an instance that is never busy, of requests of one size
SELECT (r->>'p50_ms')::numeric BETWEEN 970 AND 1030 AS median, (r->>'p95_ms')::numeric BETWEEN 2850 AND 3150 AS p95,
	(r->>'success_rate')::numeric = 1 AS all_done, (r->>'requests')::int BETWEEN 19500 AND 20500 AS arrived,
	(r->>'cost_usd')::numeric = (r->>'requests')::int * 200 * 3 / 1e6 AS cost
FROM eduai.simulate_balancer('round_robin', '{"duration_s": 10000, "arrivals_per_s": 2, "tokens": [200, 200],
	"instances": [{"name": "a", "latency_ms": [1000, 3000], "max_concurrent": 1000, "price_input": 1, "price_output": 2}]}') r;

-- weights, and the cheapest
SELECT pg_temp.run('weighted_round_robin', '{"instances": [{"name": "a", "latency_ms": [100, 200], "weight": 3}, {"name": "b", "latency_ms": [100, 200]}]}')->'share' AS share;
SELECT pg_temp.run('cost_optimized', '{"instances": [{"name": "a", "latency_ms": [100, 200], "price_output": 2}, {"name": "b", "latency_ms": [100, 200], "price_output": 1}]}')->'share' AS share;
-- a higher tier gets what the lower one has no room for
SELECT (s->>'second')::numeric BETWEEN 0.01 AND 0.3 AS some FROM pg_temp.run('adaptive', '{"instances": [{"name": "first", "latency_ms": [1000, 2000], "max_concurrent": 5}, {"name": "second", "tier": 2, "latency_ms": [100, 200]}]}') r, LATERAL (SELECT r->'share') s(s);
-- one that fails at once, or mostly, attracts nobody: adaptive sends it few calls, and none is lost
SELECT rate, (r->'share'->>'failing')::numeric < 0.05 AS few, (r->>'success_rate')::numeric > 0.999 AS done
FROM unnest(ARRAY[1, 0.8]) rate, pg_temp.run('adaptive', jsonb_build_object('attempts', 5, 'instances', jsonb_build_array(
	jsonb_build_object('name', 'failing', 'latency_ms', '[200, 400]'::jsonb, 'events', jsonb_build_array(jsonb_build_object('error_rate', rate, 'fast_fail_ms', 10))),
	'{"name": "b", "latency_ms": [1000, 2500]}'::jsonb, '{"name": "c", "latency_ms": [1200, 2500]}'::jsonb))) r;
-- a silent one is noticed before its time is over, an outage ends within seconds of the breaker's time
SELECT (r->>'wasted_attempts')::int BETWEEN 3 AND 15 AS few_wasted, (r->>'success_rate')::numeric = 1 AS done, (r->'share'->>'a')::numeric > 0.3 AS returns
FROM pg_temp.run('adaptive', '{"instances": [{"name": "a", "latency_ms": [700, 1500], "max_concurrent": 50, "events": [{"at_s": 30, "until_s": 90, "silent": true}]}, {"name": "b", "latency_ms": [1000, 2500], "max_concurrent": 50}]}') r;
-- everything is down, then back: tasks wait, and time out where it lasts
SELECT (r->>'success_rate')::numeric = 1 AS all_done, (r->>'p99_ms')::numeric > 20000 AS after_a_wait
FROM pg_temp.run('adaptive', '{"attempts": 10, "instances": [{"name": "a", "latency_ms": [700, 1500], "max_concurrent": 50, "events": [{"at_s": 100, "until_s": 120, "error_rate": 1}]}]}') r;
SELECT r FROM pg_temp.run('least_connections', '{"duration_s": 20, "timeout_s": 5, "instances": [{"name": "a", "latency_ms": [700, 1500], "error_rate": 1}]}') r;
-- limits: no more than a minute's worth at once and what a minute brings, shared in a group
SELECT g, (r->>'requests')::int > 850 AS asked, (r->>'success_rate')::numeric * (r->>'requests')::int BETWEEN least AND most AS within
FROM (VALUES ('own', '{}'::jsonb, 550, 720), ('shared', '{"limit_group": "g"}', 250, 375)) v(g, more, least, most),
	pg_temp.run('adaptive', jsonb_build_object('attempts', 10, 'timeout_s', 10, 'instances', jsonb_build_array('{"name": "a", "rpm": 60, "latency_ms": [100, 200]}' || more, '{"name": "b", "rpm": 60, "latency_ms": [100, 200]}' || more))) r;
-- a price that falls is followed at once
SELECT (r->'share'->>'a')::numeric BETWEEN 0.45 AND 0.55 AS half FROM pg_temp.run('cost_optimized', '{"instances": [{"name": "a", "latency_ms": [100, 200], "price_output": 2, "events": [{"at_s": 150, "price_factor": 0.1}]}, {"name": "b", "latency_ms": [100, 200], "price_output": 1}]}') r;
-- one that joins later
SELECT (r->'share'->>'late')::numeric BETWEEN 0.4 AND 0.85 AS joined FROM pg_temp.run('adaptive', '{"instances": [{"name": "a", "latency_ms": [2000, 5000]}, {"name": "late", "latency_ms": [300, 600], "from_s": 100}]}') r;
-- sizes: two kinds of requests
SELECT (r->>'p99_ms')::numeric > 10 * (r->>'p50_ms')::numeric AS two_kinds
FROM pg_temp.run('adaptive', '{"tokens": [100, 150], "large": {"share": 0.1, "tokens": [5000, 6000]}, "instances": [{"name": "a", "latency_ms": [300, 500], "max_concurrent": 100}]}') r;

-- bad input: the SQLSTATE, the value and what it must be
CREATE FUNCTION pg_temp.refusal(scenario jsonb, algorithm text DEFAULT 'adaptive', seed bigint DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	RETURN eduai.simulate_balancer(algorithm, scenario, seed);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || SQLERRM || ' | ' || hint;
END $$;
\pset format unaligned
\pset tuples_only on
\set one '{"duration_s": 10, "arrivals_per_s": 1, "instances": [{"name": "a", "latency_ms": [1, 2]}]}'
SELECT pg_temp.refusal(:'one', 'fastest');
SELECT pg_temp.refusal(:'one', NULL);
SELECT pg_temp.refusal(NULL);
SELECT pg_temp.refusal(:'one', 'adaptive', NULL);
SELECT pg_temp.refusal(s) FROM unnest(ARRAY['[]', '{}', '{"duration_s": 10}', '{"duration_s": 10, "arrivals_per_s": 1}', '{"duration_s": 10, "arrivals_per_s": 1, "instances": []}',
	'{"duration_s": 10, "arrivals_per_s": 1, "instances": {}}', '{"duration_s": 10, "arrivals_per_s": 1, "instances": [1]}']::jsonb[]) WITH ORDINALITY u(s, n) ORDER BY n;
-- of the scenario
SELECT pg_temp.refusal(:'one'::jsonb || s) FROM unnest(ARRAY['{"speed": 1}', '{"duration_s": 0}', '{"duration_s": "10"}', '{"duration_s": 1e300}', '{"arrivals_per_s": -1}',
	'{"duration_s": 86400, "arrivals_per_s": 1.2}', '{"tokens": 100}', '{"tokens": [100]}', '{"tokens": [100, 50]}', '{"tokens": [0, 50]}', '{"tokens": ["100", "200"]}',
	'{"attempts": 0}', '{"attempts": 1.5}', '{"timeout_s": 1e9}', '{"usd_to_seconds": -1}', '{"large": 1}', '{"large": {"share": 2, "tokens": [1, 2]}}', '{"large": {"share": 1}}',
	'{"large": {"share": 0.1, "tokens": [1, 2], "size": 1}}']::jsonb[]) WITH ORDINALITY u(s, n) ORDER BY n;
-- of an instance
SELECT pg_temp.refusal(jsonb_set(:'one', '{instances,0}', '{"name": "a", "latency_ms": [1, 2]}'::jsonb || s)) FROM unnest(ARRAY['{"colour": "red"}', '{"name": ""}', '{"name": 1}',
	'{"latency_ms": [2, 1]}', '{"latency_ms": [0, 1]}', '{"latency_ms": null}', '{"error_rate": 1.1}', '{"max_concurrent": 0}', '{"rpm": 0}', '{"price_input": -0.1}', '{"weight": 0.5}', '{"tier": 101}',
	'{"first_byte_share": 2}', '{"limit_group": "g"}', '{"events": {}}', '{"events": [1]}', '{"events": [{"when": 1}]}', '{"events": [{"silent": 1}]}', '{"events": [{"at_s": 5, "until_s": 5}]}',
	'{"events": [{"latency_factor": 0}]}', '{"events": [{}, {"share": -1}]}']::jsonb[]) WITH ORDINALITY u(s, n) ORDER BY n;
-- of several
SELECT pg_temp.refusal(jsonb_set(:'one', '{instances,1}', '{"name": "a", "latency_ms": [1, 2]}'));
SELECT pg_temp.refusal('{"duration_s": 10, "arrivals_per_s": 1, "instances": [{"name": "a", "latency_ms": [1, 2], "rpm": 5, "limit_group": "g"}, {"name": "b", "latency_ms": [1, 2], "rpm": 6, "limit_group": "g"}]}');
SELECT pg_temp.refusal(jsonb_set(:'one', '{instances}', (SELECT jsonb_agg(jsonb_build_object('name', 'i' || i, 'latency_ms', '[1, 2]'::jsonb)) FROM generate_series(1, 65) i)));
SELECT pg_temp.refusal(jsonb_set(:'one', '{instances,0,events}', (SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 65))));
-- the most there may be, and interruptible
SELECT pg_temp.refusal(jsonb_set(:'one', '{instances}', (SELECT jsonb_agg(jsonb_build_object('name', 'i' || i, 'latency_ms', '[1, 2]'::jsonb)) FROM generate_series(1, 64) i))) LIKE '{%';
-- (the sequence, evaluated after the run, is not reached)
CREATE TEMP SEQUENCE run_ended;
\set VERBOSITY sqlstate
SET statement_timeout = '20ms';
SELECT eduai.simulate_balancer('adaptive', '{"duration_s": 86400, "arrivals_per_s": 1.15, "attempts": 10, "timeout_s": 3600, "instances": [{"name": "a", "latency_ms": [1, 2], "error_rate": 1}]}'), nextval('run_ended');
RESET statement_timeout;
SELECT is_called FROM run_ended;
