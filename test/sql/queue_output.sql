-- task_output() and append_output(): order, ends, attempts, characters, tenants.
\pset format unaligned
\pset tuples_only on
\pset null NULL
CREATE ROLE regress_queue_output;
GRANT eduai_app, eduai_worker TO regress_queue_output;
SELECT eduai.allow_tenant('regress_queue_output', 'queue_output');
SELECT eduai.allow_tenant('regress_queue_output', 'queue_output_2');
GRANT EXECUTE ON FUNCTION eduai.test_append_output(bigint, int, bytea) TO regress_queue_output;
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
-- a task whose attempt runs, and how it ends; the rows are written here, so that
-- the test depends on nothing but its subject
CREATE FUNCTION pg_temp.start(task bigint, attempt int) RETURNS void LANGUAGE sql SECURITY DEFINER
	AS 'UPDATE eduai.task_live SET state = ''running'', lane = NULL, ready_key = NULL, attempt = $2 WHERE task_id = $1';
CREATE FUNCTION pg_temp.turns(task bigint, end_state text, result jsonb) RETURNS void LANGUAGE sql SECURITY DEFINER
	AS 'UPDATE eduai.task_end SET state = $2, result = $3 WHERE task_id = $1';
CREATE FUNCTION pg_temp.stands(task bigint, state text, attempt int, progress jsonb) RETURNS void LANGUAGE sql SECURITY DEFINER
	AS 'UPDATE eduai.task_live SET state = $2, attempt = $3, progress = $4 WHERE task_id = $1';
SET ROLE regress_queue_output;
SET eduai.tenant = 'queue_output';

-- as it came, from the beginning or after a number
SELECT eduai.enqueue('custom', '{}', expires_at => now() + interval '1 day') AS t \gset
SELECT pg_temp.start(:t, 1);
SELECT eduai.append_output(:t, 1, 'Once ');
SELECT eduai.append_output(:t, 1, 'üpon ');
SELECT eduai.append_output(:t, 1, '');
SELECT eduai.append_output(:t, 1, NULL);
SELECT eduai.append_output(:t, 1, 'a time');
SELECT * FROM eduai.task_output(:t);
SELECT * FROM eduai.task_output(:t, 1);
SELECT * FROM eduai.task_output(:t, after_seq => 2, wait => '1 day');
-- the same in the task's progress: its worker's own text comes first, nobody else's is shown
SELECT progress FROM eduai.get_task(:t);
SELECT progress FROM eduai.get_tasks(ARRAY[:t]);
SELECT (eduai.wait_task(:t, '0 s')).progress;
SELECT pg_temp.stands(:t, 'running', 1, '{"current": 3, "total": 7}');
SELECT progress FROM eduai.get_task(:t);
SELECT pg_temp.stands(:t, 'running', 1, '{"text": "my own"}');
SELECT progress FROM eduai.get_task(:t);
SELECT pg_temp.stands(:t, 'running', 2, NULL);
SELECT progress FROM eduai.get_task(:t);
SELECT pg_temp.stands(:t, 'ready', 1, '{"total": 7}');
SELECT progress FROM eduai.get_task(:t);
SELECT pg_temp.stands(:t, 'running', 1, NULL);
-- nothing new, unknown, null
SELECT count(*) FROM eduai.task_output(:t, 3, '0 s');
SELECT clock_timestamp() AS before \gset
SELECT count(*) FROM eduai.task_output(:t, 3, '150 ms');
SELECT clock_timestamp() - :'before' BETWEEN '150 ms' AND '20 s';
SELECT count(*) FROM eduai.task_output(-1, 0, '1 day');
SELECT count(*) FROM eduai.task_output(NULL);

-- another tenant sees and adds nothing
SET eduai.tenant = 'queue_output_2';
SELECT count(*) FROM eduai.task_output(:t, 0, '1 day');
SELECT pg_temp.fails(format('SELECT eduai.append_output(%s, 1, ''mine'')', :t));
SET eduai.tenant = 'queue_output';

-- it stays when the transaction rolls back
BEGIN;
SELECT eduai.append_output(:t, 1, ' there');
ROLLBACK;
SELECT * FROM eduai.task_output(:t, 3);

-- only the attempt that runs
SELECT pg_temp.fails(format('SELECT eduai.append_output(%s, 2, ''x'')', :t));
SELECT pg_temp.fails(format('SELECT eduai.append_output(%s, 0, ''x'')', :t));
SELECT pg_temp.fails('SELECT eduai.append_output(-1, 1, ''x'')');
SELECT eduai.enqueue('custom', '{}', expires_at => now() + interval '1 day') AS ready \gset
SELECT left(pg_temp.fails(format('SELECT eduai.append_output(%s, 0, ''x'')', :ready)), 5);

-- bad arguments
SELECT pg_temp.fails('SELECT eduai.task_output(1, -1)');
SELECT pg_temp.fails('SELECT eduai.task_output(1, 2147483647)');
SELECT pg_temp.fails('SELECT eduai.task_output(1, 0, ''-1 s'')');
SELECT pg_temp.fails('SELECT eduai.task_output(1, 0, ''2 days'')');
SELECT pg_temp.fails(format('SELECT eduai.append_output(%s, 1, repeat(''x'', 1048577))', :t));

