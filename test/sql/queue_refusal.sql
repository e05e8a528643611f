-- Tasks that nothing serves: refused, deferred until something does, or skipped.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_refusal;
GRANT eduai_app TO regress_queue_refusal;
SELECT eduai.allow_tenant('regress_queue_refusal', 'queue_refusal');
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
SET ROLE regress_queue_refusal;
SET eduai.tenant = 'queue_refusal';

-- nothing serves the model, or the type with that model
SELECT pg_temp.fails($$SELECT eduai.enqueue('chat', '{"model": "queue_refusal"}')$$);
SELECT eduai.enqueue('chat', '{"model": "queue_refusal"}', on_refusal => 'skip') IS NULL;
SELECT eduai.enqueue('chat', '{"model": "queue_refusal", "messages": [{"role": "user", "content": "x"}]}', on_refusal => 'defer') AS deferred,
	eduai.enqueue('chat', '{"model": "queue_refusal_alias", "messages": [{"role": "user", "content": "x"}]}', 'high', on_refusal => 'defer') AS by_alias,
	eduai.enqueue('embeddings', '{"model": "queue_refusal", "input": "x"}', on_refusal => 'defer') AS embeddings \gset
SELECT state, attempt FROM eduai.wait_tasks(ARRAY[:deferred, :by_alias, :embeddings], '100 ms');

-- a critical task is no exception
SELECT pg_temp.fails($$SELECT eduai.enqueue('chat', '{"model": "queue_refusal"}', 'critical')$$);

-- what an application serves is never refused
SELECT eduai.enqueue('custom', '{"model": "queue_refusal"}') > 0;

-- once there is an instance, what was deferred completes
RESET ROLE;
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_refusal', 'mock', '');
SELECT eduai.add_instance('queue_refusal', 'queue_refusal', 'queue_refusal', options => '{"aliases": ["queue_refusal_alias"]}');
SET ROLE regress_queue_refusal;
SELECT state, attempt, instance FROM eduai.wait_tasks(ARRAY[:deferred, :by_alias]);
SELECT state FROM eduai.get_task(:embeddings);
SELECT pg_temp.fails($$SELECT eduai.enqueue('embeddings', '{"model": "queue_refusal", "input": "x"}')$$);

-- an instance that is disabled or draining is an outage, not an error: the task waits
RESET ROLE;
SELECT eduai.set_instance_state('queue_refusal', 'disabled');
SET ROLE regress_queue_refusal;
SELECT eduai.enqueue('chat', '{"model": "queue_refusal", "messages": [{"role": "user", "content": "x"}]}') AS disabled \gset
SELECT state FROM eduai.wait_task(:disabled, '100 ms');
RESET ROLE;
SELECT eduai.set_instance_state('queue_refusal', 'draining');
SET ROLE regress_queue_refusal;
SELECT state FROM eduai.wait_task(:disabled, '100 ms');
RESET ROLE;
SELECT eduai.set_instance_state('queue_refusal', 'active');
SET ROLE regress_queue_refusal;
SELECT state FROM eduai.wait_task(:disabled);

-- an instance for other tenants does not serve this one
RESET ROLE;
SELECT eduai.add_instance('queue_refusal', 'queue_refusal', 'queue_refusal', options => '{"tenants": ["somebody_else"]}');
SET ROLE regress_queue_refusal;
SELECT pg_temp.fails($$SELECT eduai.enqueue('chat', '{"model": "queue_refusal"}')$$);
RESET ROLE;
SELECT eduai.add_instance('queue_refusal', 'queue_refusal', 'queue_refusal', options => '{"tenants": ["somebody_else", "queue_refusal"]}');
SET ROLE regress_queue_refusal;
SELECT eduai.enqueue('chat', '{"model": "queue_refusal", "messages": [{"role": "user", "content": "x"}]}') AS listed \gset
SELECT state FROM eduai.wait_task(:listed);

-- a payload that the adapter cannot translate ends the task, with the reason
SELECT eduai.enqueue('chat', '{"model": "queue_refusal"}') AS malformed \gset
SELECT state, attempt, error ->> 'code', error ->> 'message' FROM eduai.wait_task(:malformed);
RESET ROLE;
SELECT eduai.remove_instance('queue_refusal');
SELECT eduai.remove_provider('queue_refusal');

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_refusal', 'queue_refusal');
DROP OWNED BY regress_queue_refusal;
DROP ROLE regress_queue_refusal;
