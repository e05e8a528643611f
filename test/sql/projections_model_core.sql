-- The learner model's core, by hand: what it says of an answer before it learns
-- from it. test_learner_model() fails when predict() and update() differ in a bit.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.says(users text[], skills text[], items text[], correct boolean[], hours numeric[])
	RETURNS TABLE (n bigint, bkt numeric, elo numeric, logistic numeric, blend numeric, known numeric)
	LANGUAGE sql AS $$
	SELECT n, round(m.bkt::numeric, 6), round(m.elo::numeric, 6), round(m.logistic::numeric, 6),
		round(m.blend::numeric, 6), round(m.known::numeric, 6)
	FROM eduai.test_learner_model(users, skills, items, correct,
		ARRAY(SELECT timestamptz '2025-01-01 UTC' + h * interval '1 hour' FROM unnest(hours) WITH ORDINALITY u (h, i) ORDER BY i))
		WITH ORDINALITY AS m (bkt, elo, logistic, blend, known, n)
	ORDER BY n
$$;

-- Nothing is known. Share 2/3: slip 0.4/3, guess 0.5 * 2/3, init (2/3 - guess) / (1 - slip - guess) = 0.625,
-- so BKT says 2/3. Elo says 1/2. The logistic model starts with 0.5 * logit(2/3) for the item
-- and 0.3 * logit(2/3) for the latest answers: logit 0.8 * ln 2. The blend is the logistic model.
SELECT * FROM pg_temp.says('{ana}', '{sums}', '{s1}', '{t}', '{0}');
SELECT round(1 / (1 + exp(-0.8 * ln(2::numeric))), 6);
-- known: 0.625 * (1 - slip) = 0.541667 and 0.375 * guess = 0.125 give 0.8125; learnt: + 0.1 * 0.1875
SELECT 0.8125 + 0.1 * 0.1875;
-- wrong: 0.625 * slip = 0.083333 and 0.375 * (2/3) = 0.25 give 0.25; learnt: + 0.1 * 0.75
SELECT known FROM pg_temp.says('{ana}', '{sums}', '{s1}', '{f}', '{0}');

-- Elo: a right answer that had 1/2 moves the learner by 0.2, the pair, the skill and the item by 0.25:
-- the same again has logit 0.95; another learner 0.5; another item 0.7; another skill and item 0.2
SELECT n, elo FROM pg_temp.says('{ana,ana}', '{sums,sums}', '{s1,s1}', '{t,t}', '{0,0}');
SELECT n, elo FROM pg_temp.says('{ana,ben}', '{sums,sums}', '{s1,s1}', '{t,t}', '{0,0}');
SELECT n, elo FROM pg_temp.says('{ana,ana}', '{sums,sums}', '{s1,s2}', '{t,t}', '{0,0}');
SELECT n, elo FROM pg_temp.says('{ana,ana}', '{sums,maps}', '{s1,m1}', '{t,t}', '{0,0}');
SELECT round(1 / (1 + exp(-x)), 6) FROM unnest(ARRAY[0.95, 0.5, 0.7, 0.2]) AS x;
-- the second step of each is smaller: 0.4 / 1.03 and so on, times 1 - 0.721115
SELECT n, elo FROM pg_temp.says('{ana,ana,ana}', '{sums,sums,sums}', '{s1,s1,s1}', '{t,t,t}', '{0,0,0}') WHERE n = 3;
SELECT round((1 / (1 + exp(-(0.95 + (1 - 1 / (1 + exp(-0.95))) * (0.4 / 1.03 + 0.5 / 1.1 + 0.5 / 1.02 + 0.5 / 1.1)))))::numeric, 6);

-- Forgetting counts whole days: 0.995 of what is known for each, at most 365 of them;
-- an answer that claims to be earlier than the one before comes right after it
SELECT h, bkt FROM unnest(ARRAY[0, 23.9, 24, 47, 48, 24 * 365, 24 * 3650, -100]) AS h,
	pg_temp.says('{ana,ana}', '{sums,sums}', '{s1,s2}', '{t,t}', ARRAY[0, h]) WHERE n = 2 ORDER BY h;
-- after one right answer the share is (1 + 10/3) / 6, and slip and guess go with it
SELECT round(k * (1 - 0.4 * (1 - s)) + (1 - k) * 0.5 * s, 6) FROM (SELECT (1 + 10 / 3.0) / 6 AS s) AS share,
	unnest(ARRAY[0.83125, 0.83125 * 0.995, 0.83125 * 0.995 * 0.995]) AS k;
