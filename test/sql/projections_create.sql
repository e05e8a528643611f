-- create_projection(), alter_projection(), drop_projection(): what they take
-- and what they refuse.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
	h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, ''), nullif(h, ''));
END $$;
CREATE ROLE regress_proj_create;
GRANT eduai_admin TO regress_proj_create;
CREATE ROLE regress_proj_create_app;
GRANT eduai_app TO regress_proj_create_app;
CREATE SCHEMA regress_proj_create AUTHORIZATION regress_proj_create;
SET ROLE regress_proj_create;
SET search_path = regress_proj_create, pg_catalog;
CREATE FUNCTION r(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS $$SELECT state$$;
CREATE FUNCTION "Odd name"(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS $$SELECT state$$;
CREATE FUNCTION one(state jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT state$$;
CREATE FUNCTION swapped(event eduai.event_record, state jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT state$$;
CREATE FUNCTION texts(state jsonb, event eduai.event_record) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$;
CREATE FUNCTION several(state jsonb, event eduai.event_record) RETURNS SETOF jsonb LANGUAGE sql AS $$SELECT state$$;
CREATE PROCEDURE proc(state jsonb, event eduai.event_record) LANGUAGE sql AS $$SELECT 1$$;
CREATE AGGREGATE agg(event eduai.event_record) (SFUNC = r, STYPE = jsonb);
CREATE FUNCTION pg_temp.mine(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS $$SELECT state$$;
CREATE FUNCTION hidden(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS $$SELECT state$$;
REVOKE ALL ON FUNCTION hidden FROM PUBLIC, regress_proj_create;

-- what is kept
CREATE FUNCTION pg_temp.shown() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', p.name, p.key, p.mode, p.on_error, p.lanes, p.schema_version, p.initial,
		coalesce(p.event_types::text, 'all'), p.reducer, p.role)
	FROM eduai.projection p WHERE p.role = 'regress_proj_create' ORDER BY p.name $$;
SELECT eduai.create_projection('create_default', 'r(jsonb, eduai.event_record)');
SELECT eduai.create_projection(name => 'create full', reducer => '"Odd name"(jsonb, eduai.event_record)', key => 'session_id',
	mode => 'async', event_types => ARRAY['a', 'b'], initial => '[1]', schema_version => 7, lanes => 64, on_error => 'park');
SELECT eduai.create_projection('create_inline', 'r(jsonb, eduai.event_record)', 'stream', 'inline', on_error => 'raise', initial => 'null');
SELECT pg_temp.shown();

-- refused: names
SELECT pg_temp.fails(format('SELECT eduai.create_projection(%L, %L)', name, 'r(jsonb, eduai.event_record)')) FROM unnest(ARRAY[
	'create_default', 'create full', 'progress', 'learner_model', '', E'a\tb', repeat('x', 513), NULL]) AS name;
-- refused: reducers
SELECT pg_temp.fails(format('SELECT eduai.create_projection(%L, %L::regprocedure)', 'create_bad', reducer)) FROM unnest(ARRAY[
	'one(jsonb)', 'swapped(eduai.event_record, jsonb)', 'texts(jsonb, eduai.event_record)', 'several(jsonb, eduai.event_record)',
	'proc(jsonb, eduai.event_record)', 'agg(eduai.event_record)', 'hidden(jsonb, eduai.event_record)',
	'none(jsonb, eduai.event_record)', NULL]) AS reducer;
-- in a schema whose name is the session's own
SELECT replace(pg_temp.fails($$SELECT eduai.create_projection('create_bad', 'pg_temp.mine(jsonb, eduai.event_record)')$$),
	(SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()), 'pg_temp');
SELECT pg_temp.fails($$SELECT eduai.create_projection('create_bad', 0)$$);
-- refused: the rest
SELECT pg_temp.fails(format($$SELECT eduai.create_projection('create_bad', 'r(jsonb, eduai.event_record)', %s)$$, argument)) FROM unnest(ARRAY[
	'key => ''user''', 'key => ''''', 'key => ''User_id''', 'key => NULL',
	'mode => ''sync''', 'mode => NULL',
	'on_error => ''ignore''', 'on_error => NULL', 'on_error => ''raise''', 'on_error => ''raise'', mode => ''async''',
	'lanes => 0', 'lanes => -1', 'lanes => 65', 'lanes => NULL', 'lanes => 2, mode => ''inline''',
	'schema_version => 0', 'schema_version => NULL',
	'initial => NULL',
	'event_types => ''{}''', 'event_types => ''{a,NULL}''', 'event_types => ''{a,""}''', 'event_types => ''{{a},{b}}''']) AS argument;
BEGIN READ ONLY;
SELECT pg_temp.fails($$SELECT eduai.create_projection('create_bad', 'r(jsonb, eduai.event_record)')$$);
SELECT pg_temp.fails($$SELECT eduai.alter_projection('create_default', schema_version => 2)$$);
SELECT pg_temp.fails($$SELECT eduai.drop_projection('create_default')$$);
ROLLBACK;
SELECT pg_temp.shown();

-- rolled back: it never was
BEGIN;
SELECT eduai.create_projection('create_gone', 'r(jsonb, eduai.event_record)');
SELECT pg_temp.fails($$SELECT eduai.create_projection('create_gone', 'r(jsonb, eduai.event_record)')$$);
ROLLBACK;
SELECT pg_temp.fails($$SELECT eduai.projection_state('create_gone', 'x')$$);

-- altered: a next generation is folded with it, the live one is not
CREATE FUNCTION pg_temp.altered(projection text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', a.schema_version, a.initial, coalesce(a.event_types::text, 'all'), a.reducer, a.role,
		a.generation = g.next, g.next > g.live, a.generation > ALL (g.retired))
	FROM eduai.projection p JOIN eduai.projection_altered a USING (projection) JOIN eduai.projection_generation g USING (projection)
	WHERE p.name = altered.projection $$;
BEGIN;
SELECT eduai.alter_projection('create full', schema_version => 8);
SELECT pg_temp.altered('create full');
SELECT eduai.alter_projection('create full', 'r(jsonb, eduai.event_record)');
SELECT pg_temp.altered('create full');
SELECT eduai.alter_projection('create full', event_types => '{}', initial => '{"n": 0}');
SELECT pg_temp.altered('create full');
SELECT eduai.alter_projection('create full', event_types => '{c}', schema_version => 9);
SELECT pg_temp.altered('create full');
SELECT pg_temp.shown();
ROLLBACK;
SELECT pg_temp.altered('create full');
SELECT pg_temp.fails(format('SELECT eduai.alter_projection(%s)', arguments)) FROM unnest(ARRAY[
	'''create_none'', schema_version => 2', '''progress'', schema_version => 2', 'NULL, schema_version => 2', '''create full''',
	'''create full'', schema_version => 0', '''create full'', ''one(jsonb)''', '''create full'', ''hidden(jsonb, eduai.event_record)''',
	'''create full'', event_types => ''{a,NULL}''']) AS arguments;

-- dropped: the name is free
SELECT pg_temp.fails(format('SELECT eduai.drop_projection(%L)', name)) FROM unnest(ARRAY['create_none', 'progress', '', NULL]) AS name;
SELECT eduai.drop_projection('create_inline');
SELECT pg_temp.fails($$SELECT eduai.drop_projection('create_inline')$$);
SELECT pg_temp.fails($$SELECT eduai.projection_state('create_inline', 'x')$$);
SELECT eduai.create_projection('create_inline', 'r(jsonb, eduai.event_record)');
SELECT pg_temp.shown();

-- projection_state(): what is refused
SELECT pg_temp.fails(format('SELECT eduai.projection_state(%L, %L)', projection, key)) FROM (VALUES
	('create_none', 'x'), (NULL, 'x'), ('create_default', NULL), ('create_default', ''), ('progress', E'\n')) AS v (projection, key);
SELECT eduai.projection_state('create_default', 'nobody') IS NULL, eduai.projection_state('progress', 'nobody') IS NULL;

-- who may
SET ROLE regress_proj_create_app;
SELECT pg_temp.fails(s) FROM unnest(ARRAY[
	$$SELECT eduai.create_projection('create_app', 'pg_temp.mine(jsonb, eduai.event_record)')$$,
	$$SELECT eduai.alter_projection('create_default', schema_version => 2)$$,
	$$SELECT eduai.drop_projection('create_default')$$,
	$$SELECT eduai.retry_parked('create_default')$$,
	$$SELECT eduai.skip_parked('create_default', gen_random_uuid())$$,
	$$SELECT * FROM eduai.parked_event$$,
	$$SELECT * FROM eduai.projection_parked$$,
	$$SELECT eduai.test_count_reducer('{}', e) FROM eduai.read_all(0, 1) AS e$$]) AS s;
SELECT eduai.projection_state('create_default', 'nobody') IS NULL;
SET ROLE regress_proj_create;
SELECT count(eduai.drop_projection(name)) FROM eduai.projection WHERE name LIKE 'create%';
SELECT pg_temp.shown();
RESET ROLE;
DROP OWNED BY regress_proj_create, regress_proj_create_app;
DROP ROLE regress_proj_create, regress_proj_create_app;
