-- What cached_query() refuses: whatever could give another result without a
-- write to a table that it knows of.
\set VERBOSITY sqlstate
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA cache_refused;
SET search_path = cache_refused;
CREATE FUNCTION refusal(query text, VARIADIC params text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
	RETURN 'not refused: ' || eduai.cached_query(query, params)::text;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(hint, ''));
END $$;
CREATE TABLE t (id int, at timestamptz DEFAULT now(), data text);
CREATE TEMP TABLE temporary (id int);
CREATE SEQUENCE numbers;
CREATE VIEW view_of_now AS SELECT id FROM t WHERE at < now();
CREATE FUNCTION reads_t() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM cache_refused.t';
CREATE FUNCTION writes_t() RETURNS int LANGUAGE sql AS 'INSERT INTO cache_refused.t VALUES (1) RETURNING id';
CREATE FUNCTION adds(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1 + $2; END';
CREATE AGGREGATE total(int) (SFUNC = adds, STYPE = int, INITCOND = '0');
-- not one SELECT
SELECT refusal(q) FROM unnest(ARRAY['', 'SELECT 1; SELECT 2', 'DELETE FROM t', 'SELECT 1 INTO u', 'EXPLAIN SELECT 1', 'SELEC 1',
	'SELECT 1) AS x, (SELECT 2', 'WITH d AS (DELETE FROM t RETURNING id) SELECT * FROM d', 'SELECT id FROM t FOR UPDATE', 'SELECT * FROM (SELECT id FROM t FOR SHARE) s']) q;
-- not the tables alone
SELECT refusal(q) FROM unnest(ARRAY['SELECT now()', 'SELECT CURRENT_DATE', 'SELECT LOCALTIME', 'SELECT age(at) FROM t', 'SELECT random()', 'SELECT clock_timestamp()',
	'SELECT id FROM view_of_now', 'SELECT date ''today''', 'SELECT ''Tomorrow''::timestamp', 'SELECT data::timestamptz FROM t', 'SELECT nextval(''numbers'')', 'SELECT last_value FROM numbers',
	'SELECT pg_relation_size(''t'')', 'SELECT current_setting(data) FROM t', 'SELECT current_schema', 'SELECT txid_current()', 'SELECT id FROM temporary',
	'SELECT count(*) FROM pg_class', 'SELECT count(*) FROM information_schema.tables', 'SELECT id FROM t TABLESAMPLE system (50)',
	'SELECT reads_t()', 'SELECT writes_t()', 'SELECT total(id) FROM t', 'SELECT id FROM t ORDER BY random()', 'SELECT count(*) FILTER (WHERE now() > at) FROM t',
	'SELECT id FROM t WHERE id = (SELECT 1 WHERE now() > at)', 'SELECT * FROM generate_series(now(), now(), ''1 day'')']) q;
-- 'now' as a parameter is what it means at each call
SELECT eduai.cached_query('SELECT $1::timestamptz AS t', '{now}') = jsonb_build_array(jsonb_build_object('t', now()));
-- parameters
SELECT refusal('SELECT $1::int', '1', '2'), refusal('SELECT $2::int', '1'), refusal('SELECT $1::int', 'one'), refusal('SELECT id FROM t WHERE data = $1 AND id = $1', '1');
SELECT eduai.cached_query(NULL);
SELECT eduai.cached_query('SELECT 1', NULL);
SELECT eduai.cached_query('SELECT 1', ARRAY[['1']]);
SELECT eduai.cached_query('SELECT 1', kind => 'unheard of');
SELECT eduai.cached_query('SELECT 1', ttl => '-1 s');
SELECT eduai.cached_query('SELECT 1', tags => ARRAY[NULL]);
-- functions marked by their owner
CREATE FUNCTION asked(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := eduai.test_cache_computed();
	rows jsonb := eduai.cached_query(query);
BEGIN
	RETURN CASE WHEN eduai.test_cache_computed() = before THEN 'hit ' ELSE 'computed ' END || rows;
END $$;
SELECT eduai.cache_allow_function('reads_t()', ARRAY['t']::regclass[]);
SELECT asked('SELECT reads_t()'), asked('SELECT reads_t()');
INSERT INTO t VALUES (1);
SELECT asked('SELECT reads_t()'), asked('SELECT reads_t()');
SELECT eduai.cache_allow_function('total(int)');
SELECT asked('SELECT total(id) FROM t'), asked('SELECT total(id) FROM t');
SELECT eduai.cache_allow_function('reads_t()', NULL), eduai.cache_allow_function('total(int)', NULL);
SELECT refusal('SELECT reads_t()'), refusal('SELECT total(id) FROM t');
SELECT eduai.cache_allow_function('writes_t()');
SELECT eduai.cache_allow_function('reads_t()', ARRAY['view_of_now']::regclass[]);
SELECT eduai.cache_allow_function(NULL);
CREATE ROLE regress_cache_refused IN ROLE eduai_app;
GRANT USAGE ON SCHEMA cache_refused TO regress_cache_refused;
SET ROLE regress_cache_refused;
SELECT eduai.cache_allow_function('reads_t()');
RESET ROLE;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA cache_refused CASCADE;
DROP OWNED BY regress_cache_refused;
DROP ROLE regress_cache_refused;
