-- The learners' progress.

CREATE OR REPLACE FUNCTION eduai.user_progress(user_id text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_user_progress' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.user_progress(text) IS
'The progress of a learner, as the events committed so far and those of this transaction made it: {user_id, skills_mastered[], skills{name: {mastery, attempts, correct}}, current_level, total_time_spent, exercises_completed, achievements[], emotion_patterns{name: count}, difficulty_history[{timestamp, old_level, new_level, reason}], learning_preferences{}, analytics{learning_velocity, skill_diversity, learning_efficiency, emotional_stability}, last_activity, version}.
mastery is 0 to 1; total_time_spent is in seconds; last_activity is the latest occurred_at, null without events; version counts the events folded. analytics: skills mastered per hour (of at least one), distinct skills, exercises per minute (of at least one), the share of positive emotions (0.5 without any). A learner without events has the initial state and version 0. Reads in the calling statement''s snapshot.
Errors: 22004 user_id is NULL; 22023 a user_id that cannot exist; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT eduai.user_progress(''ana'') -> ''skills_mastered'';';

CREATE OR REPLACE FUNCTION eduai.progress_of(user_ids text[]) RETURNS SETOF eduai.learner_progress
	AS 'MODULE_PATHNAME', 'eduai_progress_of' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION eduai.progress_of(text[]) IS
'The progress of several learners, a row per element of user_ids and in its order, at most 10000; the same jsonb as eduai.user_progress(), also for learners without events.
Errors: 22004 user_ids or an element is NULL; 22023 a user_id that cannot exist or too many; 2202E more than one dimension; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT * FROM eduai.progress_of(ARRAY[''ana'', ''ben'']);';

REVOKE ALL ON FUNCTION eduai.user_progress(text), eduai.progress_of(text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.user_progress(text), eduai.progress_of(text[])
	TO eduai_app, eduai_reader, eduai_admin;
