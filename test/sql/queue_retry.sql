-- Failures: which are tried again and when, what is recorded, retry_task().
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_retry;
GRANT eduai_app TO regress_queue_retry;
SELECT eduai.allow_tenant('regress_queue_retry', 'queue_retry');
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
SET eduai.allow_mock = on;
SELECT eduai.add_provider(name, 'mock', '', options => options::jsonb) FROM (VALUES
	('queue_retry_503', '{"status": 503, "code": "overloaded", "message": "come back"}'),
	('queue_retry_once', '{"status": 500, "fail_first": 1}'),
	('queue_retry_400', '{"status": 400, "code": "bad", "message": "no"}'),
	('queue_retry_a', '{"status": 503, "message": "a is down"}'),
	('queue_retry_b', '{"status": 503, "message": "b is down"}')) p (name, options);
SELECT eduai.add_instance(name, name, model) FROM (VALUES
	('queue_retry_503', 'queue_retry_503'), ('queue_retry_once', 'queue_retry_once'), ('queue_retry_400', 'queue_retry_400'),
	('queue_retry_a', 'queue_retry_two'), ('queue_retry_b', 'queue_retry_two')) p (name, model);
SET ROLE regress_queue_retry;
SET eduai.tenant = 'queue_retry';
CREATE FUNCTION pg_temp.ask(model text, attempts int) RETURNS bigint LANGUAGE sql AS $$
	SELECT eduai.enqueue('chat', jsonb_build_object('model', model, 'messages', '[{"role": "user", "content": "x"}]'::jsonb), max_attempts => attempts)
$$;

-- a failure that may pass: scheduled again after 0.5 to 1 s
SELECT pg_temp.ask('queue_retry_503', 2) AS task \gset
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE NOT EXISTS (SELECT FROM eduai.queue_status WHERE scheduled = 1) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the task was not scheduled again';
		END IF;
	END LOOP;
END $$;
SELECT state, attempt, error ->> 'code', error -> 'http_status', finished_at,
	run_at - (error -> 'attempts' -> 0 ->> 'at')::timestamptz BETWEEN '0.5 s' AND '1 s' FROM eduai.get_task(:task);

-- the last attempt failed: dead, with every attempt's error
SELECT state, attempt, result, error #- '{attempts,0,at}' #- '{attempts,1,at}', instance FROM eduai.wait_task(:task);
-- the second attempt began when it was due, not when something else happened
SELECT started_at >= run_at, started_at - run_at < '1 s' FROM eduai.get_task(:task);
SELECT task_id = :task, state, attempt, error ->> 'code', payload ->> 'model' FROM eduai.dead_letter;
SELECT attempt, outcome, code, http_status FROM eduai.usage_ledger WHERE task_id = :task ORDER BY attempt;
SELECT dead FROM eduai.queue_status;

-- taken back: as many attempts again, the numbers go on, earlier errors are kept
SELECT eduai.retry_task(:task);
SELECT state, attempt, jsonb_path_query_array(error, '$.attempts[*].attempt'), started_at - run_at < '1 s' FROM eduai.wait_task(:task);
SELECT attempt FROM eduai.usage_ledger WHERE task_id = :task ORDER BY attempt;

-- a retry that rolls back changes nothing
BEGIN;
SELECT eduai.retry_task(:task);
SELECT state FROM eduai.get_task(:task);
ROLLBACK;
SELECT state, attempt FROM eduai.get_task(:task);

-- one failure, then the answer: completed, without an error
SELECT pg_temp.ask('queue_retry_once', 3) AS task \gset
SELECT state, attempt, result ->> 'text', error FROM eduai.wait_task(:task);
SELECT attempt, outcome FROM eduai.usage_ledger WHERE task_id = :task ORDER BY attempt;
SELECT eduai.retry_task(:task);

-- a failure that will not pass ends the task at once
SELECT pg_temp.ask('queue_retry_400', 3) AS task \gset
SELECT state, attempt, error ->> 'code', error ->> 'message', error -> 'http_status', jsonb_array_length(error -> 'attempts')
FROM eduai.wait_task(:task);

-- where another instance serves the model, the next attempt goes there at once
SELECT pg_temp.ask('queue_retry_two', 2) AS task \gset
SELECT state, attempt, (SELECT count(DISTINCT a ->> 'instance') FROM jsonb_array_elements(error -> 'attempts') a),
	run_at = (error -> 'attempts' -> 0 ->> 'at')::timestamptz FROM eduai.wait_task(:task);

-- max_attempts of the type
RESET ROLE;
SELECT eduai.define_task_type('queue_retry', 'gateway', 'chat', max_attempts => 1);
SELECT eduai.add_instance('queue_retry_503', 'queue_retry_503', 'queue_retry_503', '{chat,queue_retry}');
SET ROLE regress_queue_retry;
SELECT eduai.enqueue('queue_retry', '{"model": "queue_retry_503", "messages": [{"role": "user", "content": "x"}]}') AS task \gset
SELECT state, attempt FROM eduai.wait_task(:task);

-- the provider's wish is kept, if it is longer than the backoff
RESET ROLE;
SELECT eduai.add_provider('queue_retry_503', 'mock', '', options => '{"status": 429, "retry_after_ms": 20000}');
SET ROLE regress_queue_retry;
SELECT pg_temp.ask('queue_retry_503', 2) AS task \gset
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE NOT EXISTS (SELECT FROM eduai.queue_status WHERE scheduled = 1) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the task was not scheduled again';
		END IF;
	END LOOP;
END $$;
SELECT state, run_at - (error -> 'attempts' -> 0 ->> 'at')::timestamptz BETWEEN '20 s' AND '22 s' FROM eduai.get_task(:task);
SELECT eduai.cancel_task(:task);

-- not to be taken back: unknown, living, completed
SELECT eduai.retry_task(-1), eduai.retry_task(eduai.enqueue('custom', '{}')), eduai.retry_task(NULL);
RESET ROLE;
DELETE FROM eduai.task_type WHERE name = 'queue_retry';
SELECT eduai.remove_instance(name), eduai.remove_provider(provider) FROM eduai.instance WHERE name LIKE 'queue\_retry\_%' ORDER BY name;
DROP FUNCTION pg_temp.ask;

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_retry', 'queue_retry');
DROP OWNED BY regress_queue_retry;
DROP ROLE regress_queue_retry;
