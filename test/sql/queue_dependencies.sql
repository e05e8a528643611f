-- depends_on: tasks that wait for others, and what follows when those fail.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_dependencies;
GRANT eduai_app TO regress_queue_dependencies;
SELECT eduai.allow_tenant('regress_queue_dependencies', 'queue_dependencies');
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_dependencies', 'mock', '');
SELECT eduai.add_instance('queue_dependencies', 'queue_dependencies', 'queue_dependencies');
SELECT eduai.add_provider('queue_dependencies_bad', 'mock', '', options => '{"status": 400}');
SELECT eduai.add_instance('queue_dependencies_bad', 'queue_dependencies_bad', 'queue_dependencies_bad');
CREATE FUNCTION pg_temp.ask(parents bigint[] DEFAULT '{}', policy text DEFAULT NULL, model text DEFAULT 'queue_dependencies') RETURNS bigint
LANGUAGE sql AS $$
	SELECT eduai.enqueue('chat', jsonb_build_object('model', model, 'messages', '[{"role": "user", "content": "x"}]'::jsonb),
		depends_on => parents, metadata => coalesce(jsonb_build_object('on_parent_failure', policy), '{}'))
$$;
SET ROLE regress_queue_dependencies;
SET eduai.tenant = 'queue_dependencies';

-- a chain, in one transaction
BEGIN;
SELECT pg_temp.ask() AS a \gset
SELECT pg_temp.ask(ARRAY[:a]::bigint[]) AS b \gset
SELECT pg_temp.ask(ARRAY[:b]::bigint[]) AS c \gset
SELECT state FROM eduai.get_tasks(ARRAY[:a, :b, :c]);
COMMIT;
SELECT state, attempt FROM eduai.wait_tasks(ARRAY[:a, :b, :c]);
SELECT array_agg(task_id ORDER BY started_at) = ARRAY[:a, :b, :c]::bigint[],
	(array_agg(started_at ORDER BY task_id))[2] >= (array_agg(finished_at ORDER BY task_id))[1],
	(array_agg(started_at ORDER BY task_id))[3] >= (array_agg(finished_at ORDER BY task_id))[2]
FROM eduai.get_tasks(ARRAY[:a, :b, :c]);

-- one child of many, and many children of one
BEGIN;
SELECT pg_temp.ask() AS p1, pg_temp.ask() AS p2, pg_temp.ask() AS p3 \gset
SELECT pg_temp.ask(ARRAY[:p1, :p2, :p3, :p1]::bigint[]) AS joined \gset
SELECT pg_temp.ask(ARRAY[:joined]::bigint[]) AS k1, pg_temp.ask(ARRAY[:joined]::bigint[]) AS k2, pg_temp.ask(ARRAY[:joined, :p1]::bigint[]) AS k3 \gset
COMMIT;
SELECT state FROM eduai.wait_tasks(ARRAY[:k1, :k2, :k3]);
SELECT (SELECT max(finished_at) FROM eduai.get_tasks(ARRAY[:p1, :p2, :p3])) <= started_at FROM eduai.get_task(:joined);
SELECT bool_and(started_at >= (SELECT finished_at FROM eduai.get_task(:joined))) FROM eduai.get_tasks(ARRAY[:k1, :k2, :k3]);

-- one of several parents is not enough
SELECT eduai.enqueue('custom', '{}') AS open, pg_temp.ask() AS done \gset
SELECT state FROM eduai.wait_task(:done);
SELECT pg_temp.ask(ARRAY[:open, :done]::bigint[]) AS held \gset
SELECT state FROM eduai.wait_task(:held, '100 ms');
SELECT waiting FROM eduai.queue_status WHERE task_type = 'chat';

-- a failed parent: its children fail with it and theirs too, or run, or wait for it
BEGIN;
SELECT pg_temp.ask(model => 'queue_dependencies_bad') AS bad, pg_temp.ask() AS good \gset
SELECT pg_temp.ask(ARRAY[:bad, :good]::bigint[]) AS failing, pg_temp.ask(ARRAY[:bad, :good]::bigint[], 'fail') AS failing_too,
	pg_temp.ask(ARRAY[:bad]::bigint[], 'run') AS running, pg_temp.ask(ARRAY[:bad]::bigint[], 'wait') AS waiting \gset
