SELECT eduai.enqueue('chat', '{"messages": [{"role": "user",
         "content": "Hello"}]}', user_id => 'ana') AS task \gset
SELECT state, result ->> 'text', cost_usd FROM eduai.wait_task(:task);
SELECT version, event_type, data FROM eduai.read_stream('learner-ana');
SELECT jsonb_pretty(eduai.user_progress('ana'));
SELECT * FROM eduai.queue_status;
