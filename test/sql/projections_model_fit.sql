-- Fitting Bayesian knowledge tracing: simulated learners give their parameters back.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_proj_fit;
GRANT eduai_admin, eduai_app TO regress_proj_fit;
SELECT eduai.allow_tenant('regress_proj_fit', 'proj_fit');
SELECT eduai.allow_tenant(current_user::text, 'proj_fit');

-- Learners by a generator of its own: the same answers on every server. A learner
-- forgets on each day that has passed, learns right after an answer.
CREATE FUNCTION pg_temp.simulate(learners int, n int, p_init float8, p_learn float8, p_slip float8, p_guess float8, p_forget float8,
		OUT learner int, OUT place int, OUT days int, OUT correct boolean)
	RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	x bigint := 20250101;
	known boolean;
	u float8;
BEGIN
	FOR l IN 1..learners LOOP
		FOR i IN 1..n LOOP
			x := x * 48271 % 2147483647;
			days := CASE WHEN i = 1 OR x % 3 > 0 THEN 0 ELSE x % 20 END;
			x := x * 48271 % 2147483647;
			IF i = 1 THEN
				known := x / 2147483647.0 < p_init;
			ELSIF NOT known THEN
				known := x / 2147483647.0 < p_learn;
			END IF;
			FOR d IN 1..days LOOP
				x := x * 48271 % 2147483647;
				known := known AND x / 2147483647.0 >= p_forget;
			END LOOP;
			x := x * 48271 % 2147483647;
			u := x / 2147483647.0;
			learner := l;
			place := i;
			correct := CASE WHEN known THEN u >= p_slip ELSE u < p_guess END;
			RETURN NEXT;
		END LOOP;
	END LOOP;
END $$;
CREATE TEMP TABLE truth (skill text, p_init float8, p_learn float8, p_slip float8, p_guess float8, p_forget float8);
INSERT INTO truth VALUES ('slow', 0.2, 0.05, 0.10, 0.20, 0.010), ('quick', 0.4, 0.30, 0.05, 0.30, 0.030), ('hard', 0.1, 0.15, 0.30, 0.10, 0.002);
CREATE TEMP TABLE simulated AS SELECT t.skill, s.* FROM truth t, pg_temp.simulate(1500, 12, p_init, p_learn, p_slip, p_guess, p_forget) s;
CREATE TEMP TABLE trace AS
	SELECT skill, f.* FROM (SELECT skill, array_agg(place = 1 ORDER BY learner, place) AS first, array_agg(days ORDER BY learner, place) AS days,
		array_agg(correct ORDER BY learner, place) AS correct FROM simulated GROUP BY skill) s,
		LATERAL eduai.test_fit_skill(first, days, correct, 100) WITH ORDINALITY AS f (objective, p_init, p_learn, p_slip, p_guess, p_forget, round);

-- each parameter within 0.05, the daily loss within 0.01; it got better in every round, until it could not
SELECT t.skill, abs(f.p_init - t.p_init) < 0.05, abs(f.p_learn - t.p_learn) < 0.05, abs(f.p_slip - t.p_slip) < 0.05,
	abs(f.p_guess - t.p_guess) < 0.05, abs(f.p_forget - t.p_forget) < 0.01
FROM truth t JOIN trace f USING (skill) WHERE round = 100 ORDER BY t.skill;
SELECT skill, count(*) FILTER (WHERE better < -1e-7) AS worse, count(*) FILTER (WHERE round <= 10 AND better > 0) AS first_rounds, max(better) FILTER (WHERE round = 100) < 1e-3
FROM (SELECT skill, round, objective - lag(objective) OVER (PARTITION BY skill ORDER BY round) AS better FROM trace) AS b GROUP BY skill ORDER BY skill;

-- It is the likelihood of the answers, of one that is right with the start (share (1 + 10/3) / 6 = 13/18:
-- slip 1/9, guess 13/36, init so that the first answers come out), and that of the prior's four answers
SELECT round(objective::numeric, 9), round((ln(f) + 4 * (SELECT sum(p * ln(p) + (1 - p) * ln(1 - p)) FROM unnest(ARRAY[i, 0.1, 1 / 9.0, 13 / 36.0, 0.005]) AS p))::numeric, 9)
FROM eduai.test_fit_skill('{t}', '{0}', '{t}', 1), LATERAL (SELECT (1 + 5 * 13 / 18.0) / 6 AS f) AS f,
	LATERAL (SELECT (f - 13 / 36.0) / (1 - 1 / 9.0 - 13 / 36.0) AS i) AS i;

-- The bounds: whatever the answers, slip and guess stay below a half and nothing is certain
SELECT c, round(p_init::numeric, 3), round(p_learn::numeric, 3), round(p_slip::numeric, 3), round(p_guess::numeric, 3), round(p_forget::numeric, 5)
FROM unnest(ARRAY[true, false]) AS c, LATERAL (SELECT * FROM eduai.test_fit_skill(
	ARRAY(SELECT i % 10 = 0 FROM generate_series(0, 1999) i), array_fill(1, ARRAY[2000]), array_fill(c, ARRAY[2000]), 200) WITH ORDINALITY ORDER BY ordinality DESC LIMIT 1) AS f
