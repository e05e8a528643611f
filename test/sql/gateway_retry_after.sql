-- Retry-After: milliseconds, seconds, the three forms of an HTTP date; garbage is no wish.
-- Now is Sun, 06 Nov 1994 08:49:37 GMT.
SELECT h->>'retry-after-ms' AS ms, h->>'retry-after' AS after, (r->>'retry_after_ms')::bigint AS wait_ms,
	r->>'message' LIKE 'asked to wait longer%' AS capped
FROM unnest(ARRAY['{}', '{"retry-after": "2"}', '{"retry-after": "0"}', '{"retry-after": "0.5"}', '{"retry-after": " 7 "}',
	'{"retry-after": ".25"}', '{"retry-after": "3600"}', '{"retry-after": "3601"}', '{"retry-after": "99999999999999999999"}',
	'{"retry-after": "-1"}', '{"retry-after": "+1"}', '{"retry-after": "1e3"}', '{"retry-after": "0x10"}', '{"retry-after": "soon"}',
	'{"retry-after": "nan"}', '{"retry-after": "inf"}', '{"retry-after": ""}', '{"retry-after": "."}', '{"retry-after": "1 2"}',
	'{"retry-after": "Sun, 06 Nov 1994 08:49:47 GMT"}', '{"retry-after": "Sunday, 06-Nov-94 08:49:39 GMT"}',
	'{"retry-after": "Sun Nov  6 08:50:37 1994"}', '{"retry-after": "Sun, 06 Nov 1994 08:00:00 GMT"}',
	'{"retry-after": "Mon, 07 Nov 1994 08:49:37 GMT"}', '{"retry-after": "Sun, 99 Nov 1994 08:49:47 GMT"}', '{"retry-after": "19941106"}',
	'{"retry-after-ms": "1500"}', '{"retry-after-ms": "1500.2"}', '{"retry-after-ms": "1500", "retry-after": "9"}',
	'{"retry-after-ms": "0", "retry-after": "1"}', '{"retry-after-ms": "0"}', '{"retry-after-ms": "x", "retry-after": "3"}',
	'{"retry-after-ms": "-5"}', '{"retry-after-ms": "86400000"}']::jsonb[]) WITH ORDINALITY u(h, n),
	LATERAL eduai.test_read_response('openai', 'chat', 429, h, '', now_unix => 784111777) r
ORDER BY n;
-- a success asks for nothing
SELECT r->>'verdict' AS verdict, r->>'retry_after_ms' AS wait_ms
FROM eduai.test_read_response('openai', 'chat', 200, '{"retry-after": "55"}',
	'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}') r;
-- Hugging Face says when a model will have been loaded
SELECT r->>'code' AS code, r->>'message' AS message, r->>'retry_after_ms' AS wait_ms
FROM eduai.test_read_response('huggingface', 'embeddings', 503, '{}',
	'{"error": "Model x is currently loading", "estimated_time": 20.0}', '{"input": "x"}') r;
