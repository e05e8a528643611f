/*
 * transcription.c: sound in, words out, for all kinds.
 *
 * payload.audio is {"base64"}, {"attachment"} or {"url"}.  A URL is never
 * fetched here: what an application names must not become a request from inside
 * the network of the database.  It is passed on to servers that fetch it
 * themselves (the instance's option audio_url) and refused for all others.
 */
#include "postgres.h"

#include "core/compat.h"
#include "common/base64.h"
#include "gateway/attachments.h"
#include "gateway/wire.h"
#include "lib/stringinfo.h"

#define MOST_URL 2048

/* What is not a parameter of the transcription. */
static const char *const never_sent[] = {"audio", "model", "stream", "stream_options", NULL};

/* ---- the sound ---- */

static const struct
{
	const char *type;
	const char *extension;
} audio_types[] = {
	{"audio/mpeg", "mp3"},  {"audio/mp3", "mp3"},   {"audio/mp4", "m4a"},
	{"audio/m4a", "m4a"},   {"audio/x-m4a", "m4a"}, {"audio/wav", "wav"},
	{"audio/x-wav", "wav"}, {"audio/wave", "wav"},  {"audio/webm", "webm"},
	{"audio/ogg", "ogg"},   {"audio/flac", "flac"}, {"audio/x-flac", "flac"},
	{"audio/aac", "aac"},   {"audio/mpga", "mpga"}, {"audio/vnd.wave", "wav"},
	{"video/mp4", "mp4"},   {"video/webm", "webm"},
};

const char *
eduai_gateway_audio_extension(const char *type)
{
	for (size_t i = 0; i < lengthof(audio_types); i++)
		if (pg_strcasecmp(type, audio_types[i].type) == 0)
			return audio_types[i].extension;
	return "mp3";
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

static bool
is_among(const char *name, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcmp(name, *list) == 0)
			return true;
	return false;
}

/* The bytes, from the payload or from an attachment, and their type where it is known. */
static bool
take_bytes(const GatewayCall *call, const Jsonb *audio, WireRequest *request, char **type,
		   CallOutcome *outcome)
{
	char *base64 = eduai_gateway_string(audio, "base64");
	char *id = eduai_gateway_string(audio, "attachment");
	const CallFile *file;

	*type = NULL;
	if (base64 != NULL)
		return eduai_gateway_base64(base64, &request->file, &request->file_length, type) ||
			   eduai_gateway_bad_payload(outcome, "payload.audio.base64 is not valid base64");
	if (id == NULL)
		return eduai_gateway_bad_payload(
			outcome, eduai_gateway_string(audio, "url") != NULL
						 ? "payload.audio.url cannot be sent to this provider: give the bytes with "
						   "eduai.attach()"
						 : "payload.audio must be an object with \"attachment\", \"base64\" or "
						   "\"url\"");
	file = eduai_gateway_attachment(call, id, outcome);
	if (file == NULL)
		return false;
	request->file = VARDATA_ANY(file->data);
	request->file_length = VARSIZE_ANY_EXHDR(file->data);
	*type = pnstrdup(file->content_type, strcspn(file->content_type, "; "));
	return true;
}

bool
eduai_gateway_audio(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	Jsonb *audio = eduai_core_json_child(call->payload, "audio");
	char *given_type = eduai_gateway_string(audio, "content_type");
	char *type;

	if (!take_bytes(call, audio, request, &type, outcome))
		return false;
	if (given_type == NULL)
		given_type = type != NULL ? type : "audio/mpeg";
	request->file_type = given_type;
	request->file_name = eduai_gateway_string(audio, "file_name");
	/* servers judge the format by the name's extension */
	if (request->file_name == NULL)
		request->file_name = psprintf("audio.%s", eduai_gateway_audio_extension(given_type));
	if (!is_plain(request->file_type, " \"\\,;", 100) || strchr(request->file_type, '/') == NULL)
		return eduai_gateway_bad_payload(outcome, "payload.audio.content_type is not valid");
	if (!is_plain(request->file_name, "/\"\\", 255))
		return eduai_gateway_bad_payload(outcome, "payload.audio.file_name is not valid");
	return true;
}

