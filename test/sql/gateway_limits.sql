-- Rate limits: what headers say, what is counted, when an instance is closed.

-- the dispatcher does not know these calls
SELECT eduai.stop_workers();

-- ---- headers ----

CREATE FUNCTION pg_temp.limits(headers jsonb, status int DEFAULT 500) RETURNS jsonb
	LANGUAGE sql AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object('requests', r->'requests', 'tokens', r->'tokens'))
	FROM eduai.test_read_response('openai', 'chat', status, headers, '', now_unix => 1767225600) r $$;

SELECT pg_temp.limits('{"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
	"x-ratelimit-limit-tokens": "150000", "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s"}');
SELECT duration, pg_temp.limits(jsonb_build_object('x-ratelimit-limit-requests', '10', 'x-ratelimit-remaining-requests', '9',
	'x-ratelimit-reset-requests', duration))->'requests'->'reset_ms' AS reset_ms
FROM unnest('{6ms,1.2s,6m0s,1h2m3s,2d,17,0.4ms,250us,0s,"",1.2.3s,s,-1s,6ms6,ms,1e9s,99999999999999999999s}'::text[]) WITH ORDINALITY d(duration, n) ORDER BY n;
-- 2026-01-01 00:00:00 UTC is now
SELECT time, pg_temp.limits(jsonb_build_object('anthropic-ratelimit-requests-limit', '50', 'anthropic-ratelimit-requests-remaining', '49',
	'anthropic-ratelimit-requests-reset', time))->'requests'->'reset_ms' AS reset_ms
FROM unnest('{2026-01-01T00:00:30Z,2026-01-01T00:00:00.250Z,2026-01-01T02:00:01+02:00,2025-12-31T23:59:59Z,2026-01-01,tomorrow,2026-13-01T00:00:00Z,2026-01-01T00:00:30,""}'::text[])
	WITH ORDINALITY d(time, n) ORDER BY n;
-- the strictest of all tokens, before that of those that go in
SELECT pg_temp.limits('{"anthropic-ratelimit-input-tokens-limit": "30000", "anthropic-ratelimit-input-tokens-remaining": "29000",
	"anthropic-ratelimit-output-tokens-remaining": "7000", "anthropic-ratelimit-output-tokens-limit": "8000"}');
SELECT pg_temp.limits('{"anthropic-ratelimit-input-tokens-remaining": "29000", "anthropic-ratelimit-tokens-limit": "30000", "anthropic-ratelimit-tokens-remaining": "100"}');
-- what cannot be read says nothing
SELECT pg_temp.limits('{"x-ratelimit-limit-requests": "60"}');
SELECT pg_temp.limits('{"x-ratelimit-limit-requests": "lots", "x-ratelimit-remaining-requests": "-1"}');
SELECT pg_temp.limits('{"x-ratelimit-limit-requests": "99999999999999999999", "x-ratelimit-remaining-requests": "5"}');
SELECT pg_temp.limits('{"x-ratelimit-remaining-requests": 5, "x-ratelimit-remaining-tokens": null}');

-- ---- by count ----

-- no rolling minute has more, whatever comes
SELECT eduai.test_headroom_random(seed, 3000, 50, 100000) IS NOT NULL AS held, eduai.test_headroom_random(seed, 3000, 1000, 2000) IS NOT NULL AS held_tokens
FROM generate_series(1, 5) seed;

SELECT eduai.add_provider('lim', 'openai', 'http://127.0.0.1:9/v1', options => '{"allow_loopback": true}');
SELECT eduai.add_instance('lim-rpm', 'lim', 'm', max_concurrent => 100, options => '{"rpm": 3}');
SELECT n, r->'entered' AS entered, r->'in_flight' AS in_flight, (r->>'headroom')::numeric(3,2) AS headroom, (r->>'opens_in_ms')::int BETWEEN 59000 AND 62000 AS in_a_minute
FROM (SELECT n, eduai.test_stand('lim-rpm', 'enter') r FROM generate_series(1, 5) n) x ORDER BY n;
-- what did not leave does not count
SELECT eduai.test_stand('lim-rpm', 'take_back')->'in_flight' AS in_flight;
SELECT eduai.test_stand('lim-rpm', 'enter')->'entered' AS entered, eduai.test_stand('lim-rpm', 'enter')->'entered' AS again;
-- what has ended does
SELECT eduai.test_stand('lim-rpm', 'leave')->'in_flight' AS in_flight FROM generate_series(1, 3);
SELECT eduai.test_stand('lim-rpm', 'enter')->'entered' AS entered;

SELECT eduai.add_instance('lim-tpm', 'lim', 'm', options => '{"tpm": 1000}');
SELECT eduai.test_stand('lim-tpm', 'enter', 600)->'entered' AS entered, eduai.test_stand('lim-tpm', 'enter', 600)->'entered' AS too_many,
	eduai.test_stand('lim-tpm', 'look', 600)->'opens_in_ms' AS until_the_first_ends;
