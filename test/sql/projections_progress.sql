-- What each event type does to a learner's progress.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_proj_progress;
GRANT eduai_app TO regress_proj_progress;
SELECT eduai.allow_tenant('regress_proj_progress', 'proj_progress');
SET ROLE regress_proj_progress;
SET eduai.tenant = 'proj_progress';
CREATE FUNCTION pg_temp.after(who text, event_type text, data jsonb, VARIADIC fields text[]) RETURNS text
	LANGUAGE plpgsql AS $$
DECLARE
	progress jsonb;
BEGIN
	PERFORM eduai.publish_event(event_type, who, NULL, data);
	progress := eduai.user_progress(who);
	RETURN (SELECT string_agg(f || ' ' || (progress #>> string_to_array(f, '/')), ', ' ORDER BY n)
		FROM unnest(fields) WITH ORDINALITY AS u (f, n));
END $$;

-- nobody yet
SELECT jsonb_pretty(eduai.user_progress('ana'));

-- the seeds' own test
SELECT eduai.publish_event('skill_mastered', 'user123', 'session456',
	'{"skill": "python_basics", "score": 0.95}') IS NOT NULL;
SELECT eduai.user_progress('user123') -> 'skills_mastered' ? 'python_basics';

-- and their broker's, in capitals: the twelve types are matched without regard to case
SELECT eduai.publish_event('SKILL_MASTERED', 'user456', 'session456',
	'{"skill": "python_basics", "score": 0.95}') IS NOT NULL;
SELECT eduai.user_progress('user456') -> 'skills_mastered' ? 'python_basics', eduai.user_progress('user456') -> 'skills';
SELECT pg_temp.after('user456', 'Exercise_Attempted', '{"skill": "f", "score": 0.5}', 'skills/f');
SELECT pg_temp.after('user456', 'EXERCISE_COMPLETED', '{"time_spent": 5}', 'exercises_completed', 'total_time_spent');
SELECT pg_temp.after('user456', 'DIFFICULTY_ADJUSTED', '{"new_level": 3}', 'current_level');
SELECT pg_temp.after('user456', 'EMOTION_DETECTED', '{"emotion": "joy"}', 'emotion_patterns');
SELECT pg_temp.after('user456', 'emotion_detected', '{"emotion": "JOY"}', 'emotion_patterns');
SELECT pg_temp.after('user456', 'ACHIEVEMENT_UNLOCKED', '{"achievement": "a"}', 'achievements', 'version');
-- elsewhere a type is its exact name
SELECT event_type FROM eduai.read_stream('learner-user456', 1, 1);
SELECT count(*) FROM eduai.read_all(event_types => '{skill_mastered}') WHERE user_id = 'user456';

-- also its schema, which is checked before anything is folded
CREATE FUNCTION pg_temp.publish(event_type text, data jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM eduai.publish_event(event_type, 'lena', NULL, data);
	RETURN 'appended';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
RESET ROLE;
BEGIN;
SELECT eduai.register_event_type('skill_mastered', json_schema => '{"required": ["skill"]}');
SET ROLE regress_proj_progress;
SELECT pg_temp.publish('skill_mastered', '{}'), pg_temp.publish('skill_mastered', '{"skill": "a"}'), pg_temp.publish('SKILL_MASTERED', '{}');
SELECT eduai.user_progress('lena') -> 'version', eduai.user_progress('lena') -> 'skills_mastered';
ROLLBACK;
SET ROLE regress_proj_progress;
SELECT eduai.user_progress('lena') -> 'version';
SELECT pg_temp.publish('skill_mastered', '{}');
SELECT eduai.user_progress('lena') -> 'version';

-- skill_mastered: once each, either key, a mastery of at least 0.8
SELECT pg_temp.after('ana', 'skill_mastered', '{"skill_name": "sums"}', 'skills_mastered', 'skills');
SELECT pg_temp.after('ana', 'skill_mastered', '{"skill_name": "sums", "score": 0.9}', 'skills_mastered', 'skills/sums');
SELECT pg_temp.after('ana', 'skill_mastered', '{"skill": "maps", "score": 0.5}', 'skills_mastered', 'skills/maps');
SELECT pg_temp.after('ana', 'skill_mastered', '{"skill_name": "both", "skill": "other"}', 'skills_mastered');
SELECT pg_temp.after('ana', 'skill_mastered', '{"skill_name": ""}', 'skills_mastered');
SELECT pg_temp.after('ana', 'skill_mastered', '{"skill_name": 7}', 'skills_mastered');
SELECT pg_temp.after('ana', 'skill_mastered', '{}', 'skills_mastered', 'version');

-- exercise_attempted: clamp(score * time_efficiency / attempts, 0, 1)
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "f", "score": 0.5}', 'skills/f');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "f", "score": 0.6, "time_efficiency": 1.5, "attempts": 2}', 'skills/f');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "f", "score": 1, "time_efficiency": 9}', 'skills/f');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "f", "score": -3}', 'skills/f');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "f", "score": 0.7, "attempts": 0}', 'skills/f');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "f", "score": 0.7, "attempts": -1}', 'skills/f');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "f", "score": 65}', 'skills/f');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "f", "score": 100}', 'skills/f');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "f", "score": 1e400, "time_efficiency": 1e400, "attempts": 1e400}', 'skills/f');
-- correct: what the event says, else a score of 0.8
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "g", "score": 0.8}', 'skills/g');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "g", "score": 0.9, "correct": false}', 'skills/g');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill_name": "g", "score": 0.1, "correct": true}', 'skills/g');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill": "g", "correct": true}', 'skills/g');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill": "g", "correct": false}', 'skills/g');
SELECT pg_temp.after('ben', 'exercise_attempted', '{"skill": "g", "correct": "yes", "score": "high"}', 'skills/g');
-- an attempt masters nothing by itself and completes nothing
SELECT pg_temp.after('ben', 'exercise_attempted', '{"score": 1}', 'skills_mastered', 'exercises_completed', 'total_time_spent', 'version');

