-- The queue's functions and views. Enqueuing needs preload: the queue's limit
-- is counted in shared memory, and the dispatcher is woken through it.

CREATE OR REPLACE FUNCTION eduai.enqueue(
	task_type text, payload jsonb, priority text DEFAULT 'normal',
	run_at timestamptz DEFAULT NULL, depends_on bigint[] DEFAULT '{}',
	unique_key text DEFAULT NULL, max_attempts int DEFAULT NULL,
	timeout interval DEFAULT NULL, user_id text DEFAULT NULL,
	metadata jsonb DEFAULT '{}', on_refusal text DEFAULT 'error',
	on_result text DEFAULT NULL, idempotency_key text DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_enqueue' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.enqueue(text, jsonb, text, timestamptz, bigint[], text, int, interval, text, jsonb, text, text, text, timestamptz) IS
'Adds a task in the caller''s transaction and returns its id; nothing is sent before that transaction commits, and nothing at all when it rolls back.
task_type: chat, image_generation, transcription, embeddings, analysis, custom, or one of define_task_type(). payload: the provider''s request in OpenAI''s shape for the type, an object of at most eduai.max_payload_size. priority: critical, high, normal or low. run_at: not before. depends_on: ids of tasks that must end first (metadata.on_parent_failure: fail, run or wait). unique_key: while a task with it is not final, its id is returned. max_attempts, timeout (per attempt): instead of the type''s. user_id: the learner it is about; a result then appends ai_feedback_given to the learner''s stream unless metadata.follow_up is false. on_refusal: error raises, defer accepts and runs when allowed, skip returns NULL. on_result: a function (eduai.task_status) returns void, run as the calling role in the commit that records the result; its error is recorded on the task and undoes only its own work. idempotency_key: for 24 h the same id whatever the state. expires_at: ends the task when it has not started.
Errors: UE003 queue full, UE004 nothing serves the type and model, UE006 idempotency key with other content, UE011 without preload, UE012 tenant, 22023 bad input, 54000 payload too large, 42883 unknown on_result. Role: eduai_app. Example: SELECT eduai.enqueue(''chat'', ''{"messages": [{"role": "user", "content": "Hello"}]}'');';

CREATE OR REPLACE FUNCTION eduai.enqueue_batch(
	task_type text, payloads jsonb[], priority text DEFAULT 'normal',
	user_ids text[] DEFAULT NULL, unique_keys text[] DEFAULT NULL,
	metadata jsonb DEFAULT '{}', on_refusal text DEFAULT 'error') RETURNS bigint[]
	AS 'MODULE_PATHNAME', 'eduai_enqueue_batch' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.enqueue_batch(text, jsonb[], text, text[], text[], jsonb, text) IS
'Adds many tasks of one type in one statement; returns their ids in input order (NULL where on_refusal is skip and the task was refused). user_ids and unique_keys, when given, are as long as payloads. All or none otherwise. Errors: as eduai.enqueue(), and 2202E for arrays of unequal length. Role: eduai_app. Example: SELECT eduai.enqueue_batch(''chat'', ARRAY[''{"messages": []}'', ''{"messages": []}'']::jsonb[]);';

CREATE OR REPLACE FUNCTION eduai.get_task(task_id bigint) RETURNS SETOF eduai.task_status
	AS 'MODULE_PATHNAME', 'eduai_get_task' LANGUAGE C VOLATILE STRICT ROWS 1 PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.get_task(bigint) IS
'A task of the session''s tenant as it stands, also a finished one while it is kept; no row when unknown. Role: eduai_app, eduai_worker. Example: SELECT * FROM eduai.get_task(42);';

CREATE OR REPLACE FUNCTION eduai.get_tasks(task_ids bigint[]) RETURNS SETOF eduai.task_status
	AS 'MODULE_PATHNAME', 'eduai_get_tasks' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.get_tasks(bigint[]) IS
'The tasks with these ids, in the order of the ids, unknown ones left out. Role: eduai_app, eduai_worker. Example: SELECT * FROM eduai.get_tasks(ARRAY[1, 2]);';

CREATE OR REPLACE FUNCTION eduai.wait_task(task_id bigint, timeout interval DEFAULT '30 s')
	RETURNS eduai.task_status
	AS 'MODULE_PATHNAME', 'eduai_wait_task' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.wait_task(bigint, interval) IS
'Waits until the task is final and returns it, or returns it as it stands when the timeout (0 s to 1 day) is over; NULL (in FROM, a row of nulls) when unknown. Wakes at once when the task ends. Holds the statement''s snapshot while it waits: CALL eduai.await_task() does not. Errors: 25001 when this very transaction enqueued or changed the task, for it cannot run before the commit; 22023 bad timeout; UE011 without preload. Role: eduai_app. Example: SELECT * FROM eduai.wait_task(42, ''10 s'');';

CREATE OR REPLACE FUNCTION eduai.wait_tasks(task_ids bigint[], timeout interval DEFAULT '30 s')
	RETURNS SETOF eduai.task_status
	AS 'MODULE_PATHNAME', 'eduai_wait_tasks' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.wait_tasks(bigint[], interval) IS
'Waits until all these tasks are final or the timeout is over, and returns them in the order of the ids. Errors: as eduai.wait_task(). Role: eduai_app. Example: SELECT * FROM eduai.wait_tasks(ARRAY[1, 2], ''10 s'');';

CREATE OR REPLACE PROCEDURE eduai.await_task(task_id bigint, timeout interval, INOUT task eduai.task_status)
	AS 'MODULE_PATHNAME', 'eduai_await_task' LANGUAGE C;
COMMENT ON PROCEDURE eduai.await_task(bigint, interval, eduai.task_status) IS
'Commits, then waits like eduai.wait_task() but with no transaction snapshot held, so that a long wait keeps nothing from being vacuumed. Errors: 2D000 inside a transaction block, 22023 bad timeout, UE011 without preload. Role: eduai_app. Example: CALL eduai.await_task(42, ''5 min'', NULL);';

CREATE OR REPLACE FUNCTION eduai.cancel_task(task_id bigint) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_cancel_task' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.cancel_task(bigint) IS
'Ends a task that is not final; false when it is unknown or final already. Takes effect at commit: a running transfer is aborted then, and a result that comes late is refused. Role: eduai_app. Example: SELECT eduai.cancel_task(42);';

CREATE OR REPLACE FUNCTION eduai.retry_task(task_id bigint) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_retry_task' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.retry_task(bigint) IS
'Makes a dead, cancelled, uncertain or expired task ready again with as many attempts as it had at first; false when it is in no such state. Its earlier errors are kept. Errors: 23505 when another task with its unique_key lives. Role: eduai_app. Example: SELECT eduai.retry_task(42);';

CREATE OR REPLACE FUNCTION eduai.define_task_type(
	name text, served_by text, pool text, max_attempts int DEFAULT 3,
	timeout interval DEFAULT '5 min', on_uncertain text DEFAULT 'retry') RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_define_task_type' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.define_task_type(text, text, text, int, interval, text) IS
'Adds a task type, or redefines one (built-in ones too); tasks already enqueued keep what they had. served_by: gateway or application. pool: an existing pool; configure_pool() makes one. max_attempts: in all, 1 to 100. timeout: per attempt. on_uncertain, for a call whose answer was lost with its process: retry, or hold for a person. Errors: 22023 bad input, 42704 unknown pool. Role: eduai_admin. Example: SELECT eduai.define_task_type(''essay_review'', ''application'', ''analysis'');';

CREATE OR REPLACE FUNCTION eduai.configure_pool(
	name text, task_types text[], max_concurrent int, scale_to int DEFAULT NULL,
	reserved_critical int DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_configure_pool' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.configure_pool(text, text[], int, int, int) IS
'Makes or changes a pool and moves the task types to it; tasks already enqueued stay in the pool they were given. max_concurrent: calls at once (1 to 100000). scale_to: recorded; the most it may grow to under backlog. reserved_critical: of max_concurrent, slots kept for critical tasks (default 1 in pools of 2 or more). Errors: 22023 bad numbers or an unknown task type. Role: eduai_admin. Example: SELECT eduai.configure_pool(''chat'', ''{chat}'', 30);';

CREATE OR REPLACE FUNCTION eduai.task_types() RETURNS SETOF eduai.task_type_row
	AS 'MODULE_PATHNAME', 'eduai_task_types' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.task_types() IS
'All task types, built-in and defined. Role: any of eduai''s. Example: SELECT * FROM eduai.task_types();';

CREATE OR REPLACE FUNCTION eduai.pools() RETURNS SETOF eduai.pool_row
	AS 'MODULE_PATHNAME', 'eduai_pools' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.pools() IS
'All pools, built-in and configured. Role: any of eduai''s. Example: SELECT * FROM eduai.pools();';

-- Per tenant. Waits and run times are of tasks completed in the last hour.
CREATE OR REPLACE VIEW eduai.queue_status AS
SELECT t.task_type,
	(ARRAY['critical', 'high', 'normal', 'low'])[t.priority + 1] AS priority,
	pg_catalog.count(*) FILTER (WHERE t.state = 'waiting') AS waiting,
	pg_catalog.count(*) FILTER (WHERE t.state = 'scheduled') AS scheduled,
	pg_catalog.count(*) FILTER (WHERE t.state = 'ready') AS ready,
	pg_catalog.count(*) FILTER (WHERE t.state = 'running') AS running,
	pg_catalog.count(*) FILTER (WHERE t.state = 'dead') AS dead,
	pg_catalog.date_part('epoch', pg_catalog.now() -
		pg_catalog.min(t.run_at) FILTER (WHERE t.state = 'ready')) AS oldest_ready_seconds,
	pg_catalog.count(*) FILTER (WHERE t.state = 'completed' AND
		t.finished_at > pg_catalog.now() - interval '1 hour') AS completed_last_hour,
	pg_catalog.avg(1000 * pg_catalog.date_part('epoch', t.started_at - t.run_at))
		FILTER (WHERE t.state = 'completed' AND
			t.finished_at > pg_catalog.now() - interval '1 hour') AS avg_wait_ms,
	pg_catalog.avg(1000 * pg_catalog.date_part('epoch', t.finished_at - t.started_at))
		FILTER (WHERE t.state = 'completed' AND
			t.finished_at > pg_catalog.now() - interval '1 hour') AS avg_run_ms
FROM eduai.task t
WHERE t.tenant_id = eduai.current_tenant()
GROUP BY t.task_type, t.priority;
COMMENT ON VIEW eduai.queue_status IS
'The tenant''s tasks by type and priority: how many are waiting (for other tasks), scheduled, ready, running and dead, seconds since the oldest became ready, and completed tasks of the last hour with their average wait (from due to started) and run time in ms.';

-- Slots in use are of all tenants: a pool is one for all.
CREATE OR REPLACE VIEW eduai.pool_status AS
SELECT p.name,
	(SELECT pg_catalog.array_agg(y.name ORDER BY y.name) FROM eduai.task_types() y
	 WHERE y.pool = p.name) AS task_types,
	(SELECT pg_catalog.count(*) FROM eduai.task t
	 WHERE t.state = 'running' AND t.pool = p.name) AS running,
	p.max_concurrent,
	p.max_concurrent AS scaled_to
FROM eduai.pools() p;
COMMENT ON VIEW eduai.pool_status IS
'Each pool with the task types it serves, its tasks running now (all tenants), and its limit.';

CREATE OR REPLACE VIEW eduai.dead_letter AS
SELECT t.task_id, t.task_type,
	(ARRAY['critical', 'high', 'normal', 'low'])[t.priority + 1] AS priority,
	t.state, t.attempt, t.error, t.user_id, t.payload, t.metadata, t.enqueued_at, t.finished_at
FROM eduai.task t
WHERE t.tenant_id = eduai.current_tenant() AND t.state IN ('dead', 'uncertain');
COMMENT ON VIEW eduai.dead_letter IS
'The tenant''s tasks that failed for good (dead) or wait for a person (uncertain), with every attempt''s error; eduai.retry_task() takes one back.';

REVOKE ALL ON ALL ROUTINES IN SCHEMA eduai FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	eduai.enqueue(text, jsonb, text, timestamptz, bigint[], text, int, interval, text, jsonb, text, text, text, timestamptz),
	eduai.enqueue_batch(text, jsonb[], text, text[], text[], jsonb, text),
	eduai.wait_task(bigint, interval), eduai.wait_tasks(bigint[], interval),
	eduai.cancel_task(bigint), eduai.retry_task(bigint)
	TO eduai_app;
GRANT EXECUTE ON PROCEDURE eduai.await_task(bigint, interval, eduai.task_status) TO eduai_app;
GRANT EXECUTE ON FUNCTION eduai.get_task(bigint), eduai.get_tasks(bigint[])
	TO eduai_app, eduai_worker;
GRANT EXECUTE ON FUNCTION eduai.task_types(), eduai.pools()
	TO eduai_admin, eduai_app, eduai_worker, eduai_reader;
GRANT EXECUTE ON FUNCTION
	eduai.define_task_type(text, text, text, int, interval, text),
	eduai.configure_pool(text, text[], int, int, int)
	TO eduai_admin;
GRANT SELECT ON eduai.queue_status, eduai.pool_status, eduai.dead_letter
	TO eduai_admin, eduai_reader, eduai_app;
