-- set_budget(), budget_status, and what budgets refuse.
\pset format unaligned
\pset tuples_only on
SET eduai.allow_mock = on;
CREATE ROLE regress_gb_admin;
CREATE ROLE regress_gb_app;
GRANT eduai_admin TO regress_gb_admin;
GRANT eduai_app TO regress_gb_app;
SELECT eduai.allow_tenant(r, t) FROM unnest(ARRAY['regress_gb_admin', 'regress_gb_app']) r, unnest(ARRAY['gb_a', 'gb_b']) t;
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
	h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, ''), nullif(h, ''));
END $$;
-- 1000 tokens in and out: 0.011 USD each call, which may cost 0.02 and its bytes
SELECT eduai.add_provider('gb', 'mock', NULL, options => '{"tokens_in": 1000, "tokens_out": 1000}');
SELECT eduai.add_instance('gb', 'gb', 'gb', '{chat,analysis}', price_input => 1, price_output => 10, max_concurrent => 100);
SET ROLE regress_gb_admin;
SET eduai.tenant = 'gb_a';

-- bad values
SELECT s, pg_temp.fails('SELECT eduai.set_budget(' || s || ')') FROM unnest(ARRAY[
	$$NULL, 5$$, $$'tenants', 5$$, $$'', 5$$, $$'user:', 5$$, $$'provider:', 5$$, $$'provider:nobody', 5$$, $$repeat('x', 600), 5$$, $$'user:' || repeat('x', 600), 5$$,
	$$'tenant', -1$$, $$'tenant', 'NaN'$$, $$'tenant', 'Infinity'$$, $$'tenant', 5, '0 days'$$, $$'tenant', 5, '1 month 1 day'$$,
	$$'tenant', 5, NULL$$, $$'tenant', 5, '30 seconds'$$, $$'tenant', 5, on_exceeded => 'explode'$$, $$'tenant', 5, on_exceeded => NULL$$,
	$$'tenant', 5, task_type => 'singing'$$]) WITH ORDINALITY u (s, n) ORDER BY n;
SELECT count(*) FROM eduai.budget_status;

-- set, changed, removed; named arguments
SELECT eduai.set_budget('tenant', 5);
SELECT eduai.set_budget(scope => 'user:*', usd => 0.50, per => '1 month', on_exceeded => 'cheapest', task_type => 'chat');
SELECT eduai.set_budget('user:ada', 2.5);
SELECT eduai.set_budget('provider:gb', 100);
SELECT eduai.set_budget('tenant', 7.25, on_exceeded => 'refuse');
SELECT eduai.set_budget('tenant', 50, '24 hours');
SELECT eduai.set_budget('tenant', 1, '1 hour');
SELECT scope, per, usd, spent, reserved, resets_at > now() AS later, task_type, on_exceeded FROM eduai.budget_status ORDER BY 1, 2, 3;
-- another tenant has none of them, an application sees no provider's, and may not set any
SET eduai.tenant = 'gb_b';
SELECT scope FROM eduai.budget_status ORDER BY 1;
SET ROLE regress_gb_app;
SELECT scope FROM eduai.budget_status ORDER BY 1;
SET eduai.tenant = 'gb_a';
SELECT scope FROM eduai.budget_status ORDER BY 1, per;
SELECT pg_temp.fails($$SELECT eduai.set_budget('tenant', 1)$$);
SELECT pg_temp.fails($$SELECT count(*) FROM eduai.budget_sum$$), pg_temp.fails($$SELECT count(*) FROM eduai.budget$$);
SET ROLE regress_gb_admin;
SET eduai.tenant = 'gb_c';
SELECT pg_temp.fails($$SELECT eduai.set_budget('tenant', 1)$$);
SET eduai.tenant = 'gb_a';
-- 30 days and a month are equal intervals, but not the same
SELECT eduai.set_budget('tenant', 9, '30 days');
SELECT eduai.set_budget('tenant', 9, '1 month');
SELECT per FROM eduai.budget_status WHERE usd = 9;
SELECT eduai.set_budget('tenant', NULL, p) FROM unnest(ARRAY['1 hour', '1 day', '1 month']::interval[]) p;
SELECT eduai.set_budget('user:*', NULL, '1 month', task_type => 'chat');
SELECT eduai.set_budget('user:ada', NULL);
SELECT eduai.set_budget('provider:gb', NULL);
SELECT eduai.set_budget('tenant', NULL);
SELECT count(*) FROM eduai.budget_status;

