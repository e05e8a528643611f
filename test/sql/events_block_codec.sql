-- The codec of compacted events: what goes in comes out, to the byte, whatever
-- the values are; and damaged bytes are told as such.
\set VERBOSITY terse

-- Encodes events and says which do not come back as they were. The encoder
-- compares the bytes of every jsonb by itself and raises.
CREATE FUNCTION round_trip(events eduai.event_record[]) RETURNS TABLE (events int, lost bigint, bytes_equal boolean)
LANGUAGE sql AS $$
	WITH given AS (SELECT * FROM unnest(events) WITH ORDINALITY AS e ("position", event_id, stream, version,
			event_type, user_id, session_id, data, metadata, occurred_at, recorded_at, n)),
	got AS (SELECT * FROM eduai.test_decode_block('default', eduai.test_encode_block('default', events))
		WITH ORDINALITY AS d ("position", event_id, stream, version, event_type, user_id, session_id, data, metadata,
			occurred_at, recorded_at, n))
	SELECT cardinality(events),
		(SELECT count(*) FROM (TABLE given EXCEPT TABLE got) AS x) + (SELECT count(*) FROM (TABLE got EXCEPT TABLE given) AS x),
		(SELECT bool_and(jsonb_send(a.data) = jsonb_send(b.data) AND pg_column_size(a.data) = pg_column_size(b.data))
			FROM given a JOIN got b USING (n))
$$;

-- Events of one stream that differ in data only.
CREATE FUNCTION of_data(VARIADIC data text[]) RETURNS eduai.event_record[] LANGUAGE sql AS $$
	SELECT array_agg(ROW(n, 'b0e42fe7-31a5-4894-a441-007e5256afea', 's-1', n, 't', NULL, NULL, d::jsonb, '{}',
		'2026-01-01 00:00Z', '2026-01-01 00:00Z')::eduai.event_record ORDER BY n)
	FROM unnest(data) WITH ORDINALITY AS d (d, n)
$$;

-- Numbers keep their digits and their scale.
SELECT * FROM round_trip(of_data('{"a": 1}', '{"a": 1.0}', '{"a": 1.00}', '{"a": 0}', '{"a": 0.00}', '{"a": -0}',
	'{"a": -1.50}', '{"a": 1e400}', '{"a": -1e-400}', '{"a": 1e17}', '{"a": 1e18}', '{"a": 999999999999999999}',
	'{"a": 1000000000000000000}', '{"a": 123456789012345678901234567890.123456789012345678901234567890}',
	'{"a": 0.000000000000000000000000000000000000000000000000000000000001}',
	'{"a": 0.0000000000000000000000000000000000000000000000000000000000001}', '{"a": 10000}', '{"a": 100000000.0001}',
	'{"a": 9223372036854775807}', '{"a": -9223372036854775808}'));
SELECT * FROM round_trip(of_data(('{"a": 1' || repeat('0', 131000) || '}'), '{"a": 0.' || repeat('1', 16000) || '}'));
SELECT data->>'a' FROM eduai.test_decode_block('default',
	eduai.test_encode_block('default', of_data('{"a": 1.00}', '{"a": 1.0}', '{"a": 1e20}', '{"a": -0.0}')));

-- Shapes: nested, empty, of every kind, the same key with different kinds.
SELECT * FROM round_trip(of_data('{}', '{"": 1}', '{"": {"": {"": ""}}}', '{"a": {}}', '{"a": []}', '{"a": [[]]}',
	'{"a": null}', '{"a": true, "b": false}', '{"a": [1, 2.50, 3]}', '{"a": ["x", "y"]}', '{"a": [1, "x"]}',
	'{"a": [1, 1e300]}', '{"a": [null, true]}', '{"a": [{"b": 1}, {"b": 2}]}', '{"a": {"b": {"c": [1, {"d": "e"}]}}}',
	'{"a": "1"}', '{"a": "x", "b": {"a": "y", "c": {"a": 3}}}', '{"aa": 1, "b": 2, "a": 3, "ba": 4}'));
-- Too deep, too wide, too long for a shape.
SELECT * FROM round_trip(of_data(repeat('{"a": ', 40) || '1' || repeat('}', 40),
	(SELECT jsonb_object_agg('key' || i, i)::text FROM generate_series(1, 1000) AS i),
	(SELECT jsonb_build_object('a', jsonb_agg(i))::text FROM generate_series(1, 8192) AS i),
	(SELECT jsonb_build_object('a', jsonb_agg(i), 'b', jsonb_agg(i::text))::text FROM generate_series(1, 20000) AS i),
	(SELECT jsonb_build_object('a', jsonb_agg(i), 'b', 'x')::text FROM generate_series(1, 300) AS i)));

-- Strings: all alike, numbers, UUIDs, with and without a prefix, nearly so; empty, long, of many bytes.
SELECT * FROM round_trip(of_data('{"a": "item-1"}', '{"a": "item-2"}', '{"a": "item-100"}', '{"a": "item-0"}'));
SELECT * FROM round_trip(of_data('{"a": "1"}', '{"a": "01"}', '{"a": "10"}', '{"a": "12"}'));
SELECT * FROM round_trip(of_data('{"a": "10"}', '{"a": "12"}', '{"a": "999999999999999999"}'));
SELECT * FROM round_trip(of_data('{"a": "1"}', '{"a": "9999999999999999999"}', '{"a": ""}', '{"a": "-1"}'));
SELECT * FROM round_trip(of_data('{"a": "0190163d-8694-739b-aea5-966c26f8ad91"}', '{"a": "0190163d-8694-739b-aea5-966c26f8ad92"}'));
SELECT * FROM round_trip(of_data('{"a": "x-0190163d-8694-739b-aea5-966c26f8ad91"}', '{"a": "x-a0ee-bc99-9c0b-4ef8-bb6d-6bb9bd380a11"}',
	'{"a": "x-0190163D-8694-739b-aea5-966c26f8ad91"}'));
