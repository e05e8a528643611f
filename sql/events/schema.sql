-- The log's state.

CREATE TYPE eduai.appended AS (event_id uuid, stream text, version bigint);

CREATE TYPE eduai.event_record AS (
	"position" bigint,
	event_id uuid,
	stream text,
	version bigint,
	event_type text,
	user_id text,
	session_id text,
	data jsonb,
	metadata jsonb,
	occurred_at timestamptz,
	recorded_at timestamptz
);
COMMENT ON TYPE eduai.event_record IS
'An event as the functions return it. position is NULL in what eduai.read_stream() returns, and given by eduai.read_all() and eduai.fetch_events().';

-- Written only by src/events/store.c, by heap and index calls. Partitions are
-- made at run time, created and then attached, and the parent has no index and
-- no default partition: only so do an extension's partitions dump and restore.
-- Each has a primary key (tenant_id, stream, version) and a unique index on
-- (event_id, tenant_id). Names compare by bytes: faster, and no change of a
-- collation library can corrupt an index. Columns of fixed width come first.
CREATE TABLE eduai.event (
	version bigint NOT NULL,
	recorded_at timestamptz NOT NULL,
	occurred_at timestamptz NOT NULL,
	event_id uuid NOT NULL,
	schema_version int NOT NULL DEFAULT 1,
	id_given boolean NOT NULL DEFAULT false,
	tenant_id text COLLATE "C" NOT NULL,
	stream text COLLATE "C" NOT NULL,
	event_type text COLLATE "C" NOT NULL,
	user_id text COLLATE "C",
	session_id text COLLATE "C",
	data jsonb NOT NULL,
	metadata jsonb NOT NULL
) PARTITION BY RANGE (recorded_at);
COMMENT ON TABLE eduai.event IS
'The hot part of the log of learner events; older ones are in eduai.event_block. Read with eduai.read_stream() and eduai.read_all(): how events are stored is not part of the contract.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event', '');

-- The order of the feed: written at pre-commit by src/events/order.c.
CREATE TABLE eduai.event_order (
	last_position bigint NOT NULL,
	mark bigint NOT NULL,
	events int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	runs bytea NOT NULL,
	PRIMARY KEY (tenant_id, last_position)
);
ALTER TABLE eduai.event_order ALTER COLUMN runs SET STORAGE EXTERNAL;
COMMENT ON TABLE eduai.event_order IS
'The positions of the hot events: each row covers the "events" positions up to last_position, and runs lists streams, versions and counts. mark is the safe mark when the positions were drawn.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event_order', '');

-- Moved ahead of the counter in shared memory; see src/events/position.c.
CREATE SEQUENCE eduai.event_position MINVALUE 0 START 0;
COMMENT ON SEQUENCE eduai.event_position IS
'No position beyond this value was ever drawn.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event_position', '');

-- For standbys: the safe mark once appends pause; see src/events/standby.c.
CREATE TABLE eduai.event_mark (
	singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
	mark bigint NOT NULL
);
COMMENT ON TABLE eduai.event_mark IS
'The safe mark as the projector last wrote it, for readers of a standby. One row for the database; not dumped.';

-- Compacted events; see src/events/block_table.h. A block or a page is read as
-- a whole and is no larger than a heap page where that can be, so it stays in
-- the row: chunks in a TOAST table would cost more space and another index.
CREATE TABLE eduai.event_block (
	first_position bigint NOT NULL,
	last_position bigint NOT NULL,
	recorded_through timestamptz NOT NULL,
	segment int NOT NULL,
	block int NOT NULL,
	events int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	body bytea NOT NULL,
	PRIMARY KEY (tenant_id, segment, block)
) WITH (toast_tuple_target = 8160);
ALTER TABLE eduai.event_block ALTER COLUMN body SET STORAGE EXTERNAL;
COMMENT ON TABLE eduai.event_block IS
'Compacted events: a segment holds the positions first_position to last_position, its events sorted by stream and cut into blocks; body is columnar and compressed. recorded_through is the latest recorded_at of the segment.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event_block', '');

