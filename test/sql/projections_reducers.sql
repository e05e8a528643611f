-- Reducers of every language, keys, choices of events, and with whose eyes
-- they see.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM);
END $$;
CREATE ROLE regress_proj_red;
GRANT eduai_admin TO regress_proj_red;
CREATE ROLE regress_proj_red_app;
GRANT eduai_app TO regress_proj_red_app;
CREATE SCHEMA regress_proj_red AUTHORIZATION regress_proj_red;
GRANT USAGE ON SCHEMA regress_proj_red TO regress_proj_red_app;
SELECT eduai.allow_tenant('regress_proj_red_app', 'proj_red'), eduai.allow_tenant('regress_proj_red_app', 'proj_red_b'),
	eduai.allow_tenant('regress_proj_red', 'proj_red'), eduai.allow_tenant('regress_proj_red', 'proj_red_b');
GRANT EXECUTE ON FUNCTION eduai.test_count_reducer(jsonb, eduai.event_record) TO regress_proj_red;
SET ROLE regress_proj_red;
SET search_path = regress_proj_red, pg_catalog;
CREATE FUNCTION in_sql(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE sql AS
	$$SELECT state || jsonb_build_object('sum', (state -> 'sum')::int + (e.data -> 'n')::int)$$;
CREATE FUNCTION in_plpgsql(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE plpgsql AS
	$$BEGIN RETURN state || jsonb_build_array(e.version); END$$;
CREATE FUNCTION strict_stable(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE plpgsql STABLE STRICT AS
	$$DECLARE n int; BEGIN SELECT count(*) INTO n FROM jsonb_array_elements(state); RETURN state || to_jsonb(n); END$$;
CREATE FUNCTION same(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$SELECT state$$;
CREATE FUNCTION whole(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE sql AS
	$$SELECT to_jsonb(e) - '{event_id,occurred_at,recorded_at}'::text[] || jsonb_build_object('id', e.event_id IS NOT NULL,
		'occurred', e.occurred_at = '2026-01-02 03:04:05Z', 'recorded', e.recorded_at > '2026-01-02')$$;
CREATE FUNCTION scalar(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE plpgsql AS
	$$BEGIN RETURN to_jsonb(e.event_type); END$$;
-- waits until a projection is complete, however that comes
CREATE FUNCTION live(projection text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		IF EXISTS (SELECT FROM eduai.projection p JOIN eduai.projection_generation g USING (projection)
			WHERE p.name = live.projection AND g.live > 0) THEN
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN false;
END $$;
CREATE PROCEDURE make(name text, reducer regprocedure, key text DEFAULT 'user_id', event_types text[] DEFAULT NULL, initial jsonb DEFAULT '{}')
	LANGUAGE plpgsql AS $$
BEGIN
	PERFORM eduai.create_projection(name, reducer, key, 'inline', event_types, initial);
	COMMIT;
	IF NOT regress_proj_red.live(name) THEN
		RAISE 'projection % is not live', name;
	END IF;
END $$;
RESET search_path;
CALL regress_proj_red.make('red_sql', 'regress_proj_red.in_sql(jsonb, eduai.event_record)', initial => '{"sum": 100}');
CALL regress_proj_red.make('red_plpgsql', 'regress_proj_red.in_plpgsql(jsonb, eduai.event_record)', 'stream', initial => '[]');
CALL regress_proj_red.make('red_c', 'eduai.test_count_reducer(jsonb, eduai.event_record)', 'session_id');
CALL regress_proj_red.make('red_strict', 'regress_proj_red.strict_stable(jsonb, eduai.event_record)', initial => '[]');
CALL regress_proj_red.make('red_same', 'regress_proj_red.same(jsonb, eduai.event_record)', initial => '"as it was"');
CALL regress_proj_red.make('red_whole', 'regress_proj_red.whole(jsonb, eduai.event_record)', 'stream');
CALL regress_proj_red.make('red_scalar', 'regress_proj_red.scalar(jsonb, eduai.event_record)');
CALL regress_proj_red.make('red_types', 'eduai.test_count_reducer(jsonb, eduai.event_record)', event_types => '{a,c}');

-- one by one, and several of several keys in a batch
SET ROLE regress_proj_red_app;
SET eduai.tenant = 'proj_red';
SELECT count(*) FROM eduai.append_event('s-1', 'a', '{"n": 1}', 'ana', 'm-1');
SELECT count(*) FROM eduai.append_event('s-2', 'b', '{"n": 2}', 'ana');
SELECT eduai.append_batch('{s-1,s-2,s-1,s-3,s-1}', '{a,b,c,a,a}',
	'{"{\"n\": 4}","{\"n\": 8}","{\"n\": 16}","{\"n\": 32}","{\"n\": 64}"}', '{ana,ben,ana,NULL,ben}', '{m-1,m-2,m-2,m-1,m-1}');
SELECT eduai.projection_state('red_sql', 'ana'), eduai.projection_state('red_sql', 'ben');
SELECT stream, eduai.projection_state('red_plpgsql', stream) FROM unnest('{s-1,s-2,s-3,s-4}'::text[]) AS stream;
SELECT session, eduai.projection_state('red_c', session) FROM unnest('{m-1,m-2,m-3}'::text[]) AS session;
SELECT eduai.projection_state('red_strict', 'ana'), eduai.projection_state('red_strict', 'ben');
SELECT eduai.projection_state('red_same', 'ana');
SELECT eduai.projection_state('red_scalar', 'ana'), eduai.projection_state('red_scalar', 'ben');
SELECT eduai.projection_state('red_types', 'ana'), eduai.projection_state('red_types', 'ben');
-- all that a reducer gets; the position is not known yet, and is never told
SELECT count(*) FROM eduai.append_event('s-5', 'd', '{"n": 0}', 'cleo', 'm-9', '{"by": "test"}', occurred_at => '2026-01-02 03:04:05Z');
SELECT eduai.projection_state('red_whole', 's-5');
SELECT count(*) FROM eduai.append_event('s-5', 'e');
SELECT eduai.projection_state('red_whole', 's-5');
-- a large state
SELECT count(eduai.append_event('s-6', 'x', '{"n": 1}', 'dora')) FROM generate_series(1, 500);
SELECT jsonb_array_length(eduai.projection_state('red_strict', 'dora')), eduai.projection_state('red_strict', 'dora') -> -1,
	eduai.projection_state('red_sql', 'dora'), jsonb_array_length(eduai.projection_state('red_plpgsql', 's-6'));

-- the states of another tenant are others
SET eduai.tenant = 'proj_red_b';
SELECT eduai.projection_state('red_sql', 'ana') IS NULL;
SELECT count(*) FROM eduai.append_event('s-1', 'a', '{"n": 7}', 'ana', 'm-1');
SELECT eduai.projection_state('red_sql', 'ana'), eduai.projection_state('red_plpgsql', 's-1');
SET eduai.tenant = 'proj_red';
SELECT eduai.projection_state('red_sql', 'ana');

-- a reader's snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT eduai.projection_state('red_sql', 'ana');
SELECT count(*) FROM eduai.append_event('s-1', 'a', '{"n": 1000}', 'ana');
SELECT eduai.projection_state('red_sql', 'ana');
ROLLBACK;
SELECT eduai.projection_state('red_sql', 'ana');
RESET ROLE;
RESET eduai.tenant;
SELECT count(eduai.drop_projection(name)) FROM eduai.projection WHERE name LIKE 'red\_%';

-- it runs as who made the projection, whoever appends, and is restricted
CREATE TABLE regress_proj_red.secret AS SELECT 'of the superuser' AS word;
CREATE TABLE regress_proj_red.note (word text);
ALTER TABLE regress_proj_red.note OWNER TO regress_proj_red;
SET ROLE regress_proj_red;
INSERT INTO regress_proj_red.note VALUES ('of the registrant');
CREATE FUNCTION regress_proj_red.looks(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	said text;
BEGIN
	EXECUTE e.data ->> 'do' INTO said;
	RETURN to_jsonb(said);
EXCEPTION WHEN OTHERS THEN
	RETURN to_jsonb(SQLSTATE || ' ' || SQLERRM);
END $$;
CREATE FUNCTION regress_proj_red.trap() RETURNS text LANGUAGE sql AS $$SELECT 'trapped'::text$$;
CALL regress_proj_red.make('red_looks', 'regress_proj_red.looks(jsonb, eduai.event_record)', 'stream');
RESET ROLE;
CREATE TEMP TABLE doing (n serial, sql text);
INSERT INTO doing (sql) VALUES
	('SELECT current_user'),
	('SELECT current_setting(''eduai.tenant'')'),
	('SELECT current_setting(''search_path'')'),
	('SELECT word FROM regress_proj_red.note'),
	('SELECT word FROM regress_proj_red.secret'),
	('SET ROLE regress_proj_red_app'),
	('RESET ROLE'),
	('SET SESSION AUTHORIZATION DEFAULT'),
	('CREATE TEMP TABLE t ()'),
	('DECLARE c CURSOR WITH HOLD FOR SELECT 1'),
	('LISTEN x'),
	('SELECT count(*) FROM eduai.append_event(''s-in'', ''x'')');
GRANT SELECT ON doing TO regress_proj_red_app;
SELECT session_user <> 'regress_proj_red_app' AND session_user <> 'regress_proj_red' AS "the session is somebody else's";
SET ROLE regress_proj_red_app;
SET eduai.tenant = 'proj_red';
SET search_path = public;
SELECT count(*) FROM eduai.append_event('look-set', 'x', '{"do": "SELECT set_config(''eduai.tenant'', ''proj_red_b'', false)"}');
SELECT eduai.append_batch(array_agg('look-' || n), array_agg('x'::text), array_agg(jsonb_build_object('do', sql))) FROM doing;
SELECT sql, eduai.projection_state('red_looks', 'look-' || n) FROM doing ORDER BY n;
-- as for the appender, nothing of it has changed
SELECT current_user, current_setting('eduai.tenant'), current_setting('search_path');
RESET search_path;

-- a function that is replaced is the next one called
SET ROLE regress_proj_red;
CREATE OR REPLACE FUNCTION regress_proj_red.looks(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE sql AS $$SELECT '"another"'::jsonb$$;
SET ROLE regress_proj_red_app;
SELECT count(*) FROM eduai.append_event('look-1', 'x');
SELECT eduai.projection_state('red_looks', 'look-1');
RESET ROLE;
RESET eduai.tenant;
SELECT eduai.drop_projection('red_looks');
SELECT eduai.disallow_tenant(role::text, tenant) FROM eduai.tenant_binding WHERE role IN ('regress_proj_red', 'regress_proj_red_app');
REVOKE EXECUTE ON FUNCTION eduai.test_count_reducer(jsonb, eduai.event_record) FROM regress_proj_red;
SET client_min_messages = warning;
DROP SCHEMA regress_proj_red CASCADE;
DROP OWNED BY regress_proj_red, regress_proj_red_app;
DROP ROLE regress_proj_red, regress_proj_red_app;
