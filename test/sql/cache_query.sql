-- cached_query(): what a result depends on, whoever wrote it and however.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA cache_query;
SET search_path = cache_query;
CREATE FUNCTION asked(query text, VARIADIC params text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := eduai.test_cache_computed();
	rows jsonb := eduai.cached_query(query, params);
BEGIN
	RETURN CASE WHEN eduai.test_cache_computed() = before THEN 'hit ' ELSE 'computed ' END || rows;
END $$;
CREATE TABLE a (id int PRIMARY KEY, v text);
CREATE TABLE b (id int REFERENCES a ON DELETE CASCADE, w numeric);
CREATE TABLE other (id int);
INSERT INTO a VALUES (1, 'x'), (2, NULL);
INSERT INTO b VALUES (1, 1.50), (2, 2);
-- rows are objects, in the query's order; none is an empty array; a semicolon and a comment end a query
SELECT asked('SELECT id, v FROM a ORDER BY id DESC');
SELECT asked('SELECT id, v FROM a ORDER BY id DESC');
SELECT asked('SELECT 1 WHERE false');
SELECT asked('SELECT id FROM a WHERE id = 1; -- that is all');
SELECT asked('TABLE a'), asked('VALUES (1, ''b''), (2, $1)', 'c');
-- the same text with other parameters is another key; a null is not an empty text
SELECT asked('SELECT v FROM a WHERE id = $1', '1'), asked('SELECT v FROM a WHERE id = $1', '2'), asked('SELECT v FROM a WHERE id = $1', '1');
SELECT asked('SELECT $1::text AS t', ''), asked('SELECT $1::text AS t', NULL), asked('SELECT $1::text AS t', '');
-- writes of the tables that it reads, and of no other
INSERT INTO other VALUES (1);
SELECT asked('SELECT id, v FROM a ORDER BY id DESC');
UPDATE a SET v = 'y' WHERE id = 2;
SELECT asked('SELECT id, v FROM a ORDER BY id DESC');
CREATE VIEW both_of AS SELECT a.id, v, w FROM a JOIN b USING (id);
SELECT asked('SELECT * FROM both_of ORDER BY id');
SELECT asked('SELECT * FROM both_of ORDER BY id');
DELETE FROM a WHERE id = 2;
SELECT asked('SELECT * FROM both_of ORDER BY id');
SELECT asked('SELECT count(*) FROM b'), asked('SELECT count(*) FROM b');
COPY b FROM stdin;
1	7
\.
SELECT asked('SELECT count(*) FROM b');
TRUNCATE b;
SELECT asked('SELECT count(*) FROM b');
-- a sub-select, a CTE, an EXISTS
SELECT asked('WITH c AS (SELECT max(id) AS m FROM other) SELECT m, EXISTS (SELECT FROM b) AS e FROM c');
SELECT asked('WITH c AS (SELECT max(id) AS m FROM other) SELECT m, EXISTS (SELECT FROM b) AS e FROM c');
INSERT INTO b VALUES (1, 1);
SELECT asked('WITH c AS (SELECT max(id) AS m FROM other) SELECT m, EXISTS (SELECT FROM b) AS e FROM c');

-- partitions: written through the parent, directly, new, detached
CREATE TABLE part (id int, v int) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10) PARTITION BY LIST (v);
CREATE TABLE part_11 PARTITION OF part_1 DEFAULT;
SELECT asked('SELECT count(*) FROM part'), asked('SELECT count(*) FROM part');
INSERT INTO part VALUES (1, 1);
SELECT asked('SELECT count(*) FROM part'), asked('SELECT count(*) FROM part');
INSERT INTO part_11 VALUES (2, 1);
SELECT asked('SELECT count(*) FROM part');
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20);
INSERT INTO part_2 VALUES (12, 1);
SELECT asked('SELECT count(*) FROM part');
TRUNCATE part_2;
SELECT asked('SELECT count(*) FROM part');
ALTER TABLE part DETACH PARTITION part_1;
SELECT asked('SELECT count(*) FROM part');
-- inheritance
CREATE TABLE child () INHERITS (other);
SELECT asked('SELECT count(*) FROM other'), asked('SELECT count(*) FROM other');
INSERT INTO child VALUES (5);
SELECT asked('SELECT count(*) FROM other');

