-- Claims take each ready task once, in the order of readiness, and leave no trace when they are
-- rolled back.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY sqlstate
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE ROLE regress_queue_lanes;
GRANT eduai_app TO regress_queue_lanes;
SELECT eduai.allow_tenant('regress_queue_lanes', 'queue_lanes_a');
SELECT eduai.allow_tenant('regress_queue_lanes', 'queue_lanes_b');
SELECT eduai.configure_pool('queue_lanes', '{}', 100, NULL, 0);
SELECT eduai.define_task_type('queue_lanes', 'application', 'queue_lanes');
SELECT eduai.define_task_type('queue_lanes_other', 'application', 'queue_lanes');
SET statement_timeout = '15s';

-- tasks are called by their order of enqueueing
CREATE TEMP TABLE named (name text, task_id bigint, tenant text);
GRANT ALL ON named TO regress_queue_lanes;
CREATE FUNCTION pg_temp.ask(name text, tenant text, priority text, metadata jsonb, type text, expires timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('eduai.tenant', tenant, false);
	SET LOCAL ROLE regress_queue_lanes;
	INSERT INTO named VALUES (name,
		eduai.enqueue(type, '{}', priority, metadata => metadata,
			-- a row of its own at once, and so a place in the lane's index
			expires_at => coalesce(expires, now() + interval '1 day')), tenant);
	RESET ROLE;
END $$;
CREATE FUNCTION pg_temp.ask(names text[], tenant text DEFAULT 'queue_lanes_a', priority text DEFAULT 'normal', metadata jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
	SELECT pg_temp.ask(n, tenant, priority, metadata, 'queue_lanes', NULL) FROM unnest(names) n
$$;
CREATE FUNCTION pg_temp.names(ids bigint[]) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(name, ' ' ORDER BY o), 'none') FROM unnest(ids) WITH ORDINALITY i (id, o) LEFT JOIN named ON task_id = id
$$;
CREATE FUNCTION pg_temp.claim(most int, tenant text DEFAULT 'queue_lanes_a') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.names(eduai.test_claim(tenant, '{queue_lanes}', most))
$$;
CREATE FUNCTION pg_temp.lane(tenant text DEFAULT 'queue_lanes_a', priority text DEFAULT 'normal') RETURNS jsonb LANGUAGE sql AS $$
	SELECT eduai.test_lane(tenant, 'queue_lanes', NULL, priority)
$$;
CREATE FUNCTION pg_temp.cancel(names text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE t named;
BEGIN
	FOR t IN SELECT * FROM named WHERE name = ANY (names) ORDER BY task_id LOOP
		PERFORM set_config('eduai.tenant', t.tenant, false);
		SET LOCAL ROLE regress_queue_lanes;
		PERFORM eduai.cancel_task(t.task_id);
		RESET ROLE;
	END LOOP;
END $$;

-- nothing, then in the order of readiness, each once; an empty lane has no mark
SELECT pg_temp.claim(5);
SELECT pg_temp.ask('{a1,a2,a3,a4,a5}');
SELECT pg_temp.lane();
SELECT pg_temp.claim(2);
SELECT pg_temp.claim(2);
SELECT pg_temp.claim(2);
SELECT pg_temp.claim(2);
SELECT pg_temp.lane();

-- what its own transaction made ready is not there before the commit
BEGIN;
SELECT pg_temp.ask('{b1}');
SELECT pg_temp.claim(2);
SELECT pg_temp.lane();
COMMIT;
SELECT pg_temp.claim(2);

-- enqueues rolled back, as a whole or to a savepoint
BEGIN;
SELECT pg_temp.ask('{no}');
ROLLBACK;
SELECT pg_temp.lane();
BEGIN;
SAVEPOINT s;
SELECT pg_temp.ask('{no}');
ROLLBACK TO s;
SELECT pg_temp.ask('{c1}');
SAVEPOINT t;
SELECT pg_temp.ask('{c2}');
RELEASE t;
COMMIT;
SELECT pg_temp.claim(5);
SELECT pg_temp.lane();

-- claims rolled back: what they took is there again, below what scans have passed
SELECT pg_temp.ask('{d1,d2,d3,d4}');
BEGIN;
SELECT pg_temp.claim(3);
SELECT pg_temp.claim(1);
ROLLBACK;
SELECT pg_temp.lane();
BEGIN;
SELECT pg_temp.claim(1);
SAVEPOINT s;
SELECT pg_temp.claim(2);
ROLLBACK TO s;
SELECT pg_temp.claim(1);
COMMIT;
SELECT pg_temp.claim(5);
SELECT pg_temp.lane();

-- a claim in a block that fails
SELECT pg_temp.ask('{e1,e2}');
DO $$
BEGIN
	BEGIN
		PERFORM eduai.test_claim('queue_lanes_a', '{queue_lanes}', 1);
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN NULL;
	END;
END $$;
SELECT pg_temp.claim(5);

-- a cancellation takes out of the lane, and gives back when it is rolled back
SELECT pg_temp.ask('{f1,f2,f3}');
BEGIN;
SELECT pg_temp.cancel('{f1}');
SELECT pg_temp.claim(1);
ROLLBACK;
SELECT pg_temp.cancel('{f2}');
SELECT pg_temp.claim(5);
SELECT pg_temp.lane();

-- the other types and tenants are left alone; one that is not defined any more waits
SELECT pg_temp.ask('{g1}', 'queue_lanes_b');
SELECT pg_temp.ask('g2', 'queue_lanes_a', 'normal', '{}', 'queue_lanes_other', NULL);
SELECT pg_temp.claim(5);
SELECT pg_temp.names(eduai.test_claim('', '{custom}', 5));
BEGIN;
DELETE FROM eduai.task_type WHERE name = 'queue_lanes_other';
SELECT pg_temp.names(eduai.test_claim('', '{queue_lanes_other}', 5));
ROLLBACK;
SELECT pg_temp.names(eduai.test_claim('', '{queue_lanes,queue_lanes_other}', 5)) IN ('g1 g2', 'g2 g1') AS both;

-- an expired task is not started
SELECT pg_temp.ask('h1', 'queue_lanes_a', 'normal', '{}', 'queue_lanes', now() + interval '1 day');
SELECT pg_temp.ask('{h2}');
UPDATE eduai.task_live SET expires_at = '2000-01-01' WHERE task_id = (SELECT task_id FROM named WHERE name = 'h1');
SELECT pg_temp.claim(5);

-- tenants take turns within a class, however much one of them has
SELECT pg_temp.ask('{i1,i2,i3,i4,i5,i6}', 'queue_lanes_a');
SELECT pg_temp.ask('{j1,j2,j3}', 'queue_lanes_b');
SELECT (SELECT string_agg(tenant, ' ' ORDER BY tenant) FROM named WHERE task_id = ANY (ids)) FROM eduai.test_claim('', '{queue_lanes}', 4) AS ids;
SELECT (SELECT string_agg(tenant, ' ' ORDER BY tenant) FROM named WHERE task_id = ANY (ids)) FROM eduai.test_claim('', '{queue_lanes}', 1) AS ids
UNION ALL
SELECT (SELECT string_agg(tenant, ' ' ORDER BY tenant) FROM named WHERE task_id = ANY (ids)) FROM eduai.test_claim('', '{queue_lanes}', 1) AS ids ORDER BY 1;
SELECT pg_temp.claim(5, '');

-- the more urgent of what became ready together first, and never more than the pool has slots
SELECT eduai.configure_pool('queue_lanes', '{}', 100, NULL, 0);
SELECT pg_temp.ask('{k-low}', priority => 'low');
SELECT pg_temp.ask('{k-normal}');
SELECT pg_temp.ask('{k-critical}', priority => 'critical');
SELECT pg_temp.ask('{k-high}', priority => 'high');
SELECT pg_temp.claim(1);
SELECT pg_temp.claim(3);
SELECT pg_temp.cancel((SELECT array_agg(name) FROM named));
TRUNCATE named;
SELECT eduai.configure_pool('queue_lanes', '{}', 2, NULL, 0);
SELECT pg_temp.ask('{l1,l2,l3}');
SELECT pg_temp.claim(5);
SELECT pg_temp.claim(5);
SELECT pg_temp.cancel('{l1}');
SELECT pg_temp.claim(5);
SELECT eduai.configure_pool('queue_lanes', '{}', 100, NULL, 0);

-- one task at a time of a concurrency key; the others wait outside of the lane, and follow in order
SELECT pg_temp.ask('{m1,m2,m3}', metadata => '{"concurrency_key": "m"}');
SELECT pg_temp.ask('{m-free}');
SELECT pg_temp.claim(5);
SELECT n.name, l.state, l.held FROM eduai.task_live l JOIN named n USING (task_id) WHERE n.name LIKE 'm%' ORDER BY 1;
SELECT pg_temp.cancel('{m1}');
SELECT pg_temp.names(eduai.test_await_claim('queue_lanes_a', '{queue_lanes}', 5));
SELECT pg_temp.cancel('{m2}');
SELECT pg_temp.names(eduai.test_await_claim('queue_lanes_a', '{queue_lanes}', 5));

-- paused: nothing is started until it is resumed
SELECT eduai.pause_queue('queue_lanes');
SELECT eduai.pause_queue('queue_lanes');
SELECT pg_temp.ask('{n1,n2}');
SELECT pg_temp.claim(5);
BEGIN;
SELECT eduai.resume_queue('queue_lanes');
ROLLBACK;
SELECT pg_temp.claim(5);
SELECT eduai.resume_queue('queue_lanes');
SELECT eduai.resume_queue('queue_lanes');
SELECT pg_temp.claim(5);
SELECT eduai.pause_queue('queue_lanes_none');
SELECT eduai.resume_queue('queue_lanes_none');
SELECT eduai.pause_queue(NULL);
SET ROLE regress_queue_lanes;
SELECT eduai.pause_queue('queue_lanes');
SELECT eduai.resume_queue('queue_lanes');
SELECT eduai.test_claim('', '{queue_lanes}', 1);
RESET ROLE;

-- a step of the wall clock does not reorder a lane
SELECT eduai.test_clock('-1 hour');
SELECT pg_temp.ask('{o1}');
SELECT eduai.test_clock('1 hour');
SELECT pg_temp.ask('{o2}');
SELECT eduai.test_clock('0');
SELECT pg_temp.ask('{o3}');
SELECT pg_temp.claim(5);
SELECT max(ready_key) - min(ready_key) < 1024 * 600e6 AS within_minutes FROM eduai.task_live l JOIN named n USING (task_id) WHERE n.name LIKE 'o%';

-- rows that came without an announcement are found by the sweep, once
SELECT pg_temp.ask('{p1,p2,p3}');
SELECT pg_temp.claim(5);
UPDATE eduai.task_live SET state = 'ready' WHERE task_id = (SELECT task_id FROM named WHERE name = 'p2');
SELECT pg_temp.names(eduai.test_await_claim('queue_lanes_a', '{queue_lanes}', 5));

RESET ROLE;
SELECT pg_temp.cancel((SELECT array_agg(name) FROM named));
DELETE FROM eduai.task_type WHERE name LIKE 'queue_lanes%';
DELETE FROM eduai.pool WHERE name = 'queue_lanes';
RESET eduai.tenant;
DROP TABLE named;
SELECT eduai.disallow_tenant('regress_queue_lanes', 'queue_lanes_a');
SELECT eduai.disallow_tenant('regress_queue_lanes', 'queue_lanes_b');
DROP OWNED BY regress_queue_lanes;
DROP ROLE regress_queue_lanes;
