-- Providers and instances. Everything here is SECURITY INVOKER in C.

CREATE OR REPLACE FUNCTION eduai.add_provider(name text, kind text, base_url text,
	api_key text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_add_provider' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.add_provider(text, text, text, text, jsonb) IS
'Records a model provider, or replaces it, its key included. kind: openai (and every compatible server), openrouter, anthropic, huggingface, mock (needs eduai.allow_mock; base_url is ignored). base_url: http or https without user, query or fragment. api_key: a literal, env:NAME (of the server; names other than EDUAI_*, *_API_KEY, *_API_TOKEN need pg_read_server_files) or file:PATH (absolute, first line; needs pg_read_server_files); NULL: no key. options: allow_loopback, allow_private, headers, http2, anthropic_version; see docs/gateway.md for those of mock. Takes effect at commit. Errors: 22023 for a bad value (with it and a hint), 0A000 when an instance''s task type is not served by the new kind, 42501 for a reference the role may not make, 55000 for mock where it is not allowed. Prefer env: or file: to a literal, which logs of statements can show. Role: eduai_admin. Example: SELECT eduai.add_provider(''openai'', ''openai'', ''https://api.openai.com/v1'', ''env:OPENAI_API_KEY'');';

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
'Records a model at a provider, or replaces it; a replaced instance keeps its state. Prices are USD per million tokens. weight and max_concurrent are at least 1. options: aliases, tier, tenants, region, context_tokens, max_output_tokens, embedding_space, rpm, tpm, daily_tokens, price_cached, price_cache_write, price_reasoning, price_audio_second, price_image, connect_ms (5000), first_byte_ms (30000), stall_ms (15000), stream, timeout_ms; see docs/gateway.md. Takes effect at commit. Errors: 22004 for a null, 22023 for a bad value, 42704 for an unknown provider, 0A000 for a task type that the provider''s kind does not serve. Role: eduai_admin. Example: SELECT eduai.add_instance(''gpt'', ''openai'', ''gpt-4o-mini'', price_input => 0.15, price_output => 0.60);';

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
'Trigger of eduai.provider and eduai.instance: makes every session load the fleet again and wakes the dispatcher at commit. Role: none, it is called by the triggers.';

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
'For tests: the HTTP request that an adapter makes of a payload, the key masked. provider: base_url, api_key, idempotency_key and options; instance: model, prices and options. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_build_request(''openai'', ''chat'', ''{"prompt": "hello"}'');';

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
	c.request_id
FROM eduai.provider_call c
WHERE c.tenant_id = eduai.current_tenant();
COMMENT ON VIEW eduai.usage_ledger IS
'A row per provider call of the tenant: tokens (cached ones are among tokens_in), cost in USD, outcome (completed, failed, cancelled, refused: the answer came after the task had ended, uncertain: the answer was lost with its process), its start, ms in all and to the first byte.';

-- Global: an instance serves all tenants. Figures are of the calls in the ledger.
CREATE OR REPLACE VIEW eduai.instance_status AS
SELECT i.name, i.provider, p.kind, i.model, i.state,
	(SELECT pg_catalog.count(*) FROM eduai.task_live t
	 WHERE t.state = 'running' AND t.instance = i.name) AS in_flight,
	c.requests, c.successes, c.failures, c.avg_ms, c.p95_ms, c.p99_ms, c.tokens_in, c.tokens_out,
	c.cost_usd, c.cost_usd / nullif(c.requests, 0) AS cost_per_request, c.last_error, c.last_called_at
FROM eduai.instance i
JOIN eduai.provider p ON p.name = i.provider
CROSS JOIN LATERAL (
	SELECT pg_catalog.count(*) AS requests,
		pg_catalog.count(*) FILTER (WHERE c.outcome IN ('completed', 'refused')) AS successes,
		pg_catalog.count(*) FILTER (WHERE c.outcome IN ('failed', 'uncertain')) AS failures,
		pg_catalog.avg(c.ms) FILTER (WHERE c.outcome = 'completed') AS avg_ms,
		pg_catalog.percentile_cont(0.95) WITHIN GROUP (ORDER BY c.ms)
			FILTER (WHERE c.outcome = 'completed') AS p95_ms,
		pg_catalog.percentile_cont(0.99) WITHIN GROUP (ORDER BY c.ms)
			FILTER (WHERE c.outcome = 'completed') AS p99_ms,
		pg_catalog.sum(c.tokens_in) AS tokens_in,
		pg_catalog.sum(c.tokens_out) AS tokens_out,
		coalesce(pg_catalog.sum(c.cost_usd), 0) AS cost_usd,
		(pg_catalog.array_agg(c.code ORDER BY c.started_at DESC) FILTER (WHERE c.outcome = 'failed'))[1]
			AS last_error,
		pg_catalog.max(c.started_at) AS last_called_at
	FROM eduai.provider_call c WHERE c.instance = i.name
) c;
COMMENT ON VIEW eduai.instance_status IS
'Each instance: calls in flight now, and of the calls in the ledger, all tenants together: how many, successes, failures, times of completed ones in ms (average, 95th and 99th percentile), tokens, USD, the latest error code and the start of the latest call.';

REVOKE ALL ON FUNCTION eduai.adopt_database() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.adopt_database() TO eduai_admin;
GRANT SELECT ON eduai.usage_ledger TO eduai_admin, eduai_app, eduai_reader;
GRANT SELECT ON eduai.instance_status TO eduai_admin, eduai_reader;

-- ---- parents' results ----

CREATE OR REPLACE FUNCTION eduai.test_parents(payload jsonb, parents jsonb, metadata jsonb DEFAULT '{}',
	most int DEFAULT 16777216) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_parents' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_parents(jsonb, jsonb, jsonb, int) IS
'For tests: the payload that is sent of a task whose parents ended so, in at most so many bytes; or the outcome of the attempt that cannot be made of it. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_parents(''{"prompt": "{{parents.0.result.text}}"}'', ''[{"result": {"text": "x"}}]'');';
REVOKE ALL ON FUNCTION eduai.test_parents(jsonb, jsonb, jsonb, int) FROM PUBLIC;
