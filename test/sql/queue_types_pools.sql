-- Task types and pools: defining, refusing, and the slots that tasks get.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_types_pools;
GRANT eduai_app TO regress_queue_types_pools;
SELECT eduai.allow_tenant('regress_queue_types_pools', 'queue_types_pools');
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
GRANT eduai_admin TO regress_queue_types_pools;
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_types_pools', 'mock', '', options => '{"latency_ms": 600000}');
SET ROLE regress_queue_types_pools;
SET eduai.tenant = 'queue_types_pools';

-- the built-in pools
SELECT * FROM eduai.pools() WHERE name IN ('chat', 'image', 'analysis', 'custom') ORDER BY name;

-- a pool of its own and types in it
SELECT eduai.configure_pool('qtp', '{}', 1);
SELECT eduai.define_task_type('qtp_essay', 'gateway', 'qtp', 5, '90 s', 'hold');
SELECT eduai.define_task_type('qtp_sums', 'application', 'qtp');
SELECT * FROM eduai.task_types() WHERE name LIKE 'qtp%' ORDER BY name;
SELECT * FROM eduai.pools() WHERE name = 'qtp';
SELECT eduai.enqueue('qtp_sums', '{}') AS sums \gset
SELECT task_type, state FROM eduai.get_task(:sums);
RESET ROLE;
SELECT max_attempts, timeout_ms FROM eduai.task WHERE task_id = :sums;
SET ROLE regress_queue_types_pools;

-- redefined: for new tasks
SELECT eduai.define_task_type('qtp_sums', 'application', 'qtp', timeout => '1 s', max_attempts => 1);
SELECT eduai.enqueue('qtp_sums', '{}') AS sums2 \gset
RESET ROLE;
SELECT max_attempts, timeout_ms FROM eduai.task WHERE task_id IN (:sums, :sums2) ORDER BY task_id;
SET ROLE regress_queue_types_pools;

-- with its transaction only
BEGIN;
SELECT eduai.define_task_type('qtp_gone', 'application', 'qtp');
SELECT eduai.enqueue('qtp_gone', '{}') > 0;
SELECT eduai.configure_pool('qtp', '{}', 9);
SELECT max_concurrent FROM eduai.pools() WHERE name = 'qtp';
ROLLBACK;
SELECT left(pg_temp.fails($$SELECT eduai.enqueue('qtp_gone', '{}')$$), 5);
SELECT max_concurrent FROM eduai.pools() WHERE name = 'qtp';

