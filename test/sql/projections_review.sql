-- Spaced repetition, each step calculated by hand: SM-2 with easiness from 1.3
-- to 2.5, a failure one step back.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_proj_review;
GRANT eduai_app TO regress_proj_review;
SELECT eduai.allow_tenant('regress_proj_review', 'proj_review');
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
CREATE FUNCTION pg_temp.schedule(who text) RETURNS TABLE (skill text, item text, answers bigint, easiness numeric,
		interval_days bigint, repetitions bigint, due_in interval)
	LANGUAGE sql SECURITY DEFINER AS $$
	SELECT r.skill, r.item, r.answers, round(r.easiness::numeric, 4), r.interval_days, r.repetitions, r.due_at - r.last_at
	FROM eduai.model_learner_item r WHERE r.tenant_id = 'proj_review' AND r.user_id = who ORDER BY 1, 2
$$;
SET ROLE regress_proj_review;
SET eduai.tenant = 'proj_review';
-- a learner answers on a day of 2024
CREATE FUNCTION pg_temp.answer(who text, item text, day numeric, correct boolean, more jsonb DEFAULT '{}') RETURNS void
	LANGUAGE sql AS $$
	SELECT eduai.append_event('learner-' || who, 'exercise_attempted',
		jsonb_strip_nulls(jsonb_build_object('skill', 'sums', 'item', item, 'correct', correct)) || more, who,
		occurred_at => '2024-01-01 10:00Z'::timestamptz + day * interval '1 day')
$$;
-- 1, 6, then times the easiness: 6 * 2.5 = 15, 15 * 2.5 = 37.5
SELECT pg_temp.answer('ana', 'a', 0, true);
SELECT pg_temp.followed();
SELECT * FROM pg_temp.schedule('ana');
SELECT pg_temp.answer('ana', 'a', 1, true);
SELECT pg_temp.followed();
SELECT * FROM pg_temp.schedule('ana');
SELECT pg_temp.answer('ana', 'a', 7, true);
SELECT pg_temp.followed();
SELECT * FROM pg_temp.schedule('ana');
SELECT pg_temp.answer('ana', 'a', 22, true);
SELECT pg_temp.followed();
SELECT * FROM pg_temp.schedule('ana');
-- a failure: the next day, a step back, 0.15 less; then from 6 again: 6 * 2.35 = 14.1
SELECT pg_temp.answer('ana', 'a', 60, false);
SELECT pg_temp.followed();
SELECT * FROM pg_temp.schedule('ana');
SELECT pg_temp.answer('ana', 'a', 61, true);
SELECT pg_temp.followed();
SELECT * FROM pg_temp.schedule('ana');

-- failures down to the least easiness: 2.5 - 9 * 0.15 would be 1.15; steps end at 0
SELECT pg_temp.answer('ben', 'a', day, false) FROM generate_series(0, 8) day;
SELECT pg_temp.followed();
SELECT * FROM pg_temp.schedule('ben');
-- and up again: 1, 6 and 6 * 1.5 = 9 (1.3, 1.4 and 1.5 at the time)
SELECT pg_temp.answer('ben', 'a', 9, true);
SELECT pg_temp.answer('ben', 'a', 10, true);
SELECT pg_temp.answer('ben', 'a', 16, true);
SELECT pg_temp.followed();
SELECT * FROM pg_temp.schedule('ben');

-- practice before half of the interval is over changes nothing but the count; half a day does
SELECT pg_temp.answer('cleo', 'a', 0.01 * n, true) FROM generate_series(0, 9) n;
SELECT pg_temp.answer('cleo', 'b', 0, true), pg_temp.answer('cleo', 'b', 0.5, true);
SELECT pg_temp.answer('cleo', 'c', 0, true), pg_temp.answer('cleo', 'c', 0.49, true);
SELECT pg_temp.followed();
SELECT skill, item, answers, easiness, interval_days, repetitions FROM pg_temp.schedule('cleo');
-- a failure counts whenever it comes
SELECT pg_temp.answer('cleo', 'c', 0.495, false);
SELECT pg_temp.followed();
SELECT * FROM pg_temp.schedule('cleo') WHERE item = 'c';

