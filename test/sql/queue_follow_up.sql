-- A result about a learner leaves ai_feedback_given in the learner's stream.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_follow_up;
GRANT eduai_app TO regress_queue_follow_up;
SELECT eduai.allow_tenant('regress_queue_follow_up', 'queue_follow_up');
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_follow_up', 'mock', '');
SELECT eduai.add_instance('queue_follow_up', 'queue_follow_up', 'queue_follow_up');
SELECT eduai.add_provider('queue_follow_up_bad', 'mock', '', options => '{"status": 400}');
SELECT eduai.add_instance('queue_follow_up_bad', 'queue_follow_up_bad', 'queue_follow_up_bad');
CREATE FUNCTION pg_temp.ask(user_id text, metadata jsonb DEFAULT '{}', model text DEFAULT 'queue_follow_up') RETURNS bigint LANGUAGE sql AS $$
	SELECT eduai.enqueue('chat', jsonb_build_object('model', model, 'messages', '[{"role": "user", "content": "x"}]'::jsonb),
		user_id => user_id, metadata => metadata)
$$;
SET ROLE regress_queue_follow_up;
SET eduai.tenant = 'queue_follow_up';

-- after what was there
SELECT version FROM eduai.append_event('learner-ann', 'exercise_completed', user_id => 'ann');
SELECT pg_temp.ask('ann') AS task \gset
SELECT state FROM eduai.wait_task(:task);
SELECT version, event_type, user_id, data - 'task_id', data -> 'task_id' = to_jsonb(:task), metadata,
	recorded_at >= (SELECT enqueued_at FROM eduai.get_task(:task)) FROM eduai.read_stream('learner-ann') WHERE version > 1;

-- not with metadata.follow_up false, and not for a task that failed
SELECT pg_temp.ask('bob', '{"follow_up": false}') AS silent, pg_temp.ask('bob', model => 'queue_follow_up_bad') AS bad,
	pg_temp.ask(NULL) AS nobody \gset
SELECT state FROM eduai.wait_tasks(ARRAY[:silent, :bad, :nobody]);
SELECT eduai.stream_version('learner-bob');

-- many results of one batch, of several learners
SELECT array_agg(pg_temp.ask('u' || n % 3)) AS ids FROM generate_series(1, 30) n \gset
SELECT state, count(*) FROM eduai.wait_tasks(:'ids') GROUP BY state;
SELECT u, eduai.stream_version('learner-u' || u), (SELECT count(DISTINCT data -> 'task_id') FROM eduai.read_stream('learner-u' || u))
FROM generate_series(0, 2) u;
RESET ROLE;
DROP FUNCTION pg_temp.ask;
SELECT eduai.remove_instance('queue_follow_up'), eduai.remove_instance('queue_follow_up_bad');
SELECT eduai.remove_provider('queue_follow_up'), eduai.remove_provider('queue_follow_up_bad');

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_follow_up', 'queue_follow_up');
DROP OWNED BY regress_queue_follow_up;
DROP ROLE regress_queue_follow_up;
