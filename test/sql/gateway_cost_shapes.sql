-- Costs of every provider's usage shape, as their references document them,
-- against figures worked out by hand. Prices are USD per million tokens.
CREATE FUNCTION pg_temp.priced(kind text, task_type text, body text, prices jsonb, payload jsonb DEFAULT '{}', status int DEFAULT 200,
	headers jsonb DEFAULT '{}', provider jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', r->>'code', 'in=' || (r->>'tokens_in'), 'cached=' || (r->>'tokens_cached'), 'written=' || (r->>'tokens_cache_write'),
		'out=' || (r->>'tokens_out'), 'reasoning=' || (r->>'tokens_reasoning'), 'images=' || (r->>'images'), 'ms=' || (r->>'audio_ms'), 'usd=' || (r->>'cost_usd'))
	FROM eduai.test_read_response(kind, task_type, status, headers, convert_to(body, 'UTF8'), payload, provider, prices) r
$$;
CREATE FUNCTION pg_temp.chat(usage text) RETURNS text LANGUAGE sql AS $$
	SELECT format('{"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}], "usage": %s}', usage) $$;
CREATE FUNCTION pg_temp.claude(usage text, stop text DEFAULT 'end_turn') RETURNS text LANGUAGE sql AS $$
	SELECT format('{"type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "x"}], "stop_reason": %s, "stop_sequence": null, "usage": %s}',
		coalesce(to_json(stop)::text, 'null'), usage) $$;
\pset format unaligned
\pset tuples_only on

