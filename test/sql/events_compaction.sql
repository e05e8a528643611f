-- Compaction: moved events read as before, and nothing else changes.
\set VERBOSITY terse
SELECT eduai.allow_tenant(current_user::name, 'events_compaction');
SELECT eduai.allow_tenant(current_user::name, 'events_compaction_2');
SET eduai.tenant = 'events_compaction';

-- Every row as read by stream and by the feed, as one hash each.
CREATE FUNCTION hashes(OUT streams text, OUT streams_events bigint, OUT feed text, OUT feed_events bigint) LANGUAGE plpgsql AS $$
DECLARE
	page bigint;
	last bigint := 0;
	rows text := '';
BEGIN
	SELECT md5(string_agg(r::text, ',' ORDER BY s, r.version)), count(*) INTO streams, streams_events
		FROM (SELECT 'learner-' || i AS s FROM generate_series(0, 199) AS i UNION ALL SELECT 'course-7') AS names, eduai.read_stream(s, max_count => 10000) AS r;
	feed_events := 0;
	LOOP
		SELECT count(*), max(position), md5(rows || string_agg(r::text, ',' ORDER BY position)) INTO page, last, feed
			FROM eduai.read_all(last, 777) AS r;
		EXIT WHEN page = 0;
		feed_events := feed_events + page;
		rows := feed;
	END LOOP;
	feed := rows;
END $$;
CREATE FUNCTION fill(events int, seed double precision) RETURNS bigint LANGUAGE sql AS $$
	SELECT setseed(seed);
	SELECT eduai.append_batch(array_agg(CASE WHEN i % 10 = 0 THEN 'course-7' ELSE 'learner-' || i % 200 END ORDER BY i),
		array_agg((ARRAY['exercise_attempted', 'content_viewed', 'own_type'])[1 + i % 3] ORDER BY i),
		array_agg(jsonb_build_object('skill_name', 'skill-' || (random() * 12)::int, 'score', round(random()::numeric, 2), 'n', i) ORDER BY i),
		array_agg((i % 200)::text ORDER BY i), array_agg('session-' || i / 50 ORDER BY i), NULL,
		array_agg(CASE WHEN i % 4 = 0 THEN '2026-01-01Z'::timestamptz + i * interval '1 minute' END ORDER BY i))
	FROM generate_series(1, events) AS i;
$$;

-- whatever other tests left
SELECT eduai.compact_events('0') >= 0 AS compacted;
SELECT eduai.compact_events('0');
SELECT fill(3000, 0.1);
-- transactions that rolled back leave gaps
BEGIN;
SELECT fill(10, 0.2);
ROLLBACK;
SELECT fill(2000, 0.3);
SELECT version FROM eduai.append_event('learner-1', 'given', '{"a": 1.50}', event_id => 'b0e42fe7-31a5-4894-a441-007e5256afea', occurred_at => '2026-02-02Z');
SELECT hot_events, compacted_events, hot_bytes > 0 AS hot_bytes, compacted_bytes, ratio FROM eduai.event_storage;
CREATE TEMP TABLE before AS SELECT * FROM hashes();

-- Nothing is old enough yet.
SELECT eduai.compact_events();
SELECT eduai.compact_events('0');
SELECT hot_events, compacted_events, compacted_bytes > 0 AS compacted_bytes, ratio FROM eduai.event_storage;
SELECT count(*) FROM eduai.event WHERE tenant_id = 'events_compaction';
SELECT count(*) FROM eduai.event_order WHERE tenant_id = 'events_compaction';
SELECT h = b AS same, h.streams_events, h.feed_events FROM hashes() AS h, before AS b;

-- A stream goes on where it was; pages and backward reads cross the boundary.
SELECT eduai.stream_version('course-7');
SELECT version FROM eduai.append_event('course-7', 'later');
SELECT version FROM eduai.append_event('course-7', 'later', expected_version => 501);
SELECT version FROM eduai.append_event('course-7', 'later', expected_version => 3);
SELECT version, event_type FROM eduai.read_stream('course-7', from_version => 499);
SELECT version, event_type FROM eduai.read_stream('course-7', max_count => 4, backward => true);
SELECT version FROM eduai.read_stream('course-7', from_version => 500, max_count => 2, backward => true);
SELECT version FROM eduai.read_stream('course-7', from_version => 3, max_count => 10, backward => true);
SELECT count(*), min(version), max(version) FROM eduai.read_stream('course-7', from_version => 490, max_count => 11);
SELECT count(*) FROM eduai.read_stream('course-8');
SELECT version FROM eduai.append_event('learner-new', 'first');

