-- forget_tasks(): what goes, what is kept, and what goes with it.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_history;
GRANT eduai_app, eduai_admin TO regress_queue_history;
SELECT eduai.allow_tenant('regress_queue_history', t) FROM unnest('{queue_history,queue_history_2}'::text[]) t;
SELECT name, setting, unit, context FROM pg_settings WHERE name LIKE 'eduai.%task_retention' ORDER BY name;
-- how many rows of the tenant are left
CREATE FUNCTION pg_temp.rows(tenant text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', (SELECT count(*) FROM eduai.task_request WHERE tenant_id = tenant),
		(SELECT count(*) FROM eduai.task_end WHERE tenant_id = tenant), (SELECT count(*) FROM eduai.task t WHERE t.tenant_id = tenant AND t.finished_at IS NULL),
		(SELECT count(*) FROM eduai.task_dependency WHERE tenant_id = tenant), (SELECT count(*) FROM eduai.attachment WHERE tenant_id = tenant))
$$;
CREATE FUNCTION pg_temp.cancelled(more jsonb DEFAULT '{}') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	id bigint := eduai.enqueue('custom', more);
BEGIN
	PERFORM eduai.cancel_task(id);
	RETURN id;
END $$;
SET ROLE regress_queue_history;
SET eduai.tenant = 'queue_history_2';
SELECT pg_temp.cancelled() > 0;
SET eduai.tenant = 'queue_history';

-- old enough, of the state, of the tenant; what lives is left alone
SELECT pg_temp.cancelled() AS cancelled, eduai.enqueue('custom', '{}') AS living \gset
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:cancelled]::bigint[]) AS dead \gset
SELECT state FROM eduai.get_tasks(ARRAY[:cancelled, :living, :dead]);
SELECT eduai.forget_tasks('1 hour'), eduai.forget_tasks('0', '{}'), eduai.forget_tasks('0', '{completed,expired}');
SELECT eduai.forget_tasks('0', '{dead,dead}');
SELECT task_id = :cancelled, state FROM eduai.get_tasks(ARRAY[:cancelled, :dead]);
SELECT eduai.forget_tasks('0'), eduai.forget_tasks('0');
SELECT count(*) FROM eduai.get_task(:cancelled);
SELECT (eduai.wait_task(:dead, '0')).task_id IS NULL, eduai.cancel_task(:dead), eduai.retry_task(:dead);
SELECT state FROM eduai.get_task(:living);
\set VERBOSITY sqlstate
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:cancelled]::bigint[]);
\set VERBOSITY default

-- it is the caller's transaction
SELECT pg_temp.cancelled() AS task \gset
BEGIN;
SELECT eduai.forget_tasks('0');
SELECT count(*) FROM eduai.get_task(:task);
ROLLBACK;
SELECT state FROM eduai.get_task(:task);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT state FROM eduai.get_task(:task);
SELECT eduai.forget_tasks('0');
COMMIT;
SELECT count(*) FROM eduai.get_task(:task);

-- a parent is kept while somebody waits for it, and an edge goes with its child
SELECT pg_temp.cancelled() AS parent \gset
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:parent]::bigint[], metadata => '{"on_parent_failure": "wait"}') AS child \gset
SELECT state FROM eduai.get_task(:child);
SELECT eduai.forget_tasks('0');
SELECT state FROM eduai.get_tasks(ARRAY[:parent, :child]);
SELECT eduai.cancel_task(:child), eduai.cancel_task(:living);
SELECT eduai.forget_tasks('0', '{cancelled}') + eduai.forget_tasks('0');
RESET ROLE;
SELECT pg_temp.rows('queue_history'), pg_temp.rows('queue_history_2');
SET ROLE regress_queue_history;

-- an idempotency key counts for 24 h
SELECT eduai.enqueue('custom', '{}', idempotency_key => 'k') AS keyed \gset
SELECT eduai.cancel_task(:keyed), eduai.forget_tasks('0'), eduai.enqueue('custom', '{}', idempotency_key => 'k') = :keyed;
RESET ROLE;
UPDATE eduai.task_request SET enqueued_at = enqueued_at - interval '24 h' WHERE tenant_id = 'queue_history';
SET ROLE regress_queue_history;
SELECT eduai.forget_tasks('0'), eduai.enqueue('custom', '{}', idempotency_key => 'k') > :keyed;