-- a long time without an answer says something to the logistic model, too, seconds next to nothing
SELECT h, logistic FROM unnest(ARRAY[0, 0.005, 240]) AS h,
	pg_temp.says('{ana,ana,ana}', '{sums,sums,sums}', '{s1,s2,s3}', '{t,f,t}', ARRAY[0, 1000, 1000 + h]) WHERE n = 3 ORDER BY h;

-- What is unknown is as new: NULLs change nothing of others
SELECT * FROM pg_temp.says('{NULL}', '{NULL}', '{NULL}', '{t}', '{0}');
SELECT n, bkt, elo FROM pg_temp.says('{ana,NULL,ana}', '{sums,NULL,NULL}', '{s1,NULL,NULL}', '{t,t,t}', '{0,0,0}');
SELECT count(*) FROM pg_temp.says('{ana,ana,NULL,NULL,ana}', '{sums,NULL,sums,NULL,sums}', '{NULL,s1,s1,NULL,NULL}', '{t,f,t,f,t}', '{0,1,2,3,4}');

-- More right answers, a better prediction, in each model; wrong ones the other way
SELECT c, bool_and(bkt_up), bool_and(elo_up), bool_and(logistic_up), bool_and(blend_up)
FROM (VALUES (true), (false)) AS v (c), LATERAL (
	SELECT (bkt > lag(bkt) OVER w) = c AS bkt_up, (elo > lag(elo) OVER w) = c AS elo_up,
		(logistic > lag(logistic) OVER w) = c AS logistic_up, (blend > lag(blend) OVER w) = c AS blend_up
	FROM pg_temp.says(array_fill('ana'::text, ARRAY[12]), array_fill('sums'::text, ARRAY[12]),
		ARRAY(SELECT 's' || i FROM generate_series(1, 12) i), array_fill(c, ARRAY[12]), array_fill(0.0, ARRAY[12]))
	WINDOW w AS (ORDER BY n)) AS steps
GROUP BY c ORDER BY c;

-- No prediction is surer than 0.001, whatever comes
SELECT c, count(*), min(least(bkt, elo, logistic, blend)) >= 0.001, max(greatest(bkt, elo, logistic, blend)) <= 0.999,
	bool_or('NaN' IN (bkt, elo, logistic, blend, known))
FROM (VALUES (true), (false)) AS v (c), pg_temp.says(array_fill('ana'::text, ARRAY[5000]), array_fill('sums'::text, ARRAY[5000]),
	array_fill('s1'::text, ARRAY[5000]), array_fill(c, ARRAY[5000]), array_fill(0.0, ARRAY[5000]))
GROUP BY c ORDER BY c;
SELECT count(*), bool_or('NaN' IN (bkt, elo, logistic, blend, known)) FROM eduai.test_learner_model('{ana,ana,ana,ana}', '{a,a,a,a}', '{NULL,NULL,NULL,NULL}',
	'{t,f,t,f}', '{-infinity,infinity,-infinity,2025-01-01}');

-- The same answers give the same states, bit by bit; in another order they need not
CREATE TEMP TABLE answer AS
	SELECT i, 'u' || i * 7 % 11 AS u, 's' || i * 5 % 7 AS s, CASE WHEN i % 5 > 0 THEN 'i' || i % 40 END AS it,
		(i * i + i / 3) % 10 < 6 AS c, timestamptz '2025-01-01 UTC' + (i * 37 % 1000) * interval '1 hour' AS at
	FROM generate_series(1, 600) AS i;
CREATE FUNCTION pg_temp.digest(descending boolean) RETURNS text LANGUAGE sql AS $$
	SELECT md5(string_agg(concat_ws(' ', m.*), ';')) FROM (
		SELECT array_agg(u ORDER BY k) AS u, array_agg(s ORDER BY k) AS s, array_agg(it ORDER BY k) AS it,
			array_agg(c ORDER BY k) AS c, array_agg(at ORDER BY k) AS at
		FROM (SELECT *, CASE WHEN descending THEN -i ELSE i END AS k FROM answer) AS a) AS a,
		LATERAL eduai.test_learner_model(u, s, it, c, at) AS m
$$;
SELECT pg_temp.digest(false) = pg_temp.digest(false), pg_temp.digest(false) = pg_temp.digest(true);

\set VERBOSITY sqlstate
SELECT * FROM eduai.test_learner_model('{ana}', '{a,b}', '{NULL}', '{t}', '{2025-01-01}');
