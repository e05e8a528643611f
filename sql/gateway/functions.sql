-- Providers and instances. Everything here is SECURITY INVOKER in C.

CREATE OR REPLACE FUNCTION eduai.add_provider(name text, kind text, base_url text,
	api_key text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_add_provider' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.add_provider(text, text, text, text, jsonb) IS
'Records a model provider, or replaces it, its key included. kind: openai (and every compatible server), openrouter, anthropic, huggingface, mock (needs eduai.allow_mock; base_url is ignored). base_url: http or https without user, query or fragment. api_key: a literal, env:NAME (of the server; names other than EDUAI_*, *_API_KEY, *_API_TOKEN need pg_read_server_files) or file:PATH (absolute, first line; needs pg_read_server_files); NULL: no key. options: allow_loopback, allow_private, headers, http2, anthropic_version; see docs/gateway.md for those of mock. Takes effect at commit. Errors: 22023 for a bad value (with it and a hint), 0A000 when an instance''s task type is not served by the new kind, 42501 for a reference the role may not make, 55000 for mock where it is not allowed and for a literal where eduai.master_key_file gives no key to seal it with. Prefer env: or file: to a literal, which logs of statements can show. Role: eduai_admin. Example: SELECT eduai.add_provider(''openai'', ''openai'', ''https://api.openai.com/v1'', ''env:OPENAI_API_KEY'');';

CREATE OR REPLACE FUNCTION eduai.remove_provider(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_remove_provider' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.remove_provider(text) IS
'Forgets a provider and its key. Errors: 2BP01 while it has instances, 42704 when it does not exist. Role: eduai_admin. Example: SELECT eduai.remove_provider(''openai'');';

CREATE OR REPLACE FUNCTION eduai.add_instance(name text, provider text, model text,
	task_types text[] DEFAULT '{chat}', weight int DEFAULT 1, max_concurrent int DEFAULT 10,
	price_input numeric DEFAULT 0, price_output numeric DEFAULT 0, options jsonb DEFAULT '{}')
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_add_instance' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.add_instance(text, text, text, text[], int, int, numeric, numeric, jsonb) IS
'Records a model at a provider, or replaces it; a replaced instance keeps its state. Prices are USD per million tokens. weight and max_concurrent are at least 1. options: aliases, tier, fallback, tenants, region, context_tokens, max_output_tokens, image_tokens, embedding_space, rpm, tpm, daily_tokens, price_cached, price_cache_write, price_cache_write_1h, price_audio_input, price_image_input, price_audio_output, price_reasoning, price_audio_second, price_image, connect_ms (5000), first_byte_ms (30000), stall_ms (15000), stream (true), timeout_ms; see docs/gateway.md. Takes effect at commit. Errors: 22004 for a null, 22023 for a bad value, 42704 for an unknown provider, 0A000 for a task type that the provider''s kind does not serve. Role: eduai_admin. Example: SELECT eduai.add_instance(''gpt'', ''openai'', ''gpt-4o-mini'', price_input => 0.15, price_output => 0.60);';

CREATE OR REPLACE FUNCTION eduai.set_instance_state(name text, state text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_set_instance_state' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.set_instance_state(text, text) IS
'active: gets calls. draining, disabled: gets no new ones; those in flight end as they will. Takes effect at commit. Errors: 22023 for another state, 42704 for an unknown instance. Role: eduai_admin. Example: SELECT eduai.set_instance_state(''gpt'', ''draining'');';

CREATE OR REPLACE FUNCTION eduai.remove_instance(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_remove_instance' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.remove_instance(text) IS
'Forgets an instance; calls in flight end as they will and are recorded. Errors: 42704 when it does not exist. Role: eduai_admin. Example: SELECT eduai.remove_instance(''gpt'');';

-- However the tables change (a restore''s COPY, a superuser), dispatchers notice.

CREATE OR REPLACE FUNCTION eduai.fleet_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'eduai_fleet_changed' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.fleet_changed() IS
'Trigger of eduai.provider, eduai.instance and eduai.budget: makes every session read them again and wakes the dispatcher at commit. Role: none, it is called by the triggers.';

CREATE OR REPLACE TRIGGER fleet_changed
	AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON eduai.provider
	FOR EACH STATEMENT EXECUTE FUNCTION eduai.fleet_changed();
CREATE OR REPLACE TRIGGER fleet_changed
	AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON eduai.instance
	FOR EACH STATEMENT EXECUTE FUNCTION eduai.fleet_changed();

-- Tests.

CREATE OR REPLACE FUNCTION eduai.test_build_request(kind text, task_type text, payload jsonb,
	provider jsonb DEFAULT '{}', instance jsonb DEFAULT '{}') RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_build_request' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_build_request(text, text, jsonb, jsonb, jsonb) IS
'For tests: the HTTP request that an adapter makes of a payload, the key masked. provider: base_url, api_key, idempotency_key, attempt, metadata, now_unix (seconds), files ({id: {content_type, text}}, what the claim has read) and options; instance: model, prices and options. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_build_request(''openai'', ''chat'', ''{"prompt": "hello"}'');';

CREATE OR REPLACE FUNCTION eduai.test_read_response(kind text, task_type text, status int,
	headers jsonb, body bytea, payload jsonb DEFAULT '{}', provider jsonb DEFAULT '{}',
	instance jsonb DEFAULT '{}', now_unix bigint DEFAULT 0) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_read_response' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_read_response(text, text, int, jsonb, bytea, jsonb, jsonb, jsonb, bigint) IS
'For tests: the outcome that an adapter reads from a response: verdict, code, message, retry_after_ms, result, tokens and cost. Header names are in lower case; now_unix is the time of day for HTTP dates, in seconds. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_read_response(''openai'', ''chat'', 429, ''{"retry-after": "2"}'', '''');';

CREATE OR REPLACE FUNCTION eduai.test_address_class(address text) RETURNS text
	AS 'MODULE_PATHNAME', 'eduai_test_address_class' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_address_class(text) IS
'For tests: public, loopback, private or forbidden; NULL when it is no address. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_address_class(''169.254.169.254'');';

CREATE OR REPLACE FUNCTION eduai.test_call(instance text, task_type text, payload jsonb,
	calls int DEFAULT 1, at_once int DEFAULT 1, timeout_ms int DEFAULT 60000,
	cancel_after_ms int DEFAULT NULL) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_call' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_call(text, text, jsonb, int, int, int, int) IS
'For tests: calls an instance from this session, without a task, so many times and so many at once; nothing is recorded. Returns {outcomes: {code: count}, first, first_us, elapsed_us}. Errors: 55000 unless eduai.test_mode is on, 42704 for an unknown instance. Role: superuser. Example: SELECT eduai.test_call(''gpt'', ''chat'', ''{"prompt": "hello"}'');';

REVOKE ALL ON FUNCTION
	eduai.add_provider(text, text, text, text, jsonb), eduai.remove_provider(text),
	eduai.add_instance(text, text, text, text[], int, int, numeric, numeric, jsonb),
	eduai.set_instance_state(text, text), eduai.remove_instance(text), eduai.fleet_changed(),
	eduai.test_build_request(text, text, jsonb, jsonb, jsonb),
	eduai.test_read_response(text, text, int, jsonb, bytea, jsonb, jsonb, jsonb, bigint),
	eduai.test_address_class(text), eduai.test_call(text, text, jsonb, int, int, int, int)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	eduai.add_provider(text, text, text, text, jsonb), eduai.remove_provider(text),
	eduai.add_instance(text, text, text, text[], int, int, numeric, numeric, jsonb),
	eduai.set_instance_state(text, text), eduai.remove_instance(text)
	TO eduai_admin;

CREATE OR REPLACE FUNCTION eduai.adopt_database() RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_adopt_database' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.adopt_database() IS
'Says that this database belongs where it is now (eduai.home()). A database restored, copied or moved elsewhere sends nothing to any provider until then; eduai.health() says so. Role: eduai_admin. Example: SELECT eduai.adopt_database();';

-- Per tenant.
CREATE OR REPLACE VIEW eduai.usage_ledger AS
SELECT c.task_id, c.attempt, c.instance, c.model, c.tokens_in, c.tokens_cached, c.tokens_out,
	c.cost_usd, c.outcome, c.started_at, c.ms, c.first_byte_ms, c.provider, c.code, c.http_status,
	c.request_id, c.user_id, c.task_type, c.tokens_cache_write, c.tokens_reasoning, c.images,
	c.audio_ms, c.bound_usd, c.counted_usd, c.hedge
FROM eduai.provider_call c
WHERE c.tenant_id = eduai.current_tenant();
COMMENT ON VIEW eduai.usage_ledger IS
'A row per provider call of the tenant: tokens (cached ones are among tokens_in), cost in USD, outcome (completed, failed, cancelled, refused: the answer came after the task had ended, uncertain: the answer was lost with its process), its start, ms in all and to the first byte. user_id and task_type are the task''s; tokens_cache_write is among tokens_in, tokens_reasoning among tokens_out. bound_usd: what budgets reserved for the call, the most that it could cost; NULL where none applied. counted_usd: what it counts against budgets where that is not cost_usd: its bound, when nobody knows what it cost. hedge: the second call of its attempt (eduai.hedge_after); the one of the two that was given up is cancelled, with the code hedge_lost.';

REVOKE ALL ON FUNCTION eduai.adopt_database() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.adopt_database() TO eduai_admin;
GRANT SELECT ON eduai.usage_ledger TO eduai_admin, eduai_app, eduai_reader;

-- ---- parents' results ----

CREATE OR REPLACE FUNCTION eduai.test_parents(payload jsonb, parents jsonb, metadata jsonb DEFAULT '{}',
	most int DEFAULT 16777216) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_parents' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_parents(jsonb, jsonb, jsonb, int) IS
'For tests: the payload that is sent of a task whose parents ended so, in at most so many bytes; or the outcome of the attempt that cannot be made of it. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_parents(''{"prompt": "{{parents.0.result.text}}"}'', ''[{"result": {"text": "x"}}]'');';
REVOKE ALL ON FUNCTION eduai.test_parents(jsonb, jsonb, jsonb, int) FROM PUBLIC;

-- ---- balancing ----

CREATE OR REPLACE FUNCTION eduai.simulate_balancer(algorithm text, scenario jsonb, seed bigint DEFAULT 1)
	RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_simulate_balancer' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION eduai.simulate_balancer(text, jsonb, bigint) IS
'How an algorithm of eduai.balancer would serve a simulated fleet, in simulated time, by the dispatcher''s own choices, averages and breakers; the same seed gives the same result. scenario: duration_s, arrivals_per_s (together at most 100,000 requests), instances (1 to 64: name, latency_ms [p50, p95], first_byte_share 0.3, load_factor 0, error_rate 0, max_concurrent 10, rpm, limit_group, price_input and price_output in USD per million tokens, weight, tier, first_byte_ms 30000, from_s, events [{at_s, until_s, share, latency_factor, error_rate, fast_fail_ms, silent, price_factor}]), and tokens [p50, p95] of requests, [300, 1000], large {share, tokens}, attempts 3, timeout_s 120, usd_to_seconds 100; see docs/gateway-balancing.md. Returns {requests, success_rate, p50_ms, p95_ms, p99_ms (of requests that succeeded, from arrival on), cost_usd, wasted_attempts (calls that failed), share {instance: part of the calls}}. Errors: 22004 for a null, 22023 for an unknown algorithm or key, a bad value (with a hint) or too much work. Role: eduai_admin, eduai_app, eduai_reader. Example: SELECT eduai.simulate_balancer(''adaptive'', ''{"duration_s": 60, "arrivals_per_s": 5, "instances": [{"name": "a", "latency_ms": [800, 2000]}, {"name": "b", "latency_ms": [500, 900], "events": [{"at_s": 20, "until_s": 40, "silent": true}]}]}'');';
REVOKE ALL ON FUNCTION eduai.simulate_balancer(text, jsonb, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.simulate_balancer(text, jsonb, bigint)
	TO eduai_admin, eduai_app, eduai_reader;

CREATE OR REPLACE FUNCTION eduai.test_balance(algorithm text, fleet jsonb, request jsonb DEFAULT '{}',
	choices int DEFAULT 1, random double precision DEFAULT 0.5) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_balance' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_balance(text, jsonb, jsonb, int, double precision) IS
'For tests: so many choices in a row between instances that do not exist. fleet: [{name, in_flight 0, max_concurrent 10, weight 1, tier 1, failed_before, probe, ramp 1, headroom 1, usd, sent_s, samples [{at_s, ms, first_byte_ms, tokens, ok, probe, times}]}]; request: priority 2, tokens_in, tokens_out, deadline_s, usd_to_seconds 100, now_s 100. Returns {taken: [of each choice], score, order: of the last}. Errors: 22023 for an unknown algorithm, 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_balance(''round_robin'', ''[{"name": "a"}, {"name": "b"}]'', choices => 4);';
REVOKE ALL ON FUNCTION eduai.test_balance(text, jsonb, jsonb, int, double precision) FROM PUBLIC;

-- ---- streams ----

CREATE OR REPLACE FUNCTION eduai.test_stream(dialect text, pieces bytea[], max_body int DEFAULT 1048576) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_stream' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_stream(text, bytea[], int) IS
'For tests: what becomes of an answer that streams (dialect openai or anthropic), fed in these pieces, of at most max_body bytes: {end, begun, text, body}; no_json says why there is no body. Errors: 55000 unless eduai.test_mode is on, 22023 for an unknown dialect. Role: superuser. Example: SELECT eduai.test_stream(''openai'', ''{"data: [DONE]\n\n"}'');';
REVOKE ALL ON FUNCTION eduai.test_stream(text, bytea[], int) FROM PUBLIC;

-- ---- secrets ----

CREATE OR REPLACE FUNCTION eduai.reseal_secrets() RETURNS int
	AS 'MODULE_PATHNAME', 'eduai_reseal_secrets' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.reseal_secrets() IS
'Seals the literal keys of providers anew under the current master key, the first one in eduai.master_key_file, and returns how many were not: then older master keys can be taken out of the file. Calls go on meanwhile. Errors: 55000 when there is no usable master key, or a key was sealed under one that is not in the file; nothing is changed then. Role: eduai_admin. Example: SELECT eduai.reseal_secrets();';
REVOKE ALL ON FUNCTION eduai.reseal_secrets() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.reseal_secrets() TO eduai_admin;

-- ---- routing ----

CREATE OR REPLACE FUNCTION eduai.route(task_type text, algorithm text DEFAULT NULL,
	request jsonb DEFAULT '{}') RETURNS eduai.routing
	AS 'MODULE_PATHNAME', 'eduai_route' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.route(text, text, jsonb) IS
'Which instance would take a task of the session''s tenant now, and why; nothing is sent, counted or reserved. algorithm: one of eduai.balancer''s, NULL for that. request: the payload (its model, max_tokens and size count); its "priority" and its "metadata" ({"session"} or {"sticky": true}) are taken as the task''s. Returns the instance (NULL when none can take it now), its score (lower is better; seconds for adaptive, microseconds for least_response_time, USD for cost_optimized), the reason in words, which also tells why others are out, and those that would be tried next. Budgets are asked only when a task starts. Errors: UE004 when no instance is configured for it, 22023 for an unknown algorithm or embeddings without a model, 22004 for a null. Roles: eduai_app, eduai_admin. Example: SELECT * FROM eduai.route(''chat'', request => ''{"model": "gpt-4o-mini", "prompt": "hello"}'');';

CREATE OR REPLACE FUNCTION eduai.test_replay(decision jsonb) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_replay' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_replay(jsonb) IS
'For tests: makes a choice of eduai.routing_trace again, by the dispatcher''s own function: {order, scores, kept_session}, to be compared with decision''s. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_replay(decision) FROM eduai.routing_trace;';

REVOKE ALL ON FUNCTION eduai.route(text, text, jsonb), eduai.test_replay(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.route(text, text, jsonb) TO eduai_app, eduai_admin;

-- ---- how the instances stand ----

CREATE OR REPLACE FUNCTION eduai.instance_stands() RETURNS SETOF eduai.instance_stand
	AS 'MODULE_PATHNAME', 'eduai_instance_stands' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.instance_stands() IS
'The live part of eduai.instance_status: how each instance stands in shared memory, and its figures since the server started. Without eduai in shared_preload_libraries all are as if nothing had happened yet. Roles: eduai_admin, eduai_reader. Example: SELECT name, breaker, headroom FROM eduai.instance_stands();';

-- Global: an instance serves all tenants. Nothing of it reads the ledger, whose
-- length would tell.
CREATE OR REPLACE VIEW eduai.instance_status AS
SELECT i.name, i.provider, i.model, i.state, s.health, s.breaker, s.in_flight, s.requests,
	s.successes, s.failures, s.avg_ms, s.p95_ms, s.p99_ms, s.tokens_in, s.tokens_out, s.cost_usd,
	s.cost_usd / nullif(s.requests, 0) AS cost_per_request, s.score, s.last_error,
	s.last_checked_at, p.kind, s.last_called_at, s.headroom
FROM eduai.instance i
JOIN eduai.provider p ON p.name = i.provider
LEFT JOIN eduai.instance_stands() s ON s.name = i.name;
COMMENT ON VIEW eduai.instance_status IS
'Each instance as it stands: state (active, draining, disabled); health by its provider''s health check (good, bad, unknown) and when it was last asked; breaker (closed, open, half_open); calls in flight; of the calls that ended since the server started, or since it got another provider, URL or model, all tenants together: how many, successes, failures, times of the successful ones in ms (average; 95th and 99th percentile of about the latest 10,000, within 5 %), tokens, USD; score of a typical request now by eduai.balancer, lower is better, null when it would not be at choice; the latest error code; headroom: the share (0..1) left of its rate limits. Sums over other times are in eduai.usage_ledger.';

REVOKE ALL ON FUNCTION eduai.instance_stands() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.instance_stands() TO eduai_admin, eduai_reader;
GRANT SELECT ON eduai.instance_status TO eduai_admin, eduai_reader;

CREATE OR REPLACE FUNCTION eduai.test_breaker(script text[], rules jsonb DEFAULT '{}') RETURNS text[]
	AS 'MODULE_PATHNAME', 'eduai_test_breaker' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_breaker(text[], jsonb) IS
'For tests: what a circuit breaker says to a script of "MS WORD" (look, admit, success, failure, probe_success, probe_failure, probe_back, hurry). rules: threshold, open_ms, probe_ms, ramp_ms. Errors: 55000 unless eduai.test_mode is on, 22023 for another word. Role: superuser. Example: SELECT eduai.test_breaker(''{0 failure,1 look}'', ''{"threshold": 1}'');';

CREATE OR REPLACE FUNCTION eduai.test_breaker_random(seed bigint, steps int) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_breaker_random' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_breaker_random(bigint, int) IS
'For tests: so many random steps of a circuit breaker, its promises checked at each; returns what happened, how often. Errors: 55000 unless eduai.test_mode is on, XX000 when a promise is broken. Role: superuser. Example: SELECT eduai.test_breaker_random(1, 1000);';

CREATE OR REPLACE FUNCTION eduai.test_headroom_random(seed bigint, steps int, rpm bigint, tpm bigint) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_headroom_random' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_headroom_random(bigint, int, bigint, bigint) IS
'For tests: so many random calls under limits of calls and tokens per minute, every rolling minute checked; returns what happened, how often. Errors: 55000 unless eduai.test_mode is on, XX000 when a minute held too much. Role: superuser. Example: SELECT eduai.test_headroom_random(1, 1000, 60, 10000);';

CREATE OR REPLACE FUNCTION eduai.test_stand(instance text, act text, tokens bigint DEFAULT 0,
	outcome jsonb DEFAULT '{}', probe bool DEFAULT false) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_stand' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_stand(text, text, bigint, jsonb, bool) IS
'For tests: what becomes of an instance''s state when a call enters, leaves, is taken back, or without one: act is enter, leave, take_back, look, keep or reset. outcome, of leave: verdict (completed, retry, fatal), code, http_status, retry_after_ms, tokens, ms, and limits of {limit, left, reset_ms} in requests and tokens_left. Returns the state after it, and for enter whether it entered and is the probe. Errors: 55000 unless eduai.test_mode is on, 22023 for another act, 42704 for an unknown instance. Role: superuser. Example: SELECT eduai.test_stand(''gpt'', ''enter'');';

REVOKE ALL ON FUNCTION eduai.test_breaker(text[], jsonb), eduai.test_breaker_random(bigint, int),
	eduai.test_headroom_random(bigint, int, bigint, bigint),
	eduai.test_stand(text, text, bigint, jsonb, bool) FROM PUBLIC;

-- ---- budgets ----

CREATE OR REPLACE FUNCTION eduai.set_budget(scope text, usd numeric, per interval DEFAULT '1 day',
	on_exceeded text DEFAULT 'defer', task_type text DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_set_budget' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.set_budget(text, numeric, interval, text, text) IS
'Sets what may be spent in each period, or removes the budget (usd NULL). scope: tenant (the session''s), user:* (each user of the tenant by itself), user:ID (one user of the tenant, instead of user:* of the same period and task type) or provider:NAME (all tenants together). usd: US dollars, 0 or more; 0 lets only what is free pass. per: months, days, or hours and minutes from a minute to a day; days, weeks and months begin at midnight in eduai.timezone, see eduai.budget_period(). on_exceeded: defer (the task waits until the next period), refuse (enqueue raises UE005; a task that was let in and finds the budget spent later ends dead with the code budget_exceeded) or cheapest (the cheapest instance is tried, then as defer). task_type: only tasks of this type; NULL: all. What was spent in the present period counts, and calls in flight. Each (scope, per, task_type) is a budget of its own; all that apply must have room. Takes effect at commit. Errors: 22004 for a null, 22023 for a bad value (with a hint), 42704 for an unknown provider or task type, UE012 tenant. Role: eduai_admin. Example: SELECT eduai.set_budget(''tenant'', 5.00);';

CREATE OR REPLACE FUNCTION eduai.budget_period(per interval, at timestamptz DEFAULT NULL)
	RETURNS eduai.budget_period
	AS 'MODULE_PATHNAME', 'eduai_budget_period' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION eduai.budget_period(interval, timestamptz) IS
'The period of a budget that a time (NULL: now) is in. Months are counted from January 2000, days from Monday, January 3, 2000, both in eduai.timezone; hours and minutes from 2000-01-01 00:00 UTC. Errors: 22004 for a null interval, 22023 for what is no period, 22008 for a time out of range. Role: eduai_reader, eduai_app, eduai_admin. Example: SELECT * FROM eduai.budget_period(''7 days'');';

CREATE OR REPLACE TRIGGER fleet_changed
	AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON eduai.budget
	FOR EACH STATEMENT EXECUTE FUNCTION eduai.fleet_changed();

-- Of all tenants, for eduai itself. A budget that the dispatcher does not count
-- yet has its sums in the ledger.
CREATE OR REPLACE VIEW eduai.budget_sum AS
SELECT b.budget_id, x.user_id, pg_catalog.sum(x.spent) AS spent, pg_catalog.sum(x.reserved) AS reserved
FROM eduai.budget b
CROSS JOIN LATERAL eduai.budget_period(b.per) p
LEFT JOIN eduai.budget_counted c ON c.tenant_id = b.tenant_id AND c.budget_id = b.budget_id
	AND (c.timezone = pg_catalog.current_setting('eduai.timezone')
		OR pg_catalog.date_part('epoch', b.per) < 86400)
CROSS JOIN LATERAL (
	SELECT s.user_id, s.usd AS spent, 0 AS reserved
	FROM eduai.budget_spent s
	WHERE c.budget_id IS NOT NULL AND s.tenant_id = b.tenant_id AND s.budget_id = b.budget_id
		AND s.starts_at = p.starts_at
	UNION ALL
	SELECT CASE WHEN b.scope = 'user:*' THEN l.user_id ELSE '' END, coalesce(l.counted_usd, l.cost_usd), 0
	FROM eduai.provider_call l
	WHERE c.budget_id IS NULL AND l.started_at >= p.starts_at AND l.started_at < p.ends_at
		AND (b.task_type = '' OR l.task_type = b.task_type)
		AND CASE WHEN b.tenant_id = '' THEN 'provider:' || l.provider = b.scope
			WHEN l.tenant_id <> b.tenant_id THEN false
			WHEN b.scope = 'tenant' THEN true
			WHEN b.scope = 'user:*' THEN l.user_id <> ''
			ELSE 'user:' || l.user_id = b.scope END
	UNION ALL
	SELECT CASE WHEN b.scope = 'user:*' THEN r.user_id ELSE '' END, 0, r.bound_usd
	FROM eduai.budget_reservation r
	WHERE r.reserved_at >= p.starts_at AND r.reserved_at < p.ends_at
		AND (b.task_type = '' OR r.task_type = b.task_type)
		AND CASE WHEN b.tenant_id = '' THEN 'provider:' || r.provider = b.scope
			WHEN r.tenant_id <> b.tenant_id THEN false
			WHEN b.scope = 'tenant' THEN true
			WHEN b.scope = 'user:*' THEN r.user_id <> ''
			ELSE 'user:' || r.user_id = b.scope END
) x
GROUP BY b.budget_id, x.user_id;
COMMENT ON VIEW eduai.budget_sum IS
'What is spent and reserved of each budget in its present period, of all tenants, by user for budgets of each user; for eduai itself and the superuser. Others see eduai.budget_status.';

-- Per tenant; providers' for those who see all tenants' calls in instance_status.
CREATE OR REPLACE VIEW eduai.budget_status AS
WITH b AS (
	SELECT b.*, p.ends_at FROM eduai.budget b CROSS JOIN LATERAL eduai.budget_period(b.per) p
	WHERE b.tenant_id = eduai.current_tenant()
		OR (b.tenant_id = '' AND (pg_catalog.pg_has_role(current_user, 'eduai_admin', 'USAGE')
			OR pg_catalog.pg_has_role(current_user, 'eduai_reader', 'USAGE')))
)
SELECT b.scope, b.per, b.usd, coalesce(s.spent, 0) AS spent, coalesce(s.reserved, 0) AS reserved,
	b.ends_at AS resets_at, nullif(b.task_type, '') AS task_type, b.on_exceeded
FROM b
LEFT JOIN LATERAL (SELECT s.spent, s.reserved FROM eduai.budget_sum s
	WHERE s.budget_id = b.budget_id AND NOT (b.scope = 'user:*' AND EXISTS (SELECT FROM b o
		WHERE o.scope = 'user:' || s.user_id AND o.task_type = b.task_type AND o.per::text = b.per::text))
	ORDER BY s.spent + s.reserved DESC LIMIT 1) s ON true
UNION ALL
SELECT 'user:' || s.user_id, b.per, b.usd, s.spent, s.reserved, b.ends_at, nullif(b.task_type, ''),
	b.on_exceeded
FROM b JOIN eduai.budget_sum s ON s.budget_id = b.budget_id
WHERE b.scope = 'user:*' AND NOT EXISTS (SELECT FROM b o
	WHERE o.scope = 'user:' || s.user_id AND o.task_type = b.task_type AND o.per::text = b.per::text);
COMMENT ON VIEW eduai.budget_status IS
'The tenant''s budgets in their present periods, and for eduai_admin and eduai_reader those of providers. usd: the limit; spent: by calls that ended; reserved: the most that calls in flight may cost; resets_at: the end of the period. Of user:* each user with calls has a row as user:ID, and the row user:* is of the one with the least left. Role: eduai_admin, eduai_app, eduai_reader. Example: SELECT * FROM eduai.budget_status WHERE scope = ''tenant'';';

CREATE OR REPLACE FUNCTION eduai.test_cost_bound(kind text, task_type text, payload jsonb,
	instance jsonb DEFAULT '{}', audio bytea DEFAULT NULL) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_cost_bound' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_cost_bound(text, text, jsonb, jsonb, bytea) IS
'For tests: {bound_usd, why}: the most that a call can cost in USD, or why nobody knows. instance: prices and options; audio: the attachment of payload.audio. Errors: 55000 unless eduai.test_mode is on, 22004 for a null. Role: superuser. Example: SELECT eduai.test_cost_bound(''openai'', ''chat'', ''{"prompt": "hello", "max_tokens": 10}'', ''{"price_output": 1}'');';

CREATE OR REPLACE FUNCTION eduai.test_budget_pressure(spent_share double precision,
	elapsed_share double precision) RETURNS double precision
	AS 'MODULE_PATHNAME', 'eduai_test_budget_pressure' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_budget_pressure(double precision, double precision) IS
'For tests: the pressure of a budget of which this share is spent when that share of its period is over. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_budget_pressure(0.5, 0.25);';

REVOKE ALL ON FUNCTION eduai.set_budget(text, numeric, interval, text, text),
	eduai.test_cost_bound(text, text, jsonb, jsonb, bytea),
	eduai.test_budget_pressure(double precision, double precision),
	eduai.budget_period(interval, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.set_budget(text, numeric, interval, text, text) TO eduai_admin;
GRANT EXECUTE ON FUNCTION eduai.budget_period(interval, timestamptz) TO eduai_admin, eduai_app, eduai_reader;
GRANT SELECT ON eduai.budget_status TO eduai_admin, eduai_app, eduai_reader;
