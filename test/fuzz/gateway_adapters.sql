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
('answer', '{"choices": [{"message": {"content": "{\"sentiment\": {\"label\": \"mixed\", \"score\": 0.5, \"confidence\": 1}}"}, "finish_reason": "stop"}]}'),
('answer', '{"type": "message", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "text", "text": "{\"sentiment\": {\"label\": \"mixed\", \"score\": -1, \"confidence\": 0}}"}], "stop_reason": "end_turn", "usage": {"input_tokens": 12, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7, "output_tokens": 6}}'),
('answer', '{"json": {"sentiment": {"label": "neutral", "score": 0, "confidence": 0.5}}, "cost_usd": 0.01, "usage": {"input": 5, "cached": 2, "output": 3}}'),
('answer', '{"data": [{"index": 1, "embedding": "AAAgwAAAgD8="}, {"index": 0, "embedding": "zczMPQAAIMA="}], "usage": {"prompt_tokens": 8, "cost": 0.01}}'),
('answer', '{"created": 1, "size": "1024x1024", "quality": "high", "data": [{"b64_json": "iVBORw0KGgo=", "media_type": "image/png"}], "usage": {"input_tokens": 50, "output_tokens": 4160, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}}'),
('answer', '{"choices": [{"message": {"content": null, "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "cost": 0.04}}'),
('answer', '{"text": " Hello there", "chunks": [{"text": " Hello", "timestamp": [0.0, 1.5]}, {"text": " there", "timestamp": [1.5, null]}], "usage": {"seconds": 20, "cost": 0.005333}}'),
('payload', '{"text": "t", "analyses": ["sentiment"], "question": "q"}'),
('payload', '{"prompt": "p", "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object", "required": ["a"], "properties": {"a": {"anyOf": [{"type": "integer", "minimum": 1}, {"$ref": "#/$defs/b"}]}}, "$defs": {"b": {"type": "array", "minItems": 2, "items": {"enum": ["x", 5]}}}}}}}'),
('payload', '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"attachment": "picture", "detail": "low"}}, {"type": "input_audio", "input_audio": {"attachment": "sound"}}, {"type": "file", "file": {"attachment": "gone"}}]}]}'),
('payload', '{"audio": {"attachment": "sound"}, "response_format": "verbose_json"}'), ('payload', '{"audio": {"url": "https://x/a.mp3"}}'),
('payload', '{"prompt": "p", "n": 2, "size": "512x768", "quality": "hd", "parameters": {"guidance_scale": 7}}'),
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
	ASSERT coalesce((r->>'tokens_cached')::bigint, 0) + coalesce((r->>'tokens_cache_write')::bigint, 0) <= coalesce((r->>'tokens_in')::bigint, 0), format('parts of %s: %s', bytes, r);
	ASSERT coalesce((r->>'tokens_reasoning')::bigint, 0) <= coalesce((r->>'tokens_out')::bigint, 0), format('reasoning of %s: %s', bytes, r);
	ASSERT coalesce(length(r->>'message'), 0) <= 500, format('length of %s: %s', bytes, r);
	ASSERT coalesce(r->>'message', '') NOT LIKE '%sk-fuzz-secret%', format('the key in %s: %s', bytes, r);
	ASSERT coalesce((r->>'retry_after_ms')::bigint, 0) BETWEEN 0 AND 3600000, format('wait of %s: %s', bytes, r);
END $$;