-- definitions
DROP VIEW both_of;
ALTER TABLE a ALTER COLUMN v TYPE text USING v || '!';
SELECT asked('SELECT id, v FROM a ORDER BY id DESC');
CREATE VIEW both_of AS SELECT a.id, v, w FROM a JOIN b USING (id);
SELECT asked('SELECT * FROM both_of ORDER BY id');
CREATE OR REPLACE VIEW both_of AS SELECT a.id, v, w + 1 AS w FROM a JOIN b USING (id);
SELECT asked('SELECT * FROM both_of ORDER BY id');
CREATE MATERIALIZED VIEW m AS SELECT sum(w) AS w FROM b;
SELECT asked('SELECT w FROM m'), asked('SELECT w FROM m');
INSERT INTO b VALUES (1, 10);
SELECT asked('SELECT w FROM m');
REFRESH MATERIALIZED VIEW m;
SELECT asked('SELECT w FROM m');
CREATE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 2 * $1; END';
SELECT asked('SELECT twice(id) FROM a'), asked('SELECT twice(id) FROM a');
CREATE OR REPLACE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 20 * $1; END';
SELECT asked('SELECT twice(id) FROM a');
-- a function that fits better
SELECT asked('SELECT twice(id) FROM a');
CREATE FUNCTION twice(bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'bigint'$$;
SELECT asked('SELECT twice(id::bigint) FROM a');
SELECT asked('SELECT twice(id) FROM a');
-- another table of the name comes first, also for who makes it and takes it back
CREATE SCHEMA cache_query_first;
SET search_path = cache_query_first, cache_query;
SELECT asked('SELECT id, v FROM a ORDER BY id DESC');
BEGIN;
CREATE TABLE cache_query_first.a AS SELECT 6 AS id, 'six' AS v;
SELECT asked('SELECT id, v FROM a ORDER BY id DESC');
ROLLBACK;
SELECT asked('SELECT id, v FROM a ORDER BY id DESC');
CREATE TABLE cache_query_first.a AS SELECT 7 AS id, 'seven' AS v;
SELECT asked('SELECT id, v FROM a ORDER BY id DESC');
SET search_path = cache_query;
SELECT asked('SELECT id, v FROM a ORDER BY id DESC');

-- this transaction's own writes, and those that a savepoint took back
SELECT asked('SELECT count(*) FROM b'), asked('SELECT count(*) FROM b');
BEGIN;
SELECT asked('SELECT count(*) FROM b');
SAVEPOINT s;
INSERT INTO b VALUES (1, 2);
SELECT asked('SELECT count(*) FROM b');
ROLLBACK TO s;
SELECT asked('SELECT count(*) FROM b');
INSERT INTO b VALUES (1, 2);
SELECT asked('SELECT count(*) FROM b'), asked('SELECT count(*) FROM b');
ROLLBACK;
SELECT asked('SELECT count(*) FROM b');
-- what a statement has written is there for what it calls
CREATE FUNCTION count_b() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE '%', asked('SELECT count(*) FROM b'); RETURN NULL; END $$;
CREATE TRIGGER a_count AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION count_b();
INSERT INTO b VALUES (1, 3);
DROP TRIGGER a_count ON b;
-- statistics switched off: whatever it wrote
SELECT asked('SELECT count(*) FROM b'), asked('SELECT count(*) FROM b');
BEGIN;
SET LOCAL track_counts = off;
INSERT INTO b VALUES (1, 4);
SET LOCAL track_counts = on;
SELECT asked('SELECT count(*) FROM b');
COMMIT;
SELECT asked('SELECT count(*) FROM b');
-- prepared: not there, then there
BEGIN;
INSERT INTO b VALUES (1, 5);
PREPARE TRANSACTION 'cache_query';
SELECT asked('SELECT count(*) FROM b'), asked('SELECT count(*) FROM b');
COMMIT PREPARED 'cache_query';
SELECT asked('SELECT count(*) FROM b');
-- SERIALIZABLE always computes
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT asked('SELECT count(*) FROM b');
COMMIT;
SELECT asked('SELECT count(*) FROM b');

-- settings that make another text of a value
SELECT asked('SELECT timestamptz ''2026-01-02 03:04:05+00'' AS t'), asked('SELECT timestamptz ''2026-01-02 03:04:05+00'' AS t');
SET timezone = 'Asia/Tokyo';
SELECT asked('SELECT timestamptz ''2026-01-02 03:04:05+00'' AS t');
SET timezone = 'UTC';
SELECT asked('SELECT timestamptz ''2026-01-02 03:04:05+00'' AS t');
-- and those that literals are read by: the statement is parsed anew
SET datestyle = 'ISO, MDY';
SELECT asked('SELECT ''01/02/2026''::date AS d, ''2026-01-01 00:00''::timestamptz = ''2026-01-01 00:00+00'' AS same');
SET datestyle = 'ISO, DMY';
SET timezone = 'Asia/Tokyo';
SELECT asked('SELECT ''01/02/2026''::date AS d, ''2026-01-01 00:00''::timestamptz = ''2026-01-01 00:00+00'' AS same');
RESET datestyle;
SET timezone = 'UTC';
SET app.class = 'a';
SELECT asked('SELECT current_setting(''app.class'', true) AS c'), asked('SELECT current_setting(''app.class'', true) AS c');
SET app.class = 'b';
SELECT asked('SELECT current_setting(''app.class'', true) AS c');
-- by tag, by kind; the time to live
SELECT eduai.cached_query('SELECT count(*) FROM b', tags => '{cache_query:1}') IS NOT NULL;
SELECT asked('SELECT count(*) FROM b');
SELECT eduai.cached_query('SELECT 4', tags => '{cache_query:1}', kind => 'recommendations', ttl => '1 h');
SELECT asked('SELECT 4');
SELECT eduai.cache_delete_tag('cache_query:1') > 0;
SELECT asked('SELECT 4');
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA cache_query, cache_query_first CASCADE;
