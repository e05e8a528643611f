-- eduai.queue_max_size: the most tasks of a tenant that are not final.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_quota;
GRANT eduai_app TO regress_queue_quota;
SELECT eduai.allow_tenant('regress_queue_quota', 'queue_quota');
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
SELECT eduai.allow_tenant('regress_queue_quota', 'queue_quota_2');
SET eduai.queue_max_size = 3;
SET ROLE regress_queue_quota;
SET eduai.tenant = 'queue_quota';

-- full at the limit, and only for this tenant
SELECT eduai.enqueue('custom', '{}') AS first, eduai.enqueue('custom', '{}', run_at => now() + interval '1 day') AS second \gset
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:first]::bigint[]) AS third \gset
SELECT state FROM eduai.get_tasks(ARRAY[:first, :second, :third]);
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);
SET eduai.tenant = 'queue_quota_2';
SELECT eduai.enqueue('custom', '{}') > 0;
SET eduai.tenant = 'queue_quota';

-- skip returns NULL, defer and critical pass and count
SELECT eduai.enqueue('custom', '{}', on_refusal => 'skip') IS NULL;
SELECT eduai.enqueue('custom', '{}', on_refusal => 'defer') AS deferred, eduai.enqueue('custom', '{}', 'critical') AS critical \gset
SELECT state FROM eduai.get_tasks(ARRAY[:deferred, :critical]);
SELECT eduai.cancel_task(:second);
SELECT eduai.enqueue('custom', '{}', on_refusal => 'skip') IS NULL;

-- tasks that end give their place back, when that commits
SELECT eduai.cancel_task(:deferred);
BEGIN;
SELECT eduai.cancel_task(:critical);
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);
ROLLBACK;
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);
SELECT eduai.cancel_task(:critical);
SELECT eduai.enqueue('custom', '{}') AS fourth \gset
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);
SELECT eduai.cancel_task(:third), eduai.cancel_task(:fourth);

-- uncommitted ones of this transaction count; a savepoint gives back
BEGIN;
SELECT eduai.enqueue('custom', '{}') > 0;
SAVEPOINT s;
SELECT eduai.enqueue('custom', '{}') > 0;
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);
ROLLBACK TO s;
SELECT eduai.enqueue('custom', '{}') > 0;
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);
ROLLBACK;
SELECT eduai.enqueue('custom', '{}') AS fifth, eduai.enqueue('custom', '{}') AS sixth \gset
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);

-- a task that is taken back takes its place again, beyond the limit too
SELECT eduai.retry_task(:third);
SELECT eduai.cancel_task(:fifth);
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);
SELECT eduai.cancel_task(:third), eduai.cancel_task(:first), eduai.cancel_task(:sixth);

-- so do answered ones
RESET ROLE;
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_quota', 'mock', '');
SELECT eduai.add_instance('queue_quota', 'queue_quota', 'queue_quota');
SET ROLE regress_queue_quota;
SELECT eduai.enqueue_batch('chat', array_fill('{"model": "queue_quota", "messages": [{"role": "user", "content": "x"}]}'::jsonb, ARRAY[3])) AS ids \gset
SELECT state FROM eduai.wait_tasks(:'ids');
-- a waiter may see a task's end a moment before its place is free
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	LOOP
		BEGIN
			PERFORM eduai.enqueue('custom', '{}') FROM generate_series(1, 3);
			RAISE EXCEPTION 'there is room for three';
		EXCEPTION
			WHEN raise_exception THEN
				EXIT;
			WHEN SQLSTATE 'UE003' THEN
				IF clock_timestamp() > deadline THEN
					RAISE;
				END IF;
		END;
	END LOOP;
END $$;
SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[3])) IS NOT NULL;
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);

-- 0 is no limit; the limit is an administrator's
SELECT pg_temp.fails('SET eduai.queue_max_size = 0');
RESET ROLE;
SET eduai.queue_max_size = 0;
SET ROLE regress_queue_quota;
SELECT cardinality(eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[2000])));
RESET ROLE;
RESET eduai.queue_max_size;
SHOW eduai.queue_max_size;
SET ROLE regress_queue_quota;
SELECT pg_temp.fails($$SELECT eduai.enqueue('custom', '{}')$$);
RESET ROLE;
RESET eduai.tenant;
SELECT eduai.remove_instance('queue_quota');
SELECT eduai.remove_provider('queue_quota');
SELECT eduai.disallow_tenant('regress_queue_quota', 'queue_quota_2');

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_quota', 'queue_quota');
DROP OWNED BY regress_queue_quota;
DROP ROLE regress_queue_quota;
