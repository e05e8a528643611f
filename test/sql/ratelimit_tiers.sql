-- Tiers: types, tenants, keys' and roles' own limits, algorithms, changes that
-- hold at once for what was consumed before.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(h, ''));
END $$;
CREATE ROLE regress_rate_app;
CREATE ROLE regress_rate_other;
GRANT eduai_app TO regress_rate_app, regress_rate_other;
SELECT eduai.allow_tenant('regress_rate_other', 'rate_a'), eduai.allow_tenant('regress_rate_other', 'rate_b');

-- request types: an own row, or '*'
SELECT eduai.define_tier('t_types', 10, '1 hour'), eduai.define_tier('t_types', 2, '1 min', request_type => 'chat');
SELECT limit_count, remaining, per FROM eduai.rate_limit('tiers:a', 't_types', 2, 'chat');
SELECT allowed, bound_by, retry_after <= '61 s' FROM eduai.rate_limit('tiers:a', 't_types', 1, 'chat');
SELECT limit_count, remaining FROM eduai.rate_limit('tiers:a', 't_types', 1, 'images');
SELECT limit_count, remaining FROM eduai.rate_limit('tiers:a', 't_types', 1, repeat('x', 100));
SELECT key, request_type, limit_count, remaining, admitted, refused FROM eduai.rate_status WHERE tier = 't_types' ORDER BY 2;
SELECT eduai.drop_tier('t_types', 'chat'), eduai.drop_tier('t_types', 'none');
SELECT limit_count, remaining FROM eduai.rate_limit('tiers:a', 't_types', 1, 'chat');

-- changed live: lower, higher, another period, another algorithm, rolled back
SELECT eduai.define_tier('t_live', 10, '1 hour');
SELECT remaining FROM eduai.rate_limit('tiers:b', 't_live', 6);
SELECT eduai.define_tier('t_live', 4, '1 hour');
SELECT allowed, limit_count, remaining, retry_after > '59 min' FROM eduai.rate_limit('tiers:b', 't_live');
SELECT eduai.define_tier('t_live', 20, '2 hours');
SELECT allowed, limit_count, remaining, reset_after > '119 min' FROM eduai.rate_limit('tiers:b', 't_live');
SELECT eduai.define_tier('t_live', 20, '1 min');
SELECT remaining, reset_after <= '61 s' FROM eduai.rate_limit('tiers:b', 't_live');
SELECT eduai.define_tier('t_live', 20, '1 min', 'gcra', 10);
SELECT allowed, remaining FROM eduai.rate_limit('tiers:b', 't_live', 3);
SELECT eduai.define_tier('t_live', 20, '1 hour');
SELECT allowed, remaining FROM eduai.rate_peek('tiers:b', 't_live');
BEGIN;
SELECT eduai.define_tier('t_live', 5, '1 hour');
SELECT limit_count FROM eduai.rate_peek('tiers:b', 't_live');
ROLLBACK;
SELECT limit_count FROM eduai.rate_peek('tiers:b', 't_live');
SELECT eduai.define_tier('t_live', NULL, NULL);
SELECT allowed, limit_count FROM eduai.rate_limit('tiers:b', 't_live', 1000);
SELECT eduai.define_tier('t_live', 0, '1 hour');
SELECT allowed, limit_count, retry_after FROM eduai.rate_limit('tiers:c', 't_live');
SELECT pg_temp.fails($$SELECT eduai.require_rate('tiers:c', 't_live')$$);
-- a built-in one changed, and back
SELECT eduai.define_tier('premium', 7, '1 min');
SELECT limit_count, per FROM eduai.rate_peek('tiers:d', 'premium');
SELECT eduai.drop_tier('premium');
SELECT limit_count, per FROM eduai.rate_peek('tiers:d', 'premium');

-- evenly paced
SELECT eduai.define_tier('t_pace', 60, '1 min', 'gcra', burst => 5);
SELECT count(*) FILTER (WHERE eduai.rate_ok('tiers:e', 't_pace')) FROM generate_series(1, 10);
SELECT allowed, limit_count, remaining, retry_after BETWEEN '0' AND '1 s', per FROM eduai.rate_limit('tiers:e', 't_pace');
SELECT pg_temp.fails($$SELECT eduai.rate_limit('tiers:e', 't_pace', 6)$$);

