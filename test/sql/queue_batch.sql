-- enqueue_batch(): ids in input order, keys, users, refusals.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_batch;
GRANT eduai_app TO regress_queue_batch;
SELECT eduai.allow_tenant('regress_queue_batch', 'queue_batch');
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
SET ROLE regress_queue_batch;
SET eduai.tenant = 'queue_batch';

-- in the order of the payloads
SELECT eduai.enqueue_batch('custom', ARRAY['{"n": 1}', '{"n": 2}', '{"n": 3}']::jsonb[], 'low',
	user_ids => ARRAY['ann', NULL, 'bob'], metadata => '{"m": true}') AS ids \gset
SELECT task_type, priority, state, user_id, metadata FROM eduai.get_tasks(:'ids');
RESET ROLE;
SELECT payload FROM eduai.task WHERE task_id = ANY (:'ids') ORDER BY task_id;
SET ROLE regress_queue_batch;
SELECT :'ids'::bigint[] = (SELECT array_agg(i ORDER BY i) FROM unnest(:'ids'::bigint[]) i);

-- none
SELECT eduai.enqueue_batch('custom', '{}');
SELECT eduai.enqueue_batch('custom', '{}', user_ids => '{}', unique_keys => '{}');

-- many
SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE t.user_id = 'u' || n)
FROM unnest(eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[500]),
	user_ids => (SELECT array_agg('u' || n ORDER BY n) FROM generate_series(1, 500) n))) WITH ORDINALITY i (id, n),
	LATERAL eduai.get_task(id) t;

-- a key that lives gives its task's id, within the batch too
SELECT eduai.enqueue('custom', '{}', unique_key => 'living') AS living \gset
SELECT eduai.enqueue_batch('custom', ARRAY['{"n": 1}', '{"n": 2}', '{"n": 3}', '{"n": 4}', '{"n": 5}']::jsonb[],
	unique_keys => ARRAY['new', 'living', NULL, 'new', NULL]) AS ids \gset
SELECT (:'ids'::bigint[])[1] = (:'ids'::bigint[])[4] AS same_key, (:'ids'::bigint[])[2] = :living AS living,
	(SELECT count(DISTINCT i) FROM unnest(:'ids'::bigint[]) i);
RESET ROLE;
SELECT unique_key, payload FROM eduai.task WHERE task_id = ANY (:'ids') ORDER BY task_id;
SELECT count(*) FROM eduai.task WHERE tenant_id = 'queue_batch';

-- refused by the queue's limit: all, or with skip those beyond it
SET eduai.queue_max_size = 509;
SET ROLE regress_queue_batch;
SELECT count(*) FROM eduai.get_tasks(:'ids');
SELECT pg_temp.fails($$SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[3]))$$);
SELECT array_positions(array_replace(r, NULL, 0), 0), cardinality(r)
FROM eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[4]), on_refusal => 'skip') r;
SELECT cardinality(array_remove(r, NULL)), cardinality(r)
FROM eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[4]), on_refusal => 'defer') r;
SELECT cardinality(array_remove(r, NULL))
FROM eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[4]), 'critical') r;
-- a living key needs no place
SELECT eduai.enqueue_batch('custom', ARRAY['{}']::jsonb[], unique_keys => ARRAY['living']) = ARRAY[:living]::bigint[];
RESET ROLE;
RESET eduai.queue_max_size;

-- refused for want of an instance: by payload
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_batch', 'mock', '');
SELECT eduai.add_instance('queue_batch', 'queue_batch', 'queue_batch');
SET ROLE regress_queue_batch;
SELECT eduai.enqueue_batch('chat', ARRAY['{"model": "queue_batch", "messages": [{"role": "user", "content": "1"}]}',
	'{"model": "queue_batch_none"}',
	'{"model": "queue_batch", "messages": [{"role": "user", "content": "3"}]}']::jsonb[], on_refusal => 'skip') AS ids \gset
SELECT (:'ids'::bigint[])[2] IS NULL, cardinality(:'ids'::bigint[]);
SELECT state FROM eduai.wait_tasks(:'ids');
SELECT pg_temp.fails($$SELECT eduai.enqueue_batch('chat', ARRAY['{"model": "queue_batch"}', '{"model": "queue_batch_none"}']::jsonb[])$$);
SELECT count(*) FROM eduai.queue_status WHERE task_type = 'chat' AND ready + running > 0;
RESET ROLE;
SELECT eduai.remove_instance('queue_batch');
SELECT eduai.remove_provider('queue_batch');

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_batch', 'queue_batch');
DROP OWNED BY regress_queue_batch;
DROP ROLE regress_queue_batch;