-- a new attempt begins anew, in numbers of its own; late text of the old one is left out
SELECT pg_temp.start(:t, 2);
SELECT * FROM eduai.task_output(:t, 3);
SELECT eduai.append_output(:t, 2, 'Twice ');
SELECT eduai.test_append_output(:t, 1, 'late');
SELECT eduai.append_output(:t, 2, 'upon');
SELECT * FROM eduai.task_output(:t);
SELECT * FROM eduai.task_output(:t, 3);
SELECT * FROM eduai.task_output(:t, 1000001);
-- the end: with the last delta, or on its own
BEGIN;
SELECT eduai.cancel_task(:t);
SELECT pg_temp.turns(:t, 'completed', '{"text": "Twice upon"}');
COMMIT;
SELECT * FROM eduai.task_output(:t, 1000001);
SELECT * FROM eduai.task_output(:t, 1000002);
SELECT * FROM eduai.task_output(:t, 0, '0 s');
SELECT eduai.test_append_output(:t, 2, 'late');
SELECT count(*) FROM eduai.task_output(:t);

-- a task that gave no text: its result's, once
BEGIN;
SELECT eduai.cancel_task(:ready);
SELECT pg_temp.turns(:ready, 'completed', '{"text": "all at once"}');
COMMIT;
SELECT * FROM eduai.task_output(:ready);
SELECT * FROM eduai.task_output(:ready, 1);
-- a result without text, or none
SELECT pg_temp.turns(:ready, 'completed', '{"embedding": [1]}');
SELECT * FROM eduai.task_output(:ready);
SELECT pg_temp.turns(:ready, 'completed', '{"text": {"no": "string"}}');
SELECT * FROM eduai.task_output(:ready);
SELECT pg_temp.turns(:ready, 'dead', NULL);
SELECT * FROM eduai.task_output(:ready);

-- the text of an attempt that failed is not the end's
SELECT eduai.enqueue('custom', '{}', expires_at => now() + interval '1 day') AS t \gset
SELECT pg_temp.start(:t, 1);
SELECT eduai.append_output(:t, 1, 'wrong');
SELECT delta, done FROM eduai.task_output(:t);
SELECT pg_temp.start(:t, 2);
BEGIN;
SELECT eduai.cancel_task(:t);
SELECT pg_temp.turns(:t, 'completed', '{"text": "right"}');
COMMIT;
SELECT * FROM eduai.task_output(:t, 1);
SELECT * FROM eduai.task_output(:t, 1000001);

-- retry_task() takes an end back: readers wait for what comes
SELECT eduai.enqueue('custom', '{}', expires_at => now() + interval '1 day') AS t \gset
SELECT pg_temp.start(:t, 1);
SELECT eduai.append_output(:t, 1, 'half');
SELECT eduai.cancel_task(:t);
SELECT * FROM eduai.task_output(:t);
SELECT eduai.retry_task(:t);
SELECT * FROM eduai.task_output(:t);
SELECT count(*) FROM eduai.task_output(:t, 1, '50 ms');
SELECT pg_temp.start(:t, 2);
SELECT eduai.append_output(:t, 2, 'whole');
SELECT * FROM eduai.task_output(:t, 1);

-- a delta ends where a character does
SELECT eduai.enqueue('custom', '{}', expires_at => now() + interval '1 day') AS t \gset
SELECT eduai.test_append_output(:t, 1, '\x61c3');
SELECT eduai.test_append_output(:t, 1, '\xbc62e2');
SELECT eduai.test_append_output(:t, 1, '\x82');
SELECT eduai.test_append_output(:t, 1, '\xac');
SELECT eduai.test_append_output(:t, 1, '\xf09f9880f09f');
SELECT eduai.test_append_output(:t, 1, '\x9880');
SELECT * FROM eduai.task_output(:t, 0, '0 s');
-- what is no character becomes a question mark: a stray byte, NUL, a surrogate, an end that never comes
SELECT eduai.test_append_output(:t, 1, '\x61ff6200c062eda08063');
SELECT eduai.test_append_output(:t, 1, '\xe282');
SELECT eduai.test_append_output(:t, 1, '\x64c3c3bc');
SELECT seq, delta FROM eduai.task_output(:t, 5, '0 s');
-- long text is cut between characters, and whole
SELECT eduai.enqueue('custom', '{}', expires_at => now() + interval '1 day') AS t \gset
SELECT pg_temp.start(:t, 1);
SELECT eduai.append_output(:t, 1, repeat('aü€😀', 20000));
SELECT count(*) > 1, min(seq), max(seq) = count(*), max(octet_length(delta)) < 1010, string_agg(delta, '' ORDER BY seq) = repeat('aü€😀', 20000)
FROM eduai.task_output(:t);
SELECT min(seq), count(*) = max(seq) - 99 FROM eduai.task_output(:t, 99);
-- and every length is read as it was written
SELECT eduai.enqueue('custom', '{}', expires_at => now() + interval '1 day') AS t \gset
SELECT pg_temp.start(:t, 1);
SELECT count(eduai.append_output(:t, 1, repeat('x', i))) FROM generate_series(1, 1000) i;
SELECT count(*), bool_and(length(delta) = seq AND delta = repeat('x', seq)) FROM eduai.task_output(:t);

-- who may
RESET ROLE;
SELECT has_function_privilege(r, f, 'EXECUTE'), r, f FROM unnest(ARRAY['eduai_app', 'eduai_worker', 'eduai_reader', 'public']) r,
	unnest(ARRAY['eduai.task_output(bigint, int, interval)', 'eduai.append_output(bigint, int, text)']) f ORDER BY f, r;

SELECT array_agg(task_id) AS all FROM eduai.task_live WHERE tenant_id = 'queue_output' \gset
SET ROLE regress_queue_output;
SELECT bool_and(eduai.cancel_task(u)) FROM unnest(:'all'::bigint[]) u;
RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_output', 'queue_output');
SELECT eduai.disallow_tenant('regress_queue_output', 'queue_output_2');
DROP OWNED BY regress_queue_output;
DROP ROLE regress_queue_output;
