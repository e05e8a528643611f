-- Answers that come as server-sent events: what is put together out of them is
-- what the same call would have had without streaming, whatever the pieces.

-- events(): each as a data line and a blank one; fed(): in one piece.
CREATE FUNCTION pg_temp.events(VARIADIC data text[]) RETURNS text LANGUAGE sql AS $$ SELECT string_agg('data: ' || d || E'\n\n', '' ORDER BY n) FROM unnest(data) WITH ORDINALITY u (d, n) $$;
CREATE FUNCTION pg_temp.fed(dialect text, stream text, max_body int DEFAULT 1048576) RETURNS jsonb LANGUAGE sql AS $$ SELECT eduai.test_stream(dialect, ARRAY[convert_to(stream, 'UTF8')], max_body) $$;
-- The end, the text, and the body's message and finish reason.
CREATE FUNCTION pg_temp.brief(r jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', r->>'end', left(r->>'text', 20), left(r #>> '{body,choices,0,message}', 90), r #>> '{body,choices,0,finish_reason}', r->>'no_json') $$;

-- ---- framing

\set hello '{"choices":[{"index":0,"delta":{"content":"Hel"}}]}'
\set world '{"choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}'
SELECT what, pg_temp.brief(pg_temp.fed('openai', s)) AS brief FROM (VALUES
	(1, 'LF', pg_temp.events(:'hello', :'world')),
	(2, 'CRLF', replace(pg_temp.events(:'hello', :'world'), E'\n', E'\r\n')),
	(3, 'CR', replace(pg_temp.events(:'hello', :'world'), E'\n', E'\r')),
	(4, 'a BOM', E'\uFEFF' || pg_temp.events(:'hello', :'world')),
	(5, 'comments, names and ids', E': processing\n\n:\nid: 1\nretry: 5\nevent: x\n' || pg_temp.events(:'hello') || E': more\n\n' || pg_temp.events(:'world')),
	(6, 'no space after the colon', replace(pg_temp.events(:'hello', :'world'), 'data: ', 'data:')),
	(7, 'data in lines', pg_temp.events(replace(replace(:'hello', '{', E'{\ndata: '), ']', E'\ndata:]'), :'world')),
	(8, 'a field without a colon, another name', E'data\ndatum: {"choices":5}\n\n' || pg_temp.events(:'hello', :'world')),
	(9, 'DONE, and what follows it', pg_temp.events(:'hello', :'world', '[DONE]', 'no JSON at all')),
	(10, 'the last blank line is missing', rtrim(pg_temp.events(:'hello', :'world'), E'\n') || E'\n'),
	(11, 'a second BOM is no BOM', pg_temp.events(:'hello') || E'\uFEFF' || pg_temp.events(:'world')),
	(12, 'nothing', ''),
	(13, 'comments alone', E': a\n\n: b\n\n'),
	(14, 'data in lines that end with CRLF', replace(pg_temp.events(replace(replace(:'hello', '{', E'{\ndata: '), ']', E'\ndata:]'), :'world'), E'\n', E'\r\n'))
) v (n, what, s) ORDER BY n;

-- ---- chat.completion.chunk

SELECT jsonb_pretty(pg_temp.fed('openai', pg_temp.events(
	'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"","choices":[],"prompt_filter_results":[]}',
	'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-5","service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}',
	'{"choices":[{"index":0,"delta":{"reasoning_content":"think "},"finish_reason":null}]}',
	'{"choices":[{"index":0,"delta":{"reasoning_content":"twice"},"finish_reason":null}]}',
	'{"choices":[{"index":0,"delta":{"content":"Caf\u00e9 \ud83d"},"logprobs":{"content":[{"token":"a","logprob":-0.5}]},"finish_reason":null}]}',
	'{"choices":[{"index":0,"delta":{"content":"\ude00 \"x\"\n"},"logprobs":{"content":[{"token":"b","logprob":-1}]},"finish_reason":null}]}',
	'{"choices":[{"index":1,"delta":{"content":"the other"},"finish_reason":"length"}]}',
	'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
	'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":4}}}',
	'[DONE]')));

-- Tool calls by index; by other ids where the index says nothing; arguments that are an object.
SELECT what, pg_temp.fed('openai', pg_temp.events(VARIADIC s)) #> '{body,choices,0,message}' AS message FROM (VALUES
	(1, 'by index', ARRAY['{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}}]}',
		'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}},{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]}}]}',
		'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"1}"}}]},"finish_reason":"tool_calls"}]}']),
	(2, 'by id', ARRAY['{"choices":[{"delta":{"content":"","tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}},{"index":0,"id":"b","function":{"name":"g","arguments":"{"}}]}}]}',
		'{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]},"finish_reason":"tool_calls"}]}']),
	(3, 'without an index', ARRAY['{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":{"q": "\"\\"}}}]},"finish_reason":"tool_calls"}]}']),
	(4, 'the older form', ARRAY['{"choices":[{"delta":{"function_call":{"name":"f","arguments":"{"}}}]}',
		'{"choices":[{"delta":{"function_call":{"arguments":"}"}},"finish_reason":"function_call"}]}']),
	(5, 'a refusal', ARRAY['{"choices":[{"delta":{"content":"","refusal":"I "}}]}', '{"choices":[{"delta":{"refusal":"will not"},"finish_reason":"stop"}]}']),
	(6, 'parts, and a whole message', ARRAY['{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[]},{"type":"text","text":"par"}]}}]}', '{"choices":[{"message":{"content":"ts"},"finish_reason":"stop"}]}']),
	(7, 'an empty answer', ARRAY['{"choices":[{"delta":{"content":""},"finish_reason":"stop"}]}'])
) v (n, what, s) ORDER BY n;

