-- Event types: registration, built-in ones registered over, versions, rights,
-- and when a session sees a change.
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
CREATE ROLE regress_events_types_admin;
CREATE ROLE regress_events_types;
CREATE ROLE regress_events_types_reader;
GRANT eduai_admin TO regress_events_types_admin;
GRANT eduai_app TO regress_events_types;
GRANT eduai_reader TO regress_events_types_reader;
SELECT eduai.allow_tenant(r, 'events_types')
	FROM unnest(ARRAY['regress_events_types_admin', 'regress_events_types']::name[]) r;
SET eduai.tenant = 'events_types';
SET ROLE regress_events_types_admin;

-- a type of one's own
SELECT eduai.register_event_type('et_quiz');
SELECT * FROM eduai.event_type WHERE event_type = 'et_quiz';
SELECT eduai.register_event_type('et_quiz', '{comment,photo}', '{"required": ["score"]}', 2);
SELECT * FROM eduai.event_type WHERE event_type = 'et_quiz';
-- a built-in one keeps its description and keys
SELECT eduai.register_event_type('exercise_attempted', '{answer,item}', '{"required": ["score"]}', schema_version => 3);
SELECT event_type, description <> '', data_keys ? 'answer', sensitive_fields, json_schema, schema_version, builtin
	FROM eduai.event_type WHERE builtin ORDER BY 1;
SELECT count(*) FROM eduai.event_type WHERE event_type = 'exercise_attempted';

-- the version goes up or stays
SELECT pg_temp.fails($$SELECT eduai.register_event_type('et_quiz', schema_version => 1)$$);
SELECT schema_version, json_schema FROM eduai.event_type WHERE event_type = 'et_quiz';
SELECT eduai.register_event_type('et_quiz', '{}', NULL, 2);
SELECT * FROM eduai.event_type WHERE event_type = 'et_quiz';
SELECT eduai.register_event_type('et_quiz', NULL, '{"required": ["score"]}', 5);
SELECT * FROM eduai.event_type WHERE event_type = 'et_quiz';

-- bad input
SELECT pg_temp.fails($$SELECT eduai.register_event_type(NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.register_event_type('')$$);
SELECT pg_temp.fails($$SELECT eduai.register_event_type(repeat('x', 513))$$);
SELECT pg_temp.fails($$SELECT eduai.register_event_type(E'a\nb')$$);
SELECT pg_temp.fails($$SELECT eduai.register_event_type('et_bad', schema_version => 0)$$);
SELECT pg_temp.fails($$SELECT eduai.register_event_type('et_bad', '{a,NULL}')$$);
SELECT pg_temp.fails($$SELECT eduai.register_event_type('et_bad', '{""}')$$);
SELECT pg_temp.fails($$SELECT eduai.register_event_type('et_bad', '{{a},{b}}')$$);
SELECT pg_temp.fails($$SELECT eduai.register_event_type('et_bad', json_schema => 'null')$$);
SELECT count(*) FROM eduai.event_type WHERE event_type = 'et_bad';

-- who may do what
SELECT pg_temp.fails($$INSERT INTO eduai.event_type_registration VALUES ('et_bad', '{}', NULL, 1)$$);
SELECT pg_temp.fails($$DELETE FROM eduai.event_type_registration WHERE event_type = 'et_quiz'$$);
SELECT pg_temp.fails($$DELETE FROM eduai.event_upcaster$$);
SET ROLE regress_events_types;
SELECT pg_temp.fails($$SELECT eduai.register_event_type('et_bad')$$);
SELECT pg_temp.fails($$SELECT eduai.register_upcaster('et_bad', 1, 'pg_catalog.jsonb_strip_nulls(jsonb)')$$);
SELECT count(*) FROM eduai.event_type WHERE event_type IN ('et_quiz', 'exercise_attempted');
SELECT pg_temp.fails('SELECT * FROM eduai.event_type_registration');
SELECT pg_temp.fails('SELECT * FROM eduai.event_upcaster');
SET ROLE regress_events_types_reader;
SELECT count(*) FROM eduai.event_type WHERE event_type IN ('et_quiz', 'exercise_attempted');
SELECT pg_temp.fails($$SELECT eduai.register_event_type('et_bad')$$);

-- a registration in this transaction is heeded at once, and forgotten with it
SET ROLE regress_events_types_admin;
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'et_quiz')$$);
BEGIN;
SELECT eduai.register_event_type('et_quiz', schema_version => 6);
SELECT version FROM eduai.append_event('s', 'et_quiz');
SAVEPOINT a;
SELECT eduai.register_event_type('et_quiz', json_schema => 'false', schema_version => 7);
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'et_quiz', '{"score": 1}')$$);
ROLLBACK TO a;
SELECT version FROM eduai.append_event('s', 'et_quiz');
ROLLBACK;
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'et_quiz')$$);
SELECT version FROM eduai.append_event('s', 'et_quiz', '{"score": 1}');
-- within one statement, event by event
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'et_new'), eduai.register_event_type('et_new', json_schema => 'false'), eduai.append_event('s', 'et_new')$$);
SELECT count(*) FROM eduai.event_type WHERE event_type = 'et_new';
SELECT version FROM eduai.append_event('s', 'et_new');

-- the built-in one is checked like any other
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'exercise_attempted', '{"skill_name": "x"}')$$);
SELECT version FROM eduai.append_event('s', 'exercise_attempted', '{"score": 1}');

-- names that nobody registered cost no memory
SELECT eduai.append_batch(array_agg('m'::text), array_agg('et_made_up_' || n), array_agg('{}'::jsonb)) FROM generate_series(1, 2000) n;
RESET ROLE;
SELECT count(*) > 0, sum(used_bytes) < 100000 FROM pg_backend_memory_contexts WHERE name = 'eduai event types';

-- a dump carries registrations and upcasters, and not the built-in types
SELECT c.oid::regclass, (SELECT extcondition[array_position(extconfig, c.oid)] FROM pg_extension WHERE extname = 'eduai')
	FROM pg_class c WHERE c.oid = ANY (ARRAY['eduai.event_type_registration', 'eduai.event_upcaster']::regclass[]) ORDER BY c.relname;
SELECT relkind FROM pg_class WHERE oid IN ('eduai.event_type'::regclass, 'eduai.event_type_builtin'::regclass);

DELETE FROM eduai.event_type_registration WHERE event_type LIKE 'et\_%' OR event_type = 'exercise_attempted';
SELECT eduai.disallow_tenant(r, 'events_types')
	FROM unnest(ARRAY['regress_events_types_admin', 'regress_events_types']::name[]) r;
DROP OWNED BY regress_events_types, regress_events_types_admin, regress_events_types_reader;
DROP ROLE regress_events_types, regress_events_types_admin, regress_events_types_reader;