-- an attachment goes with the last task that refers to it
SELECT eduai.attach('\x01', 'audio/wav') AS shared, eduai.attach('\x02', 'audio/wav') AS own \gset
SELECT pg_temp.cancelled(jsonb_build_object('a', jsonb_build_object('attachment', :'shared'), 'b', jsonb_build_object('attachment', :'own'))) > 0;
SELECT eduai.enqueue('custom', jsonb_build_object('a', jsonb_build_object('attachment', :'shared'))) AS other \gset
SELECT eduai.forget_tasks('0');
RESET ROLE;
SELECT attachment_id = :'shared' FROM eduai.attachment WHERE tenant_id = 'queue_history';
SET ROLE regress_queue_history;
SELECT eduai.cancel_task(:other), eduai.forget_tasks('0');
RESET ROLE;
SELECT pg_temp.rows('queue_history');

-- one that no task refers to goes when it is older than a day, and only when every state is asked for
SET ROLE regress_queue_history;
SELECT eduai.attach('\x03', 'audio/wav') AS old, eduai.attach('\x04', 'audio/wav') AS fresh \gset
SELECT eduai.attach('\x05', 'audio/wav') AS used \gset
SELECT eduai.enqueue('custom', jsonb_build_object('a', jsonb_build_object('attachment', :'used'))) AS user_of_it \gset
RESET ROLE;
UPDATE eduai.attachment SET created_at = created_at - interval '25 h' WHERE attachment_id IN (:'old', :'used');
SET ROLE regress_queue_history;
SELECT eduai.forget_tasks('0', '{cancelled}'), eduai.forget_tasks('2 days');
SELECT count(*) FROM unnest(ARRAY[:'old', :'fresh', :'used']::uuid[]) id, eduai.attachment(id);
SELECT eduai.forget_tasks('0');
SELECT id = :'old', id = :'fresh', id = :'used' FROM unnest(ARRAY[:'old', :'fresh', :'used']::uuid[]) id, eduai.attachment(id);
SELECT eduai.cancel_task(:user_of_it), eduai.forget_tasks('0');
RESET ROLE;
DELETE FROM eduai.attachment WHERE attachment_id = :'fresh';

-- more than a batch, and more that are kept than a batch, all at one moment
SET ROLE regress_queue_history;
SELECT count(eduai.cancel_task(eduai.enqueue('custom', '{}', 'critical', idempotency_key => 'many' || i))) FROM generate_series(1, 1500) i;
SELECT count(eduai.cancel_task(eduai.enqueue('custom', '{}', 'critical'))) FROM generate_series(1, 1500) i;
RESET ROLE;
UPDATE eduai.task_end SET finished_at = '2020-01-01' WHERE tenant_id = 'queue_history';
SET ROLE regress_queue_history;
SELECT eduai.forget_tasks('1 day');
RESET ROLE;
SELECT pg_temp.rows('queue_history');
UPDATE eduai.task_request SET enqueued_at = '2020-01-01' WHERE tenant_id = 'queue_history';
SET ROLE regress_queue_history;
SELECT eduai.forget_tasks('1 day');

-- bad input, and who may
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' / ', SQLSTATE, SQLERRM, nullif(hint, ''));
END $$;
SELECT pg_temp.fails($$SELECT eduai.forget_tasks(NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.forget_tasks('-1 s')$$);
SELECT pg_temp.fails($$SELECT eduai.forget_tasks('1 s', '{completed,running}')$$);
SELECT pg_temp.fails($$SELECT eduai.forget_tasks('1 s', '{NULL}')$$);
SET eduai.tenant = 'elsewhere';
SELECT pg_temp.fails($$SELECT eduai.forget_tasks('1 s')$$);
SET eduai.tenant = 'queue_history';
RESET ROLE;
REVOKE eduai_admin FROM regress_queue_history;
SET ROLE regress_queue_history;
SELECT pg_temp.fails($$SELECT eduai.forget_tasks('1 s')$$);

RESET ROLE;
DROP FUNCTION pg_temp.rows, pg_temp.cancelled;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_history', t) FROM unnest('{queue_history,queue_history_2}'::text[]) t;
DROP OWNED BY regress_queue_history;
DROP ROLE regress_queue_history;
