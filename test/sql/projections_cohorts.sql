-- Cohorts, and what a teacher sees of them.
\pset format unaligned
\pset tuples_only on
\pset null NULL
CREATE ROLE regress_proj_cohorts;
CREATE ROLE regress_proj_teacher;
GRANT eduai_app TO regress_proj_cohorts;
GRANT eduai_reader TO regress_proj_teacher;
SELECT eduai.allow_tenant(r, t) FROM unnest(ARRAY['regress_proj_cohorts', 'regress_proj_teacher']::name[]) r,
	unnest(ARRAY['proj_cohorts', 'proj_cohorts_2']) t;
SET ROLE regress_proj_cohorts;
SET eduai.tenant = 'proj_cohorts';
-- n answers at a skill, of which k are correct, days ago; the mastery is the last one's score
CREATE FUNCTION pg_temp.answers(who text, skill text, n int, k int, score numeric, days numeric DEFAULT 0) RETURNS bigint LANGUAGE sql AS $$
	SELECT eduai.append_batch(array_fill('learner-' || who, ARRAY[n]), array_fill('exercise_attempted'::text, ARRAY[n]),
		array_agg(jsonb_build_object('skill', skill, 'correct', i <= k, 'score', score)), array_fill(who, ARRAY[n]),
		occurred_at => array_fill(now() - days * interval '1 day', ARRAY[n])) FROM generate_series(1, n) i $$;
