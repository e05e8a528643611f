-- ---- keys ----

-- Whose keys a key store has: CREATE EXTENSION makes a row, a restored dump
-- brings that of the dumped database; the oldest counts.
CREATE TABLE eduai.key_identity (
	identity uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
	made_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
INSERT INTO eduai.key_identity DEFAULT VALUES;
SELECT pg_catalog.pg_extension_config_dump('eduai.key_identity', '');
COMMENT ON TABLE eduai.key_identity IS
'What tells this database''s learners from those of others in a key store; the oldest row counts, so that a restored dump finds its keys.';

-- ---- consent ----

CREATE TABLE eduai.consent_requirement (
	tenant_id text COLLATE "C" NOT NULL,
	subject text COLLATE "C" NOT NULL CHECK (subject LIKE 'event:_%' OR subject LIKE 'task:_%'),
	purpose text COLLATE "C" NOT NULL,
	on_missing text NOT NULL CHECK (on_missing IN ('refuse', 'redact')),
	PRIMARY KEY (tenant_id, subject, purpose)
);

-- The history: a row for each grant and each withdrawal; the last one of a
-- learner and a purpose counts (src/privacy/consent.c reads it by the primary
-- key, and knows the columns' order).
CREATE SEQUENCE eduai.consent_id_seq AS bigint;
CREATE TABLE eduai.consent (
	tenant_id text COLLATE "C" NOT NULL,
	user_id text COLLATE "C" NOT NULL,
	purpose text COLLATE "C" NOT NULL,
	consent_id bigint NOT NULL DEFAULT pg_catalog.nextval('eduai.consent_id_seq'),
	granted boolean NOT NULL,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	by_role name NOT NULL,
	proof jsonb,
	PRIMARY KEY (tenant_id, user_id, purpose, consent_id)
);
ALTER SEQUENCE eduai.consent_id_seq OWNED BY eduai.consent.consent_id;
ALTER TABLE eduai.consent ALTER COLUMN user_id SET STATISTICS 0;
ALTER TABLE eduai.consent ALTER COLUMN proof SET STATISTICS 0;

ALTER TABLE eduai.consent_requirement ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON eduai.consent_requirement USING (tenant_id = eduai.current_tenant());
ALTER TABLE eduai.consent ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON eduai.consent USING (tenant_id = eduai.current_tenant());
SELECT pg_catalog.pg_extension_config_dump('eduai.consent_requirement', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.consent', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.consent_id_seq', '');
COMMENT ON TABLE eduai.consent_requirement IS
'Which purposes a learner must have consented to before events or tasks about them are recorded: eduai.require_consent().';
COMMENT ON TABLE eduai.consent IS
'What learners consented to and withdrew, when, recorded by which role, with what proof; never changed; removed by erasure and, where a later answer holds, by retention.';

-- ---- erasure ----

-- Made by the first erasure, so that a dump restores beside it. sealed: under
-- the master key, where there is one.
CREATE TABLE eduai.erasure_key (
	key_id uuid PRIMARY KEY,
	created_at timestamptz NOT NULL,
	sealed boolean NOT NULL,
	secret bytea NOT NULL
);
COMMENT ON TABLE eduai.erasure_key IS
'The keys of the digests that stand for erased learners, sealed under the master key where eduai.master_key_file is set. Granted to nobody.';
SELECT pg_catalog.pg_extension_config_dump('eduai.erasure_key', '');

-- user_id is kept until the erasure is complete. probe is a part of a keyed
-- hash, for the filter in shared memory (src/privacy/erased.c).
CREATE TABLE eduai.erasure (
	requested_at timestamptz NOT NULL,
	keys_destroyed_at timestamptz,
	completed_at timestamptz,
	probe int NOT NULL,
	key_id uuid NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	user_ref text COLLATE "C" NOT NULL,
	user_id text COLLATE "C",
	reason text,
	requested_by name NOT NULL,
	removed jsonb NOT NULL DEFAULT '{}',
	noted boolean NOT NULL DEFAULT false,
	PRIMARY KEY (tenant_id, user_ref)
);
CREATE INDEX erasure_pending ON eduai.erasure (requested_at) WHERE completed_at IS NULL;
COMMENT ON TABLE eduai.erasure IS
'The ledger of erasures: user_ref is a keyed digest of the learner''s id, user_id the id itself until the erasure is complete, removed the rows removed by source, noted whether it is in the ledger outside the database. Read eduai.erasure_status.';
SELECT pg_catalog.pg_extension_config_dump('eduai.erasure', '');

-- While an erasure is pending: how far each source is.
CREATE TABLE eduai.erasure_step (
	expected bigint NOT NULL,
	removed bigint NOT NULL DEFAULT 0,
	retry_at timestamptz,
	rank int NOT NULL,
	failures int NOT NULL DEFAULT 0,
	exact boolean NOT NULL,
	done boolean NOT NULL DEFAULT false,
	tenant_id text COLLATE "C" NOT NULL,
	user_ref text COLLATE "C" NOT NULL,
	source text COLLATE "C" NOT NULL,
	cursor text,
	error text,
	PRIMARY KEY (tenant_id, user_ref, source)
) WITH (fillfactor = 50);
COMMENT ON TABLE eduai.erasure_step IS
'How far a pending erasure is with each source: rows expected (exactly, or at least) and removed, and the last error; the rows go when it is complete.';
SELECT pg_catalog.pg_extension_config_dump('eduai.erasure_step', '');

CREATE TABLE eduai.erasure_name (
	tenant_id text COLLATE "C" NOT NULL,
	user_ref text COLLATE "C" NOT NULL,
	kind text COLLATE "C" NOT NULL CHECK (kind IN ('stream', 'mixed', 'session')),
	name text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, user_ref, kind, name)
);
COMMENT ON TABLE eduai.erasure_name IS
'Streams and sessions that events of the learner were in, while the erasure is pending: what is kept under these names has to go, too.';
SELECT pg_catalog.pg_extension_config_dump('eduai.erasure_name', '');

CREATE TABLE eduai.erased_stream (
	probe int NOT NULL,
	key_id uuid NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	stream_ref text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, stream_ref)
);
COMMENT ON TABLE eduai.erased_stream IS
'Keyed digests of the names of streams that held nothing but erased learners'' events: nothing is appended to them, so that no version is used twice.';
SELECT pg_catalog.pg_extension_config_dump('eduai.erased_stream', '');

