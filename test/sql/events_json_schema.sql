-- JSON Schema at append: every keyword passing and failing, what is refused at
-- registration, and that an error never tells a value.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
	h text;
	c text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT,
		c = PG_EXCEPTION_CONTEXT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, ''), nullif(h, ''),
		substring(c FROM 'event \d+ of \d+'));
END $$;
CREATE ROLE regress_events_schema;
GRANT eduai_app, eduai_admin TO regress_events_schema;
SELECT eduai.allow_tenant('regress_events_schema', 'events_schema');
SET ROLE regress_events_schema;
SET eduai.tenant = 'events_schema';

-- The verdict on data of a type with this schema: "ok", or the detail.
CREATE FUNCTION pg_temp.verdict(schema jsonb, data jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
BEGIN
	PERFORM eduai.register_event_type('js_case', json_schema => schema);
	PERFORM eduai.append_event('s', 'js_case', data);
	RETURN 'ok';
EXCEPTION WHEN check_violation THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL;
	IF SQLERRM <> 'data of event type "js_case" does not match its schema' THEN
		RAISE;
	END IF;
	RETURN d;
END $$;

-- Each value is the property "v" of data; "schema" is what "v" must be.
CREATE TEMP TABLE cases (n serial, keyword text, schema jsonb, good jsonb, bad jsonb);
INSERT INTO cases (keyword, schema, good, bad) VALUES
('type', '{"type": "null"}', '[null]', '[0, false, "", [], {}]'),
('type', '{"type": "boolean"}', '[true, false]', '[0, null, "true"]'),
('type', '{"type": "string"}', '["", "x"]', '[1, null, ["x"]]'),
('type', '{"type": "number"}', '[0, -1.5, 1e300]', '["1", null, true]'),
('type', '{"type": "integer"}', '[0, -7, 1.0, 1e3, 100000000000000000000000000000000]', '[1.5, "1", 1e-3, 100000000000000000000000000000000.1]'),
('type', '{"type": "array"}', '[[], [1]]', '[{}, "[]"]'),
('type', '{"type": "object"}', '[{}, {"a": 1}]', '[[], null]'),
('type', '{"type": ["string", "null"]}', '["x", null]', '[1, []]'),
('enum', '{"enum": ["a", 1, null, [1, {"x": 2}]]}', '["a", 1, 1.0, null, [1.0, {"x": 2.00}]]', '["b", 2, false, [1], [1, {"x": 3}]]'),
('const', '{"const": {"a": [1]}}', '[{"a": [1.0]}]', '[{"a": [1, 1]}, {}, null]'),
('const', '{"const": false}', '[false]', '[0, null, true]'),
('minimum', '{"minimum": 1.1}', '[1.1, 1.10, 2, "x"]', '[1.0999999999999999999999999999999999, -5]'),
('maximum', '{"maximum": 9007199254740993}', '[9007199254740993, -1, null]', '[9007199254740994, 9007199254740993.0000000000000000001]'),
('exclusiveMinimum', '{"exclusiveMinimum": 0}', '[0.0000000000000000000000001, []]', '[0, -1]'),
('exclusiveMaximum', '{"exclusiveMaximum": 1}', '[0.9999999999999999999999999, {}]', '[1, 1.0, 2]'),
('multipleOf', '{"multipleOf": 0.01}', '[0.07, 1.1, 4.35, 0, -0.29, "x"]', '[0.075, 0.0000000001]'),
('multipleOf', '{"multipleOf": 3}', '[9, -9, 3.0]', '[10, 3.5]'),
('minLength', '{"minLength": 2}', '["éé", "日本", "😀😀", 1]', '["é", "日", "😀", ""]'),
('maxLength', '{"maxLength": 2}', '["éé", "", "😀😀", [1, 2, 3]]', '["ééé", "abc"]'),
('pattern', '{"pattern": "^[a-z]{2,3}$"}', '["ab", "abc", 12]', '["a", "abcd", "AB", "é"]'),
('pattern', '{"pattern": "b+"}', '["abba"]', '["aa"]'),
('pattern', '{"pattern": "^\\d+\\s\\w$"}', '["12 x"]', '["12x", "１２ x"]'),
('format', '{"format": "date-time"}', '["2024-02-29T23:59:60Z", "1990-12-31t15:59:60-08:00", "2024-01-01T00:00:00.123456789z", "1937-01-01T12:00:27.87+00:20", 5]',
	'["2023-02-29T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00:60Z", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00Zx", "", "2024-13-01T00:00:00Z"]'),
('format', '{"format": "date"}', '["2000-02-29", "0000-01-01", "2024-12-31"]', '["1900-02-29", "2024-00-01", "2024-1-1", "24-01-01", "2024-01-01Z", "2024-04-31"]'),
('format', '{"format": "uuid"}', '["2EB8AA08-aa98-11ea-b4aa-73b441d16380"]', '["2eb8aa08-aa98-11ea-b4aa-73b441d1638", "2eb8aa08aa9811eab4aa73b441d16380", "2eb8aa08-aa98-11ea-b4aa-73b441d1638g", "2eb8aa08-aa98-11ea-b4aa-73b441d163800", "{2eb8aa08-aa98-11ea-b4aa-73b441d16380}"]'),
('format', '{"format": "email"}', '["a@b", "joe.o''x+1@sub.example.com", "\"j o\\\" e\"@example.com", "x@[127.0.0.1]", "x@[IPv6:::1]"]',
	'["ab", "@b", "a@", ".a@b", "a..b@c", "a.@b", "a b@c", "a@b_c", "a@-b", "a@b-", "a@b..c", "a@b@c", "é@b", "\"a@b", "a@[]", "a@b.", "a@[1] "]'),
('format', '{"format": "hostname"}', '["not checked: !"]', '[]'),
('required', '{"required": ["a", "b"]}', '[{"a": null, "b": 1}, "x", []]', '[{"a": 1}, {}]'),
('properties', '{"properties": {"a": {"type": "integer"}, "b": false}}', '[{"a": 1, "c": "x"}, {}, [], "x"]', '[{"a": "x"}, {"b": 1}]'),
('patternProperties', '{"patternProperties": {"^n_": {"type": "number"}, "x$": {"maximum": 5}}}', '[{"n_a": 1, "s": "x"}, {"n_x": 5}, []]', '[{"n_a": "x"}, {"n_x": 6}, {"ax": 6}]'),
('additionalProperties', '{"properties": {"a": true}, "patternProperties": {"^p": true}, "additionalProperties": false}', '[{"a": 1, "p1": 2}, {}, []]', '[{"a": 1, "b/~c": 2}]'),
('additionalProperties', '{"additionalProperties": {"type": "string"}}', '[{"a": "x"}]', '[{"a": 1}]'),
('propertyNames', '{"propertyNames": {"maxLength": 3}}', '[{"abc": 1}, {}, 1]', '[{"abcd": 1}]'),
('minProperties', '{"minProperties": 1}', '[{"a": 1}, []]', '[{}]'),
('maxProperties', '{"maxProperties": 1.0}', '[{"a": 1}, {}]', '[{"a": 1, "b": 2}]'),
('items', '{"items": {"type": "integer"}}', '[[], [1, 2], {}]', '[[1, "x"], [null]]'),
('items', '{"items": [{"type": "integer"}, {"type": "string"}]}', '[[], [1], [1, "x", null]]', '[["x"], [1, 2]]'),
('prefixItems', '{"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": false}', '[[], [1], [1, "x"], "x"]', '[["x"], [1, 2], [1, "x", 3]]'),
('minItems', '{"minItems": 2}', '[[1, 2], {}]', '[[1], []]'),
('maxItems', '{"maxItems": 1}', '[[1], []]', '[[1, 2]]'),
('uniqueItems', '{"uniqueItems": true}', '[[1, "1", true, null, [1], {"a": 1}], [], {}]', '[[1, 2, 1.0], [{"a": 1, "b": 2}, 5, {"b": 2, "a": 1}], [[], []], ["é", "é"]]'),
('uniqueItems', '{"uniqueItems": false}', '[[1, 1]]', '[]'),
('contains', '{"contains": {"const": 5}}', '[[1, 5], {}]', '[[1], []]'),
('allOf', '{"allOf": [{"minimum": 1}, {"maximum": 3}]}', '[2]', '[0, 4]'),
('anyOf', '{"anyOf": [{"type": "string"}, {"minimum": 3}]}', '["x", 3, null]', '[2]'),
('oneOf', '{"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}', '[2, 3]', '[6, 5]'),
('not', '{"not": {"type": ["string", "null"]}}', '[1]', '["x", null]'),
('if/then/else', '{"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"minimum": 0}}', '["ab", 0, null]', '["a", -1]'),
('if', '{"if": {"type": "string"}, "then": {"minLength": 2}}', '["ab", -1]', '["a"]'),
('then', '{"then": false, "else": false}', '[1, "x"]', '[]'),
('dependentRequired', '{"dependentRequired": {"a": ["b", "c"]}}', '[{"a": 1, "b": 1, "c": 1}, {"b": 1}, []]', '[{"a": 1, "b": 1}]'),
('boolean', 'true', '[1, null]', '[]'),
('boolean', 'false', '[]', '[1, null]'),
('annotations', '{"title": "t", "description": "d", "$comment": "c", "default": 1, "examples": [1], "deprecated": true, "readOnly": false, "writeOnly": true}', '[1, {"a": 1}]', '[]'),
('{}', '{}', '[1, null, {}]', '[]');

SELECT keyword, schema, 'accepts',
	string_agg(CASE WHEN v = 'ok' THEN g::text ELSE 'NOT ' || g::text || ': ' || v END, ' ' ORDER BY o)
	FROM cases, jsonb_array_elements(good) WITH ORDINALITY AS e (g, o),
		pg_temp.verdict(jsonb_build_object('properties', jsonb_build_object('v', schema)),
			jsonb_build_object('v', g)) v
	GROUP BY n, keyword, schema ORDER BY n;
SELECT keyword, b, v
	FROM cases, jsonb_array_elements(bad) WITH ORDINALITY AS e (b, o),
		pg_temp.verdict(jsonb_build_object('properties', jsonb_build_object('v', schema)),
			jsonb_build_object('v', b)) v
	ORDER BY n, o;

-- references, definitions and recursion
CREATE TEMP TABLE tree AS SELECT '{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/tree",
	"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "leaf": {"$ref": "#/$defs/a~1b%25"}, "old": {"$ref": "#/definitions/n"}},
	"additionalProperties": false,
	"$defs": {"a/b%": {"type": "integer"}}, "definitions": {"n": {"$ref": "#/$defs/a~1b%25", "minimum": 3}}}'::jsonb AS schema;
