-- cache_watch(): row tags, of whoever writes a row and however, and queries that
-- depend on them instead of on the table.
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA cache_watch;
SET search_path = cache_watch;
CREATE FUNCTION asked(query text, VARIADIC params text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := eduai.test_cache_computed();
	rows jsonb := eduai.cached_query(query, params);
BEGIN
	RETURN CASE WHEN eduai.test_cache_computed() = before THEN 'hit ' ELSE 'computed ' END || rows;
END $$;
CREATE TABLE progress (student_id int, skill text, mastery int);
CREATE TABLE skill (name text PRIMARY KEY, title text);
INSERT INTO progress VALUES (1, 'add', 10), (10, 'add', 20), (NULL, 'add', 30);
INSERT INTO skill VALUES ('add', 'Adding');
SELECT eduai.cache_watch('progress', ARRAY['student:{student_id}', 'marks:{student_id}/{skill}', 'progress']);
-- values set by hand
SELECT eduai.cache_set('w:1', '1', tags => '{student:1}'), eduai.cache_set('w:10', '10', tags => '{student:10}'),
	eduai.cache_set('w:1add', '11', tags => '{marks:1/add}'), eduai.cache_set('w:all', '12', tags => '{progress}');
UPDATE progress SET mastery = 11 WHERE student_id = 1;
SELECT eduai.cache_get('w:1'), eduai.cache_get('w:10'), eduai.cache_get('w:1add'), eduai.cache_get('w:all');
-- a rolled back write took nothing; one's own is seen at once; a row that moves has two tags
SELECT eduai.cache_set('w:1', '1', tags => '{student:1}');
BEGIN;
DELETE FROM progress WHERE student_id = 10;
SELECT eduai.cache_get('w:1'), eduai.cache_get('w:10');
ROLLBACK;
SELECT eduai.cache_get('w:1'), eduai.cache_get('w:10');
UPDATE progress SET student_id = 10 WHERE student_id = 1;
SELECT eduai.cache_get('w:1'), eduai.cache_get('w:10');
UPDATE progress SET student_id = 1 WHERE student_id = 10 AND mastery = 11;

-- queries: the rows of one pupil
SELECT asked('SELECT skill, mastery FROM progress WHERE student_id = $1', '1'), asked('SELECT skill, mastery FROM progress WHERE student_id = $1', '10');
UPDATE progress SET mastery = 12 WHERE student_id = 1;
SELECT asked('SELECT skill, mastery FROM progress WHERE student_id = $1', '10'), asked('SELECT skill, mastery FROM progress WHERE student_id = $1', '1');
-- with a join, an alias, a literal, other spellings of a number; the other table still counts
SELECT asked('SELECT title, p.mastery FROM progress AS p JOIN skill AS s ON s.name = p.skill AND p.student_id = 10');
UPDATE progress SET mastery = 13 WHERE student_id = 1;
SELECT asked('SELECT title, p.mastery FROM progress AS p JOIN skill AS s ON s.name = p.skill AND p.student_id = 10');
UPDATE skill SET title = 'Addition';
SELECT asked('SELECT title, p.mastery FROM progress AS p JOIN skill AS s ON s.name = p.skill AND p.student_id = 10');
SELECT asked('SELECT mastery FROM progress WHERE student_id = $1', ' 010 '), asked('SELECT mastery FROM progress WHERE student_id = $1', '10');
UPDATE progress SET mastery = 21 WHERE student_id = 10;
SELECT asked('SELECT mastery FROM progress WHERE student_id = $1', ' 010 ');
-- what is not one pupil's depends on the table
SELECT asked('SELECT count(*) FROM progress WHERE student_id <> $1', '1'), asked('SELECT count(*) FROM progress WHERE student_id = 10 OR mastery = 13'),
	asked('SELECT a.mastery FROM progress a JOIN progress b USING (skill) WHERE a.student_id = 10 ORDER BY 1 LIMIT 1'),
	asked('SELECT s.name FROM skill s LEFT JOIN progress p ON p.student_id = 10 AND p.mastery = 21 AND p.skill = s.name');
UPDATE progress SET mastery = 14 WHERE student_id = 1;
SELECT asked('SELECT count(*) FROM progress WHERE student_id <> $1', '1'), asked('SELECT count(*) FROM progress WHERE student_id = 10 OR mastery = 13'),
	asked('SELECT a.mastery FROM progress a JOIN progress b USING (skill) WHERE a.student_id = 10 ORDER BY 1 LIMIT 1'),
	asked('SELECT s.name FROM skill s LEFT JOIN progress p ON p.student_id = 10 AND p.mastery = 21 AND p.skill = s.name');
-- rows of nobody; COPY; MERGE; a cascade
SELECT asked('SELECT mastery FROM progress WHERE student_id = $1', NULL), asked('SELECT mastery FROM progress WHERE student_id = $1', '10');
UPDATE progress SET mastery = 31 WHERE student_id IS NULL;
SELECT asked('SELECT mastery FROM progress WHERE student_id = $1', '10');
COPY progress FROM stdin;
10	sub	5
\.
SELECT asked('SELECT mastery FROM progress WHERE student_id = $1 ORDER BY 1', '10'), asked('SELECT skill, mastery FROM progress WHERE student_id = $1', '1');
MERGE INTO progress p USING (VALUES (10, 6)) AS n (id, m) ON p.student_id = n.id AND p.skill = 'sub' WHEN MATCHED THEN UPDATE SET mastery = n.m;
SELECT asked('SELECT mastery FROM progress WHERE student_id = $1 ORDER BY 1', '10'), asked('SELECT skill, mastery FROM progress WHERE student_id = $1', '1');
-- a statement's own rows, for what it calls before the watch's trigger has fired
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE '%', asked('SELECT skill, mastery FROM progress WHERE student_id = $1', '1');
	RETURN NULL;
END $$;
CREATE TRIGGER a_look AFTER UPDATE ON progress FOR EACH ROW EXECUTE FUNCTION look();
SELECT asked('SELECT skill, mastery FROM progress WHERE student_id = $1', '1'), asked('SELECT skill, mastery FROM progress WHERE student_id = $1', '1');
UPDATE progress SET mastery = 15 WHERE student_id = 1;
DROP TRIGGER a_look ON progress;
-- many rows at once: the whole family, once
INSERT INTO progress SELECT 1000 + i, 'bulk', i FROM generate_series(1, 300) i;
SELECT asked('SELECT mastery FROM progress WHERE student_id = $1 ORDER BY 1', '10'), asked('SELECT mastery FROM progress WHERE student_id = $1 ORDER BY 1', '10');
-- TRUNCATE
SELECT eduai.cache_set('w:1', '1', tags => '{student:1}'), eduai.cache_set('w:all', '1', tags => '{progress}');
TRUNCATE progress;
SELECT eduai.cache_get('w:1'), eduai.cache_get('w:all'), asked('SELECT mastery FROM progress WHERE student_id = $1 ORDER BY 1', '10');
-- which nobody counted: for oneself, and for all
SELECT eduai.cache_set('w:1', '1', tags => '{student:1}');
BEGIN;
SET LOCAL track_counts = off;
TRUNCATE progress;
SELECT eduai.cache_get('w:1');
ROLLBACK;
SELECT eduai.cache_set('w:1', '1', tags => '{student:1}');
BEGIN;
SET LOCAL track_counts = off;
TRUNCATE progress;
COMMIT;
SELECT eduai.cache_get('w:1');
-- a trigger that somebody disabled narrows nothing
INSERT INTO progress VALUES (1, 'add', 1), (10, 'add', 2);
ALTER TABLE progress DISABLE TRIGGER eduai_cache_watch;
SELECT asked('SELECT mastery FROM progress WHERE student_id = $1', '10');
UPDATE progress SET mastery = 3 WHERE student_id = 10;
SELECT asked('SELECT mastery FROM progress WHERE student_id = $1', '10');
SELECT eduai.cache_watch('progress');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'progress'::regclass;

-- partitions, those of before and of later, written directly too
CREATE TABLE part (s text, v int) PARTITION BY LIST (s);
CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
SELECT eduai.cache_watch('part', ARRAY['part:{s}']);
CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b');
SELECT tgrelid::regclass, tgenabled FROM pg_trigger WHERE tgname = 'eduai_cache_watch' ORDER BY 1;
INSERT INTO part VALUES ('a', 1), ('b', 2);
SELECT asked('SELECT v FROM part WHERE s = $1 ORDER BY v', 'a'), asked('SELECT v FROM part WHERE s = $1 ORDER BY v', 'b');
INSERT INTO part_b VALUES ('b', 3);
SELECT asked('SELECT v FROM part WHERE s = $1 ORDER BY v', 'a'), asked('SELECT v FROM part WHERE s = $1 ORDER BY v', 'b');
SET session_replication_role = replica;
UPDATE part_a SET v = 4;
RESET session_replication_role;
SELECT asked('SELECT v FROM part WHERE s = $1 ORDER BY v', 'a'), asked('SELECT v FROM part WHERE s = $1 ORDER BY v', 'b');
TRUNCATE part_a;
SELECT asked('SELECT v FROM part WHERE s = $1 ORDER BY v', 'a');
ALTER TABLE part_b DISABLE TRIGGER eduai_cache_watch;
SELECT asked('SELECT v FROM part WHERE s = $1 ORDER BY v', 'b');
UPDATE part_b SET v = 9;
SELECT asked('SELECT v FROM part WHERE s = $1 ORDER BY v', 'b');

-- rows that come, go and change without a trigger
SELECT eduai.cache_watch('part', ARRAY['part:{s}']);
CREATE TABLE part_c (s text, v int);
INSERT INTO part_c VALUES ('c', 7);
SELECT eduai.cache_set('p:c', '[]', tags => '{part:c}');
ALTER TABLE part ATTACH PARTITION part_c FOR VALUES IN ('c');
SELECT eduai.cache_get('p:c'), eduai.cache_set('p:c', '[7]', tags => '{part:c}');
ALTER TABLE part ALTER v TYPE int USING v + 1;
SELECT eduai.cache_get('p:c'), eduai.cache_set('p:c', '[8]', tags => '{part:c}');
ALTER TABLE part DETACH PARTITION part_c;
SELECT eduai.cache_get('p:c'), eduai.cache_set('p:b', '[9]', tags => '{part:b}');
DROP TABLE part_b;
SELECT eduai.cache_get('p:b');

-- refused
\set VERBOSITY sqlstate
CREATE TEMP TABLE temporary (id int);
CREATE VIEW of_skill AS SELECT * FROM skill;
SELECT eduai.cache_watch('temporary', ARRAY['t:{id}']);
SELECT eduai.cache_watch('of_skill', ARRAY['t:{name}']);
SELECT eduai.cache_watch('skill', ARRAY['{name}']);
SELECT eduai.cache_watch('skill', ARRAY['skill:{name']);
SELECT eduai.cache_watch('skill', ARRAY['skill:{nam}']);
SELECT eduai.cache_watch('skill', ARRAY['']);
SELECT eduai.cache_watch('skill', ARRAY[NULL]);
SELECT eduai.cache_watch('pg_class', ARRAY['c:{relname}']);
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA cache_watch CASCADE;