-- The tables by name: their oids differ after a dump or pg_upgrade.
CREATE TABLE eduai.personal_table (
	registered_at timestamptz NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	tbl text COLLATE "C" NOT NULL,
	user_column name NOT NULL,
	tenant_column name,
	on_erase text NOT NULL CHECK (on_erase IN ('delete', 'null')),
	columns name[] NOT NULL,
	role name NOT NULL,
	PRIMARY KEY (tenant_id, tbl, user_column)
);
COMMENT ON TABLE eduai.personal_table IS
'The application''s own tables that hold data about a tenant''s learners, and the roles that registered them: written by eduai.register_personal_data().';
SELECT pg_catalog.pg_extension_config_dump('eduai.personal_table', '');

CREATE TYPE eduai.exported AS (source text, "row" jsonb);

DO $$
DECLARE
	t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['erasure', 'erasure_step', 'erasure_name', 'erased_stream', 'personal_table'] LOOP
		EXECUTE format('ALTER TABLE eduai.%I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY %I ON eduai.%I USING (tenant_id = (SELECT eduai.current_tenant()))'
			' WITH CHECK (tenant_id = (SELECT eduai.current_tenant()))', t || '_tenant', t);
	END LOOP;
END
$$;
-- What identifies learners, and what is said about them, is not copied into the
-- planner's statistics, which no erasure reaches. All of these columns are found
-- by unique indexes or looked through, so that no plan depends on it. The
-- partitions of eduai.event get it when they are made (src/events/partition.c).
DO $$
DECLARE
	c text;