-- ---- OpenAI, chat: prompt_tokens include the cached ones, completion_tokens the reasoning ones ----
-- (2006 - 1920) × 2.00 + 1920 × 0.50 + 300 × 8.00 = 172 + 960 + 2400 = 3532 millionths
SELECT pg_temp.priced('openai', 'chat', pg_temp.chat('{"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
	"prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
	"completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}'),
	'{"price_input": 2.00, "price_cached": 0.50, "price_output": 8.00}');
-- reasoning at the output's price: 75 × 1.10 + 1186 × 4.40 = 82.5 + 5218.4 = 5300.9
SELECT pg_temp.priced('openai', 'chat', pg_temp.chat('{"prompt_tokens": 75, "completion_tokens": 1186, "total_tokens": 1261,
	"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 1024}}'),
	'{"price_input": 1.10, "price_output": 4.40}');
-- with a price of its own: 75 × 1.10 + 162 × 4.40 + 1024 × 2.20 = 82.5 + 712.8 + 2252.8 = 3048.1
SELECT pg_temp.priced('openai', 'chat', pg_temp.chat('{"prompt_tokens": 75, "completion_tokens": 1186, "total_tokens": 1261,
	"completion_tokens_details": {"reasoning_tokens": 1024}}'), '{"price_input": 1.10, "price_output": 4.40, "price_reasoning": 2.20}');
-- the names of newer endpoints: (50 - 10) × 2 + 10 × 0.5 + 20 × 8 = 80 + 5 + 160 = 245
SELECT pg_temp.priced('openai', 'chat', pg_temp.chat('{"input_tokens": 50, "output_tokens": 20, "total_tokens": 70,
	"input_tokens_details": {"cached_tokens": 10}, "output_tokens_details": {"reasoning_tokens": 5}}'),
	'{"price_input": 2.00, "price_cached": 0.50, "price_output": 8.00}');
-- a compatible server that counts cache hits beside the total: (100 - 64) × 0.27 + 64 × 0.07 + 10 × 1.10 = 9.72 + 4.48 + 11 = 25.2
SELECT pg_temp.priced('openai', 'chat', pg_temp.chat('{"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
	"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}'), '{"price_input": 0.27, "price_cached": 0.07, "price_output": 1.10}');

-- sound in prompts and answers (gpt-4o-audio), text and pictures counted beside it: 11 × 2.50 + 21 × 40 + 20 × 10 + 80 × 80 = 27.5 + 840 + 200 + 6400 = 7467.5
SELECT pg_temp.priced('openai', 'chat', pg_temp.chat('{"prompt_tokens": 32, "completion_tokens": 100, "total_tokens": 132,
	"prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 21, "text_tokens": 11, "image_tokens": 0},
	"completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 80, "text_tokens": 20}}'),
	'{"price_input": 2.50, "price_audio_input": 40, "price_output": 10, "price_audio_output": 80}');
-- pictures in prompts: 100 × 2 + 900 × 3.5 + 10 × 8 = 200 + 3150 + 80 = 3430
SELECT pg_temp.priced('openai', 'chat', pg_temp.chat('{"prompt_tokens": 1000, "completion_tokens": 10,
	"prompt_tokens_details": {"cached_tokens": 0, "text_tokens": 100, "image_tokens": 900}}'), '{"price_input": 2, "price_image_input": 3.5, "price_output": 8}');
-- without prices of their own they are tokens like others: 32 × 2.50 + 100 × 10 = 1080
SELECT pg_temp.priced('openai', 'chat', pg_temp.chat('{"prompt_tokens": 32, "completion_tokens": 100,
	"prompt_tokens_details": {"audio_tokens": 21}, "completion_tokens_details": {"audio_tokens": 80}}'), '{"price_input": 2.50, "price_output": 10}');
-- what is cached is that whatever it holds, and parts are cut to what is left: 4 × 0.5 + 6 × 40 + 2 × 10 + 3 × 7 = 2 + 240 + 20 + 21 = 283
SELECT pg_temp.priced('openai', 'chat', pg_temp.chat('{"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 100, "image_tokens": 100},
	"completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 100}}'),
	'{"price_input": 2, "price_cached": 0.5, "price_audio_input": 40, "price_image_input": 1000, "price_output": 10, "price_audio_output": 7}');

-- ---- OpenAI, embeddings: 8 × 0.02 = 0.16 ----
SELECT pg_temp.priced('openai', 'embeddings', '{"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}],
	"model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}}', '{"price_input": 0.02, "price_output": 1000}', '{"input": "x"}');

-- ---- OpenAI, transcription by tokens: 14 × 2.5 + 45 × 10 = 35 + 450 = 485 ----
SELECT pg_temp.priced('openai', 'transcription', '{"text": "hi", "usage": {"type": "tokens", "input_tokens": 14, "input_token_details":
	{"text_tokens": 0, "audio_tokens": 14}, "output_tokens": 45, "total_tokens": 59}}', '{"price_input": 2.5, "price_output": 10, "price_audio_second": 99}');
-- sound at its own price (gpt-4o-transcribe): 5 × 2.5 + 14 × 6 + 45 × 10 = 12.5 + 84 + 450 = 546.5
SELECT pg_temp.priced('openai', 'transcription', '{"text": "hi", "usage": {"type": "tokens", "input_tokens": 19, "input_token_details":
	{"text_tokens": 5, "audio_tokens": 14}, "output_tokens": 45, "total_tokens": 64}}', '{"price_input": 2.5, "price_audio_input": 6, "price_output": 10}');
-- a duration beside tokens is not billed: 14 × 2.5 + 45 × 10 = 485
SELECT pg_temp.priced('openai', 'transcription', '{"task": "transcribe", "duration": 27.4, "text": "Agent: Thanks", "segments": [], "usage": {"type": "tokens", "input_tokens": 14,
	"input_token_details": {"text_tokens": 0, "audio_tokens": 14}, "output_tokens": 45, "total_tokens": 59}}', '{"price_input": 2.5, "price_output": 10, "price_audio_second": 99}');
-- by duration: 9 × 0.0001
SELECT pg_temp.priced('openai', 'transcription', '{"task": "transcribe", "language": "english", "duration": 8.470000267028809, "text": "hi",
	"segments": [], "usage": {"type": "duration", "seconds": 9}}', '{"price_audio_second": 0.0001}');
-- verbose_json without usage: its own duration, to the millisecond: 8.470 × 0.0001
SELECT pg_temp.priced('openai', 'transcription', '{"task": "transcribe", "language": "english", "duration": 8.470000267028809, "text": "hi", "segments": []}',
	'{"price_audio_second": 0.0001}');

-- ---- OpenAI, pictures by tokens (gpt-image): 50 × 5 + 4160 × 40 = 250 + 166400 = 166650 ----
SELECT pg_temp.priced('openai', 'image_generation', '{"created": 1713833628, "background": "opaque", "output_format": "png", "quality": "high", "size": "1024x1024",
	"data": [{"b64_json": "iVBORw0KGgo="}], "usage": {"total_tokens": 4210, "input_tokens": 50, "output_tokens": 4160,
	"input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}}', '{"price_input": 5, "price_output": 40}');
-- pictures that were given at their own price (gpt-image-1): 10 × 5 + 40 × 10 + 4160 × 40 = 50 + 400 + 166400 = 166850
SELECT pg_temp.priced('openai', 'image_generation', '{"created": 1713833628, "data": [{"b64_json": "iVBORw0KGgo="}], "usage": {"total_tokens": 4210, "input_tokens": 50,
	"output_tokens": 4160, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}}', '{"price_input": 5, "price_image_input": 10, "price_output": 40}');
-- by the piece, dall-e: 3 × 0.040
SELECT pg_temp.priced('openai', 'image_generation', '{"created": 1589478378, "data": [{"url": "https://x/1"}, {"url": "https://x/2"}, {"url": "https://x/3"}]}',
	'{"price_image": 0.040}', '{"prompt": "a cat", "n": 3}');
-- by quality and size: what was asked for, else what was delivered, else the size alone, the quality, "default", the dearest
SELECT n, pg_temp.priced('openai', 'image_generation', b, '{"price_image": {"hd/1024x1792": 0.120, "1024x1792": 0.080, "hd": 0.060, "default": 0.040}}', p)
FROM (VALUES (1, '{"data": [{"url": "u"}]}', '{"prompt": "x", "quality": "hd", "size": "1024x1792"}'::jsonb), (2, '{"data": [{"url": "u"}]}', '{"prompt": "x", "size": "1024x1792"}'),
	(3, '{"data": [{"url": "u"}]}', '{"prompt": "x", "quality": "hd", "size": "1024x1024"}'), (4, '{"data": [{"url": "u"}]}', '{"prompt": "x"}'),
	(5, '{"quality": "hd", "size": "1024x1792", "data": [{"url": "u"}, {"url": "u"}]}', '{"prompt": "x", "quality": "auto", "size": "auto"}')) v (n, b, p) ORDER BY n;
SELECT pg_temp.priced('openai', 'image_generation', '{"data": [{"url": "u"}]}', '{"price_image": {"hd": 0.08, "standard": 0.04}}', '{"prompt": "x"}');

-- ---- Anthropic: input_tokens leave out what was read from and written to the cache ----
-- 50 × 3 + 100000 × 0.30 + 248 × 3.75 + 503 × 15 = 150 + 30000 + 930 + 7545 = 38625
SELECT pg_temp.priced('anthropic', 'chat', pg_temp.claude('{"input_tokens": 50, "cache_read_input_tokens": 100000, "cache_creation_input_tokens": 248,
	"cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100}, "output_tokens": 503, "service_tier": "standard"}'),
	'{"price_input": 3, "price_cached": 0.30, "price_cache_write": 3.75, "price_output": 15}');
-- kept for an hour at twice the input's price: 50 × 3 + 100000 × 0.30 + 148 × 3.75 + 100 × 6 + 503 × 15 = 150 + 30000 + 555 + 600 + 7545 = 38850
SELECT pg_temp.priced('anthropic', 'chat', pg_temp.claude('{"input_tokens": 50, "cache_read_input_tokens": 100000, "cache_creation_input_tokens": 248,
	"cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100}, "output_tokens": 503, "service_tier": "standard"}'),
	'{"price_input": 3, "price_cached": 0.30, "price_cache_write": 3.75, "price_cache_write_1h": 6, "price_output": 15}');
-- no more of it than was written: 10 × 3 + 20 × 6 + 1 × 15 = 30 + 120 + 15 = 165
SELECT pg_temp.priced('anthropic', 'chat', pg_temp.claude('{"input_tokens": 10, "cache_creation_input_tokens": 20, "cache_creation": {"ephemeral_1h_input_tokens": 100}, "output_tokens": 1}'),
	'{"price_input": 3, "price_cache_write": 3.75, "price_cache_write_1h": 6, "price_output": 15}');
-- thinking is counted in output_tokens; searches of the server's tools are not tokens: 105 × 3 + 6039 × 15 = 315 + 90585 = 90900
SELECT pg_temp.priced('anthropic', 'chat', pg_temp.claude('{"input_tokens": 105, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 6039,
	"server_tool_use": {"web_search_requests": 1}}'), '{"price_input": 3, "price_output": 15}');
-- null counts of older models: 12 × 0.8 + 6 × 4 = 33.6
SELECT pg_temp.priced('anthropic', 'chat', pg_temp.claude('{"input_tokens": 12, "cache_creation_input_tokens": null, "cache_read_input_tokens": null, "output_tokens": 6}'),
	'{"price_input": 0.8, "price_output": 4}');
-- refused, paused, cut: paid all the same: 564 × 3 + 43 × 15 = 1692 + 645 = 2337
SELECT s, pg_temp.priced('anthropic', 'chat', pg_temp.claude('{"input_tokens": 564, "output_tokens": 43}', s), '{"price_input": 3, "price_output": 15}')
FROM unnest(ARRAY['refusal', 'pause_turn', 'max_tokens', NULL]) WITH ORDINALITY u (s, n) ORDER BY n;

-- ---- OpenRouter: its own cost, in USD, is what was paid ----
SELECT pg_temp.priced('openrouter', 'chat', pg_temp.chat('{"completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 0}, "cost": 0.0009512345678901234,
	"cost_details": {"upstream_inference_cost": 19}, "is_byok": false, "prompt_tokens": 194, "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100, "audio_tokens": 0},
	"total_tokens": 196}'), '{"price_input": 3, "price_output": 15}');
-- a model that is free costs nothing, whatever the instance's prices
SELECT pg_temp.priced('openrouter', 'chat', pg_temp.chat('{"prompt_tokens": 10, "completion_tokens": 10, "cost": 0}'), '{"price_input": 3, "price_output": 15}');
-- without one: (194 - 20 - 100) × 3 + 20 × 0.3 + 100 × 3.75 + 2 × 15 = 222 + 6 + 375 + 30 = 633
SELECT pg_temp.priced('openrouter', 'chat', pg_temp.chat('{"completion_tokens": 2, "prompt_tokens": 194, "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 100}}'),
	'{"price_input": 3, "price_cached": 0.3, "price_cache_write": 3.75, "price_output": 15}');
-- embeddings, speech by the second, pictures
SELECT pg_temp.priced('openrouter', 'embeddings', '{"object": "list", "data": [{"index": 0, "embedding": [1, 2]}], "usage": {"prompt_tokens": 6, "total_tokens": 6, "cost": 0.00000012}}', '{}', '{"input": "x"}');
SELECT pg_temp.priced('openrouter', 'transcription', '{"text": "I used to.", "usage": {"seconds": 20, "cost": 0.005333}}', '{"price_audio_second": 5}');
SELECT pg_temp.priced('openrouter', 'image_generation', '{"created": 1, "data": [{"b64_json": "iVBORw0KGgo=", "media_type": "image/png"}],
	"usage": {"prompt_tokens": 12, "completion_tokens": 4175, "total_tokens": 4187, "cost": 0.04}}', '{"price_image": 5}');

-- ---- Hugging Face: usage may be missing; its inference has none at all ----
-- 57 × 0.1 + 17 × 0.3 = 5.7 + 5.1 = 10.8
SELECT pg_temp.priced('huggingface', 'chat', pg_temp.chat('{"prompt_tokens": 57, "completion_tokens": 17, "total_tokens": 74}'), '{"price_input": 0.1, "price_output": 0.3}');
SELECT pg_temp.priced('huggingface', 'chat', pg_temp.chat('null'), '{"price_input": 0.1, "price_output": 0.3}');
SELECT pg_temp.priced('huggingface', 'embeddings', '[[0.1, 0.2]]', '{"price_input": 1}', '{"input": ["x"]}');
SELECT pg_temp.priced('huggingface', 'transcription', '{"text": "hi"}', '{"price_audio_second": 1}');
SELECT pg_temp.priced('huggingface', 'image_generation', 'bytes', '{"price_image": 0.0125}', '{"prompt": "x"}', 200, '{"content-type": "image/webp"}');

-- ---- a webhook: its own cost, else its usage: (100 - 40) × 1 + 40 × 0.5 + 10 × 2 = 60 + 20 + 20 = 100 ----
SELECT pg_temp.priced('openai', 'chat', '{"text": "x", "usage": {"input": 100, "cached": 40, "output": 10}}', '{"price_input": 1, "price_cached": 0.5, "price_output": 2}', provider => '{"webhook": true}');
SELECT pg_temp.priced('openai', 'chat', '{"text": "x", "cost_usd": 0.0123456789, "usage": {"input": 100}}', '{"price_input": 1}', provider => '{"webhook": true}');

-- ---- failed calls that were billed ----
-- withheld, cut, broken answers under 200: 1000 × 2 + 10 × 8 = 2080
SELECT b, pg_temp.priced('openai', 'chat', '{"model": "m", "usage": {"prompt_tokens": 1000, "completion_tokens": 10}, ' || b, '{"price_input": 2, "price_output": 8}')
FROM unnest(ARRAY['"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}', '"choices": [{"message": {"content": "x"}, "finish_reason": null}]}',
	'"choices": []}', '"choices": [{"message": {"content": "x"}, "finish_reason": "error"}]}']) WITH ORDINALITY u (b, n) ORDER BY n;
-- an analysis that does not match
SELECT pg_temp.priced('openai', 'analysis', pg_temp.chat('{"prompt_tokens": 1000, "completion_tokens": 10}'), '{"price_input": 2, "price_output": 8}', '{"text": "x"}');
-- pictures of which one is broken: both were made, and paid for: 2 × 0.04
SELECT pg_temp.priced('openai', 'image_generation', '{"data": [{"url": "u"}, {"b64_json": "!"}]}', '{"price_image": 0.04}');
-- an error has no usage and costs nothing
SELECT pg_temp.priced('openai', 'chat', '{"error": {"message": "no", "type": "server_error"}}', '{"price_input": 2}', status => 500);
SELECT pg_temp.priced('openrouter', 'chat', '{"error": {"code": 402, "message": "no credits"}}', '{"price_input": 2}');

-- ---- hostile counts ----
-- negative ones and what is no number are none
SELECT u, pg_temp.priced('openai', 'chat', pg_temp.chat(u), '{"price_input": 1, "price_output": 1}') FROM unnest(ARRAY[
	'{"prompt_tokens": -5, "completion_tokens": -1}', '{"prompt_tokens": "7", "completion_tokens": [1]}', '{"prompt_tokens": true, "completion_tokens": {}}', '[]', '7', '"x"',
	'{"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": -3}}',
	-- huge ones are cut to a million millions, and what does not fit at all is none
	'{"prompt_tokens": 9e17}', '{"prompt_tokens": 1e300}',
	-- parts larger than their wholes are cut to them
	'{"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 11, "cache_write_tokens": 5}}',
	'{"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 50}}',
	'{"completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 1e12}}']) WITH ORDINALITY v (u, n) ORDER BY n;
SELECT pg_temp.priced('anthropic', 'chat', pg_temp.claude('{"input_tokens": -1, "cache_read_input_tokens": 9e18, "cache_creation_input_tokens": 9e18, "output_tokens": -9}'),
	'{"price_input": 1, "price_output": 1}');
-- costs that nobody believes: the tokens count instead
SELECT c, pg_temp.priced('openrouter', 'chat', pg_temp.chat(format('{"prompt_tokens": 5, "cost": %s}', c)), '{"price_input": 2}')
FROM unnest(ARRAY['-1', '1e9', '1e999', '"0.5"', 'null', '[1]', '1000000']) WITH ORDINALITY u (c, n) ORDER BY n;
SELECT s, pg_temp.priced('openai', 'transcription', format('{"text": "x", "usage": {"type": "duration", "seconds": %s}}', s), '{"price_audio_second": 1}')
FROM unnest(ARRAY['-3', '1e12', '"1e400"', '"nan"', '0.0004', '"12.5"']) WITH ORDINALITY u (s, n) ORDER BY n;
