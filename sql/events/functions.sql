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
Errors: those of eduai.append_event(); 22P02 an event_id that is no uuid; 22007 an occurred_at that is no time; 54000 more than 5000 streams, learners and given event ids in all. Role: eduai_app, eduai_admin.
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
Errors: those of eduai.append_event(), the context says which event; 2202E arrays of unequal length or of more than one dimension; 54000 more than 5000 streams, learners and given event ids in all. Role: eduai_app, eduai_admin.
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

REVOKE ALL ON FUNCTION
	eduai.append_event(text, text, jsonb, text, text, jsonb, bigint, uuid, timestamptz),
	eduai.append_events(text, jsonb, bigint),
	eduai.append_batch(text[], text[], jsonb[], text[], text[], uuid[], timestamptz[]),
	eduai.publish_event(text, text, text, jsonb),
	eduai.read_stream(text, bigint, int, boolean),
	eduai.stream_version(text)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	eduai.append_event(text, text, jsonb, text, text, jsonb, bigint, uuid, timestamptz),
	eduai.append_events(text, jsonb, bigint),
	eduai.append_batch(text[], text[], jsonb[], text[], text[], uuid[], timestamptz[]),
	eduai.publish_event(text, text, text, jsonb)
	TO eduai_app, eduai_admin;
GRANT EXECUTE ON FUNCTION
	eduai.read_stream(text, bigint, int, boolean),
	eduai.stream_version(text)
	TO eduai_app, eduai_reader, eduai_admin;
