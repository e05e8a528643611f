-- Concurrency tiers: slots are taken, given back by whoever, and at a session's end.
\pset format unaligned
\pset tuples_only on
SELECT eduai.define_tier('t_slots', 3, NULL, 'concurrency');
SELECT allowed, limit_count, remaining, retry_after, reset_after, per FROM eduai.rate_limit('slots:a', 't_slots', 2);
SELECT allowed, remaining FROM eduai.rate_limit('slots:a', 't_slots', 2);
SELECT allowed, remaining FROM eduai.rate_limit('slots:a', 't_slots');
SELECT key, algorithm, limit_count, remaining, held, admitted, refused FROM eduai.rate_status WHERE tier = 't_slots';
DO $$ BEGIN PERFORM eduai.require_rate('slots:a', 't_slots'); EXCEPTION WHEN SQLSTATE 'UE002' THEN RAISE NOTICE '%', SQLERRM; END $$;
SELECT eduai.rate_release('slots:a', 't_slots');
SELECT remaining FROM eduai.rate_peek('slots:a', 't_slots');
SELECT eduai.rate_release('slots:a', 't_slots', slots => 10), eduai.rate_release('slots:a', 't_slots'), eduai.rate_release('slots:none', 't_slots');
SELECT remaining FROM eduai.rate_peek('slots:a', 't_slots');
-- kept by a rollback
BEGIN;
SELECT eduai.rate_ok('slots:a', 't_slots');
ROLLBACK;
SELECT remaining FROM eduai.rate_peek('slots:a', 't_slots');
-- another session gives back what this one took, and its end gives back its own
SELECT eduai.rate_ok('slots:a', 't_slots');
\c -
SELECT eduai.rate_ok('slots:a', 't_slots', 3);
\c -
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + '10 s';
BEGIN
	WHILE (SELECT remaining FROM eduai.rate_peek('slots:a', 't_slots')) < 3 AND clock_timestamp() < deadline LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT remaining FROM eduai.rate_peek('slots:a', 't_slots');
-- a refund and a reset give slots back
SELECT eduai.rate_ok('slots:b', 't_slots', 3), eduai.rate_refund('slots:b', 't_slots', 2);
SELECT remaining FROM eduai.rate_peek('slots:b', 't_slots');
SELECT eduai.rate_reset('slots:b');
SELECT remaining FROM eduai.rate_peek('slots:b', 't_slots');
-- with other limits: all or nothing
SELECT eduai.rate_ok('slots:c', 't_slots', 2), eduai.rate_ok('slots:c', cost => 100);
SELECT allowed, bound_by, tier FROM eduai.rate_limit_all('{slots:d,slots:c}', '{t_slots,public}');
SELECT remaining FROM eduai.rate_peek('slots:d', 't_slots');
-- a tier that is no concurrency tier any more: what is held can be given back
SELECT eduai.define_tier('t_slots', 5, '1 hour');
SELECT eduai.rate_ok('slots:c', 't_slots', 5), eduai.rate_ok('slots:c', 't_slots');
SELECT eduai.rate_release('slots:c', 't_slots', slots => 2);
SELECT eduai.rate_release('slots:c', 't_slots');
SELECT eduai.rate_reset('slots:c'), eduai.drop_tier('t_slots');
