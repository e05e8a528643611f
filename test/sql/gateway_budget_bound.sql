-- The most that a call can cost, before it is sent; by hand beside it.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.bound(payload jsonb, instance jsonb, task_type text DEFAULT 'chat', kind text DEFAULT 'openai', audio bytea DEFAULT NULL)
RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(b->>'bound_usd', b->>'why') FROM eduai.test_cost_bound(kind, task_type, payload, instance, audio) b
$$;
-- a payload's bytes, and 256 + 16 tokens of the provider's own, 16 more a message
CREATE FUNCTION pg_temp.tokens(payload jsonb) RETURNS numeric LANGUAGE sql AS $$
	SELECT octet_length(convert_to(payload::text, 'UTF8')) + 272 + 16 * coalesce(jsonb_array_length(payload->'messages'), 0)
$$;
\set prices '{"price_input": 2, "price_output": 8}'

-- every byte is a token: UTF-8 counts, not characters
SELECT pg_temp.bound(p, :'prices'), (pg_temp.tokens(p) * 2 + 100 * 8) / 1e6 = pg_temp.bound(p, :'prices')::numeric AS by_hand
FROM (VALUES ('{"prompt": "hello", "max_tokens": 100}'::jsonb), ('{"prompt": "héllo, 世界", "max_tokens": 100}'),
	('{"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}], "max_completion_tokens": 100}'),
	('{"messages": [], "max_tokens": 60, "max_completion_tokens": 100}')) v (p);
-- choices, reasoning at its price, the dearest price of the input
SELECT pg_temp.bound('{"prompt": "x", "max_tokens": 100, "n": 3}', '{"price_output": 8}'), 3 * 100 * 8 / 1e6;
SELECT pg_temp.bound('{"prompt": "x", "max_tokens": 100}', '{"price_output": 8, "price_reasoning": 20}'), 100 * 20 / 1e6;
SELECT pg_temp.bound('{"prompt": "x", "max_tokens": 100}', '{"price_output": 8, "price_reasoning": 2}'), 100 * 8 / 1e6;
SELECT pg_temp.bound(p, '{"price_input": 3, "price_cached": 0.3, "price_cache_write": 3.75}') = trim_scale(pg_temp.tokens(p) * 3.75 / 1e6)::text
FROM (VALUES ('{"prompt": "x", "max_tokens": 1}'::jsonb)) v (p);
-- sound, pictures and an hour of the cache, where one of them is the dearest
SELECT k, pg_temp.bound(p, jsonb_build_object('price_input', 3, 'price_cache_write', 3.75) || jsonb_build_object(k, 40)) = trim_scale(pg_temp.tokens(p) * 40 / 1e6)::text
FROM (VALUES ('{"prompt": "x", "max_tokens": 1}'::jsonb)) v (p), unnest('{price_cache_write_1h,price_audio_input,price_image_input}'::text[]) k;
SELECT pg_temp.bound('{"prompt": "x", "max_tokens": 100}', '{"price_output": 8, "price_audio_output": 80}'), 100 * 80 / 1e6;
-- the instance's limit, where the request has none; Anthropic always gets one
SELECT pg_temp.bound('{"prompt": "x"}', '{"price_output": 8, "max_output_tokens": 50}'), 50 * 8 / 1e6;
SELECT pg_temp.bound('{"prompt": "x", "max_tokens": 70}', '{"price_output": 8, "max_output_tokens": 50}'), 70 * 8 / 1e6;
SELECT pg_temp.bound('{"prompt": "x", "max_tokens": null}', '{"price_output": 8, "max_output_tokens": 50}'), 50 * 8 / 1e6;
SELECT pg_temp.bound('{"prompt": "x"}', '{"price_output": 8}', kind => 'anthropic'), 4096 * 8 / 1e6;
-- tools and their prompts, pictures
SELECT pg_temp.bound(p, '{"price_input": 1}') = trim_scale((pg_temp.tokens(p) + 1024 + 64) / 1e6)::text
FROM (VALUES ('{"messages": [], "max_tokens": 1, "tools": [{"type": "function", "function": {"name": "f"}}]}'::jsonb)) v (p);
SELECT pg_temp.bound(p, '{"price_input": 1}') = trim_scale((pg_temp.tokens(p) + 50000) / 1e6)::text,
	pg_temp.bound(p, '{"price_input": 1, "image_tokens": 1600}') = trim_scale((pg_temp.tokens(p) + 1600) / 1e6)::text
FROM (VALUES ('{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/1.png"}}]}], "max_tokens": 1}'::jsonb)) v (p);
-- no bound: what to do about it
SELECT p, pg_temp.bound(p, :'prices') FROM unnest(ARRAY['{"prompt": "x"}', '{"prompt": "x", "max_tokens": 0}', '{"prompt": "x", "max_tokens": -1}',
	'{"prompt": "x", "max_tokens": "100"}', '{"prompt": "x", "max_tokens": 9, "models": ["a", "b"]}',
	'{"prompt": "x", "max_tokens": 9, "service_tier": "priority"}', '{"prompt": "x", "max_tokens": 9, "modalities": ["text", "audio"]}',
	'{"prompt": "x", "max_tokens": 9, "tools": [{"type": "web_search"}]}',
	'{"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}], "max_tokens": 9}',
	'{"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"attachment": "a"}}]}], "max_tokens": 9}']::jsonb[])
	WITH ORDINALITY u (p, n) ORDER BY n;