/* http or https, and nothing in it that names a user. */
static bool
is_url(const char *text)
{
	const char *host = strncmp(text, "https://", 8) == 0  ? text + 8
					   : strncmp(text, "http://", 7) == 0 ? text + 7
														  : NULL;
	size_t authority;

	if (host == NULL || !is_plain(text, " \"\\", MOST_URL))
		return false;
	authority = strcspn(host, "/?#");
	return authority > 0 && memchr(host, '@', authority) == NULL;
}

/* ---- OpenAI: a multipart form ---- */

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
		if (is_among(name, never_sent) || !is_plain(name, "\"\\", 100))
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

/* The URL as a form field, for servers that fetch it; false without an outcome: there is none. */
static bool
takes_url(const GatewayCall *call, char **url)
{
	bool wanted = false;

	(void) eduai_core_json_bool(call->instance->options, "audio_url", &wanted);
	*url = eduai_gateway_string(eduai_core_json_child(call->payload, "audio"), "url");
	return wanted && *url != NULL;
}

static bool
add_sound(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	char *url;

	if (!takes_url(call, &url))
		return eduai_gateway_audio(call, request, outcome);
	if (!is_url(url))
		return eduai_gateway_bad_payload(
			outcome, "payload.audio.url must be an http or https URL without a user");
	return add_text_field(request, "url", url, outcome);
}

bool
eduai_gateway_openai_transcription(const GatewayCall *call, const char *url, WireRequest *request,
								   CallOutcome *outcome)
{
	static const char *const formats[] = {"json", "verbose_json", "diarized_json", NULL};
	char *format = eduai_gateway_string(call->payload, "response_format");

	if (format != NULL && !is_among(format, formats))
		return eduai_gateway_bad_payload(outcome,
										 "payload.response_format must be json, verbose_json or "
										 "diarized_json");
	if (!add_sound(call, request, outcome) ||
		!add_text_field(request, "model", call->instance->model, outcome) ||
		!add_fields(call->payload, request, outcome))
		return false;
	request->url = pstrdup(url);
	return true;
}

/* ---- OpenRouter and Hugging Face: base64 in JSON ---- */

static char *
base64_of(const WireRequest *request)
{
	int room = pg_b64_enc_len((int) request->file_length);
	char *text = palloc(room + 1);
	int written =
		pg_b64_encode((const void *) request->file, (int) request->file_length, text, room);

	text[Max(written, 0)] = '\0';
	return text;
}

/* Takes the bytes out of the request, which has a JSON body instead. */
static bool
set_json_body(WireRequest *request, EduaiJson *j, CallOutcome *outcome)
{
	request->file = NULL;
	request->file_length = 0;
	request->file_type = NULL;
	return eduai_gateway_set_body(request, eduai_core_json_end(j), outcome);
}

bool
eduai_gateway_openrouter_transcription(const GatewayCall *call, const char *url,
									   WireRequest *request, CallOutcome *outcome)
{
	EduaiJson j;

	if (!eduai_gateway_audio(call, request, outcome))
		return false;
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, call->payload, never_sent);
	eduai_core_json_put_text(&j, "model", call->instance->model);
	eduai_core_json_open_object(&j, "input_audio");
	eduai_core_json_put_text(&j, "data", base64_of(request));
	eduai_core_json_put_text(&j, "format", eduai_gateway_audio_extension(request->file_type));
	eduai_core_json_close_object(&j);
	request->url = pstrdup(url);
	return set_json_body(request, &j, outcome);
}

