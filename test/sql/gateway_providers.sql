-- add_provider(), remove_provider(): what is accepted, what is refused and how.
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
CREATE FUNCTION pg_temp.add(kind text, base_url text, api_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	name text DEFAULT 'p') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.try(format('SELECT eduai.add_provider(%L, %L, %L, %L, %L)', name, kind, base_url, api_key, options))
$$;
CREATE VIEW pg_temp.recorded AS
SELECT name, kind, base_url, key_ref, options, home = eduai.home() AS at_home FROM eduai.provider ORDER BY name;

-- normal forms
SELECT pg_temp.add('openai', 'https://api.example.com/v1/', 'sk-0123456789');
SELECT * FROM pg_temp.recorded;
SELECT pg_temp.add('anthropic', 'HTTPS://API.Example.COM:8443///', NULL, '{"anthropic_version": "2023-06-01"}');
SELECT * FROM pg_temp.recorded;
-- replacing without a key takes the key away
SELECT count(*) FROM eduai.provider_secret;
SELECT pg_temp.add('openai', 'http://127.0.0.1:11434/v1', NULL, '{"allow_loopback": true}');
SELECT pg_temp.add('openai', 'http://127.0.0.1:11434/v1', 'sk-0123456789', '{"allow_loopback": true}');
SELECT pg_temp.add('openai', 'http://gpu.example.com/v1', 'sk-0123456789', '{"allow_private": true}');
SELECT pg_temp.add('openrouter', 'https://openrouter.ai/api/v1', NULL, '{"headers": {"HTTP-Referer": "https://school.example", "X-Title": "School"}}');
SELECT pg_temp.add('huggingface', 'https://router.huggingface.co/v1', NULL, '{"http2": true}');
SELECT eduai.remove_provider('p');

-- kinds
SELECT pg_temp.add('bedrock', 'https://api.example.com');
SET eduai.allow_mock = off;
SELECT pg_temp.add('mock', NULL);
SET eduai.allow_mock = on;
SELECT pg_temp.add('mock', NULL, NULL, '{"latency_ms": 5, "text": "hello"}', 'm');
SELECT pg_temp.add('mock', 'anything at all', NULL, '{}', 'm');
SELECT * FROM pg_temp.recorded;
SELECT eduai.remove_provider('m');

-- base URLs
SELECT url, pg_temp.add('openai', url) FROM unnest(ARRAY[
	'api.example.com/v1', '', 'https://', 'https:///v1', 'ftp://example.com', 'file:///etc/passwd', 'gopher://example.com',
	'https://user:secret@example.com/v1', 'https://user@example.com', 'https://example.com/v1?api-key=secret',
	'https://example.com/#x', 'https://example.com:99999/', E'https://example.com/\r\nX: y', 'https://exa mple.com',
	'https://example.com\@localhost/', 'ftp://user:secret@exa mple.com',
	'http://127.0.0.1/', 'http://2130706433/', 'http://0x7f.1/', 'http://localhost:8080', 'http://api.localhost.',
	'http://[::1]/', 'https://[::ffff:10.0.0.1]/', 'https://10.1.2.3', 'https://192.168.1.1', 'https://172.31.0.1',
	'https://100.64.0.1', 'https://[fd00::1]', 'https://0.0.0.0', 'https://169.254.169.254/latest/meta-data',
	'https://[fe80::1]', 'https://224.0.0.1', 'https://255.255.255.255', 'https://168.63.129.16']) WITH ORDINALITY u(url, n)
ORDER BY n;
SELECT pg_temp.add('openai', 'https://' || repeat('a', 3000));
-- loopback is not private, and what is never reached stays so
SELECT pg_temp.add('openai', 'http://127.0.0.1/', NULL, '{"allow_private": true}');
SELECT pg_temp.add('openai', 'https://10.0.0.1/', NULL, '{"allow_loopback": true}');
SELECT pg_temp.add('openai', 'https://169.254.169.254/', NULL, '{"allow_loopback": true, "allow_private": true}');
-- clear text
SELECT pg_temp.add('openai', 'http://api.example.com/v1', 'sk-0123456789');
SELECT eduai.add_provider('p', 'openai', 'http://api.example.com/v1');
SELECT eduai.remove_provider('p');

