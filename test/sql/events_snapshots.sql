-- Snapshots of streams: which are kept, which count, what is refused.
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
CREATE ROLE regress_events_snap;
GRANT eduai_app TO regress_events_snap;
CREATE SCHEMA regress_events_snap AUTHORIZATION regress_events_snap;
SELECT eduai.allow_tenant('regress_events_snap', 'events_snap'), eduai.allow_tenant('regress_events_snap', 'events_snap_b');
SET ROLE regress_events_snap;
SET eduai.tenant = 'events_snap';
SELECT eduai.append_batch(array_agg('c-1'::text), array_agg('x'::text), array_agg(jsonb_build_object('n', n))) FROM generate_series(1, 10) AS n;

-- none, one, a newer, an older
SELECT count(*) FROM eduai.load_snapshot('c-1');
SELECT eduai.save_snapshot('c-1', 5, '{"sum": 15}');
SELECT * FROM eduai.load_snapshot('c-1');
SELECT eduai.save_snapshot('c-1', 7, '{"sum": 28}');
SELECT eduai.save_snapshot('c-1', 6, '{"sum": 21}');
SELECT * FROM eduai.load_snapshot('c-1');
-- the same version again replaces; any jsonb will do
SELECT eduai.save_snapshot('c-1', 7, '[null, 28]');
SELECT * FROM eduai.load_snapshot('c-1');
-- with the events after it
SELECT s.version, count(*), min(e.version), max(e.version) FROM eduai.load_snapshot('c-1') AS s, LATERAL eduai.read_stream('c-1', s.version + 1) AS e GROUP BY 1;

-- a reducer's schema versions have nothing to do with each other
SELECT eduai.save_snapshot('c-1', 3, '{"v": 2}', 2);
SELECT * FROM eduai.load_snapshot('c-1', 2);
SELECT * FROM eduai.load_snapshot('c-1', 3);
SELECT version FROM eduai.load_snapshot('c-1', 1);

-- of an event of the same transaction: both or neither
BEGIN;
SELECT version FROM eduai.append_event('c-1', 'x', '{"n": 11}');
SELECT eduai.save_snapshot('c-1', 11, '{"sum": 66}');
SELECT version FROM eduai.load_snapshot('c-1');
ROLLBACK;
SELECT version FROM eduai.load_snapshot('c-1');
-- a savepoint rolled back takes its events' versions with it
BEGIN;
SAVEPOINT a;
SELECT version FROM eduai.append_event('c-1', 'x', '{"n": 11}');
ROLLBACK TO a;
SELECT pg_temp.fails($$SELECT eduai.save_snapshot('c-1', 11, '{}')$$);
ROLLBACK;

-- one kept for another event at that version does not count
RESET ROLE;
UPDATE eduai.event_snapshot SET event_id = gen_random_uuid() WHERE tenant_id = 'events_snap' AND stream = 'c-1' AND schema_version = 2;
UPDATE eduai.event_snapshot SET version = 12 WHERE tenant_id = 'events_snap' AND stream = 'c-1' AND schema_version = 1;
SET ROLE regress_events_snap;
SELECT count(*) FROM eduai.load_snapshot('c-1', 2);
SELECT count(*) FROM eduai.load_snapshot('c-1', 1);

-- a tenant of its own
SET eduai.tenant = 'events_snap_b';
SELECT count(*) FROM eduai.load_snapshot('c-1');
SELECT pg_temp.fails($$SELECT eduai.save_snapshot('c-1', 1, '{}')$$);
SET eduai.tenant = 'events_snap';

