-- Bad input: an SQLSTATE, the offending value, a hint, and nothing is half done.
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
CREATE ROLE regress_events_bad;
GRANT eduai_app TO regress_events_bad;
SELECT eduai.allow_tenant('regress_events_bad', 'events_bad');
SET ROLE regress_events_bad;
SET eduai.tenant = 'events_bad';
CREATE FUNCTION pg_temp.event(arguments text) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.fails('SELECT eduai.append_event(' || arguments || ')')$$;
CREATE FUNCTION pg_temp.list(events text) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.fails(format('SELECT * FROM eduai.append_events(''s'', %L)', events))$$;
CREATE FUNCTION pg_temp.batch(arguments text) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.fails('SELECT eduai.append_batch(' || arguments || ')')$$;

-- names
SELECT pg_temp.event($$NULL, 'x'$$);
SELECT pg_temp.event($$'s', NULL$$);
SELECT pg_temp.event($$'', 'x'$$);
SELECT pg_temp.event($$'s', ''$$);
SELECT pg_temp.event($$'s', 'x', user_id => ''$$);
SELECT pg_temp.event($$'s', 'x', session_id => ''$$);
SELECT pg_temp.event($$repeat('é', 257), 'x'$$);
SELECT pg_temp.event($$'s', repeat('x', 513)$$);
SELECT pg_temp.event($$'s', 'x', user_id => repeat('x', 513)$$);
SELECT pg_temp.event($$'s', 'x', session_id => repeat('x', 513)$$);
SELECT pg_temp.event($$E's\n', 'x'$$);
SELECT pg_temp.event($$E'\x7f', 'x'$$);
SELECT pg_temp.event($$'s', E'x\ty'$$);
SELECT pg_temp.event($$'s', 'x', user_id => E'a\x01b'$$);

-- data and metadata
SELECT pg_temp.event($$'s', 'x', '[1, 2]'$$);
SELECT pg_temp.event($$'s', 'x', '"text"'$$);
SELECT pg_temp.event($$'s', 'x', 'null'$$);
SELECT pg_temp.event($$'s', 'x', metadata => '7'$$);
SELECT pg_temp.event($$'s', 'x', to_jsonb(repeat('é', 100))$$);

-- times and ids
SELECT pg_temp.event($$'s', 'x', occurred_at => 'infinity'$$);
SELECT pg_temp.event($$'s', 'x', occurred_at => '-infinity'$$);
SELECT pg_temp.event($$'s', 'x', event_id => 'no-uuid'$$);

-- publish_event
SELECT pg_temp.fails($$SELECT eduai.publish_event('x', NULL, NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.publish_event('x', '', NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.publish_event(NULL, 'ana', NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.publish_event('x', repeat('u', 505), NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.publish_event('x', repeat('u', 504), NULL) IS NULL$$);

-- append_events
SELECT pg_temp.fails($$SELECT eduai.append_events(NULL, '[]')$$);
SELECT pg_temp.fails($$SELECT eduai.append_events('s', NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.append_events('', '[]')$$);
SELECT pg_temp.list('{"type": "x"}');
SELECT pg_temp.list('"x"');
SELECT pg_temp.list('[{"type": "x"}, 7]');
SELECT pg_temp.list('[{"type": "x"}, [1]]');
SELECT pg_temp.list('[{"type": "x"}, null]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "userid": "ana"}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "userid": null}]');
SELECT pg_temp.list('[{"type": "x", "stream": "t"}]');
SELECT pg_temp.list('[{"type": "x"}, {"data": {}}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": null}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": ""}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": 7}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "user_id": 7}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "user_id": ""}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "data": [1]}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "metadata": "m"}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "event_id": "1"}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "event_id": true}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "occurred_at": "yesterdayish"}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "occurred_at": "infinity"}]');
SELECT pg_temp.list('[{"type": "x"}, {"type": "x", "occurred_at": 7}]');

-- append_batch
SELECT pg_temp.batch($$NULL, '{x}', '{"{}"}'$$);
SELECT pg_temp.batch($$'{s}', NULL, '{"{}"}'$$);
SELECT pg_temp.batch($$'{s}', '{x}', NULL$$);
SELECT pg_temp.batch($$'{s,s}', '{x}', '{"{}","{}"}'$$);
SELECT pg_temp.batch($$'{s,s}', '{x,x}', '{"{}"}'$$);
SELECT pg_temp.batch($$'{s}', '{x}', '{"{}"}', user_ids => '{}'$$);
SELECT pg_temp.batch($$'{s}', '{x}', '{"{}"}', event_ids => ARRAY[gen_random_uuid(), gen_random_uuid()]$$);
SELECT pg_temp.batch($$'{{s,s},{s,s}}', '{x,x,x,x}', '{"{}","{}","{}","{}"}'$$);
SELECT pg_temp.batch($$'{s,NULL}', '{x,x}', '{"{}","{}"}'$$);
SELECT pg_temp.batch($$'{s,s}', '{x,NULL}', '{"{}","{}"}'$$);
SELECT pg_temp.batch($$'{s,s,s}', '{x,x,x}', '{"{}","{}","[]"}'$$);
SELECT pg_temp.batch($$'{s,s}', '{x,x}', '{"{}","{}"}', occurred_at => '{NULL,infinity}'$$);

-- reading
SELECT pg_temp.fails($$SELECT eduai.read_stream(NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.read_stream('')$$);
SELECT pg_temp.fails($$SELECT eduai.read_stream('s', max_count => 0)$$);
SELECT pg_temp.fails($$SELECT eduai.read_stream('s', max_count => 10001)$$);
SELECT pg_temp.fails($$SELECT eduai.read_stream('s', max_count => NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.read_stream('s', backward => NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.stream_version(NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.stream_version(E'\n')$$);

-- a read-only transaction
BEGIN READ ONLY;
SELECT pg_temp.event($$'s', 'x'$$);
ROLLBACK;

-- nothing of all this was stored
SELECT count(*) FROM eduai.read_stream('s');
RESET ROLE;
SELECT count(*) FROM eduai.event WHERE tenant_id = 'events_bad' AND length(user_id) < 504;
DROP OWNED BY regress_events_bad;
DROP ROLE regress_events_bad;