BEGIN
	FOREACH c IN ARRAY ARRAY['event.stream', 'event.user_id', 'event.session_id', 'event.data', 'event.metadata',
		'event_order.runs', 'event_block.body', 'event_stream.first_stream', 'event_stream.body',
		'event_dictionary.body', 'event_snapshot.stream', 'event_snapshot.state', 'snapshot_failure.stream',
		'snapshot_failure.error', 'projection_state.key', 'projection_state.state', 'projection_parked.key',
		'projection_parked.stream', 'projection_parked.error', 'model_learner.user_id',
		'model_learner_skill.user_id', 'model_learner_item.user_id', 'cohort_member.user_id',
		'task_request.payload', 'task_request.metadata', 'task_request.unique_key',
		'task_request.idempotency_key', 'task_request.concurrency_key', 'task_live.unique_key',
		'task_live.concurrency_key', 'task_live.error', 'task_live.progress', 'task_end.result', 'task_end.error',
		'task_end.progress', 'attachment.data', 'provider_call.user_id', 'budget.scope', 'budget_spent.user_id',
		'budget_reservation.user_id', 'rate_key_limit.key', 'erasure.user_id', 'erasure.reason',
		'erasure_step.cursor', 'erasure_step.error', 'erasure_name.name'] LOOP
		EXECUTE format('ALTER TABLE eduai.%I ALTER COLUMN %I SET STATISTICS 0',
			split_part(c, '.', 1), split_part(c, '.', 2));
	END LOOP;
END
$$;
GRANT SELECT ON eduai.erasure, eduai.erasure_step, eduai.personal_table TO eduai_admin;

-- ---- the access log ----

-- Written by the keeper alone; see src/privacy/access_chain.h. Columns of fixed
-- width come first.
CREATE TABLE eduai.access_log (
	seq bigint NOT NULL,
	rows bigint NOT NULL,
	at timestamptz NOT NULL,
	key int NOT NULL,
	learner uuid,
	tenant_id text COLLATE "C" NOT NULL,
	kind text NOT NULL CHECK (kind IN ('read', 'lost', 'removed')),
	role text NOT NULL,
	purpose text,
	source text NOT NULL,
	hash bytea NOT NULL,
	PRIMARY KEY (tenant_id, seq)
);
CREATE INDEX access_log_learner ON eduai.access_log (tenant_id, learner, seq) WHERE learner IS NOT NULL;
COMMENT ON TABLE eduai.access_log IS
'Who read how many rows about which learner, when, from what and for what purpose, through eduai''s functions: each tenant''s rows are numbered and chained by hashes that eduai.verify_access_log() checks. learner is a reference that eduai.access_learner explains until the learner is erased. kind: read; lost, "rows" reads that found no room; removed, retention removed the rows through number "rows", the last of which had the hash in source. Read eduai.access_record.';
SELECT pg_catalog.pg_extension_config_dump('eduai.access_log', '');

CREATE TABLE eduai.access_learner (
	ref uuid NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	user_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, user_id)
);
ALTER TABLE eduai.access_learner ALTER COLUMN user_id SET STATISTICS 0;
CREATE UNIQUE INDEX access_learner_ref ON eduai.access_learner (tenant_id, ref);
COMMENT ON TABLE eduai.access_learner IS
'Whose the references of the access log are: a random one for each learner, which an erasure forgets.';
SELECT pg_catalog.pg_extension_config_dump('eduai.access_learner', '');

