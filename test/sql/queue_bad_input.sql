-- Bad arguments: each is refused with its SQLSTATE, names the value, and nothing
-- is enqueued.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_bad_input;
GRANT eduai_app TO regress_queue_bad_input;
SELECT eduai.allow_tenant('regress_queue_bad_input', 'queue_bad_input');
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
SET ROLE regress_queue_bad_input;
SET eduai.tenant = 'queue_bad_input';
CREATE FUNCTION pg_temp.refused(arguments text) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.fails('SELECT eduai.enqueue(' || arguments || ')')$$;
CREATE FUNCTION pg_temp.refused_batch(arguments text) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.fails('SELECT eduai.enqueue_batch(' || arguments || ')')$$;

-- types
SELECT pg_temp.refused($$'nothing', '{}'$$);
SELECT pg_temp.refused($$'', '{}'$$);
SELECT pg_temp.refused($$NULL, '{}'$$);
SELECT pg_temp.refused($$'Chat', '{}'$$);

-- payloads
SELECT pg_temp.refused($$'custom', NULL$$);
SELECT pg_temp.refused($$'custom', '[1]'$$);
SELECT pg_temp.refused($$'custom', '"text"'$$);
SELECT pg_temp.refused($$'custom', '7'$$);
SELECT pg_temp.refused($$'custom', 'null'$$);
SELECT pg_temp.refused($$'custom', '{"a": "\u0000"}'$$);
SELECT pg_temp.refused($$'custom', '{"a": "\ud800"}'$$);
SELECT pg_temp.refused($$'custom', '{"a": '$$);
SELECT pg_temp.refused($$'custom', jsonb_build_object('a', repeat('x', 16 * 1024 * 1024))$$);
SELECT pg_temp.refused($$'custom', jsonb_build_object('a', repeat('x', 100 * 1024 * 1024))$$);

-- priority and on_refusal
SELECT pg_temp.refused($$'custom', '{}', 'urgent'$$);
SELECT pg_temp.refused($$'custom', '{}', ''$$);
SELECT pg_temp.refused($$'custom', '{}', 'Normal'$$);
SELECT pg_temp.refused($$'custom', '{}', NULL$$);
SELECT pg_temp.refused($$'custom', '{}', on_refusal => 'ignore'$$);
SELECT pg_temp.refused($$'custom', '{}', on_refusal => ''$$);

-- times
SELECT pg_temp.refused($$'custom', '{}', run_at => 'infinity'$$);
SELECT pg_temp.refused($$'custom', '{}', expires_at => 'infinity'$$);
SELECT pg_temp.refused($$'custom', '{}', expires_at => '-infinity'$$);
SELECT pg_temp.refused($$'custom', '{}', expires_at => '2001-01-01 00:00:00+00'$$);
SELECT pg_temp.refused($$'custom', '{}', timeout => '0'$$);
SELECT pg_temp.refused($$'custom', '{}', timeout => '-1 s'$$);
SELECT pg_temp.refused($$'custom', '{}', timeout => '999 us'$$);
SELECT pg_temp.refused($$'custom', '{}', timeout => '1 day 1 ms'$$);
SELECT pg_temp.refused($$'custom', '{}', timeout => '178000000 years'$$);

-- attempts
SELECT pg_temp.refused($$'custom', '{}', max_attempts => 0$$);
SELECT pg_temp.refused($$'custom', '{}', max_attempts => -1$$);
SELECT pg_temp.refused($$'custom', '{}', max_attempts => 101$$);

-- labels: 1 to 512 bytes, no control characters
SELECT pg_temp.refused(format($$'custom', '{}', %s => ''$$, l)),
	pg_temp.refused(format($$'custom', '{}', %s => 'a' || chr(7)$$, l)) LIKE '22023 | invalid ' || l || ' "a' || chr(7) || '" | %',
	pg_temp.refused(format($$'custom', '{}', %s => repeat('ä', 257)$$, l)) =
		'22023 | invalid ' || l || ' "' || repeat('ä', 40) || '" | It has 1 to 512 bytes and no control characters.'
FROM unnest(ARRAY['unique_key', 'idempotency_key', 'user_id']) l;

-- metadata
SELECT pg_temp.refused($$'custom', '{}', metadata => '[]'$$);
SELECT pg_temp.refused($$'custom', '{}', metadata => '1'$$);
SELECT pg_temp.refused($$'custom', '{}', metadata => '{"on_parent_failure": "explode"}'$$);

