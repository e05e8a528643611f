-- Roles: created only if absent, granted nothing but what each room grants.
DO $$
DECLARE
	role name;
BEGIN
	FOREACH role IN ARRAY ARRAY['eduai_admin', 'eduai_app', 'eduai_worker', 'eduai_reader'] LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role);
		END IF;
	END LOOP;
END $$;

GRANT USAGE ON SCHEMA eduai TO eduai_admin, eduai_app, eduai_worker, eduai_reader;

-- Roles by name, so that a dump restores where their oids differ.
CREATE TABLE eduai.tenant_binding (
	role name NOT NULL,
	tenant text NOT NULL,
	PRIMARY KEY (role, tenant)
);
COMMENT ON TABLE eduai.tenant_binding IS
'Which roles may act for which tenants: written by eduai.allow_tenant() and eduai.disallow_tenant().';
SELECT pg_catalog.pg_extension_config_dump('eduai.tenant_binding', '');

CREATE TYPE eduai.health_problem AS (
	code text,
	severity text,
	since timestamptz,
	detail text,
	hint text
);