-- it was less than reserved
SELECT (eduai.test_stand('lim-tpm', 'leave', 600, '{"tokens": 300}')->>'headroom')::numeric(3,2) AS headroom;
SELECT eduai.test_stand('lim-tpm', 'enter', 600)->'entered' AS entered;
-- more than a whole limit: when nothing else is there
SELECT eduai.test_stand('lim-tpm', 'enter', 5000)->'entered' AS entered;
SELECT eduai.add_instance('lim-large', 'lim', 'm', options => '{"tpm": 1000}');
SELECT eduai.test_stand('lim-large', 'enter', 5000)->'entered' AS entered, eduai.test_stand('lim-large', 'enter', 1)->'entered' AS beside_it;

-- a day
SELECT eduai.add_instance('lim-day', 'lim', 'm', options => '{"daily_tokens": 1000}');
SELECT eduai.test_stand('lim-day', 'enter', 900)->'entered' AS entered;
SELECT (eduai.test_stand('lim-day', 'leave', 900, '{"tokens": 900}')->>'headroom')::numeric(3,2) AS headroom;
SELECT eduai.test_stand('lim-day', 'enter', 200)->'entered' AS entered, (eduai.test_stand('lim-day', 'look', 200)->>'opens_in_ms')::bigint BETWEEN 0 AND 86400000 AS by_midnight;
SELECT eduai.test_clock('1 day');
SELECT eduai.test_stand('lim-day', 'enter', 200)->'entered' AS entered;
SELECT eduai.test_clock('0');

-- ---- by the provider's word ----

SELECT eduai.add_instance('lim-word', 'lim', 'm');
SELECT eduai.test_stand('lim-word', 'enter')->'entered' AS entered;
-- none is left, and all are in a minute: one in 600 ms
SELECT (r->>'headroom')::numeric(3,2) AS headroom, (r->>'opens_in_ms')::int BETWEEN 1 AND 600 AS soon
FROM eduai.test_stand('lim-word', 'leave', 0, '{"requests": {"limit": 100, "left": 0, "reset_ms": 60000}}') r;
SELECT eduai.add_instance('lim-word2', 'lim', 'm');
SELECT eduai.test_stand('lim-word2', 'enter')->'entered' AS entered;
SELECT (r->>'headroom')::numeric(3,2) AS headroom FROM eduai.test_stand('lim-word2', 'leave', 0, '{"requests": {"limit": 100, "left": 50, "reset_ms": 86400000}, "tokens_left": {"limit": 1000, "left": 400, "reset_ms": 86400000}}') r;
SELECT eduai.test_stand('lim-word2', 'enter', 500)->'entered' AS too_many_tokens, eduai.test_stand('lim-word2', 'enter', 300)->'entered' AS entered;
SELECT (eduai.test_stand('lim-word2', 'look')->>'headroom')::numeric(3,2) AS headroom;

-- ---- refusals ----

SELECT eduai.add_instance('lim-429', 'lim', 'm');
SELECT eduai.test_stand('lim-429', 'enter')->'entered' AS entered;
SELECT r->'headroom' AS headroom, r->>'breaker' AS breaker, (r->>'opens_in_ms')::int BETWEEN 4000 AND 5000 AS as_wished
FROM eduai.test_stand('lim-429', 'leave', 0, '{"verdict": "retry", "code": "rate_limited", "http_status": 429, "retry_after_ms": 5000}') r;
SELECT eduai.test_stand('lim-429', 'enter')->'entered' AS entered;
-- without a wish: a second
SELECT eduai.add_instance('lim-429b', 'lim', 'm');
SELECT eduai.test_stand('lim-429b', 'enter')->'entered' AS entered;
SELECT (r->>'opens_in_ms')::int BETWEEN 500 AND 1000 AS a_second
FROM eduai.test_stand('lim-429b', 'leave', 0, '{"verdict": "retry", "code": "rate_limited", "http_status": 429}') r;
-- three of them open no breaker, and are no more than one pause
SELECT eduai.add_instance('lim-429c', 'lim', 'm');
SELECT count(*) FROM (SELECT eduai.test_stand('lim-429c', 'enter') FROM generate_series(1, 5)) x;
SELECT r->>'breaker' AS breaker, (r->>'opens_in_ms')::int <= 1000 AS a_second
FROM (SELECT n, eduai.test_stand('lim-429c', 'leave', 0, '{"verdict": "retry", "code": "rate_limited", "http_status": 429}') r FROM generate_series(1, 5) n) x
ORDER BY n DESC LIMIT 1;
-- on success a wish is no wish
SELECT eduai.test_read_response('openai', 'chat', 200, '{"retry-after": "55"}', '{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}')->'retry_after_ms' AS wish;

SELECT eduai.remove_instance(name) FROM eduai.instance WHERE provider = 'lim' ORDER BY name;
SELECT eduai.remove_provider('lim');
SELECT eduai.start_workers();
