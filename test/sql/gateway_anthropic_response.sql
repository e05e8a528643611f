-- Answers of the Messages API, as Anthropic documents them.
\pset format unaligned
\pset tuples_only on
SELECT jsonb_pretty(eduai.test_read_response('anthropic', 'chat', 200, '{"x-request-id": "req_018EeWyXxfu5pfWkrYcMdjWG"}',
	'{"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
	"content": [{"type": "thinking", "thinking": "hidden", "signature": "x"}, {"type": "text", "text": "Hello, "}, {"type": "text", "text": "Claude here."}],
	"stop_reason": "end_turn", "stop_sequence": null,
	"usage": {"input_tokens": 12, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 1000, "output_tokens": 6, "service_tier": "standard"}}'));
-- tools, in OpenAI's shape
SELECT r->'result' FROM eduai.test_read_response('anthropic', 'chat', 200, '{}',
	'{"type": "message", "model": "m", "content": [{"type": "text", "text": "Let me look."}, {"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": "get_weather", "input": {"location": "Paris", "unit": "c"}}, {"type": "tool_use", "id": "toolu_2", "name": "noop", "input": {}}],
	"stop_reason": "tool_use", "usage": {"input_tokens": 472, "output_tokens": 89}}') r;
-- JSON that was asked for
SELECT r->'result'->'json' FROM eduai.test_read_response('anthropic', 'chat', 200, '{}', convert_to('{"content": [{"type": "text", "text": "{\"score\": 3}"}], "stop_reason": "end_turn"}', 'UTF8'), '{"response_format": {"type": "json_object"}}') r;
-- how it ended
SELECT s, concat_ws(' | ', r->>'verdict', r->>'code', r->>'message', r->'result'->>'finish_reason') FROM unnest(ARRAY['"end_turn"', '"stop_sequence"', '"max_tokens"', '"tool_use"',
	'"model_context_window_exceeded"', '"pause_turn"', '"refusal"', 'null', '""']) s,
	LATERAL eduai.test_read_response('anthropic', 'chat', 200, '{}', convert_to('{"content": [{"type": "text", "text": "x"}], "stop_reason": ' || s || '}', 'UTF8')) r;
SELECT b, concat_ws(' | ', r->>'verdict', r->>'code', r->>'message', r->'result'->>'text') FROM unnest(ARRAY['{}', '[]', 'x', '{"content": "x", "stop_reason": "end_turn"}', '{"content": {}, "stop_reason": "end_turn"}',
	'{"content": [], "stop_reason": "end_turn"}', '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}']) b,
	LATERAL eduai.test_read_response('anthropic', 'chat', 200, '{}', convert_to(b, 'UTF8')) r;
-- errors, by the documented list
SELECT s, t, concat_ws(' | ', r->>'verdict', r->>'code', r->>'message') FROM (VALUES (400, 'invalid_request_error', 'messages: roles must alternate'),
	(400, 'invalid_request_error', 'prompt is too long: 208310 tokens > 200000 maximum'), (400, 'invalid_request_error', 'input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000'),
	(400, 'invalid_request_error', 'Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.'),
	(400, 'invalid_request_error', 'Output blocked by content filtering policy'), (401, 'authentication_error', 'invalid x-api-key'), (402, 'billing_error', 'There is an issue with your billing'),
	(403, 'permission_error', 'Your API key does not have permission'), (404, 'not_found_error', 'model: claude-9'), (413, 'request_too_large', 'Request exceeds the maximum size'),
	(429, 'rate_limit_error', 'This request would exceed your rate limit'), (500, 'api_error', 'Internal server error'), (504, 'timeout_error', 'Request timed out'), (529, 'overloaded_error', 'Overloaded')) v(s, t, m),
	LATERAL eduai.test_read_response('anthropic', 'chat', s, '{}', convert_to(jsonb_build_object('type', 'error', 'error', jsonb_build_object('type', t, 'message', m), 'request_id', 'req_1')::text, 'UTF8')) r;