CREATE TABLE eduai.event_stream (
	tenant_id text COLLATE "C" NOT NULL,
	first_stream text COLLATE "C" NOT NULL,
	body bytea NOT NULL,
	PRIMARY KEY (tenant_id, first_stream)
) WITH (toast_tuple_target = 8160);
ALTER TABLE eduai.event_stream ALTER COLUMN body SET STORAGE EXTERNAL;
COMMENT ON TABLE eduai.event_stream IS
'The directory of compacted streams, in pages: each lists the streams from first_stream to the next page''s, and the blocks that hold them. A tenant''s first page begins at the empty name.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event_stream', '');

CREATE TABLE eduai.event_dictionary (
	dictionary int NOT NULL,
	segment int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	body bytea NOT NULL,
	PRIMARY KEY (tenant_id, dictionary)
);
ALTER TABLE eduai.event_dictionary ALTER COLUMN body SET STORAGE EXTERNAL;
COMMENT ON TABLE eduai.event_dictionary IS
'What blocks of a tenant have in common, from "segment" on: names of types and keys, and values of fields that are not sensitive, each seen in many streams. A block names the dictionary it needs, so rows are never changed or removed.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event_dictionary', '');

CREATE TABLE eduai.event_seen (
	segment int NOT NULL,
	block int NOT NULL,
	event_id uuid NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, event_id)
);
COMMENT ON TABLE eduai.event_seen IS
'The event ids that callers gave, of compacted events younger than eduai.dedup_window, and the blocks that hold them.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event_seen', '');

-- ---- subscriptions ----

-- See src/events/subscription.h. generation is a random number that no other
-- arrangement of a subscription has.
CREATE TABLE eduai.subscription (
	generation bigint NOT NULL,
	after_position bigint NOT NULL CHECK (after_position >= 0),
	created_at timestamptz NOT NULL,
	members int NOT NULL CHECK (members BETWEEN 1 AND 256),
	tenant_id text COLLATE "C" NOT NULL,
	name text COLLATE "C" NOT NULL,
	event_types text[] COLLATE "C",
	category text COLLATE "C",
	PRIMARY KEY (tenant_id, name)
);
COMMENT ON TABLE eduai.subscription IS
'Who wants which events: event_types and category filter, NULL means all. after_position is where the members started at the creation or the last change; where they are is in eduai.subscription_member.';
SELECT pg_catalog.pg_extension_config_dump('eduai.subscription', '');

CREATE TABLE eduai.subscription_member (
	position bigint NOT NULL,
	reset_until bigint,
	delivered bigint,
	member int NOT NULL,
	resetting boolean NOT NULL DEFAULT false,
	tenant_id text COLLATE "C" NOT NULL,
	name text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, name, member)
) WITH (fillfactor = 50);
COMMENT ON TABLE eduai.subscription_member IS
'Where each member of a subscription stands: everything up to position is acknowledged or not for it. After a seek or a change of the members it is resetting until it reaches reset_until (NULL until the first fetch afterwards); acknowledgements then count up to delivered, the last position fetched.';
SELECT pg_catalog.pg_extension_config_dump('eduai.subscription_member', '');

CREATE TYPE eduai.subscription_member_status AS (
	name text,
	member int,
	"position" bigint,
	lag_events bigint,
	last_fetch_at timestamptz
);

-- ---- snapshots ----

CREATE TYPE eduai.snapshot AS (version bigint, state jsonb);

CREATE TABLE eduai.event_snapshot (
	version bigint NOT NULL CHECK (version > 0),
	saved_at timestamptz NOT NULL,
	event_id uuid NOT NULL,
	schema_version int NOT NULL CHECK (schema_version > 0),
	tenant_id text COLLATE "C" NOT NULL,
	stream text COLLATE "C" NOT NULL,
	state jsonb NOT NULL,
	PRIMARY KEY (tenant_id, stream, schema_version)
);
COMMENT ON TABLE eduai.event_snapshot IS
'What a stream''s events up to a version fold to. event_id is that of the event at the version: a snapshot counts only while the stream has that event there.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event_snapshot', '');

