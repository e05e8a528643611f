-- What a learner should do next: what is due, then what is new and neither too
-- easy nor too hard.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY sqlstate
CREATE ROLE regress_proj_recommend;
CREATE ROLE regress_proj_recommend_reader;
GRANT eduai_app TO regress_proj_recommend;
GRANT eduai_reader TO regress_proj_recommend_reader;
SELECT eduai.allow_tenant('regress_proj_recommend', t) FROM unnest(ARRAY['proj_recommend', 'proj_recommend_b']) t;
SELECT eduai.allow_tenant('regress_proj_recommend_reader', 'proj_recommend');
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
CREATE FUNCTION pg_temp.catalogue() RETURNS TABLE (skill text, item text, level text, active boolean) LANGUAGE sql SECURITY DEFINER AS
	$$ SELECT e.skill, e.item, e.level, e.active FROM eduai.exercise e WHERE e.tenant_id = 'proj_recommend' ORDER BY 1, 2 $$;
SET ROLE regress_proj_recommend;
SET eduai.tenant = 'proj_recommend';

-- nobody, nothing
SELECT count(*) FROM eduai.recommend_exercises('nobody');

-- the catalogue: new, changed, unchanged
SELECT eduai.register_exercises(ARRAY['1', '2', '3'], ARRAY['sums', 'sums', 'maps'], ARRAY['1', NULL, '2']);
SELECT * FROM pg_temp.catalogue();
SELECT eduai.register_exercises(ARRAY['1', '2', '3'], ARRAY['sums', 'sums', 'maps'], ARRAY['1', NULL, '2']);
SELECT eduai.register_exercises(ARRAY['1', '2', '3'], ARRAY['sums', 'sums', 'maps'], ARRAY['1', '1', NULL]);
-- without levels they stay, and the last of two mentions counts
SELECT eduai.register_exercises(ARRAY['1', '4', '4'], ARRAY['sums', 'sums', 'sums'], active => false);
SELECT eduai.register_exercises(ARRAY['5', '5'], ARRAY['sums', 'sums'], ARRAY['2', '3']);
SELECT * FROM pg_temp.catalogue();
SELECT eduai.register_exercises('{}', '{}'), eduai.register_exercises('{}', '{}', '{}');
SELECT eduai.register_exercises(NULL, '{}');
SELECT eduai.register_exercises('{}', NULL);
SELECT eduai.register_exercises('{}', '{}', '{}', NULL);
SELECT eduai.register_exercises('{a}', '{}');
SELECT eduai.register_exercises('{a}', '{s}', '{}');
SELECT eduai.register_exercises('{NULL}', '{s}');
SELECT eduai.register_exercises('{a}', '{NULL}');
SELECT eduai.register_exercises('{""}', '{s}');
SELECT eduai.register_exercises('{a}', ARRAY[repeat('s', 513)]);
SELECT eduai.register_exercises('{a}', '{s}', '{""}');
SELECT eduai.register_exercises('{{a}}', '{s}');
SELECT eduai.register_exercises(array_agg('x'::text), array_agg('y'::text)) FROM generate_series(1, 100001);

-- the level: 1 for whom nothing is known; the exercises without one for all; none that is not active
SELECT eduai.register_exercises(ARRAY['1', '4'], ARRAY['sums', 'sums'], ARRAY['1', '1']);
SELECT item, skill FROM eduai.recommend_exercises('nobody') ORDER BY 2, 1;
SELECT eduai.publish_event('difficulty_adjusted', 'dan', NULL, '{"new_level": 3}') IS NOT NULL;
SELECT item, skill FROM eduai.recommend_exercises('dan') ORDER BY 2, 1;
SELECT eduai.publish_event('difficulty_adjusted', 'dan', NULL, '{"new_level": "CE2"}') IS NOT NULL;
SELECT item, skill FROM eduai.recommend_exercises('dan') ORDER BY 2, 1;
SELECT eduai.register_exercises('{4}', '{sums}', active => false);
SELECT item, skill FROM eduai.recommend_exercises('nobody') ORDER BY 2, 1;

