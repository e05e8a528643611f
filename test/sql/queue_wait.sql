-- wait_task(), wait_tasks() and await_task().
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_wait;
GRANT eduai_app TO regress_queue_wait;
SELECT eduai.allow_tenant('regress_queue_wait', 'queue_wait');
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
	h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, ''), nullif(h, ''));
END $$;
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_wait', 'mock', '', options => '{"latency_ms": 200, "text": "at last"}');
SELECT eduai.add_instance('queue_wait', 'queue_wait', 'queue_wait');
SET ROLE regress_queue_wait;
SET eduai.tenant = 'queue_wait';

-- until the end, or as it stands when the time is over
SELECT eduai.enqueue('chat', '{"model": "queue_wait", "messages": [{"role": "user", "content": "x"}]}') AS task,
	eduai.enqueue('custom', '{}') AS open \gset
SELECT state, result ->> 'text' FROM eduai.wait_task(:task);
SELECT state FROM eduai.wait_task(:task, '0 s');
SELECT clock_timestamp() AS before \gset
SELECT state FROM eduai.wait_task(:open, '150 ms');
SELECT clock_timestamp() - :'before' BETWEEN '150 ms' AND '20 s';
SELECT state FROM eduai.wait_task(:open, '0 s');

-- unknown, or null
SELECT eduai.wait_task(-1) IS NULL, eduai.wait_task(NULL) IS NULL, eduai.wait_task(:open, NULL) IS NULL;
SELECT count(*) FROM eduai.wait_tasks(NULL);
SELECT count(*) FROM eduai.wait_tasks('{}');

-- all of them, in the order asked for, for one time in all
SELECT eduai.enqueue_batch('chat', array_fill('{"model": "queue_wait", "messages": [{"role": "user", "content": "x"}]}'::jsonb, ARRAY[3])) AS ids \gset
SELECT (:'ids'::bigint[])[1] AS first, (:'ids'::bigint[])[2] AS second, (:'ids'::bigint[])[3] AS third \gset
SELECT state, task_id = :second, task_id = :first, task_id = :third
FROM eduai.wait_tasks(ARRAY[:second, -1, :first, NULL, :third]::bigint[]);
SELECT clock_timestamp() AS before \gset
SELECT state FROM eduai.wait_tasks(ARRAY[:open, :open, :open], '150 ms');
SELECT clock_timestamp() - :'before' BETWEEN '150 ms' AND '20 s';

-- what this transaction enqueued or changed cannot end before it commits
BEGIN;
SELECT eduai.enqueue('chat', '{"model": "queue_wait", "messages": [{"role": "user", "content": "x"}]}') AS own \gset
SELECT regexp_replace(pg_temp.fails('SELECT eduai.wait_task(' || :own || ')'), '\d+ cannot', 'N cannot');
SELECT left(pg_temp.fails('SELECT eduai.wait_tasks(ARRAY[' || :task || ', ' || :own || '])'), 5);
SAVEPOINT s;
SELECT eduai.enqueue('custom', '{}') AS inner \gset
SELECT left(pg_temp.fails('SELECT eduai.wait_task(' || :inner || ')'), 5);
RELEASE s;
SELECT left(pg_temp.fails('SELECT eduai.wait_task(' || :inner || ')'), 5);
SELECT state FROM eduai.wait_task(:open, '0 s');
SELECT eduai.cancel_task(:inner);
SELECT state FROM eduai.wait_task(:inner);
COMMIT;
SELECT state FROM eduai.wait_task(:own);

-- a transaction with a snapshot of its own sees the end all the same
SELECT eduai.enqueue('chat', '{"model": "queue_wait", "messages": [{"role": "user", "content": "x"}]}') AS task \gset
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT state IN ('ready', 'running') FROM eduai.get_task(:task);
SELECT state FROM eduai.wait_task(:task);
SELECT state IN ('ready', 'running') FROM eduai.get_task(:task);
COMMIT;

-- statement_timeout and cancelling end a wait
SET statement_timeout = '100 ms';
\set VERBOSITY sqlstate
SELECT eduai.wait_task(:open);
\set VERBOSITY default
RESET statement_timeout;

-- await_task(): on its own, or from a procedure that may commit
SELECT eduai.enqueue('chat', '{"model": "queue_wait", "messages": [{"role": "user", "content": "x"}]}') AS id \gset
CALL eduai.await_task(:id, '30 s', NULL) \gset
SELECT (:'task'::eduai.task_status).task_id = :id, (:'task'::eduai.task_status).state, (:'task'::eduai.task_status).result ->> 'text';
CALL eduai.await_task(:open, '100 ms', NULL) \gset
SELECT (:'task'::eduai.task_status).task_id = :open, (:'task'::eduai.task_status).state;
CALL eduai.await_task(-1, '30 s', NULL);
CREATE PROCEDURE pg_temp.ask_and_await() LANGUAGE plpgsql AS $$
DECLARE
	id bigint := eduai.enqueue('chat', '{"model": "queue_wait", "messages": [{"role": "user", "content": "x"}]}');
	task eduai.task_status;
BEGIN
	CALL eduai.await_task(id, '30 s', task);
	RAISE NOTICE '%: %', task.state, task.result ->> 'text';
END $$;
CALL pg_temp.ask_and_await();

-- not where it could not commit
BEGIN;
\set VERBOSITY sqlstate
CALL eduai.await_task(:open, '1 s', NULL);
ROLLBACK;
BEGIN;
CALL pg_temp.ask_and_await();
ROLLBACK;
CALL eduai.await_task(NULL, '1 s', NULL);
CALL eduai.await_task(:open, NULL, NULL);
CALL eduai.await_task(:open, '-1 s', NULL);
\set VERBOSITY default
SELECT pg_temp.fails('CALL eduai.await_task(1, ''1 s'', NULL)');

-- the session goes on as before
SELECT eduai.current_tenant(), current_user;
SELECT eduai.cancel_task(:open);
RESET ROLE;
DROP PROCEDURE pg_temp.ask_and_await;
SELECT eduai.remove_instance('queue_wait');
SELECT eduai.remove_provider('queue_wait');

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_wait', 'queue_wait');
DROP OWNED BY regress_queue_wait;
DROP ROLE regress_queue_wait;
