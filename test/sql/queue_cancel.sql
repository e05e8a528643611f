-- cancel_task(): of waiting, scheduled, ready and running tasks; at commit.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_cancel;
GRANT eduai_app TO regress_queue_cancel;
SELECT eduai.allow_tenant('regress_queue_cancel', 'queue_cancel');
SET eduai.allow_mock = on;
SELECT eduai.add_provider('queue_cancel', 'mock', '', options => '{"latency_ms": 600000}');
SELECT eduai.add_instance('queue_cancel', 'queue_cancel', 'queue_cancel');
SELECT eduai.add_provider('queue_cancel_quick', 'mock', '');
SELECT eduai.add_instance('queue_cancel_quick', 'queue_cancel_quick', 'queue_cancel_quick');
-- waits until the task is in the state
CREATE PROCEDURE pg_temp.reach(task bigint, wanted text) LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE (SELECT state FROM eduai.get_task(task)) <> wanted LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the task did not become %', wanted;
		END IF;
		PERFORM eduai.wait_task(task, '10 ms');
	END LOOP;
END $$;
SET ROLE regress_queue_cancel;
SET eduai.tenant = 'queue_cancel';

-- not started yet
SELECT eduai.enqueue('custom', '{}') AS ready, eduai.enqueue('custom', '{}', run_at => now() + interval '1 day') AS scheduled \gset
SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[:ready]::bigint[]) AS waiting \gset
SELECT eduai.cancel_task(:waiting), eduai.cancel_task(:scheduled), eduai.cancel_task(:ready);
SELECT state, attempt, result, error, finished_at >= enqueued_at FROM eduai.get_tasks(ARRAY[:waiting, :scheduled, :ready]);

-- final already, or unknown
SELECT eduai.cancel_task(:ready), eduai.cancel_task(-1), eduai.cancel_task(NULL);
SELECT eduai.enqueue('chat', '{"model": "queue_cancel_quick", "messages": [{"role": "user", "content": "x"}]}') AS done \gset
SELECT state FROM eduai.wait_task(:done);
SELECT eduai.cancel_task(:done);
SELECT state FROM eduai.get_task(:done);

-- a cancel that rolls back changes nothing
SELECT eduai.enqueue('custom', '{}') AS kept \gset
BEGIN;
SELECT eduai.cancel_task(:kept);
SELECT state FROM eduai.get_task(:kept);
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT eduai.cancel_task(:kept);
ROLLBACK TO s;
COMMIT;
SELECT state, finished_at FROM eduai.get_task(:kept);

-- a running task: the transfer is aborted, the call is in the ledger, no result comes
SELECT eduai.enqueue('chat', '{"model": "queue_cancel", "messages": [{"role": "user", "content": "x"}]}') AS running \gset
CALL pg_temp.reach(:running, 'running');
BEGIN;
SELECT eduai.cancel_task(:running);
ROLLBACK;
SELECT state FROM eduai.get_task(:running);
SELECT eduai.cancel_task(:running);
SELECT state, attempt, result, error, instance FROM eduai.wait_task(:running);
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE NOT EXISTS (SELECT FROM eduai.usage_ledger WHERE instance = 'queue_cancel') LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the call was not aborted';
		END IF;
	END LOOP;
END $$;
SELECT attempt, outcome, code, cost_usd, ms < 590000 FROM eduai.usage_ledger WHERE task_id = :running;
SELECT state FROM eduai.get_task(:running);

-- its slot is free again: more of them than the pool is wide
SELECT eduai.enqueue_batch('chat', array_fill('{"model": "queue_cancel", "messages": [{"role": "user", "content": "x"}]}'::jsonb, ARRAY[6])) AS ids \gset
SELECT count(*) FILTER (WHERE eduai.cancel_task(id)) FROM unnest(:'ids'::bigint[]) id;
SELECT eduai.enqueue('chat', '{"model": "queue_cancel_quick", "messages": [{"role": "user", "content": "x"}]}') AS after \gset
SELECT state FROM eduai.wait_task(:after);

-- a running task of an application: its worker's answers are refused
RESET ROLE;
GRANT eduai_worker TO regress_queue_cancel;
SELECT eduai.define_task_type('queue_cancel', 'application', 'custom');
SET ROLE regress_queue_cancel;
SELECT eduai.enqueue('queue_cancel', '{}') AS leased \gset
SELECT task_id = :leased, attempt FROM eduai.claim_tasks('w', '{queue_cancel}');
SELECT eduai.cancel_task(:leased);
SELECT state, attempt FROM eduai.get_task(:leased);
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT pg_temp.fails(format(s, :leased)) FROM unnest(ARRAY['SELECT eduai.complete_task(%s, 1)', 'SELECT eduai.fail_task(%s, 1, $$x$$)',
	'SELECT eduai.extend_lease(%s, 1)']) s;
SELECT eduai.retry_task(:leased);
SELECT task_id = :leased, attempt FROM eduai.claim_tasks('w', '{queue_cancel}');
SELECT pg_temp.fails(format('SELECT eduai.complete_task(%s, 1)', :leased)), pg_temp.fails(format('SELECT eduai.complete_task(%s, 2)', :leased));
SELECT state, attempt FROM eduai.get_task(:leased);
DROP FUNCTION pg_temp.fails;

-- cancelled and taken back: a new attempt, and the first one's end does not touch it
SELECT eduai.enqueue('chat', '{"model": "queue_cancel", "messages": [{"role": "user", "content": "x"}]}') AS again \gset
CALL pg_temp.reach(:again, 'running');
BEGIN;
SELECT eduai.cancel_task(:again), eduai.retry_task(:again);
COMMIT;
SELECT set_config('queue_cancel.again', :'again', false) = :'again';
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	WHILE NOT EXISTS (SELECT FROM eduai.usage_ledger WHERE task_id = current_setting('queue_cancel.again')::bigint) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the first attempt was not aborted';
		END IF;
	END LOOP;
END $$;
SELECT attempt, outcome FROM eduai.usage_ledger WHERE task_id = :again;
CALL pg_temp.reach(:again, 'running');
SELECT state, attempt, result, error FROM eduai.get_task(:again);
SELECT eduai.cancel_task(:again);
RESET ROLE;
DROP PROCEDURE pg_temp.reach;
SELECT eduai.remove_instance('queue_cancel'), eduai.remove_instance('queue_cancel_quick');
SELECT eduai.remove_provider('queue_cancel'), eduai.remove_provider('queue_cancel_quick');

RESET ROLE;
DELETE FROM eduai.task_type WHERE name = 'queue_cancel';
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_cancel', 'queue_cancel');
DROP OWNED BY regress_queue_cancel;
DROP ROLE regress_queue_cancel;
