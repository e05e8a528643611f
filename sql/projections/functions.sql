-- Projections, the learners' progress, the learner model.

-- ---- progress ----

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

CREATE OR REPLACE VIEW eduai.progress AS
	SELECT s.tenant_id, s.key AS user_id, s.state, s.version, s.last_at AS last_activity
	FROM eduai.projection_state s
	WHERE s.tenant_id = (SELECT eduai.current_tenant()) AND s.projection = 1 AND s.generation =
		(SELECT coalesce((SELECT g.live FROM eduai.projection_generation g WHERE g.projection = 1), 1));
COMMENT ON VIEW eduai.progress IS
'The states of the learners of the session''s tenant, as eduai.user_progress() reads them; version counts the events.';
GRANT SELECT ON eduai.progress TO eduai_admin;

-- ---- projections of your own ----

CREATE OR REPLACE FUNCTION eduai.create_projection(
	name text,
	reducer regprocedure,
	key text DEFAULT 'user_id',
	mode text DEFAULT 'async',
	event_types text[] DEFAULT NULL,
	initial jsonb DEFAULT '{}',
	schema_version int DEFAULT 1,
	lanes int DEFAULT 1,
	on_error text DEFAULT 'park'
) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_create_projection' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.create_projection(text, regprocedure, text, text, text[], jsonb, int, int, text) IS
'Makes a projection, for all tenants: a state for each key, which the reducer, (state jsonb, event eduai.event_record) returns jsonb, makes of the state before and an event. The log''s events so far are folded, too. Events without the key are passed over.
The reducer is kept by name and runs with the rights of the role that makes the projection, in a SECURITY_RESTRICTED_OPERATION, with eduai.tenant set to the event''s tenant; it must depend on its arguments alone. event.position is NULL. It may run for eduai.reducer_timeout.
name: 1 to 512 bytes, no control characters. key: user_id, stream or session_id. mode: inline, in the transaction that appends; or async, soon after it, by the projector. event_types: NULL for all. initial: the state before the first event, any jsonb. schema_version, from 1: yours, to tell states apart. lanes, 1 to 64: so many parts of an async projection can be folded at once when it is far behind. on_error: park sets an event that the reducer raises for aside, with the later ones of its key (eduai.parked_event); raise, for inline ones, fails the append.
Errors: 42710 the name exists; 42883, 42P13, 42501 no such reducer, of another shape, or not to be executed; 22004 a NULL; 22023 bad input; 2202E event_types has several dimensions; 25006 read-only transaction. Role: eduai_admin.
Example: SELECT eduai.create_projection(''minutes'', ''app.add_minutes(jsonb, eduai.event_record)'', event_types => ARRAY[''exercise_completed'']);';

CREATE OR REPLACE FUNCTION eduai.alter_projection(
	name text,
	reducer regprocedure DEFAULT NULL,
	schema_version int DEFAULT NULL,
	initial jsonb DEFAULT NULL,
	event_types text[] DEFAULT NULL
) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_alter_projection' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.alter_projection(text, regprocedure, int, jsonb, text[]) IS
'Gives a projection another reducer, schema version, initial state or choice of events, and has it folded anew from the start of the log. What is NULL stays; event_types ''{}'' means all. Until the new states are complete the old ones are read, and go on with the old reducer; then both change at once. The new reducer runs with the rights of the caller.
Errors: 42704 no such projection; 42809 it is eduai''s own; 42883, 42P13, 42501 as eduai.create_projection(); 22004 name is NULL; 22023 bad input, or nothing to change; 25006. Role: eduai_admin.
Example: SELECT eduai.alter_projection(''minutes'', ''app.add_minutes_2(jsonb, eduai.event_record)'', schema_version => 2);';