-- exercise_completed: the same, and the exercise and its seconds are counted
SELECT pg_temp.after('cleo', 'exercise_completed', '{"skill_name": "f", "score": 0.9, "time_spent": 90}', 'skills/f', 'exercises_completed', 'total_time_spent');
SELECT pg_temp.after('cleo', 'exercise_completed', '{"time_spent": 0.1}', 'exercises_completed', 'total_time_spent');
SELECT pg_temp.after('cleo', 'exercise_completed', '{"time_spent": 0.2}', 'exercises_completed', 'total_time_spent');
SELECT pg_temp.after('cleo', 'exercise_completed', '{}', 'exercises_completed', 'total_time_spent', 'skills');
SELECT pg_temp.after('cleo', 'exercise_completed', '{"time_spent": -5}', 'exercises_completed', 'total_time_spent');
SELECT pg_temp.after('cleo', 'exercise_completed', '{"time_spent": "90"}', 'exercises_completed', 'total_time_spent');
SELECT pg_temp.after('cleo', 'exercise_completed', '{"time_spent": 1e300}', 'exercises_completed', 'total_time_spent');

-- difficulty_adjusted
SELECT pg_temp.after('dan', 'difficulty_adjusted', '{"old_level": 1, "new_level": 2, "reason": "fast"}', 'current_level');
SELECT pg_temp.after('dan', 'difficulty_adjusted', '{"new_level": "CE2"}', 'current_level');
SELECT pg_temp.after('dan', 'difficulty_adjusted', '{"new_level": 2.5, "reason": 7}', 'current_level');
SELECT pg_temp.after('dan', 'difficulty_adjusted', '{"reason": "none"}', 'current_level');
SELECT pg_temp.after('dan', 'difficulty_adjusted', '{"new_level": [1]}', 'current_level');
SELECT entry - 'timestamp', entry ->> 'timestamp' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$'
	FROM jsonb_array_elements(eduai.user_progress('dan') -> 'difficulty_history') WITH ORDINALITY AS e (entry, n)
	ORDER BY n;
SELECT version FROM eduai.append_event('x', 'difficulty_adjusted', '{"new_level": 1}', 'dina', occurred_at => '2024-02-29 12:00:00.5Z');
SELECT eduai.user_progress('dina') -> 'difficulty_history', eduai.user_progress('dina') ->> 'last_activity';
-- the latest thousand are kept
SELECT eduai.append_batch(array_agg('d'::text), array_agg('difficulty_adjusted'::text),
	array_agg(jsonb_build_object('new_level', n)), array_agg('dora'::text)) FROM generate_series(1, 1003) n;
SELECT jsonb_array_length(h), h -> 0 -> 'new_level', h -> -1 -> 'new_level'
	FROM (SELECT eduai.user_progress('dora') -> 'difficulty_history') AS p (h);

