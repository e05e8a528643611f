-- The queue's state.

CREATE TYPE eduai.task_status AS (
	task_id bigint,
	task_type text,
	priority text,
	state text,
	attempt int,
	result jsonb,
	error jsonb,
	progress jsonb,
	instance text,
	cost_usd numeric,
	enqueued_at timestamptz,
	run_at timestamptz,
	started_at timestamptz,
	finished_at timestamptz,
	user_id text,
	metadata jsonb
);

CREATE TYPE eduai.task_type_row AS (
	name text,
	served_by text,
	pool text,
	max_attempts int,
	timeout interval,
	on_uncertain text
);

CREATE TYPE eduai.pool_row AS (
	name text,
	max_concurrent int,
	scale_to int,
	reserved_critical int
);

CREATE SEQUENCE eduai.task_id_seq AS bigint;

-- What define_task_type() and configure_pool() were given; the built-in types
-- and pools are in the library (src/queue/catalog.c), so that a dump carries
-- only what an administrator changed.
CREATE TABLE eduai.task_type (
	name text PRIMARY KEY,
	served_by text NOT NULL CHECK (served_by IN ('gateway', 'application')),
	pool text NOT NULL,
	max_attempts int NOT NULL CHECK (max_attempts BETWEEN 1 AND 100),
	timeout_ms bigint NOT NULL CHECK (timeout_ms > 0),
	on_uncertain text NOT NULL CHECK (on_uncertain IN ('retry', 'hold'))
);

CREATE TABLE eduai.pool (
	name text PRIMARY KEY,
	max_concurrent int NOT NULL CHECK (max_concurrent BETWEEN 1 AND 100000),
	scale_to int CHECK (scale_to >= max_concurrent),
	reserved_critical int NOT NULL CHECK (reserved_critical BETWEEN 0 AND max_concurrent)
);

-- What was asked for: written once by enqueue, never changed, deleted when its
-- task is forgotten. So the rows that change (task_live) stay small. Vacuum goes
-- through it, and through task_end, at the server's pace: they are large, and
-- nothing waits for it; nor does it cut task_request short (VACUUM (TRUNCATE) does),
-- which would lock out who enqueues.
CREATE TABLE eduai.task_request (
	tenant_id text COLLATE "C" NOT NULL,
	task_id bigint NOT NULL,
	task_type text COLLATE "C" NOT NULL,
	priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 3),
	max_attempts int NOT NULL,
	timeout_ms bigint NOT NULL,
	model text COLLATE "C",
	user_id text COLLATE "C",
	owner text COLLATE "C" NOT NULL,
	on_result text,
	idempotency_key text COLLATE "C",
	unique_key text COLLATE "C",
	concurrency_key text COLLATE "C",
	depends_on bigint[],
	enqueued_at timestamptz NOT NULL,
	expires_at timestamptz,
	payload jsonb NOT NULL,
	metadata jsonb NOT NULL,
	PRIMARY KEY (tenant_id, task_id)
) WITH (
	vacuum_truncate = false,
	toast.vacuum_truncate = false,
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_insert_scale_factor = 0.5,
	autovacuum_analyze_scale_factor = 0.2
);
ALTER TABLE eduai.task_request ALTER COLUMN user_id SET STATISTICS 0;
CREATE INDEX task_request_idempotency_key ON eduai.task_request (tenant_id, idempotency_key, enqueued_at)
	WHERE idempotency_key IS NOT NULL;