-- quality, of a success at the easiness 2.35 that a failure leaves: 5 gives 2.45,
-- 4 leaves it at 2.35, 3 takes 0.14: 2.21
CREATE FUNCTION pg_temp.grade(item text, more jsonb) RETURNS void LANGUAGE sql AS
	'SELECT pg_temp.answer(''eva'', item, 0, false), pg_temp.answer(''eva'', item, 1, true, more)';
SELECT pg_temp.grade('q5', '{}');
SELECT pg_temp.grade('q5 sure', '{"hints": 0, "confidence": 0.5}');
SELECT pg_temp.grade('q5 nonsense', '{"hints": "many", "confidence": -1, "time_spent": -5}');
SELECT pg_temp.grade('q4 hints', '{"hints": 2}');
SELECT pg_temp.grade('q4 hints_used', '{"hints_used": 1}');
SELECT pg_temp.grade('q4 confidence', '{"confidence": 0.4}');
SELECT pg_temp.grade('q4 percent', '{"confidence": 49}');
SELECT pg_temp.grade('q3 hints and doubt', '{"hints": 1, "confidence": 0}');
-- slow is more than twice the mean of at least five timed answers, of 10 seconds here
SELECT pg_temp.answer('dan', 'q5 as usual', 0, true, '{"time_spent": 10}') FROM generate_series(1, 5);
SELECT pg_temp.answer('dan', 'q4 slow', 0, true, '{"time_spent": 10}') FROM generate_series(1, 5);
SELECT pg_temp.answer('dan', 'q3 all three', 0, true, '{"time_spent": 10}') FROM generate_series(1, 5);
SELECT pg_temp.answer('dan', 'q5 nobody knows', 0, true, '{"time_spent": 10}') FROM generate_series(1, 4);
SELECT pg_temp.grade('q5 as usual', '{"time_spent": 20}');
SELECT pg_temp.grade('q4 slow', '{"time_spent": 20.1}');
SELECT pg_temp.grade('q3 all three', '{"time_spent": 20.1, "hints": 1, "confidence": 0}');
SELECT pg_temp.grade('q5 nobody knows', '{"time_spent": 20.1}');
-- a failure is one whatever its quality
SELECT pg_temp.answer('eva', 'q0', 0, false, '{"hints": 9, "confidence": 1}');
SELECT pg_temp.followed();
SELECT item, easiness, interval_days, repetitions FROM pg_temp.schedule('eva');

-- without an item it is the skill that is repeated; a number names an item
SELECT pg_temp.answer('hal', NULL, 0, true), pg_temp.answer('hal', NULL, 1, true);
SELECT pg_temp.answer('hal', NULL, 2, true, '{"item": 7}');
SELECT pg_temp.answer('hal', NULL, 2, true, '{"exercise": "e"}');
SELECT pg_temp.followed();
SELECT * FROM pg_temp.schedule('hal');

-- times that no learner has: an answer is never later than it was recorded
SELECT version FROM eduai.append_event('learner-ida', 'exercise_attempted', '{"skill": "sums", "item": "far", "correct": true}', 'ida',
	occurred_at => '250000-01-01Z');
SELECT version FROM eduai.append_event('learner-ida', 'exercise_attempted', '{"skill": "sums", "item": "old", "correct": true}', 'ida',
	occurred_at => '4000-01-01Z BC');
SELECT pg_temp.followed();
SELECT item, interval_days FROM pg_temp.schedule('ida');
RESET ROLE;
SELECT item, last_at <= clock_timestamp(), due_at <= clock_timestamp() + interval '1 day' FROM eduai.model_learner_item
	WHERE tenant_id = 'proj_review' AND user_id = 'ida' ORDER BY item;

SELECT eduai.disallow_tenant('regress_proj_review', 'proj_review');
DROP OWNED BY regress_proj_review;
DROP ROLE regress_proj_review;
