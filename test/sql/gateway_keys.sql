-- Keys: where they may come from, and that they show up nowhere.
CREATE FUNCTION pg_temp.try(api_key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
	context text;
BEGIN
	PERFORM eduai.add_provider('k', 'openai', 'https://api.example.com/v1', api_key);
	RETURN 'ok ' || (SELECT key_ref FROM eduai.provider WHERE name = 'k');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
		context = PG_EXCEPTION_CONTEXT;
	RETURN concat_ws(' | ', SQLSTATE, message, nullif(detail, ''), nullif(hint, ''),
		CASE WHEN context LIKE '%PERFORM eduai%' THEN 'THE CONTEXT SHOWS THE STATEMENT' END);
END $$;
SELECT pg_temp.try('sk-0123456789');
SELECT provider, position('sk-' in encode(sealed, 'escape')) AS clear FROM eduai.provider_secret;
SELECT pg_temp.try('env:OPENAI_API_KEY');
SELECT provider, position('sk-' in encode(sealed, 'escape')) AS clear FROM eduai.provider_secret;
SELECT pg_temp.try('file:/run/secrets/openai');
SELECT pg_temp.try(k) FROM unnest(ARRAY['', ' ', E'sk-012\n', E'sk-\u00e9t\u00e9', 'sk 0123', repeat('x', 9000), 'env:', 'env:1A',
	'env:sk-0123456789', 'file:', 'file:relative', 'file:~/key']) k;

-- whose references
CREATE ROLE gateway_keeper;
GRANT eduai_admin TO gateway_keeper;
SET ROLE gateway_keeper;
SELECT k, pg_temp.try(k) FROM unnest(ARRAY['env:OPENAI_API_KEY', 'env:EDUAI_SECRET', 'env:HF_API_TOKEN', 'env:HF_TOKEN',
	'env:PGPASSWORD', 'env:AWS_SECRET_ACCESS_KEY', 'env:_API_KEY', 'file:/run/secrets/openai', 'sk-0123456789']) k;
RESET ROLE;
GRANT pg_read_server_files TO gateway_keeper;
SET ROLE gateway_keeper;
SELECT k, pg_temp.try(k) FROM unnest(ARRAY['env:PGPASSWORD', 'file:/run/secrets/openai']) k;
RESET ROLE;

-- a key file is read when the fleet is loaded: its first line, trimmed
SELECT current_setting('data_directory') AS dir \gset
CREATE FUNCTION pg_temp.key_error() RETURNS text LANGUAGE sql AS $$
	SELECT replace(coalesce(r->'first'->>'message', 'sent'), current_setting('data_directory'), 'DIR')
	FROM eduai.test_call('k', 'chat', '{"prompt": "hello"}', timeout_ms => 50) r
$$;
SELECT eduai.add_provider('k', 'openai', 'http://127.0.0.1:9/v1', 'file:' || :'dir' || '/gateway_key', '{"allow_loopback": true}');
SELECT eduai.add_instance('k', 'k', 'm');
SELECT pg_temp.key_error();
COPY (SELECT '') TO PROGRAM 'cat > gateway_key';
SELECT pg_temp.key_error();
COPY (SELECT repeat('x', 10000)) TO PROGRAM 'cat > gateway_key';
SELECT pg_temp.key_error();
COPY (SELECT 'sk-' || chr(233)) TO PROGRAM 'cat > gateway_key';
SELECT pg_temp.key_error();
COPY (SELECT '  sk-0123456789  ') TO PROGRAM 'cat > gateway_key';
SELECT pg_temp.key_error() LIKE '%connect%';
COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; rm gateway_key; mkdir gateway_key';
SELECT pg_temp.key_error();
COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; rmdir gateway_key; mkfifo gateway_key';
SELECT pg_temp.key_error();
COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; rm gateway_key';
SELECT eduai.add_provider('k', 'openai', 'http://127.0.0.1:9/v1', 'env:EDUAI_NO_SUCH_KEY', '{"allow_loopback": true}');
SELECT pg_temp.key_error();

-- what a dump restores has no literal key
SELECT eduai.add_provider('k', 'openai', 'http://127.0.0.1:9/v1', 'sk-0123456789', '{"allow_loopback": true}');
DELETE FROM eduai.provider_secret;
SELECT pg_temp.key_error();
SELECT c.relname, c.oid = ANY (e.extconfig) AS dumped
FROM pg_class c, pg_extension e
WHERE e.extname = 'eduai' AND c.relnamespace = 'eduai'::regnamespace AND c.relname IN ('provider', 'provider_secret', 'instance')
ORDER BY 1;
SELECT count(*) AS grants FROM pg_class, aclexplode(relacl) a
WHERE oid = 'eduai.provider_secret'::regclass AND a.grantee <> relowner;

-- while a key is an argument, nobody sees the statement
BEGIN;
SELECT eduai.add_provider('k', 'openai', 'http://127.0.0.1:9/v1', 'sk-0123456789', '{"allow_loopback": true}'),
	(SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid());
ROLLBACK;
SELECT eduai.remove_instance('k');
SELECT eduai.remove_provider('k');
DROP ROLE gateway_keeper;
