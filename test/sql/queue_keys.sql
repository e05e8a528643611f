-- unique_key: one living task; idempotency_key: one task in 24 hours.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_keys;
GRANT eduai_app TO regress_queue_keys;
SELECT eduai.allow_tenant('regress_queue_keys', 'queue_keys');
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
SET ROLE regress_queue_keys;
SET eduai.tenant = 'queue_keys';

-- a living task with the key is returned, whatever else is asked for
SELECT eduai.enqueue('custom', '{"n": 1}', unique_key => 'k') AS first \gset
SELECT eduai.enqueue('custom', '{"n": 2}', 'high', unique_key => 'k', user_id => 'ann', on_refusal => 'skip') = :first;
SELECT eduai.enqueue('chat', '{}', unique_key => 'k', on_refusal => 'defer') = :first;
SELECT eduai.enqueue('custom', '{}', unique_key => 'K') <> :first, eduai.enqueue('custom', '{}') <> :first;

-- in every state that is not final
SELECT eduai.enqueue('custom', '{}', run_at => now() + interval '1 day', unique_key => 'scheduled') AS scheduled,
	eduai.enqueue('custom', '{}', depends_on => ARRAY[:first]::bigint[], unique_key => 'waiting') AS waiting \gset
SELECT eduai.enqueue('custom', '{}', unique_key => 'scheduled') = :scheduled, eduai.enqueue('custom', '{}', unique_key => 'waiting') = :waiting;

-- once it is final the key is free
SELECT eduai.cancel_task(:first);
SELECT eduai.enqueue('custom', '{"n": 3}', unique_key => 'k') AS second \gset
SELECT :second <> :first, eduai.enqueue('custom', '{}', unique_key => 'k') = :second;

-- so the old one cannot come back while the new one lives
SELECT pg_temp.fails('SELECT eduai.retry_task(' || :first || ')');
SELECT state FROM eduai.get_task(:first);
SELECT eduai.cancel_task(:second);
SELECT eduai.retry_task(:first);
SELECT eduai.enqueue('custom', '{}', unique_key => 'k') = :first;

-- a rolled back task holds no key
BEGIN;
SELECT eduai.enqueue('custom', '{}', unique_key => 'gone') AS gone \gset
SELECT eduai.enqueue('custom', '{}', unique_key => 'gone') = :gone;
ROLLBACK;
SELECT eduai.enqueue('custom', '{}', unique_key => 'gone') <> :gone;

-- another tenant has keys of its own
RESET ROLE;
SELECT eduai.allow_tenant('regress_queue_keys', 'queue_keys_2');
SET ROLE regress_queue_keys;
SET eduai.tenant = 'queue_keys_2';
SELECT eduai.enqueue('custom', '{}', unique_key => 'k') <> :first;
SET eduai.tenant = 'queue_keys';

-- idempotency: the same content gives the same id whatever became of the task
SELECT eduai.enqueue('custom', '{"n": 1, "m": 2}', idempotency_key => 'i', user_id => 'ann') AS task \gset
SELECT eduai.enqueue('custom', '{"m": 2, "n": 1}', idempotency_key => 'i', user_id => 'ann') = :task;
SELECT eduai.cancel_task(:task);
SELECT eduai.enqueue('custom', '{"n": 1, "m": 2}', idempotency_key => 'i', user_id => 'ann') = :task;
SELECT state FROM eduai.get_task(:task);

-- other content is refused: payload, type, priority or learner
CREATE FUNCTION pg_temp.conflict(arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(pg_temp.fails('SELECT eduai.enqueue(' || arguments || $a$, idempotency_key => 'i', on_refusal => 'skip')$a$), 'Task \d+', 'Task N')
$$;
SELECT pg_temp.conflict($$'custom', '{"n": 1}', user_id => 'ann'$$);
SELECT pg_temp.conflict($$'chat', '{"n": 1, "m": 2}', user_id => 'ann'$$);
SELECT pg_temp.conflict($$'custom', '{"n": 1, "m": 2}', 'high', user_id => 'ann'$$);
SELECT pg_temp.conflict($$'custom', '{"n": 1, "m": 2}', user_id => 'bob'$$);
SELECT pg_temp.conflict($$'custom', '{"n": 1, "m": 2}'$$);

-- after 24 hours the key is free
RESET ROLE;
UPDATE eduai.task_request SET enqueued_at = enqueued_at - interval '23 hours 59 minutes' WHERE task_id = :task;
SET ROLE regress_queue_keys;
SELECT eduai.enqueue('custom', '{"n": 1, "m": 2}', idempotency_key => 'i', user_id => 'ann') = :task;
RESET ROLE;
UPDATE eduai.task_request SET enqueued_at = enqueued_at - interval '2 minutes' WHERE task_id = :task;
SET ROLE regress_queue_keys;
SELECT eduai.enqueue('custom', '{"n": 9}', idempotency_key => 'i') AS later \gset
SELECT :later <> :task, eduai.enqueue('custom', '{"n": 9}', idempotency_key => 'i') = :later;

-- both keys: the idempotency key is asked first; a unique key is no idempotency key
SELECT eduai.enqueue('custom', '{}', unique_key => 'k', idempotency_key => 'j') = :first;
SELECT eduai.enqueue('custom', '{"other": true}', unique_key => 'unused', idempotency_key => 'j') > 0;
SELECT eduai.enqueue('custom', '{"n": 9}', unique_key => 'k', idempotency_key => 'i') = :later;
SELECT eduai.enqueue('custom', '{}', unique_key => 'i') NOT IN (:task, :later);

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_keys', 'queue_keys_2');

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_keys', 'queue_keys');
DROP OWNED BY regress_queue_keys;
DROP ROLE regress_queue_keys;
