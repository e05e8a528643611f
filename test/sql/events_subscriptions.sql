-- Subscriptions: what each member gets, acknowledging, seeking, refusals.
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
	-- positions differ from run to run
	RETURN regexp_replace(concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, ''), nullif(h, '')),
		'(position|read is) \d{1,18}\y', '\1 N', 'gi');
END $$;
CREATE ROLE regress_events_subs;
GRANT eduai_app TO regress_events_subs;
SELECT eduai.allow_tenant('regress_events_subs', 'events_subs'), eduai.allow_tenant('regress_events_subs', 'events_subs_b');
SET ROLE regress_events_subs;
SET eduai.tenant = 'events_subs';

-- the events' numbers, in the order of the feed
CREATE FUNCTION pg_temp.got(subscription text, max_count int DEFAULT 100, member int DEFAULT 0) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(data ->> 'n', ' ' ORDER BY "position"), 'nothing') FROM eduai.fetch_events(subscription, max_count, member) $$;
-- the position of an event
CREATE FUNCTION pg_temp.at(n int) RETURNS bigint LANGUAGE sql AS $$
	SELECT "position" FROM eduai.read_all(max_count => 10000) WHERE data ->> 'n' = n::text $$;
-- appends numbers as events, one transaction for all
CREATE FUNCTION pg_temp.add(first int, last int, stream text DEFAULT 'a-', streams int DEFAULT 3, event_type text DEFAULT 'x') RETURNS bigint LANGUAGE sql AS $$
	SELECT eduai.append_batch(array_agg(stream || n % streams ORDER BY n), array_agg(event_type), array_agg(jsonb_build_object('n', n) ORDER BY n))
		FROM generate_series(first, last) AS n $$;

SELECT pg_temp.add(1, 6);
SELECT eduai.create_subscription('all');
SELECT eduai.create_subscription('some', ARRAY['y', 'z'], 'b');
SELECT eduai.create_subscription('late', after_position => pg_temp.at(4));
SELECT name, event_types, category, members FROM eduai.subscription_status JOIN
	(VALUES ('all', NULL::text[], NULL::text, 1)) AS v (name, event_types, category, members) USING (name);

-- the same again until acknowledged
SELECT pg_temp.got('all'), pg_temp.got('all', 2), pg_temp.got('some'), pg_temp.got('late');
SELECT eduai.ack_events('all', pg_temp.at(2));
SELECT pg_temp.got('all', 3);
-- an older position changes nothing, the same neither
SELECT eduai.ack_events('all', pg_temp.at(1)), eduai.ack_events('all', pg_temp.at(2)), eduai.ack_events('all', 0);
SELECT pg_temp.got('all', 3);

-- event types and category: both together, the category up to the first dash
SELECT pg_temp.add(7, 7, event_type => 'y'), pg_temp.add(8, 8, 'b-'), pg_temp.add(9, 9, 'b-', 3, 'y'), pg_temp.add(10, 10, 'bb-', 3, 'y'), pg_temp.add(11, 11, 'b-c-', 3, 'z');
SELECT eduai.append_event('b', 'z', '{"n": 12}') IS NOT NULL;
SELECT pg_temp.got('some');

-- acknowledging the last event of the filter passes what the filter leaves out
SELECT pg_temp.add(112, 112);
SELECT pg_temp.got('some');
SELECT eduai.ack_events('some', pg_temp.at(12));
SELECT pg_temp.got('some'), "position" = (SELECT max("position") FROM eduai.read_all()) AS passed, lag_events, last_fetch_at IS NOT NULL AS fetched
	FROM eduai.subscription_status WHERE name = 'some';

-- what its own transaction appends comes after the commit
BEGIN;
SELECT pg_temp.add(13, 13);
SELECT pg_temp.got('late') LIKE '%13%';
COMMIT;
SELECT pg_temp.got('late') LIKE '%13%';

-- an acknowledgement that is rolled back did not happen
BEGIN;
SELECT eduai.ack_events('all', pg_temp.at(13));
SELECT pg_temp.got('all');
ROLLBACK;
SELECT pg_temp.got('all', 2);

SELECT pg_temp.add(14, 14, 'b-', 3, 'y');
SELECT pg_temp.got('some');

-- lag: the tenant's events after the position that no fetch has passed
SELECT name, member, lag_events FROM eduai.subscription_status ORDER BY name;
SELECT eduai.create_subscription('new', ARRAY['none']);
SELECT lag_events, last_fetch_at FROM eduai.subscription_status WHERE name = 'new';
SELECT pg_temp.got('new');
SELECT lag_events, last_fetch_at IS NULL, "position" FROM eduai.subscription_status WHERE name = 'new';
SELECT pg_temp.add(15, 16);
SELECT lag_events FROM eduai.subscription_status WHERE name = 'new';

