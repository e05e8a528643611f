-- What the log says: projections, the states that they keep, the learner model.

CREATE TYPE eduai.learner_progress AS (user_id text, progress jsonb);

-- ---- the catalogue ----

-- The reducer and its role by name: their oids differ after a dump or
-- pg_upgrade. eduai's own projections (1 progress, 2 learner_model) are not
-- listed here: src/projections/catalog.c knows them.
CREATE SEQUENCE eduai.projection_id AS int START 100;
SELECT pg_catalog.pg_extension_config_dump('eduai.projection_id', '');

CREATE TABLE eduai.projection (
	projection int PRIMARY KEY DEFAULT pg_catalog.nextval('eduai.projection_id'),
	created_at timestamptz NOT NULL,
	schema_version int NOT NULL CHECK (schema_version > 0),
	lanes int NOT NULL CHECK (lanes BETWEEN 1 AND 64),
	name text COLLATE "C" NOT NULL UNIQUE,
	key text NOT NULL CHECK (key IN ('user_id', 'stream', 'session_id')),
	mode text NOT NULL CHECK (mode IN ('inline', 'async')),
	on_error text NOT NULL CHECK (on_error IN ('park', 'raise')),
	event_types text[] COLLATE "C",
	initial jsonb NOT NULL,
	reducer text NOT NULL,
	role name NOT NULL
);
COMMENT ON TABLE eduai.projection IS
'The projections that an administrator created. Written by eduai.create_projection(), which also tells the sessions. Read eduai.projection_status.';
SELECT pg_catalog.pg_extension_config_dump('eduai.projection', '');

-- One of eduai's own projections without a row here has generation 1.
CREATE TABLE eduai.projection_generation (
	projection int PRIMARY KEY,
	live int NOT NULL,
	next int NOT NULL,
	retired int[] NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE eduai.projection_generation IS
'Which generation of a projection''s states readers see (live; 0: none is complete yet), which one is being built beside it (next; 0: none), and which are still to be deleted (retired).';
SELECT pg_catalog.pg_extension_config_dump('eduai.projection_generation', '');

-- ---- alterations ----

-- A generation is folded with one reducer from its first event to its last: so
-- an alteration stands here, beside what the live generation goes on with.
CREATE TABLE eduai.projection_altered (
	projection int PRIMARY KEY,
	generation int NOT NULL,
	schema_version int NOT NULL CHECK (schema_version > 0),
	event_types text[] COLLATE "C",
	initial jsonb NOT NULL,
	reducer text NOT NULL,
	role name NOT NULL
);
COMMENT ON TABLE eduai.projection_altered IS
'What eduai.alter_projection() has made of a projection: its generations from "generation" on are folded so, those before as eduai.projection says.';
SELECT pg_catalog.pg_extension_config_dump('eduai.projection_altered', '');

-- ---- states ----

-- A row per key, rewritten by every event about it: room on the page for the
-- next version keeps the updates heap-only. Written only by
-- src/projections/state_table.c, by whoever has the key to himself.
CREATE TABLE eduai.projection_state (
	version bigint NOT NULL,
	last_at timestamptz NOT NULL,
	projection int NOT NULL,
	generation int NOT NULL,
	parked boolean NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	key text COLLATE "C" NOT NULL,
	state jsonb NOT NULL,
	PRIMARY KEY (tenant_id, projection, generation, key)
) WITH (fillfactor = 70);
COMMENT ON TABLE eduai.projection_state IS
'The state of each key of each projection: version counts the events folded, last_at is the latest occurred_at among them, parked says that an event of the key could not be folded and waits in eduai.projection_parked with those after it. Read it with eduai.projection_state() and eduai.user_progress().';
SELECT pg_catalog.pg_extension_config_dump('eduai.projection_state', '');

-- A state of more than some 2 kB is compressed at every event; pglz would take
-- a quarter of the append.
DO $$
BEGIN
	ALTER TABLE eduai.projection_state ALTER COLUMN state SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
	NULL; -- a server built without lz4 keeps its default
END $$;

-- ---- followers of the feed ----

CREATE TYPE eduai.projection_status_row AS (
	name text,
	mode text,
	"position" bigint,
	lag_events bigint,
	lag_seconds double precision,
	parked_events bigint,
	rebuilding boolean,
	live_generation int,
	rebuild_position bigint,
	rebuild_phase text,
	error text,
	lanes int
);
COMMENT ON TYPE eduai.projection_status_row IS
'A row of the view eduai.projection_status.';

CREATE TABLE eduai.projection_position (
	position bigint NOT NULL,
	events bigint NOT NULL,
	projection int NOT NULL,
	generation int NOT NULL,
	lane int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, projection, generation, lane)
) WITH (fillfactor = 50);
COMMENT ON TABLE eduai.projection_position IS
'How far each lane of a projection has followed a tenant''s feed: written in the transaction that writes the states. events counts those that it folded.';
SELECT pg_catalog.pg_extension_config_dump('eduai.projection_position', '');

