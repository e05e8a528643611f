-- Inline projections whose reducer raises: the append goes through, the event
-- is parked, its key waits, everything else goes on.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS OR query_canceled THEN
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM);
END $$;
CREATE ROLE regress_proj_park;
GRANT eduai_admin TO regress_proj_park;
SELECT eduai.allow_tenant('regress_proj_park', 'proj_park'), eduai.allow_tenant('regress_proj_park', 'proj_park_b');
CREATE SCHEMA regress_proj_park AUTHORIZATION regress_proj_park;
SET ROLE regress_proj_park;
SET eduai.tenant = 'proj_park';
-- collects data.v; raises the SQLSTATE in data.bad; data.do may be anything else that goes wrong
CREATE FUNCTION regress_proj_park.collect(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF e.data ? 'bad' THEN
		RAISE 'bad %', e.data ->> 'v' USING ERRCODE = e.data ->> 'bad';
	END IF;
	IF e.data ->> 'do' = 'null' THEN
		RETURN NULL;
	ELSIF e.data ->> 'do' = 'sleep' THEN
		PERFORM pg_sleep(60);
	ELSIF e.data ->> 'do' = 'write' THEN
		INSERT INTO regress_proj_park.noted VALUES (e.data ->> 'v');
	ELSIF e.data ->> 'do' = 'lock' THEN
		PERFORM pg_advisory_lock(27);
	END IF;
	RETURN state || jsonb_build_array(e.data -> 'v');
END $$;
CREATE FUNCTION regress_proj_park.made(projection text) RETURNS boolean LANGUAGE plpgsql AS $$
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
CREATE TABLE regress_proj_park.noted (v text);
SELECT eduai.create_projection('park', 'regress_proj_park.collect(jsonb, eduai.event_record)', mode => 'inline', initial => '[]');
SELECT regress_proj_park.made('park');
CREATE FUNCTION pg_temp.add(who text, data text) RETURNS text LANGUAGE sql AS
	$$SELECT 'version ' || version FROM eduai.append_event('learner-' || who, 'x', data::jsonb, who)$$;
CREATE FUNCTION pg_temp.add_many(who text[], data text[]) RETURNS bigint LANGUAGE sql AS
	$$SELECT eduai.append_batch(array_agg('learner-' || w), array_agg('x'::text), array_agg(d::jsonb), array_agg(w)) FROM unnest(who, data) AS u (w, d)$$;
CREATE VIEW pg_temp.parked AS
	SELECT projection, key, stream, version, event_type, "position", error, sqlstate, tries, next_try_at IS NULL AS waits,
		parked_at > now() - interval '1 hour' AS recent, waiting FROM eduai.parked_event ORDER BY projection, key;
GRANT SELECT ON pg_temp.parked TO PUBLIC;

-- one learner's event; the later ones wait, those of others do not
SELECT pg_temp.add('ana', '{"v": 1}'), pg_temp.add('ana', '{"v": 2, "bad": "22012"}'), pg_temp.add('ana', '{"v": 3}'), pg_temp.add('ben', '{"v": 4}');
SELECT eduai.projection_state('park', 'ana'), eduai.projection_state('park', 'ben');
SELECT * FROM pg_temp.parked;
SELECT pg_temp.add('ana', '{"v": 5, "bad": "22012"}');
SELECT eduai.projection_state('park', 'ana');
SELECT * FROM pg_temp.parked;
-- eduai's own projection saw all of them
SELECT eduai.user_progress('ana') -> 'version';

-- in a batch: what came before it is folded, what comes after it waits
SELECT pg_temp.add_many('{cleo,dora,cleo,dora,cleo,eve,cleo}',
	'{"{\"v\": 1}","{\"v\": 2}","{\"v\": 3}","{\"v\": 4}","{\"v\": 5, \"bad\": \"P0001\"}","{\"v\": 6, \"bad\": \"22003\"}","{\"v\": 7}"}');
SELECT who, eduai.projection_state('park', who) FROM unnest('{cleo,dora,eve}'::text[]) AS who;
SELECT * FROM pg_temp.parked WHERE key IN ('cleo', 'dora', 'eve');
SELECT pg_temp.add_many('{cleo,dora,eve,finn}', '{"{\"v\": 8}","{\"v\": 9}","{\"v\": 10}","{\"v\": 11}"}');
SELECT who, eduai.projection_state('park', who) FROM unnest('{cleo,dora,eve,finn}'::text[]) AS who;
SELECT key, waiting FROM pg_temp.parked;

-- what the reducer wrote before it raised is gone, what it wrote for others is there once
SELECT pg_temp.add_many('{gus,hal,gus}', '{"{\"v\": 1, \"do\": \"write\"}","{\"v\": 2, \"do\": \"write\"}","{\"v\": 3, \"bad\": \"22012\"}"}');
SELECT * FROM regress_proj_park.noted ORDER BY v;

-- NULL is no state; a reducer may take no append with it
SELECT pg_temp.add('ida', '{"v": 1, "do": "null"}');
SELECT error, sqlstate FROM pg_temp.parked WHERE key = 'ida';
ALTER FUNCTION regress_proj_park.collect(jsonb, eduai.event_record) RENAME TO elsewhere;
SELECT pg_temp.add('jon', '{"v": 1}');
SELECT error, sqlstate FROM pg_temp.parked WHERE key = 'jon';
ALTER FUNCTION regress_proj_park.elsewhere(jsonb, eduai.event_record) RENAME TO collect;
REVOKE ALL ON FUNCTION regress_proj_park.collect(jsonb, eduai.event_record) FROM regress_proj_park, PUBLIC;
SELECT pg_temp.add('kai', '{"v": 1}');
SELECT error, sqlstate FROM pg_temp.parked WHERE key = 'kai';
GRANT EXECUTE ON FUNCTION regress_proj_park.collect(jsonb, eduai.event_record) TO regress_proj_park;

-- what says nothing about the event is the appender's: he may try again
SELECT bad, pg_temp.fails(format('SELECT pg_temp.add(''kim'', %L)', jsonb_build_object('v', 1, 'bad', bad)))
	FROM unnest('{40001,40P01,53200,53100,55P03,55000,57014,57P01,58030,XX000,XX001}'::text[]) AS bad;
SELECT bad, pg_temp.fails(format('SELECT pg_temp.add(''lea-'' || %L, %L)', bad, jsonb_build_object('v', 1, 'bad', bad)))
	FROM unnest('{02000,08006,21000,25006,42P01,42501,54000,P0002,UE001,UE012}'::text[]) AS bad;
SELECT eduai.stream_version('learner-kim'), count(*) FROM pg_temp.parked WHERE key LIKE 'kim%';
SELECT count(*) FROM pg_temp.parked WHERE key LIKE 'lea-%';

-- the session's own statement timeout is the appender's, too, and goes on after a fold
SET statement_timeout = '200ms';
SELECT pg_temp.fails($$SELECT pg_temp.add('max', '{"v": 1, "do": "sleep"}')$$);
SELECT pg_temp.fails($$SELECT pg_temp.add('max', '{"v": 2}'), pg_sleep(60)$$);
RESET statement_timeout;
SELECT eduai.projection_state('park', 'max'), eduai.stream_version('learner-max');
-- so do its locks, whatever the reducer locks
SELECT pg_advisory_lock(26);
SELECT pg_temp.add('max', '{"v": 3, "do": "lock"}');
SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 1 ORDER BY 1;
SELECT pg_advisory_unlock_all();

-- rolled back, with the transaction or to a savepoint: nothing is parked
BEGIN;
SELECT pg_temp.add('nan', '{"v": 1, "bad": "22012"}');
SELECT key, waiting FROM pg_temp.parked WHERE key = 'nan';
ROLLBACK;
SELECT pg_temp.add('nan', '{"v": 2}');
BEGIN;
SAVEPOINT a;
SELECT pg_temp.add('nan', '{"v": 3, "bad": "22012"}');
SELECT pg_temp.add('nan', '{"v": 4}');
SELECT key, waiting, eduai.projection_state('park', 'nan') FROM pg_temp.parked WHERE key = 'nan';
ROLLBACK TO a;
SELECT pg_temp.add('nan', '{"v": 5}');
SAVEPOINT b;
SELECT pg_temp.add('nan', '{"v": 6, "bad": "22012"}');
RELEASE b;
SELECT pg_temp.add('nan', '{"v": 7}');
COMMIT;
SELECT key, version, waiting, eduai.projection_state('park', 'nan') FROM pg_temp.parked WHERE key = 'nan';

-- other tenants have learners of the same names
SET eduai.tenant = 'proj_park_b';
SELECT pg_temp.add('ana', '{"v": 1}');
SELECT eduai.projection_state('park', 'ana');
SELECT count(*) FROM pg_temp.parked;
SET eduai.tenant = 'proj_park';

-- the appender's role has no right to what is parked, and needs none
RESET ROLE;
CREATE ROLE regress_proj_park_app;
GRANT eduai_app TO regress_proj_park_app;
SELECT eduai.allow_tenant('regress_proj_park_app', 'proj_park');
SET ROLE regress_proj_park_app;
SELECT pg_temp.add('oda', '{"v": 1, "bad": "22012"}'), pg_temp.add('oda', '{"v": 2}');
SET ROLE regress_proj_park;
SELECT key, waiting FROM pg_temp.parked WHERE key = 'oda';
SELECT eduai.drop_projection('park');
SELECT count(*) FROM pg_temp.parked;

-- on_error raise: the append fails
SELECT eduai.create_projection('park_raise', 'regress_proj_park.collect(jsonb, eduai.event_record)', 'session_id', 'inline', initial => '[]', on_error => 'raise', event_types => '{y}');
SELECT regress_proj_park.made('park_raise');
SELECT pg_temp.fails($$SELECT eduai.append_event('r', 'y', '{"v": 1, "bad": "22012"}', NULL, 's')$$);
SELECT pg_temp.fails($$SELECT eduai.append_event('r', 'y', '{"v": 1, "do": "null"}', NULL, 's')$$);
SELECT version FROM eduai.append_event('r', 'y', '{"v": 2}', NULL, 's');
SELECT version FROM eduai.append_event('r', 'x', '{"bad": "22012"}', NULL, 's');
SELECT eduai.projection_state('park_raise', 's'), eduai.stream_version('r');
SELECT eduai.drop_projection('park_raise');

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant(role::text, tenant) FROM eduai.tenant_binding WHERE role::text LIKE 'regress\_proj\_park%';
SET client_min_messages = warning;
DROP SCHEMA regress_proj_park CASCADE;
DROP OWNED BY regress_proj_park, regress_proj_park_app CASCADE;
DROP ROLE regress_proj_park, regress_proj_park_app;
