-- Providers of kind openai with the option webhook: the task is posted as it is, signed, and the answer is its result.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.built(task_type text, payload jsonb, provider jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT r - 'cost_usd' FROM eduai.test_build_request('openai', task_type, payload,
		'{"webhook": true, "base_url": "https://hooks.example.com/grade", "api_key": "secret-0123456789", "now_unix": 1750000000}' || provider, '{"model": "grader"}') r
$$;
CREATE FUNCTION pg_temp.read(body text, status int DEFAULT 200, task_type text DEFAULT 'chat', payload jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', r->>'verdict', r->>'code', r->>'message', r->'result', 'usd=' || (r->>'cost_usd'))
	FROM eduai.test_read_response('openai', task_type, status, '{}', convert_to(body, 'UTF8'), payload, '{"webhook": true}', '{"model": "grader", "price_input": 1}') r
$$;
CREATE FUNCTION pg_temp.header(request jsonb, name text) RETURNS text LANGUAGE sql AS $$
	SELECT substr(h, length(name) + 3) FROM jsonb_array_elements_text(request->'headers') h WHERE starts_with(h, name || ': ')
$$;

-- the request, and no bearer: the key signs and does not travel
SELECT jsonb_pretty(r #- '{headers}'), pg_temp.header(r, 'webhook-id'), pg_temp.header(r, 'webhook-timestamp'), pg_temp.header(r, 'Idempotency-Key'), pg_temp.header(r, 'Authorization'), pg_temp.header(r, 'Content-Type')
FROM pg_temp.built('grading', '{"essay": "Élan", "stream": true}', '{"idempotency_key": "eduai-1-2-3", "attempt": 2, "metadata": {"class": "7b"}}') r;
-- the signature, worked out with PostgreSQL's own HMAC from the bytes of the body as jsonb writes it: RFC 2104 over id.timestamp.body
CREATE FUNCTION pg_temp.hmac(data bytea, secret bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	padded bytea := secret || decode(repeat('00', 64 - length(secret)), 'hex');
	inside bytea := padded;
	outside bytea := padded;
BEGIN
	FOR i IN 0 .. 63 LOOP
		inside := set_byte(inside, i, get_byte(padded, i) # 54);
		outside := set_byte(outside, i, get_byte(padded, i) # 92);
	END LOOP;
	RETURN sha256(outside || sha256(inside || data));
END $$;
-- the function itself against RFC 4231, test case 2
SELECT encode(pg_temp.hmac('what do ya want for nothing?', 'Jefe'), 'hex') = '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843';
SELECT k, pg_temp.header(r, 'webhook-signature') = 'v1,' || encode(pg_temp.hmac(convert_to(format('%s.%s.%s', pg_temp.header(r, 'webhook-id'), pg_temp.header(r, 'webhook-timestamp'), r->'body'), 'UTF8'), secret), 'base64')
FROM (VALUES ('a text', '{}'::jsonb, 'secret-0123456789'::bytea), ('the specification''s form', '{"api_key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}', decode('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64')),
	('not quite that form', '{"api_key": "whsec_!0123456789"}', 'whsec_!0123456789')) v (k, p, secret), LATERAL pg_temp.built('grading', '{"essay": "Élan"}', p) r;
-- the body, the time and the attempt are all signed
SELECT count(DISTINCT pg_temp.header(pg_temp.built('grading', p, o), 'webhook-signature'))
FROM (VALUES ('{"a": 1}'::jsonb, '{}'::jsonb), ('{"a": 2}', '{}'), ('{"a": 1}', '{"attempt": 2}'), ('{"a": 1}', '{"now_unix": 1750000001}'), ('{"a": 1}', '{"api_key": "secret-9876543210"}')) v (p, o);
-- without a key nothing is sent
SELECT pg_temp.built('grading', '{}', '{"api_key": null}');
-- attachments go as references
SELECT pg_temp.built('transcription', '{"audio": {"attachment": "019f0000-0000-7000-8000-000000000001"}}')->'body'->'payload';
-- an analysis goes as it is, but not one that could not be checked
SELECT pg_temp.built('analysis', '{"text": "x", "analyses": ["emotion"]}')->'body'->'payload';
SELECT pg_temp.built('analysis', '{"text": "x", "analyses": ["grammar"]}')->>'code';
-- other kinds do not know the option
SELECT eduai.test_build_request('openrouter', 'chat', '{"prompt": "x"}', '{"webhook": true}')->>'url';

-- the answer is the result; what every result has is added
SELECT pg_temp.read('{"text": "Good.", "grade": 5}');
SELECT pg_temp.read('{"json": {"grade": 5}, "finish_reason": "length", "model": "grader-2", "usage": {"input": 100, "cached": 40, "output": 7, "reasoning": 2}}');
SELECT pg_temp.read('{"text": "x", "cost_usd": 0.015}');
SELECT c, pg_temp.read(format('{"text": "x", "cost_usd": %s, "usage": {"input": 1000}}', c)) FROM unnest(ARRAY['-1', '"5"', '1e12', 'null']) WITH ORDINALITY u (c, n) ORDER BY n;
-- no success: nothing, no object, an error, as everywhere else
SELECT b, s, pg_temp.read(b, s) FROM (SELECT *, row_number() OVER () AS n FROM (VALUES ('', 200), ('', 204), ('[]', 200), ('ok', 200), ('{"error": "busy"}', 200), ('{"error": "busy"}', 503), ('', 404), ('', 401), ('{"error": {"code": "rate_limit_exceeded", "message": "slow"}}', 429), ('', 302), ('{"detail": "bad"}', 422))
	v (b, s)) v ORDER BY n;
-- an analysis is held against its schema here too
SELECT pg_temp.read('{"json": {"emotion": {"label": "joy", "intensity": 1, "confidence": 1}}}', 200, 'analysis', '{"text": "x", "analyses": ["emotion"]}');
SELECT pg_temp.read('{"json": {"emotion": {"label": "happy", "intensity": 1, "confidence": 1}}}', 200, 'analysis', '{"text": "x", "analyses": ["emotion"]}');

-- a provider of that kind has a key, and is of kind openai
\set VERBOSITY terse
SELECT eduai.add_provider('regress_webhook', 'openai', 'https://hooks.example.com/grade', options => '{"webhook": true}');
SELECT eduai.add_provider('regress_webhook', 'anthropic', 'https://hooks.example.com/grade', 'secret-0123456789', '{"webhook": true}');
SELECT eduai.add_provider('regress_webhook', 'openai', 'https://hooks.example.com/grade', options => '{"webhook": false}');
SELECT eduai.remove_provider('regress_webhook');