-- ---- events that could not be folded ----

CREATE TABLE eduai.projection_parked (
	place bigint NOT NULL,
	version bigint NOT NULL,
	position bigint,
	parked_at timestamptz NOT NULL,
	next_try_at timestamptz,
	event_id uuid NOT NULL,
	projection int NOT NULL,
	generation int NOT NULL,
	tries int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	key text COLLATE "C" NOT NULL,
	stream text COLLATE "C" NOT NULL,
	event_type text COLLATE "C" NOT NULL,
	sqlstate text,
	error text,
	PRIMARY KEY (tenant_id, projection, generation, key, place)
);
CREATE INDEX projection_parked_due ON eduai.projection_parked (next_try_at) WHERE error IS NOT NULL;
COMMENT ON TABLE eduai.projection_parked IS
'Events that a reducer could not fold, with its error, and the events of the same key after them, without one, in the order of place. position is NULL for those of inline projections; next_try_at is NULL once the tries are used up.';
SELECT pg_catalog.pg_extension_config_dump('eduai.projection_parked', '');

CREATE TABLE eduai.projection_skipped (
	skipped_at timestamptz NOT NULL,
	event_id uuid NOT NULL,
	projection int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	role name NOT NULL,
	PRIMARY KEY (tenant_id, projection, event_id)
);
COMMENT ON TABLE eduai.projection_skipped IS
'Events that eduai.skip_parked() took out of a projection for good: a rebuild passes them over, too.';
SELECT pg_catalog.pg_extension_config_dump('eduai.projection_skipped', '');

-- The second wall: the functions run as the owner and filter by themselves.
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['projection_state', 'projection_position', 'projection_parked', 'projection_skipped'] LOOP
		EXECUTE format('ALTER TABLE eduai.%I ENABLE ROW LEVEL SECURITY', name);
		EXECUTE format('CREATE POLICY %I ON eduai.%I USING (tenant_id = (SELECT eduai.current_tenant()))'
			' WITH CHECK (tenant_id = (SELECT eduai.current_tenant()))', name || '_tenant', name);
	END LOOP;
END
$$;

GRANT SELECT ON eduai.projection, eduai.projection_generation, eduai.projection_altered, eduai.projection_state
	TO eduai_admin;

-- ---- learner model: state ----

-- A row per entity of src/projections/model.h, in its field order; features
-- holds the rest of the fields, without the zeros at its end. Written only by
-- src/projections/model_table.c, by the follower of the learner model, which
-- rewrites a row at every batch that touches it: room on the page keeps that
-- heap-only.
CREATE TABLE eduai.model_tenant (
	answers bigint NOT NULL,
	correct bigint NOT NULL,
	last_at timestamptz NOT NULL,
	generation int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	features float8[] NOT NULL,
	PRIMARY KEY (tenant_id, generation)
) WITH (fillfactor = 20);
COMMENT ON TABLE eduai.model_tenant IS
'The learner model: what all learners of a tenant share, the weights of the logistic model and of the blend (features, in the order of EduaiModelTenant in src/projections/model.h).';
SELECT pg_catalog.pg_extension_config_dump('eduai.model_tenant', '');

