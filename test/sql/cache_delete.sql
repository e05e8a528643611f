-- cache_delete(), cache_delete_tag(), cache_delete_pattern(), cache_clear(), and
-- what may be stored after them.
\pset format unaligned
\pset tuples_only on
SELECT eduai.allow_tenant(current_user, 'cache_delete'), eduai.allow_tenant(current_user, 'cache_delete_2'), eduai.allow_tenant(current_user, 'default');
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION pg_temp.there() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(key, ' ') FROM eduai.cache_mget(ARRAY['student:1:a', 'student:1:b', 'student:10:a', 'student:100:a', 'class:1', 'x', 'é1'])
	WHERE value IS NOT NULL $$;
CREATE FUNCTION pg_temp.fill() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM eduai.cache_set('student:1:a', '1', tags => '{student:1,class:1}');
	PERFORM eduai.cache_set('student:1:b', '1', tags => '{student:1}');
	PERFORM eduai.cache_set('student:10:a', '1', tags => '{student:10}');
	PERFORM eduai.cache_set('student:100:a', '1', tags => '{student:100}');
	PERFORM eduai.cache_set('class:1', '1', tags => '{class:1}');
	PERFORM eduai.cache_set('x', '1');
	PERFORM eduai.cache_set('é1', '1');
	RETURN pg_temp.there();
END $$;
SET eduai.tenant = 'cache_delete_2';
SELECT pg_temp.fill();
SET eduai.tenant = 'cache_delete';

-- by key
SELECT pg_temp.fill();
SELECT eduai.cache_delete('x'), eduai.cache_delete('x'), eduai.cache_delete('nobody');
SELECT pg_temp.there();

-- by tag: exactly that one
SELECT pg_temp.fill();
SELECT eduai.cache_delete_tag('student:1');
SELECT pg_temp.there();
SELECT pg_temp.fill();
SELECT eduai.cache_delete_tag('class:1'), eduai.cache_delete_tag('student:'), eduai.cache_delete_tag('nobody');
SELECT pg_temp.there();

-- by pattern: the whole key, characters and not bytes
CREATE FUNCTION pg_temp.matched(pattern text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	PERFORM pg_temp.fill();
	n := eduai.cache_delete_pattern(pattern);
	RETURN concat_ws(' | ', pattern, n, pg_temp.there());
END $$;
SELECT pg_temp.matched(p) FROM unnest(ARRAY['student:1:*', 'student:1*', 'student:1', '*:1', 'student:?:a', 'student:??:?', '?1', '?', '??', '*1*', 'x*', '*x', '**', '*?*?*?*?*?*?*', 'student\:1:*', '[a-z]*']) WITH ORDINALITY t (p, n) ORDER BY n;
SELECT pg_temp.fails($$SELECT eduai.cache_delete_pattern('')$$);
SELECT left(pg_temp.fails($$SELECT eduai.cache_delete_pattern(repeat('*a', 200))$$), 40);
SELECT pg_temp.fails($$SELECT eduai.cache_delete_tag('')$$);

-- the other tenant has lost nothing
SET eduai.tenant = 'cache_delete_2';
SELECT pg_temp.there();
SELECT eduai.cache_clear(), pg_temp.there() IS NULL;
SET eduai.tenant = 'cache_delete';
SELECT pg_temp.fill() IS NOT NULL, eduai.cache_clear() = 7, eduai.cache_clear();

-- what was read before a deletion is not stored after it
CREATE TABLE cache_delete_t (n int);
CREATE FUNCTION pg_temp.late(snapshot pg_snapshot, old_key text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', eduai.cache_set(old_key, '"old"', built_at => snapshot), eduai.cache_get(old_key)) $$;
SELECT pg_current_snapshot() AS before \gset
INSERT INTO cache_delete_t VALUES (1);
SELECT eduai.cache_delete('late:1');
SELECT pg_temp.late(:'before', 'late:1'), pg_temp.late(:'before', 'late:2');
SELECT eduai.cache_delete_pattern('late:*');
SELECT pg_temp.late(:'before', 'late:1'), pg_temp.late(:'before', 'late:3'), pg_temp.late(:'before', 'early:1');
SELECT eduai.cache_set('late:4', '"old"', tags => '{late}', built_at => :'before');
SELECT eduai.cache_delete_tag('late');
SELECT eduai.cache_set('other:4', '"old"', tags => '{late}', built_at => :'before');
SELECT pg_current_snapshot() AS after \gset
SELECT pg_temp.late(:'after', 'late:1'), eduai.cache_set('other:4', '"new"', tags => '{late}'), eduai.cache_get('other:4');
SELECT eduai.cache_clear();
SELECT pg_temp.late(:'before', 'early:1');

-- nor does it take the place of what was read later
SELECT pg_current_snapshot() AS before \gset
INSERT INTO cache_delete_t VALUES (1);
SELECT eduai.cache_set('place', '"new"'), pg_temp.late(:'before', 'place'), pg_temp.late(:'before', 'elsewhere');
SELECT pg_temp.fails($$SELECT eduai.cache_set('k', '1', built_at => '1:2')$$);

-- the log of deletions is short: what it lost refuses more, never less
SELECT pg_current_snapshot() AS before \gset
INSERT INTO cache_delete_t VALUES (2);
SELECT eduai.cache_delete('lost');
SELECT count(eduai.cache_delete('lost:' || i)) FROM generate_series(1, 6000) i;
SELECT pg_temp.late(:'before', 'lost');
SELECT pg_current_snapshot() AS before \gset
INSERT INTO cache_delete_t VALUES (2);
SELECT eduai.cache_delete_pattern('pattern:*');
SELECT count(eduai.cache_delete_pattern('none:' || i)) FROM generate_series(1, 40) i;
SELECT pg_temp.late(:'before', 'pattern:1');
SELECT eduai.cache_set('lost', '"new"'), eduai.cache_get('lost');

-- a transaction that has written does not find what it deleted
BEGIN;
INSERT INTO cache_delete_t VALUES (3);
SELECT eduai.cache_delete('lost'), eduai.cache_get('lost') IS NULL, eduai.cache_set('lost', '1');
ROLLBACK;
SELECT eduai.cache_get('lost') IS NULL, eduai.cache_set('lost', '"again"'), eduai.cache_get('lost');

SELECT eduai.cache_clear() > 0;
RESET eduai.tenant;
SELECT eduai.disallow_tenant(current_user, t) FROM unnest(ARRAY['cache_delete', 'cache_delete_2', 'default']) t;
DROP TABLE cache_delete_t;