-- a number that is sent as it is bounds nothing, even where the instance has one
SELECT pg_temp.bound('{"prompt": "x", "max_tokens": -1}', '{"price_output": 8, "max_output_tokens": 50}');
-- what is free is bounded by that, whatever it asks for; but not where the provider says what it charges
SELECT pg_temp.bound('{"prompt": "x", "models": ["a"]}', '{}'), pg_temp.bound('{"prompt": "x", "models": ["a"]}', '{}', kind => 'openrouter');
SELECT pg_temp.bound('{"prompt": "x"}', '{"price_input": 1}') = trim_scale(pg_temp.tokens('{"prompt": "x"}') / 1e6)::text AS output_is_free;
-- embeddings have no output; tokens are shorter than their digits
SELECT pg_temp.bound('{"input": [1, 2, 3]}', :'prices', 'embeddings'), (octet_length('{"input": [1, 2, 3]}') + 256) * 2 / 1e6;
-- pictures
SELECT pg_temp.bound('{"prompt": "a cat"}', '{"price_image": 0.04}', 'image_generation'), pg_temp.bound('{"prompt": "a cat", "n": 3}', '{"price_image": 0.04}', 'image_generation');
SELECT pg_temp.bound('{"prompt": "a cat"}', '{"price_output": 40}', 'image_generation');
SELECT pg_temp.bound('{"prompt": "a cat", "n": 2}', '{"price_output": 40, "max_output_tokens": 6240}', 'image_generation'), 2 * 6240 * 40 / 1e6;
-- audio: its bytes at the slowest rate of its format, told by its first bytes
SELECT pg_temp.bound('{"audio": {"base64": "T2dnUw=="}}', '{"price_audio_second": 0.0001}', 'transcription');
SELECT pg_temp.bound('{"audio": {"attachment": "a"}}', '{"price_audio_second": 0.0001}', 'transcription', audio => 'OggS'::bytea || decode(repeat('00', 999996), 'hex')) AS "4001 s",
	pg_temp.bound('{"audio": {"attachment": "a"}}', '{"price_audio_second": 0.0001}', 'transcription', audio => 'RIFF'::bytea || decode(repeat('00', 999996), 'hex')) AS "1001 s",
	pg_temp.bound('{"audio": {"attachment": "a", "content_type": "audio/wav"}}', '{"price_audio_second": 0.0001}', 'transcription', audio => 'OggS'::bytea || decode(repeat('00', 999996), 'hex')) AS "4001 s, whatever its label";
SELECT pg_temp.bound('{"audio": {"url": "https://x/a.mp3"}}', '{"price_audio_second": 0.0001}', 'transcription');
-- what is sent carries the bound: a null is none
SELECT r->'body' FROM eduai.test_build_request('openai', 'chat', '{"messages": [{"role": "user", "content": "x"}], "max_tokens": null}', '{}', '{"max_output_tokens": 50}') r;
SELECT r->'body' FROM eduai.test_build_request('openai', 'chat', '{"messages": [{"role": "user", "content": "x"}], "max_completion_tokens": null}', '{"base_url": "http://x/v1"}', '{"max_output_tokens": 50}') r;

-- on pace: no pressure; ahead of it: what is missing of the money for the time left
SELECT s, e, round(eduai.test_budget_pressure(s, e)::numeric, 4) FROM (VALUES (0, 0), (0.5, 0.5), (0.25, 0.5), (0.5, 0), (0.75, 0.5), (0.9, 0.5), (1, 0.5), (1.2, 0.5), (0, 1), (1, 1)) v (s, e);

-- periods
\pset null null
SET timezone = 'UTC';
SELECT per, p.* FROM unnest(ARRAY['1 day', '24 hours', '7 days', '1 month', '3 months', '1 year', '6 hours', '90 minutes', '1 minute']::interval[]) WITH ORDINALITY u (per, n),
	eduai.budget_period(per, '2026-03-29 13:37:00Z') p ORDER BY n;
SELECT p.* FROM eduai.budget_period('7 days', '1999-12-31 00:00Z') p;
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(h, ''));
END $$;
SELECT per, pg_temp.fails(format('SELECT eduai.budget_period(%L)', per)) FROM unnest(ARRAY['0', '-1 day', '59 seconds', '25 hours', '1 day 1 hour', '1 month 1 day', '11 years', '4000 days']) WITH ORDINALITY u (per, n) ORDER BY n;
SELECT pg_temp.fails('SELECT eduai.budget_period(NULL)');
SELECT pg_temp.fails($$SELECT eduai.budget_period('1 day', 'infinity')$$);
