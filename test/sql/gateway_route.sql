-- route(): who would take a task, in words; and what enqueue() refuses of embeddings.
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
CREATE FUNCTION pg_temp.route(request jsonb, task_type text DEFAULT 'chat', algorithm text DEFAULT 'cost_optimized')
	RETURNS TABLE (instance text, reason text, fallbacks text[]) LANGUAGE sql AS $$
	SELECT r.instance, r.reason, r.fallbacks FROM eduai.route(task_type, algorithm, request) r
$$;
\pset format unaligned
\pset tuples_only on
BEGIN;
-- whatever the role was bound to before
SELECT eduai.allow_tenant(current_user::text, 'default');
SET LOCAL eduai.allow_mock = on;
SELECT eduai.add_provider('gateway_route', 'mock', '');
SELECT eduai.add_provider('gateway_route_keyless', 'openai', 'https://api.example.com/v1', 'env:GATEWAY_ROUTE_API_KEY');

-- tiers and prices; the dearer of a tier comes after, a higher tier last
SELECT eduai.add_instance('gr-cheap', 'gateway_route', 'gr', price_output => 1, options => '{"aliases": ["gr-any"]}'),
	eduai.add_instance('gr-dear', 'gateway_route', 'gr', price_output => 10),
	eduai.add_instance('gr-last', 'gateway_route', 'gr', options => '{"tier": 2}');
SELECT * FROM pg_temp.route('{"model": "gr", "prompt": "x", "max_tokens": 1000}');
SELECT instance, score FROM eduai.route('chat', 'cost_optimized', '{"model": "gr", "prompt": "x", "max_tokens": 1000}');
SELECT * FROM pg_temp.route('{"model": "gr-any", "prompt": "x"}');
SELECT eduai.set_instance_state('gr-cheap', 'draining'), eduai.set_instance_state('gr-dear', 'disabled');
SELECT * FROM pg_temp.route('{"model": "gr", "prompt": "x", "max_tokens": 1000}');
-- nobody now is no error
SELECT * FROM pg_temp.route('{"model": "gr-any", "prompt": "x"}');
SELECT instance IS NULL, score IS NULL FROM eduai.route('chat', request => '{"model": "gr-any"}');

-- contexts: where it fits; the largest where it fits nowhere
SELECT eduai.add_instance('gr-small', 'gateway_route', 'gr-c1', options => '{"aliases": ["gr-c"], "context_tokens": 100}'),
	eduai.add_instance('gr-large', 'gateway_route', 'gr-c2', price_output => 1, options => '{"aliases": ["gr-c"], "context_tokens": 1000}');
SELECT * FROM pg_temp.route('{"model": "gr-c", "prompt": "x"}');
SELECT * FROM pg_temp.route(jsonb_build_object('model', 'gr-c', 'prompt', repeat('word ', 100)));
SELECT * FROM pg_temp.route('{"model": "gr-c", "prompt": "x", "max_tokens": 500}');
SELECT * FROM pg_temp.route(jsonb_build_object('model', 'gr-c', 'prompt', repeat('word ', 10000)));
-- a picture is not text
SELECT * FROM pg_temp.route(jsonb_build_object('model', 'gr-c', 'image', 'data:image/png;base64,' || repeat('A', 100000)));

-- keys that cannot be had, tenants, types
SELECT eduai.add_instance('gr-keyless', 'gateway_route_keyless', 'gr-k'),
	eduai.add_instance('gr-school', 'gateway_route', 'gr-t', options => '{"tenants": ["school-1"]}');
SELECT * FROM pg_temp.route('{"model": "gr-k", "prompt": "x"}');
SELECT pg_temp.try($$SELECT eduai.route('chat', request => '{"model": "gr-t", "prompt": "x"}')$$);
SELECT pg_temp.try($$SELECT eduai.route('image_generation', request => '{"model": "gr", "prompt": "x"}')$$);

-- a chain stands in when all are out
SELECT eduai.add_instance('gr-want', 'gateway_route', 'gr-w', options => '{"fallback": ["gr-b-model", "gr-a"]}'),
	eduai.add_instance('gr-a', 'gateway_route', 'gr-a-model'),
	eduai.add_instance('gr-b', 'gateway_route', 'gr-b-model');
SELECT * FROM pg_temp.route('{"model": "gr-w", "prompt": "x"}');
SELECT eduai.set_instance_state('gr-want', 'disabled');
SELECT * FROM pg_temp.route('{"model": "gr-w", "prompt": "x"}');
SELECT eduai.set_instance_state('gr-b', 'disabled');
SELECT * FROM pg_temp.route('{"model": "gr-w", "prompt": "x"}');

-- embeddings: one space, and a model's name
SELECT eduai.add_instance('gr-e1', 'gateway_route', 'gr-emb', '{embeddings}', options => '{"embedding_space": "one", "fallback": ["gr-e3"]}'),
	eduai.add_instance('gr-e2', 'gateway_route', 'gr-emb-2', '{embeddings}', options => '{"embedding_space": "one"}'),
	eduai.add_instance('gr-e3', 'gateway_route', 'gr-emb-3', '{embeddings}'),
	eduai.add_instance('gr-e4', 'gateway_route', 'gr-emb-4', '{embeddings}', options => '{"aliases": ["gr-emb"], "embedding_space": "two"}');
SELECT * FROM pg_temp.route('{"model": "gr-emb", "input": "x"}', 'embeddings');
SELECT pg_temp.try($$SELECT eduai.route('embeddings', request => '{"input": "x"}')$$);
SELECT pg_temp.try($$SELECT eduai.enqueue('embeddings', '{"input": "x"}')$$);
SELECT pg_temp.try($$SELECT eduai.enqueue('embeddings', '{"input": "x"}', on_refusal => 'defer')$$);
SELECT pg_temp.try($$SELECT eduai.enqueue_batch('embeddings', ARRAY['{"model": "gr-emb", "input": "x"}', '{"input": "x"}']::jsonb[])$$);

-- a session's instance is the same whoever asks, however often
SELECT eduai.add_instance('gr-s' || n, 'gateway_route', 'gr-s') FROM generate_series(1, 4) n;
SELECT count(DISTINCT r.instance) FROM generate_series(1, 10), eduai.route('chat', 'adaptive', '{"model": "gr-s", "metadata": {"session": "a"}}') r;
SELECT count(DISTINCT r.instance) > 1 FROM generate_series(1, 30) n,
	eduai.route('chat', 'round_robin', jsonb_build_object('model', 'gr-s', 'metadata', jsonb_build_object('session', n))) r;
SELECT (SELECT instance FROM eduai.route('chat', 'round_robin', '{"model": "gr-s", "metadata": {"session": "ada"}}'))
	= (SELECT instance FROM eduai.route('chat', 'round_robin', '{"model": "gr-s", "user": "ada", "metadata": {"sticky": true}}'));

-- what cannot be asked
SELECT pg_temp.try(format('SELECT eduai.route(%s)', a)) FROM unnest(ARRAY[$$'chat', 'fastest'$$, $$NULL$$, $$'chat', request => NULL$$,
	$$'chat', request => '[]'$$, $$'chat', request => '{"priority": "soon"}'$$, $$'singing'$$]) WITH ORDINALITY u(a, n) ORDER BY n;
SELECT eduai.add_instance('gr-f', 'gateway_route', 'gr-f', options => '{"fallback": "gr-a"}');
ROLLBACK;
SHOW eduai.balancer;
SELECT eduai.disallow_tenant(current_user::text, 'default');