-- An id given before: the first result, or a conflict.
SELECT version FROM eduai.append_event('learner-1', 'given', '{"a": 1.50}', event_id => 'b0e42fe7-31a5-4894-a441-007e5256afea', occurred_at => '2026-02-02Z');
SELECT version FROM eduai.append_event('learner-1', 'given', '{"a": 1.50}', event_id => 'b0e42fe7-31a5-4894-a441-007e5256afea');
\set VERBOSITY sqlstate
SELECT version FROM eduai.append_event('learner-1', 'given', '{"a": 1.51}', event_id => 'b0e42fe7-31a5-4894-a441-007e5256afea');
\set VERBOSITY terse

-- Filters of the feed look into blocks too.
SELECT count(*) FROM eduai.read_all(0, 10000, event_types => '{own_type}');
SELECT count(*) FROM eduai.read_all(0, 10000, category => 'course');

-- A second segment, and a third with what came after; then a rollback changes nothing.
SELECT fill(1500, 0.4);
UPDATE before SET (streams, streams_events, feed, feed_events) = (SELECT * FROM hashes());
BEGIN;
SELECT eduai.compact_events('0');
SELECT h = b AS same FROM hashes() AS h, before AS b;
ROLLBACK;
SELECT h = b AS same FROM hashes() AS h, before AS b;
SELECT eduai.compact_events('0');
SELECT eduai.compact_events('0');
SELECT h = b AS same, h.streams_events, h.feed_events FROM hashes() AS h, before AS b;
SELECT segment, sum(events) AS events, last_position - first_position + 1 >= sum(events) AS positions
	FROM eduai.event_block WHERE tenant_id = 'events_compaction' GROUP BY segment, first_position, last_position ORDER BY segment;

-- What a transaction appended is not compacted before it committed, and is read all the same.
BEGIN;
SELECT version FROM eduai.append_event('course-7', 'open');
SELECT eduai.compact_events('0');
SELECT version, event_type FROM eduai.read_stream('course-7', max_count => 2, backward => true);
COMMIT;

-- Tenants: their positions and streams are their own.
SET eduai.tenant = 'events_compaction_2';
SELECT version FROM eduai.append_event('course-7', 'elsewhere');
SELECT eduai.compact_events('0');
SELECT version, event_type FROM eduai.read_stream('course-7');
SELECT count(*) FROM eduai.read_all();
SELECT hot_events, compacted_events FROM eduai.event_storage;
SET eduai.tenant = 'events_compaction';
SELECT eduai.stream_version('course-7');

-- Erasure from blocks: every other row stays as it is.
CREATE TEMP TABLE rows AS SELECT r.* FROM eduai.read_all(0, 10000) AS r;
SELECT count(*) FROM rows WHERE user_id = '17';
SELECT eduai.test_erase_compacted(user_id => '17');
SELECT count(*) FROM eduai.read_all(0, 10000) WHERE user_id = '17' OR stream = 'learner-17';
SELECT count(*) FROM (SELECT * FROM rows WHERE user_id IS DISTINCT FROM '17' EXCEPT SELECT * FROM eduai.read_all(0, 10000)) AS lost;
SELECT count(*) FROM (SELECT * FROM eduai.read_all(0, 10000) EXCEPT SELECT * FROM rows) AS gained;
SELECT eduai.stream_version('learner-17'), eduai.stream_version('course-7');
-- user 20 has events in course-7 only
SELECT eduai.test_erase_compacted(user_id => '20');
SELECT count(*), min(version), max(version) FROM eduai.read_stream('course-7', max_count => 10000);
SELECT version FROM eduai.append_event('course-7', 'after erasure');
SELECT eduai.test_erase_compacted(stream => 'learner-18');
SELECT count(*) FROM eduai.read_stream('learner-18');
SELECT count(*) FROM (SELECT * FROM rows WHERE user_id NOT IN ('17', '20') AND stream <> 'learner-18'
	EXCEPT SELECT * FROM eduai.read_all(0, 10000)) AS lost;
