/*
 * adapter_openai.c: OpenAI's API, and every server that speaks it.
 *
 * Payloads are already in this shape: the model is replaced by the instance's
 * and what would stream is taken out.  Reading is in openai_read.c.
 */
#include "postgres.h"

#include "gateway/wire.h"
#include "lib/stringinfo.h"

static const char *const never_sent[] = {"model", "stream", "stream_options", NULL};

/* ---- chat ---- */

/*
 * The instance's bound on the output goes along where the payload has none:
 * what a budget reserved must be what the provider may use.
 */
static void
put_limit(EduaiJson *j, const GatewayCall *call, const char *limit_name)
{
	JsonbValue value;

	if (call->instance->max_output_tokens > 0 &&
		!eduai_core_json_get(call->payload, "max_tokens", &value) &&
		!eduai_core_json_get(call->payload, "max_completion_tokens", &value))
		eduai_core_json_put_int(j, limit_name, call->instance->max_output_tokens);
}

bool
eduai_gateway_openai_chat(const GatewayCall *call, const char *url, const char *limit_name,
						  WireRequest *request, CallOutcome *outcome)
{
	static const char *const except[] = {"model",    "stream", "stream_options",
										 "messages", "prompt", NULL};
	Jsonb *messages = eduai_gateway_messages(call->payload, outcome);
	EduaiJson j;

	if (messages == NULL)
		return false;
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, call->payload, except);
	eduai_core_json_put_text(&j, "model", call->instance->model);
	eduai_core_json_put_json(&j, "messages", messages);
	put_limit(&j, call, limit_name);
	request->url = pstrdup(url);
	return eduai_gateway_set_body(request, eduai_core_json_end(&j), outcome);
}

/* OpenAI's newer models refuse max_tokens, compatible servers know nothing else. */
static const char *
limit_name(const Provider *provider)
{
	return strncmp(provider->base_url, "https://api.openai.com/", 23) == 0 ? "max_completion_tokens"
																		   : "max_tokens";
}

/* ---- embeddings ---- */

static bool
has_input(const Jsonb *payload)
{
	JsonbValue value;

	return eduai_core_json_get(payload, "input", &value) &&
		   (value.type == jbvString ||
			(value.type == jbvBinary && JsonContainerIsArray(value.val.binary.data) &&
			 JsonContainerSize(value.val.binary.data) > 0));
}

bool
eduai_gateway_openai_embeddings(const GatewayCall *call, const char *url, WireRequest *request,
								CallOutcome *outcome)
{
	/* numbers, not base64, are what the answer is read as */
	static const char *const except[] = {"model", "stream", "stream_options", "encoding_format",
										 NULL};
	EduaiJson j;

	if (!has_input(call->payload))
		return eduai_gateway_bad_payload(outcome,
										 "payload.input must be a string or an array that is "
										 "not empty");
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, call->payload, except);
	eduai_core_json_put_text(&j, "model", call->instance->model);
	request->url = pstrdup(url);
	return eduai_gateway_set_body(request, eduai_core_json_end(&j), outcome);
}

/* ---- images ---- */

static bool
build_images(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	EduaiJson j;

	if (eduai_gateway_string(call->payload, "prompt") == NULL)
		return eduai_gateway_bad_payload(outcome, "payload.prompt must be a string");
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, call->payload, never_sent);
	eduai_core_json_put_text(&j, "model", call->instance->model);
	request->url = psprintf("%s/images/generations", call->instance->provider->base_url);
	return eduai_gateway_set_body(request, eduai_core_json_end(&j), outcome);
}

/* ---- transcription: a multipart upload ---- */

static const struct
{
	const char *type;
	const char *extension;
} audio_types[] = {
	{"audio/mpeg", "mp3"},  {"audio/mp3", "mp3"},   {"audio/mp4", "m4a"},
	{"audio/m4a", "m4a"},   {"audio/x-m4a", "m4a"}, {"audio/wav", "wav"},
	{"audio/x-wav", "wav"}, {"audio/wave", "wav"},  {"audio/webm", "webm"},
	{"audio/ogg", "ogg"},   {"audio/flac", "flac"}, {"audio/x-flac", "flac"},
	{"video/mp4", "mp4"},   {"video/webm", "webm"},
};

/* Servers judge the format by the name's extension. */
static char *
default_name(const char *type)
{
	for (size_t i = 0; i < lengthof(audio_types); i++)
		if (pg_strcasecmp(type, audio_types[i].type) == 0)
			return psprintf("audio.%s", audio_types[i].extension);
	return pstrdup("audio.mp3");
}

static bool
is_plain(const char *text, const char *refused, size_t max)
{
	if (*text == '\0' || strlen(text) > max)
		return false;
	for (const unsigned char *p = (const unsigned char *) text; *p; p++)
		if (*p < 0x20 || *p == 0x7F || strchr(refused, *p) != NULL)
			return false;
	return true;
}

