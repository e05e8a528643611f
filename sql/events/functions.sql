-- The log: appending and reading streams.

CREATE OR REPLACE FUNCTION eduai.append_event(
	stream text,
	event_type text,
	data jsonb DEFAULT '{}',
	user_id text DEFAULT NULL,
	session_id text DEFAULT NULL,
	metadata jsonb DEFAULT '{}',
	expected_version bigint DEFAULT NULL,
	event_id uuid DEFAULT NULL,
	occurred_at timestamptz DEFAULT NULL
) RETURNS eduai.appended
	AS 'MODULE_PATHNAME', 'eduai_append_event' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.append_event(text, text, jsonb, text, text, jsonb, bigint, uuid, timestamptz) IS
'Appends one event to a stream, in the caller''s transaction, and folds it into the progress of the learner user_id.
Names (stream, event_type, user_id, session_id) have 1 to 512 bytes and no control characters; data and metadata are JSON objects, NULL means {}. expected_version: NULL appends after whatever is there, 0 requires that the stream does not exist, n that it is at version n. event_id: NULL makes a UUIDv7; an id given again with the same content returns the first result and appends nothing. occurred_at: NULL is the time of recording.
Waits for other transactions that appended to the same stream or learner and have not ended. Has an effect, so call it in FROM: (f()).* would append once per column.
Under READ COMMITTED an append without expected_version never fails because of other transactions; under REPEATABLE READ one with a user_id raises 40001 when the learner''s progress changed after the transaction''s snapshot, and under SERIALIZABLE any may: retry it.
Errors: UE001 the stream is at another version (the detail says which); UE006 the event_id exists with other content; 22004 stream or event_type is NULL; 22023 bad input; 25006 read-only transaction; UE012 the role may not act for the tenant. Role: eduai_app, eduai_admin.
Example: SELECT * FROM eduai.append_event(''course-7'', ''content_viewed'', ''{"content_id": "p1"}'', user_id => ''ana'');';

CREATE OR REPLACE FUNCTION eduai.append_events(
	stream text,
	events jsonb,
	expected_version bigint DEFAULT NULL
) RETURNS SETOF eduai.appended
	AS 'MODULE_PATHNAME', 'eduai_append_events' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.append_events(text, jsonb, bigint) IS
'Appends a JSON array of events to one stream, all or none, with consecutive versions; returns a row per event, in order. Keys of an event: type (required), data, user_id, session_id, metadata, event_id, occurred_at (ISO 8601); any other key is refused, a key that is null counts as absent. Events whose event_id is stored with the same content are not appended again. The rest is as for eduai.append_event(); the error''s context says which event of the array it is about.
Errors: those of eduai.append_event(); 22P02 an event_id that is no uuid; 22007 an occurred_at that is no time. Role: eduai_app, eduai_admin.
Example: SELECT * FROM eduai.append_events(''course-7'', ''[{"type": "learning_started"}, {"type": "content_viewed", "user_id": "ana"}]'', 0);';

CREATE OR REPLACE FUNCTION eduai.append_batch(
	streams text[],
	event_types text[],
	data jsonb[],
	user_ids text[] DEFAULT NULL,
	session_ids text[] DEFAULT NULL,
	event_ids uuid[] DEFAULT NULL,
	occurred_at timestamptz[] DEFAULT NULL
) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_append_batch' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.append_batch(text[], text[], jsonb[], text[], text[], uuid[], timestamptz[]) IS
'Appends many events, to any streams, all or none, and returns how many were new: those whose event_id is stored with the same content are not appended again. Element n of each array belongs to event n; the events of a stream get consecutive versions in that order. An optional array may be NULL; an element of data, user_ids, session_ids, event_ids or occurred_at may be NULL, with the meaning it has in eduai.append_event(). Metadata is {}.
One call takes its locks in sorted order and cannot deadlock with another call.
Errors: those of eduai.append_event(), the context says which event; 2202E arrays of unequal length or of more than one dimension. Role: eduai_app, eduai_admin.
Example: SELECT eduai.append_batch(ARRAY[''learner-ana'', ''learner-ben''], ARRAY[''learning_started'', ''learning_started''], ARRAY[''{}'', ''{}'']::jsonb[], ARRAY[''ana'', ''ben'']);';

CREATE OR REPLACE FUNCTION eduai.publish_event(
	event_type text,
	user_id text,
	session_id text,
	data jsonb DEFAULT '{}'
) RETURNS uuid
	AS 'MODULE_PATHNAME', 'eduai_publish_event' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.publish_event(text, text, text, jsonb) IS