SELECT pg_temp.verdict(schema, data) FROM tree, (VALUES (1, '{"left": {"right": {"leaf": 1}}, "old": 3}'::jsonb),
	(2, '{"left": {"right": {"leaf": "x"}}}'), (3, '{"left": {"up": 1}}'), (4, '{"old": 2}'), (5, '{"old": "x"}')) AS d (n, data) ORDER BY n;
SELECT pg_temp.verdict(schema, (repeat('{"left": ', 1500) || '{"leaf": "x"}' || repeat('}', 1500))::jsonb) = 'The value at "' || repeat('/left', 1500) || '/leaf" must be of type "integer".' FROM tree;
SELECT pg_temp.fails($$SELECT pg_temp.verdict('{"$ref": "#"}', '{}')$$);
SELECT pg_temp.fails($$SELECT pg_temp.verdict('{"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}', '{}')$$);

-- the data itself; a NULL is {}
SELECT pg_temp.verdict('{"required": ["score"]}', '{}');
SELECT pg_temp.verdict('{"required": ["score"]}', NULL);
SELECT pg_temp.verdict('{"maxProperties": 0}', NULL);
SELECT pg_temp.verdict('false', '{}');
SELECT pg_temp.verdict('true', '{"a": 1}');
-- names in a path are escaped and cut short
SELECT pg_temp.verdict('{"additionalProperties": false}', jsonb_build_object(repeat('é', 40), 1));
SELECT pg_temp.verdict('{"additionalProperties": false}', jsonb_build_object(E'a\n/~', 1));

