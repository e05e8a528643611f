-- Every column that could hold what is known of a learner gets a canary, or
-- stands on the list with its reason; after erase_user() none is found in any.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE ROLE regress_birds;
GRANT eduai_app, eduai_worker, eduai_admin TO regress_birds;
SELECT eduai.allow_tenant('regress_birds', 'canaries');

-- Columns of the extension's tables that may hold text: of all types but those that cannot.
CREATE TEMP VIEW text_column AS
SELECT c.relname || '.' || a.attname AS name, c.oid, c.relname, a.attname, a.atttypid::regtype AS type, a.attstattarget
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_type y ON y.oid = a.atttypid
LEFT JOIN pg_type element ON element.oid = y.typelem AND y.typcategory = 'A'
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
WHERE c.relnamespace = 'eduai'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
	AND coalesce(element.typcategory, y.typcategory) NOT IN ('N', 'B', 'D', 'T')
	AND coalesce(element.oid, y.oid) NOT IN ('uuid'::regtype, 'tid'::regtype, 'xid8'::regtype, 'pg_lsn'::regtype, 'pg_snapshot'::regtype);

CREATE TEMP TABLE exempt (name text PRIMARY KEY, reason text NOT NULL);
INSERT INTO exempt
SELECT t.relname || '.' || t.attname, 'the tenant''s name' FROM (SELECT relname, attname FROM text_column) t
WHERE t.attname = 'tenant_id'
UNION ALL
SELECT t.name, r.reason FROM (VALUES
	('(provider|instance|provider_secret|provider_hedge|adoption|pool|task_type|paused_type|routing_trace)\..*', 'configuration of the server; of requests only numbers'),
	('(event_type_registration|event_upcaster|projection|projection_altered|snapshot_rule|subscription|subscription_member|exercise)\..*', 'configuration of the log'),
	('(rate_tier|tenant_tier|role_tier|cache_kind|cache_function|tenant_binding|consent_requirement|personal_table)\..*', 'configuration'),
	('(access_key|erasure_key)\..*', 'keys'),
	('access_log\..*', 'names the learner by a reference alone'),
	('(model_item|model_skill|model_parameters)\..*', 'sums over many learners, by skill and item'),
	('model_learner_(item|skill)\.(skill|item)', 'names of skills and items'),
	('event_dictionary\.body', 'made of what many streams have in common, never of sensitive fields'),
	('event_stream\.first_stream', 'a name only beyond one page of streams'),
	('(event|projection_parked)\.event_type', 'the name of a type'),
	('projection_(parked|skipped)\.(sqlstate|role)', 'a code, a role'),
	('(snapshot_failure)\.category', 'the category of a stream'),
	('cohort_member\.cohort', 'the name of a class'),
	('consent\.(purpose|by_role)', 'the name of a purpose, a role'),
	('budget\.(on_exceeded|task_type)|budget_counted\..*|budget_reservation\.(instance|model|provider|task_type)', 'configuration'),
	('provider_call\.(code|instance|model|outcome|provider|request_id|task_type)', 'of the provider'),
	('task_(request|live|end)\.(task_type|model|owner|on_result|state|instance|worker_name)', 'names of types, models, roles, functions, instances and processes'),
	('attachment\.content_type', 'a media type'),
	('rate_key_limit\.tier', 'the name of a tier'),
	('erasure\.(reason|requested_by|user_ref|removed)', 'what is kept of an erasure: the reason may not name the learner'),
	('erasure_step\..*', 'while it is pending; its rows go'),
	('erasure_name\..*', 'while it is pending; its rows go'),
	('erased_stream\.stream_ref', 'a keyed digest'),
	-- what other topics add, whatever they are called
	('(retention|maintenance|anonymise)[a-z_]*\..*', 'configuration and runs')
) r (pattern, reason)
JOIN text_column t ON t.name ~ ('^(' || r.pattern || ')$') AND t.attname <> 'tenant_id';

-- How many rows of a column hold a canary.
CREATE FUNCTION pg_temp.canaries(t regclass, col name, type regtype) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format(CASE WHEN type = 'bytea'::regtype THEN 'SELECT count(*) FROM %s WHERE position(''canary''::bytea IN %I) > 0'
		ELSE 'SELECT count(*) FROM %s WHERE %I::text LIKE ''%%canary%%''' END, t, col) INTO n;
	RETURN n;
END $$;

