-- add_instance(), set_instance_state(), remove_instance().
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, message, nullif(detail, ''), nullif(hint, ''));
END $$;
CREATE FUNCTION pg_temp.add(arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.try('SELECT eduai.add_instance(' || arguments || ')')
$$;
SELECT eduai.add_provider('open', 'openai', 'https://api.example.com/v1');
SELECT eduai.add_provider('anth', 'anthropic', 'https://api.example.com');

-- defaults, and everything given
SELECT eduai.add_instance('a', 'open', 'gpt-x');
SELECT eduai.add_instance('b', 'anth', 'claude-x', '{chat,analysis}', 3, 25, 3.00, 15.00,
	'{"aliases": ["best"], "tier": 2, "tenants": ["school-1"], "region": "eu", "context_tokens": 200000,
	  "max_output_tokens": 8192, "rpm": 50, "tpm": 40000, "daily_tokens": 1000000, "price_cached": 0.30,
	  "price_cache_write": 3.75, "price_reasoning": 15, "price_audio_second": 0.0001, "price_image": 0.04,
	  "connect_ms": 2000, "first_byte_ms": 60000, "stall_ms": 5000, "stream": false, "timeout_ms": 120000,
	  "embedding_space": "s"}');
SELECT name, provider, model, task_types, weight, max_concurrent, price_input, price_output, state FROM eduai.instance ORDER BY name;
-- again: replaced, but a drained instance stays drained
SELECT eduai.set_instance_state('a', 'draining');
SELECT eduai.add_instance('a', 'open', 'gpt-y', '{chat,embeddings,image_generation,transcription,analysis}', price_input => 0.15);
SELECT name, model, task_types, price_input, options, state FROM eduai.instance WHERE name = 'a';
SELECT eduai.set_instance_state('a', 'active');

-- refused
SELECT a, pg_temp.add(a) FROM unnest(ARRAY[
	$$'', 'open', 'm'$$, $$repeat('x', 64), 'open', 'm'$$, $$E'a\tb', 'open', 'm'$$, $$NULL, 'open', 'm'$$,
	$$'c', 'nobody', 'm'$$, $$'c', NULL, 'm'$$, $$'c', 'open', ''$$, $$'c', 'open', NULL$$, $$'c', 'open', E'm\n'$$,
	$$'c', 'open', 'm', '{}'$$, $$'c', 'open', 'm', NULL$$, $$'c', 'open', 'm', '{chat,NULL}'$$,
	$$'c', 'open', 'm', '{{chat},{chat}}'$$, $$'c', 'open', 'm', '{singing}'$$, $$'c', 'open', 'm', '{custom}'$$,
	$$'c', 'anth', 'm', '{chat,embeddings}'$$, $$'c', 'anth', 'm', '{image_generation}'$$,
	$$'c', 'open', 'm', weight => 0$$, $$'c', 'open', 'm', weight => NULL$$, $$'c', 'open', 'm', max_concurrent => -1$$,
	$$'c', 'open', 'm', price_input => -0.01$$, $$'c', 'open', 'm', price_output => 'NaN'$$,
	$$'c', 'open', 'm', price_output => 'Infinity'$$, $$'c', 'open', 'm', options => '[]'$$, $$'c', 'open', 'm', options => NULL$$,
	$$'c', 'open', 'm', options => '{"teir": 1}'$$, $$'c', 'open', 'm', options => '{"tier": 0}'$$,
	$$'c', 'open', 'm', options => '{"tier": "1"}'$$, $$'c', 'open', 'm', options => '{"aliases": "best"}'$$,
	$$'c', 'open', 'm', options => '{"aliases": [""]}'$$, $$'c', 'open', 'm', options => '{"tenants": [1]}'$$,
	$$'c', 'open', 'm', options => '{"price_cached": -1}'$$, $$'c', 'open', 'm', options => '{"stall_ms": 0}'$$,
	$$'c', 'open', 'm', options => '{"stream": "no"}'$$, $$'c', 'open', 'm', options => '{"rpm": 1e300}'$$,
	$$'c', 'open', 'm', options => '{"allow_loopback": true}'$$]) WITH ORDINALITY u(a, n)
ORDER BY n;
SELECT pg_temp.try($$SELECT eduai.set_instance_state('a', 'off')$$);
SELECT pg_temp.try($$SELECT eduai.set_instance_state('nobody', 'active')$$);
SELECT pg_temp.try($$SELECT eduai.set_instance_state('a', NULL)$$);
SELECT pg_temp.try($$SELECT eduai.remove_instance('nobody')$$);
SELECT count(*) FROM eduai.instance;

-- types of one's own are chats
SELECT eduai.define_task_type('essay_review', 'gateway', 'chat');
SELECT pg_temp.add($$'c', 'anth', 'm', '{essay_review}'$$);
SELECT eduai.remove_instance('c');

-- roles
\set VERBOSITY sqlstate
SET ROLE eduai_app;
SELECT eduai.add_instance('c', 'open', 'm');
SELECT eduai.set_instance_state('a', 'disabled');
SELECT eduai.remove_instance('a');
SET ROLE eduai_admin;
SELECT eduai.add_instance('c', 'open', 'm');
SELECT eduai.set_instance_state('c', 'disabled');
SELECT state FROM eduai.instance WHERE name = 'c';
UPDATE eduai.instance SET state = 'active';
SELECT eduai.remove_instance('c');
RESET ROLE;

SELECT eduai.remove_instance(name) FROM eduai.instance;
SELECT eduai.remove_provider(name) FROM eduai.provider;
DELETE FROM eduai.task_type WHERE name = 'essay_review';
