-- Statistics of skills and exercises equal what the log says.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY sqlstate
CREATE ROLE regress_proj_statistics;
CREATE ROLE regress_proj_statistics_reader;
GRANT eduai_app TO regress_proj_statistics;
GRANT eduai_reader TO regress_proj_statistics_reader;
SELECT eduai.allow_tenant('regress_proj_statistics', t) FROM unnest(ARRAY['proj_statistics', 'proj_statistics_b']) t;
SELECT eduai.allow_tenant('regress_proj_statistics_reader', 'proj_statistics');
-- waits until the learner model has followed all events of the tenant
CREATE FUNCTION pg_temp.wait_for(tenant text, upto bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + '60 s';
BEGIN
	WHILE NOT EXISTS (SELECT FROM eduai.projection_position p
			WHERE p.tenant_id = tenant AND p.projection = 2 AND p.position >= upto
			AND p.generation = coalesce((SELECT live FROM eduai.projection_generation WHERE projection = 2), 1)) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE 'the learner model does not follow';
		END IF;
		PERFORM pg_sleep(0.005);
	END LOOP;
END $$;
CREATE FUNCTION pg_temp.followed() RETURNS void LANGUAGE sql AS
	'SELECT pg_temp.wait_for(eduai.current_tenant(), max("position")) FROM eduai.read_all(max_count => 10000)';
SET ROLE regress_proj_statistics;
SET eduai.tenant = 'proj_statistics';
SELECT count(*) FROM eduai.skill_statistics();
SELECT count(*) FROM eduai.exercise_statistics();

-- by hand; a time of nothing, below it or above a day does not count
SELECT max(version) FROM (VALUES ('ana', true, '{"item": "a", "time_spent": 10}'), ('ana', false, '{"item": "a", "time_spent": 20.5}'),
	('ben', true, '{"item": "a", "time_spent": 0}'), ('ben', true, '{"item": "b", "time_spent": -3}'),
	('cleo', false, '{"time_spent": 90000}'), ('cleo', false, '{"time_spent": "9"}')) v (who, correct, data),
	eduai.append_event('s', 'exercise_attempted', jsonb_build_object('skill', 'sums', 'correct', correct) || data::jsonb, who,
		occurred_at => '2024-05-01 12:00Z');
SELECT version FROM eduai.append_event('s', 'exercise_attempted', '{"skill": "Maps", "item": 1, "correct": true}', 'ana',
	occurred_at => '2024-05-02 12:00Z');
SELECT eduai.register_exercises('{b}', '{sums}', '{CE1}');
SELECT pg_temp.followed();
SELECT skill, learners, answers, success_rate, mean_time_s, last_answer_at AT TIME ZONE 'UTC', difficulty > 0 AND difficulty < 1
	FROM eduai.skill_statistics();
SELECT skill, item, level, answers, learners, success_rate, mean_time_s, last_answer_at AT TIME ZONE 'UTC', difficulty > 0 AND difficulty < 1
	FROM eduai.exercise_statistics();

-- a thousand answers of many kinds, against what the log says
SELECT eduai.append_batch(array_agg('t' || n % 3), array_agg('exercise_completed'::text),
	array_agg(jsonb_strip_nulls(jsonb_build_object('skill', 'k' || n % 6, 'item', CASE WHEN n % 7 > 0 THEN 'i' || n % 40 END,
		'correct', n % (n % 6 + 2) > 0, 'time_spent', CASE WHEN n % 4 > 0 THEN round((n % 997) / 8.0, 3) END)) ORDER BY n),
	array_agg('u' || n % 23 ORDER BY n), occurred_at => array_agg('2024-06-01Z'::timestamptz + n % 500 * interval '1 hour' ORDER BY n))
	FROM generate_series(1, 1000) n;
SELECT pg_temp.followed();
CREATE TEMP VIEW answers AS
	SELECT data ->> 'skill' AS skill, data ->> 'item' AS item, user_id, (data -> 'correct')::boolean AS correct, occurred_at,
		CASE WHEN jsonb_typeof(data -> 'time_spent') = 'number' AND (data ->> 'time_spent')::numeric > 0
			AND (data ->> 'time_spent')::numeric <= 86400 THEN (data ->> 'time_spent')::numeric END AS time_s
	FROM eduai.read_all(max_count => 10000) WHERE data ? 'correct';
SELECT count(*) FROM (
	(SELECT skill, learners, answers, round(success_rate::numeric, 12), round(mean_time_s::numeric, 9), last_answer_at FROM eduai.skill_statistics()
	EXCEPT SELECT skill, count(DISTINCT user_id), count(*), round(avg(correct::int), 12), round(avg(time_s), 9), max(occurred_at) FROM answers GROUP BY 1)
	UNION ALL
	(SELECT skill, count(DISTINCT user_id), count(*), round(avg(correct::int), 12), round(avg(time_s), 9), max(occurred_at) FROM answers GROUP BY 1
	EXCEPT SELECT skill, learners, answers, round(success_rate::numeric, 12), round(mean_time_s::numeric, 9), last_answer_at FROM eduai.skill_statistics())) d;
SELECT count(*) FROM (
	(SELECT skill, item, learners, answers, round(success_rate::numeric, 12), round(mean_time_s::numeric, 9), last_answer_at FROM eduai.exercise_statistics()
	EXCEPT SELECT skill, item, count(DISTINCT user_id), count(*), round(avg(correct::int), 12), round(avg(time_s), 9), max(occurred_at)
		FROM answers WHERE item IS NOT NULL GROUP BY 1, 2)
	UNION ALL
	(SELECT skill, item, count(DISTINCT user_id), count(*), round(avg(correct::int), 12), round(avg(time_s), 9), max(occurred_at)
		FROM answers WHERE item IS NOT NULL GROUP BY 1, 2
	EXCEPT SELECT skill, item, learners, answers, round(success_rate::numeric, 12), round(mean_time_s::numeric, 9), last_answer_at FROM eduai.exercise_statistics())) d;
SELECT count(*), count(DISTINCT (skill, item)), bool_and(difficulty > 0 AND difficulty < 1) FROM eduai.exercise_statistics();
-- the hardest skill is the one with the fewest right answers
SELECT (SELECT skill FROM eduai.skill_statistics() WHERE skill LIKE 'k%' ORDER BY difficulty DESC LIMIT 1) =
	(SELECT skill FROM eduai.skill_statistics() WHERE skill LIKE 'k%' ORDER BY success_rate LIMIT 1);

-- by name, by bytes; one skill; the first of them
SELECT string_agg(skill, ' ' ORDER BY n) FROM eduai.skill_statistics() WITH ORDINALITY AS s
	(skill, learners, answers, success_rate, difficulty, mean_time_s, last_answer_at, n);
SELECT item, skill FROM eduai.exercise_statistics('sums');
SELECT item, skill FROM eduai.exercise_statistics(max_count => 2);
SELECT item, skill FROM eduai.exercise_statistics('k0', 1);
SELECT count(*) FROM eduai.exercise_statistics('nothing');

-- bad input, tenants, rights
SELECT * FROM eduai.exercise_statistics('');
SELECT * FROM eduai.exercise_statistics(max_count => 0);
SELECT * FROM eduai.exercise_statistics(max_count => 10001);
SELECT * FROM eduai.exercise_statistics(max_count => NULL);
SET eduai.tenant = 'proj_statistics_b';
SELECT count(*) FROM eduai.skill_statistics();
SELECT count(*) FROM eduai.exercise_statistics();
SET eduai.tenant = 'proj_statistics_c';
SELECT * FROM eduai.skill_statistics();
SELECT * FROM eduai.exercise_statistics();
SET ROLE regress_proj_statistics_reader;
SET eduai.tenant = 'proj_statistics';
SELECT count(*) FROM eduai.skill_statistics();
RESET ROLE;
CREATE ROLE regress_proj_statistics_nobody;
GRANT USAGE ON SCHEMA eduai TO regress_proj_statistics_nobody;
SET ROLE regress_proj_statistics_nobody;
SELECT * FROM eduai.skill_statistics();
SELECT * FROM eduai.exercise_statistics();
RESET ROLE;
DROP VIEW answers;
DROP OWNED BY regress_proj_statistics, regress_proj_statistics_reader, regress_proj_statistics_nobody;
DROP ROLE regress_proj_statistics, regress_proj_statistics_reader, regress_proj_statistics_nobody;
