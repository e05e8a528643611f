-- What each cached query costs and brings: counted by its text, shown to the
-- tenant's administrators and readers, and bounded.
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE TABLE book (id int PRIMARY KEY, title text);
INSERT INTO book SELECT i, 'title ' || i FROM generate_series(1, 50) i;
CREATE VIEW counts AS SELECT query, kind, calls, hits, computations AS computed, absent, expired, stale_refused AS stale, bypassed, not_stored, evictions, invalidations, entries, bytes > 0 AS has_bytes
	FROM eduai.cache_advice ORDER BY query COLLATE "C", kind;
CREATE FUNCTION ask(id int) RETURNS text LANGUAGE sql AS $$ SELECT eduai.cached_query('SELECT title FROM book WHERE id = $1', ARRAY[id::text], '1 min', '{book}')::text $$;
-- a query that hits; what parameters it had is nowhere
SELECT count(DISTINCT ask(7)) FROM generate_series(1, 30) i;
SELECT ask(8);
SELECT * FROM counts;
SELECT hit_ratio > 0.9, total_ms > 0, mean_ms * 2 = total_ms, max_ms <= total_ms, saved_ms = hits * mean_ms FROM eduai.cache_advice;
-- written
INSERT INTO book VALUES (51, 'x');
SELECT ask(7);
-- expired
SELECT eduai.test_clock('2 min');
SELECT ask(8);
SELECT eduai.test_clock('0');
-- deleted
SELECT eduai.cache_delete_tag('book');
SELECT ask(8);
-- not served after an own write, nor kept
BEGIN;
DELETE FROM book WHERE id = 51;
SELECT ask(8);
COMMIT;
SELECT * FROM counts;
-- a failed call is not counted
SELECT eduai.cached_query('SELECT 1 / (id - $1) AS x FROM book', '{1}');
SELECT calls FROM counts WHERE query LIKE '%1 / %';
-- another kind counts apart; evicted by the next
SELECT eduai.define_cache_kind('tiny', '1 min', 2);
SELECT count(eduai.cached_query('SELECT title FROM book WHERE id = $1', ARRAY[i::text], kind => 'tiny')) FROM generate_series(1, 25) i;
SELECT * FROM counts WHERE kind = 'tiny';
SELECT kind, advice FROM eduai.cache_advice WHERE calls > 10 ORDER BY kind;
-- one that is written each time
DO $$ BEGIN FOR i IN 1 .. 25 LOOP PERFORM eduai.cached_query('SELECT count(*) AS n FROM book'); COMMIT; UPDATE book SET title = title WHERE id = 1; COMMIT; END LOOP; END $$;
SELECT calls, hits, stale_refused, advice FROM eduai.cache_advice WHERE query LIKE '%count(*)%';
-- who may see it, and whose
CREATE ROLE advised_app;
CREATE ROLE advised_reader;
GRANT eduai_app TO advised_app;
GRANT eduai_reader TO advised_reader;
SET ROLE advised_app;
SELECT count(*) FROM eduai.cache_advice;
SELECT count(*) FROM eduai.cache_advice_rows();
RESET ROLE;
SELECT eduai.allow_tenant('advised_reader', 'other');
SET ROLE advised_reader;
SET eduai.tenant = 'other';
SELECT count(*) FROM eduai.cache_advice;
SET eduai.tenant = 'default';
SELECT count(*) FROM eduai.cache_advice;
RESET ROLE;
RESET eduai.tenant;
-- a long text is cut, where a character ends
SELECT eduai.cached_query('SELECT ''' || repeat('é', 600) || ''' AS é');
SELECT octet_length(query), right(query, 1) FROM eduai.cache_advice WHERE query LIKE '%éé%';
-- 512 places of the server: more texts take the places of those called longest ago
DO $$ BEGIN FOR i IN 1 .. 3000 LOOP PERFORM eduai.cached_query('SELECT ' || i || ' AS a'); END LOOP; END $$;
SELECT count(*), count(*) FILTER (WHERE query LIKE 'SELECT 1 AS%') FROM eduai.cache_advice;
SELECT sum(entries) <= (SELECT sum(entries) FROM eduai.cache_stats), bool_and(entries BETWEEN 0 AND 1000 AND bytes >= 0) FROM eduai.cache_advice;
SELECT eduai.cache_clear() > 1000;
SELECT sum(entries), sum(bytes) FROM eduai.cache_advice;
DROP ROLE advised_app;
DELETE FROM eduai.tenant_binding WHERE role = 'advised_reader';
DROP ROLE advised_reader;
DROP FUNCTION ask;
DROP VIEW counts;
DROP TABLE book;
