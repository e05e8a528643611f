-- Tenants do not see each other, and who may call what.
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
CREATE ROLE regress_events_both;
CREATE ROLE regress_events_a;
CREATE ROLE regress_events_reader;
CREATE ROLE regress_events_admin;
CREATE ROLE regress_events_nobody;
GRANT eduai_app TO regress_events_both, regress_events_a;
GRANT eduai_reader TO regress_events_reader;
GRANT eduai_admin TO regress_events_admin;
SELECT eduai.allow_tenant(role, tenant) FROM (VALUES
	('regress_events_both'::name, 'events_a'), ('regress_events_both', 'events_b'),
	('regress_events_a', 'events_a'), ('regress_events_reader', 'events_a'),
	('regress_events_admin', 'events_b')) AS v (role, tenant);

-- the same stream, learner and event id in two tenants
SET ROLE regress_events_both;
SET eduai.tenant = 'events_a';
SELECT * FROM eduai.append_event('s', 'emotion_detected', '{"emotion": "joy"}', 'ana',
	event_id => '00000000-0000-0000-0000-00000000000a');
SELECT version FROM eduai.append_event('s', 'x', user_id => 'ana');
SET eduai.tenant = 'events_b';
SELECT * FROM eduai.append_event('s', 'emotion_detected', '{"emotion": "fear"}', 'ana',
	event_id => '00000000-0000-0000-0000-00000000000a');
SELECT version, data FROM eduai.read_stream('s');
SELECT eduai.stream_version('s'), eduai.user_progress('ana') -> 'emotion_patterns';
SET eduai.tenant = 'events_a';
SELECT version, data FROM eduai.read_stream('s');
SELECT eduai.stream_version('s'), eduai.user_progress('ana') -> 'emotion_patterns';
SELECT user_id, progress -> 'version' FROM eduai.progress_of('{ana,ben}');

-- no other tenant than one's own
SET ROLE regress_events_a;
SET eduai.tenant = 'events_b';
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'x')$$);
SELECT pg_temp.fails($$SELECT eduai.append_events('s', '[{"type": "x"}]')$$);
SELECT pg_temp.fails($$SELECT eduai.append_batch('{s}', '{x}', '{"{}"}')$$);
SELECT pg_temp.fails($$SELECT eduai.publish_event('x', 'ana', NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.read_stream('s')$$);
SELECT pg_temp.fails($$SELECT eduai.stream_version('s')$$);
SELECT pg_temp.fails($$SELECT eduai.user_progress('ana')$$);
SELECT pg_temp.fails($$SELECT eduai.progress_of('{ana}')$$);
SET eduai.tenant = 'events_a';
SELECT version FROM eduai.append_event('s', 'x');

-- an application reaches the log through the functions only
SELECT pg_temp.fails('SELECT * FROM eduai.event');
SELECT pg_temp.fails('SELECT * FROM eduai.progress');
SELECT pg_temp.fails($$DELETE FROM eduai.event$$);
SELECT pg_temp.fails($$INSERT INTO eduai.event_type_registration VALUES ('x', '{}', NULL, 1)$$);

-- a reader reads
SET ROLE regress_events_reader;
SELECT eduai.stream_version('s'), (SELECT count(*) FROM eduai.read_stream('s')),
	eduai.user_progress('ana') -> 'version';
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'x')$$);
SELECT pg_temp.fails($$SELECT eduai.publish_event('x', 'ana', NULL)$$);
SELECT pg_temp.fails('SELECT * FROM eduai.event');

-- row-level security is the second wall: an administrator of one tenant
SET ROLE regress_events_admin;
SET eduai.tenant = 'events_b';
SELECT tenant_id, stream, version FROM eduai.event ORDER BY version;
SELECT tenant_id, user_id, version FROM eduai.progress;
SELECT pg_temp.fails($$DELETE FROM eduai.event$$);
SELECT pg_temp.fails($$UPDATE eduai.progress SET version = 7$$);

-- nobody has anything by default
SET ROLE regress_events_nobody;
SET eduai.tenant = 'default';
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'x')$$);
SELECT pg_temp.fails($$SELECT eduai.stream_version('s')$$);
SELECT pg_temp.fails($$SELECT eduai.user_progress('ana')$$);
RESET ROLE;
RESET eduai.tenant;

-- a caller's schema captures no name
CREATE SCHEMA regress_events_trap;
CREATE FUNCTION regress_events_trap.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS
	$$SELECT 'trapped'$$;
GRANT USAGE ON SCHEMA regress_events_trap TO regress_events_a;
SET ROLE regress_events_a;
SET eduai.tenant = 'events_a';
SET search_path = regress_events_trap, pg_catalog;
SELECT eduai.append_batch('{s,s}', '{x,x}', '{"{}","{}"}');
SELECT eduai.stream_version('s');
RESET search_path;
RESET ROLE;
DROP SCHEMA regress_events_trap CASCADE;
DROP OWNED BY regress_events_both, regress_events_a, regress_events_reader, regress_events_admin,
	regress_events_nobody;
DROP ROLE regress_events_both, regress_events_a, regress_events_reader, regress_events_admin,
	regress_events_nobody;
