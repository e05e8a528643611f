-- See gateway_adapters.sh.
CREATE EXTENSION eduai;
SELECT setseed(((:seed)::int % 1000000) / 1000000.0);

CREATE TEMP TABLE corpus (n serial PRIMARY KEY, what text, text text);
INSERT INTO corpus (what, text) VALUES
('answer', '{"model": "m", "choices": [{"message": {"role": "assistant", "content": "Hello \u00e9"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 19, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 8}, "completion_tokens_details": {"reasoning_tokens": 4}, "cost": 0.01}}'),
('answer', '{"model": "m", "choices": [{"message": {"content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "tool_calls"}]}'),
('answer', '{"choices": [{"message": {"content": [{"type": "text", "text": "{\"a\": 1}"}]}, "finish_reason": "stop"}]}'),
('answer', '{"data": [{"index": 0, "embedding": [0.1, -2e-5]}, {"index": 1, "embedding": [3, 4]}], "usage": {"prompt_tokens": 8}}'),
('answer', '[[0.1, 0.2], [0.3, 0.4]]'),
('answer', '{"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}, {"url": "https://x/1", "revised_prompt": "p"}]}'),
('answer', '{"text": "words", "language": "fr", "duration": "8.47", "segments": [{"id": 0}], "usage": {"type": "duration", "seconds": 9}}'),
('answer', '{"type": "message", "model": "m", "content": [{"type": "text", "text": "Hi"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}}], "stop_reason": "tool_use", "usage": {"input_tokens": 12, "cache_read_input_tokens": 5, "output_tokens": 6}}'),
('answer', '{"error": {"message": "sk-fuzz-secret is not a key", "type": "invalid_request_error", "code": "context_length_exceeded", "metadata": {"reasons": ["x"]}}}'),
('answer', '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'),
('answer', '{"error": "Model is loading", "estimated_time": 20.5}'),
('answer', '{"object": "error", "message": "no", "type": "T", "code": 404, "detail": [{"msg": "m"}]}'),
('payload', '{"model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}], "temperature": 0.5, "stop": ["a"], "max_tokens": 5}'),
('payload', '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]}, {"role": "tool", "tool_call_id": "1", "content": "r"}], "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], "tool_choice": {"type": "function", "function": {"name": "f"}}, "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}'),
('payload', '{"input": ["a", "b"], "dimensions": 3}'), ('payload', '{"input": [[1, 2], [3]]}'), ('payload', '{"prompt": "p", "n": 2}'),
('payload', '{"audio": {"base64": "data:audio/ogg;base64,T2dnUw==", "file_name": "a.ogg"}, "language": "fr", "timestamp_granularities": ["word"], "x": {"y": null}}');

CREATE FUNCTION pg_temp.pick(list text[]) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT list[1 + floor(random() * cardinality(list))::int] $$;