-- The state of a task that is not final; those that were enqueued ready mostly get
-- their row when they start (src/queue/fresh.h). A row is deleted when its task ends.
-- A claim changes no indexed column and no column of a predicate, so that it is
-- a heap-only update: no index says "running". The fillfactor leaves room for
-- the claimed version of each row of a page, while a snapshot that somebody holds
-- keeps the others.
--   lane       hash of (tenant, task type, model, priority) while the task is in
--              its lane: since it became ready, and while it runs; else null
--   ready_key  its place there: the steady clock's microseconds times 1024 plus
--              a number (src/queue/lane.h)
--   due_at     while scheduled: when it becomes ready, on the wall clock, or on
--              the steady clock when backoff is true (a failed attempt set it)
--   held       ready, but out of its lane while another task of its
--              concurrency key runs; held_key is that key's hash then
--   unplaced   it started before it had a place in its lane
-- Neither lane nor due_at nor held nor unplaced: it waits for its parents.
-- attempt counts the attempts that were recorded before a provider was called,
-- or handed to a worker, and never goes back: max_attempts is allowed beyond
-- attempt_base, which retry_task() moves. worker is the incarnation of the
-- dispatcher that made the last one, so that its successor can tell orphans;
-- lease_ms is not null when an application's worker has it. plain: it has no
-- on_result and no user_id, so that its completion need not read its request.
-- request: where its row of task_request was when it was enqueued, which spares a
-- look into that table's index; a restore or a rewrite of the table makes it wrong,
-- so whoever follows it looks whose row it finds.
-- Vacuum does not cut it short: that locks out everybody who enqueues, for tens of
-- milliseconds, and the next backlog needs the pages again.
-- Half of a page is left for the versions that claims make. What has one width and
-- is never null, lane's two columns among it while the task is there, comes first:
-- such columns are found at once, and an update looks at each that an index has.
CREATE TABLE eduai.task_live (
	task_id bigint NOT NULL,
	run_at timestamptz NOT NULL,
	lane bigint,
	ready_key bigint,
	attempt int NOT NULL,
	attempt_base int NOT NULL,
	priority smallint NOT NULL,
	backoff boolean NOT NULL,
	held boolean NOT NULL,
	plain boolean NOT NULL DEFAULT false,
	unplaced boolean NOT NULL DEFAULT false,
	tenant_id text COLLATE "C" NOT NULL,
	task_type text COLLATE "C" NOT NULL,
	state text COLLATE "C" NOT NULL CHECK (state IN ('waiting', 'scheduled', 'ready', 'running')),
	request tid,
	model text COLLATE "C",
	due_at timestamptz,
	held_key bigint,
	expires_at timestamptz,
	unique_key text COLLATE "C",
	concurrency_key text COLLATE "C",
	worker bigint,
	worker_name text COLLATE "C",
	lease_ms bigint,
	started_at timestamptz,
	instance text COLLATE "C",
	cost_usd numeric,
	error jsonb,
	progress jsonb,
	PRIMARY KEY (tenant_id, task_id)
) WITH (
	fillfactor = 45,
	vacuum_truncate = false,
	autovacuum_vacuum_scale_factor = 0.02,
	autovacuum_vacuum_threshold = 500,
	autovacuum_analyze_scale_factor = 0.2,
	autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX task_live_lane ON eduai.task_live (lane, ready_key) WHERE lane IS NOT NULL;
CREATE INDEX task_live_due ON eduai.task_live (backoff, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX task_live_waiting ON eduai.task_live (task_id)
	WHERE lane IS NULL AND due_at IS NULL AND NOT held AND NOT unplaced;
CREATE INDEX task_live_held ON eduai.task_live (held_key, ready_key) WHERE held;
CREATE INDEX task_live_expiring ON eduai.task_live (expires_at) WHERE expires_at IS NOT NULL;
CREATE UNIQUE INDEX task_live_unique_key ON eduai.task_live (tenant_id, unique_key)
	WHERE unique_key IS NOT NULL;

-- Before this id no task is fresh: a ready one that has nothing but its request yet
-- (src/queue/fresh.h). No row: it may be any. A restore may add another one, then the
-- least counts. The dispatcher moves it on, at most once a second.
CREATE TABLE eduai.fresh_from (
	task_id bigint NOT NULL
) WITH (
	autovacuum_vacuum_threshold = 500,
	autovacuum_vacuum_cost_delay = 0
);
SELECT pg_catalog.pg_extension_config_dump('eduai.fresh_from', '');

-- How a task ended; type and priority again, so that statistics need no request.
-- retry_task() deletes the row and makes the task live again. ended_key stands for
-- state and tenant: an index compares numbers in a third of the time of two texts, and
-- each completion makes an entry. Whoever looks by it compares state and tenant, too.
CREATE TABLE eduai.task_end (
	tenant_id text COLLATE "C" NOT NULL,
	task_id bigint NOT NULL,
	task_type text COLLATE "C" NOT NULL,
	priority smallint NOT NULL,
	state text COLLATE "C" NOT NULL CHECK (state IN ('completed', 'dead', 'cancelled', 'uncertain', 'expired')),
	attempt int NOT NULL,
	run_at timestamptz NOT NULL,
	started_at timestamptz,
	finished_at timestamptz NOT NULL,
	instance text COLLATE "C",
	cost_usd numeric,
	result jsonb,
	error jsonb,
	progress jsonb,
	ended_key bigint GENERATED ALWAYS AS (hashtextextended(state || ' ' || tenant_id, 0)) STORED,
	PRIMARY KEY (tenant_id, task_id)
) WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_insert_scale_factor = 0.2,
	autovacuum_analyze_scale_factor = 0.2
);
-- For statistics, the dead letter and forgetting: each looks at one end of a
-- tenant's tasks that ended in one state.
CREATE INDEX task_end_state ON eduai.task_end (ended_key, finished_at);

-- An edge per parent that keeps its child waiting: deleted when the parent ends
-- (one that failed keeps the child waiting if the child's on_parent_failure is
-- wait), and when the child ends.
CREATE TABLE eduai.task_dependency (
	tenant_id text COLLATE "C" NOT NULL,
	parent_id bigint NOT NULL,
	task_id bigint NOT NULL,
	PRIMARY KEY (tenant_id, parent_id, task_id)
);
CREATE INDEX task_dependency_child ON eduai.task_dependency (tenant_id, task_id, parent_id);

-- Types that pause_queue() holds back.
CREATE TABLE eduai.paused_type (
	task_type text COLLATE "C" PRIMARY KEY,
	paused_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- Bytes that payloads refer to, and which tasks do: an attachment goes with the
-- last of them. Enqueuers that refer to one share its row; nobody updates it. sealed:
-- the bytes are under the key of the learner user_id (src/privacy/sealed_value.h).
CREATE TABLE eduai.attachment (
	tenant_id text COLLATE "C" NOT NULL,
	attachment_id uuid NOT NULL,
	user_id text COLLATE "C",
	content_type text NOT NULL,
	created_at timestamptz NOT NULL,
	sealed boolean NOT NULL DEFAULT false,
	data bytea NOT NULL,
	PRIMARY KEY (tenant_id, attachment_id)
);
ALTER TABLE eduai.attachment ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE eduai.attachment ALTER COLUMN user_id SET STATISTICS 0;
CREATE INDEX attachment_created ON eduai.attachment (created_at);

CREATE TABLE eduai.task_attachment (
	tenant_id text COLLATE "C" NOT NULL,
	task_id bigint NOT NULL,
	attachment_id uuid NOT NULL,
	PRIMARY KEY (tenant_id, task_id, attachment_id)
);
CREATE INDEX task_attachment_attachment ON eduai.task_attachment (tenant_id, attachment_id);

CREATE TYPE eduai.attachment_data AS (
	content_type text,
	data bytea,
	user_id text COLLATE "C",
	created_at timestamptz
);

CREATE TYPE eduai.output_delta AS (
	seq int,
	delta text,
	done boolean,
	attempt int
);

DO $$
DECLARE
	t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['task_request', 'task_live', 'task_end', 'task_dependency', 'attachment',
		'task_attachment'] LOOP
		EXECUTE format('ALTER TABLE eduai.%I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON eduai.%I USING (tenant_id = eduai.current_tenant())', t);
		PERFORM pg_extension_config_dump('eduai.' || t, '');
	END LOOP;
END;
$$;
SELECT pg_catalog.pg_extension_config_dump('eduai.task_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.task_type', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.pool', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.paused_type', '');

-- Tasks as they stand, for reading: eduai's own statements and the superuser.
-- Of one tenant, if you ask for one: through the primary key, from fresh_from on. The
-- subqueries keep it from reading whole tables.
CREATE VIEW eduai.fresh_task AS
SELECT r.tenant_id, r.task_id, r.task_type, r.priority, r.enqueued_at AS run_at
FROM eduai.task_request r
WHERE r.task_id >= (SELECT coalesce(min(f.task_id), 0) FROM eduai.fresh_from f)
	AND (SELECT true FROM eduai.task_live l
		WHERE l.tenant_id = r.tenant_id AND l.task_id = r.task_id) IS NULL
	AND (SELECT true FROM eduai.task_end e
		WHERE e.tenant_id = r.tenant_id AND e.task_id = r.task_id) IS NULL;

CREATE VIEW eduai.task WITH (security_invoker = true) AS
SELECT r.tenant_id, r.task_id, r.task_type, r.priority,
	coalesce(l.state, e.state, 'ready') AS state, coalesce(l.attempt, e.attempt, 0) AS attempt,
	r.max_attempts, r.timeout_ms, r.model, r.user_id, r.owner, r.on_result,
	r.unique_key, r.concurrency_key, r.idempotency_key, r.depends_on,
	coalesce(l.instance, e.instance) AS instance, coalesce(l.cost_usd, e.cost_usd) AS cost_usd,
	r.enqueued_at, coalesce(l.run_at, e.run_at, r.enqueued_at) AS run_at, r.expires_at,
	coalesce(l.started_at, e.started_at) AS started_at, e.finished_at,
	r.payload, r.metadata, e.result, coalesce(l.error, e.error) AS error,
	coalesce(l.progress, e.progress) AS progress
FROM eduai.task_request r
LEFT JOIN eduai.task_live l ON l.tenant_id = r.tenant_id AND l.task_id = r.task_id
LEFT JOIN eduai.task_end e ON e.tenant_id = r.tenant_id AND e.task_id = r.task_id;

COMMENT ON TABLE eduai.task_type IS
'Task types that define_task_type() or configure_pool() added or changed; the built-in ones are in the library.';
COMMENT ON TABLE eduai.pool IS
'Pools that configure_pool() made or changed; the built-in ones are in the library.';
COMMENT ON TABLE eduai.task_request IS
'What each task was asked to do: a row per task from eduai.enqueue() until it is forgotten.';
COMMENT ON TABLE eduai.task_live IS
'The state of each task that is not final.';
COMMENT ON TABLE eduai.fresh_from IS
'The id from which on there may be ready tasks without a row of eduai.task_live.';
COMMENT ON VIEW eduai.fresh_task IS
'Ready tasks that have no row of eduai.task_live yet; for eduai itself and the superuser.';
COMMENT ON TABLE eduai.task_end IS
'How each finished task ended.';
COMMENT ON TABLE eduai.task_dependency IS
'An edge from a task that waits to each parent that has not ended well.';
COMMENT ON TABLE eduai.paused_type IS
'Task types of which nothing is started: eduai.pause_queue().';
COMMENT ON TABLE eduai.attachment IS
'Bytes that payloads refer to, from eduai.attach() until the last of their tasks is forgotten.';
COMMENT ON TABLE eduai.task_attachment IS
'Which task''s payload refers to which attachment.';
COMMENT ON VIEW eduai.task IS
'All tasks as they stand, over eduai.task_request, task_live and task_end; for eduai itself and the superuser. Applications call eduai.get_task().';

-- ---- workers of applications ----

CREATE TYPE eduai.claimed_task AS (
	task_id bigint,
	attempt int,
	task_type text,
	payload jsonb,
	lease_until timestamptz,
	user_id text,
	metadata jsonb,
	parents jsonb
);
-- ---- pools, leases and workers ----

CREATE TYPE eduai.pool_stand AS (name text, running int, size int);

CREATE TYPE eduai.worker_stand AS (worker text, task_types text, leases int, last_seen timestamptz);
