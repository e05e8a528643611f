-- The log's state.

CREATE TYPE eduai.appended AS (event_id uuid, stream text, version bigint);

CREATE TYPE eduai.event_record AS (
	"position" bigint,
	event_id uuid,
	stream text,
	version bigint,
	event_type text,
	user_id text,
	session_id text,
	data jsonb,
	metadata jsonb,
	occurred_at timestamptz,
	recorded_at timestamptz
);
COMMENT ON TYPE eduai.event_record IS
'An event as the functions return it. position is NULL in what eduai.read_stream() returns: a stream is ordered by version.';

-- Written only by src/events/store.c, which holds the stream's lock. The ids
-- lead their index: two indexes that begin with the tenant would tempt the
-- planner to read a stream through the one that cannot find it.
CREATE TABLE eduai.event (
	tenant_id text NOT NULL,
	stream text NOT NULL,
	version bigint NOT NULL CHECK (version > 0),
	event_id uuid NOT NULL,
	event_type text NOT NULL,
	user_id text,
	session_id text,
	data jsonb NOT NULL,
	metadata jsonb NOT NULL,
	occurred_at timestamptz NOT NULL,
	recorded_at timestamptz NOT NULL,
	PRIMARY KEY (tenant_id, stream, version),
	UNIQUE (event_id, tenant_id)
);
COMMENT ON TABLE eduai.event IS
'The log of learner events. Read it with eduai.read_stream(): how events are stored is not part of the contract.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event', '');

-- What the types mean. A dump carries those that an administrator added; the
-- built-in ones come with the extension.
CREATE TABLE eduai.event_type (
	event_type text PRIMARY KEY,
	description text NOT NULL DEFAULT '',
	data_keys jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(data_keys) = 'object'),
	sensitive_fields text[] NOT NULL DEFAULT '{}',
	json_schema jsonb,
	schema_version int NOT NULL DEFAULT 1 CHECK (schema_version > 0),
	builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE eduai.event_type IS
'The registered event types. data_keys says what each key of data means; sensitive_fields names the keys that hold free text or media about a learner. Other types are accepted too.';
SELECT pg_catalog.pg_extension_config_dump('eduai.event_type', 'WHERE NOT builtin');

INSERT INTO eduai.event_type (event_type, description, data_keys, sensitive_fields, builtin) VALUES
('learning_started', 'A learner starts a session, a course or a unit.',
 '{"content_id": "text: what is started", "course_id": "text: the course it belongs to"}',
 '{}', true),
('content_viewed', 'A learner opens a page, a video or another resource.',
 '{"content_id": "text: what is viewed", "content_type": "text: page, video, ...", "time_spent": "number: seconds"}',
 '{}', true),
('exercise_attempted', 'A learner answers an exercise without completing or mastering it yet.',
 '{"skill_name": "text: the skill practised; skill is accepted too", "item": "text: the exercise; exercise is accepted too", "answer": "text: what the learner answered", "score": "number: 0 to 1, above 1 a percentage", "correct": "boolean", "time_efficiency": "number: 1 is the expected pace", "attempts": "number: tries at this exercise, 1 or more"}',
 '{answer}', true),
('exercise_completed', 'A learner finishes an exercise.',
 '{"skill_name": "text: the skill practised; skill is accepted too", "item": "text: the exercise; exercise is accepted too", "answer": "text: what the learner answered", "score": "number: 0 to 1, above 1 a percentage", "correct": "boolean", "time_efficiency": "number: 1 is the expected pace", "attempts": "number: tries at this exercise, 1 or more", "time_spent": "number: seconds"}',
 '{answer}', true),
('skill_mastered', 'A learner masters a skill.',
 '{"skill_name": "text: the skill; skill is accepted too", "score": "number: 0 to 1, above 1 a percentage", "time_efficiency": "number", "attempts": "number"}',
 '{}', true),
('difficulty_adjusted', 'The level of what a learner is given changes.',
 '{"old_level": "number or text", "new_level": "number or text", "reason": "text"}',
 '{}', true),
('emotion_detected', 'An emotion is recognised.',
 '{"emotion": "text: joy, frustration, ...", "confidence": "number: 0 to 1", "context": "text: what was going on"}',
 '{context}', true),
('achievement_unlocked', 'A learner earns a badge or reaches a milestone.',
 '{"achievement": "text: its name"}',
 '{}', true),
('ai_feedback_given', 'An AI task about the learner ended with a result.',
 '{"task_id": "number: the task", "task_type": "text", "state": "text: the task''s final state", "instance": "text: the provider instance, null for an application''s worker", "finish_reason": "text: the provider''s, when it gave one", "feedback": "text: what the learner was told, in events an application appends"}',
 '{feedback}', true),
('metacognition_triggered', 'A learner is invited to reflect on how they learn.',
 '{"prompt": "text: what they were asked", "response": "text: what they answered"}',
 '{prompt,response}', true),
('interaction_recorded', 'A learner interacts with the interface.',
 '{"interaction_type": "text", "content": "text or object: what was done"}',
 '{content}', true),
('collaboration_joined', 'A learner joins a shared activity.',
 '{"collaboration_id": "text: the activity", "role": "text"}',
 '{}', true);

-- The second wall: the functions run as the owner and filter by themselves.
ALTER TABLE eduai.event ENABLE ROW LEVEL SECURITY;
CREATE POLICY event_tenant ON eduai.event
	USING (tenant_id = (SELECT eduai.current_tenant()))
	WITH CHECK (tenant_id = (SELECT eduai.current_tenant()));

GRANT SELECT ON eduai.event TO eduai_admin;
GRANT SELECT ON eduai.event_type TO eduai_admin, eduai_app, eduai_reader;
GRANT INSERT, UPDATE, DELETE ON eduai.event_type TO eduai_admin;
