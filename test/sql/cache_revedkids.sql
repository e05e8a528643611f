-- The patterns of examples/cache_revedkids.sql: what pupil 1 does leaves pupil 10
-- alone, and what 200 pupils ask for in a seeded trace is there four times of five.
\pset format unaligned
\pset tuples_only on
\o /dev/null
\i examples/cache_revedkids.sql
\o
CREATE FUNCTION school.asked(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := eduai.test_cache_computed();
	rows jsonb;
BEGIN
	EXECUTE 'SELECT school.' || what INTO rows;
	RETURN CASE WHEN eduai.test_cache_computed() = before THEN 'hit ' ELSE 'computed ' END || rows;
END $$;
SELECT school.answer(1, 3, 50), school.answer(10, 3, 60);
SELECT school.asked('progress_of(1)'), school.asked('progress_of(10)'), length(school.asked('recommendations(1)')) > 100, length(school.asked('recommendations(10)')) > 100;
SELECT left(school.asked('recommendations(10)'), 70);
-- pupil 1 answers
SELECT school.answer(1, 4, 70);
SELECT school.asked('progress_of(10)'), left(school.asked('recommendations(10)'), 3), left(school.asked('recommendations(1)'), 8), school.asked('progress_of(1)');
-- by the tag, from elsewhere
SELECT school.asked($$progress_of(1)$$);
SELECT eduai.cache_set('r:1', '1', tags => '{student:1}'), eduai.cache_set('r:10', '1', tags => '{student:10}');
DELETE FROM school.progress WHERE student_id = 1;
SELECT eduai.cache_get('r:1'), eduai.cache_get('r:10'), school.asked('progress_of(1)'), school.asked('progress_of(10)');
-- an exercise is withdrawn: that concerns recommendations and hierarchies
SELECT left(school.asked($$hierarchy('CP')$$), 8), left(school.asked($$hierarchy('CP')$$), 3);
UPDATE school.exercise SET active = false WHERE exercise_id = 40;
SELECT left(school.asked($$hierarchy('CP')$$), 8), school.asked('progress_of(10)');

-- 200 pupils; each does 40 things: recommendations 45 %, progress 35 %, hierarchy
-- 15 %, an answer 5 %; the pupils mixed. The generator is this one, its seed 7.
CREATE PROCEDURE school.trace(INOUT reads int, INOUT computed int) LANGUAGE plpgsql AS $$
DECLARE
	state bigint := 7;
	draw int;
	pupil int;
	before bigint := eduai.test_cache_computed();
BEGIN
	reads := 0;
	FOR i IN 1 .. 200 * 40 LOOP
		state := (state * 1103515245 + 12345) % 2147483648;
		pupil := 1000 + (state / 65536) % 200;
		state := (state * 1103515245 + 12345) % 2147483648;
		draw := (state / 65536) % 100;
		IF draw < 5 THEN
			PERFORM school.answer(pupil, 1 + (i % 40), draw * 20);
			COMMIT;
			CONTINUE;
		END IF;
		reads := reads + 1;
		IF draw < 50 THEN
			PERFORM school.recommendations(pupil);
		ELSIF draw < 85 THEN
			PERFORM school.progress_of(pupil);
		ELSE
			PERFORM school.hierarchy(CASE WHEN pupil % 2 = 0 THEN 'CP' ELSE 'CE1' END);
		END IF;
	END LOOP;
	computed := eduai.test_cache_computed() - before;
END $$;
CALL school.trace(0, 0) \gset
SELECT 100.0 * (:reads - :computed) / :reads > 80 AS over_80_percent, :reads;
SELECT kind, computations > 0, hits > 0 FROM eduai.cache_stats WHERE kind IN ('recommendations', 'progress', 'hierarchy') ORDER BY kind;
SET client_min_messages = warning;
DROP SCHEMA school CASCADE;