SELECT * FROM round_trip(of_data('{"a": ""}', '{"a": ""}', '{"a": "é"}', '{"é": "日本語 \ud83d\ude00"}', '{"a": "\u0001\b\"\\"}'));
SELECT * FROM round_trip(of_data((SELECT '{"a": "' || string_agg(md5(i::text), '') || '"}' FROM generate_series(1, 32768) AS i),
	'{"a": "' || repeat('x', 1048576) || '"}', '{"a": "y"}'));

-- The other columns: times far away, ids of every kind, users that follow from the stream and others, none at all.
SELECT * FROM round_trip(ARRAY[
	ROW(7, 'b0e42fe7-31a5-4894-a441-007e5256afea', 'learner-ana', 1, 't', 'ana', 's-1', '{}', '{"source": "x"}', '2026-01-01Z', '2026-01-01Z'),
	ROW(9223372036854775807, '00000000-0000-0000-0000-000000000000', 'learner-ana', 2, 't', 'ben', NULL, '{}', '{}', '4713-01-01 BC', '294276-12-31 23:59:59.999999Z'),
	ROW(1, 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'learner-ana', 5, 'other', NULL, 's-1', '{}', '{}', '294276-12-31Z', '4713-01-01 BC'),
	ROW(3, 'b0e42fe7-31a5-4894-a441-007e5256afeb', 'learner-ben-2', 9223372036854775807, 't', 'ben-2', 's-2', '{}', '{}', '2026-01-01 10:00Z', '2026-01-02Z'),
	ROW(2, 'b0e42fe7-31a5-4894-a441-007e5256afec', 'x', 1, 't', 'x', 's-2', '{}', '{}', '2026-01-01 10:00:00.000001Z', '2026-01-02 00:00:00.000001Z'),
	ROW(4, 'b0e42fe7-31a5-4894-a441-007e5256afed', repeat('é', 256), 1, repeat('t', 512), repeat('u', 512), repeat('s', 512), '{}', '{}', '2026-01-01Z', '2026-01-02Z')
	]::eduai.event_record[]);

-- Random events, many shapes at once.
SELECT setseed(0.5);
SELECT r.events, r.lost, r.bytes_equal FROM (
	SELECT array_agg(ROW(1 + (n * 7919) % 1009, gen_random_uuid(), 'learner-' || lpad((n / 9)::text, 4, '0'), 1 + n % 9, 'type-' || n % 5,
		CASE n % 3 WHEN 0 THEN (n / 9)::text WHEN 1 THEN lpad((n / 9)::text, 4, '0') END,
		CASE WHEN n % 4 > 0 THEN md5((n / 30)::text) END,
		jsonb_strip_nulls(jsonb_build_object('score', CASE WHEN random() < 0.8 THEN round(random()::numeric, (random() * 4)::int) END,
			'skill', CASE WHEN random() < 0.8 THEN 'skill-' || (random() * 20)::int END, 'big', CASE WHEN random() < 0.1 THEN random()::numeric * 1e30 END,
			'tags', CASE WHEN random() < 0.3 THEN jsonb_build_array(random() < 0.5, random(), 'x') END)),
		CASE WHEN random() < 0.2 THEN '{"source": "app", "v": 2}' ELSE '{}' END::jsonb,
		'2026-01-01Z'::timestamptz + random() * interval '30 days', '2026-01-01Z'::timestamptz + n % 9 * interval '3 days' + random() * interval '1 day')::eduai.event_record
		ORDER BY n) AS events FROM generate_series(0, 999) AS n) AS g, round_trip(g.events) AS r;

-- A version of the type's schema, and that the caller gave the id, cost nothing when all have it.
SELECT length(eduai.test_encode_block('default', e, 3, true)) - length(eduai.test_encode_block('default', e)) AS more
	FROM of_data('{"a": 1}', '{"a": 2}') AS e;

-- Bounds.
SELECT eduai.test_encode_block('default', '{}');
SELECT length(eduai.test_encode_block('default', (SELECT array_agg(e) FROM generate_series(1, 1025), unnest(of_data('{}')) AS e)));

-- Damage. Cut anywhere, or with any byte changed, a block raises XX001 or decodes to something.
\set VERBOSITY sqlstate
SELECT * FROM eduai.test_decode_block('default', '');
SELECT * FROM eduai.test_decode_block('default', '\x02');
SELECT * FROM eduai.test_decode_block('default', '\x0101');
CREATE FUNCTION outcome(block bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM d.* FROM eduai.test_decode_block('default', block) AS d;
	RETURN 'decoded';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE TEMP TABLE whole AS SELECT eduai.test_encode_block('default', of_data('{"a": 1.5, "b": "xyz", "c": [1, 2]}', '{"a": 2, "d": {"e": true}}', '{"b": "uvw", "f": null}')) AS block;
SELECT DISTINCT outcome(substr(block, 1, n)) FROM whole, generate_series(0, length(block) - 1) AS n ORDER BY 1;
SELECT DISTINCT outcome(set_byte(block, n, get_byte(block, n) # bit)) FROM whole, generate_series(0, length(block) - 1) AS n,
	unnest(ARRAY[1, 2, 4, 8, 16, 32, 64, 128, 255]) AS bit ORDER BY 1;

DROP FUNCTION round_trip, of_data, outcome;
