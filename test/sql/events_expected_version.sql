-- Optimistic concurrency: what expected_version accepts and what UE001 tells.
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
-- the extension's own tenant of this test
CREATE ROLE regress_events_expected;
GRANT eduai_app TO regress_events_expected;
SELECT eduai.allow_tenant('regress_events_expected', 'events_expected');
SET ROLE regress_events_expected;
SET eduai.tenant = 'events_expected';

-- 0: must not exist
SELECT version FROM eduai.append_event('s', 'x', expected_version => 0);
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'x', expected_version => 0)$$);

-- n: must be there
SELECT version FROM eduai.append_event('s', 'x', expected_version => 1);
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'x', expected_version => 1)$$);
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'x', expected_version => 3)$$);
SELECT pg_temp.fails($$SELECT eduai.append_event('none', 'x', expected_version => 3)$$);
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'x', expected_version => 9223372036854775807)$$);

-- NULL: anything
SELECT version FROM eduai.append_event('s', 'x');
SELECT version FROM eduai.append_event('s', 'x', expected_version => NULL);

-- a negative version never is
SELECT pg_temp.fails($$SELECT eduai.append_event('s', 'x', expected_version => -1)$$);

-- several events stand or fall together
SELECT version FROM eduai.append_events('s', '[{"type": "x"}, {"type": "y"}]', 4);
SELECT pg_temp.fails($$SELECT eduai.append_events('s', '[{"type": "x"}, {"type": "y"}]', 4)$$);
SELECT version FROM eduai.append_events('t', '[{"type": "x"}, {"type": "y"}]', 0);

-- what failed left nothing
SELECT eduai.stream_version('s'), eduai.stream_version('t'), eduai.stream_version('none');
SELECT string_agg(version::text, ' ') FROM eduai.read_stream('s');

-- callers branch on the SQLSTATE
DO $$
BEGIN
	PERFORM eduai.append_event('s', 'x', expected_version => 1);
EXCEPTION WHEN SQLSTATE 'UE001' THEN
	RAISE NOTICE 'version conflict';
END $$;
RESET ROLE;
DROP OWNED BY regress_events_expected;
DROP ROLE regress_events_expected;
