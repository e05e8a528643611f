-- cached_query() gives a role what the role may see, and takes it away with the right.
\set VERBOSITY sqlstate
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_cache_one IN ROLE eduai_app;
CREATE ROLE regress_cache_two IN ROLE eduai_app;
CREATE SCHEMA cache_roles;
GRANT USAGE, CREATE ON SCHEMA cache_roles TO regress_cache_one, regress_cache_two;
SET search_path = cache_roles;
CREATE FUNCTION asked(query text, VARIADIC params text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := eduai.test_cache_computed();
	rows jsonb := eduai.cached_query(query, params);
BEGIN
	RETURN CASE WHEN eduai.test_cache_computed() = before THEN 'hit ' ELSE 'computed ' END || rows;
END $$;
GRANT EXECUTE ON FUNCTION eduai.test_cache_computed() TO regress_cache_one, regress_cache_two;
CREATE TABLE mark (who name, school text, v int);
INSERT INTO mark VALUES ('regress_cache_one', 'a', 1), ('regress_cache_two', 'b', 2), ('regress_cache_two', 'a', 3);
ALTER TABLE mark ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON mark USING (who = current_user);
GRANT SELECT ON mark TO regress_cache_one, regress_cache_two;
-- each its own rows
SET ROLE regress_cache_one;
SELECT asked('SELECT v FROM mark ORDER BY v'), asked('SELECT v FROM mark ORDER BY v');
SET ROLE regress_cache_two;
SELECT asked('SELECT v FROM mark ORDER BY v'), asked('SELECT v FROM mark ORDER BY v');
RESET ROLE;
SELECT asked('SELECT v FROM mark ORDER BY v'), asked('SELECT v FROM mark ORDER BY v');
-- a policy that reads a setting: its value is in the key
CREATE POLICY school ON mark USING (school = current_setting('app.school', true));
SET ROLE regress_cache_one;
SELECT asked('SELECT v FROM mark ORDER BY v'), asked('SELECT v FROM mark ORDER BY v');
SET app.school = 'a';
SELECT asked('SELECT v FROM mark ORDER BY v'), asked('SELECT v FROM mark ORDER BY v');
SET app.school = 'b';
SELECT asked('SELECT v FROM mark ORDER BY v'), asked('SELECT v FROM mark ORDER BY v');
RESET app.school;
SELECT asked('SELECT v FROM mark ORDER BY v');
-- row_security
SET row_security = off;
SELECT asked('SELECT v FROM mark ORDER BY v');
RESET row_security;
-- a right that is taken away, of the table and of a column
RESET ROLE;
REVOKE SELECT ON mark FROM regress_cache_one;
SET ROLE regress_cache_one;
SELECT asked('SELECT v FROM mark ORDER BY v');
RESET ROLE;
GRANT SELECT (v) ON mark TO regress_cache_one;
SET ROLE regress_cache_one;
SELECT asked('SELECT v FROM mark ORDER BY v');
SELECT asked('SELECT school FROM mark');
-- through a group, and out of it
RESET ROLE;
REVOKE SELECT ON mark FROM regress_cache_one;
REVOKE SELECT (v) ON mark FROM regress_cache_one;
GRANT regress_cache_two TO regress_cache_one;
SET ROLE regress_cache_one;
SELECT asked('SELECT v FROM mark ORDER BY v'), asked('SELECT v FROM mark ORDER BY v');
RESET ROLE;
REVOKE regress_cache_two FROM regress_cache_one;
SET ROLE regress_cache_one;
SELECT asked('SELECT v FROM mark ORDER BY v');
-- a function that one may not call
RESET ROLE;
GRANT SELECT ON mark TO regress_cache_one;
CREATE FUNCTION secret(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 100';
SET ROLE regress_cache_one;
SELECT asked('SELECT secret(v) FROM mark'), asked('SELECT secret(v) FROM mark');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION secret(int) FROM PUBLIC;
SET ROLE regress_cache_one;
SELECT asked('SELECT secret(v) FROM mark');
-- who may not act for the tenant gets nothing
SET eduai.tenant = 'cache_roles';
SELECT asked('SELECT v FROM mark ORDER BY v');
RESET eduai.tenant;
-- a watch is for the owner
SELECT eduai.cache_watch('mark', ARRAY['school:{school}']);
RESET ROLE;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA cache_roles CASCADE;
DROP OWNED BY regress_cache_one, regress_cache_two;
DROP ROLE regress_cache_one, regress_cache_two;
