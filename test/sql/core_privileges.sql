-- Who may call and read what, from the catalog; and that a caller cannot lend
-- eduai's functions objects of its own.
\pset format unaligned
\pset tuples_only on

-- nothing is PUBLIC's (an absent ACL of a function would mean that it is)
SELECT 'relation', c.relname FROM pg_class c
WHERE c.relnamespace = 'eduai'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = 0)
UNION ALL
SELECT 'routine', p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = 'eduai'::regnamespace
AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))
UNION ALL
SELECT 'schema', nspname FROM pg_namespace n, aclexplode(n.nspacl) a
WHERE nspname = 'eduai' AND a.grantee = 0
ORDER BY 1, 2;

-- every SECURITY DEFINER function pins search_path
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'eduai'::regnamespace AND p.prosecdef
AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search_path=%')
ORDER BY 1;

-- the roles of eduai have nothing but these grants
SELECT rolname, rolsuper, rolcanlogin, rolcreaterole, rolcreatedb, rolbypassrls,
	(SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid) AS member_of
FROM pg_roles r WHERE rolname IN ('eduai_admin', 'eduai_app', 'eduai_worker', 'eduai_reader') ORDER BY 1;

-- who may call each routine; those of tests are the superuser's
SELECT p.proname || ': ' || coalesce((SELECT string_agg(r.name, ' ' ORDER BY r.name)
	FROM unnest(ARRAY['admin', 'app', 'worker', 'reader']) r (name)
	WHERE has_function_privilege('eduai_' || r.name, p.oid, 'EXECUTE')), '-')
FROM pg_proc p WHERE p.pronamespace = 'eduai'::regnamespace
ORDER BY p.proname COLLATE "C", p.oid::regprocedure::text COLLATE "C";

-- who may do what with each table, view and sequence
SELECT c.relname || ': ' || coalesce((SELECT string_agg(r.name || ' ' || lower(v.name), ', ' ORDER BY r.name, v.name)
	FROM unnest(ARRAY['admin', 'app', 'worker', 'reader']) r (name),
		unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) v (name)
	WHERE CASE WHEN c.relkind <> 'S' THEN has_table_privilege('eduai_' || r.name, c.oid, v.name)
		WHEN v.name IN ('SELECT', 'UPDATE') THEN has_sequence_privilege('eduai_' || r.name, c.oid, v.name) END), '-')
FROM pg_class c
WHERE c.relnamespace = 'eduai'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
ORDER BY c.relname COLLATE "C";

-- A caller's operators, functions, casts and types, first in its search_path
-- and in pg_temp, are never used while eduai's owner is the current user.
CREATE ROLE regress_cp_evil;
GRANT eduai_app, eduai_admin TO regress_cp_evil;
CREATE SCHEMA cp_evil AUTHORIZATION regress_cp_evil;
SET ROLE regress_cp_evil;
CREATE TABLE cp_evil.captured (by_role name);
CREATE FUNCTION cp_evil.capture() RETURNS void LANGUAGE sql
	AS 'INSERT INTO cp_evil.captured VALUES (current_user)';
CREATE FUNCTION cp_evil.textop(text, text) RETURNS boolean LANGUAGE plpgsql
	AS 'BEGIN PERFORM cp_evil.capture(); RETURN true; END';
CREATE FUNCTION cp_evil.bigintop(bigint, bigint) RETURNS boolean LANGUAGE plpgsql
	AS 'BEGIN PERFORM cp_evil.capture(); RETURN true; END';
CREATE FUNCTION cp_evil.timeop(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql
	AS 'BEGIN PERFORM cp_evil.capture(); RETURN true; END';
CREATE OPERATOR cp_evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = cp_evil.textop);
CREATE OPERATOR cp_evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = cp_evil.textop);
CREATE OPERATOR cp_evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = cp_evil.bigintop);
CREATE OPERATOR cp_evil.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = cp_evil.timeop);
CREATE FUNCTION cp_evil.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE plpgsql
	AS 'BEGIN PERFORM cp_evil.capture(); END';
CREATE FUNCTION cp_evil.now() RETURNS timestamptz LANGUAGE plpgsql
	AS 'BEGIN PERFORM cp_evil.capture(); RETURN NULL; END';