-- refused at enqueue: the worst case of this call would exceed it
SELECT eduai.set_budget('tenant', 0.05, on_exceeded => 'refuse');
SET ROLE regress_gb_app;
SELECT pg_temp.fails($$SELECT eduai.enqueue('chat', '{"model": "gb", "prompt": "x", "max_tokens": 5000}')$$);
SELECT pg_temp.fails($$SELECT eduai.enqueue('chat', '{"model": "gb", "prompt": "x"}')$$);
SELECT eduai.enqueue('chat', '{"model": "gb", "prompt": "x", "max_tokens": 5000}', on_refusal => 'skip') IS NULL AS skipped;
SELECT eduai.enqueue_batch('chat', ARRAY['{"model": "gb", "prompt": "x", "max_tokens": 5000}', '{"model": "gb", "prompt": "x", "max_tokens": 2000}']::jsonb[], on_refusal => 'skip') AS ids \gset
SELECT (:'ids'::bigint[])[1] IS NULL AS first_skipped, state, cost_usd FROM eduai.wait_task((:'ids'::bigint[])[2]);
SELECT scope, usd, spent, reserved FROM eduai.budget_status;
SELECT cost_usd, bound_usd, counted_usd, user_id, task_type, outcome FROM eduai.usage_ledger;
-- what was spent counts; others of the tenant's types are not touched by a budget of one type
SELECT pg_temp.fails($$SELECT eduai.enqueue('chat', '{"model": "gb", "prompt": "x", "max_tokens": 4000}')$$);
SET ROLE regress_gb_admin;
SELECT eduai.set_budget('tenant', NULL);
SELECT eduai.set_budget('tenant', 0, on_exceeded => 'refuse', task_type => 'analysis');
SET ROLE regress_gb_app;
SELECT pg_temp.fails($$SELECT eduai.enqueue('analysis', '{"model": "gb", "prompt": "x", "max_tokens": 1}')$$);
SELECT eduai.enqueue('chat', '{"model": "gb", "prompt": "x", "max_tokens": 2000}') AS task \gset
SELECT state FROM eduai.wait_task(:task);
-- a cheaper instance makes it possible; one of another provider does where that provider's budget is spent
SET ROLE regress_gb_admin;
SELECT eduai.set_budget('tenant', NULL, task_type => 'analysis');
SELECT eduai.set_budget('tenant', 0.03, on_exceeded => 'refuse');
SELECT spent FROM eduai.budget_status;
RESET ROLE;
SELECT eduai.add_instance('gb_cheap', 'gb', 'gb', price_input => 0.1, price_output => 1, max_concurrent => 100);
SET ROLE regress_gb_app;
SELECT eduai.enqueue('chat', '{"model": "gb", "prompt": "x", "max_tokens": 2000}') AS task \gset
SELECT state, instance, cost_usd FROM eduai.wait_task(:task);
SELECT spent, reserved FROM eduai.budget_status;
-- users: each on its own; one with a budget of his own; nobody's tasks have no user's budget
SET ROLE regress_gb_admin;
SELECT eduai.set_budget('tenant', NULL);
SELECT eduai.set_budget('user:*', 0.0025, on_exceeded => 'refuse'), eduai.set_budget('user:ada', 1, on_exceeded => 'refuse');
SET ROLE regress_gb_app;
SELECT pg_temp.fails($$SELECT eduai.enqueue('chat', '{"model": "gb", "prompt": "x", "max_tokens": 3000}', user_id => 'bob')$$);
CREATE FUNCTION pg_temp.run(who text, tokens int) RETURNS bigint LANGUAGE sql VOLATILE AS $$
	SELECT eduai.enqueue('chat', jsonb_build_object('model', 'gb', 'prompt', 'x', 'max_tokens', tokens), user_id => who, metadata => '{"follow_up": false}')
$$;
SELECT array_agg(pg_temp.run(who, tokens)) AS tasks FROM (VALUES ('bob', 2000), ('eve', 2000), ('ada', 3000), (NULL, 3000)) v (who, tokens) \gset
SELECT count(*) FROM eduai.wait_tasks(:'tasks') WHERE state = 'completed';
SELECT scope, usd, spent >= 0.0011 AS spent, reserved FROM eduai.budget_status ORDER BY 1;
SELECT pg_temp.fails($$SELECT pg_temp.run('bob', 2000)$$) LIKE 'UE005 | budget "user:*" of 0.0025 USD per 1 day would be exceeded | Scope user:*, spent 0.0011, reserved 0, %' AS bob_again;
-- free calls pass whatever is spent
RESET ROLE;
SELECT eduai.add_instance('gb_free', 'gb', 'gb_free', max_concurrent => 100);
SET ROLE regress_gb_app;
SELECT eduai.enqueue('chat', '{"model": "gb_free", "prompt": "x"}', user_id => 'bob', metadata => '{"follow_up": false}') AS task \gset
SELECT state, cost_usd FROM eduai.wait_task(:task);

RESET ROLE;
RESET eduai.tenant;
DELETE FROM eduai.budget;
SELECT eduai.remove_instance(name) FROM eduai.instance WHERE provider = 'gb';
SELECT eduai.remove_provider('gb');
SELECT eduai.disallow_tenant(r, t) FROM unnest(ARRAY['regress_gb_admin', 'regress_gb_app']) r, unnest(ARRAY['gb_a', 'gb_b']) t;
DROP FUNCTION pg_temp.run(text, int);
DROP ROLE regress_gb_admin, regress_gb_app;
