-- attach(), attachment(), and how long an attachment is kept.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_queue_attachment;
GRANT eduai_app TO regress_queue_attachment;
SELECT eduai.allow_tenant('regress_queue_attachment', 'queue_attachment');
SELECT eduai.allow_tenant('regress_queue_attachment', 'queue_attachment_2');
GRANT EXECUTE ON FUNCTION eduai.test_drop_attachments(bigint[]), eduai.test_drop_unlinked_attachments(interval, int)
	TO regress_queue_attachment;
GRANT SET ON PARAMETER "eduai.max_attachment_size" TO regress_queue_attachment;
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
-- which of these are there still
CREATE FUNCTION pg_temp.kept(VARIADIC ids uuid[]) RETURNS boolean[] LANGUAGE sql
	AS 'SELECT array_agg(EXISTS (SELECT FROM eduai.attachment(u.id)) ORDER BY u.n) FROM unnest(ids) WITH ORDINALITY u (id, n)';
-- a payload that refers to them
CREATE FUNCTION pg_temp.refers(VARIADIC ids uuid[]) RETURNS jsonb LANGUAGE sql
	AS 'SELECT jsonb_build_object(''messages'', jsonb_agg(jsonb_build_object(''audio'', jsonb_build_object(''attachment'', u)))) FROM unnest(ids) u';
SET ROLE regress_queue_attachment;
SET eduai.tenant = 'queue_attachment';

-- in and out again, byte for byte
SELECT eduai.attach('\x00ff10', 'audio/webm;codecs=opus', 'ann') AS a,
	eduai.attach(decode(repeat('00e1', 500000), 'hex'), 'image/png') AS big \gset
SELECT content_type, data, user_id, created_at BETWEEN now() - interval '1 min' AND clock_timestamp()
FROM eduai.attachment(:'a');
SELECT content_type, length(data), data = decode(repeat('00e1', 500000), 'hex'), user_id FROM eduai.attachment(:'big');
SELECT count(*) FROM eduai.attachment('01920000-0000-7000-8000-000000000000');
SELECT count(*) FROM eduai.attachment(NULL);

-- another tenant has none of it
SET eduai.tenant = 'queue_attachment_2';
SELECT pg_temp.kept(:'a', :'big');
SELECT replace(pg_temp.fails(format('SELECT eduai.enqueue(''custom'', %L)', pg_temp.refers(:'a'))), :'a', 'A');
SELECT eduai.attach('x', 'text/plain') AS other \gset
SET eduai.tenant = 'queue_attachment';

-- media types, as RFC 9110 has them
SELECT t, left(pg_temp.fails(format('SELECT eduai.attach(''x'', %L)', t)), 8)
FROM unnest(ARRAY['audio/webm', 'application/vnd.x+json', 'text/plain; charset=utf-8', 'audio/webm ; codecs="opus, vp8"',
	'a/b;c="\""', 'a/b;c=d;e=f', 'x/' || repeat('y', 5)]) AS u (t);