SET eduai.recommend_success_min = 0.01;
SET eduai.recommend_success_max = 0.99;
-- equals stand in the order of skill and item, by bytes, and each caller's limit is its own
SELECT eduai.register_exercises(ARRAY['b', 'B', 'a', 'Z'], ARRAY['maps', 'maps', 'maps', 'Maps'], ARRAY['1', '1', '1', '1']);
SELECT item, skill, reason, abs(p_success - eduai.learner_prediction('nobody', skill, item)) < 1e-4, due_at FROM eduai.recommend_exercises('nobody', 1);
SELECT item, skill, reason, abs(p_success - eduai.learner_prediction('nobody', skill, item)) < 1e-4, due_at FROM eduai.recommend_exercises('nobody', 100);
SELECT count(*) FROM eduai.recommend_exercises('nobody');
SELECT count(*) FROM eduai.recommend_exercises('nobody', 3);

RESET eduai.recommend_success_min;
RESET eduai.recommend_success_max;
-- answers: what was seen is not new; due ones come first, longest due first
SELECT event_id IS NOT NULL FROM eduai.append_event('e', 'exercise_attempted', '{"skill": "sums", "item": "1", "correct": true}', 'ana',
	occurred_at => '2024-01-03Z');
SELECT event_id IS NOT NULL FROM eduai.append_event('e', 'exercise_attempted', '{"skill": "maps", "item": "a", "correct": true}', 'ana',
	occurred_at => '2024-01-02Z');
SELECT event_id IS NOT NULL FROM eduai.append_event('e', 'exercise_attempted', '{"skill": "maps", "correct": false}', 'ana',
	occurred_at => '2024-01-04Z');
SELECT event_id IS NOT NULL FROM eduai.append_event('e', 'exercise_attempted', '{"skill": "maps", "item": "retired", "correct": true}', 'ana',
	occurred_at => '2024-01-01Z');
SELECT event_id IS NOT NULL FROM eduai.append_event('e', 'exercise_attempted', '{"skill": "maps", "item": "b", "correct": true}', 'ana');
SELECT pg_temp.followed();
SELECT item, skill, reason, due_at FROM eduai.recommend_exercises('ana', 4) WHERE reason = 'due';
SELECT eduai.register_exercises('{retired}', '{maps}', active => false);
SELECT item, skill, reason, due_at, abs(p_success - eduai.learner_prediction('ana', skill, item)) < 1e-4 FROM eduai.recommend_exercises('ana', 3);
SELECT item, skill FROM eduai.recommend_exercises('ana', 100) WHERE reason <> 'due' ORDER BY 2, 1;
SELECT count(*) FROM eduai.recommend_exercises('ana', 2);
-- answered well today, it is not due any more
SELECT event_id IS NOT NULL FROM eduai.append_event('e', 'exercise_attempted', '{"skill": "sums", "item": "1", "correct": true}', 'ana');
SELECT pg_temp.followed();
SELECT item, skill FROM eduai.recommend_exercises('ana', 100) WHERE reason = 'due';

-- the target: all, easier or harder than it, and the stated order in any case
SELECT eduai.append_batch(array_agg('h'::text), array_agg('exercise_attempted'::text),
	array_agg(jsonb_build_object('skill', 'sums', 'item', n % 10 + 100, 'correct', n % 10 * 7 > n % 67) ORDER BY n),
	array_agg('h' || n % 13 ORDER BY n)) FROM generate_series(1, 400) n;