-- members share the streams, disjointly and completely, each stream in order
SELECT eduai.create_subscription('team', members => 3);
SELECT count(*), count(DISTINCT f."position"), count(DISTINCT f.stream), count(DISTINCT (f.stream, m)),
		(SELECT count(*) FROM eduai.read_all()) AS all_events
	FROM generate_series(0, 2) AS m, LATERAL eduai.fetch_events('team', 1000, m) AS f;

-- a change of the members: all from the least position, so nothing is lost
SELECT eduai.ack_events('team', (SELECT max("position") FROM eduai.fetch_events('team', 1000, m)), m) FROM generate_series(0, 1) AS m;
SELECT eduai.set_subscription_members('team', 2);
SELECT member, "position", last_fetch_at FROM eduai.subscription_status WHERE name = 'team' ORDER BY member;
SELECT count(*) = (SELECT count(*) FROM eduai.read_all()) AS complete FROM generate_series(0, 1) AS m, LATERAL eduai.fetch_events('team', 1000, m) AS f;
SELECT pg_temp.fails($$SELECT eduai.fetch_events('team', member => 2)$$);
-- the same number changes nothing
SELECT eduai.ack_events('team', (SELECT max("position") FROM eduai.fetch_events('team', 1000, m)), m) FROM generate_series(0, 1) AS m;
SELECT eduai.set_subscription_members('team', 2);
SELECT pg_temp.got('team'), pg_temp.got('team', member => 1);

-- a late acknowledgement of the old arrangement does not count
SELECT pg_temp.add(21, 26);
SELECT eduai.set_subscription_members('team', 4);
SELECT pg_temp.fails($$SELECT eduai.ack_events('team', pg_temp.at(26))$$);
SELECT count(*) FROM generate_series(0, 3) AS m, LATERAL eduai.fetch_events('team', 1000, m) AS f;
-- but what was fetched since does, and what comes later
SELECT eduai.ack_events('team', "position", m) FROM generate_series(0, 3) AS m, LATERAL (SELECT max("position") AS "position" FROM eduai.fetch_events('team', 1000, m)) AS f WHERE "position" > 0;
SELECT count(*) FROM generate_series(0, 3) AS m, LATERAL eduai.fetch_events('team', 1000, m) AS f;
SELECT pg_temp.add(27, 32);
SELECT eduai.ack_events('team', pg_temp.at(32), m) FROM generate_series(0, 3) AS m;
SELECT count(*) FROM generate_series(0, 3) AS m, LATERAL eduai.fetch_events('team', 1000, m) AS f;

-- seeking: back to replay, forward to skip; a fetch is needed before an acknowledgement
SELECT pg_temp.got('all') LIKE '3 %';
SELECT eduai.seek_subscription('all', 0);
SELECT pg_temp.fails($$SELECT eduai.ack_events('all', pg_temp.at(3))$$);
SELECT pg_temp.got('all', 4);
SELECT pg_temp.fails($$SELECT eduai.ack_events('all', pg_temp.at(5))$$);
SELECT eduai.ack_events('all', pg_temp.at(4));
SELECT pg_temp.got('all', 4);
SELECT eduai.seek_subscription('all', pg_temp.at(31));
SELECT pg_temp.got('all');
BEGIN;
SELECT eduai.seek_subscription('all', 0);
SELECT pg_temp.got('all', 2);
ROLLBACK;
SELECT pg_temp.got('all');

SELECT eduai.ack_events('all', pg_temp.at(32));
SELECT pg_temp.got('all');

-- read-only transactions fetch, and that is all
BEGIN READ ONLY;
SELECT pg_temp.got('late', 1);
SELECT pg_temp.fails($$SELECT eduai.ack_events('late', 1)$$);
SELECT pg_temp.fails($$SELECT eduai.create_subscription('ro')$$);
SELECT pg_temp.fails($$SELECT eduai.seek_subscription('late', 0)$$);
COMMIT;

-- REPEATABLE READ: what the snapshot shows; an acknowledgement does not raise
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.got('late', 2);
SELECT eduai.ack_events('late', pg_temp.at(6));
SELECT pg_temp.got('late', 2);
SELECT count(*) FROM eduai.fetch_events('new', wait => '10 ms');
COMMIT;

-- waiting for nothing ends in time
SELECT count(*) FROM eduai.fetch_events('new', wait => '10 ms');

-- a tenant of its own
SET eduai.tenant = 'events_subs_b';
SELECT count(*) FROM eduai.subscription_status;
SELECT pg_temp.fails($$SELECT eduai.fetch_events('all')$$);
SELECT eduai.create_subscription('all');
SELECT pg_temp.got('all');
SELECT eduai.drop_subscription('all');
SET eduai.tenant = 'events_subs';

