SELECT eduai.enqueue('chat', '{"messages": [{"role": "user",
         "content": "Hello"}]}', user_id => 'ana') AS task \gset
SELECT state, result ->> 'text', cost_usd FROM eduai.wait_task(:task);
SELECT version, event_type, data FROM eduai.read_stream('learner-ana');
SELECT jsonb_pretty(eduai.user_progress('ana'));
SELECT * FROM eduai.queue_status;

-- A class at a glance, what the model expects of ana, and how hard each skill is.
SELECT eduai.set_cohort('7b', ARRAY['ana', 'ben']);
SELECT * FROM eduai.class_overview('7b');
SELECT eduai.learner_prediction('ana', 'fractions');
SELECT * FROM eduai.skill_statistics();
SELECT name, mode, lag_events, parked_events, rebuilding FROM eduai.projection_status;
