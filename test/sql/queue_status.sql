-- queue_status and dead_letter: real tasks, and exact numbers of the last hour.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_status;
GRANT eduai_app TO regress_queue_status;
SELECT eduai.allow_tenant('regress_queue_status', t) FROM unnest('{queue_status,queue_status_2}'::text[]) t;
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_status', 'mock', '');
SELECT eduai.add_instance('queue_status', 'queue_status', 'queue_status');
SELECT eduai.add_provider('queue_status_bad', 'mock', '', options => '{"status": 400}');
SELECT eduai.add_instance('queue_status_bad', 'queue_status_bad', 'queue_status_bad');
CREATE FUNCTION pg_temp.ask(model text, priority text DEFAULT 'normal') RETURNS bigint LANGUAGE sql AS $$
	SELECT eduai.enqueue('chat', jsonb_build_object('model', model, 'messages', '[{"role": "user", "content": "x"}]'::jsonb), priority)
$$;
SELECT string_agg(a.attname, ' ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = 'eduai.queue_status'::regclass;
SET ROLE regress_queue_status;
SET eduai.tenant = 'queue_status_2';
SELECT eduai.enqueue('custom', '{}') > 0;
SET eduai.tenant = 'queue_status';
SELECT count(*) FROM eduai.queue_status;

-- what lives
SELECT eduai.enqueue('custom', '{}', expires_at => now() + interval '1 day') AS parent \gset
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:parent]::bigint[]) > 0, eduai.enqueue('custom', '{}', run_at => now() + interval '1 day') > 0,
	eduai.enqueue('custom', '{}', 'low') > 0;
SELECT task_type, priority, waiting, scheduled, ready, running, dead, oldest_ready_seconds BETWEEN 0 AND 60, completed_last_hour,
	avg_wait_ms, avg_run_ms, failed_last_hour, success_rate, p95_wait_ms, per_minute FROM eduai.queue_status ORDER BY 1, 2 DESC;

-- what ended
SELECT array_agg(pg_temp.ask('queue_status')) AS good, array_agg(pg_temp.ask('queue_status_bad', 'high')) AS bad FROM generate_series(1, 4) \gset
SELECT state, count(*) FROM eduai.wait_tasks(:'good'::bigint[] || :'bad') GROUP BY 1 ORDER BY 1;
SELECT task_type, priority, dead, completed_last_hour, avg_wait_ms >= 0, avg_run_ms >= 0, failed_last_hour, success_rate, p95_wait_ms >= avg_wait_ms / 4, per_minute
FROM eduai.queue_status WHERE task_type = 'chat' ORDER BY 2;

-- exact: waits of 1, 2, 3 and 10 s, runs of 1 s; one of them ended 10 minutes ago, one two hours ago
RESET ROLE;
WITH nth AS (SELECT task_id, row_number() OVER (ORDER BY task_id) AS n FROM eduai.task_end WHERE tenant_id = 'queue_status' AND state = 'completed')
UPDATE eduai.task_end e SET started_at = e.run_at + (ARRAY[1, 2, 3, 10])[n] * interval '1 s', finished_at = e.run_at + ((ARRAY[1, 2, 3, 10])[n] + 1) * interval '1 s'
FROM nth WHERE nth.task_id = e.task_id AND e.tenant_id = 'queue_status';
SET ROLE regress_queue_status;
SELECT completed_last_hour, avg_wait_ms, avg_run_ms, success_rate, round(p95_wait_ms), per_minute FROM eduai.queue_status WHERE task_type = 'chat' AND priority = 'normal';
RESET ROLE;
UPDATE eduai.task_end SET run_at = run_at - interval '10 min', started_at = started_at - interval '10 min', finished_at = finished_at - interval '10 min' WHERE task_id = (:'good'::bigint[])[1];
UPDATE eduai.task_end SET run_at = run_at - interval '2 h', started_at = started_at - interval '2 h', finished_at = finished_at - interval '2 h' WHERE task_id IN ((:'good'::bigint[])[4], (:'bad'::bigint[])[1]);
SET ROLE regress_queue_status;
SELECT priority, dead, completed_last_hour, avg_wait_ms, failed_last_hour, success_rate, per_minute FROM eduai.queue_status WHERE task_type = 'chat' ORDER BY 1;