SELECT eduai.register_exercises(array_agg(n::text), array_agg('sums'::text)) FROM generate_series(100, 109) n;
SELECT pg_temp.followed();
CREATE FUNCTION pg_temp.off_order(who text) RETURNS bigint LANGUAGE sql AS $$
	WITH target AS (SELECT current_setting('eduai.recommend_success_min')::float8 AS low, current_setting('eduai.recommend_success_max')::float8 AS high),
	given AS (SELECT *, greatest(low - p_success, p_success - high, 0) AS outside, abs(p_success - (low + high) / 2) AS off
		FROM eduai.recommend_exercises(who, 100) WITH ORDINALITY AS r (item, skill, reason, p_success, due_at, place), target)
	SELECT count(*) FILTER (WHERE place <> wanted OR reason <> wanted_reason) FROM (
		SELECT *, row_number() OVER (ORDER BY reason <> 'due', due_at, outside, CASE WHEN outside = 0 THEN off END,
				skill COLLATE "C", item COLLATE "C") AS wanted,
			CASE WHEN due_at IS NOT NULL THEN 'due' WHEN p_success > high THEN 'new: easier than the target'
				WHEN p_success < low THEN 'new: harder than the target' ELSE 'new' END AS wanted_reason
		FROM given) g
$$;
SELECT count(*) > 10, count(DISTINCT p_success) > 5, pg_temp.off_order('ana') FROM eduai.recommend_exercises('ana', 100);
SELECT pg_temp.off_order('nobody');
SET eduai.recommend_success_min = 0.5;
SET eduai.recommend_success_max = 0.55;
SELECT pg_temp.off_order('nobody'), pg_temp.off_order('ana');
SET eduai.recommend_success_max = 1;
SELECT pg_temp.off_order('nobody'), pg_temp.off_order('ana');
SET eduai.recommend_success_min = 1;
SELECT reason, pg_temp.off_order('nobody') FROM eduai.recommend_exercises('nobody', 100) GROUP BY reason ORDER BY reason;
SET eduai.recommend_success_min = 0;
SET eduai.recommend_success_max = 0;
SELECT reason, pg_temp.off_order('nobody') FROM eduai.recommend_exercises('nobody', 100) GROUP BY reason ORDER BY reason;
SET eduai.recommend_success_min = 0.1;
SELECT * FROM eduai.recommend_exercises('nobody');
RESET eduai.recommend_success_min;
RESET eduai.recommend_success_max;
SET eduai.recommend_success_max = 1.1;

-- the bound: ten skills with a hundred exercises each; one that is mastered comes only after them
SELECT eduai.register_exercises(array_agg(lpad(i::text, 3, '0')), array_agg('many ' || chr(97 + s)), array_agg('9'::text))
	FROM generate_series(1, 150) i, generate_series(0, 10) s;
SELECT eduai.publish_event('difficulty_adjusted', who, NULL, '{"new_level": 9}') IS NOT NULL FROM unnest(ARRAY['gil', 'hal']) who;
SELECT eduai.publish_event('skill_mastered', 'hal', NULL, '{"skill": "many a"}') IS NOT NULL;
SELECT skill, min(item), max(item) FROM eduai.recommend_exercises('gil', 100) WHERE skill LIKE 'many%' GROUP BY skill ORDER BY skill;
SELECT skill, min(item), max(item) FROM eduai.recommend_exercises('hal', 100) WHERE skill LIKE 'many%' GROUP BY skill ORDER BY skill;

-- bad input, rights, tenants
SELECT * FROM eduai.recommend_exercises(NULL);
SELECT * FROM eduai.recommend_exercises('');
SELECT * FROM eduai.recommend_exercises('ana', NULL);
SELECT * FROM eduai.recommend_exercises('ana', 0);
SELECT * FROM eduai.recommend_exercises('ana', 101);
SELECT count(*) FROM eduai.exercise;
SET eduai.tenant = 'proj_recommend_b';
SELECT count(*) FROM eduai.recommend_exercises('ana');
SET ROLE regress_proj_recommend_reader;
SELECT * FROM eduai.recommend_exercises('ana');
SET eduai.tenant = 'proj_recommend';
SELECT count(*) FROM eduai.recommend_exercises('ana');
SELECT eduai.register_exercises('{a}', '{s}');
RESET ROLE;
DROP OWNED BY regress_proj_recommend, regress_proj_recommend_reader;
DROP ROLE regress_proj_recommend, regress_proj_recommend_reader;