-- The reducer and its role by name: their oids differ after a dump or pg_upgrade.
CREATE TABLE eduai.snapshot_rule (
	position bigint NOT NULL DEFAULT 0,
	generation bigint NOT NULL,
	created_at timestamptz NOT NULL,
	every int NOT NULL CHECK (every > 0),
	schema_version int NOT NULL CHECK (schema_version > 0),
	tenant_id text COLLATE "C" NOT NULL,
	category text COLLATE "C" NOT NULL,
	reducer text NOT NULL,
	role name NOT NULL,
	initial jsonb NOT NULL,
	error text,
	PRIMARY KEY (tenant_id, category)
) WITH (fillfactor = 50);
COMMENT ON TABLE eduai.snapshot_rule IS
'The categories whose streams the projector takes snapshots of: written by eduai.snapshot_streams(). Events up to position have been looked at. error says why the reducer cannot be called at all, NULL when it can.';
SELECT pg_catalog.pg_extension_config_dump('eduai.snapshot_rule', '');

CREATE TABLE eduai.snapshot_failure (
	version bigint NOT NULL,
	failed_at timestamptz NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	category text COLLATE "C" NOT NULL,
	stream text COLLATE "C" NOT NULL,
	error text NOT NULL,
	PRIMARY KEY (tenant_id, category, stream)
);
COMMENT ON TABLE eduai.snapshot_failure IS
'Streams whose last automatic snapshot failed: the version it was for and the reducer''s error. Tried again at the next version that is due; not dumped.';

-- ---- event types ----

-- What register_event_type() was given. The built-in types come with the
-- extension, in the view eduai.event_type_builtin, so that a dump carries a
-- registration over one of them without colliding with it at restore.
CREATE TABLE eduai.event_type_registration (
	event_type text COLLATE "C" PRIMARY KEY,
	sensitive_fields text[] NOT NULL,
	json_schema jsonb,
	schema_version int NOT NULL CHECK (schema_version > 0)
);
COMMENT ON TABLE eduai.event_type_registration IS
'The event types that an administrator registered, and what was said of built-in ones; they win over the latter. Written by eduai.register_event_type(), which also tells the sessions. Read eduai.event_type.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event_type_registration', '');

-- Functions and roles by name: their oids differ after pg_upgrade or a restore.
CREATE TABLE eduai.event_upcaster (
	event_type text COLLATE "C" NOT NULL,
	from_version int NOT NULL CHECK (from_version > 0),
	upcaster text NOT NULL,
	registrant name NOT NULL,
	PRIMARY KEY (event_type, from_version)
);
COMMENT ON TABLE eduai.event_upcaster IS
'The functions that bring data of an event type from one schema version to the next, and the roles they run as. Written by eduai.register_upcaster(), which also tells the sessions.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event_upcaster', '');

-- The second wall: the functions run as the owner and filter by themselves.
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['event', 'event_order', 'event_block', 'event_stream', 'event_dictionary', 'event_seen',
		'subscription', 'subscription_member', 'event_snapshot', 'snapshot_rule', 'snapshot_failure'] LOOP
		EXECUTE format('ALTER TABLE eduai.%I ENABLE ROW LEVEL SECURITY', name);
		EXECUTE format('CREATE POLICY %I ON eduai.%I USING (tenant_id = (SELECT eduai.current_tenant()))'
			' WITH CHECK (tenant_id = (SELECT eduai.current_tenant()))', name || '_tenant', name);
	END LOOP;
END
$$;

GRANT SELECT ON eduai.event TO eduai_admin;
GRANT SELECT ON eduai.event_type_registration, eduai.event_upcaster TO eduai_admin;