-- emotion_detected
SELECT pg_temp.after('eve', 'emotion_detected', '{"emotion": "joy"}', 'emotion_patterns');
SELECT pg_temp.after('eve', 'emotion_detected', '{"emotion": "fear"}', 'emotion_patterns', 'analytics/emotional_stability');
SELECT pg_temp.after('eve', 'emotion_detected', '{"emotion": "joy"}', 'emotion_patterns');
SELECT pg_temp.after('eve', 'emotion_detected', '{"emotion": null}', 'emotion_patterns');
SELECT pg_temp.after('eve', 'emotion_detected', '{"emotion": "satisfaction"}', 'emotion_patterns', 'analytics/emotional_stability');

-- achievement_unlocked: once each
SELECT pg_temp.after('finn', 'achievement_unlocked', '{"achievement": "first"}', 'achievements');
SELECT pg_temp.after('finn', 'achievement_unlocked', '{"achievement": "second"}', 'achievements');
SELECT pg_temp.after('finn', 'achievement_unlocked', '{"achievement": "first"}', 'achievements');
SELECT pg_temp.after('finn', 'achievement_unlocked', '{"achievement": {"name": "no"}}', 'achievements');

-- preferences come with any event; of equal keys the latest holds
SELECT pg_temp.after('gwen', 'interaction_recorded', '{"preferences": {"mode": "dark", "pace": {"min": 1}}}', 'learning_preferences');
SELECT pg_temp.after('gwen', 'own_type', '{"preferences": {"pace": [3], "lang": "fr"}}', 'learning_preferences');
SELECT pg_temp.after('gwen', 'own_type', '{"preferences": "dark"}', 'learning_preferences');

-- the other types are counted, and are activity
SELECT pg_temp.after('hal', t, '{"emotion": "joy", "skill": "f", "score": 1, "new_level": 3, "achievement": "a"}', 'version', 'skills', 'achievements', 'current_level')
	FROM unnest(ARRAY['learning_started', 'content_viewed', 'ai_feedback_given', 'metacognition_triggered',
		'interaction_recorded', 'collaboration_joined', 'own_type']) t;
-- last_activity is the latest time, not the last event's
SELECT version FROM eduai.append_event('h', 'x', user_id => 'hugo', occurred_at => '2024-05-02Z');
SELECT version FROM eduai.append_event('h', 'x', user_id => 'hugo', occurred_at => '2024-05-01Z');
SELECT eduai.user_progress('hugo') ->> 'last_activity', eduai.user_progress('hugo') ->> 'version';

-- analytics
SELECT eduai.append_events('i', '[
	{"type": "skill_mastered", "user_id": "iris", "data": {"skill": "a"}},
	{"type": "skill_mastered", "user_id": "iris", "data": {"skill": "b"}},
	{"type": "skill_mastered", "user_id": "iris", "data": {"skill": "c"}},
	{"type": "exercise_attempted", "user_id": "iris", "data": {"skill": "d", "score": 0.1}},
	{"type": "exercise_completed", "user_id": "iris", "data": {"skill": "d", "score": 0.1, "time_spent": 30}}]') IS NOT NULL;
SELECT eduai.user_progress('iris') -> 'analytics';
SELECT pg_temp.after('iris', 'exercise_completed', '{"time_spent": 7170}', 'total_time_spent', 'analytics');

-- more skills, achievements, emotions and preferences than a jsonb header notes one by one, with names of all lengths and kinds
SELECT eduai.append_batch(array_agg('k'::text), array_agg(t), array_agg(jsonb_build_object('skill', name, 'achievement', name, 'emotion', name,
	'score', n / 100.0, 'time_spent', n / 7.0, 'preferences', jsonb_build_object(name, CASE n % 6 WHEN 0 THEN 'null' WHEN 1 THEN 'true' WHEN 2 THEN '"x"'
		WHEN 3 THEN '[1, [2, {"a": []}]]' WHEN 4 THEN to_jsonb(n / 3.0) ELSE '{"b": {"c": "d"}}' END::jsonb))), array_agg('kim'::text))
	FROM (SELECT n, t, CASE WHEN n % 10 = 0 THEN 'é' || n ELSE left(md5(n::text), 1 + n % 32) END AS name FROM generate_series(1, 100) n,
		unnest('{exercise_completed,emotion_detected,achievement_unlocked,skill_mastered}'::text[]) t) AS events;
SELECT (SELECT count(*) FROM jsonb_object_keys(p -> 'skills')), jsonb_array_length(p -> 'achievements'), jsonb_array_length(p -> 'skills_mastered'),
	(SELECT count(*) FROM jsonb_object_keys(p -> 'emotion_patterns')), (SELECT count(*) FROM jsonb_object_keys(p -> 'learning_preferences')),
	(SELECT sum((s.value ->> 'attempts')::int) FROM jsonb_each(p -> 'skills') s), p -> 'exercises_completed', p -> 'total_time_spent',
	p -> 'version' FROM eduai.user_progress('kim') p;

