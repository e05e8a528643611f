-- An hour slid over the log of what each tier admitted, its clock moved by the
-- test: no hour in it has more than the limit.
\pset format unaligned
\pset tuples_only on
CREATE TEMP TABLE admitted (tier text, at_s double precision, cost int);
CREATE FUNCTION pg_temp.at(s double precision) RETURNS void LANGUAGE sql AS
	$$SELECT eduai.test_clock(make_interval(secs => s))$$;

-- 24 hours of calls, at edges of sub-buckets and hours, in bursts and at random
DO $$
DECLARE
	s double precision := 0;
	n int;
	allowed boolean;
	t text;
	lim int;
BEGIN
	PERFORM setseed(0.42);
	FOR step IN 1 .. 300 LOOP
		s := s + CASE (random() * 6)::int
			WHEN 0 THEN 0
			WHEN 1 THEN 60 - (s::numeric % 60)::double precision - 0.001 + random() * 0.002
			WHEN 2 THEN 3600 - (s::numeric % 3600)::double precision - 0.001 + random() * 0.002
			WHEN 3 THEN 59
			ELSE random() * 300 END;
		PERFORM pg_temp.at(s);
		FOREACH t IN ARRAY '{public,authenticated,premium}'::text[] LOOP
			lim := CASE t WHEN 'public' THEN 100 WHEN 'authenticated' THEN 1000 ELSE 5000 END;
			FOR i IN 1 .. 6 LOOP
				n := 1 + (random() * lim / 12)::int;
				IF eduai.rate_ok('hour:1', t, n) THEN
					INSERT INTO admitted VALUES (t, s, n);
				END IF;
			END LOOP;
		END LOOP;
	END LOOP;
	RAISE NOTICE 'over % hours', (s > 20 * 3600)::text;
END $$;
-- the largest hour that ends at an admission, beside the limit: close to it, never over
SELECT tier, max(sum) <= max(lim), max(sum) > max(lim) * 0.95, count(*) > 200 FROM (
	SELECT tier, sum(cost) OVER (PARTITION BY tier ORDER BY at_s RANGE BETWEEN 3599.999 PRECEDING AND CURRENT ROW),
		CASE tier WHEN 'public' THEN 100 WHEN 'authenticated' THEN 1000 ELSE 5000 END AS lim
	FROM admitted) w GROUP BY 1 ORDER BY 1;
-- a clock set back opens nothing: what was consumed counts on
SELECT eduai.rate_ok('hour:2', cost => 100);
SELECT pg_temp.at(0);
SELECT eduai.rate_ok('hour:2');
SELECT eduai.rate_reset('hour:1'), eduai.rate_reset('hour:2');