-- ---- ends

SELECT what, pg_temp.brief(pg_temp.fed('openai', s, most)) AS brief FROM (VALUES
	(1, 'cut', pg_temp.events(:'hello'), 1000),
	(2, 'DONE without a finish reason', pg_temp.events(:'hello', '[DONE]'), 1000),
	(3, 'an empty finish reason', pg_temp.events('{"choices":[{"delta":{"content":"x"},"finish_reason":""}]}'), 1000),
	(4, 'an event cut in the middle', pg_temp.events(:'hello') || E'data: {"choices":[{"ind', 1000),
	(5, 'no JSON', pg_temp.events(:'hello', '{"choices":['), 1000),
	(6, 'JSON, but no object', pg_temp.events(:'hello', '[1]'), 1000),
	(7, 'two values in an event', pg_temp.events(:'hello', '{} {}'), 1000),
	(8, 'choices that are none', pg_temp.events('{"choices":[5]}'), 1000),
	(9, 'a choice out of bounds', pg_temp.events('{"choices":[{"index":128,"delta":{}}]}'), 1000),
	(10, 'a raw control character', pg_temp.events(E'{"a":"\t"}'), 1000),
	(11, 'too deep', pg_temp.events('{"a":' || repeat('[', 300) || repeat(']', 300) || '}'), 1000),
	(12, 'an event that is too long', pg_temp.events(format('{"a":"%s"}', repeat('x', 1000))), 1000),
	(13, 'a line that is too long', 'data: ' || repeat('x', 1001), 1000),
	(14, 'an answer that is too long', repeat(pg_temp.events(format('{"choices":[{"delta":{"content":"%s"}}]}', repeat('x', 100))), 11), 1000),
	(15, 'frames without end', repeat(E': nothing\n', 6401), 1000),
	(16, 'as many frames as may be', repeat(E': nothing\n', 6400), 1000),
	(17, 'tool calls without a word', repeat(pg_temp.events('{"choices":[{"delta":{"tool_calls":[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"}]}}]}'), 5), 1000)
) v (n, what, s, most) ORDER BY n;
SELECT what, pg_temp.fed('openai', s) FROM (VALUES
	(1, 'an error in the middle', pg_temp.events(:'hello', '{"error":{"message":"overloaded","type":"server_error"}}', :'world')),
	(2, 'OpenRouter''s, with choices', pg_temp.events(:'hello', '{"id":"g","error":{"code":502,"message":"upstream"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}')),
	(3, 'by the event''s name', E'event: error\ndata: {"message":"no","type":"T"}\n\n'),
	(4, 'null is no error', pg_temp.events('{"error":null,"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}')),
	(5, 'object: error', pg_temp.events('{"object":"error","message":"m","code":400}')),
	(6, 'of a choice', pg_temp.events('{"choices":[{"delta":{"content":"x"},"error":{"code":502,"message":"cut"},"finish_reason":"error"}]}'))
) v (n, what, s) ORDER BY n;

