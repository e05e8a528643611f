-- Providers of kind mock: answers without a model.
SET eduai.allow_mock = on;
CREATE FUNCTION pg_temp.mock(options jsonb) RETURNS void LANGUAGE sql AS $$
	SELECT eduai.add_provider('mock', 'mock', NULL, options => options)
$$;
CREATE FUNCTION pg_temp.call(task_type text, payload jsonb, timeout_ms int DEFAULT 60000) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', f->>'code', f->>'message', f->>'retry_after_ms', f->'result', f->>'cost_usd')
	FROM eduai.test_call('mock', task_type, payload, timeout_ms => timeout_ms) r, LATERAL (SELECT r->'first' AS f) s
$$;
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.mock('{}');
SELECT eduai.add_instance('mock', 'mock', 'mock-1', '{chat,analysis,embeddings,image_generation,transcription}', price_input => 1, price_output => 2);
SELECT pg_temp.call('chat', '{"prompt": "hello"}');
SELECT pg_temp.call('chat', '{"prompt": "hello", "response_format": {"type": "json_object"}}');
SELECT pg_temp.call('embeddings', '{"input": "hello"}') = pg_temp.call('embeddings', '{"input": "hello"}') AS same;
SELECT pg_temp.call('embeddings', '{"input": "hello"}') = pg_temp.call('embeddings', '{"input": "goodbye"}') AS same;
SELECT pg_temp.call('image_generation', '{"prompt": "a cat", "n": 2, "response_format": "url"}');
SELECT pg_temp.call('transcription', '{"audio": {"base64": "T2dnUw=="}}');
-- the payload is checked as OpenAI's adapter would
SELECT pg_temp.call('chat', '{"messages": []}');
SELECT pg_temp.call('transcription', '{"audio": {}}');
-- options
SELECT pg_temp.mock('{"text": "Très bien !", "tokens_in": 1000, "tokens_cached": 400, "tokens_out": 500, "finish_reason": "length"}');
SELECT pg_temp.call('chat', '{"prompt": "hello"}');
SELECT pg_temp.mock('{"echo": true}');
SELECT pg_temp.call('chat', '{"messages": [{"role": "user", "content": "first"}, {"role": "assistant", "content": "no"}, {"role": "user", "content": "last"}]}');
SELECT pg_temp.mock('{"dimensions": 3}');
SELECT jsonb_array_length(f->'result'->'embeddings'), jsonb_array_length(f->'result'->'embeddings'->0)
FROM eduai.test_call('mock', 'embeddings', '{"input": ["a", "b"]}') r, LATERAL (SELECT r->'first' AS f) s;
SELECT pg_temp.mock('{"status": 429, "message": "slow down", "retry_after_ms": 1500}');
SELECT pg_temp.call('chat', '{"prompt": "hello"}');
SELECT pg_temp.mock('{"status": 400, "code": "context_length_exceeded"}');
SELECT pg_temp.call('chat', '{"prompt": "hello"}');
SELECT pg_temp.mock('{"fail_first": 1}');
SELECT pg_temp.call('chat', '{"prompt": "hello"}');
SELECT pg_temp.mock('{"fail_first": 0, "status": 500}');
SELECT pg_temp.call('chat', '{"prompt": "hello"}');
SELECT pg_temp.mock('{"error_rate": 1}');
SELECT pg_temp.call('chat', '{"prompt": "hello"}');
SELECT pg_temp.mock('{"error_rate": 0, "status": 500}');
SELECT pg_temp.call('chat', '{"prompt": "hello"}');
-- time limits and cancelling
SELECT pg_temp.mock('{"latency_ms": 30000}');
SELECT pg_temp.call('chat', '{"prompt": "hello"}', 20);
SELECT r->'outcomes' FROM eduai.test_call('mock', 'chat', '{"prompt": "hello"}', calls => 50, at_once => 50, cancel_after_ms => 20) r;
SELECT eduai.add_instance('mock', 'mock', 'mock-1', options => '{"first_byte_ms": 20}');
SELECT pg_temp.call('chat', '{"prompt": "hello"}');
SELECT eduai.remove_instance('mock');
SELECT eduai.remove_provider('mock');