-- what is refused
SELECT pg_temp.fails(s) FROM unnest(ARRAY[
	$$SELECT eduai.create_subscription('all')$$,
	$$SELECT eduai.create_subscription(NULL)$$,
	$$SELECT eduai.create_subscription('')$$,
	$$SELECT eduai.create_subscription(repeat('x', 513))$$,
	$$SELECT eduai.create_subscription('bad', members => 0)$$,
	$$SELECT eduai.create_subscription('bad', members => 257)$$,
	$$SELECT eduai.create_subscription('bad', members => NULL)$$,
	$$SELECT eduai.create_subscription('bad', after_position => -1)$$,
	$$SELECT eduai.create_subscription('bad', after_position => NULL)$$,
	$$SELECT eduai.create_subscription('bad', after_position => 9223372036854775807)$$,
	$$SELECT eduai.create_subscription('bad', '{}')$$,
	$$SELECT eduai.create_subscription('bad', ARRAY['x', NULL])$$,
	$$SELECT eduai.create_subscription('bad', ARRAY[['x']])$$,
	$$SELECT eduai.create_subscription('bad', category => 'a-b')$$,
	$$SELECT eduai.create_subscription('bad', category => '')$$,
	$$SELECT eduai.drop_subscription('bad')$$,
	$$SELECT eduai.drop_subscription(NULL)$$,
	$$SELECT eduai.set_subscription_members('bad', 2)$$,
	$$SELECT eduai.set_subscription_members('all', 0)$$,
	$$SELECT eduai.set_subscription_members('all', NULL)$$,
	$$SELECT eduai.seek_subscription('bad', 0)$$,
	$$SELECT eduai.seek_subscription('all', -1)$$,
	$$SELECT eduai.seek_subscription('all', NULL)$$,
	$$SELECT eduai.seek_subscription('all', 9223372036854775806)$$,
	$$SELECT eduai.fetch_events('bad')$$,
	$$SELECT eduai.fetch_events(NULL)$$,
	$$SELECT eduai.fetch_events('all', 0)$$,
	$$SELECT eduai.fetch_events('all', 10001)$$,
	$$SELECT eduai.fetch_events('all', NULL)$$,
	$$SELECT eduai.fetch_events('all', 1, -1)$$,
	$$SELECT eduai.fetch_events('all', 1, 1)$$,
	$$SELECT eduai.fetch_events('all', 1, NULL)$$,
	$$SELECT eduai.fetch_events('all', 1, 0, '-1 s')$$,
	$$SELECT eduai.fetch_events('all', 1, 0, '1 h 1 s')$$,
	$$SELECT eduai.fetch_events('all', 1, 0, '178000000 years')$$,
	$$SELECT eduai.fetch_events('all', 1, 0, NULL)$$,
	$$SELECT eduai.ack_events('bad', 0)$$,
	$$SELECT eduai.ack_events(NULL, 0)$$,
	$$SELECT eduai.ack_events('all', NULL)$$,
	$$SELECT eduai.ack_events('all', 0, NULL)$$,
	$$SELECT eduai.ack_events('all', 0, 1)$$,
	$$SELECT eduai.ack_events('all', -1)$$,
	$$SELECT eduai.ack_events('all', 9223372036854775807)$$
]) WITH ORDINALITY AS t (s, n) ORDER BY n;

-- dropped, and made anew from the start
SELECT eduai.drop_subscription('all');
SELECT eduai.create_subscription('all');
SELECT pg_temp.got('all', 2);
SELECT count(*) FROM eduai.subscription_status WHERE name = 'all';
SELECT eduai.drop_subscription(name) FROM (SELECT DISTINCT name FROM eduai.subscription_status) AS s;
SELECT count(*) FROM eduai.subscription_status;

RESET ROLE;
SELECT count(*) FROM eduai.subscription WHERE tenant_id LIKE 'events_subs%';
SELECT count(*) FROM eduai.subscription_member WHERE tenant_id LIKE 'events_subs%';
-- who may call what
SELECT p.oid::regprocedure, r.rolname FROM pg_proc p, pg_roles r
	WHERE p.pronamespace = 'eduai'::regnamespace AND p.proname IN ('fetch_events', 'ack_events', 'seek_subscription', 'set_subscription_members', 'create_subscription', 'drop_subscription')
		AND r.rolname IN ('eduai_reader', 'eduai_worker') AND has_function_privilege(r.oid, p.oid, 'execute');
DROP OWNED BY regress_events_subs;
DROP ROLE regress_events_subs;