-- what is refused
SELECT pg_temp.fails(s) FROM unnest(ARRAY[
	$$SELECT eduai.save_snapshot('c-1', 0, '{}')$$,
	$$SELECT eduai.save_snapshot('c-1', -1, '{}')$$,
	$$SELECT eduai.save_snapshot('c-1', 12, '{}')$$,
	$$SELECT eduai.save_snapshot('c-2', 1, '{}')$$,
	$$SELECT eduai.save_snapshot('', 1, '{}')$$,
	$$SELECT eduai.save_snapshot(NULL, 1, '{}')$$,
	$$SELECT eduai.save_snapshot('c-1', NULL, '{}')$$,
	$$SELECT eduai.save_snapshot('c-1', 1, NULL)$$,
	$$SELECT eduai.save_snapshot('c-1', 1, '{}', NULL)$$,
	$$SELECT eduai.save_snapshot('c-1', 1, '{}', 0)$$,
	$$SELECT eduai.load_snapshot(NULL)$$,
	$$SELECT eduai.load_snapshot('c-1', NULL)$$,
	$$SELECT eduai.load_snapshot('c-1', 0)$$
]) WITH ORDINALITY AS t (s, n) ORDER BY n;
BEGIN READ ONLY;
SELECT pg_temp.fails($$SELECT eduai.save_snapshot('c-1', 1, '{}')$$);
SELECT count(*) FROM eduai.load_snapshot('c-1');
COMMIT;

-- automatic ones: what may be registered
CREATE FUNCTION regress_events_snap.fold(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION regress_events_snap.other(state jsonb, event jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION regress_events_snap.barred(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION regress_events_snap.many(state jsonb, event eduai.event_record) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT state';
REVOKE ALL ON FUNCTION regress_events_snap.barred(jsonb, eduai.event_record) FROM PUBLIC, regress_events_snap;
CREATE FUNCTION pg_temp.fold(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT regexp_replace(pg_temp.fails(s), 'pg_temp_\d+', 'pg_temp') FROM unnest(ARRAY[
	$$SELECT eduai.snapshot_streams('c', 'regress_events_snap.other(jsonb, jsonb)')$$,
	$$SELECT eduai.snapshot_streams('c', 'regress_events_snap.many(jsonb, eduai.event_record)')$$,
	$$SELECT eduai.snapshot_streams('c', 'regress_events_snap.barred(jsonb, eduai.event_record)')$$,
	$$SELECT eduai.snapshot_streams('c', 'pg_temp.fold(jsonb, eduai.event_record)')$$,
	$$SELECT eduai.snapshot_streams('c', 0::regprocedure)$$,
	$$SELECT eduai.snapshot_streams('c', NULL)$$,
	$$SELECT eduai.snapshot_streams(NULL, 'regress_events_snap.fold(jsonb, eduai.event_record)')$$,
	$$SELECT eduai.snapshot_streams('c-1', 'regress_events_snap.fold(jsonb, eduai.event_record)')$$,
	$$SELECT eduai.snapshot_streams('', 'regress_events_snap.fold(jsonb, eduai.event_record)')$$,
	$$SELECT eduai.snapshot_streams('c', 'regress_events_snap.fold(jsonb, eduai.event_record)', 0)$$,
	$$SELECT eduai.snapshot_streams('c', 'regress_events_snap.fold(jsonb, eduai.event_record)', 1000001)$$,
	$$SELECT eduai.snapshot_streams('c', 'regress_events_snap.fold(jsonb, eduai.event_record)', NULL)$$,
	$$SELECT eduai.snapshot_streams('c', 'regress_events_snap.fold(jsonb, eduai.event_record)', 2, NULL)$$,
	$$SELECT eduai.snapshot_streams('c', 'regress_events_snap.fold(jsonb, eduai.event_record)', 2, '{}', 0)$$,
	$$SELECT eduai.unsnapshot_streams('c')$$,
	$$SELECT eduai.unsnapshot_streams(NULL)$$
]) WITH ORDINALITY AS t (s, n) ORDER BY n;
BEGIN;
SELECT eduai.snapshot_streams('c', 'regress_events_snap.fold(jsonb, eduai.event_record)', 2);
SELECT category, role, every, schema_version, failed_streams, last_error FROM eduai.snapshot_status;
SELECT eduai.snapshot_streams('c', 'regress_events_snap.fold(jsonb, eduai.event_record)', 3, schema_version => 4);
SELECT every, schema_version FROM eduai.snapshot_status;
SELECT version FROM eduai.append_event('c-1', 'x', '{}');
SELECT version FROM eduai.append_event('c-1', 'x', '{}');
SELECT eduai.unsnapshot_streams('c');
SELECT count(*) FROM eduai.snapshot_status;
ROLLBACK;

RESET ROLE;
DELETE FROM eduai.event_snapshot WHERE tenant_id = 'events_snap';
DROP OWNED BY regress_events_snap;
DROP ROLE regress_events_snap;
