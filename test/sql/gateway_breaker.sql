-- The circuit breaker: its transitions by script and at random, whose fault
-- opens it, and the state that an instance keeps.

-- the dispatcher does not know these calls
SELECT eduai.stop_workers();

-- closed, open after three in a row, one probe after a minute
SELECT line, said FROM unnest('{0 failure,1 failure,2 success,3 failure,4 failure,5 failure,6 admit,60004 admit,60005 look,60005 admit,60006 admit}'::text[],
	eduai.test_breaker('{0 failure,1 failure,2 success,3 failure,4 failure,5 failure,6 admit,60004 admit,60005 look,60005 admit,60006 admit}')) WITH ORDINALITY x(line, said, n) ORDER BY n;
-- the probe fails: another minute; late answers of others say nothing
SELECT unnest(eduai.test_breaker('{0 failure,60000 admit,60001 success,60001 failure,60002 probe_failure,60003 success,120001 admit,120002 admit}', '{"threshold": 1}')) AS said;
-- it succeeds: a ramp
SELECT unnest(eduai.test_breaker('{0 failure,60000 admit,60001 probe_success,60001 admit,75001 look,90001 look,90002 failure}', '{"threshold": 1}')) AS said;
-- it does not come back: another one; it comes back without a word
SELECT unnest(eduai.test_breaker('{0 failure,60000 admit,89999 admit,90000 admit,90001 probe_back,90002 admit,90003 probe_back,90004 admit}', '{"threshold": 1}')) AS said;
-- a good health check halves the wait, no more
SELECT unnest(eduai.test_breaker('{0 failure,1000 hurry,29999 admit,30000 admit,30001 hurry,30002 admit}', '{"threshold": 1}')) AS said;
SELECT unnest(eduai.test_breaker('{0 failure,40000 hurry,40000 admit,50000 probe_failure,100000 look}', '{"threshold": 1}')) AS said;
-- every other one fails: never three in a row, but half
SELECT string_agg(left(said, 4), ' ' ORDER BY n) FROM unnest(eduai.test_breaker(
	(SELECT array_agg(n || CASE WHEN n % 2 = 0 THEN ' failure' ELSE ' success' END ORDER BY n) FROM generate_series(1, 24) n))) WITH ORDINALITY x(said, n);
SELECT unnest(eduai.test_breaker('{0 nonsense}'));

-- whatever happens in whatever order
SELECT seed, (r->>'admitted')::int > 1000 AND (r->>'refused')::int > 1000 AND (r->>'probes')::int > 100 AND (r->>'opened')::int > 100 AND (r->>'closed')::int > 50 AS much_happened
FROM (SELECT seed, eduai.test_breaker_random(seed, 20000) r FROM generate_series(1, 10) seed) x ORDER BY seed;

-- ---- of an instance ----

SELECT eduai.add_provider('brk', 'openai', 'http://127.0.0.1:9/v1', options => '{"allow_loopback": true}');

