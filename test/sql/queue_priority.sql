-- Priorities are deadlines: 1 s, 5 s, 30 s and 5 min after a task became ready.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_priority;
GRANT eduai_app TO regress_queue_priority;
SELECT eduai.allow_tenant('regress_queue_priority', 'queue_priority');
SET eduai.allow_mock = on;
SELECT eduai.configure_pool('queue_priority', '{}', 1);
SELECT eduai.define_task_type('queue_priority', 'gateway', 'queue_priority');
SELECT eduai.add_provider('queue_priority', 'mock', '');
SELECT eduai.add_instance('queue_priority', 'queue_priority', 'queue_priority', '{queue_priority}');
SELECT eduai.set_instance_state('queue_priority', 'disabled');
CREATE FUNCTION pg_temp.ask(priority text) RETURNS bigint LANGUAGE sql AS $$
	SELECT eduai.enqueue('queue_priority', '{"model": "queue_priority", "messages": [{"role": "user", "content": "x"}]}', priority)
$$;
SET ROLE regress_queue_priority;
SET eduai.tenant = 'queue_priority';

-- of what became ready together the more urgent goes first, and of the same priority the older
SELECT pg_temp.ask('low') AS low, pg_temp.ask('normal') AS normal, pg_temp.ask('normal') AS normal2, pg_temp.ask('high') AS high,
	pg_temp.ask('critical') AS critical \gset
RESET ROLE;
SELECT eduai.set_instance_state('queue_priority', 'active');
SET ROLE regress_queue_priority;
SELECT priority, task_id = :normal2 AS younger FROM eduai.wait_tasks(ARRAY[:low, :normal, :normal2, :high, :critical]) ORDER BY started_at;

RESET ROLE;
DROP FUNCTION pg_temp.ask;
SELECT eduai.remove_instance('queue_priority');
SELECT eduai.remove_provider('queue_priority');
DELETE FROM eduai.task_type WHERE name = 'queue_priority';
DELETE FROM eduai.pool WHERE name = 'queue_priority';

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_priority', 'queue_priority');
DROP OWNED BY regress_queue_priority;
DROP ROLE regress_queue_priority;
