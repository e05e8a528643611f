-- Costs are exact, and cached tokens are counted once.
CREATE FUNCTION pg_temp.cost(usage jsonb, prices jsonb, kind text DEFAULT 'openai') RETURNS text LANGUAGE sql AS $$
	SELECT r->>'cost_usd' FROM eduai.test_read_response(kind, 'chat', 200, '{}',
		convert_to(CASE kind WHEN 'anthropic'
			THEN jsonb_build_object('content', '[]'::jsonb, 'stop_reason', 'end_turn', 'usage', usage)
			ELSE jsonb_build_object('choices', '[{"message": {"content": "x"}, "finish_reason": "stop"}]'::jsonb, 'usage', usage)
			END::text, 'UTF8'), '{}', '{}', prices) r
$$;
\set prices '{"price_input": 0.15, "price_output": 0.60, "price_cached": 0.075}'
SELECT pg_temp.cost('{"prompt_tokens": 1000, "completion_tokens": 500}', :'prices');
-- 1000 prompt tokens of which 400 cached: 600 × 0.15 + 400 × 0.075 + 500 × 0.60
SELECT pg_temp.cost('{"prompt_tokens": 1000, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": 400}}', :'prices');
-- without a price of its own, a cached token costs what any does
SELECT pg_temp.cost('{"prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 400}}', '{"price_input": 0.15}');
-- 0.1 + 0.2 and one token of a third of a cent
SELECT pg_temp.cost('{"prompt_tokens": 1, "completion_tokens": 1}', '{"price_input": 0.1, "price_output": 0.2}');
SELECT pg_temp.cost('{"prompt_tokens": 3}', '{"price_input": 3333.333333333333}');
SELECT pg_temp.cost('{"prompt_tokens": 123456789012, "completion_tokens": 1}', '{"price_input": 123456.789, "price_output": 0.000001}');
-- reasoning is part of the output
SELECT pg_temp.cost('{"completion_tokens": 100, "completion_tokens_details": {"reasoning_tokens": 60}}', '{"price_output": 10}');
SELECT pg_temp.cost('{"completion_tokens": 100, "completion_tokens_details": {"reasoning_tokens": 60}}', '{"price_output": 10, "price_reasoning": 1}');
-- Anthropic's input_tokens leave the cache out: 1000 × 3 + 2000 × 0.30 + 500 × 3.75 + 100 × 15
SELECT pg_temp.cost('{"input_tokens": 1000, "cache_read_input_tokens": 2000, "cache_creation_input_tokens": 500, "output_tokens": 100}',
	'{"price_input": 3, "price_output": 15, "price_cached": 0.30, "price_cache_write": 3.75}', 'anthropic');
-- what the provider says it charged wins, from OpenRouter only
SELECT pg_temp.cost('{"prompt_tokens": 1000, "completion_tokens": 1000, "cost": 0.00123}', :'prices', 'openrouter');
SELECT pg_temp.cost('{"prompt_tokens": 1000, "completion_tokens": 1000, "cost": 0.00123}', :'prices', 'openai');
SELECT pg_temp.cost('{"prompt_tokens": 1000, "cost": -5}', :'prices', 'openrouter');
-- hostile or absent counts
SELECT pg_temp.cost(u, :'prices') FROM unnest(ARRAY['null', '{}', '{"prompt_tokens": -5}', '{"prompt_tokens": "many"}',
	'{"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 1000}}',
	'{"completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 1000}}',
	'{"prompt_tokens": 1e300}', '{"prompt_tokens": 9e18, "completion_tokens": 9e18}']::jsonb[]) WITH ORDINALITY v(u, n) ORDER BY n;
-- pictures and seconds
SELECT r->>'cost_usd' FROM eduai.test_read_response('openai', 'image_generation', 200, '{}',
	'{"data": [{"url": "https://x/1"}, {"url": "https://x/2"}]}', '{}', '{}', '{"price_image": 0.04}') r;
SELECT r->>'audio_ms', r->>'cost_usd' FROM eduai.test_read_response('openai', 'transcription', 200, '{}',
	'{"text": "hi", "usage": {"type": "duration", "seconds": 12.345}}', '{}', '{}', '{"price_audio_second": 0.0001}') r;
-- an answer that is refused here was paid for all the same
SELECT r->>'code', r->>'cost_usd' FROM eduai.test_read_response('openai', 'chat', 200, '{}',
	'{"choices": [{"message": {"content": "x"}, "finish_reason": null}], "usage": {"prompt_tokens": 1000000}}', '{}', '{}', '{"price_input": 2}') r;
