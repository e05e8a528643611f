-- The rate limiter's functions and views. Deciding needs preload: what was
-- admitted is counted in shared memory.

CREATE OR REPLACE FUNCTION eduai.rate_limit(
	key text, tier text DEFAULT 'public', cost int DEFAULT 1, request_type text DEFAULT '*')
	RETURNS eduai.rate_decision
	AS 'MODULE_PATHNAME', 'eduai_rate_limit' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rate_limit(text, text, int, text) IS
'May this call go ahead? Decides, and consumes when it may, at once and for good: a rolled back transaction keeps what it consumed.
key: who is counted, such as user:1; of any length, counted apart for each tenant, tier and request type. tier: public 100, authenticated 1000, premium 5000 an hour, admin without limit, or one of define_tier(); public, given or left out, means the calling role''s own tier where set_role_tier() gave it one. cost: how much of the limit, at least 1. request_type: a type of define_tier(); one without a row is counted under *.
Returns one row: allowed; limit_count in force; remaining after this call; retry_after, the time until such a call can be allowed (0 when it is, NULL when time alone does not help); reset_after, the time until the whole limit is there again; bound_by, the key, or, when there is no room to count it, the setting that bounds that; tier; per, the limit''s period. An unlimited tier has NULL for the limit, remaining and per. Costs well under a microsecond; call it as SELECT * FROM: (f()).* would consume once per column.
Errors: 22023 bad key, or a cost below 1 or above the limit (above the burst in gcra tiers), 22004 NULL, 42704 unknown tier, UE011 without preload, UE012 tenant. Role: eduai_app, eduai_worker. Example: SELECT * FROM eduai.rate_limit(''user:1'', ''authenticated'');';

CREATE OR REPLACE FUNCTION eduai.rate_ok(
	key text, tier text DEFAULT 'public', cost int DEFAULT 1, request_type text DEFAULT '*')
	RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_rate_ok' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rate_ok(text, text, int, text) IS
'Like eduai.rate_limit(), which describes the arguments and errors, but says only whether the call is allowed. Role: eduai_app, eduai_worker. Example: SELECT eduai.rate_ok(''ip:203.0.113.7'');';

CREATE OR REPLACE FUNCTION eduai.rate_limit_all(
	keys text[], tiers text[], cost int DEFAULT 1, request_type text DEFAULT '*')
	RETURNS eduai.rate_decision
	AS 'MODULE_PATHNAME', 'eduai_rate_limit_all' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rate_limit_all(text[], text[], int, text) IS
'Several limits for one call, such as of the learner, the school and the whole: consumes all of them or none. keys and tiers: 1 to 32 of each, a tier for each key; a counter named twice is consumed once. cost and request_type: for all of them. Returns the decision of the one that binds, named by bound_by: of those that refuse the one with the longest wait, else the one with the least left. Errors: as eduai.rate_limit(), and 2202E for arrays of unequal length. Role: eduai_app, eduai_worker. Example: SELECT * FROM eduai.rate_limit_all(''{user:1,school:7}'', ''{authenticated,premium}'');';

CREATE OR REPLACE FUNCTION eduai.require_rate(
	key text, tier text DEFAULT 'public', cost int DEFAULT 1, request_type text DEFAULT '*')
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_require_rate' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.require_rate(text, text, int, text) IS
'Like eduai.rate_limit(), which describes the arguments and errors, but raises UE002 when the call is not allowed; its detail gives the limit and the wait. To be the first statement of a request: a role''s tier is set once with eduai.set_role_tier(). Role: eduai_app, eduai_worker. Example: SELECT eduai.require_rate(''user:1'');';

CREATE OR REPLACE FUNCTION eduai.rate_peek(
	key text, tier text DEFAULT 'public', request_type text DEFAULT '*')
	RETURNS eduai.rate_decision
	AS 'MODULE_PATHNAME', 'eduai_rate_peek' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rate_peek(text, text, text) IS
