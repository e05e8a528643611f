-- The task, the event and the application's row commit together or not at all;
-- what rolls back is never sent and gives its place in the queue back.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_rollback;
GRANT eduai_app TO regress_queue_rollback;
SELECT eduai.allow_tenant('regress_queue_rollback', 'queue_rollback');
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_rollback', 'mock', '');
SELECT eduai.add_instance('queue_rollback', 'queue_rollback', 'queue_rollback');
CREATE TABLE public.queue_rollback_answer (answer text, task_id bigint);
GRANT ALL ON public.queue_rollback_answer TO regress_queue_rollback;
CREATE FUNCTION pg_temp.ask(answer text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	id bigint;
BEGIN
	PERFORM eduai.append_event('learner-' || answer, 'exercise_completed', user_id => answer);
	id := eduai.enqueue('chat', '{"model": "queue_rollback", "messages": [{"role": "user", "content": "x"}]}', user_id => answer);
	INSERT INTO public.queue_rollback_answer VALUES (answer, id);
	RETURN id;
END $$;
-- how many answers, tasks and events there are
CREATE FUNCTION pg_temp.there() RETURNS text LANGUAGE sql AS $$
	SELECT (SELECT string_agg(answer, ' ' ORDER BY answer) FROM public.queue_rollback_answer) || ': '
		|| (SELECT count(*) FROM public.queue_rollback_answer a, eduai.get_task(a.task_id)) || ' tasks, '
		|| (SELECT count(*) FROM public.queue_rollback_answer a WHERE eduai.stream_version('learner-' || a.answer) > 0) || ' streams'
$$;
SET eduai.queue_max_size = 3;
SET ROLE regress_queue_rollback;
SET eduai.tenant = 'queue_rollback';

-- ROLLBACK
BEGIN;
SELECT pg_temp.ask('gone') AS gone \gset
SELECT pg_temp.there();
ROLLBACK;
SELECT pg_temp.there() IS NULL, eduai.stream_version('learner-gone');
SELECT count(*) FROM eduai.get_task(:gone);

-- savepoints: kept, rolled back, released and then rolled back
BEGIN;
SELECT pg_temp.ask('a-kept') AS kept \gset
SAVEPOINT one;
SELECT pg_temp.ask('b-gone') AS gone \gset
ROLLBACK TO one;
SELECT pg_temp.there();
SAVEPOINT two;
SAVEPOINT three;
SELECT pg_temp.ask('c-gone') AS gone2 \gset
RELEASE three;
ROLLBACK TO two;
SAVEPOINT four;
SELECT pg_temp.ask('d-kept') AS kept2 \gset
RELEASE four;
COMMIT;
SELECT pg_temp.there(), eduai.stream_version('learner-b-gone'), eduai.stream_version('learner-c-gone');
SELECT state FROM eduai.wait_tasks(ARRAY[:kept, :kept2]);
SELECT count(*) FROM eduai.get_tasks(ARRAY[:gone, :gone2]);

-- an exception that plpgsql catches
DO $$
DECLARE
	id bigint;
BEGIN
	PERFORM pg_temp.ask('e-kept');
	BEGIN
		PERFORM pg_temp.ask('f-gone');
		RAISE EXCEPTION 'changed my mind';
	EXCEPTION WHEN raise_exception THEN
		NULL;
	END;
END $$;
SELECT pg_temp.there();

-- an error of the application after enqueue()
DO $$
BEGIN
	PERFORM pg_temp.ask('g-gone');
	PERFORM 1 / 0;
END $$;
SELECT pg_temp.there();

-- every place was given back: the three fit, and no more
SELECT state FROM eduai.wait_tasks((SELECT array_agg(task_id) FROM public.queue_rollback_answer));
-- a waiter may see a task's end a moment before its place is free
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	LOOP
		BEGIN
			PERFORM eduai.enqueue('custom', '{}') FROM generate_series(1, 3);
			RAISE EXCEPTION 'there is room for three';
		EXCEPTION
			WHEN raise_exception THEN
				EXIT;
			WHEN SQLSTATE 'UE003' THEN
				IF clock_timestamp() > deadline THEN
					RAISE;
				END IF;
		END;
	END LOOP;
END $$;
BEGIN;
SELECT count(pg_temp.ask('h' || n)) FROM generate_series(1, 3) n;
SAVEPOINT brimful;
\set VERBOSITY sqlstate
SELECT pg_temp.ask('i');
\set VERBOSITY default
ROLLBACK TO brimful;
ROLLBACK;
BEGIN;
SELECT count(pg_temp.ask('j' || n)) FROM generate_series(1, 3) n;
ROLLBACK;

-- only what committed was sent
SELECT count(*), count(*) FILTER (WHERE outcome = 'completed') FROM eduai.usage_ledger;
RESET ROLE;
RESET eduai.tenant;
SELECT count(*) FROM eduai.task WHERE tenant_id = 'queue_rollback';
DROP FUNCTION pg_temp.ask, pg_temp.there;
DROP TABLE public.queue_rollback_answer;
SELECT eduai.remove_instance('queue_rollback');
SELECT eduai.remove_provider('queue_rollback');
RESET eduai.queue_max_size;

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_rollback', 'queue_rollback');
DROP OWNED BY regress_queue_rollback;
DROP ROLE regress_queue_rollback;
