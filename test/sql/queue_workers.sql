-- Applications' workers: claim_tasks(), complete_task(), complete_tasks(),
-- fail_task(), extend_lease(); what they refuse, who may call them.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_workers;
CREATE ROLE regress_queue_workers_app;
CREATE ROLE regress_queue_workers_other;
GRANT eduai_app, eduai_worker TO regress_queue_workers;
GRANT eduai_app TO regress_queue_workers_app;
GRANT eduai_app, eduai_worker TO regress_queue_workers_other;
SELECT eduai.allow_tenant('regress_queue_workers', 'queue_workers');
SELECT eduai.allow_tenant('regress_queue_workers_other', 'queue_workers_other');
SELECT eduai.configure_pool('queue_workers', '{}', 100);
SELECT eduai.define_task_type('queue_workers', 'application', 'queue_workers', max_attempts => 2);
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
	h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN regexp_replace(concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, ''), nullif(h, '')), 'task \d+', 'task N');
END $$;
-- claims until there is something: a task that is due soon, or given back by the dispatcher
CREATE FUNCTION pg_temp.claim_one(OUT task_id bigint, OUT attempt int, OUT parents jsonb) LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE task_id IS NULL LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'there was nothing to claim';
		END IF;
		SELECT c.task_id, c.attempt, c.parents INTO task_id, attempt, parents
		FROM eduai.claim_tasks('w', '{queue_workers}', lease => '1 min', wait => '1 s') c;
	END LOOP;