'What eduai.rate_limit() would say of a call that costs 1, consuming nothing; remaining is what is left now. Errors: as eduai.rate_limit(). Role: eduai_app, eduai_worker. Example: SELECT remaining FROM eduai.rate_peek(''user:1'', ''authenticated'');';

CREATE OR REPLACE FUNCTION eduai.rate_refund(
	key text, tier text DEFAULT 'public', cost int DEFAULT 1, request_type text DEFAULT '*')
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_rate_refund' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rate_refund(text, text, int, text) IS
'Gives back what a call consumed and did not use, at once and for good. Never more than what counts now; the oldest of it first, so that no rolling period holds more than is counted. Only for what was consumed within the period. In a concurrency tier it gives slots back. Errors: as eduai.rate_limit(). Role: eduai_app, eduai_worker. Example: SELECT eduai.rate_refund(''user:1'', ''authenticated'', 3);';

CREATE OR REPLACE FUNCTION eduai.rate_reset(key text, tier text DEFAULT NULL)
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_rate_reset' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rate_reset(text, text) IS
'Forgets what a key has consumed in a tier, in all its request types, or, with NULL, in all tiers; the slots of concurrency tiers are given back, whoever holds them. Errors: 42704 unknown tier, 22023 bad key, UE011 without preload, UE012 tenant. Role: eduai_app. Example: SELECT eduai.rate_reset(''user:1'');';

CREATE OR REPLACE FUNCTION eduai.rate_release(
	key text, tier text, request_type text DEFAULT '*', slots int DEFAULT 1)
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_rate_release' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rate_release(text, text, text, int) IS
'Gives back slots of a concurrency tier that eduai.rate_limit() took: this session''s, or else another''s. Nothing happens when none is held. A session that ends, however it ends, gives back what it holds; a rolled back transaction does not. Errors: 42809 when the tier has no slots, and as eduai.rate_limit(). Role: eduai_app, eduai_worker. Example: SELECT eduai.rate_release(''user:1'', ''exports'');';

CREATE OR REPLACE FUNCTION eduai.rate_report(
	tier text, ok boolean, latency interval DEFAULT NULL, request_type text DEFAULT '*')
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_rate_report' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rate_report(text, boolean, interval, text) IS
'Tells an adaptive tier how a call that it let in went: whether it went well, and how long it took (NULL when that does not matter). Every eduai.rate_adapt_period, too many errors (eduai.rate_adapt_errors) or a 95th percentile above eduai.rate_adapt_p95 cut its limit to 0.7 of it, down to eduai.rate_adapt_floor of the configured one; a good period gives 0.05 of that back, never more than all of it. Of a tier that is not adaptive nothing is noted. Errors: 42704 unknown tier, 22023 negative latency, 22004 NULL, UE011 without preload, UE012 tenant. Role: eduai_app, eduai_worker. Example: SELECT eduai.rate_report(''premium'', true, ''350 ms'');';

CREATE OR REPLACE FUNCTION eduai.define_tier(
	name text, limit_count bigint, per interval, algorithm text DEFAULT 'window',
	burst bigint DEFAULT NULL, request_type text DEFAULT '*', adaptive boolean DEFAULT false,
	tenant text DEFAULT NULL)
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_define_tier' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.define_tier(text, bigint, interval, text, bigint, text, boolean, text) IS
'Makes or changes a tier (built-in ones too), for one request type or for those without a row of their own (*). It holds at commit, also for what was consumed before.
limit_count: 0 to 2,000,000,000, or NULL for no limit. per: its period, 1 ms to 400 days (a month is 30 days). algorithm: window, in which no rolling period admits more than the limit; gcra, an even pace of limit_count per period of which up to burst (default limit_count) come at once, so that a rolling period admits up to limit_count + burst; concurrency, so many at once until eduai.rate_release() (per is not used); unlimited. adaptive: follows eduai.rate_report(). tenant: for that tenant alone, instead of the common tier of that name, all its request types included. A period made longer knows only what the shorter one had kept.
Errors: 22023 bad input, 22004 NULL. Role: eduai_admin. Example: SELECT eduai.define_tier(''authenticated'', 50, ''1 hour'', request_type => ''chat'');';

