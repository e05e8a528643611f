-- What every result has, what is left out of it, and the body itself where it is asked for.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.result(kind text, task_type text, body text, payload jsonb DEFAULT '{}', provider jsonb DEFAULT '{}', headers jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT coalesce(r->'result', r) FROM eduai.test_read_response(kind, task_type, 200, headers, convert_to(body, 'UTF8'), payload, provider, '{"model": "asked-for"}') r
$$;
-- the keys of each task type
SELECT k || ' ' || t, (SELECT string_agg(o, ' ' ORDER BY o) FROM jsonb_object_keys(r) o), r->>'model', r->'usage' FROM (SELECT *, row_number() OVER () AS n FROM (VALUES
	('openai', 'chat', '{"model": "m-1", "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}', '{}'::jsonb),
	('openai', 'chat', '{"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}]}', '{"response_format": {"type": "json_object"}}'),
	('openai', 'embeddings', '{"data": [{"embedding": [1]}]}', '{"input": "x"}'), ('openai', 'embeddings', '{"data": [{"embedding": [1]}]}', '{"input": ["x"]}'),
	('openai', 'image_generation', '{"data": [{"url": "u"}]}', '{}'), ('openai', 'transcription', '{"text": "x"}', '{}'),
	('anthropic', 'chat', '{"content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 4}}', '{}'),
	('huggingface', 'embeddings', '[[1, 2]]', '{"input": ["x"]}'), ('huggingface', 'transcription', '{"text": "x"}', '{}')) v (k, t, b, p)) v, LATERAL pg_temp.result(k, t, b, p) r ORDER BY n;
-- finish reasons are OpenAI's words, whosever they are
SELECT f, pg_temp.result('openai', 'chat', format('{"choices": [{"message": {"content": "x"}, "finish_reason": "%s"}]}', f))->>'finish_reason'
FROM unnest('{stop,length,tool_calls,eos,eos_token,end_turn,stop_sequence,max_tokens,model_length,tool_use,something_new}'::text[]) WITH ORDINALITY u (f, n) ORDER BY n;
-- reasoning is counted and not shown
SELECT pg_temp.result('openrouter', 'chat', '{"model": "m", "choices": [{"message": {"content": "42", "reasoning": "Let me think.", "reasoning_details": [{"type": "reasoning.text", "text": "Let me think."}]}, "finish_reason": "stop", "native_finish_reason": "STOP"}],
	"usage": {"prompt_tokens": 5, "completion_tokens": 30, "completion_tokens_details": {"reasoning_tokens": 28}, "cost": 0.001}}');
SELECT pg_temp.result('openai', 'chat', '{"model": "m", "choices": [{"message": {"content": "42", "reasoning_content": "Let me think."}, "finish_reason": "stop"}]}')->>'text';
SELECT pg_temp.result('anthropic', 'chat', '{"model": "m", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "redacted_thinking", "data": "y"}, {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
	{"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}, {"type": "text", "text": "4"}, {"type": "text", "text": "2"}, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}],
	"stop_reason": "tool_use", "usage": {"input_tokens": 5, "output_tokens": 30}}');

-- embeddings as base64 of floats, in the order of their indexes, of the length asked for
SELECT pg_temp.result('openai', 'embeddings', '{"data": [{"index": 1, "embedding": "AAAgwAAAgD8="}, {"index": 0, "embedding": "zczMPQAAIMA="}]}', '{"input": ["a", "b"], "encoding_format": "base64"}')->'embeddings';
SELECT pg_temp.result('openai', 'embeddings', '{"data": [{"embedding": "CObMPA=="}]}', '{"input": "a"}')->'embedding';
SELECT e, pg_temp.result('openai', 'embeddings', format('{"data": [{"embedding": %s}]}', e), '{"input": "a", "dimensions": 2}')->>'message' FROM unnest(ARRAY['[1, 2]', '[1]', '"zczMPQAAIMA="', '"zczMPQ=="', '"zczM"', '"AADAfwAAgD8="', '"AACAfwAAgD8="', '""', '"!"']) WITH ORDINALITY u (e, n) ORDER BY n;

-- the body on request: metadata.raw
SELECT pg_temp.result('openai', 'chat', '{"id": "chatcmpl-1", "model": "m", "choices": [{"message": {"content": "x"}, "finish_reason": "stop", "logprobs": null}]}', provider => '{"metadata": {"raw": true}}');
SELECT pg_temp.result('openai', 'chat', '{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}', provider => jsonb_build_object('metadata', m)) ? 'raw' FROM unnest(ARRAY['{}', '{"raw": false}', '{"raw": "yes"}', '{"raw": null}']::jsonb[]) m;
-- a long one, and one that is no JSON, by its length alone; a failure has none
SELECT r ? 'raw', r->'raw_bytes' FROM pg_temp.result('openai', 'chat', format('{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "more": "%s"}', repeat('x', 1048576)), provider => '{"metadata": {"raw": true}}') r;
SELECT r ? 'raw', r->'raw_bytes' FROM pg_temp.result('huggingface', 'image_generation', 'webp bytes', '{"prompt": "x"}', '{"metadata": {"raw": true}}', '{"content-type": "image/webp"}') r;
SELECT r->>'code', r ? 'result' FROM pg_temp.result('openai', 'chat', '{"choices": []}', provider => '{"metadata": {"raw": true}}') r;
