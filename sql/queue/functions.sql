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
task_type: chat, image_generation, transcription, embeddings, analysis, custom, or one of define_task_type(). payload: the provider''s request in OpenAI''s shape for the type, an object of at most eduai.max_payload_size. priority: critical, high, normal or low. run_at: not before. depends_on: ids of tasks that must end first (metadata.on_parent_failure: fail, run or wait). unique_key: while a task with it is not final, its id is returned. max_attempts, timeout (per attempt): instead of the type''s. user_id: the learner it is about; a result then appends ai_feedback_given to the learner''s stream unless metadata.follow_up is false. metadata.sensitive: true, for the whole payload, or an array of the payload''s keys that are stored sealed, as the result is, in a task with a user_id where eduai.key_store is set. on_refusal: error raises, defer accepts and runs when allowed, skip returns NULL. on_result: a function (eduai.task_status) returns void, run as the calling role in the commit that records the result; its error is recorded on the task and undoes only its own work. idempotency_key: for 24 h the same id whatever the state. expires_at: ends the task when it has not started.
Errors: UE003 queue full, UE007 a consent is missing (eduai.require_consent), 55000 the payload must be sealed and cannot be, UE004 nothing serves the type and model, UE006 idempotency key with other content, UE011 without preload, UE012 tenant, 22023 bad input, 54000 payload too large, 42883 unknown on_result. Role: eduai_app. Example: SELECT eduai.enqueue(''chat'', ''{"messages": [{"role": "user", "content": "Hello"}]}'');';

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
'A task of the session''s tenant as it stands, also a finished one while it is kept; no row when unknown. progress is what its worker said last ({current, total, message, text}); of one that streams, text is what has come so far. Role: eduai_app, eduai_worker. Example: SELECT * FROM eduai.get_task(42);';

CREATE OR REPLACE FUNCTION eduai.get_tasks(task_ids bigint[]) RETURNS SETOF eduai.task_status
	AS 'MODULE_PATHNAME', 'eduai_get_tasks' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.get_tasks(bigint[]) IS
'The tasks with these ids, in the order of the ids, unknown ones left out. Role: eduai_app, eduai_worker. Example: SELECT * FROM eduai.get_tasks(ARRAY[1, 2]);';

CREATE OR REPLACE FUNCTION eduai.task_embedding(task_id bigint) RETURNS real[]
	LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT CASE WHEN pg_catalog.jsonb_typeof(v.vector) = 'array' THEN
			(SELECT pg_catalog.array_agg(e.value::real ORDER BY e.n)
			 FROM pg_catalog.jsonb_array_elements_text(v.vector) WITH ORDINALITY e (value, n)) END
		FROM (SELECT coalesce(t.result->'embedding', t.result->'embeddings'->0) AS vector
			FROM eduai.get_task($1) t) v
	$$;
COMMENT ON FUNCTION eduai.task_embedding(bigint) IS
'The embedding that a completed task gave, the first when it gave several, as an array; NULL when there is none or the task is unknown. Role: eduai_app, eduai_worker. Example: SELECT eduai.task_embedding(42);';

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
'Adds a task type, or redefines one (built-in ones too); tasks already enqueued keep their attempts and timeout, the rest holds for them, too. served_by: gateway or application. pool: an existing pool; configure_pool() makes one. max_attempts: in all, 1 to 100. timeout: per attempt. on_uncertain, for a call whose answer was lost with its process: retry, or hold for a person. Errors: 22023 bad input, 42704 unknown pool. Role: eduai_admin. Example: SELECT eduai.define_task_type(''essay_review'', ''application'', ''analysis'');';