-- ---- Anthropic's events

CREATE FUNCTION pg_temp.named(VARIADIC data text[]) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(format(E'event: %s\ndata: %s\n\n', substring(d from '^\{"type":"(\w+)"'), d), '' ORDER BY n) FROM unnest(data) WITH ORDINALITY u (d, n) $$;
\set start '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}'
\set ended '{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15,"input_tokens":null}}'
SELECT jsonb_pretty(pg_temp.fed('anthropic', pg_temp.named(:'start', '{"type":"ping"}',
	'{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}',
	'{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me "}}',
	'{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"see"}}',
	'{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}',
	'{"type":"content_block_stop","index":0}',
	'{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"Bon"}}',
	'{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"jour \ud83d"}}',
	'{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"\ude00"}}',
	'{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"cited_text":"x"}}}',
	'{"type":"content_block_stop","index":1}', '{"type":"a_kind_of_tomorrow","index":7}',
	'{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"weather","input":{}}}',
	'{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}',
	'{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"city\": \"Orl\u00e9"}}',
	'{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"ans\", \"n\": [1]}"}}',
	'{"type":"content_block_stop","index":2}',
	'{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_2","name":"time","input":{}}}',
	'{"type":"content_block_stop","index":3}',
	'{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}', '{"type":"message_stop"}')));

\set block '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
\set delta '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}'
\set tool '{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}'
\set input '{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\\"a\\": 1"}}'
SELECT what, r->>'end' AS "end", r->'begun' AS begun, r->>'text' AS text, r #> '{body,content}' AS content, r #>> '{body,stop_reason}' AS stop, r #> '{body,usage}' AS usage FROM (VALUES
	(1, 'whole', pg_temp.named(:'start', :'block', :'delta', :'ended', '{"type":"message_stop"}')),
	(2, 'without message_stop', pg_temp.named(:'start', :'block', :'delta', :'ended')),
	(3, 'cut', pg_temp.named(:'start', :'block', :'delta')),
	(4, 'pings alone', repeat(pg_temp.named('{"type":"ping"}'), 3)),
	(5, 'a tool''s input cut by max_tokens', pg_temp.named(:'start', :'tool', :'input', replace(:'ended', 'end_turn', 'max_tokens'))),
	(6, 'a tool''s input cut by nothing', pg_temp.named(:'start', :'tool', :'input', replace(:'ended', 'end_turn', 'tool_use'))),
	(7, 'a delta of no block', pg_temp.named(:'start', :'delta')),
	(8, 'a block out of order', pg_temp.named(:'start', replace(:'block', '"index":0', '"index":1'))),
	(9, 'two starts', pg_temp.named(:'start', :'start')),
	(10, 'without a start', pg_temp.named(:'block', :'delta', :'ended'))
) v (n, what, s), LATERAL pg_temp.fed('anthropic', s) r ORDER BY n;
SELECT pg_temp.fed('anthropic', pg_temp.named(:'start', :'block', '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', :'ended'));

-- ---- any pieces give the same

CREATE FUNCTION pg_temp.split_anywhere(dialect text, stream text, OUT splits int, OUT different int) LANGUAGE plpgsql AS $$
DECLARE
	bytes bytea := convert_to(stream, 'UTF8');
	whole jsonb := eduai.test_stream(dialect, ARRAY[bytes]);
