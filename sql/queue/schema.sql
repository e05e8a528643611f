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

-- A task from enqueue to its end. attempt counts the attempts that were
-- recorded before a provider was called and never goes back: max_attempts is
-- allowed beyond attempt_base, which retry_task() moves. worker is the incarnation of the
-- dispatcher that made the last one, so that its successor can tell orphans.
-- deadline orders the lanes: readiness plus the priority's time.
CREATE TABLE eduai.task (
	tenant_id text NOT NULL,
	task_id bigint NOT NULL DEFAULT pg_catalog.nextval('eduai.task_id_seq'),
	task_type text NOT NULL,
	pool text NOT NULL,
	by_gateway boolean NOT NULL,
	priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 3),
	state text NOT NULL CHECK (state IN ('waiting', 'scheduled', 'ready', 'running',
		'completed', 'dead', 'cancelled', 'uncertain', 'expired')),
	attempt int NOT NULL DEFAULT 0,
	attempt_base int NOT NULL DEFAULT 0,
	max_attempts int NOT NULL,
	timeout_ms bigint NOT NULL,
	on_uncertain text NOT NULL,
	model text,
	user_id text,
	owner name NOT NULL,
	on_result text,
	unique_key text,
	idempotency_key text,
	worker bigint,
	instance text,
	cost_usd numeric,
	enqueued_at timestamptz NOT NULL,
	run_at timestamptz NOT NULL,
	deadline timestamptz NOT NULL,
	expires_at timestamptz,
	started_at timestamptz,
	finished_at timestamptz,
	payload jsonb NOT NULL,
	metadata jsonb NOT NULL,
	result jsonb,
	error jsonb,
	progress jsonb,
	PRIMARY KEY (tenant_id, task_id)
) WITH (
	autovacuum_vacuum_scale_factor = 0.02,
	autovacuum_vacuum_threshold = 500,
	autovacuum_analyze_scale_factor = 0.2,
	autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE eduai.task ALTER COLUMN user_id SET STATISTICS 0;

CREATE INDEX task_ready ON eduai.task (pool, priority, task_id) WHERE state = 'ready';
CREATE INDEX task_scheduled ON eduai.task (run_at) WHERE state = 'scheduled';
CREATE INDEX task_running ON eduai.task (task_id) WHERE state = 'running';
CREATE INDEX task_waiting ON eduai.task (task_id) WHERE state = 'waiting';
CREATE INDEX task_expiring ON eduai.task (expires_at)
	WHERE expires_at IS NOT NULL AND state IN ('waiting', 'scheduled', 'ready');
CREATE UNIQUE INDEX task_unique_key ON eduai.task (tenant_id, unique_key)
	WHERE unique_key IS NOT NULL AND state IN ('waiting', 'scheduled', 'ready', 'running');
CREATE INDEX task_idempotency_key ON eduai.task (tenant_id, idempotency_key, enqueued_at)
	WHERE idempotency_key IS NOT NULL;

-- An edge per parent that was not final when the child was enqueued.
CREATE TABLE eduai.task_dependency (
	tenant_id text NOT NULL,
	parent_id bigint NOT NULL,
	task_id bigint NOT NULL,
	PRIMARY KEY (tenant_id, parent_id, task_id)
);
CREATE INDEX task_dependency_child ON eduai.task_dependency (tenant_id, task_id);

ALTER TABLE eduai.task ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON eduai.task USING (tenant_id = eduai.current_tenant());
ALTER TABLE eduai.task_dependency ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON eduai.task_dependency USING (tenant_id = eduai.current_tenant());

SELECT pg_catalog.pg_extension_config_dump('eduai.task_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.task_type', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.pool', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.task', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.task_dependency', '');

COMMENT ON TABLE eduai.task_type IS
'Task types that define_task_type() or configure_pool() added or changed; the built-in ones are in the library.';
COMMENT ON TABLE eduai.pool IS
'Pools that configure_pool() made or changed; the built-in ones are in the library.';
COMMENT ON TABLE eduai.task IS
'A row per task, from eduai.enqueue() to its end.';
COMMENT ON TABLE eduai.task_dependency IS
'An edge from a task to each parent that was not final when it was enqueued.';