-- options
SELECT o, pg_temp.add('openai', 'https://api.example.com', NULL, o) FROM unnest(ARRAY[
	'[]', '"x"', '{"allow_everything": true}', '{"http2": 1}', '{"http2": null}', '{"anthropic_version": "2023-06-01"}',
	'{"text": "hello"}', '{"headers": []}', '{"headers": {"X-A": 1}}', '{"headers": {"Bad Name": "x"}}',
	'{"headers": {"Authorization": "Bearer secret"}}', '{"headers": {"X-API-Key": "secret"}}',
	'{"headers": {"X-A": "a\r\nB: c"}}', '{"headers": {"": "x"}}']::jsonb[]) WITH ORDINALITY u(o, n)
ORDER BY n;
SELECT pg_temp.add('anthropic', 'https://api.example.com', NULL, '{"anthropic_version": ""}');
SELECT o, pg_temp.add('mock', NULL, NULL, o) FROM unnest(ARRAY[
	'{"latency_ms": -1}', '{"latency_ms": 1.5}', '{"error_rate": 1.1}', '{"status": 200}', '{"echo": "yes"}']::jsonb[])
	WITH ORDINALITY u(o, n)
ORDER BY n;

-- names and nulls
SELECT pg_temp.add('openai', 'https://api.example.com', name => n) FROM unnest(ARRAY['', repeat('x', 64), E'a\nb']) n;
SELECT pg_temp.add('openai', 'https://api.example.com', name => repeat('x', 63));
SELECT eduai.remove_provider(repeat('x', 63));
SELECT pg_temp.add('openai', 'https://api.example.com', name => NULL);
SELECT pg_temp.add(NULL, 'https://api.example.com');
SELECT pg_temp.add('openai', NULL);
SELECT pg_temp.try('SELECT eduai.remove_provider(''nobody'')');
SELECT count(*) FROM eduai.provider;

-- a provider with instances
SELECT eduai.add_provider('p', 'openai', 'https://api.example.com');
SELECT eduai.add_instance('i', 'p', 'm', '{chat,embeddings}');
SELECT pg_temp.try('SELECT eduai.remove_provider(''p'')');
SELECT pg_temp.add('anthropic', 'https://api.example.com');
SELECT eduai.remove_instance('i');
SELECT pg_temp.add('anthropic', 'https://api.example.com');
SELECT eduai.remove_provider('p');

-- roles
\set VERBOSITY sqlstate
CREATE ROLE gateway_stranger;
GRANT USAGE ON SCHEMA eduai TO gateway_stranger;
SET ROLE gateway_stranger;
SELECT eduai.add_provider('p', 'openai', 'https://api.example.com');
SELECT eduai.remove_provider('p');
SELECT * FROM eduai.provider;
SELECT * FROM eduai.provider_secret;
SET ROLE eduai_app;
SELECT eduai.add_provider('p', 'openai', 'https://api.example.com');
SET ROLE eduai_admin;
SELECT eduai.add_provider('p', 'openai', 'https://api.example.com', 'sk-0123456789');
SELECT name, key_ref FROM eduai.provider;
SELECT * FROM eduai.provider_secret;
INSERT INTO eduai.provider VALUES ('q', 'openai', 'http://127.0.0.1', NULL, '{}', 'x');
SELECT eduai.remove_provider('p');
RESET ROLE;
SELECT count(*) FROM eduai.provider_secret;
REVOKE USAGE ON SCHEMA eduai FROM gateway_stranger;
DROP ROLE gateway_stranger;