BEGIN
	SELECT count(*), count(*) FILTER (WHERE eduai.test_stream(dialect, ARRAY[substr(bytes, 1, n), substr(bytes, n + 1)]) <> whole)
		INTO splits, different FROM generate_series(1, length(bytes)) n;
	IF eduai.test_stream(dialect, (SELECT array_agg(substr(bytes, n, 1) ORDER BY n) FROM generate_series(1, length(bytes)) n)) <> whole THEN
		different := different + 1;
	END IF;
	IF eduai.test_stream(dialect, (SELECT array_agg(substr(bytes, 3 * n - 2, 3) ORDER BY n) FROM generate_series(1, length(bytes) / 3 + 1) n)) <> whole THEN
		different := different + 1;
	END IF;
END $$;
SELECT what, different, splits > 100 AS enough FROM (VALUES
	(1, 'openai', 'a chat in CRLF', replace(E'\uFEFF: hi\n' || pg_temp.events(:'hello', '{"choices":[{"delta":{"content":"é\ud83d\ude00 😀"}}]}', :'world', '{"choices":[],"usage":{"prompt_tokens":1}}', '[DONE]'), E'\n', E'\r\n')),
	(2, 'openai', 'a chat in CR', replace(pg_temp.events(:'hello', :'world', '[DONE]') || 'data: 5', E'\n', E'\r')),
	(3, 'openai', 'a malformed one', pg_temp.events(:'hello', :'world', '{"a": tru}', :'hello')),
	(4, 'openai', 'an error', pg_temp.events(:'hello', '{"error":{"message":"no"}}', :'world')),
	(5, 'anthropic', 'a message', pg_temp.named(:'start', '{"type":"ping"}', :'tool', :'input', '{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"}"}}', :'ended', '{"type":"message_stop"}'))
) v (n, dialect, what, s), LATERAL pg_temp.split_anywhere(dialect, s) ORDER BY n;

-- ---- what adapters make of it: the same as of the answer in one piece

CREATE FUNCTION pg_temp.read(kind text, body jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT eduai.test_read_response(kind, 'chat', 200, '{}', convert_to(body::text, 'UTF8'), instance => '{"price_input": 3, "price_output": 15, "price_cached": 0.3}') $$;
SELECT pg_temp.read('openai', pg_temp.fed('openai', pg_temp.events('{"model":"gpt-5","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}', :'hello', :'world',
		'{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":40}}}', '[DONE]'))->'body')
	= pg_temp.read('openai', '{"model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":40}}}') AS same;
SELECT pg_temp.read('openai', pg_temp.fed('openai', pg_temp.events(:'hello', '{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":10}}', '[DONE]'))->'body') - 'message' AS cut_but_paid;
SELECT pg_temp.read('anthropic', pg_temp.fed('anthropic', pg_temp.named(:'start', :'block', :'delta', :'ended', '{"type":"message_stop"}'))->'body') AS message;
SELECT pg_temp.read('anthropic', pg_temp.fed('anthropic', pg_temp.named(:'start', :'block', :'delta'))->'body') - 'message' AS cut_but_paid;

-- ---- what is asked for

SELECT kind, eduai.test_build_request(kind, 'chat', '{"prompt": "hi", "stream": false, "stream_options": {"x": 1}}', instance => '{"stream": true}') #> '{body,stream}' AS stream,
	eduai.test_build_request(kind, 'chat', '{"prompt": "hi", "stream_options": {"x": 1}}', instance => '{"stream": true}') #> '{body,stream_options}' AS options,
	(SELECT h FROM jsonb_array_elements_text(eduai.test_build_request(kind, 'chat', '{"prompt": "hi"}', instance => '{"stream": true}')->'headers') h WHERE h LIKE 'Accept:%') AS accept,
	eduai.test_build_request(kind, 'chat', '{"prompt": "hi", "stream": true}', instance => '{"stream": false}')->'body' ? 'stream' AS without
	FROM unnest('{openai,openrouter,huggingface,anthropic}'::text[]) WITH ORDINALITY u (kind, n) ORDER BY n;
SELECT eduai.test_build_request('openai', 'embeddings', '{"input": "hi"}', instance => '{"stream": true}')->'body' AS embeddings;

SELECT eduai.test_stream('gemini', '{}');
