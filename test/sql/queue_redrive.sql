-- redrive(): many tasks that failed live again.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_redrive;
GRANT eduai_app, eduai_worker TO regress_queue_redrive;
SELECT eduai.allow_tenant('regress_queue_redrive', 'queue_redrive'), eduai.allow_tenant('regress_queue_redrive', 'queue_redrive_two');
SELECT eduai.define_task_type(name, 'application', 'custom', max_attempts => 1) FROM unnest(ARRAY['queue_redrive', 'queue_redrive_b']) name;
SET ROLE regress_queue_redrive;
SET eduai.tenant = 'queue_redrive';
CREATE FUNCTION pg_temp.states(ids bigint[]) RETURNS text LANGUAGE sql AS
	$$SELECT string_agg(state || ' ' || attempt, ', ' ORDER BY ord) FROM unnest(ids) WITH ORDINALITY u (id, ord), eduai.get_task(id)$$;

-- nothing to take back
SELECT eduai.redrive(), eduai.redrive('queue_redrive', now());

-- one of each state
SELECT eduai.enqueue('queue_redrive', '{}') AS dead, eduai.enqueue('queue_redrive', '{}') AS completed,
	eduai.enqueue('queue_redrive_b', '{}') AS dead_b \gset
SELECT eduai.enqueue('queue_redrive', '{}', run_at => now() + '1 day') AS cancelled, eduai.enqueue('queue_redrive', '{}') AS ready,
	eduai.enqueue('queue_redrive', '{}', run_at => now() + '1 day', expires_at => clock_timestamp() + '100 ms') AS expired \gset
SELECT state FROM eduai.wait_task(:expired);
SELECT count(eduai.fail_task(task_id, attempt, 'first', false)) FROM eduai.claim_tasks('w', '{queue_redrive}');
SELECT count(eduai.complete_task(task_id, attempt)) FROM eduai.claim_tasks('w', '{queue_redrive}');
SELECT count(eduai.fail_task(task_id, attempt, 'first', false)) FROM eduai.claim_tasks('w', '{queue_redrive_b}');
SELECT eduai.cancel_task(:cancelled);
SELECT ARRAY[:dead, :completed, :dead_b, :cancelled, :ready, :expired] AS all \gset
SELECT pg_temp.states(:'all');
SELECT priority, dead FROM eduai.queue_status ORDER BY task_type;

-- rolled back, nothing has happened
BEGIN;
SELECT eduai.redrive();
SELECT pg_temp.states(:'all');
ROLLBACK;
SELECT pg_temp.states(:'all');

-- of a type; since a time; then the rest
SELECT eduai.redrive('queue_redrive_b'), eduai.redrive('queue_redrive_b');
SELECT finished_at AS ended FROM eduai.get_task(:cancelled) \gset
SELECT eduai.redrive(since => :'ended');
SELECT pg_temp.states(:'all');
SELECT eduai.redrive(), eduai.redrive();
SELECT pg_temp.states(:'all');

-- they run; attempts and errors go on from where they were
SELECT count(eduai.fail_task(task_id, attempt, 'second', false)) FROM eduai.claim_tasks('w', '{queue_redrive,queue_redrive_b}', 10);
SELECT pg_temp.states(:'all');
SELECT jsonb_path_query_array(error, '$.attempts[*].attempt'), jsonb_path_query_array(error, '$.attempts[*].message') FROM eduai.get_tasks(ARRAY[:dead, :expired]);

-- a key that lives already: passed over; of two with one key the older lives
SELECT eduai.enqueue('queue_redrive', '{}', unique_key => 'a') AS a1, eduai.enqueue('queue_redrive', '{}', unique_key => 'b') AS b1 \gset
SELECT eduai.cancel_task(:a1), eduai.cancel_task(:b1);
SELECT eduai.enqueue('queue_redrive', '{}', unique_key => 'a') AS a2, eduai.enqueue('queue_redrive', '{}', unique_key => 'b') AS b2 \gset
SELECT eduai.cancel_task(:b2);
SELECT finished_at AS ended FROM eduai.get_task(:a1) \gset
SELECT eduai.redrive(since => :'ended');
SELECT pg_temp.states(ARRAY[:a1, :a2, :b1, :b2]);

-- more than a batch; each counts for the tenant's limit, none is refused by it
RESET ROLE;
SET eduai.queue_max_size = 2500;
SET ROLE regress_queue_redrive;
SET eduai.tenant = 'queue_redrive_two';
SELECT array_length(eduai.enqueue_batch('queue_redrive', array_fill('{}'::jsonb, ARRAY[2100])), 1);
SELECT count(eduai.fail_task(task_id, attempt, 'no', false)) FROM eduai.claim_tasks('w', '{queue_redrive}', 500);
SELECT count(*) FILTER (WHERE eduai.cancel_task(task_id)) FROM (SELECT generate_series(min(m), min(m) + 1599) AS task_id FROM
	(SELECT task_id AS m FROM eduai.claim_tasks('w', '{queue_redrive}', 1)) c) t;
SELECT eduai.redrive();
SELECT ready, dead FROM eduai.queue_status;
RESET ROLE;
SET eduai.queue_max_size = 2099;
SET ROLE regress_queue_redrive;
SELECT eduai.enqueue('queue_redrive', '{}', on_refusal => 'skip') IS NULL;

-- other tenants' tasks stay as they are, an unknown type is an error
SET eduai.tenant = 'queue_redrive';
SELECT state FROM eduai.get_task(:b2);
\set VERBOSITY sqlstate
SELECT eduai.redrive('no_such_type');
\set VERBOSITY default

SELECT eduai.cancel_task(task_id) FROM unnest(ARRAY[:a2, :b1, :ready]) task_id;
RESET ROLE;
DROP FUNCTION pg_temp.states;
DELETE FROM eduai.task_live WHERE tenant_id LIKE 'queue\_redrive%';
DELETE FROM eduai.task_type WHERE name LIKE 'queue\_redrive%';
RESET eduai.queue_max_size;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_redrive', 'queue_redrive'), eduai.disallow_tenant('regress_queue_redrive', 'queue_redrive_two');
DROP OWNED BY regress_queue_redrive;
DROP ROLE regress_queue_redrive;
