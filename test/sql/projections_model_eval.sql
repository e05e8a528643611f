-- learner_model_eval(): which events are answers, and figures that SQL computes, too.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_proj_eval;
GRANT eduai_admin, eduai_app TO regress_proj_eval;
SELECT eduai.allow_tenant('regress_proj_eval', 'proj_eval');
SELECT eduai.allow_tenant('regress_proj_eval', 'proj_eval_other');
SELECT eduai.allow_tenant(current_user::text, 'proj_eval');
SET ROLE regress_proj_eval;
SET eduai.tenant = 'proj_eval';

-- no answers
SELECT * FROM eduai.learner_model_eval();

-- one: 1 / (1 + 2^-0.8) was said (projections_model_core)
SELECT eduai.append_event('ana', 'exercise_attempted', '{"correct": true, "skill": "sums"}', 'ana', occurred_at => '2025-01-01 10:00Z') IS NOT NULL;
SELECT answers, auc IS NULL, round(rmse::numeric, 6), round(log_loss::numeric, 6), round(calibration_error::numeric, 6), bkt_auc IS NULL,
	round(bkt_log_loss::numeric, 6), round(elo_log_loss::numeric, 6), round(skill_mean_log_loss::numeric, 6) FROM eduai.learner_model_eval();
SELECT round(1 - p, 6), round(-ln(p), 6), round(1 - p, 6), round(-ln(2 / 3.0), 6), round(ln(2.0), 6), round(ln(2.0), 6) FROM (SELECT 1 / (1 + 2 ^ -0.8) AS p) AS p;

-- what is an answer: of a learner, with a boolean and a skill's name (the count is of those before: what is
-- appended has its place in the feed once it is committed)
CREATE FUNCTION pg_temp.counts(who text, data jsonb) RETURNS bigint LANGUAGE sql AS $$
	SELECT eduai.append_event('stream', 'anything', data, who, occurred_at => '2020-01-01Z');
	SELECT answers FROM eduai.learner_model_eval(NULL, '2020-01-02Z')
$$;
SELECT pg_temp.counts('x', '{"correct": true}');
SELECT pg_temp.counts('x', '{"correct": 1, "skill": "a"}');
SELECT pg_temp.counts('x', '{"correct": "true", "skill": "a"}');
SELECT pg_temp.counts('x', '{"correct": true, "skill": 7}');
SELECT pg_temp.counts('x', '{"correct": true, "skill": ""}');
SELECT pg_temp.counts('x', '{"skill": "a", "score": 1}');
SELECT pg_temp.counts('x', jsonb_build_object('correct', true, 'skill', repeat('s', 513)));
SELECT pg_temp.counts(NULL, '{"correct": true, "skill": "a"}');
SELECT pg_temp.counts('x', '{"correct": true, "skill": "a"}');
SELECT pg_temp.counts('x', '{"correct": false, "skill_name": "a"}');
SELECT pg_temp.counts('x', '{"correct": false, "skill": "a", "skill_name": 7, "item": 7}');
SELECT pg_temp.counts('x', '{"correct": false, "skill": "b", "skill_name": "a", "exercise": "7"}');
SELECT pg_temp.counts('x', jsonb_build_object('correct', true, 'skill', repeat('s', 512), 'item', repeat('i', 513)));
-- one skill, whichever key names it: a is right, wrong, wrong, wrong, told from 1 (the share of all), 1, 1/2 and 1/3;
-- the last skill is told from 2/5 of all
SELECT round(skill_mean_log_loss::numeric, 6), round((-ln(0.999) - ln(0.001) - ln(0.5) - ln(1 - 1 / 3.0) - ln(0.4)) / 5, 6)
FROM eduai.learner_model_eval(NULL, '2020-01-02Z');

-- ---- against SQL ----
SET eduai.tenant = 'proj_eval_other';
RESET ROLE;
CREATE TEMP TABLE answer AS
	SELECT i, 'u' || i * 7 % 13 AS who, 's' || i * 5 % 7 AS skill, CASE WHEN i % 5 > 0 THEN 'item-' || i % 8 END AS item,
		(i * i + i / 3 + i * 7 % 13) % 10 < 6 AS correct, timestamptz '2025-01-01 UTC' + (i * 37 % 1000) * interval '1 hour' AS at
	FROM generate_series(1, 400) AS i;
GRANT SELECT ON answer TO regress_proj_eval;
SET ROLE regress_proj_eval;
SELECT eduai.append_batch(array_agg(who), array_agg('quiz'::text), array_agg(jsonb_build_object('correct', correct, 'skill', skill, 'item', item)),
	array_agg(who), occurred_at => array_agg(at)) FROM (SELECT * FROM answer ORDER BY i) AS a;