-- several learners, in the order asked for
SELECT user_id, progress ->> 'version', progress = eduai.user_progress(user_id)
	FROM eduai.progress_of(ARRAY['iris', 'nobody', 'ana', 'iris']);
SELECT count(*) FROM eduai.progress_of('{}');

-- a batch gives the state that its events give one by one
CREATE TEMP TABLE sample AS SELECT n,
	(ARRAY['exercise_attempted', 'exercise_completed', 'skill_mastered', 'difficulty_adjusted', 'emotion_detected',
		'achievement_unlocked', 'content_viewed'])[1 + n % 7] AS event_type,
	jsonb_build_object('skill', 's' || n % 4, 'score', (n % 11) / 7.0, 'time_spent', n * 0.37, 'attempts', n % 3,
		'new_level', n % 5, 'emotion', 'e' || n % 3, 'achievement', 'a' || n % 6,
		'preferences', jsonb_build_object('p' || n % 3, n)) AS data
	FROM generate_series(1, 200) n;
SELECT count(eduai.append_event('one-' || n % 3, event_type, data, 'jo1', occurred_at => '2024-01-01Z'::timestamptz + n * interval '1 s'))
	FROM (SELECT * FROM sample ORDER BY n) s;
SELECT eduai.append_batch(array_agg('all-' || n % 3 ORDER BY n), array_agg(event_type ORDER BY n), array_agg(data ORDER BY n),
	array_agg('jo2'::text), occurred_at => array_agg('2024-01-01Z'::timestamptz + n * interval '1 s' ORDER BY n)) FROM sample;
SELECT eduai.append_batch(array_agg('two-' || who || n % 3 ORDER BY n), array_agg(event_type ORDER BY n), array_agg(data ORDER BY n),
	array_agg(who ORDER BY n), occurred_at => array_agg('2024-01-01Z'::timestamptz + n * interval '1 s' ORDER BY n))
	FROM sample, unnest(ARRAY['jo3', 'jo4']) who;
SELECT count(*), count(DISTINCT (progress - 'user_id')::text), max((progress -> 'version')::int)
	FROM eduai.progress_of('{jo1,jo2,jo3,jo4}');

-- what is stored and what is shown is jsonb as the server itself would write it, byte for byte
SELECT count(*) > 15, count(*) FILTER (WHERE NOT record_image_eq(ROW(u.progress), ROW(u.progress::text::jsonb)))
	FROM eduai.progress_of('{user123,user456,ana,ben,cleo,dan,dina,dora,eve,finn,gwen,hal,hugo,iris,kim,jo1,nobody}') u;
RESET ROLE;
SELECT count(*) > 15, count(*) FILTER (WHERE NOT record_image_eq(ROW(state), ROW(state::text::jsonb))),
	count(*) FILTER (WHERE pg_column_compression(state) IS NOT NULL) > 0
	FROM eduai.projection_state WHERE tenant_id = 'proj_progress' AND projection = 1;
-- a state that somebody edited is read as far as it is one, and mended by the next event
UPDATE eduai.projection_state SET state = '{"skills": [1], "achievements": {"a": 1}, "current_level": true, "more": {"x": 1}, "exercises_completed": "many",
	"skills_mastered": "none", "emotion_patterns": {"joy": "much"}}' WHERE tenant_id = 'proj_progress' AND projection = 1 AND key = 'hal';
SET ROLE regress_proj_progress;
SELECT pg_temp.after('hal', 'exercise_completed', '{"skill": "f", "score": 1}', 'skills', 'achievements', 'current_level', 'exercises_completed',
	'skills_mastered', 'emotion_patterns', 'more');

-- bad input
\set VERBOSITY sqlstate
SELECT eduai.user_progress(NULL);
SELECT eduai.user_progress('');
SELECT eduai.user_progress(E'a\n');
SELECT * FROM eduai.progress_of(NULL);
SELECT * FROM eduai.progress_of('{ana,NULL}');
SELECT * FROM eduai.progress_of('{{ana},{ben}}');
SELECT * FROM eduai.progress_of(ARRAY(SELECT 'u' || n FROM generate_series(1, 10001) n));
\set VERBOSITY default
RESET ROLE;
DROP TABLE sample;
DROP OWNED BY regress_proj_progress;
DROP ROLE regress_proj_progress;