-- One to six mutations: a byte set, a range cut or doubled, a token put in.
CREATE FUNCTION pg_temp.mutate(bytes bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	at int;
	span int;
BEGIN
	FOR i IN 1 .. 1 + floor(random() * 6)::int LOOP
		at := floor(random() * (length(bytes) + 1))::int;
		span := 1 + floor(random() * 12)::int;
		CASE floor(random() * 5)::int
			WHEN 0 THEN
				IF at < length(bytes) THEN bytes := set_byte(bytes, at, floor(random() * 256)::int); END IF;
			WHEN 1 THEN bytes := substr(bytes, 1, at) || substr(bytes, at + 1 + span);
			WHEN 2 THEN bytes := substr(bytes, 1, at + span) || substr(bytes, at + 1);
			WHEN 3 THEN bytes := substr(bytes, 1, at);
			ELSE bytes := substr(bytes, 1, at) || convert_to(pg_temp.pick(ARRAY['null', '[', '{', '}', ']', '"', ',', ':', '\', '\u0000', '\ud83d', '\\', '1e999', '-1',
				'99999999999999999999999', '"error":', 'true', repeat('[', 200), repeat('é', 600), 'sk-fuzz-secret', '"choices":[],', '[]', '{}', '0.1']), 'UTF8') || substr(bytes, at + 1);
		END CASE;
	END LOOP;
	RETURN bytes;
END $$;

-- Another value in the place of one of the first forty: valid JSON stays valid.
CREATE FUNCTION pg_temp.replaced(json text) RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT regexp_replace(json, ': ("[^"]*"|-?[0-9.e]+|null|\[[^][{}]*\]|\{[^{}]*\})', ': ' ||
		pg_temp.pick(ARRAY['null', '[]', '{}', '""', '"x"', '5', '-1', '1e300', 'true', '[1, 2]', '["a"]', '{"a": {}}', '[[1], [2]]', '"\\ud83d"', '"\\u0000"']), 1, 1 + floor(random() * 15)::int)
$$;

CREATE FUNCTION pg_temp.check_outcome(r jsonb, bytes bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	ASSERT r->>'verdict' IN ('completed', 'retry', 'retry_elsewhere', 'fatal'), format('verdict of %s: %s', bytes, r);
	ASSERT (r->>'verdict' = 'completed') = (r->'result' IS NOT NULL), format('result of %s: %s', bytes, r);
	ASSERT (r->>'verdict' = 'completed') = (r->'message' IS NULL), format('message of %s: %s', bytes, r);
	ASSERT r->>'code' <> 'internal_error', format('guarded error of %s: %s', bytes, r);
	ASSERT (r->>'cost_usd')::numeric >= 0, format('cost of %s: %s', bytes, r);
	ASSERT coalesce(length(r->>'message'), 0) <= 500, format('length of %s: %s', bytes, r);
	ASSERT coalesce(r->>'message', '') NOT LIKE '%sk-fuzz-secret%', format('the key in %s: %s', bytes, r);
	ASSERT coalesce((r->>'retry_after_ms')::bigint, 0) BETWEEN 0 AND 3600000, format('wait of %s: %s', bytes, r);
END $$;

CREATE FUNCTION pg_temp.run(seconds int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + make_interval(secs => seconds);
	provider jsonb := '{"api_key": "sk-fuzz-secret"}';
	prices jsonb := '{"price_input": 0.15, "price_output": 0.6, "price_cached": 0.075, "price_image": 0.04, "price_audio_second": 0.001}';
	types text[] := '{chat,embeddings,image_generation,transcription}';
	kinds text[] := '{openai,anthropic,openrouter,huggingface}';
	payloads text[];
	bytes bytea;
	payload jsonb;
	r jsonb;
	answers int := 0;
	completed int := 0;
	built int := 0;
BEGIN
	SELECT array_agg(text) INTO payloads FROM corpus WHERE what = 'payload';
	WHILE clock_timestamp() < until LOOP
		SELECT convert_to(text, 'UTF8') INTO bytes FROM corpus WHERE what = 'answer' ORDER BY random() LIMIT 1;
		bytes := CASE WHEN random() < 0.5 THEN pg_temp.mutate(bytes)
			ELSE convert_to(pg_temp.replaced(pg_temp.replaced(convert_from(bytes, 'UTF8'))), 'UTF8') END;
		r := eduai.test_read_response(pg_temp.pick(kinds), pg_temp.pick(types),
			CASE WHEN random() < 0.6 THEN 200 ELSE floor(random() * 700)::int END,
			jsonb_build_object('retry-after', pg_temp.pick('{2,-1,soon,1e9,Sun Nov  6 08:50:37 1994}'), 'content-type', pg_temp.pick('{text/plain,application/json}')),
			bytes, pg_temp.pick(payloads)::jsonb, provider, prices);
		PERFORM pg_temp.check_outcome(r, bytes);
		answers := answers + 1;
		completed := completed + (r->>'verdict' = 'completed')::int;

		bytes := CASE WHEN random() < 0.3 THEN pg_temp.mutate(convert_to(pg_temp.pick(payloads), 'UTF8'))
			ELSE convert_to(pg_temp.replaced(pg_temp.replaced(pg_temp.pick(payloads))), 'UTF8') END;
		BEGIN
			payload := convert_from(bytes, 'UTF8')::jsonb;
		EXCEPTION WHEN data_exception OR statement_too_complex THEN
			CONTINUE;
		END;
		r := eduai.test_build_request(pg_temp.pick(kinds), pg_temp.pick(types), payload, provider, prices);
		ASSERT r ? 'url' OR r->>'code' = 'bad_payload', format('request of %s: %s', payload, r);
		ASSERT r->>'headers' IS NULL OR r->>'headers' NOT LIKE '%sk-fuzz-secret%', 'the key is not masked';
		built := built + (r ? 'url')::int;
	END LOOP;
	ASSERT completed > 0 AND built > 0, 'nothing went through: the corpus is no use';
	RETURN format('%s answers read (%s completed), %s requests built', answers, completed, built);
END $$;
SELECT pg_temp.run(:seconds);
