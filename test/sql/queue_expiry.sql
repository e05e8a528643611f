-- expires_at: ends a task that has not started.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_expiry;
GRANT eduai_app TO regress_queue_expiry;
SELECT eduai.allow_tenant('regress_queue_expiry', 'queue_expiry');
SET ROLE regress_queue_expiry;
SET eduai.tenant = 'queue_expiry';

-- ready (nothing serves it), scheduled, and waiting for another
SELECT eduai.enqueue('chat', '{"model": "queue_expiry"}', on_refusal => 'defer', expires_at => clock_timestamp() + interval '1 s') AS ready,
	eduai.enqueue('custom', '{}', run_at => now() + interval '1 hour', expires_at => clock_timestamp() + interval '1 s', unique_key => 'k') AS scheduled,
	eduai.enqueue('custom', '{}') AS parent \gset
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:parent]::bigint[], expires_at => clock_timestamp() + interval '1 s') AS waiting \gset
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:ready]::bigint[]) AS child \gset
SELECT state FROM eduai.get_tasks(ARRAY[:ready, :scheduled, :waiting, :child]);
SELECT state, attempt, result, started_at, finished_at >= enqueued_at + interval '900 ms' FROM eduai.wait_tasks(ARRAY[:ready, :scheduled, :waiting]);

-- what depended on it fails with it; what it depended on stays
SELECT state, error ->> 'code' FROM eduai.wait_task(:child);
SELECT state FROM eduai.get_task(:parent);

-- its key is free, and it can be taken back, then without its end
SELECT eduai.enqueue('custom', '{}', unique_key => 'k') <> :scheduled;
SELECT eduai.cancel_task(:ready), eduai.retry_task(:waiting);
SELECT state, finished_at FROM eduai.get_task(:waiting);

-- one that expired is not started, even if something comes that serves it
RESET ROLE;
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_expiry', 'mock', '');
SELECT eduai.add_instance('queue_expiry', 'queue_expiry', 'queue_expiry');
SET ROLE regress_queue_expiry;
SELECT eduai.enqueue('chat', '{"model": "queue_expiry", "messages": [{"role": "user", "content": "x"}]}', expires_at => now() + interval '1 hour') AS served \gset
SELECT state FROM eduai.wait_task(:served);
SELECT state FROM eduai.get_task(:ready);
RESET ROLE;
SELECT eduai.remove_instance('queue_expiry');
SELECT eduai.remove_provider('queue_expiry');

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_expiry', 'queue_expiry');
DROP OWNED BY regress_queue_expiry;
DROP ROLE regress_queue_expiry;