CREATE TABLE eduai.model_learner (
	answers bigint NOT NULL,
	correct bigint NOT NULL,
	last_at timestamptz NOT NULL,
	ability float8 NOT NULL,
	generation int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	user_id text COLLATE "C" NOT NULL,
	features float8[] NOT NULL,
	PRIMARY KEY (tenant_id, generation, user_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE eduai.model_learner IS
'The learner model: each learner''s answers and ability (a logit: 0 is a learner of whom nothing is known); features is the model''s own.';
SELECT pg_catalog.pg_extension_config_dump('eduai.model_learner', '');

CREATE TABLE eduai.model_skill (
	answers bigint NOT NULL,
	correct bigint NOT NULL,
	last_at timestamptz NOT NULL,
	difficulty float8 NOT NULL,
	learners bigint NOT NULL,
	first_correct bigint NOT NULL,
	timed bigint NOT NULL,
	time_us bigint NOT NULL,
	generation int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	skill text COLLATE "C" NOT NULL,
	features float8[] NOT NULL,
	PRIMARY KEY (tenant_id, generation, skill)
) WITH (fillfactor = 70);
COMMENT ON TABLE eduai.model_skill IS
'The learner model: each skill''s answers, learners, right first answers and difficulty (a logit); the sum of the times of the timed answers in microseconds; features is the model''s own. Read eduai.skill_statistics().';
SELECT pg_catalog.pg_extension_config_dump('eduai.model_skill', '');

CREATE TABLE eduai.model_item (
	answers bigint NOT NULL,
	correct bigint NOT NULL,
	last_at timestamptz NOT NULL,
	difficulty float8 NOT NULL,
	learners bigint NOT NULL,
	timed bigint NOT NULL,
	time_us bigint NOT NULL,
	generation int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	skill text COLLATE "C" NOT NULL,
	item text COLLATE "C" NOT NULL,
	features float8[] NOT NULL,
	PRIMARY KEY (tenant_id, generation, skill, item)
) WITH (fillfactor = 70);
COMMENT ON TABLE eduai.model_item IS
'The learner model: each item''s answers, learners and difficulty (a logit, beside that of its skill); an item answered under two skills has two rows. Read eduai.exercise_statistics().';
SELECT pg_catalog.pg_extension_config_dump('eduai.model_item', '');

CREATE TABLE eduai.model_learner_skill (
	answers bigint NOT NULL,
	correct bigint NOT NULL,
	last_at timestamptz NOT NULL,
	known float8 NOT NULL,
	ability float8 NOT NULL,
	generation int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	user_id text COLLATE "C" NOT NULL,
	skill text COLLATE "C" NOT NULL,
	features float8[] NOT NULL,
	PRIMARY KEY (tenant_id, generation, user_id, skill)
) WITH (fillfactor = 70);
COMMENT ON TABLE eduai.model_learner_skill IS
'The learner model: each learner''s answers in a skill, the probability that the skill was known right after the last of them, and the ability in the skill (a logit, beside the learner''s); features is the model''s own. Read eduai.learner_prediction().';
SELECT pg_catalog.pg_extension_config_dump('eduai.model_learner_skill', '');

-- item is empty for the answers in a skill that name no item.
CREATE TABLE eduai.model_learner_item (
	answers bigint NOT NULL,
	correct bigint NOT NULL,
	last_at timestamptz NOT NULL,
	easiness float8 NOT NULL,
	interval_days bigint NOT NULL,
	repetitions bigint NOT NULL,
	due_at timestamptz NOT NULL,
	generation int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	user_id text COLLATE "C" NOT NULL,
	skill text COLLATE "C" NOT NULL,
	item text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, generation, user_id, skill, item)
) WITH (fillfactor = 80);
COMMENT ON TABLE eduai.model_learner_item IS
'Each learner''s answers to an item (item is empty for those that name none: the skill itself), and when it is to be seen again: spaced repetition, the intervals in days. Read eduai.recommend_exercises().';
SELECT pg_catalog.pg_extension_config_dump('eduai.model_learner_item', '');

-- What is due first, without looking at what is not due.
CREATE INDEX model_learner_item_due ON eduai.model_learner_item (tenant_id, generation, user_id, due_at);

DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY ARRAY['model_tenant', 'model_learner', 'model_skill', 'model_item',
			'model_learner_skill', 'model_learner_item'] LOOP
		EXECUTE format('ALTER TABLE eduai.%I ENABLE ROW LEVEL SECURITY', name);
		EXECUTE format('CREATE POLICY %I ON eduai.%I USING (tenant_id = (SELECT eduai.current_tenant()))'
			' WITH CHECK (tenant_id = (SELECT eduai.current_tenant()))', name || '_tenant', name);
	END LOOP;
END
$$;

GRANT SELECT ON eduai.model_tenant, eduai.model_learner, eduai.model_skill, eduai.model_item,
	eduai.model_learner_skill, eduai.model_learner_item TO eduai_admin;

-- ---- recommendations ----

CREATE TYPE eduai.recommendation AS (
	item text,
	skill text,
	reason text,
	p_success double precision,
	due_at timestamptz
);

CREATE TABLE eduai.exercise (
	tenant_id text COLLATE "C" NOT NULL,
	skill text COLLATE "C" NOT NULL,
	item text COLLATE "C" NOT NULL,
	level text COLLATE "C",
	active boolean NOT NULL,
	PRIMARY KEY (tenant_id, skill, item)
);
COMMENT ON TABLE eduai.exercise IS
'The exercises that eduai.recommend_exercises() may recommend to learners who have not seen them: level as in the learner''s current_level, NULL for every level. Written by eduai.register_exercises().';
SELECT pg_catalog.pg_extension_config_dump('eduai.exercise', '');

-- A level's skills, and a skill's exercises of a level, without those that are retired.
CREATE INDEX exercise_level ON eduai.exercise (tenant_id, level, skill, item) WHERE active;

ALTER TABLE eduai.exercise ENABLE ROW LEVEL SECURITY;
CREATE POLICY exercise_tenant ON eduai.exercise USING (tenant_id = (SELECT eduai.current_tenant()))
	WITH CHECK (tenant_id = (SELECT eduai.current_tenant()));
GRANT SELECT ON eduai.exercise TO eduai_admin;

-- ---- statistics ----

CREATE TYPE eduai.skill_statistic AS (
	skill text,
	learners bigint,
	answers bigint,
	success_rate double precision,
	difficulty double precision,
	mean_time_s double precision,
	last_answer_at timestamptz
);

CREATE TYPE eduai.exercise_statistic AS (
	item text,
	skill text,
	level text,
	answers bigint,
	learners bigint,
	success_rate double precision,
	difficulty double precision,
	mean_time_s double precision,
	last_answer_at timestamptz
);

-- ---- learner model: evaluation and fit ----

CREATE TYPE eduai.model_eval AS (
	answers bigint,
	auc double precision,
	rmse double precision,
	log_loss double precision,
	calibration_error double precision,
	last_outcome_auc double precision,
	skill_mean_auc double precision,
	bkt_auc double precision,
	elo_auc double precision,
	logistic_auc double precision,
	skill_mean_log_loss double precision,
	bkt_log_loss double precision,
	elo_log_loss double precision,
	logistic_log_loss double precision
);

CREATE TYPE eduai.test_model_answer AS (bkt float8, elo float8, logistic float8, blend float8, known float8);
CREATE TYPE eduai.test_fit_round AS (objective float8, p_init float8, p_learn float8, p_slip float8, p_guess float8,
	p_forget float8);

CREATE TABLE eduai.model_parameters (
	from_position bigint NOT NULL,
	p_init float8 NOT NULL,
	p_learn float8 NOT NULL,
	p_slip float8 NOT NULL,
	p_guess float8 NOT NULL,
	p_forget float8 NOT NULL,
	answers bigint NOT NULL,
	learners bigint NOT NULL,
	fitted_at timestamptz NOT NULL,
	rounds int NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	skill text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, skill, from_position)
);
COMMENT ON TABLE eduai.model_parameters IS
'The parameters of Bayesian knowledge tracing that eduai.fit_learner_model() found for a skill from so many answers of so many learners in so many rounds: the probabilities that a learner knows the skill before the first answer (p_init), learns it at an answer (p_learn), answers wrong though he knows it (p_slip) or right though he does not (p_guess), and loses it in a day without an answer (p_forget). A row holds for the events from from_position on, up to the skill''s next row; older rows stay, for a replay of the log to come out the same.';
SELECT pg_catalog.pg_extension_config_dump('eduai.model_parameters', '');

