-- eduai.queue_events: one event for each change of a task, in its transaction,
-- in the task's own stream.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_events;
GRANT eduai_app, eduai_worker TO regress_queue_events;
SELECT eduai.allow_tenant('regress_queue_events', t) FROM unnest('{queue_events,queue_events_2}'::text[]) t;
SELECT boot_val, enumvals, context FROM pg_settings WHERE name = 'eduai.queue_events';
SELECT event_type, description, data_keys ? 'task_id', sensitive_fields, builtin FROM eduai.event_type WHERE event_type LIKE 'task\_%' ORDER BY 1;
-- a task's events, ids and times aside
CREATE FUNCTION pg_temp.told(task bigint) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', version, event_type, data - '{task_id,wait_ms,run_ms}'::text[], (data ->> 'task_id')::bigint = task, data ? 'wait_ms', data ? 'run_ms')
	FROM eduai.read_stream('task-' || task) ORDER BY version
$$;
SET ROLE regress_queue_events;
SET eduai.tenant = 'queue_events';
-- the administrator's choice
SET eduai.queue_events = 'all';

-- off: nothing
SELECT eduai.cancel_task(eduai.enqueue('custom', '{}'));
SELECT count(*) FROM eduai.read_all(category => 'task');

-- final: only how it ended
RESET ROLE;
SET eduai.queue_events = 'final';
SET ROLE regress_queue_events;
SELECT eduai.enqueue('custom', '{"secret": "payload"}', 'high', user_id => 'ann', metadata => '{"secret": "metadata"}') AS task \gset
SELECT eduai.cancel_task(:task);
SELECT * FROM pg_temp.told(:task);
SELECT user_id, session_id, metadata FROM eduai.read_stream('task-' || :task);

-- all: each change, in order
RESET ROLE;
SET eduai.queue_events = 'all';
SET ROLE regress_queue_events;
SELECT eduai.enqueue('custom', '{}') AS task, eduai.enqueue('custom', '{}', run_at => now() + interval '1 day') AS later \gset
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:task]::bigint[], metadata => '{"on_parent_failure": "wait"}') AS child \gset
SELECT eduai.cancel_task(:task), eduai.cancel_task(:task), eduai.retry_task(:task), eduai.retry_task(:task), eduai.cancel_task(:task);
SELECT * FROM pg_temp.told(:task);
SELECT pg_temp.told(t) FROM unnest(ARRAY[:later, :child]::bigint[]) t;
-- dead from the start
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:task]::bigint[]) AS dead \gset
SELECT * FROM pg_temp.told(:dead);
-- a key that is taken makes no task and no event
SELECT eduai.enqueue('custom', '{}', unique_key => 'k') AS keyed \gset
SELECT eduai.enqueue('custom', '{}', unique_key => 'k') = :keyed, eduai.stream_version('task-' || :keyed);
-- a batch: an event for each
SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[200])) AS ids \gset
SELECT count(*), count(DISTINCT stream), min(version), max(version) FROM eduai.read_all(max_count => 1000, category => 'task') WHERE (data ->> 'task_id')::bigint = ANY (:'ids');

-- several changes of one transaction, and none of what is rolled back
BEGIN;
SELECT eduai.enqueue('custom', '{}') AS task \gset
SAVEPOINT s;
SELECT eduai.cancel_task(:task);
ROLLBACK TO s;
SELECT eduai.cancel_task(:task);
COMMIT;
SELECT * FROM pg_temp.told(:task);
BEGIN;
SELECT eduai.enqueue('custom', '{}') AS gone \gset
SELECT eduai.stream_version('task-' || :gone);
ROLLBACK;
SELECT eduai.stream_version('task-' || :gone);

-- by tenant
SET eduai.tenant = 'queue_events_2';
SELECT count(*) FROM eduai.read_all(category => 'task');
SET eduai.tenant = 'queue_events';

-- a dashboard: a subscription that starts now
SELECT eduai.create_subscription('queue_events', event_types => '{task_dead,task_cancelled}', category => 'task',
	after_position => (SELECT max("position") FROM eduai.read_all(max_count => 10000)));
SELECT eduai.cancel_task(:later);
SELECT event_type, (data ->> 'task_id')::bigint = :later FROM eduai.fetch_events('queue_events', wait => '10 s');
SELECT eduai.drop_subscription('queue_events');

RESET ROLE;
DROP FUNCTION pg_temp.told;
RESET eduai.queue_events;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_events', t) FROM unnest('{queue_events,queue_events_2}'::text[]) t;
DROP OWNED BY regress_queue_events;
DROP ROLE regress_queue_events;