RESET ROLE;
CREATE TEMP TABLE said AS
	SELECT a.*, m.bkt, m.elo, m.logistic, m.blend, coalesce(last, share, 0.5) AS last_outcome, coalesce(mean, share, 0.5) AS skill_mean
	FROM (SELECT *, lag(correct::int) OVER (PARTITION BY who, skill ORDER BY i)::float8 AS last,
			avg(correct::int) OVER (PARTITION BY skill ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)::float8 AS mean,
			avg(correct::int) OVER (ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)::float8 AS share FROM answer) AS a
	JOIN (SELECT m.* FROM (SELECT array_agg(who ORDER BY i) AS u, array_agg(skill ORDER BY i) AS s, array_agg(item ORDER BY i) AS it,
		array_agg(correct ORDER BY i) AS c, array_agg(at ORDER BY i) AS at FROM answer) AS a,
		LATERAL eduai.test_learner_model(u, s, it, c, at) WITH ORDINALITY AS m (bkt, elo, logistic, blend, known, n)) AS m ON m.n = a.i;
GRANT SELECT ON said TO regress_proj_eval;
SET ROLE regress_proj_eval;
-- pairs of a right and a wrong answer; ties count half
CREATE FUNCTION pg_temp.expected(since timestamptz, until timestamptz) RETURNS eduai.model_eval LANGUAGE sql AS $$
	WITH w AS (SELECT * FROM said WHERE at >= coalesce(since, '-infinity') AND (at < until OR until IS NULL)),
	area AS (SELECT avg(sign(a.blend - b.blend)) AS blend, avg(sign(a.last_outcome - b.last_outcome)) AS last_outcome, avg(sign(a.skill_mean - b.skill_mean)) AS skill_mean,
		avg(sign(a.bkt - b.bkt)) AS bkt, avg(sign(a.elo - b.elo)) AS elo, avg(sign(a.logistic - b.logistic)) AS logistic
		FROM w a JOIN w b ON a.correct AND NOT b.correct),
	loss AS (SELECT count(*) AS n, sqrt(avg((blend - correct::int) ^ 2)) AS rmse,
		avg(-ln(least(greatest(1 - abs(blend - correct::int), 0.001), 0.999))) AS blend, avg(-ln(least(greatest(1 - abs(skill_mean - correct::int), 0.001), 0.999))) AS skill_mean,
		avg(-ln(1 - abs(bkt - correct::int))) AS bkt, avg(-ln(1 - abs(elo - correct::int))) AS elo, avg(-ln(1 - abs(logistic - correct::int))) AS logistic FROM w),
	bins AS (SELECT sum(abs(gap)) / (SELECT n FROM loss) AS calibration FROM (SELECT sum(blend - correct::int) AS gap FROM w GROUP BY floor(blend * 15)) AS b)
	SELECT ROW(l.n, (1 + a.blend) / 2, l.rmse, l.blend, b.calibration, (1 + a.last_outcome) / 2, (1 + a.skill_mean) / 2, (1 + a.bkt) / 2, (1 + a.elo) / 2, (1 + a.logistic) / 2,
		l.skill_mean, l.bkt, l.elo, l.logistic)::eduai.model_eval FROM area a, loss l, bins b
$$;
SELECT count(*), string_agg(name, ' ') FILTER (WHERE NOT coalesce(abs(e.value::numeric - x.value::numeric) < 1e-9, false)) AS differ
FROM (VALUES (NULL::timestamptz, NULL::timestamptz), ('2025-01-10Z', NULL), (NULL, '2025-01-10Z'), ('2025-01-05Z', '2025-02-01Z')) AS v (since, until),
	LATERAL (SELECT to_jsonb(eduai.learner_model_eval(since, until)) AS got, to_jsonb(pg_temp.expected(since, until)) AS want) AS j,
	LATERAL jsonb_each_text(got) AS e (name, value) JOIN LATERAL jsonb_each_text(want) AS x (name, value) USING (name);
SELECT answers, round(auc::numeric, 4), round(last_outcome_auc::numeric, 4), round(skill_mean_auc::numeric, 4) FROM eduai.learner_model_eval();
SELECT answers, (SELECT count(*) FROM said WHERE at < '2025-01-10Z') FROM eduai.learner_model_eval(NULL, '2025-01-10Z');
SELECT answers FROM eduai.learner_model_eval('2030-01-01Z');
-- the first answer is within since, one at until is not
SELECT answers FROM eduai.learner_model_eval('2025-01-02 13:00Z', '2025-01-02 13:00Z');
SELECT answers, auc IS NULL FROM eduai.learner_model_eval('2025-01-02 13:00Z', '2025-01-02 13:00:00.000001Z');
-- a clock that is ahead: the answer counts as given when it was recorded
SELECT eduai.append_event('late', 'quiz', '{"correct": true, "skill": "s1"}', 'late', occurred_at => now() + interval '2 minutes') IS NOT NULL;
SELECT answers FROM eduai.learner_model_eval(now() - interval '1 hour', clock_timestamp());

\set VERBOSITY sqlstate
RESET ROLE;
CREATE ROLE regress_proj_eval_app;
GRANT eduai_app, eduai_reader TO regress_proj_eval_app;
SET ROLE regress_proj_eval_app;
SELECT answers FROM eduai.learner_model_eval();
RESET ROLE;
SET ROLE regress_proj_eval;
SET eduai.tenant = 'proj_eval_none';
SELECT answers FROM eduai.learner_model_eval();
RESET ROLE;
SELECT eduai.disallow_tenant(current_user::text, 'proj_eval');