SELECT eduai.test_erase_compacted(user_id => 'nobody');
SELECT count(*) FROM eduai.event_seen WHERE tenant_id = 'events_compaction';
SELECT eduai.test_erase_compacted(user_id => '1');
SELECT count(*) FROM eduai.event_seen WHERE tenant_id = 'events_compaction';

-- An erasure or a rollback between two pages of a replay is seen by the second.
BEGIN;
SELECT min("position") - 1 AS start FROM eduai.read_all(0, 1) \gset
SELECT count(*) FROM eduai.read_all(:start, 10);
SELECT stream AS other FROM eduai.read_all(:start + 10, 600) WHERE stream LIKE 'learner-%' ORDER BY 1 LIMIT 1 \gset
SELECT count(*) > 0 AS there FROM eduai.read_all(:start, 700) WHERE stream = :'other';
SAVEPOINT before_erasure;
SELECT eduai.test_erase_compacted(stream => :'other') > 0 AS erased;
SELECT count(*) FROM eduai.read_all(:start, 700) WHERE stream = :'other';
ROLLBACK TO before_erasure;
SELECT count(*) > 0 AS there FROM eduai.read_all(:start, 700) WHERE stream = :'other';
ROLLBACK;
SELECT count(*) > 0 AS there FROM eduai.read_all(:start, 700) WHERE stream = :'other';

-- A value nested deeper than the server may parse is kept as it is.
SET eduai.tenant = 'events_compaction_2';
SET max_stack_depth = '7MB';
SELECT version FROM eduai.append_event('deep', 'deep', (repeat('{"a": [', 12000) || '1' || repeat(']}', 12000))::jsonb, user_id => 'u', event_id => '0190163d-8694-739b-aea5-966c26f8ad91');
SELECT version FROM eduai.append_event('deep', 'flat', '{"a": 1}', session_id => 's', occurred_at => '2026-03-03Z');
RESET max_stack_depth;
CREATE TEMP TABLE deep AS SELECT r::text AS r FROM eduai.read_all() AS r WHERE stream = 'deep';
SELECT eduai.compact_events('0');
SELECT stream, get_byte(body, 0) AS format, b.events FROM eduai.event_block b, eduai.read_stream('deep', max_count => 1) WHERE tenant_id = 'events_compaction_2' AND segment = 2 ORDER BY block;
SELECT count(*) FROM (SELECT r FROM deep EXCEPT SELECT r::text FROM eduai.read_all() AS r) AS lost;
SELECT version, user_id, session_id, length(data::text), occurred_at = '2026-03-03Z' AS given_time FROM eduai.read_stream('deep');
SET max_stack_depth = '7MB';
SELECT version FROM eduai.append_event('deep', 'deep', (repeat('{"a": [', 12000) || '1' || repeat(']}', 12000))::jsonb, user_id => 'u', event_id => '0190163d-8694-739b-aea5-966c26f8ad91');
RESET max_stack_depth;
SELECT eduai.test_erase_compacted(user_id => 'u');
SELECT version FROM eduai.read_stream('deep');
SET eduai.tenant = 'events_compaction';

-- Damage is told as such.
BEGIN;
UPDATE eduai.event_block SET body = '\x01' WHERE tenant_id = 'events_compaction';
\set VERBOSITY sqlstate
SELECT count(*) FROM eduai.read_stream('course-7');
ROLLBACK;
SELECT eduai.compact_events(NULL);
BEGIN READ ONLY;
SELECT eduai.compact_events('0');
ROLLBACK;
\set VERBOSITY terse

-- Rights.
CREATE ROLE regress_app IN ROLE eduai_app;
SET ROLE regress_app;
RESET eduai.tenant;
SELECT eduai.compact_events();
SELECT * FROM eduai.event_storage;
SELECT * FROM eduai.event_block;
RESET ROLE;
REVOKE eduai_app FROM regress_app;
DROP ROLE regress_app;
DROP FUNCTION hashes, fill;
SELECT eduai.disallow_tenant(current_user::name, t) FROM unnest('{events_compaction,events_compaction_2}'::text[]) t;