'Appends an event about a learner to the stream ''learner-'' || user_id and returns its id. session_id may be NULL. Otherwise as eduai.append_event() without expected_version; with the prefix the stream has at most 512 bytes.
Errors: 22004 event_type or user_id is NULL; 22023 bad input; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.publish_event(''skill_mastered'', ''ana'', ''s-1'', ''{"skill_name": "fractions"}'');';

CREATE OR REPLACE FUNCTION eduai.read_stream(
	stream text,
	from_version bigint DEFAULT NULL,
	max_count int DEFAULT 1000,
	backward boolean DEFAULT false
) RETURNS SETOF eduai.event_record
	AS 'MODULE_PATHNAME', 'eduai_read_stream' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION eduai.read_stream(text, bigint, int, boolean) IS
'The events of a stream, in the order of their versions from from_version on; with backward, from from_version down. from_version NULL, the default, is the end that is read first: version 1, or with backward the last. max_count is 1 to 10000. No row when there is nothing. Reads in the calling statement''s snapshot and sees what the transaction appended before that statement. "position" is NULL.
Errors: 22004 stream, max_count or backward is NULL; 22023 a stream that cannot exist or a max_count out of range; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT * FROM eduai.read_stream(''learner-ana'', max_count => 10, backward => true);';

CREATE OR REPLACE FUNCTION eduai.stream_version(stream text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_stream_version' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.stream_version(text) IS
'The version of the last event of a stream, which is also their number; 0 when the stream does not exist. Reads in the calling statement''s snapshot.
Errors: 22004 stream is NULL; 22023 a stream that cannot exist; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT eduai.stream_version(''learner-ana'');';

-- ---- the feed ----

CREATE OR REPLACE FUNCTION eduai.read_all(
	after_position bigint DEFAULT 0,
	max_count int DEFAULT 1000,
	event_types text[] DEFAULT NULL,
	category text DEFAULT NULL
) RETURNS SETOF eduai.event_record
	AS 'MODULE_PATHNAME', 'eduai_read_all' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION eduai.read_all(bigint, int, text[], text) IS
'The tenant''s events in the order of the feed, those with a position greater than after_position, at most max_count (1 to 10000). event_types: only these types, NULL is all; category: only streams whose name up to the first "-" is this, NULL is all. To read on, pass the last row''s "position".
Order: if one transaction was visible before another began to commit, its events come first; the versions of a stream are never inverted; nothing ever appears at or before a position already read. Positions grow but are not dense. Events of transactions that are still committing, and all after them, come with a later call; under REPEATABLE READ and SERIALIZABLE those that the transaction''s snapshot does not show.
Under READ COMMITTED it reads with a snapshot of its own, fresher than the statement''s. On a standby the last transactions appear once another append or the projector of the primary followed.
Errors: 22004 after_position or max_count is NULL; 22023 a max_count out of range, an event type that cannot exist; 2202E an array of more than one dimension; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT "position", stream, event_type FROM eduai.read_all(after_position => 1041, max_count => 100, category => ''learner'');';

CREATE OR REPLACE FUNCTION eduai.event_removed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'eduai_event_removed' LANGUAGE C;
COMMENT ON FUNCTION eduai.event_removed() IS
'A trigger on eduai.event: events were changed by SQL, by an administrator''s hand, so that what shared memory knows of their streams is void. Errors: none. Role: none.';
CREATE OR REPLACE TRIGGER event_removed AFTER DELETE OR UPDATE OR TRUNCATE ON eduai.event
	FOR EACH STATEMENT EXECUTE FUNCTION eduai.event_removed();
REVOKE ALL ON FUNCTION eduai.event_removed() FROM PUBLIC;

-- ---- subscriptions ----

CREATE OR REPLACE FUNCTION eduai.create_subscription(
	name text,
	event_types text[] DEFAULT NULL,
	category text DEFAULT NULL,
	after_position bigint DEFAULT 0,
	members int DEFAULT 1
) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_create_subscription' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.create_subscription(text, text[], text, bigint, int) IS
'Makes a subscription of the session''s tenant: a durable place in the feed for each of its members. name: 1 to 512 bytes, no control characters. event_types and category choose the events; NULL means all, both together mean both. after_position: the members begin after it; 0 is the start of the log. members: 1 to 256; each stream belongs to one of them.
Errors: 42710 the name exists; 22004 name, after_position or members is NULL, or an event type; 22023 bad input, or a position beyond the last that may be read; 25006 read-only transaction; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.create_subscription(''mailer'', event_types => ARRAY[''skill_mastered''], members => 4);';

CREATE OR REPLACE FUNCTION eduai.drop_subscription(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_drop_subscription' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.drop_subscription(text) IS
'Drops a subscription with all its members. Waits for transactions that acknowledged events of it and have not ended.
Errors: 42704 it does not exist; 22004 name is NULL; 25006; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.drop_subscription(''mailer'');';

CREATE OR REPLACE FUNCTION eduai.set_subscription_members(name text, members int) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_set_subscription_members' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.set_subscription_members(text, int) IS
'Changes the number of a subscription''s members, 1 to 256; streams move between them. All members go on from the least position of the old ones, so events may come again and none is lost. An acknowledgement that a consumer of the old arrangement sends late counts only as far as the new one has fetched, else it raises 55000. The same number changes nothing. Waits for transactions that acknowledged events and have not ended.
Errors: 42704 no such subscription; 22004 an argument is NULL; 22023 a number out of range; 25006; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.set_subscription_members(''mailer'', 8);';

CREATE OR REPLACE FUNCTION eduai.seek_subscription(name text, after_position bigint) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_seek_subscription' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.seek_subscription(text, bigint) IS
'Moves all members of a subscription to a position, forward or back: the events after it come next, 0 for all again. Late acknowledgements are held off as after eduai.set_subscription_members().
Errors: 42704 no such subscription; 22004 an argument is NULL; 22023 a negative position, or one beyond the last that may be read; 25006; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.seek_subscription(''mailer'', 0);';

CREATE OR REPLACE FUNCTION eduai.fetch_events(
	subscription text,
	max_count int DEFAULT 100,
	member int DEFAULT 0,
	wait interval DEFAULT '0'
) RETURNS SETOF eduai.event_record
	AS 'MODULE_PATHNAME', 'eduai_fetch_events' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION eduai.fetch_events(text, int, int, interval) IS
'The next events of a subscription for one member (0 to members - 1), in the order of their positions, at most max_count (1 to 10000): those after its position, so the same again until eduai.ack_events(). A stream always goes to one member. wait (0 to 1 hour): when there is nothing, blocks until there is or the time is over, without polling; the statement''s snapshot is held meanwhile.
Under READ COMMITTED it sees all that was committed before the call, and while it waits what is committed then. Under REPEATABLE READ and SERIALIZABLE it sees what the transaction''s snapshot shows: waiting then ends, with no rows, when anything at all is appended. Without wait it works on standbys and in read-only transactions: it writes only after passing over 10000 positions with nothing in them, and after a seek or a change of the members.
Errors: 42704 no such subscription; 22004 an argument is NULL; 22023 no such member, or max_count or wait out of range; 0A000 wait on a standby; UE011 wait without preload; UE012. Role: eduai_app, eduai_admin.
Example: SELECT * FROM eduai.fetch_events(''mailer'', 50, wait => ''30 s'');';

CREATE OR REPLACE FUNCTION eduai.ack_events(
	subscription text,
	through_position bigint,
	member int DEFAULT 0
) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_ack_events' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.ack_events(text, bigint, int) IS
'Says that a member has dealt with its events up to a position, usually that of the last event fetched: they do not come again once this commits. Call it in the transaction that does the work and both happen or neither. An older position than the member''s changes nothing; of two at once the greater stays. Waits for another transaction that acknowledged for the same member and has not ended.
Errors: 42704 no such subscription; 22004 an argument is NULL; 22023 no such member, or a position that was never delivered; 55000 after a seek or a change of the members, a position that was not fetched since (fetch again); 25006; UE011 without preload; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.ack_events(''mailer'', 4711);';

CREATE OR REPLACE FUNCTION eduai.subscription_members() RETURNS SETOF eduai.subscription_member_status
	AS 'MODULE_PATHNAME', 'eduai_subscription_members' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION eduai.subscription_members() IS
'The rows of the view eduai.subscription_status. Errors: UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT * FROM eduai.subscription_members();';

CREATE OR REPLACE VIEW eduai.subscription_status AS
	SELECT name, member, "position", lag_events, last_fetch_at FROM eduai.subscription_members();
COMMENT ON VIEW eduai.subscription_status IS
'The members of the subscriptions of the session''s tenant. position: everything up to it is acknowledged, or not for this member. lag_events: the tenant''s events after the position that no fetch of the member has passed over yet; those that the filter will leave out and those of other members are counted too, 0 when it has caught up. last_fetch_at: NULL when there was none since the server started or the subscription changed, or when it is no longer known (1024 members are remembered).';

-- ---- snapshots ----

CREATE OR REPLACE FUNCTION eduai.save_snapshot(
	stream text,
	version bigint,
	state jsonb,
	schema_version int DEFAULT 1
) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_save_snapshot' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.save_snapshot(text, bigint, jsonb, int) IS
'Keeps what the events of a stream up to a version fold to, so that a reader needs only those after it. One is kept for each schema_version (of the reducer, 1 or more); an older version than the one kept changes nothing. The stream''s event at that version must be visible to the caller.
Errors: 22004 an argument is NULL; 22023 bad input, or a version that the stream does not have (the detail gives the actual one); 25006; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.save_snapshot(''learner-ana'', 200, ''{"points": 42}'');';

CREATE OR REPLACE FUNCTION eduai.load_snapshot(stream text, schema_version int DEFAULT 1)
	RETURNS SETOF eduai.snapshot
	AS 'MODULE_PATHNAME', 'eduai_load_snapshot' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 1;
COMMENT ON FUNCTION eduai.load_snapshot(text, int) IS
'The snapshot of a stream that was saved with this schema_version; no row without one. Go on with eduai.read_stream() from the version after it: what both give agrees within one snapshot. One whose event the caller''s snapshot does not show is left out.
Errors: 22004 an argument is NULL; 22023 bad input; UE012. Role: eduai_app, eduai_reader, eduai_admin.
Example: SELECT * FROM eduai.load_snapshot(''learner-ana'');';

CREATE OR REPLACE FUNCTION eduai.snapshot_streams(
	category text,
	reducer regprocedure,
	every int DEFAULT 100,
	initial jsonb DEFAULT '{}',
	schema_version int DEFAULT 1
) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_snapshot_streams' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.snapshot_streams(text, regprocedure, int, jsonb, int) IS
'Has the projector keep snapshots of all streams of a category (of the session''s tenant), at the versions that are multiples of every (1 to 1000000), existing streams included. reducer: a function (state jsonb, event eduai.event_record) returns jsonb; it is called event by event, from the last snapshot of this schema_version or from initial, as the role that called snapshot_streams() (which must be allowed to execute it), with search_path pg_catalog and a limit of 10 seconds a stream; the event''s position is NULL. A stream whose reducer raises goes without (eduai.snapshot_status counts them, the log has a WARNING) and is tried again when its next snapshot is due. Called again for the category it replaces what was: give another schema_version when the reducer changes.
Errors: 22004 an argument is NULL; 22023 bad input; 42P13 a function of another kind; 42501 the caller may not execute it; 25006; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.snapshot_streams(''learner'', ''app.fold(jsonb, eduai.event_record)'', every => 200);';

CREATE OR REPLACE FUNCTION eduai.unsnapshot_streams(category text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_unsnapshot_streams' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.unsnapshot_streams(text) IS
'Ends what eduai.snapshot_streams() began; the snapshots stay. Errors: 42704 it was not begun; 22004 category is NULL; 25006; UE012. Role: eduai_app, eduai_admin.
Example: SELECT eduai.unsnapshot_streams(''learner'');';

CREATE OR REPLACE VIEW eduai.snapshot_status AS
	SELECT r.category::text, r.reducer, r.role::text, r.every, r.schema_version, r.position,
		f.failed AS failed_streams, coalesce(r.error, f.error) AS last_error
	FROM eduai.snapshot_rule r
		CROSS JOIN LATERAL (SELECT count(*) AS failed, (array_agg(error ORDER BY failed_at DESC))[1] AS error
			FROM eduai.snapshot_failure s
			WHERE s.tenant_id = r.tenant_id AND s.category = r.category) f
	WHERE r.tenant_id = eduai.current_tenant();
COMMENT ON VIEW eduai.snapshot_status IS
'The automatic snapshots of the session''s tenant: eduai.snapshot_streams()''s arguments, the position in the feed up to which the projector has looked, how many streams failed when their last snapshot was due, and the latest error.';

-- ---- event types ----

CREATE OR REPLACE VIEW eduai.event_type_builtin AS
SELECT b.event_type COLLATE "C" AS event_type, b.description,
	b.data_keys::jsonb AS data_keys, b.sensitive_fields::text[] AS sensitive_fields
FROM (VALUES
('learning_started', 'A learner starts a session, a course or a unit.',
 '{"content_id": "text: what is started", "course_id": "text: the course it belongs to"}',
 '{}'),
('content_viewed', 'A learner opens a page, a video or another resource.',
 '{"content_id": "text: what is viewed", "content_type": "text: page, video, ...", "time_spent": "number: seconds"}',
 '{}'),
('exercise_attempted', 'A learner answers an exercise without completing or mastering it yet.',
 '{"skill_name": "text: the skill practised; skill is accepted too", "item": "text: the exercise; exercise is accepted too", "answer": "text: what the learner answered", "score": "number: 0 to 1, above 1 a percentage", "correct": "boolean", "time_efficiency": "number: 1 is the expected pace", "attempts": "number: tries at this exercise, 1 or more"}',
 '{answer}'),
('exercise_completed', 'A learner finishes an exercise.',
 '{"skill_name": "text: the skill practised; skill is accepted too", "item": "text: the exercise; exercise is accepted too", "answer": "text: what the learner answered", "score": "number: 0 to 1, above 1 a percentage", "correct": "boolean", "time_efficiency": "number: 1 is the expected pace", "attempts": "number: tries at this exercise, 1 or more", "time_spent": "number: seconds"}',
 '{answer}'),
('skill_mastered', 'A learner masters a skill.',
 '{"skill_name": "text: the skill; skill is accepted too", "score": "number: 0 to 1, above 1 a percentage", "time_efficiency": "number", "attempts": "number"}',
 '{}'),
('difficulty_adjusted', 'The level of what a learner is given changes.',
 '{"old_level": "number or text", "new_level": "number or text", "reason": "text"}',
 '{}'),
('emotion_detected', 'An emotion is recognised.',
 '{"emotion": "text: joy, frustration, ...", "confidence": "number: 0 to 1", "context": "text: what was going on"}',
 '{context}'),
('achievement_unlocked', 'A learner earns a badge or reaches a milestone.',
 '{"achievement": "text: its name"}',
 '{}'),
('ai_feedback_given', 'An AI task about the learner ended with a result.',
 '{"task_id": "number: the task", "task_type": "text", "state": "text: the task''s final state", "instance": "text: the provider instance, null for an application''s worker", "finish_reason": "text: the provider''s, when it gave one", "feedback": "text: what the learner was told, in events an application appends"}',
 '{feedback}'),
('metacognition_triggered', 'A learner is invited to reflect on how they learn.',
 '{"prompt": "text: what they were asked", "response": "text: what they answered"}',
 '{prompt,response}'),
('interaction_recorded', 'A learner interacts with the interface.',
 '{"interaction_type": "text", "content": "text or object: what was done"}',
 '{content}'),
('collaboration_joined', 'A learner joins a shared activity.',
 '{"collaboration_id": "text: the activity", "role": "text"}',
 '{}'),
('task_enqueued', 'A task was enqueued.',
 '{"task_id": "number: the task", "task_type": "text", "priority": "text: critical, high, normal or low", "state": "text: the task''s state now", "attempt": "number: how many were begun"}',
 '{}'),
('task_started', 'An attempt of a task began.',
 '{"task_id": "number: the task", "task_type": "text", "priority": "text: critical, high, normal or low", "state": "text: the task''s state now", "attempt": "number: how many were begun", "instance": "text: the provider instance or the application''s worker", "wait_ms": "number: from due to started"}',
 '{}'),
('task_retried', 'An attempt failed and another will follow, or a finished task was taken back.',
 '{"task_id": "number: the task", "task_type": "text", "priority": "text: critical, high, normal or low", "state": "text: the task''s state now", "attempt": "number: how many were begun", "instance": "text: the provider instance or the application''s worker", "wait_ms": "number: from due to started", "run_ms": "number: of the last attempt", "cost_usd": "number: of all attempts, when there was any", "error_code": "text: what the last attempt failed with"}',
 '{}'),
('task_completed', 'A task ended with a result.',
 '{"task_id": "number: the task", "task_type": "text", "priority": "text: critical, high, normal or low", "state": "text: the task''s state now", "attempt": "number: how many were begun", "instance": "text: the provider instance or the application''s worker", "wait_ms": "number: from due to started", "run_ms": "number: of the last attempt", "cost_usd": "number: of all attempts, when there was any"}',
 '{}'),
('task_dead', 'A task failed for good.',
 '{"task_id": "number: the task", "task_type": "text", "priority": "text: critical, high, normal or low", "state": "text: the task''s state now", "attempt": "number: how many were begun", "instance": "text: the provider instance or the application''s worker", "wait_ms": "number: from due to started", "run_ms": "number: of the last attempt", "cost_usd": "number: of all attempts, when there was any", "error_code": "text: what the last attempt failed with"}',
 '{}'),
('task_cancelled', 'A task was cancelled.',
 '{"task_id": "number: the task", "task_type": "text", "priority": "text: critical, high, normal or low", "state": "text: the task''s state now", "attempt": "number: how many were begun", "instance": "text: the provider instance or the application''s worker", "wait_ms": "number: from due to started", "run_ms": "number: of the last attempt", "cost_usd": "number: of all attempts, when there was any", "error_code": "text: what the last attempt failed with"}',
 '{}'),
('task_expired', 'A task expired before it started.',
 '{"task_id": "number: the task", "task_type": "text", "priority": "text: critical, high, normal or low", "state": "text: the task''s state now", "attempt": "number: how many were begun", "cost_usd": "number: of all attempts, when there was any", "error_code": "text: what the last attempt failed with"}',
 '{}'),
('task_uncertain', 'The answer of a task''s last attempt was lost, and a person decides.',
 '{"task_id": "number: the task", "task_type": "text", "priority": "text: critical, high, normal or low", "state": "text: the task''s state now", "attempt": "number: how many were begun", "instance": "text: the provider instance or the application''s worker", "wait_ms": "number: from due to started", "run_ms": "number: of the last attempt", "cost_usd": "number: of all attempts, when there was any", "error_code": "text: what the last attempt failed with"}',
 '{}')
) AS b (event_type, description, data_keys, sensitive_fields);
COMMENT ON VIEW eduai.event_type_builtin IS
'The event types that come with the extension, as they are before eduai.register_event_type(): twelve of learners, and those of tasks (eduai.queue_events).';

CREATE OR REPLACE VIEW eduai.event_type AS
SELECT event_type,
	coalesce(b.description, '') AS description,
	coalesce(b.data_keys, '{}') AS data_keys,
	coalesce(r.sensitive_fields, b.sensitive_fields) AS sensitive_fields,
	r.json_schema,
	coalesce(r.schema_version, 1) AS schema_version,
	b.description IS NOT NULL AS builtin
FROM eduai.event_type_builtin b FULL JOIN eduai.event_type_registration r USING (event_type);
COMMENT ON VIEW eduai.event_type IS
'The event types: the built-in ones (builtin) and those of eduai.register_event_type(), which win. data_keys says what each key of data means; sensitive_fields names the keys of data that hold free text or media about a learner; json_schema is what data must be at append, NULL for anything. Events of other types are accepted too. Role: eduai_app, eduai_reader, eduai_admin.';

CREATE OR REPLACE FUNCTION eduai.register_event_type(
	event_type text,
	sensitive_fields text[] DEFAULT '{}',
	json_schema jsonb DEFAULT NULL,
	schema_version int DEFAULT 1
) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_register_event_type' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.register_event_type(text, text[], jsonb, int) IS
'Registers an event type, or replaces what was registered of it; a built-in type may be registered too. Other sessions see it at their first append after the commit.
event_type: 1 to 512 bytes. sensitive_fields: the keys of data that hold free text or media about a learner; what a built-in type had is replaced too. json_schema: what the data of new events must be, a JSON Schema of draft 2020-12 without the keywords that docs/events.md leaves out; NULL for anything. schema_version: 1 or more, stored with each new event; raise it when data changes its shape, and give eduai.register_upcaster() a function for the events before. It cannot go down. An argument that is NULL has its default. Events that are stored are not checked again.
Errors: 22004 event_type is NULL; 22023 bad input, a lower schema_version, or a malformed schema (the detail says where); 0A000 a keyword that is not supported. Role: eduai_admin.
Example: SELECT eduai.register_event_type(''quiz_taken'', ''{comment}'', ''{"type": "object", "required": ["score"], "properties": {"score": {"type": "number", "minimum": 0, "maximum": 1}}}'');';

CREATE OR REPLACE FUNCTION eduai.register_upcaster(
	event_type text,
	from_version int,
	upcaster regprocedure
) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_register_upcaster' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.register_upcaster(text, int, regprocedure) IS
'Gives a function that turns data of an event type at schema version from_version into data of the version after it; replaces the one registered before. Events read with an older schema_version than the type''s pass through these functions in turn; a version without one leaves data as it is. What is stored does not change.
upcaster: a function (jsonb) returning jsonb, not in a temporary schema, that gives a JSON object. It is remembered by name and runs as the role that registered it, with search_path pg_catalog, in a security-restricted operation (SET ROLE is refused); a read fails when it fails, when it gives anything but an object, or when it or the role is gone. Make it IMMUTABLE where it is: a simple SQL function is then part of the reader''s plan.
Errors: 22004 an argument is NULL; 22023 bad input, from_version below 1; 42883 no such function; 42P13 another signature, or a temporary function; 42501 the caller may not execute it. Role: eduai_admin.
Example: SELECT eduai.register_upcaster(''quiz_taken'', 1, ''app.quiz_taken_v2(jsonb)'');';

-- ---- compaction ----

CREATE OR REPLACE FUNCTION eduai.compact_events(older_than interval DEFAULT '30 days') RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_compact_events' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.compact_events(interval) IS
'Moves the events recorded longer ago than older_than, of all tenants, from the hot tables into compressed blocks, and returns how many it moved. Reads and repeated event ids stay as they are; readers and writers go on meanwhile. All in the caller''s transaction, so for much at once leave it to the projector (eduai.compact_after), which commits every 32768 events. Only the oldest events of a tenant are moved, up to the first transaction with a younger one. A given event id stays known for eduai.dedup_window after its event was recorded.
Errors: 22004 older_than is NULL; 25006 a read-only transaction; XX000 when an event could not be encoded at all, then nothing was moved. Role: eduai_admin.
Example: SELECT eduai.compact_events(interval ''7 days'');';

CREATE OR REPLACE VIEW eduai.event_storage AS
WITH hot AS (
	SELECT o.tenant_id, pg_catalog.sum(o.events) AS events FROM eduai.event_order o GROUP BY o.tenant_id
), compacted AS (
	SELECT b.tenant_id, pg_catalog.sum(b.events) AS events FROM eduai.event_block b GROUP BY b.tenant_id
), size AS (
	SELECT pg_catalog.pg_total_relation_size('eduai.event_order'::pg_catalog.regclass) +
		COALESCE((SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(i.inhrelid))
			FROM pg_catalog.pg_inherits i WHERE i.inhparent = 'eduai.event'::pg_catalog.regclass), 0) AS hot,
		pg_catalog.pg_total_relation_size('eduai.event_block'::pg_catalog.regclass) +
		pg_catalog.pg_total_relation_size('eduai.event_stream'::pg_catalog.regclass) +
		pg_catalog.pg_total_relation_size('eduai.event_dictionary'::pg_catalog.regclass) +
		pg_catalog.pg_total_relation_size('eduai.event_seen'::pg_catalog.regclass) AS compacted
), tenant AS (
	SELECT t.tenant_id, COALESCE(h.events, 0)::bigint AS hot_events,
		COALESCE(c.events, 0)::bigint AS compacted_events,
		pg_catalog.round(size.hot * COALESCE(h.events / NULLIF((SELECT pg_catalog.sum(events) FROM hot), 0), 0))::bigint AS hot_bytes,
		pg_catalog.round(size.compacted * COALESCE(c.events / NULLIF((SELECT pg_catalog.sum(events) FROM compacted), 0), 0))::bigint AS compacted_bytes
	FROM (SELECT eduai.current_tenant() AS tenant_id) AS t
		CROSS JOIN size
		LEFT JOIN hot h ON h.tenant_id = t.tenant_id
		LEFT JOIN compacted c ON c.tenant_id = t.tenant_id
)
SELECT tenant_id, hot_events, compacted_events, hot_bytes, compacted_bytes,
	pg_catalog.round((hot_bytes::numeric / NULLIF(hot_events, 0)) /
		NULLIF(compacted_bytes::numeric / NULLIF(compacted_events, 0), 0), 2) AS ratio
FROM tenant;
COMMENT ON VIEW eduai.event_storage IS
'How many of the tenant''s events are hot and how many compacted, and the bytes that either take: tables, indexes, TOAST, the feed''s order, the directory of streams, dictionaries and remembered ids. Tables are shared by tenants, so a tenant''s bytes are its share of the events. ratio: hot bytes per event over compacted bytes per event, NULL while there are none of either. Counts scan the tables of the feed''s order and of blocks.';


CREATE OR REPLACE FUNCTION eduai.test_encode_block(
	tenant text,
	events eduai.event_record[],
	schema_version int DEFAULT 1,
	id_given boolean DEFAULT false
) RETURNS bytea
	AS 'MODULE_PATHNAME', 'eduai_test_encode_block' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_encode_block(text, eduai.event_record[], int, boolean) IS
'For tests: a block of the events (1 to 1024, sorted by stream and version) as compaction would write it, without a dictionary. Errors: 55000 unless eduai.test_mode is on; 22023 too few or too many events. Role: superuser. Example: SELECT length(eduai.test_encode_block(''default'', array_agg(e ORDER BY stream, version))) FROM eduai.read_all() AS e;';

CREATE OR REPLACE FUNCTION eduai.test_unpack_block(block bytea) RETURNS bytea
	AS 'MODULE_PATHNAME', 'eduai_test_unpack_block' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_unpack_block(bytea) IS
'For tests: the columns of a block without its frame, for eduai.test_pack_block(). Errors: 55000 unless eduai.test_mode is on; XX001 a damaged block. Role: superuser. Example: SELECT eduai.test_unpack_block(''\x01'');';

CREATE OR REPLACE FUNCTION eduai.test_pack_block(unpacked bytea) RETURNS bytea
	AS 'MODULE_PATHNAME', 'eduai_test_pack_block' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_pack_block(bytea) IS
'For tests: a block of the columns that eduai.test_unpack_block() gave, or of any bytes. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_pack_block(''\x00'');';

CREATE OR REPLACE FUNCTION eduai.test_erase_compacted(user_id text DEFAULT NULL, stream text DEFAULT NULL) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_test_erase_compacted' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_erase_compacted(text, text) IS
'For tests: takes the compacted events about a learner, or else those of a stream, out of the tenant''s blocks, as erasure does, and returns how many. Errors: 55000 unless eduai.test_mode is on; UE012. Role: superuser. Example: SELECT eduai.test_erase_compacted(user_id => ''ana'');';

CREATE OR REPLACE FUNCTION eduai.test_decode_block(tenant text, block bytea) RETURNS SETOF eduai.event_record
	AS 'MODULE_PATHNAME', 'eduai_test_decode_block' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_decode_block(text, bytea) IS
'For tests: the events of a block. Errors: 55000 unless eduai.test_mode is on; XX001 a damaged block. Role: superuser. Example: SELECT * FROM eduai.test_decode_block(''default'', ''\x01'');';

-- ---- rights ----

REVOKE ALL ON FUNCTION
	eduai.append_event(text, text, jsonb, text, text, jsonb, bigint, uuid, timestamptz),
	eduai.append_events(text, jsonb, bigint),
	eduai.append_batch(text[], text[], jsonb[], text[], text[], uuid[], timestamptz[]),
	eduai.publish_event(text, text, text, jsonb),
	eduai.read_stream(text, bigint, int, boolean),
	eduai.stream_version(text),
	eduai.read_all(bigint, int, text[], text),
	eduai.create_subscription(text, text[], text, bigint, int),
	eduai.drop_subscription(text),
	eduai.set_subscription_members(text, int),
	eduai.seek_subscription(text, bigint),
	eduai.fetch_events(text, int, int, interval),
	eduai.ack_events(text, bigint, int),
	eduai.subscription_members(),
	eduai.save_snapshot(text, bigint, jsonb, int),
	eduai.load_snapshot(text, int),
	eduai.snapshot_streams(text, regprocedure, int, jsonb, int),
	eduai.unsnapshot_streams(text),
	eduai.compact_events(interval),
	eduai.test_encode_block(text, eduai.event_record[], int, boolean),
	eduai.test_decode_block(text, bytea),
	eduai.test_unpack_block(bytea),
	eduai.test_pack_block(bytea),
	eduai.test_erase_compacted(text, text)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	eduai.append_event(text, text, jsonb, text, text, jsonb, bigint, uuid, timestamptz),
	eduai.append_events(text, jsonb, bigint),
	eduai.append_batch(text[], text[], jsonb[], text[], text[], uuid[], timestamptz[]),
	eduai.publish_event(text, text, text, jsonb)
	TO eduai_app, eduai_admin;
GRANT EXECUTE ON FUNCTION
	eduai.read_stream(text, bigint, int, boolean),
	eduai.stream_version(text),
	eduai.read_all(bigint, int, text[], text)
	TO eduai_app, eduai_reader, eduai_admin;
REVOKE ALL ON FUNCTION
	eduai.register_event_type(text, text[], jsonb, int),
	eduai.register_upcaster(text, int, regprocedure)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	eduai.register_event_type(text, text[], jsonb, int),
	eduai.register_upcaster(text, int, regprocedure)
	TO eduai_admin;
GRANT SELECT ON eduai.event_type, eduai.event_type_builtin TO eduai_admin, eduai_app, eduai_reader;
GRANT EXECUTE ON FUNCTION
	eduai.create_subscription(text, text[], text, bigint, int),
	eduai.drop_subscription(text),
	eduai.set_subscription_members(text, int),
	eduai.seek_subscription(text, bigint),
	eduai.fetch_events(text, int, int, interval),
	eduai.ack_events(text, bigint, int),
	eduai.save_snapshot(text, bigint, jsonb, int),
	eduai.snapshot_streams(text, regprocedure, int, jsonb, int),
	eduai.unsnapshot_streams(text)
	TO eduai_app, eduai_admin;
GRANT EXECUTE ON FUNCTION
	eduai.subscription_members(),
	eduai.load_snapshot(text, int)
	TO eduai_app, eduai_reader, eduai_admin;
GRANT SELECT ON eduai.subscription_status, eduai.snapshot_status
	TO eduai_app, eduai_reader, eduai_admin;
GRANT EXECUTE ON FUNCTION eduai.compact_events(interval) TO eduai_admin;
GRANT SELECT ON eduai.event_storage TO eduai_admin, eduai_reader;
