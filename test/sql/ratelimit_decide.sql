-- Deciding: what a decision says, what is consumed and given back, bad input.
\pset format unaligned
\pset tuples_only on
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

-- the installed tiers
SELECT name, request_type, limit_count, per, algorithm, adaptive, of_tenant FROM eduai.rate_tiers
WHERE name IN ('public', 'authenticated', 'premium', 'admin') ORDER BY limit_count NULLS LAST;
SELECT tier, limit_count, count(*) FILTER (WHERE allowed) FROM (
	SELECT t AS tier, (eduai.rate_limit('decide:' || t, t)).* FROM unnest('{public,authenticated,premium,admin}'::text[]) t, generate_series(1, 1)
) d (t, allowed, limit_count, remaining, retry_after, reset_after, bound_by, tier, per) GROUP BY 1, 2 ORDER BY 1;
SELECT t, count(*) FILTER (WHERE eduai.rate_ok('decide2:' || t, t)) FROM unnest('{public,authenticated,premium,admin}'::text[]) t,
	generate_series(1, 6000) GROUP BY 1 ORDER BY 1;

-- a decision: what is left, how long to wait (a 60th of the hour more at most)
SELECT allowed, limit_count, remaining, retry_after, reset_after BETWEEN '1 hour' AND '61 min', bound_by, tier, per
FROM eduai.rate_limit('decide:a', 'public', 40);
SELECT allowed, limit_count, remaining, retry_after BETWEEN '1 hour' AND '61 min', reset_after = retry_after, bound_by, tier, per
FROM eduai.rate_limit('decide:a', 'public', 61);
SELECT allowed, remaining FROM eduai.rate_limit('decide:a', cost => 60);
SELECT allowed, limit_count, remaining, retry_after, reset_after, bound_by, tier, per FROM eduai.rate_limit('decide:a', 'admin');
-- a peek consumes nothing
SELECT allowed, remaining, reset_after FROM eduai.rate_peek('decide:b');
SELECT eduai.rate_ok('decide:b', cost => 3);
SELECT allowed, remaining, reset_after > '0' FROM eduai.rate_peek('decide:b');
SELECT allowed, remaining, retry_after > '0' FROM eduai.rate_peek('decide:a');
-- a refund, never of more than there is; a reset
SELECT eduai.rate_refund('decide:a', cost => 30);
SELECT allowed, remaining FROM eduai.rate_peek('decide:a');
SELECT eduai.rate_refund('decide:a', cost => 1000);
SELECT remaining FROM eduai.rate_peek('decide:a');
SELECT eduai.rate_ok('decide:a', cost => 100), eduai.rate_ok('decide:a', 'premium', 10);
SELECT eduai.rate_reset('decide:a', 'premium');
SELECT remaining FROM eduai.rate_peek('decide:a') UNION ALL SELECT remaining FROM eduai.rate_peek('decide:a', 'premium');
SELECT eduai.rate_ok('decide:a', 'premium', 10), eduai.rate_reset('decide:a');
SELECT remaining FROM eduai.rate_peek('decide:a') UNION ALL SELECT remaining FROM eduai.rate_peek('decide:a', 'premium');

-- what was consumed stays consumed
BEGIN;
SELECT eduai.rate_ok('decide:rollback', cost => 60);
SAVEPOINT s;
SELECT eduai.rate_ok('decide:rollback', cost => 30);
ROLLBACK TO s;
ROLLBACK;
SELECT remaining FROM eduai.rate_peek('decide:rollback');
DO $$ BEGIN PERFORM eduai.require_rate('decide:rollback', cost => 10); RAISE 'undone'; EXCEPTION WHEN raise_exception THEN NULL; END $$;
SELECT pg_temp.fails($$SELECT eduai.require_rate('decide:rollback')$$) ~ '^UE002 \| rate limit exceeded for key "decide:rollback" \| Tier "public" allows 100 in 3600 s; wait 36\d\d s. \| Try again later';

-- all or nothing
SELECT allowed, limit_count, remaining, bound_by, tier FROM eduai.rate_limit_all('{decide:u,decide:t,decide:all}', '{public,authenticated,admin}', 60);
SELECT allowed, limit_count, remaining, bound_by, tier FROM eduai.rate_limit_all('{decide:u,decide:t,decide:all}', '{public,authenticated,admin}', 60);
SELECT remaining FROM eduai.rate_peek('decide:u') UNION ALL SELECT remaining FROM eduai.rate_peek('decide:t', 'authenticated');
-- a counter named twice is consumed once
SELECT allowed, remaining FROM eduai.rate_limit_all('{decide:v,decide:v}', '{public,public}', 60);
SELECT remaining FROM eduai.rate_peek('decide:v');

-- headers
SELECT eduai.rate_headers(ROW(true, 100, 99, '0', '59 min 0.1 s', 'k', 'public', '1 hour'));
SELECT eduai.rate_headers(ROW(false, 100, 0, '20.2 s', '59 min', 'k', 'a"b\ü', '1 hour'));
SELECT eduai.rate_headers(ROW(true, NULL, NULL, '0', '0', 'k', 'admin', NULL));
SELECT eduai.rate_headers(ROW(false, 5, 0, NULL, NULL, 'k', 'slots', NULL));
SELECT eduai.rate_headers(d) ? 'RateLimit' FROM eduai.rate_limit('decide:h') d;

-- keys of all lengths, bytes and tenants are apart
SELECT count(*) FILTER (WHERE eduai.rate_ok(repeat('k', n), cost => 100)), count(*) FILTER (WHERE NOT eduai.rate_ok(repeat('k', n), cost => 100)) FROM generate_series(1, 300) n;
SELECT eduai.rate_ok('ab', cost => 100), eduai.rate_ok('a', cost => 100), eduai.rate_ok('ü', cost => 100), eduai.rate_ok('ü ', cost => 100);

-- bad input: SQLSTATE, value, hint
SELECT pg_temp.fails($$SELECT eduai.rate_limit('')$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit(NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit('k', NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit('k', 'public', NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit('k', 'public', 0)$$);
SELECT pg_temp.fails($$SELECT eduai.rate_ok('k', 'public', -1)$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit('k', 'public', 101)$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit('k', 'gold')$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit('k', repeat('x', 100))$$) ~ '^42704';
SELECT pg_temp.fails($$SELECT eduai.rate_limit('k', request_type => NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit_all('{a,b}', '{public}')$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit_all('{}', '{}')$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit_all('{a,NULL}', '{public,public}')$$);
SELECT pg_temp.fails($$SELECT eduai.rate_limit_all(array_fill('a'::text, '{33}'), array_fill('public'::text, '{33}'))$$);
SELECT pg_temp.fails($$SELECT eduai.rate_release('k', 'public')$$);
SELECT pg_temp.fails($$SELECT eduai.rate_refund('k', 'public', 0)$$);
SELECT pg_temp.fails($$SELECT eduai.rate_reset('k', 'gold')$$);
SELECT pg_temp.fails($$SELECT eduai.rate_report('public', true, '-1 s')$$);