ALTER TABLE eduai.model_parameters ENABLE ROW LEVEL SECURITY;
CREATE POLICY model_parameters_tenant ON eduai.model_parameters USING (tenant_id = (SELECT eduai.current_tenant()))
	WITH CHECK (tenant_id = (SELECT eduai.current_tenant()));
GRANT SELECT ON eduai.model_parameters TO eduai_admin;
-- ---- cohorts ----

CREATE TYPE eduai.class_row AS (user_id text, level text, mastered int, attempts bigint,
	success_rate double precision, last_activity timestamptz, at_risk boolean, weakest_skills text[]);
CREATE TYPE eduai.at_risk_learner AS (user_id text, reasons text[], last_activity timestamptz,
	success_rate double precision);
CREATE TYPE eduai.cohort_row AS (cohort text, learners bigint, active_learners bigint,
	mean_mastered double precision, success_rate double precision, at_risk bigint,
	total_time_spent double precision, exercises_completed bigint, last_activity timestamptz);

CREATE TABLE eduai.cohort_member (
	tenant_id text COLLATE "C" NOT NULL,
	cohort text COLLATE "C" NOT NULL,
	user_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (tenant_id, cohort, user_id)
);
CREATE INDEX cohort_member_user_id ON eduai.cohort_member (tenant_id, user_id);
COMMENT ON TABLE eduai.cohort_member IS
'Who is in which cohort (a class, a course, a group). Written by eduai.set_cohort(); read eduai.class_overview().';
SELECT pg_catalog.pg_extension_config_dump('eduai.cohort_member', '');
ALTER TABLE eduai.cohort_member ENABLE ROW LEVEL SECURITY;
CREATE POLICY cohort_member_tenant ON eduai.cohort_member
	USING (tenant_id = (SELECT eduai.current_tenant())) WITH CHECK (tenant_id = (SELECT eduai.current_tenant()));
GRANT SELECT ON eduai.cohort_member TO eduai_admin;
