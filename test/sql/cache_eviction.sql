-- simulate_cache(): the eviction code over seeded traces.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

-- everything fits: each key misses once, whatever the policy
SELECT a, eduai.simulate_cache(a, '{"requests": 100000, "keys": 50, "capacity": 50, "zipf": 0}', 7) FROM unnest(ARRAY['s3fifo', 'lru']) a;
-- one place, and one key that comes between
SELECT a, eduai.simulate_cache(a, '{"requests": 10000, "keys": 1, "capacity": 1, "scan_every": 10000, "scan_length": 1}', 7) FROM unnest(ARRAY['s3fifo', 'lru']) a;
-- a seed is a trace
SELECT eduai.simulate_cache('s3fifo', '{"requests": 50000}', 3) = eduai.simulate_cache('s3fifo', '{"requests": 50000}', 3),
	eduai.simulate_cache('s3fifo', '{"requests": 50000}', 3) <> eduai.simulate_cache('s3fifo', '{"requests": 50000}', 4);
-- beside LRU, with and without scans
SELECT zipf, scan, s > l AS better, s, l FROM (
	SELECT zipf, scan,
		(eduai.simulate_cache('s3fifo', scenario)->>'hit_ratio')::numeric AS s,
		(eduai.simulate_cache('lru', scenario)->>'hit_ratio')::numeric AS l
	FROM unnest(ARRAY[0.7, 0.9, 1.1]) zipf, unnest(ARRAY[0, 5000]) scan,
		LATERAL (SELECT jsonb_build_object('requests', 200000, 'keys', 20000, 'capacity', 2000, 'zipf', zipf, 'scan_every', scan * 4, 'scan_length', scan)) t (scenario)) r
ORDER BY zipf, scan;

SELECT pg_temp.fails($$SELECT eduai.simulate_cache('fifo')$$);
SELECT pg_temp.fails($$SELECT eduai.simulate_cache('lru', '[]')$$);
SELECT pg_temp.fails($$SELECT eduai.simulate_cache('lru', '{"key": 1}')$$);
SELECT pg_temp.fails($$SELECT eduai.simulate_cache('lru', '{"keys": 0}')$$);
SELECT pg_temp.fails($$SELECT eduai.simulate_cache('lru', '{"keys": "many"}')$$);
