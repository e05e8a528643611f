-- eduai's own functions in cached queries: none by itself, since what reads a
-- learner's data is recorded in the access log and much depends on the time; with
-- their tables named, what events change is computed again, although eduai
-- writes its states past the executor.
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
\set VERBOSITY terse
SELECT eduai.cached_query('SELECT eduai.user_progress($1) AS p', '{ana}');
SELECT eduai.cached_query('SELECT * FROM eduai.recommend_exercises($1)', '{ana}');
SELECT eduai.cache_allow_function('eduai.user_progress(text)', '{eduai.projection_state,eduai.projection_generation}');
CREATE FUNCTION answer(who text, n int) RETURNS text LANGUAGE sql AS $$
	SELECT eduai.publish_event('EXERCISE_COMPLETED', who, 's-' || n, '{"time_spent": 5}') $$;
CREATE FUNCTION ask(who text) RETURNS text LANGUAGE sql AS $$
	SELECT 'version ' || (c #>> '{0,p,version}') || CASE WHEN c -> 0 -> 'p' = eduai.user_progress(who) THEN ', right' ELSE ', stale' END
	FROM eduai.cached_query('SELECT eduai.user_progress($1) AS p', ARRAY[who]) AS c $$;
-- Asks until it hits: the projector may write at any moment.
CREATE PROCEDURE hit(who text) LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + interval '20 s';
	before bigint;
BEGIN
	LOOP
		COMMIT;
		before := eduai.test_cache_computed();
		PERFORM ask(who);
		EXIT WHEN eduai.test_cache_computed() = before;
		IF clock_timestamp() > until THEN RAISE 'never a hit'; END IF;
	END LOOP;
END $$;
SELECT ask('ana');
CALL hit('ana');
SELECT answer('ana', 1) IS NOT NULL;
SELECT ask('ana');
-- an update of the state in place
CALL hit('ana');
SELECT answer('ana', 2) IS NOT NULL;
SELECT ask('ana');
-- the transaction's own event, and what is rolled back
CALL hit('ana');
BEGIN;
SELECT answer('ana', 3) IS NOT NULL;
SELECT ask('ana');
ROLLBACK;
SELECT ask('ana');
BEGIN;
SAVEPOINT a;
SELECT answer('ana', 4) IS NOT NULL;
ROLLBACK TO a;
SELECT ask('ana');
COMMIT;
-- another session's event: an older snapshot does not get what is newer, nor a newer one what is older
CALL hit('ana');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT ask('ana');
SELECT current_database() AS database \gset
\setenv PGDATABASE :database
\! psql -X -q -c "SELECT answer('ana', 5)" -o /dev/null
SELECT ask('ana');
COMMIT;
SELECT ask('ana');
CALL hit('ana');
SELECT ask('ana');
-- taken back
SELECT eduai.cache_allow_function('eduai.user_progress(text)', NULL);
SELECT ask('ana');
DROP PROCEDURE hit;
DROP FUNCTION ask, answer;
