-- Requests in OpenAI's shape, and to OpenRouter and Hugging Face.
CREATE FUNCTION pg_temp.built(task_type text, payload jsonb, provider jsonb DEFAULT '{}', instance jsonb DEFAULT '{}',
	kind text DEFAULT 'openai') RETURNS TABLE (field text, value jsonb) LANGUAGE sql AS $$
	SELECT key, value FROM jsonb_each(eduai.test_build_request(kind, task_type, payload,
		'{"api_key": "sk-0123456789"}' || provider, instance)) ORDER BY key
$$;

-- chat: the model is the instance's, nothing streams, the rest passes
SELECT * FROM pg_temp.built('chat', '{"model": "alias", "messages": [{"role": "user", "content": "Bonjour, \"élève\" ☕"}],
	"stream": true, "stream_options": {"include_usage": true}, "temperature": 0.7, "seed": 7, "tools": [], "stop": ["\n"]}',
	'{"base_url": "https://api.openai.com/v1", "idempotency_key": "task-12/1", "headers": {"OpenAI-Organization": "org-1"}}',
	'{"model": "gpt-4o-mini"}');
SELECT value FROM pg_temp.built('analysis', '{"prompt": "hello"}') WHERE field = 'body';
-- the instance's bound goes along where the payload has none, under the name the server knows
SELECT value FROM pg_temp.built('chat', '{"prompt": "x"}', '{"base_url": "https://api.openai.com/v1"}', '{"max_output_tokens": 500}') WHERE field = 'body';
SELECT value FROM pg_temp.built('chat', '{"prompt": "x"}', '{"base_url": "http://localhost:11434/v1"}', '{"max_output_tokens": 500}') WHERE field = 'body';
SELECT value FROM pg_temp.built('chat', '{"prompt": "x", "max_tokens": 20}', '{}', '{"max_output_tokens": 500}') WHERE field = 'body';
SELECT value FROM pg_temp.built('chat', '{"prompt": "x", "max_completion_tokens": 20}', '{}', '{"max_output_tokens": 500}') WHERE field = 'body';
-- without a key, no header
SELECT eduai.test_build_request('openai', 'chat', '{"prompt": "x"}')->'headers';

-- embeddings: base64 is sent on, and read too
SELECT * FROM pg_temp.built('embeddings', '{"model": "x", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 256}', '{}', '{"model": "text-embedding-3-small"}');
SELECT value FROM pg_temp.built('embeddings', '{"input": [1, 2, 3]}') WHERE field = 'body';

-- images
SELECT field, value FROM pg_temp.built('image_generation', '{"prompt": "a cat", "n": 2, "size": "1024x1024", "stream": true}') WHERE field <> 'headers';

-- transcription: an upload
SELECT * FROM pg_temp.built('transcription', '{"audio": {"base64": "UklGRiQAAABXQVZF", "content_type": "audio/wav"}, "language": "fr",
	"temperature": 0, "response_format": "verbose_json", "timestamp_granularities": ["word", "segment"], "stream": false}', '{}', '{"model": "whisper-1"}');
SELECT value FROM pg_temp.built('transcription', '{"audio": {"base64": "data:audio/ogg;base64,T2dnUw=="}}') WHERE field = 'upload';
SELECT value FROM pg_temp.built('transcription', '{"audio": {"base64": "T2dnUw==", "file_name": "leçon 1.ogg", "content_type": "audio/ogg"}}') WHERE field = 'upload';

-- payloads that cannot be sent end the task
SELECT t, p, r->>'verdict' AS verdict, r->>'code' AS code, r->>'message' AS message
FROM (VALUES ('chat', '{}'), ('chat', '[]'), ('chat', '{"messages": []}'), ('chat', '{"messages": {"role": "user"}}'), ('chat', '{"messages": "hi"}'),
	('embeddings', '{}'), ('embeddings', '{"input": []}'), ('embeddings', '{"input": 5}'), ('image_generation', '{"prompt": 5}'),
	('transcription', '{}'), ('transcription', '{"audio": "x"}'), ('transcription', '{"audio": {"base64": ""}}'),
	('transcription', '{"audio": {"base64": "not base64!"}}'), ('transcription', '{"audio": {"base64": "data:audio/ogg,x"}}'),
	('transcription', '{"audio": {"base64": "T2dn", "file_name": "../x"}}'), ('transcription', '{"audio": {"base64": "T2dn", "content_type": "x"}}'),
	('transcription', '{"audio": {"base64": "T2dn", "content_type": "audio/x\r\nY: z"}}'),
	('transcription', '{"audio": {"base64": "T2dn"}, "response_format": "srt"}')) v(t, p),
	LATERAL eduai.test_build_request('openai', t, p::jsonb) r;

-- OpenRouter: its own fields pass, its headers are options
SELECT * FROM pg_temp.built('chat', '{"messages": [{"role": "user", "content": "x"}], "models": ["a/b", "c/d"], "provider": {"order": ["x"], "max_price": {"prompt": 1}}}',
	'{"base_url": "https://openrouter.ai/api/v1", "headers": {"HTTP-Referer": "https://school.example", "X-Title": "School"}}', '{"model": "meta/llama"}', 'openrouter');
SELECT value FROM pg_temp.built('embeddings', '{"input": "x"}', '{"base_url": "https://openrouter.ai"}', '{}', 'openrouter') WHERE field = 'url';

-- Hugging Face: the router for chat, hf-inference for the rest
SELECT field, value FROM pg_temp.built('chat', '{"prompt": "x"}', '{"base_url": "https://router.huggingface.co/v1"}', '{"model": "org/model:fastest"}', 'huggingface') WHERE field <> 'headers';
SELECT * FROM pg_temp.built('embeddings', '{"input": ["a", "b"], "normalize": true, "encoding_format": "float"}', '{"base_url": "https://router.huggingface.co"}', '{"model": "org/mod el?x"}', 'huggingface');
SELECT * FROM pg_temp.built('transcription', '{"audio": {"base64": "T2dnUw==", "content_type": "audio/ogg"}}', '{"base_url": "https://router.huggingface.co/v1"}', '{"model": "openai/whisper"}', 'huggingface');