CREATE OR REPLACE FUNCTION eduai.drop_tier(name text, request_type text DEFAULT NULL, tenant text DEFAULT NULL)
	RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_drop_tier' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.drop_tier(text, text, text) IS
'Removes what define_tier() made of that name: for one request type, or, with NULL, for all; with tenant, that tenant''s own. A built-in tier is as it was installed afterwards. False when there was nothing. Role: eduai_admin. Example: SELECT eduai.drop_tier(''authenticated'', ''chat'');';

CREATE OR REPLACE FUNCTION eduai.set_key_limit(key text, tier text, limit_count bigint)
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_set_key_limit' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.set_key_limit(text, text, bigint) IS
'Gives one key of the session''s tenant another limit in a tier, in all its request types: a school behind one address. limit_count: 0 (nothing is allowed) to 2,000,000,000; NULL removes it. Holds at commit, also for what was consumed before. Errors: 42704 unknown tier, 42809 unlimited tier, 22023 bad input, UE012 tenant. Role: eduai_admin. Example: SELECT eduai.set_key_limit(''ip:203.0.113.7'', ''public'', 5000);';

CREATE OR REPLACE FUNCTION eduai.set_role_tier(role name, tier text)
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_set_role_tier' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.set_role_tier(name, text) IS
'Gives a role a tier of its own: its calls that name public, or no tier, are of that tier. The role is the one that calls (after SET ROLE, that one); roles it is a member of do not matter. NULL removes it. Errors: 42704 unknown role or tier. Role: eduai_admin. Example: SELECT eduai.set_role_tier(''my_app'', ''authenticated'');';

CREATE OR REPLACE FUNCTION eduai.rate_headers(decision eduai.rate_decision)
	RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_rate_headers' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION eduai.rate_headers(eduai.rate_decision) IS
'A decision as HTTP fields: RateLimit-Policy and RateLimit as in the IETF''s draft (w and t in seconds, rounded up), Retry-After when it is refused and time helps. Empty for an unlimited tier. Role: eduai_app, eduai_worker. Example: SELECT eduai.rate_headers(d) FROM eduai.rate_limit(''user:1'') d;';

CREATE OR REPLACE FUNCTION eduai.rate_tier_rows() RETURNS SETOF eduai.rate_tier_row
	AS 'MODULE_PATHNAME', 'eduai_rate_tier_rows' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rate_tier_rows() IS
'The tiers that the session''s tenant has; see the view eduai.rate_tiers. Role: eduai_app, eduai_worker, eduai_reader. Example: SELECT * FROM eduai.rate_tier_rows();';

CREATE OR REPLACE FUNCTION eduai.rate_counters() RETURNS SETOF eduai.rate_counter
	AS 'MODULE_PATHNAME', 'eduai_rate_counters' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rate_counters() IS
'What the keys of the session''s tenant have consumed; see the view eduai.rate_status. Role: eduai_app, eduai_worker, eduai_reader. Example: SELECT * FROM eduai.rate_counters();';

CREATE OR REPLACE VIEW eduai.rate_tiers AS SELECT * FROM eduai.rate_tier_rows();
COMMENT ON VIEW eduai.rate_tiers IS
'The tiers of the session''s tenant, by request type: limit_count a period (NULL: none), burst of gcra tiers; factor, of the limit, that an adaptive tier has now; of_tenant: made for this tenant alone.';

