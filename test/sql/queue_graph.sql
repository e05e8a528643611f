-- Dependencies of applications' tasks: any graph, added to later, never a circle; parents' results.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_graph;
GRANT eduai_app, eduai_worker TO regress_queue_graph;
SELECT eduai.allow_tenant('regress_queue_graph', 'queue_graph');
SELECT eduai.define_task_type('queue_graph', 'application', 'custom', max_attempts => 1);
SET ROLE regress_queue_graph;
SET eduai.tenant = 'queue_graph';
CREATE FUNCTION pg_temp.ask(parents bigint[] DEFAULT '{}', policy text DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
	SELECT eduai.enqueue('queue_graph', '{}', depends_on => parents,
		metadata => coalesce(jsonb_build_object('on_parent_failure', policy), '{}'))
$$;
-- claims the task, which must come
CREATE FUNCTION pg_temp.claim(task bigint) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	c eduai.claimed_task;
BEGIN
	SELECT * INTO c FROM eduai.claim_tasks('w', '{queue_graph}', 1, '1 h', '30 s');
	IF c.task_id IS DISTINCT FROM task THEN
		RAISE EXCEPTION 'another task was claimed, or none';
	END IF;
	RETURN c.parents;
END $$;
CREATE PROCEDURE pg_temp.complete(task bigint, result jsonb DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.claim(task);
	PERFORM eduai.complete_task(task, (SELECT attempt FROM eduai.get_task(task)), result);
END $$;
-- waits until the task is in the state
CREATE PROCEDURE pg_temp.reach(task bigint, wanted text) LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE (SELECT state FROM eduai.get_task(task)) <> wanted LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the task is %, not %', (SELECT state FROM eduai.get_task(task)), wanted;
		END IF;
		PERFORM eduai.wait_task(task, '10 ms');
	END LOOP;
END $$;
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL;
	RETURN regexp_replace(concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, '')), '[0-9]{1,18} (is|has|would|does)|Task [0-9]+', 'N \1');
END $$;

-- a diamond in one transaction; the last sees what its parents gave, in its order
BEGIN;
SELECT pg_temp.ask() AS top \gset
SELECT pg_temp.ask(ARRAY[:top]::bigint[]) AS l, pg_temp.ask(ARRAY[:top]::bigint[]) AS r \gset
SELECT pg_temp.ask(ARRAY[:r, :l, :r]::bigint[]) AS bottom \gset
COMMIT;
SELECT state FROM eduai.get_tasks(ARRAY[:top, :l, :r, :bottom]);
CALL pg_temp.complete(:top, '{"n": 0}');
CALL pg_temp.reach(:r, 'ready');
CALL pg_temp.reach(:l, 'ready');
SELECT count(eduai.complete_task(task_id, attempt, jsonb_build_object('left', task_id = :l))) FROM eduai.claim_tasks('w', '{queue_graph}', 2);
CALL pg_temp.reach(:bottom, 'ready');
SELECT jsonb_path_query_array(p, '$[*].task_id') = jsonb_build_array(:r, :l, :r), jsonb_path_query_array(p, '$[*].result'),
	jsonb_path_query_array(p, '$[*].state'), p -> 0 ->> 'task_type', p -> 0 -> 'error' FROM pg_temp.claim(:bottom) p;
SELECT eduai.complete_task(:bottom, 1);

-- a task that depends on nothing sees nothing
SELECT pg_temp.ask() AS a \gset
SELECT pg_temp.claim(:a) IS NULL;
SELECT eduai.complete_task(:a, 1);

-- policies: one parent fails at once, another still lives
SELECT pg_temp.ask() AS bad, eduai.enqueue('queue_graph', '{}', run_at => now() + '1 day') AS open \gset
SELECT pg_temp.ask(ARRAY[:bad, :open]::bigint[]) AS fails, pg_temp.ask(ARRAY[:bad, :open]::bigint[], 'run') AS runs,
	pg_temp.ask(ARRAY[:bad]::bigint[], 'run') AS runs_alone, pg_temp.ask(ARRAY[:bad]::bigint[], 'wait') AS waits \gset
SELECT pg_temp.ask(ARRAY[:fails]::bigint[]) AS grandchild \gset
SELECT pg_temp.claim(:bad) IS NULL;
SELECT eduai.fail_task(:bad, 1, 'no', false);
SELECT state, error ->> 'code' FROM eduai.wait_tasks(ARRAY[:fails, :grandchild]);
CALL pg_temp.reach(:runs_alone, 'ready');
SELECT p -> 0 ->> 'state', p -> 0 -> 'error' ->> 'message' FROM pg_temp.claim(:runs_alone) p;
SELECT eduai.complete_task(:runs_alone, 1);
SELECT state FROM eduai.get_tasks(ARRAY[:runs, :waits]);
SELECT eduai.retry_task(:bad);
SELECT pg_temp.claim(:bad) IS NULL;
SELECT eduai.complete_task(:bad, 2);
CALL pg_temp.reach(:waits, 'ready');
CALL pg_temp.complete(:waits);
SELECT eduai.cancel_task(:open);
CALL pg_temp.reach(:runs, 'ready');
CALL pg_temp.complete(:runs);

