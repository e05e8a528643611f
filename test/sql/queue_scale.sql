-- A pool's size between max_concurrent and scale_to, input by input.
\pset format unaligned
\pset tuples_only on

-- inputs every so many ms, with the same content
CREATE FUNCTION pg_temp.steps(from_ms int, to_ms int, every_ms int, rest jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(jsonb_build_object('at_ms', at, 'least', 3, 'most', 30) || rest ORDER BY at)
	FROM generate_series(from_ms, to_ms, every_ms) at
$$;

-- one more each second while something waits, however often it is asked; not above scale_to
SELECT eduai.test_scale(pg_temp.steps(1000, 4000, 250, '{"waiting": true, "running": 3}'));
SELECT eduai.test_scale(pg_temp.steps(1000, 9000, 1000, '{"waiting": true, "most": 6}'));
-- a tenth when that is more
SELECT eduai.test_scale(pg_temp.steps(1000, 8000, 1000, '{"waiting": true, "least": 90, "most": 150}'));
-- nothing waits: nothing grows
SELECT eduai.test_scale(pg_temp.steps(1000, 4000, 1000, '{"running": 3}'));
-- a pool that does not scale
SELECT eduai.test_scale(pg_temp.steps(1000, 4000, 1000, '{"waiting": true, "most": 3}'));

-- Pushed back: half, not below max_concurrent, once in 5 s; and no growth in the second after.
SELECT eduai.test_scale(
	pg_temp.steps(1000, 1000, 1, '{"least": 20}') ||
	pg_temp.steps(2000, 8000, 1000, '{"waiting": true, "pushback": true}') ||
	pg_temp.steps(8500, 10000, 500, '{"waiting": true}'));

-- Idle: after 30 s one less each 5 s; what runs or waits meanwhile begins the 30 s anew.
SELECT eduai.test_scale(
	pg_temp.steps(1000, 5000, 1000, '{"waiting": true, "running": 3}') ||
	pg_temp.steps(35000, 60000, 5000, '{"running": 1}'));
SELECT eduai.test_scale(
	pg_temp.steps(1000, 5000, 1000, '{"waiting": true, "running": 3}') ||
	pg_temp.steps(10000, 30000, 10000, '{"running": 1}') ||
	pg_temp.steps(38000, 38000, 1, '{"running": 8}') ||
	pg_temp.steps(39000, 79000, 10000, '{"running": 1}'));

-- other limits hold at once
SELECT eduai.test_scale('[
	{"at_ms": 1000, "least": 3, "most": 30}, {"at_ms": 1001, "least": 10, "most": 30},
	{"at_ms": 1002, "least": 2, "most": 4}, {"at_ms": 1003, "least": 1, "most": 1}]');

-- over the course of a burst of five minutes and the quiet after it: the most, and the seconds when
-- it was reached and when the pool was back
SELECT max(size), min(i) FILTER (WHERE size = 30), min(i) FILTER (WHERE size = 3 AND i > 300)
FROM unnest(eduai.test_scale(
	pg_temp.steps(1000, 300000, 1000, '{"waiting": true, "running": 30}') ||
	pg_temp.steps(301000, 900000, 1000, '{"running": 0}'))) WITH ORDINALITY x(size, i);
