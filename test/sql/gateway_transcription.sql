-- Sound: given as base64, as an attachment, as a URL; to every kind; and what comes back.
\pset format unaligned
\pset tuples_only on
\set id '019f0000-0000-7000-8000-000000000001'
CREATE FUNCTION pg_temp.built(kind text, payload text, instance jsonb DEFAULT '{}', files text DEFAULT '{}', task_type text DEFAULT 'transcription') RETURNS jsonb LANGUAGE sql AS $$
	SELECT r - 'cost_usd' FROM eduai.test_build_request(kind, task_type, payload::jsonb, jsonb_build_object('files', files::jsonb), instance) r
$$;
CREATE FUNCTION pg_temp.read(kind text, body text, payload jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', r->>'verdict', r->>'code', r->>'message', r->'result') FROM eduai.test_read_response(kind, 'transcription', 200, '{}', convert_to(body, 'UTF8'), payload) r
$$;
-- what the claim has read
SELECT jsonb_build_object(:'id', '{"content_type": "audio/webm; codecs=opus", "text": "OggS...."}'::jsonb) AS files \gset
SELECT jsonb_build_object('audio', jsonb_build_object('attachment', :'id')) AS payload \gset

-- an attachment is uploaded as its type says; the payload may say better
SELECT pg_temp.built('openai', :'payload', '{"model": "whisper-1"}', :'files');
SELECT pg_temp.built('openai', (jsonb_set(:'payload', '{audio,content_type}', '"audio/ogg"') || '{"language": "fr"}')::text, '{}', :'files')->'upload';
-- Hugging Face: the bytes themselves, or base64 beside parameters
SELECT pg_temp.built('huggingface', :'payload', '{"model": "openai/whisper-large-v3"}', :'files');
SELECT pg_temp.built('huggingface', (:'payload'::jsonb || '{"parameters": {"generation_parameters": {"temperature": 0}}, "timestamp_granularities": ["word"]}')::text, '{}', :'files')->'body';
-- OpenRouter: base64 in JSON
SELECT pg_temp.built('openrouter', (:'payload'::jsonb || '{"language": "en", "response_format": "verbose_json", "stream": true}')::text, '{"model": "openai/whisper-1"}', :'files');
SELECT pg_temp.built('openrouter', '{"audio": {"base64": "UklGRg==", "content_type": "audio/wav"}}')->'body'->'input_audio';
-- one that is not there, or is too large
SELECT pg_temp.built('openai', :'payload');
SELECT pg_temp.built('openai', :'payload', '{}', jsonb_build_object(:'id', '{}'::jsonb)::text);
SELECT pg_temp.built('openai', '{"audio": {"attachment": "../../etc/passwd"}}');

-- a URL is never fetched here; only servers that fetch it themselves get it
SELECT pg_temp.built(k, '{"audio": {"url": "https://media.example.com/a.mp3"}}') FROM unnest('{openai,openrouter,huggingface}'::text[]) k;
SELECT pg_temp.built('openai', '{"audio": {"url": "https://media.example.com/a.mp3?t=1"}, "language": "fr"}', '{"audio_url": true}');
SELECT u, pg_temp.built('openai', jsonb_build_object('audio', jsonb_build_object('url', u))::text, '{"audio_url": true}')->>'code'
FROM unnest(ARRAY['file:///etc/passwd', 'ftp://x/a.mp3', 'https://user:pw@x/a.mp3', 'https://', 'https://x/a b', E'https://x/a\nb', 'https://x/' || repeat('a', 2048), 'https://x/a@b']) WITH ORDINALITY v (u, n) ORDER BY n;
-- bytes are still uploaded there
SELECT pg_temp.built('openai', '{"audio": {"base64": "UklGRg=="}}', '{"audio_url": true}')->'upload'->>'file_length';

-- attachments in the messages of chats: pictures, sound, files
SELECT pg_temp.built('openai', jsonb_build_object('messages', jsonb_build_array(
	jsonb_build_object('role', 'system', 'content', 'Look.'),
	jsonb_build_object('role', 'user', 'name', 'ana', 'content', jsonb_build_array(
		jsonb_build_object('type', 'text', 'text', 'What is it?'),
		jsonb_build_object('type', 'image_url', 'image_url', jsonb_build_object('attachment', :'id', 'detail', 'low')),
		jsonb_build_object('type', 'input_audio', 'input_audio', jsonb_build_object('attachment', :'id')),
		jsonb_build_object('type', 'file', 'file', jsonb_build_object('attachment', :'id', 'filename', 'a.pdf')),
		'"loose"'::jsonb))))::text, '{}', :'files', 'chat')->'body'->'messages';
SELECT pg_temp.built('anthropic', jsonb_build_object('messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content', jsonb_build_array(
	jsonb_build_object('type', 'image_url', 'image_url', jsonb_build_object('attachment', :'id'))))))::text, '{}', jsonb_build_object(:'id', '{"content_type": "image/png", "text": "PNG"}'::jsonb)::text, 'chat')->'body'->'messages';
SELECT pg_temp.built('openai', jsonb_build_object('messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content', jsonb_build_array(
	jsonb_build_object('type', 'image_url', 'image_url', jsonb_build_object('attachment', 'gone'))))))::text, '{}', :'files', 'chat');

-- answers: segments and words as OpenAI gives them, chunks as Hugging Face does
SELECT pg_temp.read('openai', '{"task": "transcribe", "language": "english", "duration": 8.47, "text": "The beach.", "words": [{"word": "The", "start": 0.0, "end": 0.3}],
	"segments": [{"id": 0, "seek": 0, "start": 0.0, "end": 3.32, "text": "The beach.", "avg_logprob": -0.28}], "usage": {"type": "duration", "seconds": 9}}');
SELECT pg_temp.read('openai', '{"task": "transcribe", "duration": 27.4, "text": "Agent: Thanks", "segments": [{"type": "transcript.text.segment", "id": "seg_001", "start": 0.0, "end": 4.7, "text": "Thanks", "speaker": "agent"}],
	"usage": {"type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 0, "audio_tokens": 14}, "output_tokens": 45, "total_tokens": 59}}');
SELECT pg_temp.read('huggingface', '{"text": " Hello there", "chunks": [{"text": " Hello", "timestamp": [0.0, 1.5]}, {"text": " there", "timestamp": [1.5, null]}]}');
SELECT pg_temp.read('huggingface', '{"text": "x", "chunks": [{"text": "x", "timestamp": {"a": 1}}, {"timestamp": []}, 5, {"text": 5, "timestamp": ["0"]}]}');
SELECT pg_temp.read('openrouter', '{"text": "I used to.", "usage": {"seconds": 20, "cost": 0.005333}}');
SELECT pg_temp.read(k, '{"transcript": "x"}') FROM unnest('{openai,openrouter,huggingface}'::text[]) k;