-- added later: to a ready, a scheduled and a waiting task
SELECT pg_temp.ask() AS p, pg_temp.ask() AS q \gset
SELECT pg_temp.ask() AS ready, eduai.enqueue('queue_graph', '{}', run_at => now() + '1 day') AS scheduled, pg_temp.ask(ARRAY[:p]::bigint[]) AS waiting \gset
BEGIN;
SELECT eduai.add_dependency(:ready, ARRAY[:p]);
SELECT state FROM eduai.get_task(:ready);
ROLLBACK;
SELECT state FROM eduai.get_task(:ready);
SELECT eduai.add_dependency(t, ARRAY[:p, :q, :p]) FROM unnest(ARRAY[:ready, :scheduled, :waiting]) t;
SELECT state FROM eduai.get_tasks(ARRAY[:ready, :scheduled, :waiting]);
CALL pg_temp.complete(:p, '{"p": 1}');
CALL pg_temp.complete(:q, '{"q": 1}');
CALL pg_temp.reach(:scheduled, 'scheduled');
CALL pg_temp.reach(:ready, 'ready');
CALL pg_temp.reach(:waiting, 'ready');
SELECT jsonb_path_query_array(parents, '$[*].result') FROM eduai.claim_tasks('w', '{queue_graph}', 2);
SELECT eduai.complete_task(:ready, 1), eduai.complete_task(:waiting, 1);
-- a parent that has completed is nothing to wait for; one that failed is what the policy says
SELECT pg_temp.ask() AS c, pg_temp.ask() AS d \gset
SELECT eduai.add_dependency(:c, ARRAY[:p, :q]), eduai.add_dependency(:c, '{}'), eduai.add_dependency(:d, ARRAY[:fails]);
SELECT state, error ->> 'code' FROM eduai.get_tasks(ARRAY[:c, :d]);
CALL pg_temp.complete(:c);

-- not: unknown ids, started and ended tasks
SELECT pg_temp.ask() AS e \gset
SELECT pg_temp.fails(format('SELECT eduai.add_dependency(%s, %L)', t, p)) FROM (VALUES (:e, '{-1}'::bigint[]), (:e, '{NULL}'), (-1, '{}'),
	(:c, ARRAY[:e]), (:d, ARRAY[:e])) v (t, p);
SELECT pg_temp.claim(:e) IS NULL;
SELECT pg_temp.fails(format('SELECT eduai.add_dependency(%s, %L)', :e, ARRAY[:c]));
SELECT eduai.fail_task(:e, 1, 'no', false);
SELECT eduai.add_dependency(NULL, '{}'), eduai.add_dependency(:e, NULL);

-- no circles: itself, its child, its grandchild; nor by way of a unique key
SELECT pg_temp.ask() AS a \gset
SELECT pg_temp.ask(ARRAY[:a]::bigint[]) AS b \gset
SELECT pg_temp.ask(ARRAY[:b]::bigint[]) AS c, pg_temp.ask() AS other \gset
SELECT pg_temp.fails(format('SELECT eduai.add_dependency(%s, %L)', :a, ARRAY[p])) FROM unnest(ARRAY[:a, :b, :c]) p;
SELECT pg_temp.fails(format('SELECT eduai.add_dependency(%s, %L)', :a, ARRAY[:other, :c]));
SELECT state FROM eduai.get_task(:a);
SELECT eduai.enqueue('queue_graph', '{}', unique_key => 'k') AS k \gset
SELECT pg_temp.fails(format('SELECT eduai.enqueue(''queue_graph'', ''{}'', unique_key => ''k'', depends_on => %L)', ARRAY[:other, :k]));
SELECT eduai.enqueue('queue_graph', '{}', unique_key => 'k', depends_on => ARRAY[:other]) = :k;

-- other tenants' tasks are unknown
RESET ROLE;
SELECT eduai.allow_tenant('regress_queue_graph', 'queue_graph_two');
SET ROLE regress_queue_graph;
SET eduai.tenant = 'queue_graph_two';
SELECT pg_temp.fails(format('SELECT eduai.add_dependency(%s, ''{}'')', :a));
SELECT pg_temp.ask() AS mine \gset
SELECT pg_temp.fails(format('SELECT eduai.add_dependency(%s, %L)', :mine, ARRAY[:a]));
SELECT eduai.cancel_task(:mine);

-- nothing is left over
SET eduai.tenant = 'queue_graph';
SELECT count(*) FILTER (WHERE eduai.cancel_task(t)) FROM unnest(ARRAY[:a, :other, :k, :scheduled]) t;
SELECT state FROM eduai.wait_tasks(ARRAY[:b, :c]);
RESET ROLE;
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE EXISTS (SELECT FROM eduai.task_dependency WHERE tenant_id = 'queue_graph') LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'edges were left';
		END IF;
	END LOOP;
END $$;
DROP FUNCTION pg_temp.ask, pg_temp.claim;
DELETE FROM eduai.task_type WHERE name = 'queue_graph';

RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_graph', 'queue_graph'), eduai.disallow_tenant('regress_queue_graph', 'queue_graph_two');
DROP OWNED BY regress_queue_graph;
DROP ROLE regress_queue_graph;
