-- See event_block.sh.
CREATE EXTENSION eduai;
SELECT setseed(((:seed)::int % 1000000) / 1000000.0);

-- Streams that compaction writes with a dictionary, several blocks and pages.
SELECT eduai.append_batch(array_agg('learner-' || n % 700), array_agg('type-' || n % 7), array_agg(CASE n % 4
		WHEN 0 THEN jsonb_build_object('skill', 'skill-' || n % 20, 'score', round(random()::numeric, 2), 'correct', n % 2 = 0)
		WHEN 1 THEN jsonb_build_object('id', gen_random_uuid(), 'n', n, 'tags', jsonb_build_array('a', 'b', n), 'list', jsonb_build_array(1, 2, n))
		WHEN 2 THEN jsonb_build_object('text', md5(random()::text), 'x', jsonb_build_object('y', NULL, 'z', random()::numeric * 1e30))
		ELSE '{}' END), array_agg(CASE WHEN n % 3 > 0 THEN (n % 700)::text END), array_agg(CASE WHEN n % 5 > 0 THEN 's-' || n / 9 END),
	NULL, array_agg(CASE WHEN n % 2 = 0 THEN now() - n * interval '1 hour' END))
FROM generate_series(1, 4000) AS n;
SELECT eduai.append_event('learner-1', 'given', '{}', event_id => gen_random_uuid());
SELECT eduai.compact_events('0');

CREATE TABLE whole AS
SELECT row_number() OVER () AS n, eduai.test_encode_block('default', array_agg(e ORDER BY (e).stream COLLATE "C", (e).version)) AS block
FROM (SELECT e, ntile(20) OVER (ORDER BY (e).stream COLLATE "C", (e).version) AS part FROM eduai.read_all(0, 10000) AS e) AS parts GROUP BY part;

-- One to five mutations: a byte set, a bit changed, a range cut, doubled or swapped for another block's, an end cut off.
CREATE FUNCTION mutate(bytes bytea, other bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	at int;
	span int;
BEGIN
	FOR i IN 1 .. 1 + floor(random() * 5)::int LOOP
		EXIT WHEN length(bytes) = 0;
		-- the first bytes say most
		at := floor(CASE WHEN random() < 0.3 THEN least(random() * 40, length(bytes) - 1) ELSE random() * length(bytes) END)::int;
		span := 1 + floor(random() * 20)::int;
		CASE floor(random() * 6)::int
			WHEN 0 THEN bytes := set_byte(bytes, at, floor(random() * 256)::int);
			WHEN 1 THEN bytes := set_byte(bytes, at, get_byte(bytes, at) # (1 << floor(random() * 8)::int));
			WHEN 2 THEN bytes := substr(bytes, 1, at) || substr(bytes, at + 1 + span);
			WHEN 3 THEN bytes := substr(bytes, 1, at + span) || substr(bytes, at + 1);
			WHEN 4 THEN bytes := substr(bytes, 1, at) || substr(other, at + 1, span) || substr(bytes, at + 1 + span);
			ELSE IF random() < 0.2 THEN bytes := substr(bytes, 1, at); END IF;
		END CASE;
	END LOOP;
	RETURN bytes;
END $$;

-- What reading gives: only damage may be told, and every value must be printable.
CREATE FUNCTION look(sql text, argument bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	rows text;
BEGIN
	EXECUTE sql INTO rows USING argument;
	RETURN 'decoded';
EXCEPTION
	WHEN data_corrupted THEN RETURN 'damaged';
END $$;

CREATE TABLE result (what text, outcome text, n bigint, PRIMARY KEY (what, outcome));
CREATE PROCEDURE fuzz(seconds int) LANGUAGE plpgsql AS $$
DECLARE
	stop timestamptz := clock_timestamp() + seconds * interval '1 second';
	bytes bytea;
	seen text;
BEGIN
	WHILE clock_timestamp() < stop LOOP
		SELECT mutate(a.block, b.block) INTO bytes
			FROM (SELECT block FROM whole ORDER BY random() LIMIT 1) AS a, (SELECT block FROM whole ORDER BY random() LIMIT 1) AS b;
		seen := look('SELECT string_agg(d::text, '','') FROM eduai.test_decode_block(''default'', $1) AS d', bytes);
		INSERT INTO result VALUES ('block', seen, 1) ON CONFLICT ON CONSTRAINT result_pkey DO UPDATE SET n = result.n + 1;
		-- the columns themselves, which zstd would shield from most mutations
		SELECT mutate(eduai.test_unpack_block(a.block), eduai.test_unpack_block(b.block)) INTO bytes
			FROM (SELECT block FROM whole ORDER BY random() LIMIT 1) AS a, (SELECT block FROM whole ORDER BY random() LIMIT 1) AS b;
		seen := look('SELECT string_agg(d::text, '','') FROM eduai.test_decode_block(''default'', eduai.test_pack_block($1)) AS d', bytes);
		INSERT INTO result VALUES ('columns', seen, 1) ON CONFLICT ON CONSTRAINT result_pkey DO UPDATE SET n = result.n + 1;
		COMMIT;
	END LOOP;
END $$;
CALL fuzz(:seconds);

-- Pages of the directory in place, each in a transaction that is rolled back.
CREATE PROCEDURE fuzz_tables(seconds int) LANGUAGE plpgsql AS $$
DECLARE
	stop timestamptz := clock_timestamp() + seconds * interval '1 second';
	seen text;
BEGIN
	WHILE clock_timestamp() < stop LOOP
		UPDATE eduai.event_stream SET body = mutate(body, body);
		seen := look('SELECT string_agg(r::text, '','') FROM generate_series(0, 699, 100) AS n, eduai.read_stream(''learner-'' || n) AS r WHERE $1 IS NULL', NULL);
		ROLLBACK;
		INSERT INTO result VALUES ('directory', seen, 1) ON CONFLICT ON CONSTRAINT result_pkey DO UPDATE SET n = result.n + 1;
		COMMIT;
	END LOOP;
END $$;
CALL fuzz_tables(greatest(:seconds / 5, 1));
SELECT what, outcome, n FROM result ORDER BY 1, 2;
DO $$ BEGIN ASSERT (SELECT count(*) FROM result) >= 5, 'too few outcomes: the mutations miss'; END $$;