CREATE OR REPLACE VIEW eduai.rate_status AS SELECT * FROM eduai.rate_counters();
COMMENT ON VIEW eduai.rate_status IS
'The keys of the session''s tenant that have consumed something of a limit: limit_count in force, remaining, reset_after until all is there again, held slots of concurrency tiers; calls admitted and refused since the key was last idle. A key that is longer than about 200 bytes is shown as its SHA-256; key NULL is the counter that keys share for which there was no room. limit_count is NULL where the tier was dropped.';

REVOKE ALL ON FUNCTION eduai.rate_limit(text, text, int, text), eduai.rate_ok(text, text, int, text),
	eduai.rate_limit_all(text[], text[], int, text), eduai.require_rate(text, text, int, text),
	eduai.rate_peek(text, text, text), eduai.rate_refund(text, text, int, text), eduai.rate_reset(text, text),
	eduai.rate_release(text, text, text, int), eduai.rate_report(text, boolean, interval, text),
	eduai.define_tier(text, bigint, interval, text, bigint, text, boolean, text),
	eduai.drop_tier(text, text, text), eduai.set_key_limit(text, text, bigint), eduai.set_role_tier(name, text),
	eduai.rate_headers(eduai.rate_decision), eduai.rate_tier_rows(), eduai.rate_counters() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.rate_limit(text, text, int, text), eduai.rate_ok(text, text, int, text),
	eduai.rate_limit_all(text[], text[], int, text), eduai.require_rate(text, text, int, text),
	eduai.rate_peek(text, text, text), eduai.rate_refund(text, text, int, text),
	eduai.rate_release(text, text, text, int), eduai.rate_report(text, boolean, interval, text),
	eduai.rate_headers(eduai.rate_decision) TO eduai_app, eduai_worker;
GRANT EXECUTE ON FUNCTION eduai.rate_reset(text, text) TO eduai_app, eduai_admin;
GRANT EXECUTE ON FUNCTION eduai.define_tier(text, bigint, interval, text, bigint, text, boolean, text),
	eduai.drop_tier(text, text, text), eduai.set_key_limit(text, text, bigint),
	eduai.set_role_tier(name, text) TO eduai_admin;
GRANT EXECUTE ON FUNCTION eduai.rate_tier_rows(), eduai.rate_counters() TO eduai_app, eduai_worker, eduai_admin, eduai_reader;
GRANT SELECT ON eduai.rate_tiers, eduai.rate_status TO eduai_app, eduai_worker, eduai_admin, eduai_reader;

-- For tests: they need eduai.test_mode.

CREATE OR REPLACE FUNCTION eduai.test_rate_random(kind text, seed bigint, logs int) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_rate_random' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_rate_random(text, bigint, int) IS
'For tests (eduai.test_mode): random logs of calls against a window, gcra, refund (a window with refunds) or redefine (a window whose limit changes); returns how many calls were wrongly decided. Role: superuser. Example: SELECT eduai.test_rate_random(''window'', 1, 100);';

CREATE OR REPLACE FUNCTION eduai.test_rate_codec(seed bigint, n int) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_test_rate_codec' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_rate_codec(bigint, int) IS
'For tests (eduai.test_mode): random counters through the bytes of the file they are saved in; true when all come back as they were and none is read from bytes that are cut short. Role: superuser. Example: SELECT eduai.test_rate_codec(1, 1000);';

CREATE OR REPLACE FUNCTION eduai.test_rate_adaptive(periods text) RETURNS text
	AS 'MODULE_PATHNAME', 'eduai_test_rate_adaptive' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_rate_adaptive(text) IS
'For tests (eduai.test_mode): the factor of an adaptive tier, in thousandths, after each of the periods, each given as errors% and the slowest calls'' ms, or - for one without calls. Role: superuser. Example: SELECT eduai.test_rate_adaptive(''0% 10,50% 10,-'');';

REVOKE ALL ON FUNCTION eduai.test_rate_random(text, bigint, int), eduai.test_rate_codec(bigint, int),
	eduai.test_rate_adaptive(text) FROM PUBLIC;