CREATE OR REPLACE FUNCTION eduai.configure_pool(
	name text, task_types text[], max_concurrent int, scale_to int DEFAULT NULL,
	reserved_critical int DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_configure_pool' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.configure_pool(text, text[], int, int, int) IS
'Makes or changes a pool and moves the task types to it, with the tasks that wait; what runs stays where it started. max_concurrent: attempts at once, of all tenants (1 to 100000). scale_to: the most it may grow to while tasks wait too long and no provider pushes back (default max_concurrent). reserved_critical: of its slots, those kept for critical tasks (default 1 in pools of 2 or more). Exact at once: no more are started from the call on than a smaller pool allows, a larger one counts from the commit on. Errors: 22023 bad numbers or an unknown task type, 53400 too many pools, 0A000 at PREPARE TRANSACTION. Role: eduai_admin. Example: SELECT eduai.configure_pool(''chat'', ''{chat}'', 3, scale_to => 30);';

CREATE OR REPLACE FUNCTION eduai.task_types() RETURNS SETOF eduai.task_type_row
	AS 'MODULE_PATHNAME', 'eduai_task_types' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.task_types() IS
'All task types, built-in and defined. Role: any of eduai''s. Example: SELECT * FROM eduai.task_types();';

CREATE OR REPLACE FUNCTION eduai.pools() RETURNS SETOF eduai.pool_row
	AS 'MODULE_PATHNAME', 'eduai_pools' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.pools() IS
'All pools, built-in and configured. Role: any of eduai''s. Example: SELECT * FROM eduai.pools();';

-- Per tenant: one pass over its living tasks, and one over those that ended in
-- the last hour and the dead ones, through task_end_state. Not (SELECT current_tenant())
-- there: the planner has to see which tenant and key it is to know how many there are.
CREATE OR REPLACE VIEW eduai.queue_status AS
WITH living AS (
	SELECT l.task_type, l.priority,
		pg_catalog.count(*) FILTER (WHERE l.state = 'waiting') AS waiting,
		pg_catalog.count(*) FILTER (WHERE l.state = 'scheduled') AS scheduled,
		pg_catalog.count(*) FILTER (WHERE l.state = 'ready') AS ready,
		pg_catalog.count(*) FILTER (WHERE l.state = 'running') AS running,
		pg_catalog.min(l.run_at) FILTER (WHERE l.state = 'ready') AS oldest_ready
	FROM (
		SELECT t.task_type, t.priority, t.state, t.run_at FROM eduai.task_live t
		WHERE t.tenant_id = (SELECT eduai.current_tenant())
		UNION ALL
		SELECT f.task_type, f.priority, 'ready', f.run_at FROM eduai.fresh_task f
		WHERE f.tenant_id = (SELECT eduai.current_tenant())
	) l
	GROUP BY 1, 2
), dead AS (
	SELECT e.task_type, e.priority, pg_catalog.count(*) AS dead
	FROM eduai.task_end e
	WHERE e.tenant_id = eduai.current_tenant() AND e.state = 'dead'
		AND e.ended_key = pg_catalog.hashtextextended('dead ' || eduai.current_tenant(), 0)
	GROUP BY 1, 2
), failed AS (
	SELECT e.task_type, e.priority, pg_catalog.count(*) AS failed
	FROM eduai.task_end e
	WHERE e.tenant_id = eduai.current_tenant() AND e.state IN ('dead', 'uncertain')
		AND e.ended_key IN (pg_catalog.hashtextextended('dead ' || eduai.current_tenant(), 0),
			pg_catalog.hashtextextended('uncertain ' || eduai.current_tenant(), 0))
		AND e.finished_at > pg_catalog.statement_timestamp() - interval '1 hour'
	GROUP BY 1, 2
), completed AS (
	SELECT e.task_type, e.priority, pg_catalog.count(*) AS completed,
		pg_catalog.avg(t.wait_ms) AS avg_wait_ms, pg_catalog.avg(t.run_ms) AS avg_run_ms,
		pg_catalog.percentile_cont(0.95) WITHIN GROUP (ORDER BY t.wait_ms) AS p95_wait_ms,
		pg_catalog.count(*) FILTER (WHERE e.finished_at >
			pg_catalog.statement_timestamp() - interval '5 minutes') AS lately
	FROM eduai.task_end e
	CROSS JOIN LATERAL (SELECT
		1000 * pg_catalog.date_part('epoch', e.started_at - e.run_at) AS wait_ms,
		1000 * pg_catalog.date_part('epoch', e.finished_at - e.started_at) AS run_ms) t
	WHERE e.tenant_id = eduai.current_tenant() AND e.state = 'completed'
		AND e.ended_key = pg_catalog.hashtextextended('completed ' || eduai.current_tenant(), 0)
		AND e.finished_at > pg_catalog.statement_timestamp() - interval '1 hour'
	GROUP BY 1, 2
)
SELECT task_type,
	(ARRAY['critical', 'high', 'normal', 'low'])[priority + 1] AS priority,
	coalesce(l.waiting, 0) AS waiting,
	coalesce(l.scheduled, 0) AS scheduled,
	coalesce(l.ready, 0) AS ready,
	coalesce(l.running, 0) AS running,
	coalesce(d.dead, 0) AS dead,
	pg_catalog.date_part('epoch', pg_catalog.statement_timestamp() - l.oldest_ready) AS oldest_ready_seconds,
	coalesce(c.completed, 0) AS completed_last_hour,
	c.avg_wait_ms, c.avg_run_ms,
	coalesce(f.failed, 0) AS failed_last_hour,
	coalesce(c.completed, 0)::double precision /
		nullif(coalesce(c.completed, 0) + coalesce(f.failed, 0), 0) AS success_rate,
	c.p95_wait_ms,
	coalesce(c.lately, 0) / 5.0::double precision AS per_minute
FROM living l
FULL JOIN dead d USING (task_type, priority)
FULL JOIN failed f USING (task_type, priority)
FULL JOIN completed c USING (task_type, priority);
COMMENT ON VIEW eduai.queue_status IS
'The tenant''s tasks by type and priority. waiting (for other tasks), scheduled, ready (those held back by their concurrency key too), running and dead: how many there are. oldest_ready_seconds: since the oldest ready task was due. completed_last_hour, failed_last_hour (dead or uncertain) and success_rate (0 to 1; NULL without any). avg_wait_ms and p95_wait_ms (from due to the start of the last attempt) and avg_run_ms: of tasks completed in the last hour. per_minute: completed in the last 5 minutes, over 5. Role: eduai_reader, eduai_app, eduai_admin. Example: SELECT * FROM eduai.queue_status WHERE ready > 0;';

CREATE OR REPLACE VIEW eduai.dead_letter AS
SELECT e.task_id, e.task_type,
	(ARRAY['critical', 'high', 'normal', 'low'])[e.priority + 1] AS priority,
	e.state, e.attempt, e.error, r.user_id, r.payload, r.metadata, r.enqueued_at, e.finished_at
FROM eduai.task_end e
JOIN eduai.task_request r ON r.tenant_id = e.tenant_id AND r.task_id = e.task_id
WHERE e.tenant_id = eduai.current_tenant() AND e.state IN ('dead', 'uncertain')
	AND e.ended_key IN (pg_catalog.hashtextextended('dead ' || eduai.current_tenant(), 0),
		pg_catalog.hashtextextended('uncertain ' || eduai.current_tenant(), 0));
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
GRANT EXECUTE ON FUNCTION eduai.get_task(bigint), eduai.get_tasks(bigint[]), eduai.task_embedding(bigint)
	TO eduai_app, eduai_worker;
GRANT EXECUTE ON FUNCTION eduai.task_types(), eduai.pools()
	TO eduai_admin, eduai_app, eduai_worker, eduai_reader;
GRANT EXECUTE ON FUNCTION
	eduai.define_task_type(text, text, text, int, interval, text),
	eduai.configure_pool(text, text[], int, int, int)
	TO eduai_admin;
GRANT SELECT ON eduai.queue_status, eduai.dead_letter
	TO eduai_admin, eduai_reader, eduai_app;

-- ---- workers of applications ----

CREATE OR REPLACE FUNCTION eduai.claim_tasks(
	worker text, task_types text[], max_count int DEFAULT 1,
	lease interval DEFAULT '30 s', wait interval DEFAULT '0') RETURNS SETOF eduai.claimed_task
	AS 'MODULE_PATHNAME', 'eduai_claim_tasks' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION eduai.claim_tasks(text, text[], int, interval, interval) IS
'Takes up to max_count (1 to 10000) ready tasks of the session''s tenant, of types that applications serve, for this worker: they are running when the caller''s transaction commits, and ready again when it rolls back. Most urgent first; never more than their pool''s size run, whoever claims.
worker: a name of 1 to 63 bytes, for eduai.worker_status. lease (1 s to 1 day): how long the worker may be silent; eduai.extend_lease() asks for more, up to the task''s timeout. When it is over the attempt has failed (lease_lapsed) and another worker gets the task at once. wait (0 s to 1 day): how long to wait when there is nothing; it ends at once when a task comes. It may also end early without a row. Commit soon after a claim: what an open transaction claimed, no restart gives back to others, and a statement that waits keeps its snapshot, so that vacuum cannot remove what was deleted since; in a database that is written to, wait for a minute rather than a day.
Returns task_id and attempt, which complete_task(), fail_task() and extend_lease() want back; payload; lease_until on the wall clock; parents: the results of the tasks that it depends on, null for none. Call it in FROM: (claim_tasks(...)).* would claim once for each column. Errors: 22023 bad input or a type that the gateway serves, 25006 in a read-only transaction, 0A000 at PREPARE TRANSACTION, UE011 without preload, UE012 tenant. Role: eduai_worker. Example: SELECT * FROM eduai.claim_tasks(''host-1'', ARRAY[''custom''], max_count => 10, wait => ''30 s'');';

CREATE OR REPLACE FUNCTION eduai.complete_task(
	task_id bigint, attempt int, result jsonb DEFAULT NULL, cost_usd numeric DEFAULT NULL)
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_complete_task' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.complete_task(bigint, int, jsonb, numeric) IS
'Records that the attempt, claimed by eduai.claim_tasks(), did the task: with its result (any JSON, kept as given) and what it cost in US dollars, in the caller''s transaction, together with what follows (on_result, ai_feedback_given). A lease that is over does not matter as long as nobody else has got the task. Errors: UE009 when the attempt was superseded (its lease was over and the task is another''s, it was cancelled, it is final), with the reason in the detail; 22023 negative cost; 22004 null; 0A000 at PREPARE TRANSACTION; UE011, UE012. Role: eduai_worker. Example: SELECT eduai.complete_task(42, 1, ''{"text": "Well done"}'');';

CREATE OR REPLACE FUNCTION eduai.complete_tasks(
	task_ids bigint[], attempts int[], results jsonb[] DEFAULT NULL,
	costs_usd numeric[] DEFAULT NULL, on_stale text DEFAULT 'skip') RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_complete_tasks' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.complete_tasks(bigint[], int[], jsonb[], numeric[], text) IS
'As eduai.complete_task() for up to 10000 tasks in one statement; arrays of the same length. Returns how many were recorded. on_stale: skip (the default) leaves superseded attempts out, so that one lost lease does not cost the others their results; error raises UE009 for the first and records nothing. Errors: 2202E arrays of unequal length, 22023 a task given twice, and those of complete_task(). Role: eduai_worker. Example: SELECT eduai.complete_tasks(ARRAY[42, 43], ARRAY[1, 1], ARRAY[''{"text": "a"}'', ''{"text": "b"}'']::jsonb[]);';

CREATE OR REPLACE FUNCTION eduai.fail_task(
	task_id bigint, attempt int, error text, retry boolean DEFAULT true,
	retry_after interval DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_fail_task' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.fail_task(bigint, int, text, boolean, interval) IS
'Records that the attempt failed. The task is tried again after a backoff of 1 s doubling to 60 s, or after retry_after (to 1 day) if that is longer; with retry false, or when its attempts are used up, it is dead. error: at most 2000 bytes are kept, control characters as spaces, in the task''s error with code worker_failed. Errors: UE009 when the attempt was superseded, 22023 bad retry_after, 22004 null, 0A000 at PREPARE TRANSACTION, UE011, UE012. Role: eduai_worker. Example: SELECT eduai.fail_task(42, 1, ''the model server said 503'', retry_after => ''20 s'');';

CREATE OR REPLACE FUNCTION eduai.extend_lease(
	task_id bigint, attempt int, lease interval DEFAULT '30 s', progress jsonb DEFAULT NULL)
	RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'eduai_extend_lease' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.extend_lease(bigint, int, interval, jsonb) IS
'Says that the worker lives: the attempt''s lease (1 s to 1 day) begins again now, at once and whatever becomes of the transaction; returns when it will be over, on the wall clock: at the latest when the attempt''s timeout is. Writes no row, unless progress is given: an object of current and total (numbers), message and text (strings), at most 8 kB, shown by eduai.get_task() once the transaction commits. Send it every third of the lease. Errors: UE009 when the attempt was superseded or its lease is over; 22023 bad lease or progress, 54000 progress too large, 22004 null, UE011, UE012. Role: eduai_worker. Example: SELECT eduai.extend_lease(42, 1, ''1 min'', ''{"current": 3, "total": 10}'');';

REVOKE ALL ON FUNCTION
	eduai.claim_tasks(text, text[], int, interval, interval),
	eduai.complete_task(bigint, int, jsonb, numeric),
	eduai.complete_tasks(bigint[], int[], jsonb[], numeric[], text),
	eduai.fail_task(bigint, int, text, boolean, interval),
	eduai.extend_lease(bigint, int, interval, jsonb)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	eduai.claim_tasks(text, text[], int, interval, interval),
	eduai.complete_task(bigint, int, jsonb, numeric),
	eduai.complete_tasks(bigint[], int[], jsonb[], numeric[], text),
	eduai.fail_task(bigint, int, text, boolean, interval),
	eduai.extend_lease(bigint, int, interval, jsonb)
	TO eduai_worker;
-- ---- pools, leases and workers ----

CREATE OR REPLACE FUNCTION eduai.pool_stands() RETURNS SETOF eduai.pool_stand
	AS 'MODULE_PATHNAME', 'eduai_pool_stands' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.pool_stands() IS
'Each pool with the attempts that run in it now, of all tenants, those of transactions that have not ended included, and its size: how many may. Without preload nothing runs. Role: any of eduai''s. Example: SELECT * FROM eduai.pool_stands();';

CREATE OR REPLACE FUNCTION eduai.worker_stands() RETURNS SETOF eduai.worker_stand
	AS 'MODULE_PATHNAME', 'eduai_worker_stands' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.worker_stands() IS
'For eduai.worker_status: the workers of the session''s tenant that asked for tasks since the server start, of the 1024 seen last on this server. task_types is a list separated by commas. Errors: UE012. Role: any of eduai''s. Example: SELECT * FROM eduai.worker_stands();';

-- Slots in use are of all tenants: a pool is one for all.
CREATE OR REPLACE VIEW eduai.pool_status AS
SELECT p.name,
	(SELECT pg_catalog.array_agg(y.name ORDER BY y.name) FROM eduai.task_types() y
	 WHERE y.pool = p.name) AS task_types,
	s.running,
	p.max_concurrent,
	s.size AS scaled_to
FROM eduai.pools() p
JOIN eduai.pool_stands() s ON s.name = p.name;
COMMENT ON VIEW eduai.pool_status IS
'Each pool with the task types it serves, its tasks running now (all tenants), max_concurrent, and how many may run now: between max_concurrent and scale_to.';

CREATE OR REPLACE VIEW eduai.worker_status AS
SELECT w.worker,
	pg_catalog.string_to_array(nullif(w.task_types, ''), ',') AS task_types,
	w.leases,
	w.last_seen
FROM eduai.worker_stands() w;
COMMENT ON VIEW eduai.worker_status IS
'The tenant''s application workers that were seen since the server start: the task types that each asked for last, the attempts it runs, and when it was seen last.';

CREATE OR REPLACE FUNCTION eduai.test_schedule(lanes jsonb, pool jsonb, choices int) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_schedule' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_schedule(jsonb, jsonb, int) IS
'For tests: runs the scheduler over a simulated pool (slots, reserved, service_us) and lanes (priority, first_us, every_us, count), and returns [lane, at_us, waited_us] of each start. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_schedule(''[{"priority": "low"}]'', ''{"slots": 2}'', 10);';

CREATE OR REPLACE FUNCTION eduai.test_scale(inputs jsonb) RETURNS int[]
	AS 'MODULE_PATHNAME', 'eduai_test_scale' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_scale(jsonb) IS
'For tests: a pool''s size after each input (at_ms, least, most, running, waiting, pushback). Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_scale(''[{"at_ms": 1000, "least": 3, "most": 30, "waiting": true}]'');';

CREATE OR REPLACE FUNCTION eduai.test_attempt(
	action text, task_id bigint DEFAULT 0, attempt int DEFAULT 1, options jsonb DEFAULT '{}') RETURNS text
	AS 'MODULE_PATHNAME', 'eduai_test_attempt' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_attempt(text, bigint, int, jsonb) IS
'For tests: does something to the attempts that run, without a task: start (pool, priority, concurrency_key, lease_ms, worker, task_types), take back, end, runs, extend (lease_ms), unlapse, lapsed (most), next lapse, key busy, key held, key freed (concurrency_key), check pools. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_attempt(''start'', 1, 1, ''{"pool": "chat"}'');';

REVOKE ALL ON FUNCTION
	eduai.pool_stands(), eduai.worker_stands(),
	eduai.test_schedule(jsonb, jsonb, int), eduai.test_scale(jsonb),
	eduai.test_attempt(text, bigint, int, jsonb)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.pool_stands(), eduai.worker_stands()
	TO eduai_admin, eduai_app, eduai_worker, eduai_reader;
GRANT SELECT ON eduai.pool_status TO eduai_admin, eduai_reader, eduai_app;
GRANT SELECT ON eduai.worker_status TO eduai_admin, eduai_reader, eduai_app, eduai_worker;
-- ---- lanes ----

CREATE OR REPLACE FUNCTION eduai.pause_queue(task_type text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_pause_queue' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.pause_queue(text) IS
'Holds back the tasks of a type, of all tenants, until eduai.resume_queue(): what is claimed after the commit is none of them; what runs goes on, and tasks are still enqueued. task_type: one of eduai.task_types(). Does nothing when it is paused already. Errors: 22023 unknown type, 22004 null. Role: eduai_admin. Example: SELECT eduai.pause_queue(''chat'');';

CREATE OR REPLACE FUNCTION eduai.resume_queue(task_type text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_resume_queue' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.resume_queue(text) IS
'Lets the tasks of a paused type start again, from the commit on, in the order in which they became ready. Does nothing when it is not paused. Errors: 22023 unknown type, 22004 null. Role: eduai_admin. Example: SELECT eduai.resume_queue(''chat'');';

CREATE OR REPLACE FUNCTION eduai.test_claim(tenant text, task_types text[], most int) RETURNS bigint[]
	AS 'MODULE_PATHNAME', 'eduai_test_claim' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_claim(text, text[], int) IS
'For tests: claims up to "most" ready tasks of a tenant ('''': of all) and application types; their ids in the order of the claim. Errors: 55000 unless eduai.test_mode is on; UE011 without preload. Role: superuser. Example: SELECT eduai.test_claim(''default'', ''{custom}'', 10);';

CREATE OR REPLACE FUNCTION eduai.test_await_claim(tenant text, task_types text[], most int) RETURNS bigint[]
	AS 'MODULE_PATHNAME', 'eduai_test_await_claim' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_await_claim(text, text[], int) IS
'For tests: as eduai.test_claim(), but waits until there is a task. Errors: 55000 unless eduai.test_mode is on; UE011 without preload. Role: superuser. Example: SELECT eduai.test_await_claim(''default'', ''{custom}'', 10);';

CREATE OR REPLACE FUNCTION eduai.test_lane(tenant text, task_type text, model text, priority text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_lane' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_lane(text, text, text, text) IS
'For tests: what shared memory has of a lane of ready tasks; null when it is not in the directory. model: null for any. Errors: 55000 unless eduai.test_mode is on; UE011 without preload. Role: superuser. Example: SELECT eduai.test_lane(''default'', ''custom'', NULL, ''normal'');';

CREATE OR REPLACE FUNCTION eduai.test_lane_sweep() RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_test_lane_sweep' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_lane_sweep() IS
'For tests: one slice of the sweep of the lanes, as the dispatcher does it; whether it found a task that nobody announced. Errors: 55000 unless eduai.test_mode is on; UE011 without preload. Role: superuser. Example: SELECT eduai.test_lane_sweep();';

REVOKE ALL ON FUNCTION eduai.pause_queue(text), eduai.resume_queue(text),
	eduai.test_claim(text, text[], int), eduai.test_await_claim(text, text[], int),
	eduai.test_lane(text, text, text, text), eduai.test_lane_sweep() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.pause_queue(text), eduai.resume_queue(text) TO eduai_admin;
-- ---- streamed output ----

CREATE OR REPLACE FUNCTION eduai.task_output(task_id bigint, after_seq int DEFAULT 0, wait interval DEFAULT '10 s')
	RETURNS SETOF eduai.output_delta
	AS 'MODULE_PATHNAME', 'eduai_task_output' LANGUAGE C VOLATILE STRICT ROWS 100 PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.task_output(bigint, int, interval) IS
'What a task of the session''s tenant has written after the delta after_seq, as soon as there is any: (seq, delta, done, attempt). Waits up to wait (0 s to 1 day) while there is nothing new and the task is not final, and then returns no row; no row either for an unknown task. done is true in the last row of all, which has no delta (NULL) where no more text came.
Call it again with the last seq until done. Numbers grow by one; attempt n''s begin at (n - 1) * 1,000,000 + 1, so a new attempt begins in another million, and its text replaces that of the attempt before. Any other gap in seq is text that had to give room (eduai.output_buffer) before this reader had it. A row without delta whose seq is higher than after_seq says so at the end: eduai.get_task() has the whole result. To a reader that has nothing of the last attempt (after_seq 0), a completed task whose text is not in memory gives its result''s text as one delta.
Holds the statement''s snapshot while it waits. Errors: UE011 without preload, UE012 tenant, 22023 bad after_seq or wait. Role: eduai_app. Example: SELECT * FROM eduai.task_output(42, after_seq => 17, wait => ''30 s'');';

CREATE OR REPLACE FUNCTION eduai.append_output(task_id bigint, attempt int, delta text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_append_output' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.append_output(bigint, int, text) IS
'Adds text, at most 1 MB, to what the running attempt of a task has written, for readers of eduai.task_output(). It is not the result: eduai.complete_task() gives that. Takes effect at once, and stays when the transaction rolls back: it is in shared memory, gone after a restart of the server. Errors: UE009 when the attempt does not run (its lease was lost, or the task was cancelled or has ended), UE011 without preload, UE012 tenant, 54000 too long. Role: eduai_worker. Example: SELECT eduai.append_output(42, 1, ''Once upon '');';

CREATE OR REPLACE FUNCTION eduai.forget_output(after_task bigint) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_forget_output' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.forget_output(bigint) IS
'Forgets what tasks of this database with higher ids wrote: for the script that makes the extension, since ids begin again with it, and what the tasks of an earlier one wrote must not be taken for theirs. Role: superuser. Example: SELECT eduai.forget_output(1000);';
SELECT eduai.forget_output(CASE WHEN s.is_called THEN s.last_value ELSE 0 END) FROM eduai.task_id_seq s;

CREATE OR REPLACE FUNCTION eduai.test_append_output(task_id bigint, attempt int, bytes bytea) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_test_append_output' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_append_output(bigint, int, bytea) IS
'For tests: adds bytes to what an attempt has written, as the dispatcher does, whether or not it runs. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_append_output(42, 1, ''\xc3'');';

REVOKE ALL ON FUNCTION
	eduai.task_output(bigint, int, interval), eduai.append_output(bigint, int, text),
	eduai.forget_output(bigint), eduai.test_append_output(bigint, int, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.task_output(bigint, int, interval) TO eduai_app;
GRANT EXECUTE ON FUNCTION eduai.append_output(bigint, int, text) TO eduai_worker;

-- ---- attachments ----

CREATE OR REPLACE FUNCTION eduai.attach(data bytea, content_type text, user_id text DEFAULT NULL) RETURNS uuid
	AS 'MODULE_PATHNAME', 'eduai_attach' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.attach(bytea, text, text) IS
'Stores bytes (audio, an image) that payloads refer to, at any depth, as {"attachment": "<id>"}, and returns the id. data: at most eduai.max_attachment_size. content_type: a media type of at most 255 bytes, with parameters if you like. user_id: the learner it is about: under whose key it is stored sealed, where there is a key store. It is kept until the last task that refers to it is forgotten; one that no task refers to until eduai.forget_tasks(). Errors: 22023 empty data or no media type, 22004 null, 54000 too large, UE012 tenant, UE008 the learner was erased, 55000 it must be sealed and the key store cannot be used. Role: eduai_app. Example: SELECT eduai.enqueue(''transcription'', jsonb_build_object(''audio'', jsonb_build_object(''attachment'', eduai.attach(''\x1a45dfa3'', ''audio/webm''))));';

CREATE OR REPLACE FUNCTION eduai.attachment(attachment_id uuid) RETURNS SETOF eduai.attachment_data
	AS 'MODULE_PATHNAME', 'eduai_attachment' LANGUAGE C VOLATILE STRICT ROWS 1 PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.attachment(uuid) IS
'An attachment of the session''s tenant: (content_type, data, user_id, created_at); no row when there is none. data is null where it is sealed and the caller may not see it, or the learner was erased. Errors: UE012 tenant, 55000 the key store cannot be used. Role: eduai_app, eduai_worker. Example: SELECT content_type, data FROM eduai.attachment(''01920000-0000-7000-8000-000000000000'');';

CREATE OR REPLACE FUNCTION eduai.test_drop_attachments(task_ids bigint[]) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_test_drop_attachments' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_drop_attachments(bigint[]) IS
'For tests: drops what these tasks of the tenant keep of attachments, as when they are forgotten. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_drop_attachments(ARRAY[42]);';

CREATE OR REPLACE FUNCTION eduai.test_drop_unlinked_attachments(older_than interval, max_count int) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_test_drop_unlinked_attachments' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_drop_unlinked_attachments(interval, int) IS
'For tests: drops attachments of all tenants that no task refers to, and returns how many. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_drop_unlinked_attachments(''1 day'', 100);';

REVOKE ALL ON FUNCTION eduai.attach(bytea, text, text), eduai.attachment(uuid),
	eduai.test_drop_attachments(bigint[]), eduai.test_drop_unlinked_attachments(interval, int)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.attach(bytea, text, text) TO eduai_app;
GRANT EXECUTE ON FUNCTION eduai.attachment(uuid) TO eduai_app, eduai_worker;

-- ---- history ----

CREATE OR REPLACE FUNCTION eduai.forget_tasks(older_than interval, states text[] DEFAULT NULL)
	RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_forget_tasks' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.forget_tasks(interval, text[]) IS
'Deletes the session''s tenant''s tasks that ended longer ago than this, at once and whatever eduai.task_retention says, with their requests and the attachments that no other task refers to; returns how many. Usage, events and the learners'' streams stay. states: of completed, dead, cancelled, uncertain and expired; NULL for all, and for the tenant''s attachments that no task refers to if they are older than that and than a day. Kept are parents of tasks that wait, tasks whose idempotency_key is younger than 24 h, and tasks that another session holds at the moment. Errors: 22004 older_than is null, 22023 negative or longer than 36500 days, or another state; UE012 tenant. Role: eduai_admin. Example: SELECT eduai.forget_tasks(''1 day'', ''{completed,cancelled}'');';

REVOKE ALL ON FUNCTION eduai.forget_tasks(interval, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.forget_tasks(interval, text[]) TO eduai_admin;

-- ---- dependencies and redriving ----

CREATE OR REPLACE FUNCTION eduai.add_dependency(task_id bigint, depends_on bigint[]) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_add_dependency' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.add_dependency(bigint, bigint[]) IS
'Makes a task that has not started (waiting, scheduled or ready) wait for more tasks; parents that completed are nothing to wait for, and for failed ones metadata.on_parent_failure of the task says what follows, as in eduai.enqueue(). Errors: UE010 when the task would depend on itself, directly or over others; 55000 when it has started or ended; 22023 for an unknown id; UE011 without preload. Role: eduai_app. Example: SELECT eduai.add_dependency(42, ARRAY[40, 41]);';

CREATE OR REPLACE FUNCTION eduai.redrive(task_type text DEFAULT NULL, since timestamptz DEFAULT NULL) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_redrive' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.redrive(text, timestamptz) IS
'Makes all of the tenant''s dead, cancelled, uncertain and expired tasks ready again, oldest first, and returns how many: those of a type, or of every type; those that ended at "since" or later, or all that are kept. As eduai.retry_task() for each, but one whose unique_key another task has, or that somebody else is changing, is passed over. All of them are one transaction: give "since" in steps to take back very many. Errors: 22023 for an unknown type, UE011 without preload. Role: eduai_app. Example: SELECT eduai.redrive(''chat'', now() - interval ''1 hour'');';

REVOKE ALL ON FUNCTION eduai.add_dependency(bigint, bigint[]), eduai.redrive(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.add_dependency(bigint, bigint[]), eduai.redrive(text, timestamptz)
	TO eduai_app;