-- What counts as a success of each type: never half of one.
CREATE FUNCTION pg_temp.check_result(task_type text, payload jsonb, r jsonb, bytes bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	result jsonb := r->'result';
BEGIN
	IF result IS NULL THEN
		RETURN;
	END IF;
	ASSERT result ?& '{finish_reason,model,usage}', format('the frame of %s: %s', bytes, r);
	ASSERT CASE task_type
		WHEN 'embeddings' THEN result ? 'embedding' OR result ? 'embeddings'
		WHEN 'image_generation' THEN jsonb_array_length(result->'images') > 0
		WHEN 'transcription' THEN jsonb_typeof(result->'transcript') = 'string'
		ELSE result ? 'text' END, format('the content of %s: %s', bytes, r);
	ASSERT task_type <> 'analysis' OR NOT payload ? 'analyses' OR (result->'json'->'sentiment'->>'label' IN ('positive', 'neutral', 'negative', 'mixed')
		AND (result->'json'->'sentiment'->>'score')::numeric BETWEEN -1 AND 1), format('the analysis of %s: %s', bytes, r);
END $$;

-- A body that was cut anywhere is no success of any kind, nor is one without its finish reason.
CREATE FUNCTION pg_temp.check_cuts(providers jsonb[], kinds text[], types text[]) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	a record;
	r jsonb;
	n int := 0;
BEGIN
	FOR a IN SELECT text AS whole, k, t, cut, convert_to(left(text, cut), 'UTF8') AS bytes
		FROM corpus, generate_subscripts(kinds, 1) k, unnest(types) t, generate_series(0, length(text) - 1, 7) cut WHERE what = 'answer' LOOP
		r := eduai.test_read_response(kinds[a.k], a.t, 200, '{}', a.bytes, '{"input": ["a", "b"], "prompt": "p"}', providers[a.k], '{}');
		ASSERT r->>'verdict' <> 'completed', format('%s of %s cut at %s is a success: %s', a.t, a.whole, a.cut, r);
		n := n + 1;
	END LOOP;
	FOR a IN SELECT regexp_replace(text, '"(finish_reason|stop_reason)": "[a-z_]+"', '"x": 1') AS bytes, k
		FROM corpus, generate_series(1, 4) k WHERE what = 'answer' AND text ~ 'finish_reason|stop_reason' LOOP
		r := eduai.test_read_response(kinds[a.k], 'chat', 200, '{}', convert_to(a.bytes, 'UTF8'), '{"prompt": "p"}', providers[a.k], '{}');
		ASSERT r->>'verdict' <> 'completed', format('%s has no finish reason and is a success: %s', a.bytes, r);
	END LOOP;
	RETURN n;
END $$;

CREATE FUNCTION pg_temp.run(seconds int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + make_interval(secs => seconds);
	provider jsonb := '{"api_key": "sk-fuzz-secret", "metadata": {"raw": true}, "files": {"picture": {"content_type": "image/png", "text": "PNG"}, "sound": {"content_type": "audio/webm; codecs=opus", "text": "OggS"}, "gone": {}}}';
	task_type text;
	cuts int;
	prices jsonb := '{"price_input": 0.15, "price_output": 0.6, "price_cached": 0.075, "price_image": {"hd": 0.08, "default": 0.04}, "audio_url": true, "price_audio_second": 0.001}';
	types text[] := '{chat,embeddings,image_generation,transcription,analysis}';
	-- the last one is the webhook
	kinds text[] := '{openai,anthropic,openrouter,huggingface,openai}';
	providers jsonb[] := array_fill(provider, '{4}') || (provider || '{"webhook": true}');
	k int;
	payloads text[];
	bytes bytea;
	payload jsonb;
	r jsonb;
	answers int := 0;
	completed int := 0;
	built int := 0;
BEGIN
	SELECT array_agg(text) INTO payloads FROM corpus WHERE what = 'payload';
	cuts := pg_temp.check_cuts(providers, kinds, types);
	WHILE clock_timestamp() < until LOOP
		SELECT convert_to(text, 'UTF8') INTO bytes FROM corpus WHERE what = 'answer' ORDER BY random() LIMIT 1;
		bytes := CASE WHEN random() < 0.5 THEN pg_temp.mutate(bytes)
			ELSE convert_to(pg_temp.replaced(pg_temp.replaced(convert_from(bytes, 'UTF8'))), 'UTF8') END;
		k := 1 + floor(random() * 5)::int;
		task_type := pg_temp.pick(types);
		payload := pg_temp.pick(payloads)::jsonb;
		r := eduai.test_read_response(kinds[k], task_type,
			CASE WHEN random() < 0.6 THEN 200 ELSE floor(random() * 700)::int END,
			jsonb_build_object('retry-after', pg_temp.pick('{2,-1,soon,1e9,Sun Nov  6 08:50:37 1994}'), 'content-type', pg_temp.pick('{text/plain,application/json,image/png,image/jpeg}')),
			bytes, payload, providers[k], prices);
		PERFORM pg_temp.check_outcome(r, bytes);
		-- kinds that do not serve a type are never asked
		IF k < 5 AND (kinds[k] <> 'anthropic' OR task_type IN ('chat', 'analysis')) THEN
			PERFORM pg_temp.check_result(task_type, payload, r, bytes);
		END IF;
		answers := answers + 1;
		completed := completed + (r->>'verdict' = 'completed')::int;

		bytes := CASE WHEN random() < 0.3 THEN pg_temp.mutate(convert_to(pg_temp.pick(payloads), 'UTF8'))
			ELSE convert_to(pg_temp.replaced(pg_temp.replaced(pg_temp.pick(payloads))), 'UTF8') END;
		BEGIN
			payload := convert_from(bytes, 'UTF8')::jsonb;
		EXCEPTION WHEN data_exception OR statement_too_complex THEN
			CONTINUE;
		END;
		k := 1 + floor(random() * 5)::int;
		r := eduai.test_build_request(kinds[k], pg_temp.pick(types), payload, providers[k], prices);
		ASSERT r ? 'url' OR r->>'code' IN ('bad_payload', 'payload_too_large'), format('request of %s: %s', payload, r);
		ASSERT r->>'headers' IS NULL OR r->>'headers' NOT LIKE '%sk-fuzz-secret%', 'the key is not masked';
		built := built + (r ? 'url')::int;
	END LOOP;
	ASSERT completed > 0 AND built > 0, 'nothing went through: the corpus is no use';
	RETURN format('%s answers cut, %s mutated ones read (%s completed), %s requests built', cuts, answers, completed, built);
END $$;
SELECT pg_temp.run(:seconds);