END $$;
-- says that the worker lives until that is refused
CREATE FUNCTION pg_temp.heartbeat(task bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE clock_timestamp() < deadline LOOP
		PERFORM eduai.extend_lease(task, 1, '1 min');
	END LOOP;
	RETURN 'for ever';
EXCEPTION WHEN SQLSTATE 'UE009' THEN
	RETURN 'to its end';
END $$;
SET ROLE regress_queue_workers;
SET eduai.tenant = 'queue_workers';

-- a claim: the most urgent first, then the oldest; what it says of each
SELECT eduai.enqueue('queue_workers', '{"n": 1}', user_id => 'ada', metadata => '{"k": "v"}') AS a,
	eduai.enqueue('queue_workers', '{"n": 2}') AS b, eduai.enqueue('queue_workers', '{"n": 3}', 'critical') AS c,
	eduai.enqueue('queue_workers', '{"n": 4}') AS d \gset
SELECT attempt, task_type, payload, lease_until > now() + interval '50 s' AND lease_until <= clock_timestamp() + interval '1 min' AS lease,
	user_id, metadata, parents FROM eduai.claim_tasks('w1', '{queue_workers,queue_workers,custom}', 3, lease => '1 min');
SELECT state, attempt, started_at IS NOT NULL, instance, result, error FROM eduai.get_tasks(ARRAY[:a, :b, :c, :d]);
SELECT payload FROM eduai.claim_tasks('w2', task_types => '{queue_workers}');
SELECT count(*) FROM eduai.claim_tasks('w2', '{queue_workers}', 10);
SELECT worker, task_types, leases, last_seen > now() - interval '1 min' FROM eduai.worker_status ORDER BY worker;

-- completing: with a result of any kind, with none, with a cost
SELECT eduai.complete_task(:a, 1, '{"text": "done"}', 0.25);
SELECT eduai.complete_task(task_id => :b, attempt => 1);
SELECT eduai.complete_task(:c, 1, '[1, "two"]');
SELECT eduai.complete_task(:d, 1, result => '"four"', cost_usd => 0);
SELECT state, attempt, result, error, cost_usd, finished_at IS NOT NULL FROM eduai.get_tasks(ARRAY[:a, :b, :c, :d]);
SELECT worker, leases FROM eduai.worker_status ORDER BY worker;

-- what was superseded: final, unknown, never claimed, of another number, the gateway's
SELECT pg_temp.fails(format('SELECT eduai.complete_task(%s, 1)', :a));
SELECT pg_temp.fails(format('SELECT eduai.fail_task(%s, 1, %L)', :a, 'x'));
SELECT pg_temp.fails(format('SELECT eduai.extend_lease(%s, 1)', :a));
SELECT pg_temp.fails('SELECT eduai.complete_task(-1, 1)');
SELECT eduai.enqueue('queue_workers', '{}') AS e \gset
SELECT pg_temp.fails(format('SELECT eduai.complete_task(%s, 0)', :e));
SELECT pg_temp.fails(format('SELECT eduai.complete_task(%s, 1)', :e));
SELECT count(*) FROM eduai.claim_tasks('w1', '{queue_workers}');
SELECT pg_temp.fails(format('SELECT eduai.extend_lease(%s, 2)', :e));
SELECT eduai.cancel_task(:e);
SELECT pg_temp.fails(format('SELECT eduai.complete_task(%s, 1)', :e));
SELECT pg_temp.fails(format('SELECT eduai.extend_lease(%s, 1, progress => %L)', :e, '{}'));

-- failing: tried again, after the wish if that is longer; dead at once, or when used up
SELECT eduai.enqueue('queue_workers', '{}') AS f, eduai.enqueue('queue_workers', '{}') AS g \gset
SELECT count(*) FROM eduai.claim_tasks('w1', '{queue_workers}', 10);
SELECT eduai.fail_task(:f, 1, E'no\x01 luck\nat all', retry_after => '1 hour');
SELECT eduai.fail_task(:g, 1, repeat('ä', 2000), retry => false);
SELECT state, run_at > now() + interval '59 min', error ->> 'code', error ->> 'message' = E'no  luck\nat all',
	octet_length(error ->> 'message'), jsonb_array_length(error -> 'attempts') FROM eduai.get_tasks(ARRAY[:f, :g]);
SELECT pg_temp.fails(format('SELECT eduai.fail_task(%s, 1, %L)', :f, 'again'));
SELECT eduai.cancel_task(:f);
SELECT eduai.enqueue('queue_workers', '{}') AS h \gset
SELECT task_id = :h, attempt FROM pg_temp.claim_one();
SELECT eduai.fail_task(:h, 1, 'first');
SELECT task_id = :h, attempt FROM pg_temp.claim_one();
SELECT pg_temp.fails(format('SELECT eduai.complete_task(%s, 1)', :h));
SELECT eduai.fail_task(:h, 2, 'second');
SELECT state, attempt, error ->> 'message', jsonb_path_query_array(error, '$.attempts[*].message') FROM eduai.get_task(:h);

-- a batch: one lost lease does not cost the others their results
SELECT array_agg(eduai.enqueue('queue_workers', '{}') ORDER BY n) AS batch FROM generate_series(1, 4) n \gset
SELECT count(*) FROM eduai.claim_tasks('w1', '{queue_workers}', 10);
SELECT eduai.cancel_task((:'batch'::bigint[])[2]);
SELECT pg_temp.fails(format('SELECT eduai.complete_tasks(%L, %L, on_stale => %L)', :'batch', '{1,1,1,1}', 'error'));
SELECT state FROM eduai.get_tasks(:'batch');
SELECT eduai.complete_tasks(:'batch', '{1,1,2,1}', ARRAY['{"i": 1}', '{"i": 2}', '{"i": 3}', NULL]::jsonb[], '{0.5,NULL,NULL,2}');
SELECT state, result, cost_usd FROM eduai.get_tasks(:'batch');
SELECT eduai.complete_tasks(ARRAY[(:'batch'::bigint[])[3]], '{1}', on_stale => 'error');
SELECT eduai.complete_tasks('{}', '{}');

-- heartbeats: with progress, which the task shows
SELECT eduai.enqueue('queue_workers', '{}') AS i \gset
SELECT count(*) FROM eduai.claim_tasks('w1', '{queue_workers}', lease => '2 s');
SELECT eduai.extend_lease(:i, 1, '4 min') BETWEEN now() + interval '239 s' AND clock_timestamp() + interval '4 min';
-- not beyond the attempt's timeout of 5 minutes
SELECT eduai.extend_lease(:i, 1, '1 hour') BETWEEN now() + interval '290 s' AND clock_timestamp() + interval '5 min';
SELECT progress FROM eduai.get_task(:i);
SELECT eduai.extend_lease(:i, 1, progress => '{"current": 2, "total": 10, "message": "page 2", "text": null}') > now();
SELECT state, attempt, progress FROM eduai.get_task(:i);
BEGIN;
SELECT eduai.extend_lease(:i, 1, progress => '{"current": 3}') > now();
ROLLBACK;
SELECT progress FROM eduai.get_task(:i);
SELECT eduai.complete_task(:i, 1);
SELECT state, progress FROM eduai.get_task(:i);

-- an attempt lasts no longer than its timeout, however often its worker is heard of
SELECT eduai.enqueue('queue_workers', '{}', timeout => '500 ms') AS t \gset
SELECT lease_until < clock_timestamp() + interval '501 ms' FROM eduai.claim_tasks('w1', '{queue_workers}', lease => '1 min');
SELECT pg_temp.heartbeat(:t);
SELECT task_id = :t, attempt FROM pg_temp.claim_one();
SELECT error ->> 'code', error ->> 'message' FROM eduai.get_task(:t);
-- the second attempt, too, has half a second only
SELECT eduai.cancel_task(:t) IS NOT NULL;

-- a transaction that rolls back, or a savepoint, claims and ends nothing
SELECT eduai.enqueue('queue_workers', '{}') AS j \gset
BEGIN;
SELECT count(*) FROM eduai.claim_tasks('w1', '{queue_workers}');
SELECT eduai.complete_task(:j, 1);
ROLLBACK;
SELECT state, attempt FROM eduai.get_task(:j);
BEGIN;
SAVEPOINT s;
SELECT count(*) FROM eduai.claim_tasks('w1', '{queue_workers}');
ROLLBACK TO s;
SELECT attempt FROM eduai.claim_tasks('w1', '{queue_workers}');
SAVEPOINT s;
SELECT eduai.complete_task(:j, 1, '"lost"');
ROLLBACK TO s;
SELECT eduai.complete_task(:j, 1, '"kept"');
COMMIT;
SELECT state, attempt, result FROM eduai.get_task(:j);
SELECT worker, leases FROM eduai.worker_status ORDER BY worker;

-- nothing in a transaction that is prepared, nothing in one that only reads
SELECT eduai.enqueue('queue_workers', '{}') AS k \gset
BEGIN;
SELECT count(*) FROM eduai.claim_tasks('w1', '{queue_workers}');
PREPARE TRANSACTION 'queue_workers';
BEGIN READ ONLY;
SELECT pg_temp.fails($$SELECT * FROM eduai.claim_tasks('w1', '{queue_workers}')$$);
SELECT pg_temp.fails(format('SELECT eduai.complete_task(%s, 1)', :k));
COMMIT;
-- a snapshot that is older than the task does not hide it
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM eduai.claim_tasks('w1', '{queue_workers}', 10);
SELECT eduai.complete_task(:k, 1);
COMMIT;
SELECT state FROM eduai.get_task(:k);

-- parents' results come with the task
SELECT eduai.enqueue('queue_workers', '{}') AS p \gset
SELECT eduai.enqueue('queue_workers', '{}', depends_on => ARRAY[:p]::bigint[]) AS child \gset
SELECT task_id = :p, parents FROM pg_temp.claim_one();
SELECT eduai.complete_task(:p, 1, '{"text": "from the parent"}');
SELECT task_id = :child, jsonb_path_query_array(parents, '$[*].state'), jsonb_path_query_array(parents, '$[*].result') FROM pg_temp.claim_one();
SELECT eduai.complete_task(:child, 1);

-- bad input
SELECT pg_temp.fails(format('SELECT * FROM eduai.claim_tasks(%s)', args)) FROM (VALUES
	(1, $$NULL, '{queue_workers}'$$), (2, $$'', '{queue_workers}'$$), (3, $$repeat('x', 64), '{queue_workers}'$$),
	(4, $$'w', NULL$$), (5, $$'w', '{}'$$), (6, $$'w', ARRAY[NULL]::text[]$$), (7, $$'w', '{nothing}'$$), (8, $$'w', '{chat}'$$),
	(9, $$'w', '{queue_workers}', 0$$), (10, $$'w', '{queue_workers}', 10001$$), (11, $$'w', '{queue_workers}', NULL$$),
	(12, $$'w', '{queue_workers}', lease => '-1 s'$$), (13, $$'w', '{queue_workers}', lease => '1 day 1 s'$$), (14, $$'w', '{queue_workers}', lease => NULL$$),
	(15, $$'w', '{queue_workers}', wait => '-1 s'$$), (16, $$'w', '{queue_workers}', wait => '2 days'$$), (17, $$'w', '{queue_workers}', wait => NULL$$)) v (n, args) ORDER BY n;
SELECT pg_temp.fails('SELECT eduai.' || call) FROM (VALUES
	(1, 'complete_task(NULL, 1)'), (2, 'complete_task(1, NULL)'), (3, 'complete_task(1, 1, cost_usd => -0.01)'), (4, $$complete_task(1, 1, cost_usd => 'NaN')$$),
	(5, 'complete_tasks(NULL, NULL)'), (6, $$complete_tasks('{1,2}', '{1}')$$), (7, $$complete_tasks('{1,1}', '{1,1}')$$), (8, $$complete_tasks('{1,NULL}', '{1,1}')$$),
	(9, $$complete_tasks('{1}', '{1}', '{}')$$), (10, $$complete_tasks('{1}', '{1}', costs_usd => '{1,2}')$$), (11, $$complete_tasks('{1}', '{1}', on_stale => 'weep')$$),
	(12, 'fail_task(1, 1, NULL)'), (13, $$fail_task(1, 1, 'x', NULL)$$), (14, $$fail_task(1, 1, 'x', retry_after => '-1 s')$$), (15, $$fail_task(1, 1, 'x', retry_after => '2 days')$$),
	(16, 'extend_lease(1, 1, NULL)'), (17, $$extend_lease(1, 1, '0 s')$$), (18, $$extend_lease(1, 1, progress => '3')$$), (19, $$extend_lease(1, 1, progress => '{"current": "3"}')$$),
	(20, $$extend_lease(1, 1, progress => '{"done": 3}')$$), (21, $$extend_lease(1, 1, progress => jsonb_build_object('text', repeat('x', 10000)))$$)) v (n, call) ORDER BY n;

-- another tenant sees none of it; a role that only enqueues may not claim
SELECT eduai.enqueue('queue_workers', '{}') AS l \gset
SELECT task_id = :l AS ours, attempt FROM eduai.claim_tasks('w1', '{queue_workers}');
SET ROLE regress_queue_workers_other;
SET eduai.tenant = 'queue_workers_other';
SELECT count(*) FROM eduai.claim_tasks('w1', '{queue_workers}', 10);
SELECT pg_temp.fails(format('SELECT eduai.complete_task(%s, 1)', :l));
SELECT pg_temp.fails(format('SELECT eduai.fail_task(%s, 1, %L)', :l, 'x'));
SELECT pg_temp.fails(format('SELECT eduai.extend_lease(%s, 1)', :l));
SELECT eduai.complete_tasks(ARRAY[:l]::bigint[], '{1}');
SELECT worker, leases FROM eduai.worker_status ORDER BY worker;
SET eduai.tenant = 'queue_workers';
SELECT pg_temp.fails($$SELECT * FROM eduai.claim_tasks('w1', '{queue_workers}')$$);
SELECT pg_temp.fails(format('SELECT eduai.complete_task(%s, 1)', :l));
SET ROLE regress_queue_workers_app;
SET eduai.tenant = 'default';
SELECT pg_temp.fails($$SELECT * FROM eduai.claim_tasks('w1', '{queue_workers}')$$);
SELECT pg_temp.fails('SELECT eduai.' || call) FROM unnest(ARRAY['complete_task(1, 1)', $$complete_tasks('{1}', '{1}')$$, $$fail_task(1, 1, 'x')$$, 'extend_lease(1, 1)']) call;
SET ROLE regress_queue_workers;
SET eduai.tenant = 'queue_workers';
SELECT eduai.complete_task(:l, 1);

-- an embedding is an array of numbers, whichever way it was given
SELECT eduai.task_embedding(:l) IS NULL;
SELECT eduai.enqueue_batch('queue_workers', ARRAY['{}', '{}', '{}']::jsonb[]) AS vectors \gset
SELECT count(eduai.complete_task(task_id, attempt, (ARRAY['{"embedding": [0.5, -1, 2e-3]}', '{"embeddings": [[1, 2], [3]]}', '{"embedding": "none"}']::jsonb[])[array_position(:'vectors'::bigint[], task_id)]))
FROM eduai.claim_tasks('w1', '{queue_workers}', 3);
SELECT eduai.task_embedding(v) FROM unnest(:'vectors'::bigint[]) WITH ORDINALITY u (v, n) ORDER BY n;

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_workers', 'queue_workers');
SELECT eduai.disallow_tenant('regress_queue_workers_other', 'queue_workers_other');
DROP ROLE regress_queue_workers;
DROP ROLE regress_queue_workers_app;
DROP ROLE regress_queue_workers_other;