CREATE TABLE eduai.access_key (
	key int PRIMARY KEY CHECK (key > 0),
	sealed bytea NOT NULL
);
COMMENT ON TABLE eduai.access_key IS
'The keys of the access log''s hashes, sealed under the master key.';
SELECT pg_catalog.pg_extension_config_dump('eduai.access_key', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.access_key', '');

CREATE TYPE eduai.access_fault AS (
	seq bigint,
	at timestamptz,
	fault text,
	detail text
);

-- The second wall, as in the other rooms.
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['access_log', 'access_learner'] LOOP
		EXECUTE format('ALTER TABLE eduai.%I ENABLE ROW LEVEL SECURITY', name);
		EXECUTE format('CREATE POLICY %I ON eduai.%I USING (tenant_id = (SELECT eduai.current_tenant()))'
			' WITH CHECK (tenant_id = (SELECT eduai.current_tenant()))', name || '_tenant', name);
	END LOOP;
END
$$;

-- ---- anonymisation ----

CREATE TABLE eduai.anonymised_segment (
	last_position bigint NOT NULL,
	through timestamptz NOT NULL,
	next_due timestamptz NOT NULL,
	segment int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, segment)
);
COMMENT ON TABLE eduai.anonymised_segment IS
'Which segments of compacted events were looked at by eduai.anonymise_events(): their events older than through are anonymised, and the next one is due at the age next_due. last_position is the segment''s: another one of the same number is not meant.';
SELECT pg_catalog.pg_extension_config_dump('eduai.anonymised_segment', '');

CREATE TABLE eduai.anonymise_common (
	hash bigint NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, hash)
);
COMMENT ON TABLE eduai.anonymise_common IS
'Hashes of the keys and values that at least eduai.anonymise_k learners had when they were counted: these stay in anonymised events.';
SELECT pg_catalog.pg_extension_config_dump('eduai.anonymise_common', '');

CREATE TABLE eduai.anonymise_run (
	tenant_id text COLLATE "C" PRIMARY KEY,
	started_at timestamptz NOT NULL
);
COMMENT ON TABLE eduai.anonymise_run IS
'The anonymisations that have begun and not ended: what is common was counted. The key of their names is in a file; not dumped.';

DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['anonymised_segment', 'anonymise_common', 'anonymise_run'] LOOP
		EXECUTE format('ALTER TABLE eduai.%I ENABLE ROW LEVEL SECURITY', name);
		EXECUTE format('CREATE POLICY %I ON eduai.%I USING (tenant_id = (SELECT eduai.current_tenant()))'
			' WITH CHECK (tenant_id = (SELECT eduai.current_tenant()))', name || '_tenant', name);
	END LOOP;
END
$$;

-- ---- retention ----

CREATE TABLE eduai.retention_policy (
	set_at timestamptz NOT NULL,
	keep interval NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	subject text NOT NULL,
	action text NOT NULL,
	PRIMARY KEY (tenant_id, subject, action)
);
COMMENT ON TABLE eduai.retention_policy IS
'What is done to a tenant''s data of a subject once it is older than keep. Written by eduai.set_retention().';
SELECT pg_catalog.pg_extension_config_dump('eduai.retention_policy', '');
ALTER TABLE eduai.retention_policy ENABLE ROW LEVEL SECURITY;
CREATE POLICY retention_policy_tenant ON eduai.retention_policy
	USING (tenant_id = (SELECT eduai.current_tenant())) WITH CHECK (tenant_id = (SELECT eduai.current_tenant()));

CREATE TABLE eduai.maintenance_run (
	run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	started_at timestamptz NOT NULL,
	ended_at timestamptz NOT NULL,
	rows bigint NOT NULL,
	job text NOT NULL,
	result text NOT NULL,
	error text
);
CREATE INDEX maintenance_run_job ON eduai.maintenance_run (job, run_id);
COMMENT ON TABLE eduai.maintenance_run IS
'The runs of maintenance jobs, for 90 days; not dumped. Read eduai.maintenance_status.';

COMMENT ON SEQUENCE eduai.maintenance_run_run_id_seq IS
'Numbers the runs of maintenance jobs; not dumped.';

CREATE TABLE eduai.maintenance_schedule (
	job text PRIMARY KEY,
	schedule text NOT NULL,
	installed boolean NOT NULL
);
COMMENT ON TABLE eduai.maintenance_schedule IS
'The schedules that eduai.schedule_maintenance() gave the jobs; installed: on pg_cron. Another server has its own: not dumped.';

CREATE TYPE eduai.maintenance_job AS (job text, schedule text, command text);
CREATE TYPE eduai.maintenance_result AS (
	job text,
	result text,
	rows bigint,
	started_at timestamptz,
	ended_at timestamptz,
	error text
);