-- each way to append checks, all or none, and says which event it was
SELECT eduai.register_event_type('js_quiz', json_schema => '{"required": ["score"], "properties": {"score": {"maximum": 1}, "note": {"maxLength": 3}}}');
SELECT pg_temp.fails($$SELECT eduai.append_events('quiz', '[{"type": "js_quiz", "data": {"score": 1}}, {"type": "js_quiz", "data": {"score": 2}}]')$$);
SELECT pg_temp.fails($$SELECT eduai.append_batch('{quiz,quiz}', '{js_quiz,js_quiz}', ARRAY['{"score": 1}', '{}']::jsonb[])$$);
SELECT pg_temp.fails($$SELECT eduai.publish_event('js_quiz', 'ana', NULL, '{"score": 1, "note": "a secret"}')$$);
SELECT eduai.stream_version('quiz'), eduai.stream_version('learner-ana');
SELECT version FROM eduai.append_events('quiz', '[{"type": "js_quiz", "data": {"score": 1}}, {"type": "js_quiz", "data": {"score": 0.5}}]');
-- other types are not touched
SELECT version FROM eduai.append_event('quiz', 'js_other', '{"score": 2}');

-- what would not be heeded is refused
CREATE FUNCTION pg_temp.refused(schema text) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.fails(format('SELECT eduai.register_event_type(''js_bad'', json_schema => %L)', schema))$$;
SELECT schema, pg_temp.refused(schema) FROM (VALUES
	(1, '{"properties": {"a": {"minContains": 1}}}'), (2, '{"unevaluatedProperties": false}'), (3, '{"dependencies": {}}'),
	(4, '{"additionalItems": false}'), (5, '{"dependentSchemas": {}}'), (6, '{"unevaluatedItems": false}'), (7, '{"id": "x"}'),
	(8, '{"$anchor": "x"}'), (9, '{"$dynamicRef": "#x"}'), (10, '{"contentEncoding": "base64"}'), (11, '{"Type": "string"}'),
	(12, '{"": 1}'), (13, '{"allOf": [{}, {"typ": 1}]}'), (14, '{"properties": {"a": {"$id": "b"}}}'),
	(15, '{"$ref": "https://example.com/x"}'), (16, '{"$ref": "#/properties/a"}'), (17, '{"$ref": "#/$defs/a/b"}'),
	(18, '{"$ref": "#/$defs/%2"}'), (19, '{"$ref": "#/$defs/a~2"}'), (20, '{"$ref": "#x"}')) AS s (n, schema) ORDER BY n;