SELECT t, left(pg_temp.fails(format('SELECT eduai.attach(''x'', %L)', t)), 5)
FROM unnest(ARRAY['', 'audio', '/webm', 'audio/', 'audio /webm', 'au dio/webm', 'audio/webm;', 'audio/webm;x', 'audio/webm;x=',
	'audio/webm;x="y', E'audio/webm\r\nx: y', E'a/b;c="\n"', 'audio/webm, image/png', 'ä/b', 'a/b;c="ä"', 'a/b;c="\']) AS u (t);
SELECT pg_temp.fails(format('SELECT eduai.attach(''x'', %L)', 'x/' || repeat('y', 253)));
SELECT pg_temp.fails(format('SELECT eduai.attach(''x'', %L)', 'x/' || repeat('y', 254)));

-- sizes, and nulls
SELECT pg_temp.fails('SELECT eduai.attach('''', ''text/plain'')');
SELECT pg_temp.fails('SELECT eduai.attach(NULL, ''text/plain'')');
SELECT pg_temp.fails('SELECT eduai.attach(''x'', NULL)');
SELECT pg_temp.fails('SELECT eduai.attach(''x'', ''text/plain'', '''')');
SET eduai.max_attachment_size = '1 kB';
SELECT pg_temp.fails('SELECT eduai.attach(convert_to(repeat(''x'', 1024), ''UTF8''), ''text/plain'')');
SELECT pg_temp.fails('SELECT eduai.attach(convert_to(repeat(''x'', 1025), ''UTF8''), ''text/plain'')');
RESET eduai.max_attachment_size;
RESET ROLE;
DELETE FROM eduai.attachment WHERE tenant_id = 'queue_attachment' AND attachment_id NOT IN (:'a', :'big');
SET ROLE regress_queue_attachment;

-- references: at any depth, in one statement with the attachment, twice the same
SELECT eduai.enqueue('custom', jsonb_build_object('audio', jsonb_build_object('attachment', eduai.attach('now', 'text/plain')))) AS at_once \gset
SELECT eduai.enqueue('custom', jsonb_build_object('attachment', :'a', 'deep', jsonb_build_array(1, jsonb_build_array(jsonb_build_object('attachment', upper(:'big')))), 'same', jsonb_build_object('attachment', :'a'))) AS both \gset
SELECT (eduai.enqueue_batch('custom', ARRAY[pg_temp.refers(:'a'), '{"no": "attachment"}']))[1] AS of_batch \gset
RESET ROLE;
SELECT count(*) FILTER (WHERE task_id = :at_once), count(*) FILTER (WHERE task_id = :both),
	count(*) FILTER (WHERE task_id = :of_batch), count(*)
FROM eduai.task_attachment WHERE tenant_id = 'queue_attachment';
SELECT attachment_id AS now FROM eduai.task_attachment WHERE task_id = :at_once \gset
SET ROLE regress_queue_attachment;

-- what is no reference
SELECT eduai.enqueue('custom', p) > 0 FROM unnest(ARRAY['{"x": "attachment"}', '{"attachment": 7}', '{"attachment": {"name": "x"}}',
	'{"attachment": null}', '{"attachment": ["y"]}', '{"my attachment": "x"}', '{"attachments": "x"}', '["attachment", "x"]']::text[]) u (t),
	LATERAL (SELECT jsonb_build_object('p', t::jsonb)) v (p);
SELECT pg_temp.fails('SELECT eduai.enqueue(''custom'', ''{"attachment": "lesson.webm"}'')');
SELECT pg_temp.fails('SELECT eduai.enqueue(''custom'', ''{"a": [{"attachment": ""}]}'')');
SELECT pg_temp.fails('SELECT eduai.enqueue(''custom'', ''{"attachment": "01920000-0000-7000-8000-00000000000g"}'')');
SELECT pg_temp.fails('SELECT eduai.enqueue(''custom'', ''{"attachment": "01920000-0000-7000-8000-000000000000"}'', on_refusal => ''skip'')');
SELECT left(pg_temp.fails(format('SELECT eduai.enqueue_batch(''custom'', ARRAY[%L, ''{"attachment": "x"}'']::jsonb[])', pg_temp.refers(:'a'))), 5);
-- a task that its unique_key makes another's refers to nothing of its own
SELECT eduai.enqueue('custom', '{}', unique_key => 'k') = eduai.enqueue('custom', '{"attachment": "x"}', unique_key => 'k');
RESET ROLE;
SELECT count(*) FROM eduai.task_attachment WHERE tenant_id = 'queue_attachment';
SET ROLE regress_queue_attachment;

-- an attachment goes with the last task that refers to it
SELECT eduai.test_drop_attachments('{}');
SELECT eduai.test_drop_attachments(ARRAY[:both, -1]);
SELECT pg_temp.kept(:'a', :'big', :'now');
SELECT eduai.test_drop_attachments(ARRAY[:of_batch, :at_once]);
SELECT pg_temp.kept(:'a', :'big', :'now');
RESET ROLE;
SELECT count(*) FROM eduai.task_attachment WHERE tenant_id = 'queue_attachment';
SET ROLE regress_queue_attachment;
-- both in one go
SELECT eduai.attach('shared', 'text/plain') AS shared \gset
SELECT eduai.enqueue('custom', pg_temp.refers(:'shared')) AS one, eduai.enqueue('custom', pg_temp.refers(:'shared')) AS two \gset
SELECT eduai.test_drop_attachments(ARRAY[:one, :two]);
SELECT pg_temp.kept(:'shared');
-- the ids of one tenant's tasks are not another's
SET eduai.tenant = 'queue_attachment_2';
SELECT eduai.enqueue('custom', pg_temp.refers(:'other')) AS theirs \gset
SET eduai.tenant = 'queue_attachment';
SELECT eduai.test_drop_attachments(ARRAY[:theirs]);
SET eduai.tenant = 'queue_attachment_2';
SELECT pg_temp.kept(:'other');
SET eduai.tenant = 'queue_attachment';

-- one that nobody refers to goes when it is old enough
SELECT eduai.attach('old', 'text/plain') AS old, eduai.attach('older', 'text/plain') AS older,
	eduai.attach('used', 'text/plain') AS used \gset
SELECT eduai.enqueue('custom', pg_temp.refers(:'used')) AS user \gset
RESET ROLE;
UPDATE eduai.attachment SET created_at = created_at - interval '3 days' WHERE attachment_id IN (:'older', :'used');
SET ROLE regress_queue_attachment;
SELECT eduai.test_drop_unlinked_attachments('2 days', 100);
SELECT pg_temp.kept(:'old', :'older', :'used');
RESET ROLE;
UPDATE eduai.attachment SET created_at = created_at - interval '3 days' WHERE tenant_id = 'queue_attachment';
SET ROLE regress_queue_attachment;
SELECT eduai.attach('old too', 'text/plain') IS NOT NULL;
RESET ROLE;
UPDATE eduai.attachment SET created_at = created_at - interval '3 days' WHERE tenant_id = 'queue_attachment';
SET ROLE regress_queue_attachment;
SELECT eduai.test_drop_unlinked_attachments('2 days', 1), eduai.test_drop_unlinked_attachments('2 days', 1), eduai.test_drop_unlinked_attachments('2 days', 1);
SELECT pg_temp.kept(:'old', :'used');

-- what rolls back refers to nothing
SELECT eduai.attach('free', 'text/plain') AS free \gset
BEGIN;
SELECT eduai.enqueue('custom', pg_temp.refers(:'free')) > 0;
ROLLBACK;
SELECT eduai.test_drop_unlinked_attachments('0 s', 100);
SELECT pg_temp.kept(:'free');

-- who may
SELECT has_function_privilege(r, f, 'EXECUTE'), r, f FROM unnest(ARRAY['eduai_app', 'eduai_worker', 'eduai_reader', 'public']) r,
	unnest(ARRAY['eduai.attach(bytea, text, text)', 'eduai.attachment(uuid)']) f ORDER BY f, r;

RESET ROLE;
DELETE FROM eduai.task_attachment WHERE tenant_id LIKE 'queue_attachment%';
DELETE FROM eduai.attachment WHERE tenant_id LIKE 'queue_attachment%';
SELECT array_agg(task_id) AS all FROM eduai.task_live WHERE tenant_id = 'queue_attachment' \gset
SET ROLE regress_queue_attachment;
SELECT bool_and(eduai.cancel_task(t)) FROM unnest(:'all'::bigint[]) t;
SET eduai.tenant = 'queue_attachment_2';
SELECT eduai.cancel_task(:theirs);
RESET ROLE;
RESET eduai.tenant;
SELECT eduai.disallow_tenant('regress_queue_attachment', 'queue_attachment');
SELECT eduai.disallow_tenant('regress_queue_attachment', 'queue_attachment_2');
DROP OWNED BY regress_queue_attachment;
DROP ROLE regress_queue_attachment;
