-- cache_set(), cache_get(), cache_lookup(), cache_mget(): values, keys, times,
-- tenants, and what is refused.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_cache_values;
GRANT eduai_app TO regress_cache_values;
SELECT eduai.allow_tenant('regress_cache_values', 'cache_a');
SELECT eduai.allow_tenant('regress_cache_values', 'cache_b');
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
	h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, ''), nullif(h, ''));
END $$;
SELECT eduai.define_cache_kind('cache_values', '1 hour', 5000);
SET ROLE regress_cache_values;
SET eduai.tenant = 'cache_a';

-- what was set, whatever it is
SELECT eduai.cache_set('v:' || i, v, kind => 'cache_values') FROM (VALUES (1, '{"a": [1, 2.50, "x"]}'::jsonb), (2, 'null'), (3, '""'), (4, '[]'), (5, '-1e10')) AS t (i, v) ORDER BY i;
SELECT i, eduai.cache_get('v:' || i), l.hit, l.value FROM generate_series(1, 6) i, eduai.cache_lookup('v:' || i) l ORDER BY i;
SELECT eduai.cache_set('v:1', '2'), eduai.cache_get('v:1');

-- the rows of mget are those of its keys, repeated ones and missing ones too
SELECT m.* FROM eduai.cache_mget(ARRAY['v:3', 'nobody', 'v:1', 'v:3', NULL, 'v:2']) WITH ORDINALITY m (key, value, n) ORDER BY n;
SELECT count(*) FROM eduai.cache_mget('{}');

-- values of all sizes come back as they were
SELECT bool_and(eduai.cache_set('s:' || n, to_jsonb(repeat('abcdefg', n)), kind => 'cache_values')) FROM generate_series(0, 3000, 37) n;
SELECT count(*) FROM generate_series(0, 3000, 37) n WHERE eduai.cache_get('s:' || n) IS DISTINCT FROM to_jsonb(repeat('abcdefg', n));
-- and those that cannot be packed
CREATE TEMP TABLE noise AS SELECT n, to_jsonb((SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, n) i)) AS value FROM generate_series(1, 200, 7) n;
SELECT bool_and(eduai.cache_set('n:' || n, value, kind => 'cache_values')) FROM noise;
SELECT count(*) FROM noise WHERE eduai.cache_get('n:' || n) IS DISTINCT FROM value;
-- ten megabytes
SELECT eduai.cache_set('large', to_jsonb(repeat('0123456789', 1024 * 1024)));
SELECT md5(eduai.cache_get('large')::text) = md5(to_jsonb(repeat('0123456789', 1024 * 1024))::text);
-- keys: any text of 1 to 1024 bytes
SELECT eduai.cache_set(k, to_jsonb(k)), eduai.cache_get(k) = to_jsonb(k) FROM (VALUES (' '), ('ключ'), (E'new\nline'), ('%'), ('*'), (repeat('k', 1024))) AS t (k);
SELECT pg_temp.fails($$SELECT eduai.cache_set('', '1')$$);
SELECT pg_temp.fails($$SELECT eduai.cache_get('')$$);
SELECT left(pg_temp.fails($$SELECT eduai.cache_set(repeat('é', 513), '1')$$), 60);
SELECT left(pg_temp.fails($$SELECT eduai.cache_get(repeat('x', 1048576))$$), 60);
SELECT pg_temp.fails($$SELECT eduai.cache_set(NULL, '1')$$);
SELECT pg_temp.fails($$SELECT eduai.cache_set('k', NULL)$$);
SELECT eduai.cache_get(NULL) IS NULL;
SELECT pg_temp.fails($$SELECT eduai.cache_set('k', '1', kind => 'nobody''s')$$);
SELECT pg_temp.fails($$SELECT eduai.cache_set('k', '1', '0 s')$$);
SELECT pg_temp.fails($$SELECT eduai.cache_set('k', '1', '-1 day')$$);
SELECT pg_temp.fails($$SELECT eduai.cache_set('k', '1', '100 years')$$);
SELECT pg_temp.fails($$SELECT eduai.cache_set('k', '1', tags => ARRAY['a', NULL])$$);
SELECT pg_temp.fails($$SELECT eduai.cache_set('k', '1', tags => '{""}')$$);
SELECT pg_temp.fails($$SELECT eduai.cache_set('k', '1', tags => ARRAY(SELECT 't' || i FROM generate_series(1, 33) i))$$);
SELECT eduai.cache_set('k', '1', tags => ARRAY(SELECT 't' || i FROM generate_series(1, 32) i));

-- tenants have keys of their own
SET eduai.tenant = 'cache_b';
SELECT eduai.cache_get('v:1') IS NULL, eduai.cache_set('v:1', '"b"'), eduai.cache_get('v:1');
SET eduai.tenant = 'cache_a';
SELECT eduai.cache_get('v:1');
SET eduai.tenant = 'cache_c';
SELECT pg_temp.fails($$SELECT eduai.cache_get('v:1')$$);
SET eduai.tenant = 'cache_b';
SELECT eduai.cache_clear(), eduai.cache_get('v:1') IS NULL;
SET eduai.tenant = 'cache_a';
SELECT eduai.cache_get('v:1');

-- a time to live, on a clock that tests move: the kinds' and one's own
SELECT eduai.cache_set('t:' || kind, '1', kind => kind) FROM unnest(ARRAY['default', 'query', 'recommendations', 'progress', 'hierarchy']) kind;
SELECT eduai.cache_set('t:own', '1', '10 s', kind => 'hierarchy');
RESET ROLE;
CREATE FUNCTION pg_temp.alive(after interval) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM eduai.test_clock(after);
	RETURN QUERY SELECT key FROM eduai.cache_mget(ARRAY['t:own', 't:default', 't:query', 't:recommendations', 't:progress', 't:hierarchy']) WHERE value IS NOT NULL;
	PERFORM eduai.test_clock('0');
END $$;
SELECT eduai.allow_tenant(current_user, 'cache_a');
SELECT after, string_agg(key, ' ') FROM unnest(ARRAY['0 s', '9 s', '11 s', '290 s', '310 s', '890 s', '910 s', '59 min', '61 min', '23 h', '25 h']::interval[]) WITH ORDINALITY t (after, n), pg_temp.alive(after) key GROUP BY after, n ORDER BY n;
SELECT kind, expirations > 0 FROM eduai.cache_stats WHERE kind IN ('query', 'recommendations', 'progress', 'hierarchy') ORDER BY kind;

-- a value outlives its transaction, unless that one has written: then there is none
BEGIN;
SELECT eduai.cache_set('x:1', '1'), eduai.cache_get('x:1');
ROLLBACK;
SELECT eduai.cache_get('x:1');
CREATE TABLE cache_values_t (n int);
BEGIN;
INSERT INTO cache_values_t VALUES (1);
SELECT eduai.cache_set('x:2', (SELECT to_jsonb(count(*)) FROM cache_values_t));
ROLLBACK;
SELECT eduai.cache_get('x:2') IS NULL;

SELECT eduai.cache_clear() > 0;
SELECT eduai.disallow_tenant(current_user, 'cache_a');
SELECT eduai.disallow_tenant('regress_cache_values', 'cache_a'), eduai.disallow_tenant('regress_cache_values', 'cache_b');
DROP TABLE cache_values_t, noise;
DELETE FROM eduai.cache_kind WHERE name = 'cache_values';
REVOKE eduai_app FROM regress_cache_values;
DROP ROLE regress_cache_values;