CREATE FUNCTION cp_evil.nextval(regclass) RETURNS bigint LANGUAGE plpgsql
	AS 'BEGIN PERFORM cp_evil.capture(); RETURN 1; END';
CREATE FUNCTION cp_evil.check_text(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql
	AS 'BEGIN PERFORM cp_evil.capture(); RETURN true; END';
CREATE FUNCTION cp_evil.check_jsonb(pg_catalog.jsonb) RETURNS boolean LANGUAGE plpgsql
	AS 'BEGIN PERFORM cp_evil.capture(); RETURN true; END';
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (cp_evil.check_text(VALUE));
CREATE DOMAIN pg_temp.jsonb AS pg_catalog.jsonb CHECK (cp_evil.check_jsonb(VALUE));
CREATE TEMP TABLE task (state pg_catalog.text);
CREATE TEMP TABLE tenant_binding (role name, tenant pg_catalog.text);
SET search_path = cp_evil, pg_temp, eduai, pg_catalog;
SELECT eduai.allow_tenant('regress_cp_evil', 'cp_evil');
SET eduai.tenant = 'cp_evil';
SELECT eduai.current_tenant();
SELECT eduai.enqueue('custom', '{}', unique_key => 'k', idempotency_key => 'i', user_id => 'ann',
	priority => 'low', expires_at => pg_catalog.now() + '1 hour'::interval) AS task \gset
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:task]::bigint[]) AS child \gset
SELECT array_length(eduai.enqueue_batch('custom', ARRAY['{}', '{}']::pg_catalog.jsonb[]), 1);
SELECT t.state FROM eduai.get_task(:task) t;
SELECT pg_catalog.count(*) FROM eduai.get_tasks(ARRAY[:task]::bigint[]);
SELECT (eduai.wait_task(:task, '0 s')).state;
SELECT eduai.cancel_task(:task);
SELECT eduai.retry_task(:task);
SELECT eduai.cancel_task(:task);
SELECT version FROM eduai.append_event('learner-ann', 'exercise_completed', user_id => 'ann', expected_version => 0);
SELECT pg_catalog.count(*) FROM eduai.read_stream('learner-ann');
SELECT eduai.stream_version('learner-ann');
SELECT eduai.user_progress('ann') IS NOT NULL;
SELECT eduai.enqueue('chat', '{"model": "cp_evil"}', on_refusal => 'skip') IS NULL;
SELECT eduai.add_provider('cp_evil', 'openai', 'https://cp-evil.invalid', 'env:CP_EVIL_API_KEY');
SELECT eduai.add_instance('cp_evil', 'cp_evil', 'cp_evil', options => '{"aliases": ["cp_alias"]}');
SELECT eduai.enqueue('chat', '{"model": "cp_alias"}', run_at => pg_catalog.now() + '1 hour'::interval) > 0;
SELECT eduai.set_instance_state('cp_evil', 'disabled');
SELECT eduai.remove_instance('cp_evil');
SELECT eduai.remove_provider('cp_evil');
SELECT eduai.adopt_database();
SELECT eduai.define_task_type('cp_evil', 'application', 'custom');
SELECT pg_catalog.count(*) > 5 FROM eduai.task_types();
SELECT pg_catalog.count(*) FROM eduai.queue_status;
SELECT pg_catalog.count(*) < 2 FROM eduai.dead_letter;
SELECT pg_catalog.count(*) FROM eduai.usage_ledger;
SELECT pg_catalog.count(*) > 3 FROM eduai.pool_status;
SELECT pg_catalog.count(*) FROM eduai.instance_status WHERE provider OPERATOR(pg_catalog.=) 'cp_evil';
SELECT pg_catalog.count(*) FROM eduai.health_problems();
SELECT pg_catalog.jsonb_typeof(eduai.health());
RESET search_path;
RESET ROLE;
SELECT DISTINCT by_role FROM cp_evil.captured WHERE by_role <> 'regress_cp_evil';
RESET eduai.tenant;

DELETE FROM eduai.task_type WHERE name = 'cp_evil';
SELECT eduai.disallow_tenant('regress_cp_evil', 'cp_evil');
SET client_min_messages = warning;
DROP OWNED BY regress_cp_evil CASCADE;
DROP ROLE regress_cp_evil;
