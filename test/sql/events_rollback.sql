-- The event and the caller's own row: together or not at all.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_events_rollback;
GRANT eduai_app TO regress_events_rollback;
SELECT eduai.allow_tenant('regress_events_rollback', 'events_rollback');
SET ROLE regress_events_rollback;
SET eduai.tenant = 'events_rollback';
CREATE TEMP TABLE answer (id int PRIMARY KEY, version bigint);

-- commit
BEGIN;
INSERT INTO answer SELECT 1, version FROM eduai.append_event('s', 'x');
COMMIT;
SELECT count(*), eduai.stream_version('s') FROM answer;

-- rollback
BEGIN;
INSERT INTO answer SELECT 2, version FROM eduai.append_event('s', 'x');
SELECT version FROM eduai.read_stream('s', 2);
ROLLBACK;
SELECT count(*), eduai.stream_version('s') FROM answer;

-- the caller's own failure takes the event with it
INSERT INTO answer SELECT 1, version FROM eduai.append_event('s', 'x');
SELECT count(*), eduai.stream_version('s') FROM answer;

-- savepoints: what is rolled back leaves no gap
BEGIN;
SELECT version FROM eduai.append_event('s', 'kept');
SAVEPOINT a;
SELECT version FROM eduai.append_event('s', 'dropped');
SELECT eduai.append_batch('{s,t}', '{dropped,dropped}', '{"{}","{}"}', '{ana,ben}');
SELECT eduai.stream_version('s'), eduai.stream_version('t');
ROLLBACK TO a;
SELECT eduai.stream_version('s'), eduai.stream_version('t');
SELECT version FROM eduai.append_event('s', 'kept');
SAVEPOINT b;
SELECT version FROM eduai.append_event('s', 'kept');
RELEASE b;
COMMIT;
SELECT version, event_type FROM eduai.read_stream('s');
SELECT eduai.stream_version('t'), eduai.user_progress('ben') -> 'version';

-- an error inside a block of PL/pgSQL
DO $$
BEGIN
	PERFORM eduai.append_event('s', 'outer');
	BEGIN
		PERFORM eduai.append_event('s', 'inner');
		PERFORM 1 / 0;
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
	PERFORM eduai.append_event('s', 'outer');
END $$;
SELECT version, event_type FROM eduai.read_stream('s', 5);

-- from a trigger, as a part of the statement that fired it
CREATE FUNCTION pg_temp.log_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM eduai.append_event('from-trigger', 'x', jsonb_build_object('id', NEW.id));
	RETURN NEW;
END $$;
CREATE TRIGGER log BEFORE INSERT ON answer FOR EACH ROW EXECUTE FUNCTION pg_temp.log_answer();
INSERT INTO answer (id) VALUES (10), (11), (12);
INSERT INTO answer (id) VALUES (13), (10);
SELECT version, data FROM eduai.read_stream('from-trigger');

-- the caller's settings and role are what they were, also after an error
SET search_path = public;
SET enable_seqscan = on;
SELECT eduai.stream_version('s');
SELECT eduai.append_event('s', 'x', expected_version => 0);
SELECT current_setting('search_path'), current_setting('enable_seqscan'),
	current_setting('plan_cache_mode'), current_user;
RESET ROLE;
DROP TABLE answer;
DROP OWNED BY regress_events_rollback;
DROP ROLE regress_events_rollback;
