-- Answers in OpenAI's shape, as the providers document them.
CREATE FUNCTION pg_temp.chat(body text, payload jsonb DEFAULT '{}', kind text DEFAULT 'openai') RETURNS text LANGUAGE sql AS $$
	SELECT jsonb_pretty(eduai.test_read_response(kind, 'chat', 200, '{"x-request-id": "req_1"}', convert_to(body, 'UTF8'), payload))
$$;
CREATE FUNCTION pg_temp.verdict(body text, task_type text DEFAULT 'chat', payload jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', r->>'verdict', r->>'code', r->>'message', r->'result')
	FROM eduai.test_read_response('openai', task_type, 200, '{}', convert_to(body, 'UTF8'), payload) r
$$;
\pset format unaligned
\pset tuples_only on
-- a whole answer
SELECT pg_temp.chat('{"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion", "created": 1741569952, "model": "gpt-4.1-2025-04-14",
	"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello! How can I assist you today?", "refusal": null, "annotations": []}, "logprobs": null, "finish_reason": "stop"}],
	"usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29, "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
	"completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}, "service_tier": "default"}');
-- tool calls
SELECT pg_temp.chat('{"model": "gpt-4.1", "choices": [{"index": 0, "message": {"role": "assistant", "content": null,
	"tool_calls": [{"id": "call_abc123", "type": "function", "function": {"name": "get_current_weather", "arguments": "{\n\"location\": \"Boston, MA\"\n}"}}]},
	"logprobs": null, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 82, "completion_tokens": 17, "total_tokens": 99}}');
-- JSON that was asked for, fenced or not; text that is not JSON stays text
SELECT pg_temp.verdict(format('{"model": "m", "choices": [{"message": {"content": %s}, "finish_reason": "stop"}]}', to_json(t)), 'chat', '{"response_format": {"type": "json_object"}}')
FROM unnest(ARRAY['{"a": [1, "é"]}', E'```json\n{"a": 2}\n```', 'Sorry, no.', '']) t;
SELECT pg_temp.verdict('{"model": "m", "choices": [{"message": {"content": "{\"a\": 1}"}, "finish_reason": "stop"}]}');
-- refusals, content parts, cut for length, a local server without usage or model
SELECT pg_temp.verdict(b) FROM unnest(ARRAY[
	'{"model": "m", "choices": [{"message": {"content": null, "refusal": "I cannot help with that."}, "finish_reason": "stop"}]}',
	'{"model": "m", "choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "image", "x": 1}, {"type": "text", "text": "b"}]}, "finish_reason": "stop"}]}',
	'{"model": "m", "choices": [{"message": {"content": "Once upon"}, "finish_reason": "length"}]}',
	'{"model": "m", "choices": [{"message": {"content": null}, "finish_reason": "length"}]}',
	'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}',
	'{"model": "m", "choices": [{"message": {"content": "", "function_call": {"name": "f", "arguments": "{}"}}, "finish_reason": "function_call"}]}']) b;
-- failures under 200
SELECT b, pg_temp.verdict(b) FROM unnest(ARRAY['', 'null', '[]', '"hi"', '{}', '<html>busy</html>', '{"choices": []}', '{"choices": {}}', '{"choices": ["x"]}', '{"choices": [{}]}',
	'{"choices": [{"finish_reason": "stop"}]}', '{"choices": [{"message": {"content": "cut sho"}}]}', '{"choices": [{"message": {"content": "cut sho"}, "finish_reason": null}]}',
	'{"choices": [{"message": {"content": "x"}, "finish_reason": ""}]}', '{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}',
	'{"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]}', '{"choices": [{"message": {"content": "x"}, "finish_reason": "error"}]}',
	'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]', '{"error": "model is busy"}', '{"error": {}}',
	'{"object": "error", "message": "no slot", "type": "NotFoundError", "param": null, "code": 404}',
	'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "error": null}']) WITH ORDINALITY u(b, n) ORDER BY n;
-- bytes that jsonb does not know
SELECT r->>'code', r->'result'->>'text' FROM unnest(ARRAY[
	'{"choices": [{"message": {"content": "nul \u0000, lone \ud800, lone \udc00, pair \ud83d\ude00, escaped \\u0000"}, "finish_reason": "stop"}]}',
	U&'\FEFF' || '{"choices": [{"message": {"content": "after a byte order mark"}, "finish_reason": "stop"}]}']) b,
	LATERAL eduai.test_read_response('openai', 'chat', 200, '{}', convert_to(b, 'UTF8')) r;
SELECT r->>'verdict', r->>'code', r->>'message' FROM unnest(ARRAY['\xff', '\x7b22613a22e9227d', '\x7b7d00', '\xefbbbf']::bytea[]) b, LATERAL eduai.test_read_response('openai', 'chat', 200, '{}', b) r;
SELECT r->>'verdict', r->>'code' FROM eduai.test_read_response('openai', 'chat', 200, '{}', convert_to(repeat('[', 100000), 'UTF8')) r;