-- refused
SELECT pg_temp.fails($$SELECT eduai.define_task_type('', 'gateway', 'qtp')$$);
SELECT pg_temp.fails($$SELECT eduai.define_task_type(NULL, 'gateway', 'qtp')$$);
SELECT pg_temp.fails($$SELECT eduai.define_task_type(repeat('x', 64), 'gateway', 'qtp')$$);
SELECT pg_temp.fails($$SELECT eduai.define_task_type('qtp_x', 'nobody', 'qtp')$$);
SELECT pg_temp.fails($$SELECT eduai.define_task_type('qtp_x', 'gateway', 'no_such_pool')$$);
SELECT pg_temp.fails($$SELECT eduai.define_task_type('qtp_x', 'gateway', NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.define_task_type('qtp_x', 'gateway', 'qtp', 0)$$);
SELECT pg_temp.fails($$SELECT eduai.define_task_type('qtp_x', 'gateway', 'qtp', 101)$$);
SELECT pg_temp.fails($$SELECT eduai.define_task_type('qtp_x', 'gateway', 'qtp', timeout => '0')$$);
SELECT pg_temp.fails($$SELECT eduai.define_task_type('qtp_x', 'gateway', 'qtp', timeout => '2 days')$$);
SELECT pg_temp.fails($$SELECT eduai.define_task_type('qtp_x', 'gateway', 'qtp', on_uncertain => 'guess')$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('', '{}', 1)$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool(NULL, '{}', 1)$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('qtp', NULL, 1)$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('qtp', '{}', NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('qtp', '{}', 0)$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('qtp', '{}', 100001)$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('qtp', '{}', 5, 4)$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('qtp', '{}', 5, reserved_critical => 6)$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('qtp', '{}', 5, reserved_critical => -1)$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('qtp', '{no_such_type}', 5)$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('qtp', '{NULL}', 5)$$);
SELECT count(*) FROM eduai.task_types() WHERE name LIKE 'qtp%';

-- one slot: one runs at a time, whatever the instance could do
SELECT eduai.add_instance('queue_types_pools', 'queue_types_pools', 'queue_types_pools', '{qtp_essay}', max_concurrent => 100);
CREATE PROCEDURE pg_temp.reach(wanted int) LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE (SELECT sum(running) FROM eduai.queue_status WHERE task_type = 'qtp_essay') <> wanted LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'there are not % running', wanted;
		END IF;
	END LOOP;
END $$;
SELECT eduai.enqueue_batch('qtp_essay', array_fill('{"model": "queue_types_pools", "messages": [{"role": "user", "content": "x"}]}'::jsonb, ARRAY[10])) AS ids \gset
SELECT id AS first FROM unnest(:'ids'::bigint[]) id LIMIT 1 \gset
CALL pg_temp.reach(1);
SELECT state FROM eduai.wait_task(:first, '100 ms');
SELECT ready, running FROM eduai.queue_status WHERE task_type = 'qtp_essay';
SELECT name, task_types, running, max_concurrent, scaled_to FROM eduai.pool_status WHERE name = 'qtp';

-- more slots are used at once, but for those that critical tasks have to themselves
SELECT eduai.configure_pool('qtp', '{}', 4, 8);
SELECT * FROM eduai.pools() WHERE name = 'qtp';
CALL pg_temp.reach(3);
SELECT state FROM eduai.wait_task(:first, '100 ms');
SELECT ready, running FROM eduai.queue_status WHERE task_type = 'qtp_essay';
SELECT eduai.enqueue_batch('qtp_essay', array_fill('{"model": "queue_types_pools", "messages": [{"role": "user", "content": "x"}]}'::jsonb, ARRAY[2]), 'critical') AS urgent \gset
CALL pg_temp.reach(4);
SELECT state FROM eduai.wait_task(:first, '100 ms');
SELECT priority, ready, running FROM eduai.queue_status WHERE task_type = 'qtp_essay' ORDER BY 1;

-- while a critical task runs, its slot is not kept for another
SELECT eduai.configure_pool('qtp', '{}', 5, reserved_critical => 2);
CALL pg_temp.reach(5);
SELECT priority, ready, running FROM eduai.queue_status WHERE task_type = 'qtp_essay' ORDER BY 1;

-- fewer slots end nothing, and start nothing until there is room
SELECT eduai.configure_pool('qtp', '{}', 1);
SELECT count(*) FILTER (WHERE eduai.cancel_task(t.task_id)) FROM (SELECT task_id FROM eduai.get_tasks(:'ids') WHERE state = 'running' LIMIT 2) t;
SELECT sum(ready), sum(running) FROM eduai.queue_status WHERE task_type = 'qtp_essay';

-- types move to another pool
SELECT eduai.configure_pool('qtp_other', '{qtp_sums}', 7);
SELECT name, pool FROM eduai.task_types() WHERE name LIKE 'qtp%' ORDER BY 1;
SELECT name, task_types FROM eduai.pool_status WHERE name LIKE 'qtp%' ORDER BY 1;

-- a built-in type may be redefined
BEGIN;
SELECT eduai.define_task_type('custom', 'application', 'custom', 2, '1 min', 'hold');
SELECT * FROM eduai.task_types() WHERE name = 'custom';
ROLLBACK;
SELECT * FROM eduai.task_types() WHERE name = 'custom';

-- administrators only
RESET ROLE;
REVOKE eduai_admin FROM regress_queue_types_pools;
SET ROLE regress_queue_types_pools;
SELECT pg_temp.fails($$SELECT eduai.define_task_type('qtp_x', 'gateway', 'qtp')$$);
SELECT pg_temp.fails($$SELECT eduai.configure_pool('qtp', '{}', 5)$$);

SELECT count(*) FILTER (WHERE eduai.cancel_task(id)) FROM unnest(:'ids'::bigint[] || :'urgent'::bigint[]) id;
RESET ROLE;
DROP PROCEDURE pg_temp.reach;
SELECT eduai.remove_instance('queue_types_pools');
SELECT eduai.remove_provider('queue_types_pools');
DELETE FROM eduai.task_type WHERE name LIKE 'qtp%';
DELETE FROM eduai.pool WHERE name LIKE 'qtp%';

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_types_pools', 'queue_types_pools');
DROP OWNED BY regress_queue_types_pools;
DROP ROLE regress_queue_types_pools;
