-- What the log says about each learner.

CREATE TYPE eduai.learner_progress AS (user_id text, progress jsonb);

-- A row per learner, rewritten by every event about them: room on the page
-- for the next version keeps the updates heap-only. Written only by
-- src/projections/progress_store.c, which holds the learner's lock.
CREATE TABLE eduai.progress (
	tenant_id text NOT NULL,
	user_id text NOT NULL,
	state jsonb NOT NULL,
	version bigint NOT NULL,
	last_activity timestamptz NOT NULL,
	PRIMARY KEY (tenant_id, user_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE eduai.progress IS
'The progress of each learner, folded from their events as they are appended. Read it with eduai.user_progress(); version counts the events.';
SELECT pg_catalog.pg_extension_config_dump('eduai.progress', '');

-- A state of more than some 2 kB is compressed at every event; pglz would take
-- a quarter of the append.
DO $$
BEGIN
	ALTER TABLE eduai.progress ALTER COLUMN state SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
	NULL; -- a server built without lz4 keeps its default
END $$;

ALTER TABLE eduai.progress ENABLE ROW LEVEL SECURITY;
CREATE POLICY progress_tenant ON eduai.progress
	USING (tenant_id = (SELECT eduai.current_tenant()))
	WITH CHECK (tenant_id = (SELECT eduai.current_tenant()));

GRANT SELECT ON eduai.progress TO eduai_admin;
