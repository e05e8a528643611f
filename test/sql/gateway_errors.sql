-- What a failed answer means: retry, go elsewhere, give up.
CREATE FUNCTION pg_temp.read(status int, body text, headers jsonb DEFAULT '{}', provider jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', r->>'verdict', r->>'code', r->>'message')
	FROM eduai.test_read_response('openai', 'chat', status, headers, convert_to(body, 'UTF8'), '{}', provider) r
$$;
\pset format unaligned
\pset tuples_only on
-- by status alone
SELECT s, pg_temp.read(s, '') FROM unnest(ARRAY[300, 301, 302, 304, 307, 308, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 418, 422, 425, 429, 451, 500, 501, 502, 503, 504, 520, 529, 599, 100, 0, 999]) s;
-- by OpenAI's names
SELECT s, t, c, pg_temp.read(s, jsonb_build_object('error', jsonb_build_object('message', m, 'type', t, 'param', NULL, 'code', c))::text) FROM (VALUES
	(401, 'invalid_request_error', 'invalid_api_key', 'Incorrect API key provided: sk-abc***. You can find your API key at https://platform.openai.com/account/api-keys.'),
	(429, 'insufficient_quota', 'insufficient_quota', 'You exceeded your current quota, please check your plan and billing details.'),
	(429, 'requests', 'rate_limit_exceeded', 'Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 3'),
	(429, 'tokens', NULL, 'Request too large'), (400, 'invalid_request_error', 'context_length_exceeded', 'This model''s maximum context length is 8192 tokens.'),
	(400, 'invalid_request_error', 'content_policy_violation', 'Your request was rejected as a result of our safety system.'), (400, 'image_generation_user_error', 'moderation_blocked', 'Blocked'),
	(400, 'invalid_request_error', 'billing_hard_limit_reached', 'Billing hard limit has been reached'), (404, 'invalid_request_error', 'model_not_found', 'The model `gpt-9` does not exist'),
	(400, 'invalid_request_error', NULL, 'Invalid value for ''temperature'''), (500, 'server_error', NULL, 'The server had an error'), (503, 'server_error', 'slow_down', 'Slow down')) v(s, t, c, m);
-- by other servers': vLLM, llama.cpp, Ollama, proxies
SELECT s, pg_temp.read(s, b, h::jsonb) FROM (VALUES
	(400, '{"object": "error", "message": "This model''s maximum context length is 6048 tokens. However, you requested 6616 tokens", "type": "BadRequestError", "param": null, "code": 400}', '{}'),
	(400, '{"error": {"message": "max_tokens must be at least 1, got -186.", "type": "BadRequestError", "param": null, "code": 400}}', '{}'),
	(500, '{"error": {"code": 500, "message": "the request exceeds the available context size", "type": "exceed_context_size_error", "n_prompt_tokens": 1407, "n_ctx": 256}}', '{}'),
	(503, '{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}', '{}'), (404, '{"error": "model \"x\" not found, try pulling it first"}', '{}'),
	(502, '<html><body>Bad gateway</body></html>', '{"content-type": "text/html"}'), (502, 'upstream connect error', '{"content-type": "text/plain; charset=utf-8"}'),
	(500, '{"error": {"message": ""}}', '{}'), (500, '{"error": ["first", "second"]}', '{}'), (400, '{"detail": {"message": "nope"}}', '{}'), (500, '[1]', '{}'), (500, '"x"', '{}'), (500, '{', '{}')) v(s, b, h);
-- x-should-retry overrides, but never for money
SELECT s, h, pg_temp.read(s, b, jsonb_build_object('x-should-retry', h)) FROM (VALUES (400, '', 'true'), (500, '', 'false'), (500, '', 'true'), (500, '', 'maybe'), (401, '', 'false'), (402, '', 'true'),
	(429, '{"error": {"code": "insufficient_quota", "message": "quota"}}', 'true')) v(s, b, h);
-- messages: one line, at most 500 characters, never the key
SELECT length(split_part(pg_temp.read(400, jsonb_build_object('error', jsonb_build_object('message', repeat('é', 2000)))::text), ' | ', 3));
SELECT pg_temp.read(400, '{"error": {"message": "a\nb\tc\u0007d"}}');
SELECT pg_temp.read(401, '{"error": {"message": "bad key sk-secret-1, not sk-secret-12, in sk-secret-1sk-secret-1"}}', '{}', '{"api_key": "sk-secret-1"}');
SELECT pg_temp.read(400, jsonb_build_object('error', jsonb_build_object('message', repeat('x', 495) || 'sk-secret-1'))::text, '{}', '{"api_key": "sk-secret-1"}') LIKE '%[key]';
SELECT pg_temp.read(500, 'sk-secret-1 refused', '{"content-type": "text/plain"}', '{"api_key": "sk-secret-1"}');
