-- What a dependant sends of its parents' results: placeholders, and a message
-- where there are none.

\set VERBOSITY sqlstate
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on

\set parents '[{"task_id": 1, "task_type": "chat", "state": "completed", "result": {"text": "four", "usage": {"input": 7}, "list": [10, null, true]}}, {"task_id": 2, "task_type": "analysis", "state": "completed", "result": {"json": {"a": 1}}}, {"task_id": 3, "task_type": "chat", "state": "dead", "result": null, "error": {"code": "http_500"}}, {"task_id": 4, "task_type": "transcription", "state": "completed", "result": {"transcript": "spoken"}}]'

CREATE FUNCTION pg_temp.sent(payload jsonb, metadata jsonb DEFAULT '{}', most int DEFAULT 16777216) RETURNS text
	LANGUAGE sql AS $$ SELECT coalesce(p->>'code' || ': ' || (p->>'verdict') || ': ' || (p->>'message'), jsonb_pretty(p))
		FROM eduai.test_parents(payload, current_setting('test.parents')::jsonb, metadata, most) p $$;
SELECT set_config('test.parents', :'parents', false) IS NULL;

-- in text: strings as they are, other values as JSON
SELECT pg_temp.sent('{"prompt": "It is {{parents.0.result.text}}, not {{ parents.0.result.usage.input }}: {{parents.0.result.list}} {{parents.0.result.list.1}} {{parents.0.result.list.2}} {{parents.1.result}}."}');
-- alone: the value itself, of its type; anywhere, but in keys
SELECT pg_temp.sent('{"n": "{{parents.0.result.usage.input}}", "o": ["x", {"deep": "{{parents.1.result.json}}"}], "{{parents.0.state}}": "{{parents.2.result}}", "t": "{{parents.0.result.list.2}}", "s": "{{parents.3.result.transcript}}"}');
SELECT jsonb_array_length(eduai.test_parents('{"all": "{{parents}}"}', :'parents')->'all');
-- what was filled in is not looked at again
SELECT eduai.test_parents('{"prompt": "<{{parents.0.result.text}}>"}', '[{"result": {"text": "{{parents.0.state}}"}}]');
-- other braces are text
SELECT pg_temp.sent('{"input": "{{name}} {{parentsx}} {{parent.0}} {{ {{parents.0.result.text}} }} {{{parents.0.result.text}}} {{parents.0"}');
-- an unknown path fails the attempt for good and is named
SELECT pg_temp.sent(jsonb_build_object('prompt', 'secret question {{' || path || '}}'))
FROM unnest(ARRAY['parents.9.result.text', 'parents.0.result.texts', 'parents.x', 'parents.0.result.text.more', 'parents.0.result.list.3',
	'parents.-1', 'parents.', 'parents.0..result', 'parents.00000000', 'parents.2.result.text', 'parents.' || repeat('y', 300)]) path;

-- without placeholders: a message before the last one of the user
SELECT pg_temp.sent('{"model": "m", "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "and now?"}]}');
SELECT pg_temp.sent('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": []}, {"role": "tool", "content": "c"}]}') LIKE '{%"messages": [%"Results of%"a"%"b"%"c"%';
SELECT eduai.test_parents('{"messages": [{"role": "system", "content": "s"}]}', '[{"task_type": "chat", "result": {"text": "r"}}]');
SELECT eduai.test_parents('{"messages": []}', '[{"task_type": "chat", "result": {"text": "r"}}]');
-- or before the prompt
SELECT pg_temp.sent('{"prompt": "and now?"}');
-- where neither is, as for embeddings, nothing is added
SELECT pg_temp.sent('{"model": "m", "input": ["a", "b"]}');
-- metadata.parents false: as it is
SELECT pg_temp.sent('{"prompt": "{{parents.0.result.text}} {{parents.9}}"}', '{"parents": false}');
SELECT pg_temp.sent('{"prompt": "x"}', '{"parents": false}');

-- bounded, before it is copied
SELECT pg_temp.sent('{"prompt": "{{parents.0.result.text}}"}', '{}', 20);
SELECT pg_temp.sent('{"messages": [{"role": "user", "content": "x"}]}', '{}', 300);
SELECT pg_temp.sent('{"input": "x"}', '{}', 300);
WITH big AS (SELECT jsonb_build_array(jsonb_build_object('result', repeat('x', 1000000))) AS parents,
	jsonb_build_object('prompt', repeat('{{parents.0.result}}', 100000)) AS payload)
SELECT left(eduai.test_parents(payload, parents)::text, 120) FROM big;

-- only in test mode's hands
SET ROLE eduai_app;
SELECT eduai.test_parents('{}', '[]');
RESET ROLE;