-- whose fault it is
CREATE FUNCTION pg_temp.after_three(outcome jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r jsonb;
BEGIN
	PERFORM eduai.add_instance('brk-fault', 'brk', 'm' || md5(outcome::text));
	PERFORM eduai.test_stand('brk-fault', 'reset');
	FOR n IN 1..3 LOOP
		PERFORM eduai.test_stand('brk-fault', 'enter');
		r := eduai.test_stand('brk-fault', 'leave', 0, outcome);
	END LOOP;
	RETURN CASE r->>'breaker' WHEN 'closed' THEN 'closed' ELSE 'opened' END;
END $$;
SELECT verdict, code, pg_temp.after_three(jsonb_build_object('verdict', verdict, 'code', code, 'http_status', 0)) AS breaker
FROM (VALUES ('retry', 'http_500'), ('retry', 'overloaded'), ('retry', 'timeout_first_byte'), ('retry', 'connect_failed'), ('retry', 'auth'),
	('retry', 'missing_finish_reason'), ('fatal', 'redirect_refused'), ('completed', 'ok'), ('retry', 'rate_limited'), ('retry', 'context_length_exceeded'),
	('retry', 'body_too_large'), ('retry', 'timeout_total'), ('fatal', 'bad_request'), ('fatal', 'content_policy'), ('fatal', 'bad_payload')) v(verdict, code);

-- what is kept: a replaced instance keeps its state; of another model, only its calls in flight
SELECT eduai.add_instance('brk-kept', 'brk', 'm');
SELECT eduai.test_stand('brk-kept', 'enter')->'in_flight' AS in_flight FROM generate_series(1, 3);
SELECT eduai.test_stand('brk-kept', 'leave') - 'headroom' - 'opens_in_ms' AS after_one;
SELECT eduai.add_instance('brk-kept', 'brk', 'm', max_concurrent => 5);
SELECT eduai.test_stand('brk-kept', 'keep') - 'headroom' - 'opens_in_ms' AS replaced;
SELECT eduai.add_instance('brk-kept', 'brk', 'another');
SELECT eduai.test_stand('brk-kept', 'keep') - 'headroom' - 'opens_in_ms' AS of_another_model;
SELECT eduai.test_stand('brk-kept', 'leave') - 'headroom' - 'opens_in_ms' AS ended FROM generate_series(1, 2);
-- nothing is in flight once the dispatcher begins anew
SELECT eduai.test_stand('brk-kept', 'enter')->'in_flight' AS in_flight;
SELECT eduai.test_stand('brk-kept', 'reset')->'in_flight' AS in_flight;

-- no more than it may have at once
SELECT eduai.add_instance('brk-room', 'brk', 'm', max_concurrent => 2);
SELECT n, r->'entered' AS entered, r->'in_flight' AS in_flight FROM (SELECT n, eduai.test_stand('brk-room', 'enter') r FROM generate_series(1, 3) n) x ORDER BY n;

-- what the view says
SELECT name, provider, model, state, health, breaker, in_flight, requests, successes, failures, avg_ms, round(p95_ms) AS p95_ms, round(p99_ms) AS p99_ms, tokens_in, tokens_out, cost_usd, cost_per_request, score IS NOT NULL AS has_score, last_error, last_checked_at, headroom
FROM eduai.instance_status WHERE provider = 'brk' ORDER BY name;
SELECT eduai.test_stand('brk-room', 'leave', 0, '{"tokens": 7, "ms": 200}') IS NOT NULL AS ended;
SELECT eduai.test_stand('brk-room', 'leave', 0, '{"verdict": "retry", "code": "http_503", "http_status": 503}') IS NOT NULL AS ended;
SELECT requests, successes, failures, avg_ms, p95_ms BETWEEN 190 AND 210 AS p95, tokens_in, last_error FROM eduai.instance_status WHERE name = 'brk-room';

-- health() says it
SELECT eduai.test_stand('brk-room', 'enter')->'entered' AS entered, eduai.test_stand('brk-room', 'leave', 0, '{"verdict": "retry", "code": "http_503", "http_status": 503}')->>'breaker' <> 'closed' AS opened FROM generate_series(1, 2);
SELECT name, breaker <> 'closed' AS opened FROM eduai.instance_status WHERE name = 'brk-room';
SELECT code, severity, since IS NOT NULL AS since, detail FROM eduai.health_problems() WHERE code IN ('breaker_open', 'no_usable_instance', 'no_headroom') AND detail LIKE '%brk%' ORDER BY code;
SELECT eduai.set_instance_state('brk-fault', 'disabled'), eduai.set_instance_state('brk-kept', 'disabled');
SELECT code, severity, detail FROM eduai.health_problems() WHERE code = 'no_usable_instance' ORDER BY code;
SELECT eduai.test_stand('brk-none', 'look');
SELECT eduai.test_stand('brk-room', 'dance');

SELECT eduai.remove_instance(name) FROM eduai.instance WHERE provider = 'brk' ORDER BY name;
SELECT eduai.remove_provider('brk');
SELECT eduai.start_workers();
