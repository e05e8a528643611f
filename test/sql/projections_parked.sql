-- Parked events: retry_parked(), skip_parked(), in what order they are folded.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(h, ''));
END $$;
CREATE ROLE regress_proj_parked;
GRANT eduai_admin TO regress_proj_parked;
SELECT eduai.allow_tenant('regress_proj_parked', 'proj_parked'), eduai.allow_tenant('regress_proj_parked', 'proj_parked_b');
CREATE SCHEMA regress_proj_parked AUTHORIZATION regress_proj_parked;
SET ROLE regress_proj_parked;
SET eduai.tenant = 'proj_parked';
CREATE TABLE regress_proj_parked.refused (v int);
-- collects data.v in order; raises for those in the table refused
CREATE FUNCTION regress_proj_parked.collect(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM regress_proj_parked.refused r WHERE r.v = (e.data -> 'v')::int) THEN
		RAISE 'refused %', e.data -> 'v' USING ERRCODE = 'P1234';
	END IF;
	RETURN state || jsonb_build_array(e.data -> 'v');
END $$;
CREATE FUNCTION regress_proj_parked.made(projection text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		IF EXISTS (SELECT FROM eduai.projection p JOIN eduai.projection_generation g USING (projection)
			WHERE p.name = made.projection AND g.live > 0) THEN
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'projection % is not live', projection;
END $$;
SELECT eduai.create_projection('parked', 'regress_proj_parked.collect(jsonb, eduai.event_record)', mode => 'inline', initial => '[]');
SELECT eduai.create_projection('parked_stream', 'regress_proj_parked.collect(jsonb, eduai.event_record)', 'stream', 'inline', initial => '[]');
SELECT regress_proj_parked.made('parked'), regress_proj_parked.made('parked_stream');
CREATE FUNCTION pg_temp.add(who text, first int, last int DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
	SELECT eduai.append_batch(array_agg('s-' || v % 3), array_agg('x'::text), array_agg(jsonb_build_object('v', v)), array_agg(who))
	FROM generate_series(first, coalesce(last, first)) AS v $$;
CREATE VIEW pg_temp.parked AS
	SELECT projection, key, stream, version, error, sqlstate, tries, waiting FROM eduai.parked_event ORDER BY projection, key;
CREATE FUNCTION pg_temp.id(projection text, key text) RETURNS uuid LANGUAGE sql AS
	$$SELECT event_id FROM eduai.parked_event p WHERE p.projection = id.projection AND p.key = id.key$$;

-- tried again: the same order as without the failure, whatever stream the events are in
INSERT INTO regress_proj_parked.refused VALUES (3), (6);
SELECT pg_temp.add('ana', 1, 10);
SELECT pg_temp.add('ben', 6);
SELECT * FROM pg_temp.parked;
SELECT eduai.retry_parked('parked');
SELECT * FROM pg_temp.parked;
SELECT eduai.projection_state('parked', 'ana'), eduai.projection_state('parked', 'ben');
DELETE FROM regress_proj_parked.refused WHERE v = 3;
SELECT eduai.retry_parked('parked');
SELECT eduai.projection_state('parked', 'ana');
SELECT * FROM pg_temp.parked;
-- rolled back, as if never called
BEGIN;
DELETE FROM regress_proj_parked.refused;
SELECT eduai.retry_parked('parked');
SELECT eduai.projection_state('parked', 'ana'), eduai.projection_state('parked', 'ben');
SELECT count(*) FROM pg_temp.parked WHERE projection = 'parked';
ROLLBACK;
SELECT eduai.projection_state('parked', 'ana'), eduai.projection_state('parked', 'ben');
SELECT * FROM pg_temp.parked;
DELETE FROM regress_proj_parked.refused;
SELECT eduai.retry_parked('parked'), eduai.retry_parked('parked_stream');
SELECT count(*) FROM pg_temp.parked;
SELECT eduai.projection_state('parked', 'ana'), eduai.projection_state('parked', 'ben');
SELECT stream, eduai.projection_state('parked_stream', stream) FROM unnest('{s-0,s-1,s-2}'::text[]) AS stream;
SELECT eduai.retry_parked('parked');
-- the key goes on
SELECT pg_temp.add('ana', 11);
SELECT eduai.projection_state('parked', 'ana');

-- skipped: left out, and what waited goes on
INSERT INTO regress_proj_parked.refused VALUES (21), (24), (30);
SELECT pg_temp.add('cleo', 20, 26), pg_temp.add('dora', 30), pg_temp.add('eve', 30, 31);
SELECT * FROM pg_temp.parked;
SELECT eduai.skip_parked('parked', pg_temp.id('parked', 'cleo'));
SELECT eduai.projection_state('parked', 'cleo');
SELECT * FROM pg_temp.parked WHERE projection = 'parked';
SELECT eduai.skip_parked('parked', pg_temp.id('parked', 'cleo')), eduai.skip_parked('parked', pg_temp.id('parked', 'dora')),
	eduai.skip_parked('parked', pg_temp.id('parked', 'eve'));
SELECT who, eduai.projection_state('parked', who) FROM unnest('{cleo,dora,eve}'::text[]) AS who;
-- of a key without folded events there is no row, as in a rebuild
SELECT s.key, s.version, s.parked FROM eduai.projection_state s JOIN eduai.projection p USING (projection)
	WHERE p.name = 'parked' AND s.key IN ('cleo', 'dora', 'eve') ORDER BY 1;
SELECT pg_temp.add('dora', 32);
SELECT eduai.projection_state('parked', 'dora');
-- in the one projection only
SELECT * FROM pg_temp.parked;
SELECT s.role, count(*) FROM eduai.projection_skipped s JOIN eduai.projection p USING (projection) WHERE p.name LIKE 'parked%' GROUP BY 1;
-- one that waits behind is none that is parked for an error, nor is one of another tenant
CREATE FUNCTION pg_temp.behind() RETURNS uuid LANGUAGE sql AS $$
	SELECT r.event_id FROM eduai.read_stream('s-0') AS r WHERE (r.data -> 'v')::int = 24 $$;
SELECT pg_temp.fails(format('SELECT eduai.skip_parked(%L, %L)', 'parked_stream', pg_temp.behind())) LIKE 'P0002 | projection "parked_stream" has no parked event %';
CREATE TEMP TABLE kept AS SELECT pg_temp.id('parked_stream', 's-0') AS id;
SET eduai.tenant = 'proj_parked_b';
SELECT pg_temp.fails(format('SELECT eduai.skip_parked(%L, %L)', 'parked_stream', id)) LIKE 'P0002 | projection "parked_stream" has no parked event %' FROM kept;
SELECT eduai.retry_parked('parked_stream');
SET eduai.tenant = 'proj_parked';
SELECT pg_temp.fails(s) FROM unnest(ARRAY[
	$$SELECT eduai.skip_parked('parked', '01890000-0000-7000-8000-000000000000')$$,
	$$SELECT eduai.skip_parked('parked', NULL)$$, $$SELECT eduai.skip_parked('none', gen_random_uuid())$$,
	$$SELECT eduai.skip_parked('progress', gen_random_uuid())$$, $$SELECT eduai.skip_parked(NULL, gen_random_uuid())$$,
	$$SELECT eduai.retry_parked('none')$$, $$SELECT eduai.retry_parked('progress')$$, $$SELECT eduai.retry_parked(NULL)$$]) AS s;
BEGIN READ ONLY;
SELECT pg_temp.fails($$SELECT eduai.retry_parked('parked')$$), pg_temp.fails($$SELECT eduai.skip_parked('parked', gen_random_uuid())$$);
ROLLBACK;

-- health tells a person
RESET ROLE;
SELECT severity, detail, hint FROM eduai.health_problems() WHERE code = 'projection_parked' AND detail LIKE '%parked_stream%';
-- erased: what is gone from the log waits no more
DELETE FROM eduai.event WHERE tenant_id = 'proj_parked' AND event_id = (SELECT id FROM kept);
SET ROLE regress_proj_parked;
TRUNCATE regress_proj_parked.refused;
SELECT eduai.retry_parked('parked_stream');
SELECT count(*) FROM pg_temp.parked;
SELECT stream, eduai.projection_state('parked_stream', stream) FROM unnest('{s-0,s-1,s-2}'::text[]) AS stream;
SELECT count(*) FROM eduai.health_problems() WHERE code = 'projection_parked' AND detail LIKE '%parked_stream%';

-- more than a page of them
INSERT INTO regress_proj_parked.refused VALUES (100), (1400);
SELECT pg_temp.add('finn', 100, 1500);
SELECT key, waiting FROM pg_temp.parked WHERE projection = 'parked';
DELETE FROM regress_proj_parked.refused WHERE v = 100;
SELECT eduai.retry_parked('parked');
SELECT key, error, tries, waiting FROM pg_temp.parked WHERE projection = 'parked';
DELETE FROM regress_proj_parked.refused;
SELECT eduai.retry_parked('parked');
SELECT jsonb_array_length(eduai.projection_state('parked', 'finn')), eduai.projection_state('parked', 'finn') =
	(SELECT jsonb_agg(v ORDER BY v) FROM generate_series(100, 1500) AS v);

SELECT eduai.drop_projection('parked'), eduai.drop_projection('parked_stream');
SELECT count(*) FROM eduai.parked_event;
RESET ROLE;
RESET eduai.tenant;
-- a log with a hole is for nobody to follow
DELETE FROM eduai.event WHERE tenant_id = 'proj_parked';
DELETE FROM eduai.event_order WHERE tenant_id = 'proj_parked';
SELECT eduai.disallow_tenant(role::text, tenant) FROM eduai.tenant_binding WHERE role::text = 'regress_proj_parked';
SET client_min_messages = warning;
DROP SCHEMA regress_proj_parked CASCADE;
DROP OWNED BY regress_proj_parked CASCADE;
DROP ROLE regress_proj_parked;
