-- Dictionaries: made by a process of its own, and every value still opens.
\pset format unaligned
\pset tuples_only on
SELECT eduai.define_cache_kind('cz', '1 hour', 5000), eduai.define_cache_kind('cz_never', '1 hour', 5000, train => false);
CREATE FUNCTION pg_temp.doc(i int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('user_id', 'student-' || i, 'current_level', i % 10, 'last_activity', '2026-03-01T10:' || lpad((i % 60)::text, 2, '0') || ':00Z',
		'skills', jsonb_object_agg('skill_' || s, jsonb_build_object('mastery', (hashint4(i * 31 + s) & 1023) / 1024.0, 'attempts', hashint4(i + s * 7) & 31, 'correct', hashint4(i * 3 + s) & 15)))
	FROM generate_series(1, 8 + i % 8) s $$;
CREATE FUNCTION pg_temp.put(cache_kind text, first int, last int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FILTER (WHERE eduai.cache_set(cache_kind || ':' || i, pg_temp.doc(i), kind => cache_kind)) FROM generate_series(first, last) i $$;
CREATE FUNCTION pg_temp.wrong(cache_kind text, first int, last int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM generate_series(first, last) i WHERE eduai.cache_get(cache_kind || ':' || i) IS DISTINCT FROM pg_temp.doc(i) $$;
CREATE FUNCTION pg_temp.ratio(cache_kind text) RETURNS double precision LANGUAGE sql AS $$
	SELECT raw_bytes::float8 / packed_bytes FROM eduai.cache_stats WHERE kind = cache_kind $$;

SELECT dictionaries AS before FROM eduai.cache_memory() \gset
SELECT pg_temp.put('cz', 1, 199), pg_temp.put('cz_never', 1, 400);
SELECT pg_temp.put('cz', 200, 200);
DO $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		EXIT WHEN (SELECT dictionaries FROM eduai.cache_memory()) > 0;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT dictionaries - :before FROM eduai.cache_memory();
-- old and new values, packed with and without
SELECT pg_temp.put('cz', 201, 400);
SELECT pg_temp.wrong('cz', 1, 400), pg_temp.wrong('cz_never', 1, 400);
-- all of them with it: much smaller than zstd makes them alone
SELECT pg_temp.put('cz', 1, 400), pg_temp.wrong('cz', 1, 400);
SELECT pg_temp.ratio('cz') > 1.8 * pg_temp.ratio('cz_never');
-- another session opens them, too
\c -
SELECT count(*) FROM generate_series(1, 400) i WHERE eduai.cache_get('cz:' || i)->>'user_id' = 'student-' || i;
-- a dictionary goes with its last value
SELECT eduai.cache_delete_pattern('cz:*'), eduai.cache_delete_pattern('cz_never:*');
SELECT eduai.cache_clear() >= 0;
SELECT dictionaries <= :before FROM eduai.cache_memory();
DELETE FROM eduai.cache_kind WHERE name IN ('cz', 'cz_never');
