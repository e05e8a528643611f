-- An event id given again: the first result, or UE006.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
	h text;
	c text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT,
		c = PG_EXCEPTION_CONTEXT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, ''), nullif(h, ''),
		substring(c FROM 'event \d+ of \d+'));
END $$;
CREATE FUNCTION pg_temp.id(n int) RETURNS uuid LANGUAGE sql AS
	$$SELECT ('00000000-0000-0000-0001-' || lpad(n::text, 12, '0'))::uuid$$;
CREATE ROLE regress_events_idem;
GRANT eduai_app TO regress_events_idem;
SELECT eduai.allow_tenant('regress_events_idem', 'events_idem');
SELECT eduai.allow_tenant('regress_events_idem', 'events_idem2');
SET ROLE regress_events_idem;
SET eduai.tenant = 'events_idem';

-- the same content gives the first result, and the learner is not counted twice
SELECT * FROM eduai.append_event('s', 'emotion_detected', '{"emotion": "joy", "n": 1.0}', 'ana', 'e', '{"m": 1}',
	event_id => pg_temp.id(1));
SELECT version FROM eduai.append_event('s', 'x');
SELECT * FROM eduai.append_event('s', 'emotion_detected', '{"n": 1.0, "emotion": "joy"}', 'ana', 'e', '{"m": 1}',
	event_id => pg_temp.id(1));
SELECT eduai.stream_version('s'), eduai.user_progress('ana') -> 'emotion_patterns',
	eduai.user_progress('ana') -> 'version';

-- also with the expected_version of the first call, which no longer holds
SELECT version FROM eduai.append_event('s', 'y', expected_version => 2, event_id => pg_temp.id(2));
SELECT version FROM eduai.append_event('s', 'y', expected_version => 2, event_id => pg_temp.id(2));

-- any other content is a conflict that says where it differs
CREATE FUNCTION pg_temp.again(arguments text) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.fails('SELECT eduai.append_event(' || arguments || ', event_id => pg_temp.id(1))')$$;
SELECT pg_temp.again($$'t', 'emotion_detected', '{"emotion": "joy", "n": 1.0}', 'ana', 'e', '{"m": 1}'$$);
SELECT pg_temp.again($$'s', 'x', '{"emotion": "joy", "n": 1.0}', 'ana', 'e', '{"m": 1}'$$);
SELECT pg_temp.again($$'s', 'emotion_detected', '{"emotion": "fear"}', 'ana', 'e', '{"m": 1}'$$);
SELECT pg_temp.again($$'s', 'emotion_detected', '{"emotion": "joy", "n": 1.0}', 'ben', 'e', '{"m": 1}'$$);
SELECT pg_temp.again($$'s', 'emotion_detected', '{"emotion": "joy", "n": 1.0}', NULL, 'e', '{"m": 1}'$$);
SELECT pg_temp.again($$'s', 'emotion_detected', '{"emotion": "joy", "n": 1.0}', 'ana', NULL, '{"m": 1}'$$);
SELECT pg_temp.again($$'s', 'emotion_detected', '{"emotion": "joy", "n": 1.0}', 'ana', 'e'$$);
SELECT pg_temp.again($$'s', 'emotion_detected', '{"emotion": "joy", "n": 1.0}', 'ana', 'e', '{"m": 1}',
	occurred_at => '2020-01-01Z'$$);

-- a time counts only where it is given
SELECT version FROM eduai.append_event('s', 'z', event_id => pg_temp.id(3), occurred_at => '2020-01-01Z');
SELECT version FROM eduai.append_event('s', 'z', event_id => pg_temp.id(3), occurred_at => '2020-01-01Z');
SELECT version FROM eduai.append_event('s', 'z', event_id => pg_temp.id(3));
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'z', event_id => pg_temp.id(3), occurred_at => '2020-01-02Z')$$);

-- within one call: repeats of each other, and of what is stored
SELECT * FROM eduai.append_events('l', jsonb_build_array(
	jsonb_build_object('type', 'a', 'event_id', pg_temp.id(10)),
	jsonb_build_object('type', 'b'),
	jsonb_build_object('type', 'a', 'event_id', pg_temp.id(10)),
	jsonb_build_object('type', 'c', 'event_id', pg_temp.id(11)))) WHERE event_id < '01000000-0000-0000-0000-000000000000';
SELECT event_id, version FROM eduai.append_events('l', jsonb_build_array(
	jsonb_build_object('type', 'd', 'event_id', pg_temp.id(12)),
	jsonb_build_object('type', 'c', 'event_id', pg_temp.id(11)),
	jsonb_build_object('type', 'c', 'event_id', pg_temp.id(11)),
	jsonb_build_object('type', 'e', 'event_id', pg_temp.id(13))));
SELECT string_agg(version || event_type, ' ') FROM eduai.read_stream('l');
SELECT pg_temp.fails($$SELECT eduai.append_batch('{l,l}', '{f,g}', '{"{}","{}"}', event_ids => ARRAY[pg_temp.id(14), pg_temp.id(14)])$$);
SELECT eduai.append_batch('{l,l,m}', '{f,f,c}', '{"{}","{}","{}"}',
	event_ids => ARRAY[pg_temp.id(14), pg_temp.id(14), NULL]);
SELECT eduai.append_batch('{l,l}', '{f,h}', '{"{}","{}"}', event_ids => ARRAY[pg_temp.id(14), pg_temp.id(15)]);
SELECT pg_temp.fails($$SELECT eduai.append_batch('{l,m}', '{i,f}', '{"{}","{}"}', event_ids => ARRAY[pg_temp.id(16), pg_temp.id(14)])$$);
SELECT string_agg(version || event_type, ' ') FROM eduai.read_stream('l', 5);

-- ids are a tenant's own
SET eduai.tenant = 'events_idem2';
SELECT * FROM eduai.append_event('elsewhere', 'x', event_id => pg_temp.id(1));
SET eduai.tenant = 'events_idem';
SELECT event_id, version, event_type FROM eduai.read_stream('s', 1, 1);

-- a rolled back append is forgotten
BEGIN;
SELECT version FROM eduai.append_event('r', 'x', event_id => pg_temp.id(20));
ROLLBACK;
SELECT version FROM eduai.append_event('r', 'other', event_id => pg_temp.id(20));
RESET ROLE;
DROP OWNED BY regress_events_idem;
DROP ROLE regress_events_idem;