bool
eduai_gateway_audio(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	Jsonb *audio = eduai_core_json_child(call->payload, "audio");
	char *base64 = eduai_gateway_string(audio, "base64");
	char *given_type = eduai_gateway_string(audio, "content_type");
	char *type;

	if (base64 == NULL)
		return eduai_gateway_bad_payload(outcome,
										 "payload.audio must be an object with \"base64\"");
	if (!eduai_gateway_base64(base64, &request->file, &request->file_length, &type))
		return eduai_gateway_bad_payload(outcome, "payload.audio.base64 is not valid base64");
	if (given_type == NULL)
		given_type = type != NULL ? type : "audio/mpeg";
	request->file_type = given_type;
	request->file_name = eduai_gateway_string(audio, "file_name");
	if (request->file_name == NULL)
		request->file_name = default_name(given_type);
	if (!is_plain(request->file_type, " \"\\,;", 100) || strchr(request->file_type, '/') == NULL)
		return eduai_gateway_bad_payload(outcome, "payload.audio.content_type is not valid");
	if (!is_plain(request->file_name, "/\"\\", 255))
		return eduai_gateway_bad_payload(outcome, "payload.audio.file_name is not valid");
	return true;
}

static char *
field_text(const JsonbValue *value)
{
	EduaiJson j;
	Jsonb *json;

	eduai_core_json_begin(&j);
	eduai_core_json_put_value(&j, "v", value);
	json = eduai_core_json_end(&j);
	if (value->type == jbvBinary)
		return eduai_core_json_cstring(eduai_core_json_child(json, "v"));
	return eduai_core_json_text(json, "v");
}

static bool
add_text_field(WireRequest *request, const char *name, const char *text, CallOutcome *outcome)
{
	char *utf8 = text != NULL ? eduai_gateway_to_utf8(text) : NULL;

	if (text == NULL)
		return true;
	if (utf8 == NULL)
		return eduai_gateway_bad_payload(outcome, "the payload cannot be encoded as UTF-8");
	eduai_gateway_add_field(request, name, utf8);
	return true;
}

/* Scalars as text, an array as a field "name[]" for each element, objects as JSON. */
static bool
add_fields(const Jsonb *payload, WireRequest *request, CallOutcome *outcome)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &payload->root);
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		char *name;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		name = pnstrdup(key.val.string.val, key.val.string.len);
		if (strcmp(name, "audio") == 0 || strcmp(name, "model") == 0 ||
			strcmp(name, "stream") == 0 || strcmp(name, "stream_options") == 0 ||
			!is_plain(name, "\"\\", 100))
			continue;
		if (value.type == jbvBinary && JsonContainerIsArray(value.val.binary.data))
		{
			Jsonb *array = JsonbValueToJsonb(&value);

			for (int i = 0; i < eduai_core_json_length(array); i++)
				if (!add_text_field(request, psprintf("%s[]", name),
									eduai_core_json_element_text(array, i), outcome))
					return false;
		}
		else if (!add_text_field(request, name, field_text(&value), outcome))
			return false;
	}
	return true;
}

static bool
build_transcription(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	char *format = eduai_gateway_string(call->payload, "response_format");

	if (format != NULL && strcmp(format, "json") != 0 && strcmp(format, "verbose_json") != 0 &&
		strcmp(format, "diarized_json") != 0)
		return eduai_gateway_bad_payload(outcome,
										 "payload.response_format must be json, verbose_json or "
										 "diarized_json");
	if (!eduai_gateway_audio(call, request, outcome))
		return false;
	if (!add_text_field(request, "model", call->instance->model, outcome) ||
		!add_fields(call->payload, request, outcome))
		return false;
	request->url = psprintf("%s/audio/transcriptions", call->instance->provider->base_url);
	return true;
}

/* ---- the adapter ---- */

static bool
build(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	const Provider *provider = call->instance->provider;

	eduai_gateway_add_bearer(request, provider);
	if (call->idempotency_key != NULL)
		eduai_gateway_add_header(request, "Idempotency-Key",
								 eduai_gateway_url_escape(call->idempotency_key));
	if (strcmp(call->task_type, "embeddings") == 0)
		return eduai_gateway_openai_embeddings(call, psprintf("%s/embeddings", provider->base_url),
											   request, outcome);
	if (strcmp(call->task_type, "image_generation") == 0)
		return build_images(call, request, outcome);
	if (strcmp(call->task_type, "transcription") == 0)
		return build_transcription(call, request, outcome);
	return eduai_gateway_openai_chat(call, psprintf("%s/chat/completions", provider->base_url),
									 limit_name(provider), request, outcome);
}

const Adapter eduai_gateway_openai_adapter = {
	.kind = "openai",
	.build = build,
	.read = eduai_gateway_openai_read,
	.health_path = "/models",
};
