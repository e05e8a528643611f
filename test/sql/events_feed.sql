-- The feed: order, pages, filters, transactions and savepoints.
\set VERBOSITY sqlstate
\pset format unaligned
\pset tuples_only on
SELECT eduai.allow_tenant(current_user, 'events_feed');
SET eduai.tenant = 'events_feed';

-- positions depend on what ran before: shown from the first of this tenant on
CREATE FUNCTION pg_temp.feed(types text[] DEFAULT NULL, category text DEFAULT NULL) RETURNS TABLE (n bigint, stream text, version bigint, event_type text)
LANGUAGE sql AS $$
SELECT row_number() OVER (ORDER BY "position"), stream, version, event_type
FROM eduai.read_all(0, 10000, types, category) $$;

SELECT count(*) FROM eduai.read_all();

-- within a transaction, the order of the calls; within a call, the order given
BEGIN;
SELECT version FROM eduai.append_event('b-1', 'one');
SELECT version FROM eduai.append_event('a-1', 'two');
SELECT version FROM eduai.append_event('b-1', 'three');
SELECT eduai.append_batch(ARRAY['c-1', 'a-1', 'c-1', 'b-1'], ARRAY['four', 'five', 'six', 'seven'], ARRAY['{}', '{}', '{}', '{}']::jsonb[]);
-- its own events have no position yet
SELECT count(*) FROM eduai.read_all();
COMMIT;
SELECT * FROM pg_temp.feed();
-- a transaction's positions follow one another
SELECT max("position") - min("position") FROM eduai.read_all();

-- what is rolled back leaves nothing, what a savepoint keeps stays in place
BEGIN;
SELECT version FROM eduai.append_event('a-1', 'kept');
SAVEPOINT s;
SELECT version FROM eduai.append_event('a-1', 'gone');
SELECT version FROM eduai.append_event('d-1', 'gone');
ROLLBACK TO s;
SELECT version FROM eduai.append_event('a-1', 'again');
SAVEPOINT t;
SAVEPOINT u;
SELECT version FROM eduai.append_event('d-1', 'nested');
RELEASE u;
RELEASE t;
COMMIT;
BEGIN;
SELECT version FROM eduai.append_event('a-1', 'never');
ROLLBACK;
SELECT stream, version, event_type FROM pg_temp.feed() WHERE n > 7;

-- a transaction all of whose appends were rolled back commits without positions
BEGIN;
SAVEPOINT s;
SELECT version FROM eduai.append_event('a-1', 'gone');
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM eduai.read_all();

-- filters
SELECT stream, version, event_type FROM pg_temp.feed(ARRAY['five', 'one', 'unknown']);
SELECT stream, version, event_type FROM pg_temp.feed(category => 'c');
SELECT stream, version, event_type FROM pg_temp.feed(ARRAY['seven', 'six'], 'b');
SELECT count(*) FROM eduai.read_all(event_types => '{}');
-- the category is the name up to the first dash, all of it without one
SELECT version FROM eduai.append_event('solo', 'x');
SELECT version FROM eduai.append_event('solo-and-more', 'x');
SELECT version FROM eduai.append_event('-dash', 'x');
SELECT stream FROM pg_temp.feed(category => 'solo');
SELECT stream FROM pg_temp.feed(category => '');
SELECT stream FROM pg_temp.feed(category => 'solo-and');

-- pages: every event once, in order
WITH RECURSIVE page AS (
	SELECT 0::bigint AS after, 0 AS n, NULL::text AS stream, NULL::bigint AS version
	UNION ALL
	SELECT r."position", n + 1, r.stream, r.version FROM page, eduai.read_all(page.after, 1) r
)
SELECT count(*), count(DISTINCT (stream, version)), bool_and(after > 0) FROM page WHERE n > 0;
SELECT array_agg(stream || '/' || version ORDER BY "position") = (SELECT array_agg(stream || '/' || version ORDER BY n) FROM pg_temp.feed())
FROM (SELECT * FROM eduai.read_all(0, 4) UNION ALL
	SELECT r.* FROM (SELECT max("position") AS p FROM eduai.read_all(0, 4)) l, eduai.read_all(l.p, 100) r) f;
-- from the middle of a transaction
SELECT stream, version FROM (SELECT min("position") AS p FROM eduai.read_all()) l, eduai.read_all(l.p + 3, 2);

-- more events in a transaction than one row of the order holds, and streams named again
SELECT eduai.append_batch(array_agg('e-' || i % 70), array_agg(text 'bulk'), array_agg('{}'::jsonb)) FROM generate_series(1, 3000) i;
SELECT count(*), count(DISTINCT stream), max("position") - min("position") + 1 AS dense FROM eduai.read_all(0, 10000, ARRAY['bulk']);
SELECT bool_and(stream = 'e-' || (n % 70)) FROM (SELECT row_number() OVER (ORDER BY "position") AS n, stream FROM eduai.read_all(0, 10000, ARRAY['bulk'])) f;
SELECT bool_and(version = expected) FROM (
	SELECT version, row_number() OVER (PARTITION BY stream ORDER BY "position") AS expected
	FROM eduai.read_all(0, 10000, ARRAY['bulk'])) f;

-- a repeat of a given id takes no position
SELECT event_id, version FROM eduai.append_event('g-1', 'given', event_id => '00000000-0000-0000-0000-0000000feed1');
SELECT event_id, version FROM eduai.append_event('g-1', 'given', event_id => '00000000-0000-0000-0000-0000000feed1');
SELECT count(*) FROM eduai.read_all(0, 10, category => 'g');

-- another tenant sees none of it
SELECT eduai.allow_tenant(current_user, 'events_feed_other');
SET eduai.tenant = 'events_feed_other';
SELECT count(*) FROM eduai.read_all(0, 10000);
SELECT version FROM eduai.append_event('b-1', 'one');
SELECT stream, version FROM eduai.read_all(0, 10000);
-- two tenants in one transaction
BEGIN;
SELECT version FROM eduai.append_event('b-1', 'mine');
SET LOCAL eduai.tenant = 'events_feed';
SELECT version FROM eduai.append_event('b-1', 'theirs');
SET LOCAL eduai.tenant = 'events_feed_other';
SELECT version FROM eduai.append_event('b-1', 'mine');
COMMIT;
SELECT stream, version, event_type FROM eduai.read_all(0, 10000);
SET eduai.tenant = 'events_feed';
SELECT stream, version, event_type FROM eduai.read_all(0, 10000, category => 'b') ORDER BY version DESC LIMIT 1;

-- REPEATABLE READ: what the snapshot shows, to its very end, and nothing later
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT stream, version, event_type FROM eduai.read_all(0, 10000, category => 'b') ORDER BY version DESC LIMIT 1;
COMMIT;

-- refused
\set VERBOSITY default
SELECT eduai.read_all(NULL);
SELECT eduai.read_all(0, NULL);
SELECT eduai.read_all(0, 0);
SELECT eduai.read_all(0, 10001);
SELECT eduai.read_all(0, 10, ARRAY[NULL]);
SELECT eduai.read_all(0, 10, ARRAY[['a']]);
BEGIN;
SELECT version FROM eduai.append_event('a-1', 'prepared');
PREPARE TRANSACTION 'never';
SELECT version FROM eduai.append_event('a-1', 'after');
SELECT eduai.disallow_tenant(current_user, t) FROM unnest('{events_feed,events_feed_other}'::text[]) t;
