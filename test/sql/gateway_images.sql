-- Pictures: requests of each kind, answers, and what is no picture.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.built(kind text, payload jsonb, model text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT r - 'cost_usd' FROM eduai.test_build_request(kind, 'image_generation', payload, '{}', jsonb_build_object('model', model)) r
$$;
CREATE FUNCTION pg_temp.read(kind text, body bytea, headers jsonb DEFAULT '{}', status int DEFAULT 200, task_type text DEFAULT 'image_generation') RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', r->>'verdict', r->>'code', r->>'message', r->'result') FROM eduai.test_read_response(kind, task_type, status, headers, body, '{"prompt": "x"}') r
$$;

-- dall-e is asked for a format, the models that know only base64 are not
SELECT pg_temp.built('openai', '{"prompt": "a cat", "n": 2, "size": "1024x1792", "quality": "hd", "style": "vivid", "response_format": "b64_json"}', 'dall-e-3')->'body';
SELECT m, pg_temp.built('openai', '{"prompt": "a cat", "size": "auto", "quality": "low", "background": "transparent", "output_format": "webp", "output_compression": 80, "response_format": "url"}', m)->'body'
FROM unnest('{gpt-image-1,gpt-image-1-mini,chatgpt-image-latest}'::text[]) m;
-- OpenRouter's endpoint of its own; Hugging Face's {inputs, parameters}, answered by bytes
SELECT pg_temp.built('openrouter', '{"prompt": "a cat", "size": "2K"}', 'google/gemini-image');
SELECT pg_temp.built('huggingface', '{"prompt": "a cat", "size": "512x768", "parameters": {"guidance_scale": 7}, "n": 1}', 'black-forest-labs/FLUX.1-dev');
SELECT pg_temp.built('huggingface', '{"prompt": "a cat", "size": "huge"}', 'm')->'body';
SELECT pg_temp.built(k, '{}', 'm')->>'message' FROM unnest('{openai,openrouter,huggingface}'::text[]) k;

-- answers
SELECT pg_temp.read('openai', '{"created": 1, "data": [{"url": "https://x/1", "revised_prompt": "A cat."}, {"b64_json": "iVBORw0KGgo="}]}');
SELECT pg_temp.read('openrouter', '{"created": 1, "data": [{"b64_json": "PHN2Zz48L3N2Zz4=", "media_type": "image/svg+xml"}], "usage": {"prompt_tokens": 5, "completion_tokens": 40, "cost": 0.04}}');
-- none, or broken ones: never some of them for all
SELECT b, pg_temp.read('openai', convert_to(b, 'UTF8')) FROM unnest(ARRAY['{"data": []}', '{}', '{"data": [{}]}', '{"data": [{"url": "https://x/1"}, {"b64_json": "not base64!"}]}', '{"data": [{"url": 5}]}', '{"data": ["x"]}']) WITH ORDINALITY u (b, n) ORDER BY n;
-- bytes: whole ones only, by what their formats end with
SELECT n, pg_temp.read('huggingface', b, '{"content-type": "image/png"}') FROM (VALUES (1, '\x89504e470d0a1a0a0000000049454e44ae426082'::bytea), (2, '\x89504e470d0a1a0a00000000'),
	(3, '\xffd8ffe000104a464946ffd9'), (4, '\xffd8ffe000104a464946'), (5, '')) v (n, b) ORDER BY n;
SELECT pg_temp.read('huggingface', '{"error": "Model is loading", "estimated_time": 20.0}', '{"content-type": "application/json"}', 503);
SELECT pg_temp.read('huggingface', '{"error": "no"}', '{"content-type": "application/json"}');
SELECT pg_temp.read('huggingface', '[]', '{"content-type": "application/json"}');
SELECT pg_temp.read('huggingface', 'busy', '{"content-type": "image/png"}', 500);
-- pictures beside a chat's text, and without any
SELECT pg_temp.read('openrouter', '{"choices": [{"message": {"content": "Here.", "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}, {"type": "image_url", "image_url": {"url": "https://x/2"}}]}, "finish_reason": "stop"}]}', task_type => 'chat');
SELECT pg_temp.read('openrouter', '{"choices": [{"message": {"content": null, "images": [{"image_url": {"url": "https://x/2"}}]}, "finish_reason": "stop"}]}', task_type => 'chat');
SELECT pg_temp.read('openrouter', '{"choices": [{"message": {"content": "Here.", "images": [{"image_url": {"url": "https://x/2"}}, {"image_url": {"url": "data:image/png,x"}}]}, "finish_reason": "stop"}]}', task_type => 'chat');

-- prices by kind of picture
CREATE FUNCTION pg_temp.add(prices jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	h text;
BEGIN
	PERFORM eduai.add_instance('regress_images', 'regress_images', 'dall-e-3', '{image_generation}', options => jsonb_build_object('price_image', prices));
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, h);
END $$;
SELECT eduai.add_provider('regress_images', 'openai', 'https://api.openai.com/v1', 'sk-regress-0123456789');
SELECT p, pg_temp.add(p) FROM unnest(ARRAY['0.04', '{"hd/1024x1792": 0.12, "default": 0.04}', '{}', '[]', '{"hd": "0.1"}', '{"hd": -1}', '"x"', '-1']::jsonb[]) WITH ORDINALITY u (p, n) ORDER BY n;
SELECT eduai.remove_instance('regress_images');
SELECT eduai.remove_provider('regress_images');