CREATE OR REPLACE FUNCTION eduai.drop_projection(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_drop_projection' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.drop_projection(text) IS
'Drops a projection of all tenants. Its states are deleted by the projector afterwards.
Errors: 42704 no such projection; 42809 it is eduai''s own; 22004 name is NULL; 25006. Role: eduai_admin.
Example: SELECT eduai.drop_projection(''minutes'');';

CREATE OR REPLACE FUNCTION eduai.projection_state(projection text, key text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_projection_state' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.projection_state(text, text) IS
'The state of a key of a projection, of the session''s tenant, in the calling statement''s snapshot; NULL for a key of which no event was folded, or while the projection is first built. For ''progress'' the bare state that eduai.user_progress() shows.
Errors: 42704 no such projection; 22004 an argument is NULL; 22023 a key that cannot exist; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT eduai.projection_state(''minutes'', ''ana'') -> ''total'';';

CREATE OR REPLACE FUNCTION eduai.test_count_reducer(state jsonb, event eduai.event_record) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_test_count_reducer' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_count_reducer(jsonb, eduai.event_record) IS
'For tests: a reducer that counts events by type. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.create_projection(''counts'', ''eduai.test_count_reducer(jsonb, eduai.event_record)'');';

REVOKE ALL ON FUNCTION
	eduai.create_projection(text, regprocedure, text, text, text[], jsonb, int, int, text),
	eduai.alter_projection(text, regprocedure, int, jsonb, text[]),
	eduai.drop_projection(text),
	eduai.projection_state(text, text),
	eduai.test_count_reducer(jsonb, eduai.event_record)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	eduai.create_projection(text, regprocedure, text, text, text[], jsonb, int, int, text),
	eduai.alter_projection(text, regprocedure, int, jsonb, text[]),
	eduai.drop_projection(text)
	TO eduai_admin;
GRANT EXECUTE ON FUNCTION eduai.projection_state(text, text) TO eduai_app, eduai_reader, eduai_admin;

-- ---- events that could not be folded ----

CREATE OR REPLACE FUNCTION eduai.retry_parked(projection text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_retry_parked' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.retry_parked(text) IS
'Folds the parked events of the session''s tenant again, each key''s from the first on until one fails, and returns how many were folded, those that waited behind included. One that fails again has one try more in eduai.parked_event. Waits for transactions that parked events of the projection and have not ended, and they for this one.
Errors: 42704 no such projection; 42809 it is eduai''s own; 22004 projection is NULL; 25006 read-only transaction; UE012. Role: eduai_admin.
Example: SELECT eduai.retry_parked(''minutes'');';

CREATE OR REPLACE FUNCTION eduai.skip_parked(projection text, event_id uuid) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_skip_parked' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.skip_parked(text, uuid) IS
'Leaves a parked event of the session''s tenant out of the projection for good, also when that is rebuilt, and goes on with what waited behind it. Returns 1. The event stays in the log.
Errors: P0002 no such parked event; 42704 no such projection; 42809 it is eduai''s own; 22004 a NULL; 25006; UE012. Role: eduai_admin.
Example: SELECT eduai.skip_parked(projection, event_id) FROM eduai.parked_event WHERE projection = ''minutes'' AND sqlstate = ''22012'';';

CREATE OR REPLACE VIEW eduai.parked_event AS
	SELECT c.name AS projection, p.key, p.event_id, p.stream, p.version, p.event_type, p."position",
		p.error, p.sqlstate, p.tries, p.next_try_at, p.parked_at,
		(SELECT count(*) FROM eduai.projection_parked b
			WHERE b.tenant_id = p.tenant_id AND b.projection = p.projection
				AND b.generation = p.generation AND b.key = p.key AND b.place > p.place) AS waiting
	FROM eduai.projection_parked p
		JOIN eduai.projection c USING (projection)
		JOIN eduai.projection_generation g USING (projection)
	WHERE p.tenant_id = (SELECT eduai.current_tenant()) AND p.error IS NOT NULL
		AND p.generation = CASE g.live WHEN 0 THEN g.next ELSE g.live END;
COMMENT ON VIEW eduai.parked_event IS
'The session''s tenant''s events that a reducer could not fold, one for each key that is blocked: error and sqlstate of the last of so many tries; next_try_at, NULL once it waits for a person; "position", NULL for an event that was folded as it was appended; waiting, how many later events of the key wait behind it. See eduai.retry_parked() and eduai.skip_parked().';
GRANT SELECT ON eduai.parked_event TO eduai_admin, eduai_reader;
GRANT SELECT ON eduai.projection_skipped TO eduai_admin;

REVOKE ALL ON FUNCTION eduai.retry_parked(text), eduai.skip_parked(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.retry_parked(text), eduai.skip_parked(text, uuid) TO eduai_admin;
-- ---- cohorts ----

CREATE OR REPLACE FUNCTION eduai.set_cohort(cohort text, user_ids text[]) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_set_cohort' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.set_cohort(text, text[]) IS
'Makes user_ids the members of a cohort (a class, a course, a group) of the session''s tenant, in place of those that it had; an empty array removes the cohort. At most 10000 learners, who need no events yet; an id that stands twice counts once, and a learner may be in several cohorts. Two calls for one cohort take turns, each waiting for the other''s transaction: the members are those of the later one.
Errors: 22004 an argument or an element is NULL; 22023 a cohort or user_id that cannot exist (empty, longer than 512 bytes, control characters) or too many; 2202E more than one dimension; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.set_cohort(''6b'', ARRAY[''ana'', ''ben'']);';

CREATE OR REPLACE FUNCTION eduai.class_overview(cohort text) RETURNS SETOF eduai.class_row
	AS 'MODULE_PATHNAME', 'eduai_class_overview' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 30;
COMMENT ON FUNCTION eduai.class_overview(text) IS
'A row for each learner of a cohort, ordered by user_id, computed from their progress as it is in the calling statement''s snapshot; no rows for a cohort without members. level: current_level as text, as it may be a number or a name; mastered: skills mastered; attempts: at all skills; success_rate: the share of them that was correct, 0 to 1, NULL without any; last_activity: the latest occurred_at, NULL without events; at_risk: see eduai.at_risk_learners(); weakest_skills: up to three skills, practised at least once, with the lowest mastery below 0.8, lowest first and equal ones by name.
Errors: 22004 cohort is NULL; 22023 a cohort that cannot exist; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT user_id, success_rate, weakest_skills FROM eduai.class_overview(''6b'') WHERE at_risk;';

CREATE OR REPLACE FUNCTION eduai.at_risk_learners(cohort text DEFAULT NULL) RETURNS SETOF eduai.at_risk_learner
	AS 'MODULE_PATHNAME', 'eduai_at_risk_learners' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 30;
COMMENT ON FUNCTION eduai.at_risk_learners(text) IS
'The learners of a cohort, or of the whole tenant (whoever has events or is in a cohort) with NULL, who are at risk, ordered by user_id, with all reasons: inactive: no event occurred within eduai.at_risk_after (14 days; 0 turns this reason off), or none at all; low_success: fewer than half of at least five attempts were correct. last_activity is NULL without events; success_rate is 0 to 1, NULL without attempts. Computed in the calling statement''s snapshot.
Errors: 22023 a cohort that cannot exist; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT * FROM eduai.at_risk_learners(''6b'');';

CREATE OR REPLACE FUNCTION eduai.cohort_overview() RETURNS SETOF eduai.cohort_row
	AS 'MODULE_PATHNAME', 'eduai_cohort_overview' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 30;
COMMENT ON FUNCTION eduai.cohort_overview() IS
'A row for each cohort of the session''s tenant, ordered by name: learners: its members; active_learners: those with an event within eduai.at_risk_after; mean_mastered: skills mastered per member; success_rate: the share of all their attempts that was correct, 0 to 1, NULL without any; at_risk: how many members eduai.at_risk_learners() names; total_time_spent: in seconds; exercises_completed; last_activity: the latest of any member, NULL without events. Computed from the progress in the calling statement''s snapshot: what a materialized view of statistics would show, never stale.
Errors: UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT cohort, at_risk, learners FROM eduai.cohort_overview() ORDER BY at_risk DESC;';

REVOKE ALL ON FUNCTION eduai.set_cohort(text, text[]), eduai.class_overview(text), eduai.at_risk_learners(text),
	eduai.cohort_overview() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.set_cohort(text, text[]) TO eduai_app, eduai_admin;
GRANT EXECUTE ON FUNCTION eduai.class_overview(text), eduai.at_risk_learners(text), eduai.cohort_overview()
	TO eduai_app, eduai_reader, eduai_admin;

-- ---- rights ----

REVOKE ALL ON FUNCTION eduai.user_progress(text), eduai.progress_of(text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.user_progress(text), eduai.progress_of(text[])
	TO eduai_app, eduai_reader, eduai_admin;

-- ---- following and rebuilding ----

CREATE OR REPLACE FUNCTION eduai.rebuild_projection(name text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_rebuild_projection' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rebuild_projection(text) IS
'Folds the whole log again into a new set of states beside the live one, for all tenants, then puts it in the place of that at once; returns how many events were folded. Works for your projections and for eduai''s own, progress and learner_model. Readers never wait. A process of its own does the work, in committed batches: it goes on when the caller leaves or the server restarts, and a second caller waits for the same rebuild.
To put the new states of an inline projection in place, no transaction that has appended may be open: appenders wait for at most some 50 ms at a time, and while somebody keeps one open longer, the rebuild waits for just those (a NOTICE says so) and folds on.
Errors: 22004 name is NULL; 42704 no such projection; 25001 this transaction has written; 53000 no process could be started; UE011 not preloaded; what a fold raises, other than a reducer''s error, which parks the event. Role: eduai_admin.
Example: SELECT eduai.rebuild_projection(''progress'');';
CREATE OR REPLACE FUNCTION eduai.projection_rows() RETURNS SETOF eduai.projection_status_row
	AS 'MODULE_PATHNAME', 'eduai_projection_statuses' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION eduai.projection_rows() IS
'The rows of the view eduai.projection_status. Errors: UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT * FROM eduai.projection_rows();';

CREATE OR REPLACE VIEW eduai.projection_status AS
	SELECT name, mode, "position", lag_events, lag_seconds, parked_events, rebuilding,
		live_generation, rebuild_position, rebuild_phase, error, lanes
	FROM eduai.projection_rows();
COMMENT ON VIEW eduai.projection_status IS
'The projections, eduai''s own included, for the session''s tenant. position: an async one has folded the feed up to it; NULL for an inline one, which is never behind. lag_events: the tenant''s events after the position, wanted or not; lag_seconds: how long ago the first of them was recorded; 0 when it has caught up. parked_events: those that could not be folded, not counting those that wait behind them (eduai.parked_event). rebuilding: a new set of states is being built; rebuild_position and rebuild_phase (waiting for a process, folding, waiting for open transactions, cutting over) say how far it is. live_generation: the number of the set that readers see, NULL until a first one is complete. error: why it stands still, in any tenant; NULL when it does not.';

REVOKE ALL ON FUNCTION eduai.rebuild_projection(text), eduai.projection_rows() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.rebuild_projection(text) TO eduai_admin;
GRANT EXECUTE ON FUNCTION eduai.projection_rows() TO eduai_app, eduai_reader, eduai_admin;
GRANT SELECT ON eduai.projection_status TO eduai_app, eduai_reader, eduai_admin;


-- ---- learner model: state ----

CREATE OR REPLACE FUNCTION eduai.learner_prediction(user_id text, skill text, item text DEFAULT NULL)
	RETURNS double precision AS 'MODULE_PATHNAME', 'eduai_learner_prediction' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.learner_prediction(text, text, text) IS
'The probability, between 0 and 1, that the learner''s next answer in the skill is right, given now: to the item, or without one to any of the skill. It comes from the answers that the learner model has followed so far (see eduai.projection_status), as the calling statement''s snapshot shows them; time without practice counts. A learner, skill or item that is not known is predicted as a new one.
Errors: 22004 user_id or skill is NULL; 22023 a user_id, skill or item that cannot exist; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT eduai.learner_prediction(''ana'', ''fractions'', ''fr-17'');';

REVOKE ALL ON FUNCTION eduai.learner_prediction(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.learner_prediction(text, text, text) TO eduai_app, eduai_reader, eduai_admin;

-- ---- recommendations ----

CREATE OR REPLACE FUNCTION eduai.register_exercises(items text[], skills text[], levels text[] DEFAULT NULL,
		active boolean DEFAULT true)
	RETURNS bigint AS 'MODULE_PATHNAME', 'eduai_register_exercises' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.register_exercises(text[], text[], text[], boolean) IS
'Puts exercises into the tenant''s catalogue, from which eduai.recommend_exercises() takes those that a learner has not seen: each an item of a skill, as the answers name them, for learners whose current_level is the level; a level that is NULL fits all learners. Registered again, an exercise gets the new level and becomes active or not; without levels it keeps its own. One that is not active is not recommended, due or new. Returns how many exercises are new or changed; at most 100000 in a call.
Errors: 22004 items, skills, active, an item or a skill is NULL; 22023 arrays of different lengths, too many elements, a name of no or more than 512 bytes; 2202E more than one dimension; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.register_exercises(ARRAY[''fr-1'', ''fr-2''], ARRAY[''fractions'', ''fractions''], ARRAY[''1'', NULL]);';

CREATE OR REPLACE FUNCTION eduai.recommend_exercises(user_id text, max_count int DEFAULT 5)
	RETURNS SETOF eduai.recommendation AS 'MODULE_PATHNAME', 'eduai_recommend_exercises'
	LANGUAGE C STABLE PARALLEL UNSAFE ROWS 5;
COMMENT ON FUNCTION eduai.recommend_exercises(text, int) IS
'What the learner should do next, at most max_count exercises (1 to 100), in this order: what is due for repetition (reason due; item is NULL where the answers named none), longest due first; then active exercises of the catalogue for the learner''s current_level that the learner has not answered: those whose predicted success lies from eduai.recommend_success_min to eduai.recommend_success_max (reason new), nearest to the middle of that first; then the others (new: easier than the target, new: harder than the target), nearest to it first. Equals stand in the order of skill and item, by bytes. p_success is what eduai.learner_prediction() gives; due_at is NULL for new ones.
Errors: 22004 an argument is NULL; 22023 a user_id that cannot exist, max_count out of range, the least success above the most; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT * FROM eduai.recommend_exercises(''ana'', 3);';

REVOKE ALL ON FUNCTION eduai.register_exercises(text[], text[], text[], boolean),
	eduai.recommend_exercises(text, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.register_exercises(text[], text[], text[], boolean) TO eduai_app, eduai_admin;
GRANT EXECUTE ON FUNCTION eduai.recommend_exercises(text, int) TO eduai_app, eduai_reader, eduai_admin;

-- ---- statistics ----

CREATE OR REPLACE FUNCTION eduai.skill_statistics() RETURNS SETOF eduai.skill_statistic
	AS 'MODULE_PATHNAME', 'eduai_skill_statistics' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION eduai.skill_statistics() IS
'Of each skill that the tenant''s learners answered in, by name: learners who did, answers, success_rate (the share of right ones), difficulty (the probability that a learner of whom nothing is known is wrong, by the Elo model, which allows for who answered), mean_time_s (of the answers that say time_spent, in seconds; NULL when none does), last_answer_at. Exact for the events that the learner model has followed (see eduai.projection_status).
Errors: UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT skill, success_rate FROM eduai.skill_statistics() ORDER BY difficulty DESC LIMIT 10;';

CREATE OR REPLACE FUNCTION eduai.exercise_statistics(skill text DEFAULT NULL, max_count int DEFAULT 1000)
	RETURNS SETOF eduai.exercise_statistic AS 'MODULE_PATHNAME', 'eduai_exercise_statistics'
	LANGUAGE C STABLE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION eduai.exercise_statistics(text, int) IS
'Of each item that the tenant''s learners answered, of the skill or of all, by skill and item, the first max_count (1 to 10000): the level it is registered with (NULL: none, or not registered), answers, learners, success_rate, difficulty, mean_time_s, last_answer_at, as in eduai.skill_statistics().
Errors: 22004 max_count is NULL; 22023 max_count out of range, a skill that cannot exist; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT * FROM eduai.exercise_statistics(''fractions'');';

REVOKE ALL ON FUNCTION eduai.skill_statistics(), eduai.exercise_statistics(text, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.skill_statistics(), eduai.exercise_statistics(text, int)
	TO eduai_app, eduai_reader, eduai_admin;

-- ---- learner model: evaluation and fit ----

CREATE OR REPLACE FUNCTION eduai.learner_model_eval(since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL)
	RETURNS eduai.model_eval AS 'MODULE_PATHNAME', 'eduai_learner_model_eval' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.learner_model_eval(timestamptz, timestamptz) IS
'How good the learner model''s predictions are: replays the answers of the session''s tenant through the model in the order of the feed, each predicted before it is learnt from, with the fitted parameters that hold at its position, and compares the predictions of the answers given at since or later and before until (NULL: without limit; occurred_at, and recorded_at for what claims to be later than that) with what happened. An answer is an event of a learner with data.correct (boolean) and data.skill_name or data.skill; data.item or data.exercise names the item.
answers: how many were compared. Of the blend, which learner_prediction() gives: auc (the probability that a right answer had the greater prediction than a wrong one; 0.5 is chance), rmse, log_loss (nats), calibration_error (expected, of 15 bins). auc of two baselines: the learner''s last outcome in the skill, and the skill''s share of right answers so far. auc and log_loss of the single models: bkt, elo, logistic. All are NULL without answers, each auc when all outcomes are the same.
Takes a second for some 50000 answers, and memory for each answer, learner, skill and item; changes nothing. Errors: UE012; 57014 when cancelled. Role: eduai_admin.
Example: SELECT auc, calibration_error FROM eduai.learner_model_eval(now() - interval ''90 days'');';

CREATE OR REPLACE FUNCTION eduai.fit_learner_model() RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_fit_learner_model' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.fit_learner_model() IS
'Fits the parameters of Bayesian knowledge tracing to the answers of the session''s tenant, each skill by itself, by expectation maximisation, and writes them to eduai.model_parameters: they hold for the events that come after those fitted to. Skills with less than 100 answers or 20 learners keep what they have. Returns the number of skills fitted. The rest of the learner model learns from every answer by itself and needs no fit. Run it now and then, nightly for instance, in a transaction of its own: until that ends, the learner model does not follow the feed.
Reads the whole log; of more than two million answers it takes some learners, all of theirs. Errors: 25006 in a read-only transaction or on a standby; 55P03 when the model''s followers do not stop within lock_timeout; UE012; 57014 when cancelled. Role: eduai_admin.
Example: SELECT eduai.fit_learner_model();';

CREATE OR REPLACE FUNCTION eduai.test_learner_model(users text[], skills text[], items text[], correct boolean[],
		at timestamptz[]) RETURNS SETOF eduai.test_model_answer AS 'MODULE_PATHNAME', 'eduai_test_learner_model' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_learner_model(text[], text[], text[], boolean[], timestamptz[]) IS
'For tests: what the learner model says of each answer before it learns from it, and known, the probability that the skill is known right after; a NULL user, skill or item is unknown. Errors: 55000 unless eduai.test_mode is on; XX000 predict() and update() differ; 22023 arrays of different lengths. Role: superuser. Example: SELECT * FROM eduai.test_learner_model(ARRAY[''ana''], ARRAY[''sums''], ARRAY[NULL], ARRAY[true], ARRAY[now()]);';

CREATE OR REPLACE FUNCTION eduai.test_replay_learner_model() RETURNS float8[]
	AS 'MODULE_PATHNAME', 'eduai_test_replay_learner_model' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_replay_learner_model() IS
'For tests: the tenant''s state after a replay of the whole log, as eduai.learner_model_eval() does it: answers, right ones, the time of the last, features as in eduai.model_tenant. Errors: 55000 unless eduai.test_mode is on; UE012. Role: superuser. Example: SELECT eduai.test_replay_learner_model();';

CREATE OR REPLACE FUNCTION eduai.test_fit_skill(first boolean[], days int[], correct boolean[], rounds int)
	RETURNS SETOF eduai.test_fit_round AS 'MODULE_PATHNAME', 'eduai_test_fit_skill' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_fit_skill(boolean[], int[], boolean[], int) IS
'For tests: so many rounds of expectation maximisation of a skill''s answers, a row each: what is maximised before the round, and the parameters after it. first: a learner''s first answer; days since the answer before. Errors: 55000 unless eduai.test_mode is on; 22023 arrays of different lengths, days outside 0 to 365. Role: superuser. Example: SELECT * FROM eduai.test_fit_skill(ARRAY[true, false], ARRAY[0, 1], ARRAY[true, false], 3);';

REVOKE ALL ON FUNCTION eduai.learner_model_eval(timestamptz, timestamptz), eduai.fit_learner_model(),
	eduai.test_learner_model(text[], text[], text[], boolean[], timestamptz[]),
	eduai.test_replay_learner_model(), eduai.test_fit_skill(boolean[], int[], boolean[], int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.learner_model_eval(timestamptz, timestamptz), eduai.fit_learner_model() TO eduai_admin;
