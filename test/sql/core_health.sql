-- health() and health_problems(): their shape, and what they say of the workers.
\pset format unaligned
\pset tuples_only on
SET eduai.allow_mock = on;
SELECT eduai.add_provider('core_health', 'mock', '');
SELECT eduai.add_instance('core_health', 'core_health', 'core_health');

-- a task that is answered proves that the dispatcher runs
SELECT eduai.enqueue('chat', '{"model": "core_health", "messages": [{"role": "user", "content": "x"}]}') AS task \gset
SELECT (eduai.wait_task(:task)).state;

SELECT key, jsonb_typeof(value) FROM jsonb_each(eduai.health()) ORDER BY key;
SELECT eduai.health() ->> 'status';
SELECT eduai.health() -> 'problems';
SELECT count(*) FROM eduai.health_problems();
SELECT eduai.health() ->> 'version' = eduai.version(), eduai.version() = extversion
FROM pg_extension WHERE extname = 'eduai';
SELECT worker ->> 'worker', worker ->> 'state', field.key, jsonb_typeof(field.value)
FROM jsonb_array_elements(eduai.health() -> 'workers') worker, jsonb_each(worker) field ORDER BY 1, 3;
SELECT section, key, jsonb_typeof(value)
FROM unnest(ARRAY['queue', 'gateway', 'cache', 'events']) section, jsonb_each(eduai.health() -> section) ORDER BY 1, 2;

-- stopped workers are a critical problem, in both functions alike
SELECT eduai.stop_workers();
SELECT eduai.health() ->> 'status';
SELECT code, severity, since, detail, hint FROM eduai.health_problems();
SELECT problem - 'since' FROM jsonb_array_elements(eduai.health() -> 'problems') problem;

-- started again, they answer again
SELECT eduai.start_workers();
SELECT eduai.enqueue('chat', '{"model": "core_health", "messages": [{"role": "user", "content": "x"}]}') AS task \gset
SELECT (eduai.wait_task(:task)).state;
SELECT eduai.health() ->> 'status';

-- the queue's counts are of all tenants
SELECT (eduai.health() -> 'queue' ->> 'ready')::int AS before \gset
SELECT eduai.enqueue('custom', '{}') AS task \gset
SELECT (eduai.health() -> 'queue' ->> 'ready')::int - :before;
SELECT eduai.cancel_task(:task);

SELECT eduai.remove_instance('core_health');
SELECT eduai.remove_provider('core_health');
