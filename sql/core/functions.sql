-- What every room needs: the tenant, the workers' switch, health.

CREATE OR REPLACE FUNCTION eduai.version() RETURNS text
	AS 'MODULE_PATHNAME', 'eduai_version' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION eduai.version() IS
'The version of the loaded library. Role: any of eduai''s. Example: SELECT eduai.version();';

CREATE OR REPLACE FUNCTION eduai.preloaded() RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_preloaded' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION eduai.preloaded() IS
'True when the server loaded eduai at its start (shared_preload_libraries). Without it, the functions that need shared memory raise UE011. Example: SELECT eduai.preloaded();';

CREATE OR REPLACE FUNCTION eduai.home() RETURNS text
	AS 'MODULE_PATHNAME', 'eduai_home' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION eduai.home() IS
'Where this database is: system identifier, database oid and eduai.fleet, joined by slashes. Dispatch works only where it equals what was recorded: see eduai.adopt_database(). Role: eduai_admin. Example: SELECT eduai.home();';

CREATE OR REPLACE FUNCTION eduai.current_tenant() RETURNS text
	AS 'MODULE_PATHNAME', 'eduai_current_tenant' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.current_tenant() IS
'The tenant of the session or transaction (setting eduai.tenant), checked against the bindings of the current role. Errors: UE012 when the role may not act for it. Role: any of eduai''s. Example: SELECT eduai.current_tenant();';

CREATE OR REPLACE FUNCTION eduai.allow_tenant(role name, tenant text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_allow_tenant' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.allow_tenant(name, text) IS
'Binds a role, and the roles that are members of it, to a tenant. A role without any binding may use only "default"; one with bindings only those. Errors: 42704 for an unknown role, 22023 for a bad tenant name (1 to 63 bytes, no control characters). Role: eduai_admin. Example: SELECT eduai.allow_tenant(''school_app'', ''school-7'');';

CREATE OR REPLACE FUNCTION eduai.disallow_tenant(role name, tenant text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_disallow_tenant' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.disallow_tenant(name, text) IS
'Takes back what eduai.allow_tenant() bound; false when it was not bound. Sessions notice when this commits. Role: eduai_admin. Example: SELECT eduai.disallow_tenant(''school_app'', ''school-7'');';

CREATE OR REPLACE FUNCTION eduai.stop_workers() RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_stop_workers' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.stop_workers() IS
'Stops eduai''s workers of this database at once (not at commit) and returns when they are gone, so that it can be dropped, copied or upgraded. Calls in flight become uncertain. Lasts until eduai.start_workers() or a server restart. Errors: UE011 without preload. Role: eduai_admin. Example: SELECT eduai.stop_workers();';

CREATE OR REPLACE FUNCTION eduai.start_workers() RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_start_workers' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.start_workers() IS
'Lets the workers of this database run again after eduai.stop_workers(); they start when this commits. Errors: UE011 without preload. Role: eduai_admin. Example: SELECT eduai.start_workers();';

CREATE OR REPLACE FUNCTION eduai.health() RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_health' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.health() IS
'The state of the whole: {status: ok | degraded | down, version, workers[], queue, gateway, problems[]}. Works without preload and says so. Role: eduai_admin, eduai_app, eduai_reader. Example: SELECT jsonb_pretty(eduai.health());';

CREATE OR REPLACE FUNCTION eduai.health_problems() RETURNS SETOF eduai.health_problem
	AS 'MODULE_PATHNAME', 'eduai_health_problems' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.health_problems() IS
'What is wrong, a row each: code, severity (warning | critical), since (null when unknown), detail, hint. Role: eduai_admin, eduai_app, eduai_reader. Example: SELECT * FROM eduai.health_problems();';

CREATE OR REPLACE FUNCTION eduai.test_pause(name text, armed boolean) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_test_pause' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_pause(text, boolean) IS
'For tests: arms or releases a named pause point. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_pause(''claim-committed'', true);';

CREATE OR REPLACE FUNCTION eduai.test_paused(name text) RETURNS int
	AS 'MODULE_PATHNAME', 'eduai_test_paused' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_paused(text) IS
'For tests: how many processes wait at a pause point. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_paused(''claim-committed'');';

CREATE OR REPLACE FUNCTION eduai.test_clock(clock_offset interval) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_test_clock' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_clock(interval) IS
'For tests: shifts the wall clock of all eduai''s processes by an interval from the real time. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_clock(''1 hour'');';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA eduai FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.version(), eduai.preloaded(), eduai.current_tenant()
	TO eduai_admin, eduai_app, eduai_worker, eduai_reader;
GRANT EXECUTE ON FUNCTION eduai.health(), eduai.health_problems()
	TO eduai_admin, eduai_app, eduai_reader;
GRANT EXECUTE ON FUNCTION eduai.home(), eduai.allow_tenant(name, text),
	eduai.disallow_tenant(name, text), eduai.stop_workers(), eduai.start_workers()
	TO eduai_admin;
GRANT SELECT ON eduai.tenant_binding TO eduai_admin;

-- ---- seals ----

CREATE OR REPLACE FUNCTION eduai.test_seal(secret bytea, context text) RETURNS bytea
	AS 'MODULE_PATHNAME', 'eduai_test_seal' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_seal(bytea, text) IS
'For tests: the secret sealed under the current master key for a context. Errors: 55000 unless eduai.test_mode is on, and without a usable master key. Role: superuser. Example: SELECT eduai.test_seal(''\x00ff'', ''a test'');';

CREATE OR REPLACE FUNCTION eduai.test_unseal(sealed bytea, context text) RETURNS bytea
	AS 'MODULE_PATHNAME', 'eduai_test_unseal' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_unseal(bytea, text) IS
'For tests: what was sealed for that context. Errors: 55000 unless eduai.test_mode is on, 22000 when it cannot be opened. Role: superuser. Example: SELECT eduai.test_unseal(eduai.test_seal(''\x00ff'', ''a test''), ''a test'');';

REVOKE ALL ON FUNCTION eduai.test_seal(bytea, text), eduai.test_unseal(bytea, text) FROM PUBLIC;