-- Until the query says so; a minute at most.
CREATE FUNCTION pg_temp.await(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	done boolean;
BEGIN
	FOR i IN 1 .. 3000 LOOP
		EXECUTE query INTO done;
		IF done THEN
			RETURN 'done';
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
	RETURN 'not within a minute';
END $$;

-- ---- canaries ----

CREATE SCHEMA canary_app AUTHORIZATION regress_birds;
SET ROLE regress_birds;
SET eduai.tenant = 'canaries';
CREATE FUNCTION canary_app.last(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS 'SELECT event.data';
SELECT eduai.create_projection('canary_last', 'canary_app.last(jsonb,eduai.event_record)', mode => 'inline');
SELECT eduai.create_projection('canary_session', 'canary_app.last(jsonb,eduai.event_record)', key => 'session_id', mode => 'inline');
-- keeps nothing of the events: a state under a key that others share stays
CREATE FUNCTION canary_app.none(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
SELECT eduai.create_projection('canary_stream', 'canary_app.none(jsonb,eduai.event_record)', key => 'stream', mode => 'inline');
SELECT pg_temp.await($$ SELECT NOT bool_or(rebuilding) FROM eduai.projection_status WHERE name LIKE 'canary%' $$);
SELECT count(e.version) FROM generate_series(1, 5) n,
	LATERAL eduai.append_event('canary-stream', 'x', jsonb_build_object('k', 'canary-data', 'n', n), 'canary-user', 'canary-session', '{"m": "canary-metadata"}') e;
SELECT eduai.compact_events('0') > 0 AS compacted;
SELECT count(*) FROM (SELECT eduai.publish_event('x', 'canary-user', 'canary-session', '{"k": "canary-data"}') FROM generate_series(1, 5)) e;
SELECT version FROM eduai.append_event('canary-stream', 'x', '{"k": "canary-data"}', 'canary-user', 'canary-session', '{"m": "canary-metadata"}');
SELECT version FROM eduai.append_event('class-7', 'x', '{"k": "of another"}', 'bea', 'bea-session');
SELECT version FROM eduai.append_event('class-7', 'x', '{"k": "canary-data"}', 'canary-user', 'canary-session');
SELECT eduai.save_snapshot('canary-stream', 5, '{"s": "canary-state"}');
SELECT eduai.save_snapshot('class-7', 2, '{"s": "canary-state"}');
SELECT eduai.set_cohort('class 7', '{bea,canary-user}');
SELECT eduai.grant_consent('canary-user', 'tutoring', '{"by": "canary-mother"}');
SELECT eduai.grant_consent('bea', 'tutoring', '{"by": "her mother"}');
SELECT eduai.set_budget('user:canary-user', 1);
SELECT eduai.set_key_limit('canary-user', 'public', 1);
SELECT eduai.cache_set('progress', '"canary-cached"');
SELECT eduai.attach('canary-bytes', 'image/png', 'canary-user') IS NOT NULL AS attached;
CREATE FUNCTION pg_temp.put(n int) RETURNS bigint LANGUAGE sql AS $$
	SELECT eduai.enqueue('custom', '{"p": "canary-payload"}', user_id => 'canary-user', unique_key => 'canary-unique-' || n,
		idempotency_key => 'canary-idempotency-' || n, metadata => '{"m": "canary-metadata", "concurrency_key": "canary-concurrency", "follow_up": false}') $$;
SELECT count(pg_temp.put(n)) FROM generate_series(1, 3) n;
-- one that another learner's task waits for
SELECT eduai.enqueue('custom', '{"p": "of another"}', user_id => 'bea', depends_on => ARRAY[pg_temp.put(9)], metadata => '{"on_parent_failure": "wait"}') IS NOT NULL AS waits;
SELECT eduai.complete_task(task_id, attempt, '{"text": "canary-result"}') FROM eduai.claim_tasks('w', '{custom}', 1);
SELECT eduai.fail_task(task_id, attempt, 'canary-error', retry => false) FROM eduai.claim_tasks('w', '{custom}', 1);
SELECT count(*) FROM eduai.claim_tasks('w', '{custom}', 1);
RESET ROLE;
-- what only workers write
UPDATE eduai.task_live SET error = '{"e": "canary"}', progress = '{"p": "canary"}' WHERE tenant_id = 'canaries' AND state = 'running';
UPDATE eduai.task_end SET progress = '{"p": "canary"}' WHERE tenant_id = 'canaries' AND result IS NOT NULL;
INSERT INTO eduai.snapshot_failure VALUES (5, now(), 'canaries', 'canary', 'canary-stream', 'canary-error');
INSERT INTO eduai.projection_parked (place, version, parked_at, event_id, projection, generation, tries, tenant_id, key, stream, event_type, error)
	SELECT 1, 1, now(), gen_random_uuid(), projection, 1, 1, 'canaries', 'canary-user', 'canary-stream', 'x', 'canary-error'
	FROM eduai.projection WHERE name = 'canary_last';
-- under a key that others share: told in words of the learner's
INSERT INTO eduai.projection_parked (place, version, parked_at, event_id, projection, generation, tries, tenant_id, key, stream, event_type, sqlstate, error)
	SELECT 1, 2, now(), gen_random_uuid(), projection, 1, 9, 'canaries', 'class-7', 'class-7', 'x', 'P0001', 'canary-error'
	FROM eduai.projection WHERE name = 'canary_stream';
INSERT INTO eduai.model_learner VALUES (1, 1, now(), 0, 1, 'canaries', 'canary-user', '{}') ON CONFLICT DO NOTHING;
INSERT INTO eduai.model_learner_skill VALUES (1, 1, now(), 0, 0, 1, 'canaries', 'canary-user', 's', '{}') ON CONFLICT DO NOTHING;
INSERT INTO eduai.model_learner_item VALUES (1, 1, now(), 2.5, 1, 1, now(), 1, 'canaries', 'canary-user', 's', 'i') ON CONFLICT DO NOTHING;
INSERT INTO eduai.provider_call (tenant_id, task_id, attempt, cost_usd, outcome, started_at, user_id) VALUES ('canaries', 1, 1, 0.5, 'completed', now(), 'canary-user');
INSERT INTO eduai.budget_spent VALUES ('canaries', 1, 'canary-user', now(), 0.5);
INSERT INTO eduai.budget_reservation (tenant_id, task_id, attempt, user_id, task_type, provider, instance, model, bound_usd, reserved_at, dispatcher)
	VALUES ('canaries', 1, 1, 'canary-user', 'chat', 'p', 'i', 'm', 1, now(), 1);
INSERT INTO eduai.access_learner VALUES (gen_random_uuid(), 'canaries', 'canary-user') ON CONFLICT DO NOTHING;

-- ---- the list is complete ----

-- Columns that have neither: put a canary above, or say why there can be none.
SELECT t.name FROM text_column t LEFT JOIN exempt e USING (name)
WHERE e.name IS NULL AND t.name NOT IN ('event_block.body', 'event_stream.body', 'erasure.user_id')
	AND pg_temp.canaries(t.oid, t.attname, t.type) = 0 ORDER BY 1;
-- in blocks, compressed
SELECT count(*) FROM eduai.event_block WHERE tenant_id = 'canaries';
-- Columns that get one keep no statistics.
SELECT t.name FROM text_column t LEFT JOIN exempt e USING (name)
WHERE e.name IS NULL AND t.attstattarget <> 0 ORDER BY 1;
SELECT a.attname FROM pg_inherits i JOIN pg_attribute a ON a.attrelid = i.inhrelid
WHERE i.inhparent = 'eduai.event'::regclass AND a.attname IN ('stream', 'user_id', 'session_id', 'data', 'metadata') AND a.attstattarget <> 0;

-- ---- the others ----

CREATE FUNCTION pg_temp.others() RETURNS TABLE (tbl text, rows bigint, sum text) LANGUAGE plpgsql AS $$
BEGIN
	FOR tbl IN SELECT DISTINCT t.relname FROM text_column t WHERE t.relname NOT LIKE 'erasure%' AND t.relname NOT IN
		('erased_stream', 'event_order', 'event_block', 'event_stream', 'task_dependency', 'access_log') LOOP
		RETURN QUERY EXECUTE format('SELECT %L, count(*), md5(coalesce(string_agg(r, E''\n'' ORDER BY r), ''''))'
			' FROM (SELECT t::text FROM eduai.%I t) x (r) WHERE r NOT LIKE ''%%canary%%'' AND r NOT LIKE ''%%,erasure-%%''', tbl, tbl);
	END LOOP;
END $$;
-- what follows the log has caught up
SET ROLE regress_birds;
SELECT pg_temp.await($$ SELECT max(lag_events) = 0 FROM eduai.projection_status $$);
RESET ROLE;
CREATE TEMP TABLE before AS SELECT * FROM pg_temp.others();
SET ROLE regress_birds;
CREATE TEMP TABLE read_before AS SELECT "position", stream, version, event_type, user_id, data, event_id FROM eduai.read_all(max_count => 10000)
	WHERE user_id IS DISTINCT FROM 'canary-user';
SELECT count(*) AS sources, sum((e.row::text LIKE '%canary%')::int) > 20 AS full FROM eduai.export_user_rows('canary-user') e;
SELECT string_agg(DISTINCT source, ' ' ORDER BY source) FROM eduai.export_user_rows('canary-user');
SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(eduai.export_user('canary-user')) k;

-- ---- erased ----

SELECT eduai.erase_user('canary-user', 'a test') ->> 'state' AS state;
RESET ROLE;
DO $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM eduai.erasure WHERE completed_at IS NULL);
		PERFORM pg_sleep(0.02);
		COMMIT;
	END LOOP;
END $$;
SELECT completed_at IS NOT NULL AS complete, user_id FROM eduai.erasure WHERE tenant_id = 'canaries';

-- what was parked under a key that others share stays, without the words
SELECT key, sqlstate, error FROM eduai.projection_parked WHERE tenant_id = 'canaries';

-- Nowhere, whatever the list says.
SELECT t.name, pg_temp.canaries(t.oid, t.attname, t.type) FROM text_column t
WHERE pg_temp.canaries(t.oid, t.attname, t.type) > 0
	AND NOT (t.relname IN ('projection', 'tenant_binding')) ORDER BY 1;
ANALYZE;
SELECT tablename, attname FROM pg_stats WHERE schemaname = 'eduai'
	AND (most_common_vals::text LIKE '%canary-%' OR histogram_bounds::text LIKE '%canary-%') AND tablename <> 'projection';
SET ROLE regress_birds;
SELECT eduai.cache_get('progress') AS cached;
SELECT count(*) AS events FROM eduai.read_stream('canary-stream');
SELECT count(*) FROM eduai.export_user_rows('canary-user');
-- others keep theirs, places and versions too; the class keeps a blank event for the last version
SELECT stream, version, event_type, user_id, session_id, data FROM eduai.read_stream('class-7');
(TABLE read_before EXCEPT SELECT "position", stream, version, event_type, user_id, data, event_id FROM eduai.read_all(max_count => 10000));
RESET ROLE;
SELECT b.tbl FROM before b FULL JOIN pg_temp.others() a USING (tbl)
WHERE (a.rows, a.sum) IS DISTINCT FROM (b.rows, b.sum) AND tbl NOT IN ('event', 'task_request', 'task_end', 'provider_call', 'budget_reservation', 'budget_counted', 'access_learner', 'projection_position', 'projection_parked') ORDER BY 1;
-- of these, a row stays without the learner
SELECT user_id IS NULL AS nameless, cost_usd FROM eduai.provider_call WHERE tenant_id = 'canaries';
SELECT user_id, payload FROM eduai.task_request WHERE tenant_id = 'canaries' ORDER BY user_id;
-- UE008 from now on, also for the streams that were the learner's alone
SET ROLE regress_birds;
SELECT eduai.publish_event('x', 'canary-user', NULL);
SELECT eduai.append_event('canary-stream', 'x');
SELECT eduai.append_event('learner-canary-user', 'x');
SELECT eduai.append_event('other', 'x', user_id => 'canary-user');
SELECT eduai.append_batch('{a,b}', '{x,x}', '{"{}","{}"}', '{bea,canary-user}');
SELECT eduai.enqueue('custom', '{}', user_id => 'canary-user');
SELECT eduai.enqueue_batch('custom', '{"{}"}', user_ids => '{canary-user}');
SELECT eduai.attach('x', 'image/png', 'canary-user');
SELECT eduai.save_snapshot('learner-canary-user', 1, '{}');
SELECT eduai.set_cohort('class 7', '{canary-user}');
SELECT eduai.set_budget('user:canary-user', 1);
SELECT eduai.grant_consent('canary-user', 'tutoring');
SELECT version FROM eduai.append_event('class-7', 'x', user_id => 'bea');
RESET ROLE;

SET ROLE regress_birds;
SELECT eduai.drop_projection('canary_last'), eduai.drop_projection('canary_session'), eduai.drop_projection('canary_stream');
RESET ROLE;
DROP SCHEMA canary_app CASCADE;
SELECT eduai.disallow_tenant('regress_birds', 'canaries');
DROP OWNED BY regress_birds;
DROP ROLE regress_birds;
