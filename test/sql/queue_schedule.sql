-- The scheduler alone, over simulated pools: deadlines, shares, turns, reserved slots.
\pset format unaligned
\pset tuples_only on

-- needs a server for tests, and a superuser
SHOW eduai.test_mode;

-- of tasks ready at the same time, each waits for its class: 1 s, 5 s, 30 s, 5 min
SELECT jsonb_agg(s -> 0) FROM jsonb_array_elements(eduai.test_schedule('[
	{"priority": "low", "count": 1}, {"priority": "normal", "count": 1},
	{"priority": "high", "count": 1}, {"priority": "critical", "count": 1}]', '{"slots": 9}', 9)) s;

-- a task of a lower class that was ready early enough goes first: by its time
SELECT jsonb_agg(s -> 0) FROM jsonb_array_elements(eduai.test_schedule('[
	{"priority": "high", "first_us": 25000000, "count": 1},
	{"priority": "normal", "first_us": 0, "count": 1},
	{"priority": "critical", "first_us": 28999999, "count": 1},
	{"priority": "normal", "first_us": 100, "count": 1},
	{"priority": "high", "first_us": 0, "count": 1}]', '{"slots": 1, "service_us": 29000000}', 9)) s;

-- first come, first served within a lane; lanes of a class take turns, whatever waits in them
SELECT jsonb_agg(s -> 0) FROM jsonb_array_elements(eduai.test_schedule('[
	{"priority": "normal", "count": 1000},
	{"priority": "normal", "first_us": 3500, "count": 4},
	{"priority": "normal", "first_us": 5500, "count": 2}]', '{"slots": 1}', 16)) s;

-- turns among 50 tenants, one with 20 times the work: nobody has more than one start over another
SELECT min(n), max(n) FROM (
	SELECT s -> 0, count(*) AS n
	FROM jsonb_array_elements(eduai.test_schedule((
		SELECT jsonb_agg(jsonb_build_object('priority', 'low', 'count', CASE i WHEN 7 THEN 2000 ELSE 100 END))
		FROM generate_series(1, 50) i), '{"slots": 4}', 1000)) s
	GROUP BY 1) x;

-- nothing open, no slots
SELECT eduai.test_schedule('[]', '{"slots": 3}', 5), eduai.test_schedule('[{"priority": "low", "count": 0}]', '{"slots": 3}', 5);

-- Reserved: other classes leave the slots, critical tasks take them, also all. At
-- 0 four low ones of six; at 10 both critical ones; then, with two critical tasks
-- running, nothing is kept for others any more.
SELECT jsonb_agg(jsonb_build_array(s -> 0, s -> 1)) FROM jsonb_array_elements(eduai.test_schedule('[
	{"priority": "low", "count": 6},
	{"priority": "critical", "first_us": 10, "count": 2},
	{"priority": "critical", "first_us": 2000, "count": 9}]',
	'{"slots": 6, "reserved": 2, "service_us": 1000}', 13)) s;

-- All slots reserved: only critical ones start.
SELECT jsonb_agg(s -> 0) FROM jsonb_array_elements(eduai.test_schedule('[
	{"priority": "high", "count": 5}, {"priority": "critical", "count": 5}]',
	'{"slots": 1, "reserved": 1}', 9)) s;

-- Critical tasks alone are 120 % of what a pool of 20 can do, and all classes wait:
-- the least share of each in the starts, and the longest run of starts without it.
CREATE FUNCTION pg_temp.shares(pool jsonb, lanes jsonb, n int)
	RETURNS TABLE (lane int, percent numeric, longest_gap bigint) LANGUAGE sql AS $$
	WITH starts AS (
		SELECT i, (s ->> 0)::int AS lane
		FROM jsonb_array_elements(eduai.test_schedule(lanes, pool, n)) WITH ORDINALITY x(s, i)),
	gaps AS (SELECT lane, i - lag(i, 1, 0::bigint) OVER (PARTITION BY lane ORDER BY i) AS gap FROM starts)
	SELECT lane, round(100.0 * count(*) / n, 1), max(gap) FROM gaps GROUP BY lane
$$;
-- each other class has waited so long that its time is over: by that alone they come first
SELECT lane, percent >= 5 AS enough, longest_gap <= 18 AS often
FROM pg_temp.shares('{"slots": 20, "reserved": 2, "service_us": 100000}', '[
	{"priority": "critical", "every_us": 4166},
	{"priority": "high", "first_us": -600000000, "every_us": 4166},
	{"priority": "normal", "first_us": -600000000, "every_us": 4166},
	{"priority": "low", "first_us": -900000000, "every_us": 4166}]', 4000)
ORDER BY lane;
-- all begin at once: critical tasks wait ever longer and by their time alone nothing else would start
SELECT lane, percent >= 5 AS enough, longest_gap <= 18 AS often
FROM pg_temp.shares('{"slots": 20, "reserved": 2, "service_us": 100000}', '[
	{"priority": "critical", "every_us": 4166}, {"priority": "high", "every_us": 4166},
	{"priority": "normal", "every_us": 4166}, {"priority": "low", "every_us": 4166}]', 4000)
ORDER BY lane;
SELECT lane, percent >= 5 AS enough, longest_gap <= 15 AS often
FROM pg_temp.shares('{"slots": 20, "reserved": 2, "service_us": 100000}', '[
	{"priority": "critical", "every_us": 4166}, {"priority": "low", "every_us": 1000}]', 8000)
WHERE lane = 1;
-- and the other way round: a mountain of old low tasks, and no slots kept; critical ones start within
-- their second and a choice or two, and low ones take what is left
SELECT lane, round(100.0 * count(*) / 6000) AS percent,
	CASE WHEN lane = 1 THEN max(waited_us) <= 1100000 END AS in_time
FROM (SELECT (s ->> 0)::int AS lane, (s ->> 2)::bigint AS waited_us
	FROM jsonb_array_elements(eduai.test_schedule('[
		{"priority": "low", "first_us": -900000000}, {"priority": "critical", "every_us": 10000}]',
		'{"slots": 20, "reserved": 0, "service_us": 100000}', 6000)) s) x
GROUP BY lane ORDER BY lane;

-- At 80 % load of all classes together, p99 of the waits is within each one's time.
SELECT (s ->> 0)::int AS lane, count(*) > 500 AS many,
	percentile_disc(0.99) WITHIN GROUP (ORDER BY (s ->> 2)::bigint) <=
		(ARRAY[1000000, 5000000, 30000000, 300000000])[(s ->> 0)::int + 1] AS in_time
FROM jsonb_array_elements(eduai.test_schedule('[
	{"priority": "critical", "every_us": 25000}, {"priority": "high", "every_us": 25000},
	{"priority": "normal", "every_us": 25000}, {"priority": "low", "every_us": 25000}]',
	'{"slots": 20, "reserved": 2, "service_us": 100000}', 4000)) s
GROUP BY 1, (s ->> 0)::int ORDER BY 1;

-- bad input, and whom it is for
SELECT eduai.test_schedule('[{"priority": "urgent"}]', '{}', 1);
CREATE ROLE regress_queue_schedule;
SET ROLE regress_queue_schedule;
\set VERBOSITY sqlstate
SELECT eduai.test_schedule('[]', '{}', 1);
RESET ROLE;
DROP ROLE regress_queue_schedule;
