-- define_cache_kind(), the most entries of a kind, cache_stats.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT eduai.define_cache_kind('ck_small', '1 min', 10);
SELECT eduai.define_cache_kind('ck_plain', '1 min');
SELECT kind, entries, hits, misses, hit_ratio, computations, stale_refused, evictions, expirations, invalidations, bytes, raw_bytes
	FROM eduai.cache_stats WHERE kind LIKE 'ck\_%' ORDER BY kind;

-- ten, not eleven
SELECT count(*) FILTER (WHERE eduai.cache_set('ck:' || i, to_jsonb(i), kind => 'ck_small')) FROM generate_series(1, 11) i;
SELECT entries, evictions FROM eduai.cache_stats WHERE kind = 'ck_small';
SELECT count(*) FROM generate_series(1, 11) i WHERE eduai.cache_get('ck:' || i) = to_jsonb(i);
-- the same key again takes no place
SELECT count(*) FILTER (WHERE eduai.cache_set('ck:11', to_jsonb(i), kind => 'ck_small')) FROM generate_series(1, 5) i;
SELECT entries, evictions FROM eduai.cache_stats WHERE kind = 'ck_small';
-- a key moves to another kind
SELECT eduai.cache_set('ck:11', '"moved"', kind => 'ck_plain'), eduai.cache_get('ck:11');
SELECT kind, entries, evictions FROM eduai.cache_stats WHERE kind LIKE 'ck\_%' ORDER BY kind;
-- the thousandth and first
SELECT count(*) FILTER (WHERE eduai.cache_set('ck:p' || i, to_jsonb(i), kind => 'ck_plain')) FROM generate_series(1, 1000) i;
SELECT entries, evictions FROM eduai.cache_stats WHERE kind = 'ck_plain';
SELECT count(*) FROM generate_series(1, 1000) i WHERE eduai.cache_get('ck:p' || i) = to_jsonb(i);
-- a smaller limit holds from the next value on
SELECT eduai.define_cache_kind('ck_small', '1 min', 4);
SELECT eduai.cache_set('ck:20', '20', kind => 'ck_small');
SELECT entries FROM eduai.cache_stats WHERE kind = 'ck_small';

-- what was used stays when a scan passes
SELECT eduai.define_cache_kind('ck_scan', '1 min', 100);
SELECT count(eduai.cache_set('ck:hot' || i, '1', kind => 'ck_scan')) FROM generate_series(1, 50) i;
SELECT count(eduai.cache_get('ck:hot' || i)) FROM generate_series(1, 50) i, generate_series(1, 3);
SELECT count(eduai.cache_set('ck:scan' || i, '1', kind => 'ck_scan')) FROM generate_series(1, 1000) i;
SELECT count(eduai.cache_get('ck:hot' || i)) FROM generate_series(1, 50) i;

-- counting: a miss belongs to the kind that the key is then set with
SELECT eduai.define_cache_kind('ck_count', '1 min');
SELECT eduai.cache_get('ck:c'), eduai.cache_set('ck:c', to_jsonb(repeat('x', 3000)), kind => 'ck_count');
SELECT count(eduai.cache_get('ck:c')) FROM generate_series(1, 3);
SELECT eduai.cache_delete('ck:c');
SELECT eduai.cache_set('ck:c', to_jsonb(repeat('x', 3000)), kind => 'ck_count');
SELECT entries, hits, misses, hit_ratio, computations, stale_refused, evictions, expirations, invalidations, bytes, raw_bytes > 3000, packed_bytes < 100 FROM eduai.cache_stats WHERE kind = 'ck_count';

SELECT pg_temp.fails($$SELECT eduai.define_cache_kind('', '1 min')$$);
SELECT pg_temp.fails($$SELECT eduai.define_cache_kind(repeat('k', 64), '1 min')$$);
SELECT pg_temp.fails($$SELECT eduai.define_cache_kind('k', '0')$$);
SELECT pg_temp.fails($$SELECT eduai.define_cache_kind('k', NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.define_cache_kind('k', '1 min', 0)$$);
SET ROLE eduai_app;
SELECT pg_temp.fails($$SELECT eduai.define_cache_kind('k', '1 min')$$);
RESET ROLE;
-- a definition that is rolled back was none
BEGIN;
SELECT eduai.define_cache_kind('ck_never', '1 min');
SELECT count(*) FROM eduai.cache_stats WHERE kind = 'ck_never';
ROLLBACK;
SELECT pg_temp.fails($$SELECT eduai.cache_set('k', '1', kind => 'ck_never')$$);

SELECT eduai.cache_delete_pattern('ck:*') > 0;
SELECT kind, entries, bytes, raw_bytes, packed_bytes FROM eduai.cache_stats WHERE kind LIKE 'ck\_%' ORDER BY kind;
DELETE FROM eduai.cache_kind WHERE name LIKE 'ck\_%';