CREATE FUNCTION pg_temp.class(cohort text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws('|', user_id, level, mastered, attempts, coalesce(round(success_rate::numeric, 3)::text, 'NULL'),
		coalesce((last_activity > now() - interval '1 hour')::text, 'never'), at_risk, weakest_skills)
	FROM eduai.class_overview(cohort) $$;

-- nothing yet
SELECT count(*) FROM eduai.class_overview('6b');
SELECT count(*) FROM eduai.cohort_overview();
SELECT count(*) FROM eduai.at_risk_learners();

-- members, in the order of their names, each once; learners without events have the first state
SELECT eduai.set_cohort('6b', '{cleo,ana,ben,ana,zoe}');
SELECT * FROM eduai.class_overview('6b');
SELECT pg_temp.answers('ana', 'sums', 4, 4, 0.9), pg_temp.answers('ana', 'maps', 4, 2, 0.5);
SELECT eduai.publish_event('skill_mastered', 'ana', NULL, '{"skill": "sums"}') IS NOT NULL;
SELECT eduai.publish_event('difficulty_adjusted', 'ana', NULL, '{"new_level": "CE2"}') IS NOT NULL;
SELECT eduai.publish_event('difficulty_adjusted', 'ben', NULL, '{"new_level": 2.5}') IS NOT NULL;
SELECT pg_temp.class('6b');

-- weakest: up to three with the lowest mastery below 0.8, equal ones by name
SELECT pg_temp.answers('ben', s, 1, 1, m) FROM (VALUES ('ten', 0.3), ('a', 0.3), ('abc', 0.3), ('b', 0.2), ('c', 0.8), ('d', 0.79)) v (s, m);
SELECT weakest_skills FROM eduai.class_overview('6b') WHERE user_id = 'ben';
SELECT pg_temp.answers('ben', s, 1, 1, 1) FROM unnest('{b,a}'::text[]) s;
SELECT weakest_skills FROM eduai.class_overview('6b') WHERE user_id = 'ben';

SELECT pg_temp.answers('ben', s, 1, 1, 1) FROM unnest('{abc,ten}'::text[]) s;
SELECT weakest_skills FROM eduai.class_overview('6b') WHERE user_id = 'ben';

-- at risk: fewer than half correct, of five at least; no event for long; none at all
SELECT pg_temp.answers('cleo', 'f', 4, 0, 0.1);
SELECT at_risk, success_rate FROM eduai.class_overview('6b') WHERE user_id = 'cleo';
SELECT pg_temp.answers('cleo', 'f', 1, 0, 0.1);
SELECT at_risk, success_rate FROM eduai.class_overview('6b') WHERE user_id = 'cleo';
SELECT pg_temp.answers('cleo', 'f', 5, 5, 0.1);
SELECT at_risk, success_rate FROM eduai.class_overview('6b') WHERE user_id = 'cleo';
SELECT pg_temp.answers('dan', 'f', 6, 2, 0.1, 13.9), pg_temp.answers('eve', 'f', 6, 2, 0.1, 14.1), pg_temp.answers('finn', 'f', 6, 6, 0.1, 14.1);
SELECT eduai.set_cohort('6c', '{dan,eve,finn,ana}');
SELECT user_id, reasons, last_activity < now() - interval '14 days', round(success_rate::numeric, 3) FROM eduai.at_risk_learners('6c');
SELECT user_id, reasons FROM eduai.at_risk_learners('6b');
SELECT user_id, reasons FROM eduai.at_risk_learners();
SET eduai.at_risk_after = '15d';
SELECT user_id, reasons FROM eduai.at_risk_learners();
-- 0: nobody is inactive, not even without events
SET eduai.at_risk_after = 0;
SELECT user_id, reasons FROM eduai.at_risk_learners();
SELECT cohort, learners, active_learners, at_risk FROM eduai.cohort_overview();
RESET eduai.at_risk_after;

-- all cohorts
SELECT eduai.publish_event('exercise_completed', 'ana', NULL, '{"time_spent": 90.5}') IS NOT NULL,
	eduai.publish_event('exercise_completed', 'eve', NULL, '{"time_spent": 9.5}') IS NOT NULL;
SELECT cohort, learners, active_learners, mean_mastered, round(success_rate::numeric, 3), at_risk, total_time_spent,
	exercises_completed, last_activity > now() - interval '1 hour' FROM eduai.cohort_overview();
SELECT eduai.set_cohort('new', '{nobody}');
SELECT * FROM eduai.cohort_overview() WHERE cohort = 'new';
-- its figures are those of its rows
SELECT cohort, o.learners = r.learners, o.mean_mastered = r.mean_mastered, o.at_risk = r.at_risk, round((o.success_rate - r.success_rate)::numeric, 12),
	o.last_activity = r.last_activity
FROM eduai.cohort_overview() o, LATERAL (SELECT count(*) AS learners, avg(mastered)::float8 AS mean_mastered, count(*) FILTER (WHERE at_risk) AS at_risk,
	sum(success_rate * attempts) / sum(attempts) AS success_rate, max(last_activity) AS last_activity FROM eduai.class_overview(cohort)) r
	WHERE cohort <> 'new';

-- members are replaced; an empty array removes the cohort; a rollback takes the change along
SELECT eduai.set_cohort('6b', '{ben,new}');
SELECT user_id FROM eduai.class_overview('6b');
BEGIN;
SELECT eduai.set_cohort('6b', '{}');
SELECT eduai.publish_event('skill_mastered', 'dan', NULL, '{"skill": "f"}') IS NOT NULL;
SELECT count(*) FROM eduai.class_overview('6b');
SELECT mastered FROM eduai.class_overview('6c') WHERE user_id = 'dan';
ROLLBACK;
SELECT user_id FROM eduai.class_overview('6b');
SELECT mastered FROM eduai.class_overview('6c') WHERE user_id = 'dan';
SELECT eduai.set_cohort('6b', '{}');
SELECT cohort FROM eduai.cohort_overview();

-- many: pages end within a cohort, and between two
SELECT eduai.set_cohort('big', array_agg('pupil-' || i)) FROM generate_series(1, 2500) i;
SELECT eduai.append_batch(array_agg('learner-pupil-' || i), array_agg('exercise_attempted'::text), array_agg('{"skill": "f", "correct": true}'::jsonb),
	array_agg('pupil-' || i)) FROM generate_series(1, 2500, 2) i;
SELECT count(*), count(DISTINCT user_id), sum(attempts), count(*) FILTER (WHERE at_risk) FROM eduai.class_overview('big');
SELECT eduai.set_cohort('bigger', array_agg('pupil-' || i)) FROM generate_series(1, 1995) i;
SELECT cohort, learners, active_learners, at_risk FROM eduai.cohort_overview();
SELECT count(*), count(DISTINCT user_id), min(user_id COLLATE "C"), max(user_id COLLATE "C") FROM eduai.at_risk_learners();

-- a tenant's own
SET eduai.tenant = 'proj_cohorts_2';
SELECT count(*) FROM eduai.cohort_overview();
SELECT count(*) FROM eduai.at_risk_learners();
SELECT eduai.set_cohort('6c', '{ana,gwen}');
SELECT * FROM eduai.class_overview('6c');
SELECT eduai.set_cohort('6c', '{}');
SET eduai.tenant = 'proj_cohorts';
SELECT count(*) FROM eduai.class_overview('6c');

-- a reader looks and does not change; the table is nobody's
SET ROLE regress_proj_teacher;
SELECT count(*) FROM eduai.class_overview('6c');
SELECT count(*) FROM eduai.at_risk_learners('6c');
SELECT count(*) > 0 FROM eduai.cohort_overview();
\set VERBOSITY sqlstate
SELECT eduai.set_cohort('6c', '{}');
SELECT count(*) FROM eduai.cohort_member;
SET eduai.tenant = 'proj_cohorts_3';
SELECT count(*) FROM eduai.class_overview('6c');
SELECT count(*) FROM eduai.at_risk_learners();
SELECT count(*) FROM eduai.cohort_overview();
SET ROLE regress_proj_cohorts;
SELECT eduai.set_cohort('6c', '{}');
SET eduai.tenant = 'proj_cohorts';

-- bad input
SELECT eduai.set_cohort(NULL, '{}');
SELECT eduai.set_cohort('', '{}');
SELECT eduai.set_cohort(repeat('x', 513), '{}');
SELECT eduai.set_cohort('c', NULL);
SELECT eduai.set_cohort('c', '{ana,NULL}');
SELECT eduai.set_cohort('c', '{ana,""}');
SELECT eduai.set_cohort('c', '{{ana},{ben}}');
SELECT eduai.set_cohort('c', ARRAY(SELECT 'u' || n FROM generate_series(1, 10001) n));
SELECT * FROM eduai.class_overview(NULL);
SELECT * FROM eduai.class_overview('');
SELECT * FROM eduai.at_risk_learners(E'a\n');
SET eduai.at_risk_after = -1;
\set VERBOSITY default
-- removing a cohort leaves no row
SELECT eduai.set_cohort(c, '{}') FROM unnest('{6c,new,big,bigger}'::text[]) c;
RESET ROLE;
RESET eduai.tenant;
SELECT count(*) FROM eduai.cohort_member WHERE tenant_id LIKE 'proj_cohorts%';
DROP OWNED BY regress_proj_cohorts;
DROP ROLE regress_proj_cohorts, regress_proj_teacher;