-- a key's own limit, for its tenant alone
SELECT eduai.set_key_limit('tiers:school', 'public', 500), eduai.set_key_limit('tiers:bad', 'public', 0);
SELECT limit_count, remaining FROM eduai.rate_limit('tiers:school', cost => 300);
SELECT allowed, limit_count FROM eduai.rate_limit('tiers:bad');
SELECT limit_count, remaining FROM eduai.rate_status WHERE key = 'tiers:school';
SELECT eduai.set_key_limit('tiers:school', 'public', 200);
SELECT allowed, limit_count, remaining FROM eduai.rate_limit('tiers:school');
SELECT eduai.set_key_limit('tiers:school', 'public', NULL), eduai.set_key_limit('tiers:bad', 'public', NULL);
SELECT limit_count FROM eduai.rate_peek('tiers:school') UNION ALL SELECT limit_count FROM eduai.rate_peek('tiers:bad');

-- a role's tier: of calls that name none, or public
SELECT eduai.set_role_tier('regress_rate_app', 'authenticated');
SET ROLE regress_rate_app;
SELECT tier, limit_count FROM eduai.rate_limit('tiers:f');
SELECT tier FROM eduai.rate_limit('tiers:f', 'public');
SELECT tier FROM eduai.rate_limit('tiers:f', 'premium');
SELECT eduai.require_rate('tiers:f');
SELECT remaining FROM eduai.rate_peek('tiers:f');
RESET ROLE;
SELECT tier FROM eduai.rate_limit('tiers:f');
SELECT eduai.set_role_tier('regress_rate_app', NULL);
SET ROLE regress_rate_app;
SELECT tier FROM eduai.rate_limit('tiers:f');
RESET ROLE;

-- a tenant's own tier, and its own counters
SELECT eduai.define_tier('t_types', 3, '1 hour', tenant => 'rate_a');
SET ROLE regress_rate_other;
SET eduai.tenant = 'rate_a';
SELECT limit_count, remaining FROM eduai.rate_limit('tiers:a', 't_types');
SELECT name, limit_count FROM eduai.rate_tiers WHERE of_tenant;
SET eduai.tenant = 'rate_b';
SELECT limit_count, remaining FROM eduai.rate_limit('tiers:a', 't_types');
SELECT count(*) FROM eduai.rate_tiers WHERE of_tenant;
SELECT key, remaining FROM eduai.rate_status;
SET eduai.tenant = 'rate_c';
SELECT pg_temp.fails($$SELECT eduai.rate_limit('tiers:a')$$);
RESET eduai.tenant;
SELECT pg_temp.fails($$SELECT eduai.rate_limit('tiers:a')$$);
-- an application may not define
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 1, '1 hour')$$), pg_temp.fails($$SELECT eduai.set_key_limit('x', 'public', 1)$$),
	pg_temp.fails($$SELECT eduai.set_role_tier('regress_rate_app', 'admin')$$), pg_temp.fails($$INSERT INTO eduai.rate_tier VALUES ('x')$$);
RESET ROLE;
SELECT eduai.drop_tier('t_types', tenant => 'rate_a');

-- bad input
SELECT pg_temp.fails($$SELECT eduai.define_tier(NULL, 1, '1 hour')$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('', 1, '1 hour')$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', -1, '1 hour')$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 3000000000, '1 hour')$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 1, NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 1, '0')$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 1, '-1 hour')$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 1, '2 years')$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 1, '1 hour', 'leaky')$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 1, '1 hour', burst => 2)$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 1, '1 hour', 'gcra', 0)$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 1, '300 days', 'gcra', 1000)$$);
SELECT pg_temp.fails($$SELECT eduai.define_tier('x', 1, '1 hour', adaptive => NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.set_key_limit('k', 'gold', 1)$$);
SELECT pg_temp.fails($$SELECT eduai.set_key_limit('k', 'admin', 1)$$);
SELECT pg_temp.fails($$SELECT eduai.set_key_limit('', 'public', 1)$$);
SELECT pg_temp.fails($$SELECT eduai.set_key_limit('k', 'public', -1)$$);
SELECT pg_temp.fails($$SELECT eduai.set_role_tier('nobody_at_all', 'public')$$);
SELECT pg_temp.fails($$SELECT eduai.set_role_tier('regress_rate_app', 'gold')$$);

SELECT eduai.drop_tier('t_types'), eduai.drop_tier('t_live'), eduai.drop_tier('t_pace');
SELECT eduai.disallow_tenant('regress_rate_other', 'rate_a'), eduai.disallow_tenant('regress_rate_other', 'rate_b');
DROP ROLE regress_rate_app, regress_rate_other;