-- embeddings: in the order of the inputs, whole or not at all
SELECT pg_temp.verdict(b, 'embeddings', p::jsonb) FROM (VALUES
	('{"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.0023064255, -0.009327292]}], "model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}}', '{"input": "x"}'),
	('{"data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}], "model": "m"}', '{"input": ["a", "b"]}'),
	('{"data": [{"embedding": [1, 2]}], "model": "m"}', '{"input": ["a"]}'), ('{"data": [{"embedding": [1, 2]}], "model": "m"}', '{"input": [15, 7, 9]}'),
	('{"data": [{"embedding": [1]}, {"embedding": [2]}], "model": "m"}', '{"input": [[15], [7, 9]]}'),
	('{"data": [{"embedding": [1, 2]}]}', '{"input": ["a", "b"]}'), ('{"data": [{"embedding": [1, 2]}, {"embedding": [1]}]}', '{"input": ["a", "b"]}'),
	('{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}', '{"input": ["a", "b"]}'), ('{"data": [{"index": 9, "embedding": [1]}]}', '{"input": "a"}'),
	('{"data": [{"embedding": []}]}', '{"input": "a"}'), ('{"data": [{"embedding": [1, "x"]}]}', '{"input": "a"}'), ('{"data": [{"embedding": "AACAPw=="}]}', '{"input": "a"}'),
	('{"data": []}', '{"input": "a"}'), ('{}', '{"input": "a"}')) v(b, p);
-- images
SELECT pg_temp.verdict(b, 'image_generation') FROM unnest(ARRAY[
	'{"created": 1713833628, "data": [{"b64_json": "iVBORw0KGgo="}], "usage": {"total_tokens": 100, "input_tokens": 50, "output_tokens": 50, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}}',
	'{"created": 1589478378, "data": [{"url": "https://x.example/1.png", "revised_prompt": "A cat"}, {"url": "https://x.example/2.png"}]}', '{"data": [{}]}', '{"data": []}']) b;
-- transcripts
SELECT pg_temp.verdict(b, 'transcription') FROM unnest(ARRAY[
	'{"text": "Imagine the wildest idea.", "usage": {"type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 0, "audio_tokens": 14}, "output_tokens": 45, "total_tokens": 59}}',
	'{"task": "transcribe", "language": "english", "duration": 8.470000267028809, "text": "The beach was popular.", "segments": [{"id": 0, "start": 0.0, "end": 3.3, "text": "The beach"}], "usage": {"type": "duration", "seconds": 9}}',
	'{"text": ""}', '{"duration": 3}']) b;

-- OpenRouter: an error under 200, whole or in the choice; its cost
SELECT r->>'verdict', r->>'code', r->>'http_status', r->>'message' FROM unnest(ARRAY[
	'{"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-min", "metadata": {"headers": {}}}, "user_id": "u"}',
	'{"error": {"code": 502, "message": "Provider returned error", "metadata": {"provider_name": "X", "raw": "boom"}}}',
	'{"id": "gen-1", "choices": [{"error": {"code": 402, "message": "Insufficient credits"}, "finish_reason": "error", "message": {"role": "assistant", "content": ""}}]}',
	'{"error": {"code": 403, "message": "Input was flagged", "metadata": {"reasons": ["violence"], "flagged_input": "secret words", "provider_name": "X"}}}']) b,
	LATERAL eduai.test_read_response('openrouter', 'chat', 200, '{}', convert_to(b, 'UTF8')) r;
SELECT r->>'verdict', r->>'cost_usd', r->'result'->'usage' FROM eduai.test_read_response('openrouter', 'chat', 200, '{}',
	'{"id": "gen-1", "provider": "X", "model": "meta/llama", "choices": [{"finish_reason": "stop", "native_finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
	"usage": {"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "cost": 0.00095, "is_byok": false, "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 50}, "cost_details": {}}}') r;
-- Hugging Face: bare vectors, errors of several shapes
SELECT r->>'verdict', r->>'code', r->>'message', r->'result' FROM (VALUES
	('embeddings', 200, '[0.1, 0.2, 0.3]', '{"input": "a"}'), ('embeddings', 200, '[[0.1, 0.2], [0.3, 0.4]]', '{"input": ["a", "b"]}'),
	('embeddings', 200, '[[[0.1], [0.2]]]', '{"input": ["a"]}'), ('transcription', 200, '{"text": "hello there"}', '{}'),
	('chat', 200, '{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "model": "m"}', '{}'),
	('chat', 400, '{"error": {"message": "The requested model is not supported", "type": "invalid_request_error", "param": "model", "code": "model_not_supported"}}', '{}'),
	('chat', 401, '{"error": "Invalid username or password."}', '{}'), ('chat', 422, '{"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096", "error_type": "validation"}', '{}'),
	('chat', 422, '{"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "value_error.missing"}]}', '{}'),
	('chat', 503, '{"detail": "busy"}', '{}'), ('chat', 500, '{"message": {"x": 1}}', '{}')) v(t, s, b, p),
	LATERAL eduai.test_read_response('huggingface', t, s, '{}', convert_to(b, 'UTF8'), p::jsonb) r;