/* Raw bytes when there are no parameters: the body is the file. */
bool
eduai_gateway_huggingface_transcription(const GatewayCall *call, const char *url,
										WireRequest *request, CallOutcome *outcome)
{
	Jsonb *parameters = eduai_core_json_child(call->payload, "parameters");
	bool timed = eduai_core_json_child(call->payload, "timestamp_granularities") != NULL;
	EduaiJson j;

	if (!eduai_gateway_audio(call, request, outcome))
		return false;
	request->url = pstrdup(url);
	if (parameters == NULL && !timed)
	{
		eduai_gateway_add_header(request, "Content-Type", request->file_type);
		request->body = request->file;
		request->body_length = request->file_length;
		request->file = NULL;
		return true;
	}
	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "inputs", base64_of(request));
	eduai_core_json_open_object(&j, "parameters");
	eduai_gateway_copy_pairs(&j, parameters, NULL);
	if (timed)
		eduai_core_json_put_bool(&j, "return_timestamps", true);
	eduai_core_json_close_object(&j);
	return set_json_body(request, &j, outcome);
}

/* ---- answers ---- */

int64
eduai_gateway_seconds_to_ms(const Jsonb *json, const char *key)
{
	double seconds;

	if (!eduai_core_json_double(json, key, &seconds))
	{
		char *text = eduai_gateway_string(json, key);

		seconds = text != NULL ? strtod(text, NULL) : 0;
	}
	return seconds > 0 && seconds < 1e9 ? (int64) (seconds * 1000.0 + 0.5) : 0;
}

/* NULL unless it is there and a number. */
static JsonbValue *
number_at(const Jsonb *array, uint32 i)
{
	JsonbValue *value;

	if (eduai_core_json_length(array) == 0)
		return NULL;
	value = getIthJsonbValueFromContainer((JsonbContainer *) &array->root, i);
	return value != NULL && value->type == jbvNumeric ? value : NULL;
}

/* Hugging Face's {text, timestamp: [from, to]} as segments. */
static void
put_chunks(EduaiJson *j, const Jsonb *chunks)
{
	eduai_core_json_open_array(j, "segments");
	for (int i = 0; i < eduai_core_json_length(chunks); i++)
	{
		Jsonb *chunk = eduai_core_json_element(chunks, i);
		Jsonb *times = eduai_core_json_child(chunk, "timestamp");
		JsonbValue *from = number_at(times, 0);
		JsonbValue *to = number_at(times, 1);

		eduai_core_json_open_object(j, NULL);
		if (from != NULL)
			eduai_core_json_put_value(j, "start", from);
		if (to != NULL)
			eduai_core_json_put_value(j, "end", to);
		eduai_core_json_put_text(j, "text", eduai_gateway_string(chunk, "text"));
		eduai_core_json_close_object(j);
	}
	eduai_core_json_close_array(j);
}

static void
put_parts(EduaiJson *j, const Jsonb *body)
{
	Jsonb *segments = eduai_core_json_child(body, "segments");
	Jsonb *chunks = eduai_core_json_child(body, "chunks");
	Jsonb *words = eduai_core_json_child(body, "words");

	if (segments != NULL)
		eduai_core_json_put_json(j, "segments", segments);
	else if (eduai_core_json_length(chunks) > 0)
		put_chunks(j, chunks);
	if (words != NULL)
		eduai_core_json_put_json(j, "words", words);
}

void
eduai_gateway_read_transcript(const Jsonb *body, CallOutcome *outcome)
{
	char *text = eduai_gateway_string(body, "text");
	char *language = eduai_gateway_string(body, "language");
	EduaiJson j;

	if (text == NULL)
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "the answer has no transcript");
		return;
	}
	/* what is billed by tokens is not billed by seconds too */
	if (outcome->audio_ms == 0 && outcome->tokens_in == 0 && outcome->tokens_out == 0)
		outcome->audio_ms = eduai_gateway_seconds_to_ms(body, "duration");
	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "transcript", text);
	if (language != NULL)
		eduai_core_json_put_text(&j, "language", language);
	put_parts(&j, body);
	eduai_core_json_put_text(&j, "finish_reason", "stop");
	eduai_gateway_put_usage(&j, outcome);
	outcome->result = eduai_core_json_end(&j);
}
