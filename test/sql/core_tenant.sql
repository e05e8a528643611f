-- Which role may act for which tenant, and that tenants do not see each other.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_ct_plain;
CREATE ROLE regress_ct_school;
CREATE ROLE regress_ct_teacher IN ROLE regress_ct_school;
CREATE ROLE regress_ct_other;
CREATE ROLE regress_ct_report;
GRANT eduai_app TO regress_ct_plain, regress_ct_school, regress_ct_other;
GRANT eduai_reader TO regress_ct_report;

CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
	h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, ''), nullif(h, ''));
END $$;

-- without a binding: default only
SET ROLE regress_ct_plain;
SELECT eduai.current_tenant();
SET eduai.tenant = 'ct_a';
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);
SELECT pg_temp.fails($$SELECT * FROM eduai.queue_status$$);
SET eduai.tenant = '';
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
SELECT set_config('eduai.tenant', repeat('x', 64), false) = repeat('x', 64);
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
SELECT set_config('eduai.tenant', 'ct_a' || chr(10), false) = 'ct_a';
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
RESET eduai.tenant;
RESET ROLE;

-- bad bindings
SELECT pg_temp.fails($$SELECT eduai.allow_tenant('regress_ct_nobody', 'ct_a')$$);
SELECT pg_temp.fails($$SELECT eduai.allow_tenant('regress_ct_school', '')$$);
SELECT pg_temp.fails($$SELECT eduai.allow_tenant('regress_ct_school', repeat('x', 64))$$);
SELECT pg_temp.fails($$SELECT eduai.allow_tenant('regress_ct_school', 'a' || chr(1))$$);
SELECT eduai.disallow_tenant('regress_ct_school', 'ct_a');

-- an uncommitted binding holds for nobody afterwards
BEGIN;
SELECT eduai.allow_tenant('regress_ct_plain', 'ct_a');
SET LOCAL ROLE regress_ct_plain;
SET LOCAL eduai.tenant = 'ct_a';
SELECT eduai.current_tenant();
ROLLBACK;
SET ROLE regress_ct_plain;
SET eduai.tenant = 'ct_a';
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
RESET ROLE;

-- with a binding: that tenant only; members of the role too
SELECT eduai.allow_tenant('regress_ct_school', 'ct_a');
SELECT eduai.allow_tenant('regress_ct_school', 'ct_a');
SELECT eduai.allow_tenant('regress_ct_other', 'ct_b');
SET ROLE regress_ct_school;
SELECT eduai.current_tenant();
SET ROLE regress_ct_teacher;
SELECT eduai.current_tenant();
SET eduai.tenant = 'ct_b';
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
SET eduai.tenant = 'default';
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
SET ROLE regress_ct_other;
SET eduai.tenant = 'ct_b';
SELECT eduai.current_tenant();
SET eduai.tenant = 'ct_a';
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
RESET ROLE;

-- membership counts while it lasts
REVOKE regress_ct_school FROM regress_ct_teacher;
GRANT eduai_app TO regress_ct_teacher;
SET ROLE regress_ct_teacher;
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
RESET ROLE;
GRANT regress_ct_school TO regress_ct_teacher;
SET ROLE regress_ct_teacher;
SELECT eduai.current_tenant();
RESET ROLE;

-- a superuser is not exempt
SELECT pg_temp.fails('SELECT eduai.current_tenant()') LIKE 'UE012 | role "%" may not act for tenant "ct_a" | %';
RESET eduai.tenant;
SELECT eduai.current_tenant();

-- the effective role counts: that of a SECURITY DEFINER function inside it
CREATE FUNCTION pg_temp.tenant_of_definer() RETURNS text LANGUAGE sql SECURITY DEFINER
	AS 'SELECT eduai.current_tenant()';
ALTER FUNCTION pg_temp.tenant_of_definer() OWNER TO regress_ct_other;
SET ROLE regress_ct_school;
SET eduai.tenant = 'ct_a';
SELECT pg_temp.fails('SELECT pg_temp.tenant_of_definer()');
SET eduai.tenant = 'ct_b';
SELECT pg_temp.tenant_of_definer();
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
RESET ROLE;