-- dependencies
SELECT pg_temp.refused($$'custom', '{}', depends_on => ARRAY[-1]$$);
SELECT pg_temp.refused($$'custom', '{}', depends_on => ARRAY[0, NULL]$$);
SELECT pg_temp.refused($$'custom', '{}', depends_on => ARRAY[NULL]::bigint[]$$);

-- handlers: there must be such a function, with one argument, and the caller may run it
RESET ROLE;
CREATE FUNCTION public.queue_bad_input_private(eduai.task_status) RETURNS void LANGUAGE sql AS '';
REVOKE EXECUTE ON FUNCTION public.queue_bad_input_private FROM PUBLIC;
CREATE FUNCTION public.queue_bad_input_two(eduai.task_status, int) RETURNS void LANGUAGE sql AS '';
SET ROLE regress_queue_bad_input;
SELECT pg_temp.refused($$'custom', '{}', on_result => 'public.no_such_function'$$);
SELECT pg_temp.refused($$'custom', '{}', on_result => 'public.queue_bad_input_two'$$);
SELECT pg_temp.refused($$'custom', '{}', on_result => 'public.queue_bad_input_private'$$);
SELECT pg_temp.refused($$'custom', '{}', on_result => ''$$);
SELECT pg_temp.refused($$'custom', '{}', on_result => 'f(x); DROP TABLE x'$$);
SELECT pg_temp.refused($$'custom', '{}', on_result => 'no_such_schema.f'$$);

-- batches
SELECT pg_temp.refused_batch($$'nothing', ARRAY['{}']::jsonb[]$$);
SELECT pg_temp.refused_batch($$NULL, ARRAY['{}']::jsonb[]$$);
SELECT pg_temp.refused_batch($$'custom', NULL$$);
SELECT pg_temp.refused_batch($$'custom', ARRAY['{}', NULL]::jsonb[]$$);
SELECT pg_temp.refused_batch($$'custom', ARRAY['{}', '[]']::jsonb[]$$);
SELECT pg_temp.refused_batch($$'custom', ARRAY[ARRAY['{}', '{}']]::jsonb[]$$);
SELECT pg_temp.refused_batch($$'custom', array_fill('{}'::jsonb, ARRAY[100001])$$);
SELECT pg_temp.refused_batch($$'custom', ARRAY['{}']::jsonb[], priority => 'urgent'$$);
SELECT pg_temp.refused_batch($$'custom', ARRAY['{}', '{}']::jsonb[], user_ids => ARRAY['ann']$$);
SELECT pg_temp.refused_batch($$'custom', ARRAY['{}']::jsonb[], unique_keys => ARRAY['a', 'b']$$);
SELECT pg_temp.refused_batch($$'custom', ARRAY['{}', '{}']::jsonb[], unique_keys => ARRAY['a', '']$$);
SELECT pg_temp.refused_batch($$'custom', ARRAY['{}']::jsonb[], metadata => '7'$$);
SELECT pg_temp.refused_batch($$'custom', ARRAY['{}']::jsonb[], on_refusal => 'never'$$);

-- waiting
SELECT pg_temp.fails($$SELECT eduai.wait_task(1, '-1 s')$$);
SELECT pg_temp.fails($$SELECT eduai.wait_task(1, '2 days')$$);
SELECT pg_temp.fails($$SELECT eduai.wait_tasks(ARRAY[1], '-1 s')$$);

-- the limit on payloads is an administrator's
SELECT pg_temp.fails($$SET eduai.max_payload_size = '1GB'$$);
RESET ROLE;
SET eduai.max_payload_size = '1kB';
SET ROLE regress_queue_bad_input;
SELECT pg_temp.refused($$'custom', jsonb_build_object('a', repeat('x', 1024))$$);
SELECT pg_temp.refused_batch($$'custom', ARRAY['{}', jsonb_build_object('a', repeat('x', 1024))]$$);
RESET ROLE;
RESET eduai.max_payload_size;

-- nothing was enqueued, nothing counted
SELECT count(*) FROM eduai.task WHERE tenant_id = 'queue_bad_input';
SET eduai.queue_max_size = 1;
SET ROLE regress_queue_bad_input;
SELECT eduai.enqueue('custom', jsonb_build_object('a', repeat('x', 512)), unique_key => repeat('ä', 256)) > 0;
RESET ROLE;
RESET eduai.queue_max_size;
DROP FUNCTION public.queue_bad_input_private, public.queue_bad_input_two;

RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_bad_input', 'queue_bad_input');
DROP OWNED BY regress_queue_bad_input;
DROP ROLE regress_queue_bad_input;
