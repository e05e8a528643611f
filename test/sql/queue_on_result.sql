-- on_result: runs in the commit that records the result, as the enqueuing role,
-- and can neither undo the result nor reach beyond that role.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_on_result;
GRANT eduai_app TO regress_queue_on_result;
SELECT eduai.allow_tenant('regress_queue_on_result', 'queue_on_result');
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_on_result', 'mock', '', options => '{"text": "well done"}');
SELECT eduai.add_instance('queue_on_result', 'queue_on_result', 'queue_on_result');
SELECT eduai.add_provider('queue_on_result_bad', 'mock', '', options => '{"status": 400, "message": "no"}');
SELECT eduai.add_instance('queue_on_result_bad', 'queue_on_result_bad', 'queue_on_result_bad');
SELECT eduai.add_provider('queue_on_result_flaky', 'mock', '', options => '{"status": 503, "fail_first": 1}');
SELECT eduai.add_instance('queue_on_result_flaky', 'queue_on_result_flaky', 'queue_on_result_flaky');
CREATE SCHEMA queue_on_result AUTHORIZATION regress_queue_on_result;
SET ROLE regress_queue_on_result;
SET eduai.tenant = 'queue_on_result';
SET search_path = queue_on_result;
CREATE TABLE note (task_id bigint, words text);
CREATE TABLE once (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION ask(handler text, model text DEFAULT 'queue_on_result', user_id text DEFAULT NULL, refusal text DEFAULT 'error') RETURNS bigint
LANGUAGE sql AS $$
	SELECT eduai.enqueue('chat', jsonb_build_object('model', model, 'messages', '[{"role": "user", "content": "x"}]'::jsonb),
		on_result => handler, user_id => user_id, on_refusal => refusal)
$$;

-- what a handler sees: itself as the caller, the tenant, the task with its result
CREATE TABLE seen (task eduai.task_status, who name, tenant text, path text, state text, xid xid8);
CREATE FUNCTION see(t eduai.task_status) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO queue_on_result.seen SELECT t, current_user, eduai.current_tenant(),
		current_setting('search_path'), p.state, pg_current_xact_id()
	FROM eduai.get_task(t.task_id) p;
END $$;
SELECT ask('see', user_id => 'ann') AS task \gset
SELECT state, error FROM eduai.wait_task(:task);
SELECT (task).task_id = :task, (task).state, (task).attempt, (task).result ->> 'text', (task).user_id, (task).instance, (task).error,
	(task).finished_at IS NOT NULL, who, tenant, path, state FROM seen;

-- in the same commit as the result, the ledger and the follow-up
SELECT event_type FROM eduai.read_stream('learner-ann');
RESET ROLE;
SELECT c.xmin = s.xid::xid FROM eduai.provider_call c, queue_on_result.seen s WHERE c.task_id = :task;
SET ROLE regress_queue_on_result;

-- named as the caller's search_path has it, kept in full
RESET search_path;
CREATE FUNCTION queue_on_result."Odd name"(eduai.task_status) RETURNS void LANGUAGE sql
	AS $$INSERT INTO queue_on_result.note VALUES (($1).task_id, 'odd')$$;
SELECT queue_on_result.ask('queue_on_result."Odd name"') AS task \gset
SELECT state, error FROM eduai.wait_task(:task);
SET search_path = queue_on_result;
SELECT words FROM note WHERE task_id = :task;
RESET ROLE;
SELECT on_result FROM eduai.task WHERE tenant_id = 'queue_on_result' ORDER BY task_id;
SET ROLE regress_queue_on_result;

-- once, at the end: not for a failure that is tried again; for a dead task too
CREATE FUNCTION jot(t eduai.task_status) RETURNS void LANGUAGE sql
	AS $$INSERT INTO queue_on_result.note VALUES (t.task_id, t.state || ' after ' || t.attempt || coalesce(', ' || (t.error ->> 'message'), ''))$$;
SELECT ask('jot', 'queue_on_result_flaky') AS flaky, ask('jot', 'queue_on_result_bad') AS bad \gset
SELECT state FROM eduai.wait_tasks(ARRAY[:flaky, :bad]);
SELECT words FROM note WHERE task_id IN (:flaky, :bad) ORDER BY task_id;

-- not for a task that is cancelled: there is no result
SELECT ask('jot', 'queue_on_result_none', refusal => 'defer') AS cancelled \gset
SELECT eduai.cancel_task(:cancelled);

-- a handler may enqueue and append: those are its role's
CREATE FUNCTION next_step(t eduai.task_status) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM eduai.append_event('ct-next', 'exercise_completed', user_id => 'ann');
	INSERT INTO queue_on_result.note VALUES (t.task_id, eduai.enqueue('chat',
		'{"model": "queue_on_result", "messages": [{"role": "user", "content": "next"}]}', on_result => 'queue_on_result.jot')::text);
END $$;
SELECT ask('next_step') AS task \gset
SELECT state, error FROM eduai.wait_task(:task);
SELECT words AS next FROM note WHERE task_id = :task \gset
SELECT state FROM eduai.wait_task(:next);
SELECT words FROM note WHERE task_id = :next;
SELECT eduai.stream_version('ct-next'), (SELECT count(*) FROM note WHERE task_id = :cancelled);

-- an error undoes what the handler did and nothing else
CREATE FUNCTION fail(t eduai.task_status) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO queue_on_result.note VALUES (t.task_id, 'undone');
	PERFORM eduai.append_event('ct-undone', 'exercise_completed', user_id => 'ann');
	PERFORM eduai.enqueue('custom', '{}', unique_key => 'undone');
	RAISE EXCEPTION 'no such lesson' USING ERRCODE = 'QR001';
END $$;
SELECT ask('fail', user_id => 'bob') AS task, ask('fail', 'queue_on_result_bad') AS dead \gset
SELECT state, result ->> 'text', error FROM eduai.wait_task(:task);
SELECT state, error #- '{attempts,0,at}' FROM eduai.wait_task(:dead);
SELECT count(*) FROM note WHERE task_id IN (:task, :dead);
SELECT eduai.stream_version('ct-undone'), eduai.stream_version('learner-bob');
SELECT count(*) FROM eduai.queue_status WHERE task_type = 'custom';
SELECT outcome FROM eduai.usage_ledger WHERE task_id IN (:task, :dead) ORDER BY task_id;

-- the time is limited, even for one that catches its cancellation
CREATE FUNCTION sleep(t eduai.task_status) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(600)';
CREATE FUNCTION cling(t eduai.task_status) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL statement_timeout = 0;
	LOOP
		BEGIN
			PERFORM pg_sleep(600);
		EXCEPTION WHEN query_canceled THEN
			LOOP
				BEGIN
					PERFORM pg_sleep(600);
				EXCEPTION WHEN query_canceled THEN
					NULL;
				END;
			END LOOP;
		END;
	END LOOP;
END $$;
SELECT ask('sleep') AS sleep, ask('cling') AS cling \gset
SELECT state, result ->> 'text', error -> 'on_result' ->> 'function', error -> 'on_result' ->> 'sqlstate', finished_at - started_at < '1 minute'
FROM eduai.wait_tasks(ARRAY[:sleep, :cling]);

-- the function is gone, or the role may not run it any more, or may not use its schema
SELECT ask('jot', 'queue_on_result_late', refusal => 'defer') AS gone, ask('"Odd name"', 'queue_on_result_late', refusal => 'defer') AS forbidden \gset
DROP FUNCTION jot;
RESET ROLE;
ALTER FUNCTION queue_on_result."Odd name" OWNER TO CURRENT_USER;
REVOKE EXECUTE ON FUNCTION queue_on_result."Odd name" FROM PUBLIC, regress_queue_on_result;
-- the role itself is gone
CREATE ROLE regress_queue_on_result_gone IN ROLE regress_queue_on_result;
SET ROLE regress_queue_on_result_gone;
SELECT ask('see', 'queue_on_result_late', refusal => 'defer') AS orphan \gset
RESET ROLE;
DROP ROLE regress_queue_on_result_gone;
SELECT eduai.add_instance('queue_on_result_late', 'queue_on_result', 'queue_on_result_late');
SET ROLE regress_queue_on_result;
SELECT state, result ->> 'text', error -> 'on_result' ->> 'sqlstate', error -> 'on_result' ->> 'message'
FROM eduai.wait_tasks(ARRAY[:gone, :forbidden, :orphan]);

-- an application's task: in its worker's transaction, as the role that enqueued, not as the worker
RESET ROLE;
CREATE ROLE regress_queue_on_result_worker;
GRANT eduai_worker TO regress_queue_on_result_worker;
SELECT eduai.allow_tenant('regress_queue_on_result_worker', 'queue_on_result');
SELECT eduai.define_task_type('queue_on_result', 'application', 'custom', max_attempts => 1);
SET ROLE regress_queue_on_result;
CREATE FUNCTION wait_for_it(t eduai.task_status) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO queue_on_result.note VALUES (t.task_id, current_setting('lock_timeout'));
END $$;
SELECT eduai.enqueue('queue_on_result', '{}', on_result => 'see', user_id => 'eve') AS seen, eduai.enqueue('queue_on_result', '{}', on_result => 'fail') AS fails,
	eduai.enqueue('queue_on_result', '{}', on_result => 'wait_for_it') AS patient \gset
SET ROLE regress_queue_on_result_worker;
SELECT count(*) FROM eduai.claim_tasks('w', '{queue_on_result}', 3);
BEGIN;
SELECT eduai.complete_task(:seen, 1, '{"text": "rolled back"}');
ROLLBACK;
SELECT eduai.complete_task(:seen, 1, '{"text": "by hand"}'), eduai.fail_task(:fails, 1, 'no', false), eduai.complete_task(:patient, 1);
SELECT current_user = 'regress_queue_on_result_worker', current_setting('eduai.tenant');
SET ROLE regress_queue_on_result;
SELECT (task).result ->> 'text', (task).state, who, tenant, path, state FROM seen WHERE (task).task_id = :seen;
SELECT state, error #- '{attempts,0,at}' FROM eduai.get_task(:fails);
SELECT words FROM note WHERE task_id = :patient;
SELECT event_type FROM eduai.read_stream('learner-eve');
RESET ROLE;
DELETE FROM eduai.task_type WHERE name = 'queue_on_result';
SELECT eduai.disallow_tenant('regress_queue_on_result_worker', 'queue_on_result');
DROP OWNED BY regress_queue_on_result_worker;
DROP ROLE regress_queue_on_result_worker;
SET ROLE regress_queue_on_result;

-- there is no way from the handler to another role, nor to what outlives it
CREATE TABLE attempt (what text, sqlstate text, message text);
CREATE FUNCTION escape(t eduai.task_status) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	what text;
BEGIN
	FOREACH what IN ARRAY ARRAY['SET ROLE eduai_admin', 'SET ROLE NONE', 'RESET ROLE', 'RESET SESSION AUTHORIZATION',
		'SET SESSION AUTHORIZATION DEFAULT', 'SET LOCAL SESSION AUTHORIZATION regress_queue_on_result',
		'SELECT set_config(''role'', ''none'', false)', 'CREATE TEMP TABLE t (n int)',
		'PREPARE p AS SELECT 1',
		'DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'LISTEN eduai_task', 'SET eduai.queue_max_size = 0', 'SET session_replication_role = replica',
		'SELECT FROM eduai.task', 'SELECT eduai.add_provider(''x'', ''mock'', '''')', 'SELECT eduai.stop_workers()',
		'SELECT pg_catalog.pg_read_file(''PG_VERSION'')', 'INSERT INTO queue_on_result.once VALUES (1), (1)'] LOOP
		BEGIN
			EXECUTE what;
			INSERT INTO queue_on_result.attempt VALUES (what);
		EXCEPTION WHEN OTHERS THEN
			INSERT INTO queue_on_result.attempt VALUES (what, SQLSTATE, SQLERRM);
		END;
	END LOOP;
	INSERT INTO queue_on_result.attempt VALUES ('current_user', NULL, current_user);
END $$;
SELECT ask('escape') AS task \gset
SELECT state, error FROM eduai.wait_task(:task);
SELECT * FROM attempt;

-- settings of a handler end with it
CREATE FUNCTION meddle(t eduai.task_status) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('eduai.tenant', 'somebody_else', false), set_config('search_path', 'queue_on_result', false),
		set_config('transaction_read_only', 'on', false), set_config('enable_indexscan', 'off', false);
END $$;
SELECT ask('meddle') AS meddler, ask('see') AS after \gset
SELECT state, error FROM eduai.wait_tasks(ARRAY[:meddler, :after]);
SELECT who, tenant, path FROM seen WHERE (task).task_id = :after;
SELECT ask('see') AS later \gset
SELECT state, error FROM eduai.wait_task(:later);
SELECT who, tenant, path FROM seen WHERE (task).task_id = :later;

RESET ROLE;
RESET search_path;
SELECT eduai.remove_instance(name) FROM eduai.instance WHERE name LIKE 'queue\_on\_result%';
SELECT eduai.remove_provider(name) FROM eduai.provider WHERE name LIKE 'queue\_on\_result%';
SET client_min_messages = warning;
DROP SCHEMA queue_on_result CASCADE;

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_on_result', 'queue_on_result');
DROP OWNED BY regress_queue_on_result;
DROP ROLE regress_queue_on_result;