ORDER BY c;
SELECT count(*), bool_or('NaN' IN (objective, p_init, p_learn, p_slip, p_guess, p_forget)) FROM eduai.test_fit_skill(
	ARRAY(SELECT i = 0 FROM generate_series(0, 19999) i), ARRAY(SELECT i % 366 FROM generate_series(0, 19999) i), ARRAY(SELECT i / 5000 % 2 = 0 FROM generate_series(0, 19999) i), 5);
SELECT count(*) FROM eduai.test_fit_skill('{}', '{}', '{}', 2);

-- ---- from the log ----
SET ROLE regress_proj_fit;
SET eduai.tenant = 'proj_fit';
SELECT eduai.fit_learner_model();
RESET ROLE;
-- 25 learners in "enough", 19 in "few", 25 with too few answers in "short"; days as in the log's times
CREATE TEMP TABLE logged AS
	SELECT k.skill, 'learner-' || s.learner AS who, s.place, s.correct,
		timestamptz '2025-01-01 UTC' + sum(days) OVER (PARTITION BY k.skill, learner ORDER BY place) * interval '24 hours' AS at
	FROM (VALUES ('enough', 25, 12), ('few', 19, 12), ('short', 25, 3)) AS k (skill, learners, n), simulated s
	WHERE s.skill = 'quick' AND s.learner <= k.learners AND s.place <= k.n;
GRANT SELECT ON logged TO regress_proj_fit;
SET ROLE regress_proj_fit;
SELECT eduai.append_batch(array_agg(who), array_agg('exercise_attempted'::text), array_agg(jsonb_build_object('correct', correct, 'skill', skill)),
	array_agg(who), occurred_at => array_agg(at)) FROM (SELECT * FROM logged ORDER BY place, who, skill) AS l;
-- twice in a transaction, in which no follower moves: the second replaces the first
BEGIN;
SELECT eduai.fit_learner_model();
SELECT eduai.fit_learner_model();
COMMIT;
RESET ROLE;
SELECT skill, answers, learners, rounds BETWEEN 2 AND 100,
	from_position > (SELECT max("position") FROM eduai.read_all(max_count => 10000)) FROM eduai.model_parameters WHERE tenant_id = 'proj_fit';
-- what is stored is what the core says of these answers, but for the rounding of sums in another order
SELECT p.rounds, abs(p.p_init - f.p_init) + abs(p.p_learn - f.p_learn) + abs(p.p_slip - f.p_slip) + abs(p.p_guess - f.p_guess) + abs(p.p_forget - f.p_forget) < 1e-6 AS same
FROM eduai.model_parameters p, (SELECT array_agg(place = 1 ORDER BY learner, place) AS first, array_agg(days ORDER BY learner, place) AS days,
	array_agg(correct ORDER BY learner, place) AS correct FROM simulated WHERE skill = 'quick' AND learner <= 25) s,
	LATERAL eduai.test_fit_skill(first, days, correct, 100) WITH ORDINALITY AS f (objective, p_init, p_learn, p_slip, p_guess, p_forget, round)
WHERE p.tenant_id = 'proj_fit' AND p.skill = 'enough' AND f.round = p.rounds;

-- Fitted again after another answer: older rows stay
SET ROLE regress_proj_fit;
SELECT eduai.publish_event('exercise_attempted', 'learner-1', NULL, '{"correct": true, "skill": "enough"}') IS NOT NULL;
SELECT eduai.fit_learner_model();
SELECT answers, rank() OVER (ORDER BY from_position) FROM eduai.model_parameters ORDER BY from_position;
-- and it holds for what comes after it, not for what it was fitted to
SELECT count(DISTINCT eval), count(*) FROM (SELECT eduai.learner_model_eval()::text AS eval FROM generate_series(1, 2)) AS e;
CREATE TEMP TABLE before AS SELECT * FROM eduai.learner_model_eval();
RESET ROLE;
CREATE TEMP TABLE kept AS SELECT * FROM eduai.model_parameters WHERE tenant_id = 'proj_fit';
DELETE FROM eduai.model_parameters WHERE tenant_id = 'proj_fit' AND answers = 301;
SET ROLE regress_proj_fit;
SELECT b.answers, b.bkt_log_loss = e.bkt_log_loss FROM before b, eduai.learner_model_eval() e;
RESET ROLE;
DELETE FROM eduai.model_parameters WHERE tenant_id = 'proj_fit';
SET ROLE regress_proj_fit;
SELECT b.answers, b.bkt_log_loss = e.bkt_log_loss, b.elo_log_loss = e.elo_log_loss FROM before b, eduai.learner_model_eval() e;

-- a transaction that ends otherwise leaves none
BEGIN;
SELECT eduai.fit_learner_model();
ROLLBACK;
SELECT count(*) FROM eduai.model_parameters;

\set VERBOSITY sqlstate
BEGIN READ ONLY;
SELECT eduai.fit_learner_model();
ROLLBACK;
RESET ROLE;
CREATE ROLE regress_proj_fit_app;
GRANT eduai_app, eduai_reader TO regress_proj_fit_app;
SET ROLE regress_proj_fit_app;
SELECT eduai.fit_learner_model();
RESET ROLE;
SELECT * FROM eduai.test_fit_skill('{t}', '{0,1}', '{t}', 1);
SELECT * FROM eduai.test_fit_skill('{t}', '{366}', '{t}', 1);
SELECT eduai.disallow_tenant(current_user::text, 'proj_fit');