-- a schema that is none is refused with the place
SELECT schema, pg_temp.refused(schema) FROM (VALUES
	(1, 'null'), (2, '1'), (3, '[]'), (4, '"x"'), (5, '{"type": "text"}'), (6, '{"type": []}'), (7, '{"type": ["string", 1]}'),
	(8, '{"properties": {"a": {"minimum": "1"}}}'), (9, '{"minLength": -1}'), (10, '{"maxItems": 1.5}'), (11, '{"multipleOf": 0}'),
	(12, '{"required": "a"}'), (13, '{"required": [1]}'), (14, '{"enum": []}'), (15, '{"enum": 1}'), (16, '{"allOf": []}'), (17, '{"oneOf": {}}'),
	(18, '{"anyOf": [true, 1]}'), (19, '{"not": []}'), (20, '{"pattern": "("}'), (21, '{"pattern": 1}'), (22, '{"patternProperties": {"[": true}}'),
	(23, '{"properties": []}'), (24, '{"items": 1}'), (25, '{"items": []}'), (26, '{"uniqueItems": 1}'), (27, '{"format": 1}'),
	(28, '{"dependentRequired": {"a": "b"}}'), (29, '{"$ref": 1}'), (30, '{"$ref": "#/$defs/a"}'), (31, '{"$ref": "#/definitions/a", "$defs": {"a": true}}'),
	(32, '{"$defs": {"a": 1}}'), (33, '{"exclusiveMinimum": true}'), (34, '{"title": 1}'), (35, '{"examples": 1}'), (36, '{"deprecated": 1}'),
	(37, '{"if": 1}'), (38, '{"then": 1}'), (39, '{"else": 1}'), (40, '{"contains": 1}'), (41, '{"propertyNames": 1}'), (42, '{"prefixItems": []}')) AS s (n, schema) ORDER BY n;
SELECT count(*) FROM eduai.event_type WHERE event_type = 'js_bad';
-- deeper than the stack
CREATE TEMP TABLE deep AS SELECT (repeat('{"a": ', 1000) || '{}' || repeat('}', 1000))::jsonb AS data,
	(repeat('{"not": ', 3000) || 'true' || repeat('}', 3000))::jsonb AS schema;
SELECT eduai.register_event_type('js_deep', json_schema => '{"additionalProperties": {"$ref": "#"}}');
SELECT version > 0 FROM deep, eduai.append_event('deep', 'js_deep', data);
RESET ROLE;
SET max_stack_depth = '150kB';
SET ROLE regress_events_schema;
SELECT pg_temp.fails('SELECT eduai.register_event_type(''js_bad'', json_schema => schema) FROM deep');
SELECT pg_temp.fails('SELECT eduai.append_event(''deep'', ''js_deep'', data) FROM deep');
RESET ROLE;
RESET max_stack_depth;

DELETE FROM eduai.event_type_registration WHERE event_type LIKE 'js\_%';
SELECT eduai.disallow_tenant('regress_events_schema', 'events_schema');
DROP OWNED BY regress_events_schema;
DROP ROLE regress_events_schema;