SELECT pg_temp.ask(ARRAY[:failing]::bigint[]) AS grandchild, pg_temp.ask(ARRAY[:failing]::bigint[], 'run') AS grandchild_runs \gset
COMMIT;
SELECT state FROM eduai.wait_task(:bad);
SELECT state, attempt, error, instance FROM eduai.wait_tasks(ARRAY[:failing, :failing_too, :grandchild]);
SELECT state, attempt, error FROM eduai.wait_tasks(ARRAY[:running, :grandchild_runs]);
SELECT state FROM eduai.wait_task(:waiting, '100 ms');

-- the parent is taken back and completes: the child that waited runs, the dead stay dead
RESET ROLE;
SELECT eduai.add_provider('queue_dependencies_bad', 'mock', '');
SET ROLE regress_queue_dependencies;
SELECT eduai.retry_task(:bad);
SELECT state, attempt FROM eduai.wait_tasks(ARRAY[:bad, :waiting]);
SELECT state FROM eduai.get_task(:failing);
SELECT eduai.retry_task(:failing);
SELECT state, attempt, error FROM eduai.wait_task(:failing);

-- parents that ended before: completed ones are nothing to wait for, for others
-- the policy says the same as if they had ended a moment later
SELECT eduai.enqueue('custom', '{}') AS cancelled \gset
SELECT eduai.cancel_task(:cancelled);
SELECT pg_temp.ask(ARRAY[:good]::bigint[]) AS after_good, pg_temp.ask(ARRAY[:cancelled]::bigint[], 'run') AS after_run,
	pg_temp.ask(ARRAY[:cancelled]::bigint[], 'wait') AS after_wait, pg_temp.ask(ARRAY[:good, :cancelled]::bigint[]) AS after_fail \gset
SELECT state FROM eduai.get_tasks(ARRAY[:after_wait, :after_fail]);
SELECT state FROM eduai.wait_tasks(ARRAY[:after_good, :after_run]);
SELECT state, attempt, error, finished_at = enqueued_at FROM eduai.get_task(:after_fail);
SELECT pg_temp.ask(ARRAY[:after_fail]::bigint[]) AS after_dead \gset
SELECT state, error ->> 'code' FROM eduai.get_task(:after_dead);
SELECT state FROM eduai.wait_task(:after_wait, '100 ms');
SELECT eduai.cancel_task(:after_wait);

-- a parent that is cancelled while its children wait
SELECT pg_temp.ask(ARRAY[:open]::bigint[], 'run') AS freed \gset
SELECT eduai.cancel_task(:open);
SELECT state, error ->> 'code' FROM eduai.wait_tasks(ARRAY[:held, :freed]);

-- run_at holds for a child as well
SELECT eduai.enqueue('custom', '{}') AS parent \gset
SELECT eduai.enqueue('chat', '{"model": "queue_dependencies"}', run_at => now() + interval '1 hour', depends_on => ARRAY[:parent]::bigint[],
	metadata => '{"on_parent_failure": "run"}') AS later \gset
SELECT state FROM eduai.get_task(:later);
SELECT eduai.cancel_task(:parent);
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE NOT EXISTS (SELECT FROM eduai.queue_status WHERE scheduled = 1) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the child was not let go';
		END IF;
	END LOOP;
END $$;
SELECT state, run_at > now() + interval '50 minutes' FROM eduai.get_task(:later);
SELECT eduai.cancel_task(:later);

-- a parent that was rolled back is unknown
BEGIN;
SAVEPOINT s;
SELECT pg_temp.ask() AS gone \gset
ROLLBACK TO s;
\set VERBOSITY sqlstate
SELECT pg_temp.ask(ARRAY[:gone]::bigint[]);
\set VERBOSITY default
ROLLBACK;

-- nothing is left over
SELECT coalesce(sum(waiting + scheduled + ready + running), 0) FROM eduai.queue_status;
RESET ROLE;
DROP FUNCTION pg_temp.ask;
SELECT eduai.remove_instance('queue_dependencies'), eduai.remove_instance('queue_dependencies_bad');
SELECT eduai.remove_provider('queue_dependencies'), eduai.remove_provider('queue_dependencies_bad');

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_dependencies', 'queue_dependencies');
DROP OWNED BY regress_queue_dependencies;
DROP ROLE regress_queue_dependencies;