-- for the transaction only
SET ROLE regress_ct_school;
RESET eduai.tenant;
BEGIN;
SELECT set_config('eduai.tenant', 'ct_a', true);
SELECT eduai.current_tenant();
COMMIT;
SELECT pg_temp.fails('SELECT eduai.current_tenant()');

-- an administrator can demand that it be set; others cannot change that
SELECT pg_temp.fails('SET eduai.require_tenant = on');
RESET ROLE;
SET eduai.require_tenant = on;
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);
SET ROLE regress_ct_school;
SET eduai.tenant = 'ct_a';
SELECT eduai.current_tenant();
RESET ROLE;
RESET eduai.require_tenant;

-- what tenant ct_a has ...
SET ROLE regress_ct_school;
SELECT eduai.enqueue('custom', '{}', user_id => 'ann') AS task, eduai.enqueue('custom', '{}', unique_key => 'k') AS dead \gset
SELECT eduai.cancel_task(:dead);
SELECT version FROM eduai.append_event('ct-stream', 'exercise_completed', user_id => 'ann');
SELECT task_type, ready FROM eduai.queue_status;
SELECT count(*) FROM eduai.get_task(:task);

-- ... tenant ct_b neither sees nor touches
SET ROLE regress_ct_other;
SET eduai.tenant = 'ct_b';
SELECT count(*) FROM eduai.get_task(:task);
SELECT count(*) FROM eduai.get_tasks(ARRAY[:task, :dead]);
SELECT eduai.wait_task(:task, '0 s') IS NULL;
SELECT count(*) FROM eduai.wait_tasks(ARRAY[:task, :dead], '0 s');
SELECT eduai.cancel_task(:task);
SELECT eduai.retry_task(:dead);
SELECT regexp_replace(pg_temp.fails(format($$SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[%s])$$, :task)), 'task \d+', 'task N');
SELECT count(*) FROM eduai.queue_status;
SELECT count(*) FROM eduai.dead_letter;
SELECT count(*) FROM eduai.usage_ledger;
SELECT count(*) FROM eduai.read_stream('ct-stream');
SELECT eduai.stream_version('ct-stream');
SELECT eduai.enqueue('custom', '{}', unique_key => 'k') NOT IN (:task, :dead);
SELECT pg_temp.fails('SELECT count(*) FROM eduai.task');
RESET ROLE;
SELECT state FROM eduai.task WHERE task_id = :task;

-- the second wall: a role that may read the table itself sees its tenant's rows
SELECT eduai.allow_tenant('regress_ct_report', 'ct_a');
GRANT SELECT, UPDATE, DELETE ON eduai.task_request TO regress_ct_report;
SET ROLE regress_ct_report;
SET eduai.tenant = 'ct_a';
SELECT tenant_id, count(*) FROM eduai.task_request GROUP BY 1;
SET eduai.tenant = 'ct_b';
SELECT pg_temp.fails('SELECT count(*) FROM eduai.task_request');
SET eduai.tenant = 'ct_a';
UPDATE eduai.task_request SET metadata = '{}' WHERE tenant_id = 'ct_b' RETURNING 1;
SELECT pg_temp.fails($$UPDATE eduai.task_request SET tenant_id = 'ct_b'$$);
RESET ROLE;
RESET eduai.tenant;
SELECT relname FROM pg_class WHERE relnamespace = 'eduai'::regnamespace AND relkind IN ('r', 'p')
AND NOT relrowsecurity AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'tenant_id')
ORDER BY 1;

-- taken back: the role is without any binding again
SELECT eduai.disallow_tenant('regress_ct_school', 'ct_a');
SELECT eduai.disallow_tenant('regress_ct_school', 'ct_a');
SET ROLE regress_ct_school;
SELECT eduai.current_tenant();
SET eduai.tenant = 'ct_a';
SELECT pg_temp.fails('SELECT eduai.current_tenant()');
RESET ROLE;
RESET eduai.tenant;

SELECT eduai.disallow_tenant('regress_ct_other', 'ct_b'), eduai.disallow_tenant('regress_ct_report', 'ct_a');
DROP OWNED BY regress_ct_plain, regress_ct_school, regress_ct_teacher, regress_ct_other, regress_ct_report;
DROP ROLE regress_ct_plain, regress_ct_school, regress_ct_teacher, regress_ct_other, regress_ct_report;
