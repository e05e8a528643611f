-- The rate limiter's state that is in tables: what the limits are. What was
-- admitted is in shared memory.

CREATE TYPE eduai.rate_decision AS (
	allowed boolean,
	limit_count bigint,
	remaining bigint,
	retry_after interval,
	reset_after interval,
	bound_by text,
	tier text,
	per interval
);

CREATE TYPE eduai.rate_tier_row AS (
	name text,
	request_type text,
	limit_count bigint,
	per interval,
	algorithm text,
	burst bigint,
	adaptive boolean,
	factor double precision,
	of_tenant boolean
);

CREATE TYPE eduai.rate_counter AS (
	key text,
	tier text,
	request_type text,
	algorithm text,
	limit_count bigint,
	remaining bigint,
	held bigint,
	per interval,
	reset_after interval,
	admitted bigint,
	refused bigint
);

-- What define_tier() was given; the built-in tiers are in the library
-- (src/ratelimit/tier.c), and a row of the same name is instead of one.
CREATE TABLE eduai.rate_tier (
	name text COLLATE "C" NOT NULL,
	request_type text COLLATE "C" NOT NULL,
	limit_count bigint,
	per interval,
	algorithm text COLLATE "C" NOT NULL CHECK (algorithm IN ('window', 'gcra', 'concurrency', 'unlimited')),
	burst bigint,
	adaptive boolean NOT NULL,
	PRIMARY KEY (name, request_type)
);
COMMENT ON TABLE eduai.rate_tier IS 'Tiers that define_tier() made for all tenants. Change them with the function: sessions keep copies.';

CREATE TABLE eduai.tenant_tier (
	tenant_id text COLLATE "C" NOT NULL,
	name text COLLATE "C" NOT NULL,
	request_type text COLLATE "C" NOT NULL,
	limit_count bigint,
	per interval,
	algorithm text COLLATE "C" NOT NULL CHECK (algorithm IN ('window', 'gcra', 'concurrency', 'unlimited')),
	burst bigint,
	adaptive boolean NOT NULL,
	PRIMARY KEY (tenant_id, name, request_type)
);
COMMENT ON TABLE eduai.tenant_tier IS 'Tiers that define_tier() made for one tenant, instead of the common ones of the same name. Change them with the function: sessions keep copies.';

CREATE TABLE eduai.rate_key_limit (
	tenant_id text COLLATE "C" NOT NULL,
	key text COLLATE "C" NOT NULL,
	tier text COLLATE "C" NOT NULL,
	limit_count bigint NOT NULL,
	PRIMARY KEY (tenant_id, key, tier)
);
COMMENT ON TABLE eduai.rate_key_limit IS 'Limits of single keys, instead of their tier''s. Change them with set_key_limit(): sessions keep copies.';

CREATE TABLE eduai.role_tier (
	role name PRIMARY KEY,
	tier text COLLATE "C" NOT NULL
);
COMMENT ON TABLE eduai.role_tier IS 'The tier of calls of a role that name none. Change it with set_role_tier(): sessions keep copies.';

ALTER TABLE eduai.tenant_tier ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON eduai.tenant_tier USING (tenant_id = eduai.current_tenant());
ALTER TABLE eduai.rate_key_limit ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON eduai.rate_key_limit USING (tenant_id = eduai.current_tenant());

SELECT pg_catalog.pg_extension_config_dump('eduai.rate_tier', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.tenant_tier', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.rate_key_limit', '');
SELECT pg_catalog.pg_extension_config_dump('eduai.role_tier', '');
