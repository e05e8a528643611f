-- Upcasters: a chain, a missing step, whose rights they have, and their errors.
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
		substring(c FROM 'upcaster [^\n]*'));
END $$;
CREATE ROLE regress_events_up_admin;
CREATE ROLE regress_events_up_other;
CREATE ROLE regress_events_up_app;
CREATE ROLE regress_events_up_reader;
GRANT eduai_admin, eduai_app TO regress_events_up_admin, regress_events_up_other;
GRANT eduai_app TO regress_events_up_app;
GRANT eduai_reader TO regress_events_up_reader;
SELECT eduai.allow_tenant(r, 'events_up') FROM unnest(ARRAY['regress_events_up_admin',
	'regress_events_up_other', 'regress_events_up_app', 'regress_events_up_reader']::name[]) r;
SET eduai.tenant = 'events_up';
CREATE SCHEMA "Up casters";
GRANT ALL ON SCHEMA "Up casters" TO regress_events_up_admin, regress_events_up_other;

SET ROLE regress_events_up_admin;
CREATE FUNCTION "Up casters".one(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
	$$SELECT data || '{"one": true}'$$;
CREATE FUNCTION "Up casters"."Two""s"(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS
	$$BEGIN RETURN (data - 'n') || jsonb_build_object('m', (data->>'n')::int * 10); END$$;
CREATE FUNCTION "Up casters".four(data jsonb) RETURNS jsonb LANGUAGE sql AS
	$$SELECT data || '{"four": true}'$$;
REVOKE ALL ON FUNCTION "Up casters".one(jsonb), "Up casters"."Two""s"(jsonb), "Up casters".four(jsonb) FROM PUBLIC;

-- data of every version is read as the current one
SELECT version FROM eduai.append_event('s', 'up_quiz', '{"n": 1}');
SELECT eduai.register_upcaster('up_quiz', 1, '"Up casters".one(jsonb)');
SELECT eduai.register_upcaster('up_quiz', 2, '"Up casters"."Two""s"(jsonb)');
SELECT data FROM eduai.read_stream('s');
SELECT eduai.register_event_type('up_quiz', schema_version => 2);
SELECT version FROM eduai.append_event('s', 'up_quiz', '{"n": 2}');
SELECT data FROM eduai.read_stream('s');
SELECT eduai.register_event_type('up_quiz', schema_version => 3);
SELECT version FROM eduai.append_event('s', 'up_quiz', '{"m": 3}');
SELECT data FROM eduai.read_stream('s');
SELECT data FROM eduai.read_stream('s', backward => true, max_count => 2);
-- a step without a function leaves data as it is
SELECT eduai.register_upcaster('up_quiz', 4, '"Up casters".four(jsonb)');
SELECT eduai.register_event_type('up_quiz', schema_version => 5);
SELECT version FROM eduai.append_event('s', 'up_quiz', '{"m": 4}');
SELECT data FROM eduai.read_stream('s');
-- what is stored stays, and other types
RESET ROLE;
SELECT schema_version, data FROM eduai.event WHERE tenant_id = 'events_up' ORDER BY version;
SELECT * FROM eduai.event_upcaster WHERE event_type LIKE 'up\_%' ORDER BY 1, 2;
-- readers without any right on the functions, in read-only transactions too
SET ROLE regress_events_up_reader;
SELECT pg_temp.fails($$SELECT "Up casters".one('{}')$$);
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT count(*), bool_and(data ? 'four' = (version <= 3)) FROM eduai.read_stream('s');
COMMIT;

-- a registration replaces; a replaced function is used at once
SET ROLE regress_events_up_admin;
CREATE OR REPLACE FUNCTION "Up casters".one(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
	$$SELECT data || '{"one": "again"}'$$;
SELECT data FROM eduai.read_stream('s', max_count => 1);
SELECT eduai.register_upcaster('up_quiz', 1, '"Up casters".four(jsonb)');
SELECT data FROM eduai.read_stream('s', max_count => 1);
BEGIN;
SELECT eduai.register_upcaster('up_quiz', 1, '"Up casters".one(jsonb)');
SELECT data FROM eduai.read_stream('s', max_count => 1);
ROLLBACK;
SELECT data FROM eduai.read_stream('s', max_count => 1);

-- it runs as its registrant, with no way out and search_path pinned
CREATE FUNCTION "Up casters".who(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS
	$$BEGIN RETURN jsonb_build_object('user', current_user, 'path', current_setting('search_path')); END$$;
SELECT version FROM eduai.append_event('w', 'up_who');
SELECT eduai.register_event_type('up_who', schema_version => 2);
SELECT eduai.register_upcaster('up_who', 1, '"Up casters".who(jsonb)');
SELECT data FROM eduai.read_stream('w');
SET ROLE regress_events_up_reader;
SELECT data, current_user, current_setting('search_path') FROM eduai.read_stream('w');
SET ROLE regress_events_up_app;
SELECT data FROM eduai.read_stream('w');
SET ROLE regress_events_up_other;
CREATE FUNCTION "Up casters".out(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS
	$$BEGIN EXECUTE data->>'do'; RETURN '{"done": true}'; END$$;
SELECT eduai.register_upcaster('up_out', 1, '"Up casters".out(jsonb)');
SELECT version FROM eduai.append_events('o', '[{"type": "up_out", "data": {"do": "SET ROLE regress_events_up_admin"}}, {"type": "up_out", "data": {"do": "RESET ROLE"}},
	{"type": "up_out", "data": {"do": "SET SESSION AUTHORIZATION DEFAULT"}}, {"type": "up_out", "data": {"do": "CREATE TEMP TABLE t ()"}},
	{"type": "up_out", "data": {"do": "DELETE FROM eduai.event"}}, {"type": "up_out", "data": {"do": "SELECT set_config(''eduai.tenant'', ''default'', false)"}}]');
SELECT eduai.register_event_type('up_out', schema_version => 2);
SET ROLE regress_events_up_reader;
SELECT n, pg_temp.fails(format('SELECT data FROM eduai.read_stream(''o'', %s, 1)', n)) FROM generate_series(1, 5) n;
SELECT data, current_user FROM eduai.read_stream('o', 6, 1);
SELECT current_setting('eduai.tenant'), current_user;

-- an upcaster that reads, events of its own type too, while the types change
SET ROLE regress_events_up_admin;
CREATE FUNCTION "Up casters".deep(d jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	inner_data jsonb;
BEGIN
	IF (d->>'n')::int = 0 THEN
		PERFORM eduai.register_event_type('up_other_type');
		PERFORM FROM eduai.read_stream('w');
	ELSE
		SELECT r.data INTO inner_data FROM eduai.read_stream('deep', (d->>'n')::bigint, 1) r;
	END IF;
	RETURN d || jsonb_build_object('inner', inner_data);
END $$;
SELECT eduai.register_upcaster('up_deep', 1, '"Up casters".deep(jsonb)');
SELECT eduai.register_upcaster('up_deep', 2, '"Up casters".four(jsonb)');
SELECT version FROM eduai.append_events('deep', '[{"type": "up_deep", "data": {"n": 0}}, {"type": "up_deep", "data": {"n": 1}}, {"type": "up_deep", "data": {"n": 2}}]');
SELECT eduai.register_event_type('up_deep', schema_version => 3);
SELECT data FROM eduai.read_stream('deep');
SELECT data FROM eduai.read_stream('deep', 3, 1);
-- within a function's loop over SPI
DO $$
DECLARE
	r record;
	n int := 0;
BEGIN
	FOR r IN SELECT x, (SELECT data FROM eduai.read_stream('s', max_count => 1)) AS d FROM generate_series(1, 60) x LOOP
		PERFORM data FROM eduai.read_stream('deep');
		n := n + (r.d ? 'm')::int;
	END LOOP;
	RAISE NOTICE '%', n;
END $$;

-- errors name type, version and function
CREATE FUNCTION "Up casters".bad(data jsonb) RETURNS jsonb LANGUAGE sql AS
	$$SELECT CASE data->>'as' WHEN 'null' THEN NULL WHEN 'array' THEN '[]' WHEN 'scalar' THEN '1' WHEN 'division' THEN to_jsonb(1 / 0) ELSE data END$$;
SELECT version FROM eduai.append_events('b', '[{"type": "up_bad", "data": {"as": "null"}}, {"type": "up_bad", "data": {"as": "array"}}, {"type": "up_bad", "data": {"as": "scalar"}}, {"type": "up_bad", "data": {"as": "object"}}]');
SELECT eduai.register_upcaster('up_bad', 1, '"Up casters".bad(jsonb)');
SELECT eduai.register_event_type('up_bad', schema_version => 2);
SELECT n, pg_temp.fails(format('SELECT data FROM eduai.read_stream(''b'', %s, 1)', n)) FROM generate_series(1, 3) n;
SELECT data FROM eduai.read_stream('b', 4, 1);
-- the function changes its mind, loses a right, goes, and comes back
SET ROLE regress_events_up_other;
CREATE FUNCTION "Up casters".gone(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN RETURN data || '{"here": 1}'; END$$;
REVOKE ALL ON FUNCTION "Up casters".gone(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "Up casters".gone(jsonb) TO regress_events_up_admin;
SET ROLE regress_events_up_admin;
SELECT eduai.register_upcaster('up_bad', 1, '"Up casters".gone(jsonb)');
SELECT data FROM eduai.read_stream('b', 4, 1);
SET ROLE regress_events_up_other;
REVOKE EXECUTE ON FUNCTION "Up casters".gone(jsonb) FROM regress_events_up_admin;
SELECT pg_temp.fails($$SELECT data FROM eduai.read_stream('b', 4, 1)$$);
DROP FUNCTION "Up casters".gone(jsonb);
SELECT pg_temp.fails($$SELECT data FROM eduai.read_stream('b', 4, 1)$$);
CREATE FUNCTION "Up casters".gone(data jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT pg_temp.fails($$SELECT data FROM eduai.read_stream('b', 4, 1)$$);
DROP FUNCTION "Up casters".gone(jsonb);
CREATE FUNCTION "Up casters".gone(data jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT data || '{"back": 1}'$$;
SELECT data FROM eduai.read_stream('b', 4, 1);
-- the role goes
RESET ROLE;
UPDATE eduai.event_upcaster SET registrant = 'regress_events_up_nobody' WHERE event_type = 'up_bad';
SELECT eduai.register_event_type('up_bad', schema_version => 2);
SET ROLE regress_events_up_reader;
SELECT pg_temp.fails($$SELECT data FROM eduai.read_stream('b', 4, 1)$$);
-- events of the current version are read all the same
SET ROLE regress_events_up_app;
SELECT version FROM eduai.append_event('b', 'up_bad', '{"now": 2}');
SELECT data FROM eduai.read_stream('b', 5, 1);

-- bad input
SET ROLE regress_events_up_admin;
SELECT pg_temp.fails($$SELECT eduai.register_upcaster(NULL, 1, '"Up casters".one(jsonb)')$$);
SELECT pg_temp.fails($$SELECT eduai.register_upcaster('', 1, '"Up casters".one(jsonb)')$$);
SELECT pg_temp.fails($$SELECT eduai.register_upcaster('up_x', NULL, '"Up casters".one(jsonb)')$$);
SELECT pg_temp.fails($$SELECT eduai.register_upcaster('up_x', 1, NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.register_upcaster('up_x', 0, '"Up casters".one(jsonb)')$$);
SELECT pg_temp.fails($$SELECT eduai.register_upcaster('up_x', 1, '"Up casters".none(jsonb)')$$);
SELECT pg_temp.fails($$SELECT eduai.register_upcaster('up_x', 1, 1)$$);
CREATE FUNCTION pg_temp.temporary(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
SELECT pg_temp.fails(format('SELECT eduai.register_upcaster(''up_x'', 1, %L)', f)) FROM unnest(ARRAY[
	'pg_catalog.jsonb_typeof(jsonb)', 'pg_catalog.to_jsonb(anyelement)', 'pg_catalog.jsonb_array_elements(jsonb)',
	'pg_catalog.jsonb_delete(jsonb,text)', 'pg_catalog.jsonb_agg(anyelement)']) f;
SELECT regexp_replace(pg_temp.fails($$SELECT eduai.register_upcaster('up_x', 1, 'pg_temp.temporary(jsonb)')$$), 'pg_temp_\d+', 'pg_temp_n');
SET ROLE regress_events_up_other;
SELECT pg_temp.fails($$SELECT eduai.register_upcaster('up_x', 1, '"Up casters".one(jsonb)')$$);
RESET ROLE;
SELECT count(*) FROM eduai.event_upcaster WHERE event_type = 'up_x';

DELETE FROM eduai.event_type_registration WHERE event_type LIKE 'up\_%';
DELETE FROM eduai.event_upcaster WHERE event_type LIKE 'up\_%';
SELECT eduai.disallow_tenant(r, 'events_up') FROM unnest(ARRAY['regress_events_up_admin',
	'regress_events_up_other', 'regress_events_up_app', 'regress_events_up_reader']::name[]) r;
SET client_min_messages = warning;
DROP SCHEMA "Up casters" CASCADE;
DROP OWNED BY regress_events_up_admin, regress_events_up_other, regress_events_up_app, regress_events_up_reader;
DROP ROLE regress_events_up_admin, regress_events_up_other, regress_events_up_app, regress_events_up_reader;
