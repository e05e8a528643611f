-- Progress commits with its event, and goes with it.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_proj_rollback;
GRANT eduai_app TO regress_proj_rollback;
SELECT eduai.allow_tenant('regress_proj_rollback', 'proj_rollback');
SET ROLE regress_proj_rollback;
SET eduai.tenant = 'proj_rollback';
CREATE FUNCTION pg_temp.joy(who text) RETURNS text LANGUAGE sql AS
	$$SELECT concat_ws(' ', p -> 'version', p -> 'emotion_patterns' -> 'joy') FROM eduai.user_progress(who) p$$;
CREATE FUNCTION pg_temp.feel(who text) RETURNS boolean LANGUAGE sql AS
	$$SELECT eduai.publish_event('emotion_detected', who, NULL, '{"emotion": "joy"}') IS NOT NULL$$;

-- a learner that a rolled back event would have made
BEGIN;
SELECT pg_temp.feel('ana');
SELECT pg_temp.joy('ana');
ROLLBACK;
SELECT pg_temp.joy('ana');

-- one that was there
SELECT pg_temp.feel('ana');
BEGIN;
SELECT pg_temp.feel('ana');
SELECT pg_temp.feel('ana');
SELECT pg_temp.joy('ana');
ROLLBACK;
SELECT pg_temp.joy('ana');

-- savepoints
BEGIN;
SELECT pg_temp.feel('ana');
SAVEPOINT a;
SELECT pg_temp.feel('ana');
SELECT pg_temp.feel('ben');
ROLLBACK TO a;
SELECT pg_temp.joy('ana'), pg_temp.joy('ben');
SELECT pg_temp.feel('ben');
SAVEPOINT b;
SELECT pg_temp.feel('ben');
RELEASE b;
COMMIT;
SELECT pg_temp.joy('ana'), pg_temp.joy('ben');

-- an append that is refused changes nobody
SELECT eduai.append_batch('{s,s}', '{emotion_detected,emotion_detected}',
	'{"{\"emotion\": \"joy\"}","[]"}', '{ana,ben}');
SELECT * FROM eduai.append_event('learner-ana', 'emotion_detected', '{"emotion": "joy"}', 'ana', expected_version => 9);
SELECT pg_temp.joy('ana'), pg_temp.joy('ben');

-- the version of the progress counts the learner's events
SELECT eduai.user_progress('ana') -> 'version', eduai.stream_version('learner-ana');
RESET ROLE;
DROP OWNED BY regress_proj_rollback;
DROP ROLE regress_proj_rollback;
