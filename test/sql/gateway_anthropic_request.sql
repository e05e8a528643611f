-- OpenAI's chat as requests of the Messages API.
CREATE FUNCTION pg_temp.body(payload jsonb, instance jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT jsonb_pretty(coalesce(r->'body', r)) FROM eduai.test_build_request('anthropic', 'chat', payload,
		'{"api_key": "sk-ant-0123456789", "base_url": "https://api.anthropic.com"}', '{"model": "claude-x"}' || instance) r
$$;
-- where to, and as whom
SELECT r->'url', r->'headers' FROM eduai.test_build_request('anthropic', 'chat', '{"prompt": "x"}',
	'{"api_key": "sk-ant-0123456789", "base_url": "https://api.anthropic.com"}') r;
SELECT r->'url', r->'headers' FROM eduai.test_build_request('anthropic', 'chat', '{"prompt": "x"}',
	'{"base_url": "https://gateway.example/anthropic/v1", "anthropic_version": "2024-01-01", "idempotency_key": "unused"}') r;
-- systems go to the top, text parts and strings alike
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.body('{"messages": [{"role": "system", "content": "You teach."}, {"role": "developer", "content": [{"type": "text", "text": "In French."}]},
	{"role": "user", "content": "Bonjour"}, {"role": "assistant", "content": "Salut"}, {"role": "user", "content": [{"type": "text", "text": "Encore", "cache_control": {"type": "ephemeral"}}]}]}');
-- max_tokens is required: the payload's, the instance's, 4096
SELECT pg_temp.body('{"prompt": "x", "max_tokens": 50}')::jsonb->'max_tokens', pg_temp.body('{"prompt": "x", "max_completion_tokens": 60}')::jsonb->'max_tokens',
	pg_temp.body('{"prompt": "x"}', '{"max_output_tokens": 70}')::jsonb->'max_tokens', pg_temp.body('{"prompt": "x"}')::jsonb->'max_tokens';
-- parameters: what has a counterpart; the rest is left out
SELECT pg_temp.body('{"prompt": "x", "temperature": 1.6, "top_p": 0.9, "top_k": 40, "stop": "END", "user": "u-1", "seed": 1, "n": 2, "presence_penalty": 1, "stream": true, "logprobs": true}');
SELECT pg_temp.body('{"prompt": "x", "temperature": 0.3, "stop": ["A", "B"]}');
-- pictures
SELECT pg_temp.body('{"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"},
	{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}, {"type": "image_url", "image_url": {"url": "https://x.example/a.jpg", "detail": "low"}}]}]}');
-- tools: definitions, choice, calls, results; results of one turn share a message
SELECT pg_temp.body('{"messages": [{"role": "user", "content": "Weather in Paris and Lyon?"},
	{"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Paris\"}"}},
		{"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": ""}}]},
	{"role": "tool", "tool_call_id": "call_1", "content": "sun"}, {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
	{"role": "user", "content": "Thanks"}],
	"tools": [{"type": "function", "function": {"name": "weather", "description": "Now", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}},
		{"type": "function", "function": {"name": "noop"}}],
	"tool_choice": {"type": "function", "function": {"name": "weather"}}, "parallel_tool_calls": false}');
SELECT c, pg_temp.body(jsonb_build_object('prompt', 'x', 'tools', '[{"type": "function", "function": {"name": "f"}}]'::jsonb, 'tool_choice', c))::jsonb->'tool_choice'
FROM unnest(ARRAY['auto', 'none', 'required']) c;
-- JSON is asked for in words
SELECT pg_temp.body('{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}],
	"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}}')::jsonb->'system';
SELECT pg_temp.body('{"prompt": "x", "response_format": {"type": "json_object"}}')::jsonb->'system';
-- what cannot be translated
SELECT p, pg_temp.body(p::jsonb)::jsonb->>'message' FROM unnest(ARRAY[
	'{"messages": [{"role": "system", "content": "x"}]}', '{"messages": [{"content": "x"}]}', '{"messages": [{"role": "critic", "content": "x"}]}',
	'{"messages": ["x"]}', '{"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}',
	'{"messages": [{"role": "user", "content": [{"text": "x"}]}]}', '{"messages": [{"role": "user", "content": ["x"]}]}',
	'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}]}',
	'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
	'{"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{not json"}}]}]}']) p;
