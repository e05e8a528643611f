-- enqueue(): every argument, its default, and what get_task() shows of it.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_enqueue;
GRANT eduai_app TO regress_queue_enqueue;
SELECT eduai.allow_tenant('regress_queue_enqueue', 'queue_enqueue');
SET ROLE regress_queue_enqueue;
SET eduai.tenant = 'queue_enqueue';

-- nothing but the required ones
SELECT eduai.enqueue('custom', '{"a": 1}') AS plain \gset
SELECT task_type, priority, state, attempt, result, error, progress, instance, cost_usd, run_at = enqueued_at,
	started_at, finished_at, user_id, metadata FROM eduai.get_task(:plain);

-- all of them, by name, and by position
SELECT now() + interval '1 hour' AS later, now() + interval '2 hours' AS end \gset
SELECT eduai.enqueue(task_type => 'custom', payload => '{"b": 2}', priority => 'high', run_at => :'later',
	depends_on => ARRAY[]::bigint[], unique_key => 'named', max_attempts => 7, timeout => '90 s', user_id => 'ann',
	metadata => '{"lesson": 5}', on_refusal => 'skip', on_result => NULL, idempotency_key => 'i-named',
	expires_at => :'end') AS named \gset
SELECT eduai.enqueue('custom', '{"b": 2}', 'high', :'later', '{}', 'placed', 7, '90 s', 'ann', '{"lesson": 5}',
	'skip', NULL, 'i-placed', :'end') AS placed \gset
SELECT task_type, priority, state, run_at = :'later', run_at > enqueued_at, user_id, metadata
FROM eduai.get_tasks(ARRAY[:named, :placed]);
RESET ROLE;
SELECT payload, max_attempts, timeout_ms, expires_at = :'end', unique_key, idempotency_key, owner, model
FROM eduai.task WHERE task_id IN (:named, :placed) ORDER BY task_id;
SELECT payload, max_attempts, timeout_ms, expires_at, unique_key, idempotency_key, owner, on_result
FROM eduai.task WHERE task_id = :plain;
SET ROLE regress_queue_enqueue;

-- nulls are defaults
SELECT eduai.enqueue('custom', '{}', 'normal', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) AS nulls \gset
SELECT state, metadata FROM eduai.get_task(:nulls);

-- priorities
SELECT eduai.enqueue('custom', '{}', p) FROM unnest(ARRAY['critical', 'high', 'normal', 'low']) p \g (format=unaligned) /dev/null
SELECT task_type, priority, ready, scheduled FROM eduai.queue_status
ORDER BY array_position(ARRAY['critical', 'high', 'normal', 'low'], priority);

-- run_at: in the past is now, in future is scheduled
SELECT eduai.enqueue('custom', '{}', run_at => now() - interval '1 day') AS past,
	eduai.enqueue('custom', '{}', run_at => '-infinity') AS long_past,
	eduai.enqueue('custom', '{}', run_at => now() + interval '1 day') AS future \gset
SELECT state, run_at = enqueued_at, run_at > enqueued_at FROM eduai.get_tasks(ARRAY[:past, :long_past, :future]);

-- a scheduled task becomes ready when it is due
SELECT eduai.enqueue('custom', '{}', run_at => clock_timestamp() + interval '150 ms') AS due \gset
SELECT state FROM eduai.get_task(:due);
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE EXISTS (SELECT FROM eduai.queue_status WHERE priority = 'normal' AND scheduled > 1) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the task did not become ready';
		END IF;
	END LOOP;
END $$;
SELECT state FROM eduai.get_task(:due);

-- each built-in type, with its pool and numbers
SELECT * FROM eduai.task_types()
WHERE name IN ('chat', 'image_generation', 'transcription', 'embeddings', 'analysis', 'custom') ORDER BY name;
SELECT t, eduai.enqueue(t, '{"model": "nobody"}', on_refusal => 'defer') > 0
FROM unnest(ARRAY['chat', 'image_generation', 'transcription', 'embeddings', 'analysis']) t;
SELECT task_type, ready FROM eduai.queue_status WHERE task_type <> 'custom' ORDER BY 1;

-- the model is the payload's
RESET ROLE;
SELECT DISTINCT model FROM eduai.task WHERE tenant_id = 'queue_enqueue' AND task_type <> 'custom';
SET ROLE regress_queue_enqueue;

-- get_tasks(): in the order asked for; what is unknown or null is left out
SELECT task_id = :named, task_id = :plain FROM eduai.get_tasks(ARRAY[:named, -1, NULL, :plain]::bigint[]);
SELECT count(*) FROM eduai.get_tasks('{}');
SELECT count(*) FROM eduai.get_task(-1);
SELECT count(*) FROM eduai.get_task(NULL);

-- ids grow in the order of the calls
SELECT :plain < :named AND :named < :placed AND :placed < :nulls;

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_enqueue', 'queue_enqueue');
DROP OWNED BY regress_queue_enqueue;
DROP ROLE regress_queue_enqueue;
