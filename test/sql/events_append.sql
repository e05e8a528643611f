-- Appending and reading back: versions, order, defaults, pages of a stream.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_events_append;
GRANT eduai_app TO regress_events_append;
SELECT eduai.allow_tenant('regress_events_append', 'events_append');
SET ROLE regress_events_append;
SET eduai.tenant = 'events_append';

-- one event: the row names its stream and version, the id is a UUIDv7
SELECT stream, version, substr(event_id::text, 15, 1) FROM eduai.append_event('s', 'learning_started');
SELECT stream, version FROM eduai.append_event(stream => 's', event_type => 'content_viewed',
	data => '{"content_id": "p1"}', user_id => 'ana', session_id => 's-1', metadata => '{"v": 2}',
	occurred_at => '2024-02-29 10:00+01');
SELECT * FROM eduai.append_event('s', 'own_type', event_id => '00000000-0000-0000-0000-000000000001');

-- everything comes back; the time of recording is the time when none is given
SELECT "position", stream, version, event_type, data, user_id, session_id, metadata,
	occurred_at = recorded_at, recorded_at BETWEEN now() - interval '1 min' AND clock_timestamp()
	FROM eduai.read_stream('s');
SELECT occurred_at AT TIME ZONE 'UTC' FROM eduai.read_stream('s', 2, 1);

-- NULL means the default
SELECT version FROM eduai.append_event('nulls', 'x', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT data, metadata, user_id IS NULL, session_id IS NULL FROM eduai.read_stream('nulls');

-- several events of a stream: in order, consecutive, one time of recording
SELECT stream, version FROM eduai.append_events('s', '[
	{"type": "a", "user_id": null, "data": null},
	{"type": "b", "data": {"n": 1}, "user_id": "ben", "session_id": "s-2", "metadata": {"m": 1}},
	{"type": "c", "event_id": "00000000-0000-0000-0000-000000000002", "occurred_at": "2024-01-01T00:00:00Z"}]');
SELECT version, event_type, data, user_id, session_id, metadata FROM eduai.read_stream('s', 4);
SELECT count(DISTINCT recorded_at) FROM eduai.read_stream('s', 4);
SELECT event_id, occurred_at AT TIME ZONE 'UTC' FROM eduai.read_stream('s', 6);
SELECT count(*) FROM eduai.append_events('s', '[]');

-- many streams at once: the events of each are numbered in the order given
SELECT eduai.append_batch(ARRAY['t', 's', 't', 'u', 't'], ARRAY['1', '2', '3', '4', '5'],
	ARRAY['{}', '{"k": 2}', NULL, '{}', '{}']::jsonb[], ARRAY['ana', NULL, 'ben', NULL, 'ana'],
	occurred_at => ARRAY[NULL, '2024-01-01Z', NULL, NULL, NULL]::timestamptz[]);
SELECT stream, version, event_type, data, user_id FROM eduai.read_stream('t')
	UNION ALL SELECT stream, version, event_type, data, user_id FROM eduai.read_stream('u')
	UNION ALL SELECT stream, version, event_type, data, user_id FROM eduai.read_stream('s', 7);
SELECT eduai.append_batch('{}', '{}', '{}');

-- a learner's own stream
SELECT substr(eduai.publish_event('learning_started', 'ana', NULL)::text, 15, 1);
SELECT eduai.publish_event('content_viewed', 'ana', 's-9', '{"content_id": "p2"}') IS NOT NULL;
SELECT stream, version, event_type, user_id, session_id, data, metadata
	FROM eduai.read_stream('learner-ana');

-- pages, forward and backward
SELECT eduai.append_batch(array_agg('pages'::text), array_agg('x'::text), array_agg(jsonb_build_object('n', n)))
	FROM generate_series(1, 25) n;
SELECT string_agg(version::text, ' ') FROM eduai.read_stream('pages', max_count => 4);
SELECT string_agg(version::text, ' ') FROM eduai.read_stream('pages', 24);
SELECT string_agg(version::text, ' ') FROM eduai.read_stream('pages', 26);
SELECT string_agg(version::text, ' ') FROM eduai.read_stream('pages', -5, 3);
SELECT string_agg(version::text, ' ') FROM eduai.read_stream('pages', max_count => 4, backward => true);
SELECT string_agg(version::text, ' ') FROM eduai.read_stream('pages', 3, 10, true);
SELECT string_agg(version::text, ' ') FROM eduai.read_stream('pages', 1, 10, true);
SELECT string_agg(version::text, ' ') FROM eduai.read_stream('pages', 0, 10, true);
SELECT string_agg(version::text, ' ') FROM eduai.read_stream('nowhere');

-- versions
SELECT eduai.stream_version('pages'), eduai.stream_version('s'), eduai.stream_version('nowhere');

-- names at their limits, and names that need no escape
SELECT length(stream), version FROM eduai.append_event(repeat('n', 512), repeat('t', 512),
	user_id => repeat('u', 512), session_id => repeat('e', 512));
SELECT version FROM eduai.append_event('élève-''7" \ %', 'x');
SELECT count(*) FROM eduai.read_stream('élève-''7" \ %');

-- a function that reads agrees with its statement; a later one sees the append
WITH added AS MATERIALIZED (SELECT version FROM eduai.append_event('pages', 'x'))
	SELECT version, eduai.stream_version('pages') FROM added;
SELECT eduai.stream_version('pages');
RESET ROLE;

-- the twelve types are registered, each with its data keys
SELECT count(*), bool_and(data_keys <> '{}' AND description <> '' AND json_schema IS NULL)
	FROM eduai.event_type WHERE builtin;
SELECT event_type, sensitive_fields FROM eduai.event_type
	WHERE NOT sensitive_fields <@ ARRAY(SELECT jsonb_object_keys(data_keys));
DROP OWNED BY regress_events_append;
DROP ROLE regress_events_append;