-- dead_letter
SELECT task_id = ANY (:'bad'), task_type, priority, state, attempt, error ->> 'code', user_id, payload ->> 'model', metadata, finished_at >= enqueued_at FROM eduai.dead_letter WHERE task_id <> (:'bad'::bigint[])[1];
SELECT count(*) FROM eduai.dead_letter;
SET eduai.tenant = 'queue_status_2';
SELECT task_type, ready, (SELECT count(*) FROM eduai.dead_letter) FROM eduai.queue_status;
SET eduai.tenant = 'queue_status';

-- where there are many finished tasks, those that count are found through their index
RESET ROLE;
BEGIN;
INSERT INTO eduai.task_end (tenant_id, task_id, task_type, priority, state, attempt, run_at, finished_at)
SELECT 'queue_status', -i, 'chat', 2, 'completed', 1, now() - interval '1 day', now() - interval '1 day' FROM generate_series(1, 20000) i;
INSERT INTO eduai.task_request (tenant_id, task_id, task_type, priority, max_attempts, timeout_ms, owner, enqueued_at, payload, metadata)
SELECT 'queue_status', -i, 'chat', 2, 1, 1000, current_user, now(), '{}', '{}' FROM generate_series(1, 20000) i;
ANALYZE eduai.task_end, eduai.task_request;
CREATE FUNCTION pg_temp.scans(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ 'Scan .*task_end' THEN
			RETURN NEXT coalesce(substring(line FROM 'task_end_[a-z]\w+'), substring(line FROM 'Seq Scan|Bitmap'));
		END IF;
	END LOOP;
END $$;
SET LOCAL ROLE regress_queue_status;
SELECT DISTINCT s FROM pg_temp.scans('SELECT * FROM eduai.queue_status') s WHERE s <> 'Bitmap' ORDER BY 1;
SELECT DISTINCT s FROM pg_temp.scans('SELECT * FROM eduai.dead_letter') s WHERE s <> 'Bitmap';
ROLLBACK;

-- health: of all tenants
SELECT string_agg(k, ' ' ORDER BY k) FROM jsonb_object_keys(eduai.health() -> 'queue') k;
SELECT h -> 'oldest_ready_seconds' >= '0', h -> 'ready' >= '3', h -> 'dead_last_hour' >= '3' FROM eduai.health() t (j), LATERAL (SELECT j -> 'queue') q (h);
BEGIN;
UPDATE eduai.task_live SET run_at = run_at - interval '1 h' WHERE tenant_id = 'queue_status' AND task_id = :parent;
SELECT (eduai.health() #>> '{queue,oldest_ready_seconds}')::int >= 3600;
-- an application's type is not the dispatcher's
SELECT count(*) FROM eduai.health_problems() WHERE code = 'queue_stalled' AND detail ~ 'queue_status|custom';
SELECT eduai.define_task_type('queue_status', 'gateway', 'analysis');
UPDATE eduai.task_live SET task_type = 'queue_status' WHERE tenant_id = 'queue_status' AND task_id = :parent;
SELECT severity, detail ~ '^A queue_status task of priority normal has been ready for 36\d\d s, and none of the type runs\.$' FROM eduai.health_problems() WHERE code = 'queue_stalled' AND detail ~ 'queue_status|custom';
INSERT INTO eduai.paused_type (task_type) VALUES ('queue_status');
SELECT count(*) FROM eduai.health_problems() WHERE code = 'queue_stalled' AND detail ~ 'queue_status|custom';
SELECT eduai.health() -> 'queue' -> 'paused' ? 'queue_status';
SET LOCAL eduai.queue_max_size = 4;
SELECT severity, detail FROM eduai.health_problems() WHERE code = 'queue_full' AND detail ~ '"queue_status"';
SET LOCAL eduai.queue_max_size = 5;
SELECT count(*) FROM eduai.health_problems() WHERE code = 'queue_full' AND detail ~ '"queue_status"';
-- more that are dead
INSERT INTO eduai.task_end (tenant_id, task_id, task_type, priority, state, attempt, run_at, finished_at)
SELECT 'queue_status', -i, 'chat', 2, 'dead', 1, now(), now() FROM generate_series(1, 3000) i;
SELECT severity, detail ~ '^\d+ of the \d+ tasks that ended in the last hour failed for good\.$' FROM eduai.health_problems() WHERE code = 'dead_tasks';
ROLLBACK;

DROP FUNCTION pg_temp.ask;
SELECT eduai.remove_instance('queue_status'), eduai.remove_instance('queue_status_bad');
SELECT eduai.remove_provider('queue_status'), eduai.remove_provider('queue_status_bad');
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_status', t) FROM unnest('{queue_status,queue_status_2}'::text[]) t;
DROP OWNED BY regress_queue_status;
DROP ROLE regress_queue_status;
