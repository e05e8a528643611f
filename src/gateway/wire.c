/*
 * wire.c: what the adapters share; see wire.h.
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/namespace.h"
#include "common/base64.h"
#include "fmgr.h"
#include "core/seal.h"
#include "gateway/wire.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

static FmgrInfo *to_utf8_proc = NULL;

static char *format_message(const char *format, va_list args) pg_attribute_printf(1, 0);

static char *
format_message(const char *format, va_list args)
{
	StringInfoData text;
	int needed;

	initStringInfo(&text);
	for (;;)
	{
		va_list copy;

		va_copy(copy, args);
		needed = appendStringInfoVA(&text, format, copy);
		va_end(copy);
		if (needed == 0)
			return text.data;
		enlargeStringInfo(&text, needed);
	}
}

void
eduai_gateway_outcome_fail(CallOutcome *outcome, CallVerdict verdict, const char *code,
						   const char *format, ...)
{
	va_list args;

	outcome->verdict = verdict;
	outcome->code = code;
	outcome->result = NULL;
	va_start(args, format);
	outcome->message = format_message(format, args);
	va_end(args);
}

bool
eduai_gateway_bad_payload(CallOutcome *outcome, const char *format, ...)
{
	va_list args;

	outcome->verdict = CALL_FATAL;
	outcome->code = "bad_payload";
	va_start(args, format);
	outcome->message = format_message(format, args);
	va_end(args);
	return false;
}

/* Grows by doubling at powers of two. */
static char **
appended(char **list, int n, char *item)
{
	if ((n & (n - 1)) == 0)
	{
		int room = n == 0 ? 1 : 2 * n;

		list = list == NULL ? palloc(room * sizeof(char *)) : repalloc(list, room * sizeof(char *));
	}
	list[n] = item;
	return list;
}

void
eduai_gateway_add_header(WireRequest *request, const char *name, const char *value)
{
	size_t name_length = strlen(name);
	size_t value_length = strlen(value);
	char *header = palloc(name_length + value_length + 3);

	memcpy(header, name, name_length);
	memcpy(header + name_length, ": ", 2);
	memcpy(header + name_length + 2, value, value_length + 1);
	request->headers = appended(request->headers, request->nheaders, header);
	request->nheaders++;
}

void
eduai_gateway_add_field(WireRequest *request, const char *name, const char *value)
{
	request->fields = appended(request->fields, request->nfields, pstrdup(name));
	request->nfields++;
	request->fields = appended(request->fields, request->nfields, pstrdup(value));
	request->nfields++;
}

void
eduai_gateway_add_bearer(WireRequest *request, const Provider *provider)
{
	char *value;

	if (provider->api_key == NULL)
		return;
	value = psprintf("Bearer %s", provider->api_key);
	eduai_gateway_add_header(request, "Authorization", value);
	eduai_core_seal_wipe(value);
}

static bool
is_listed(const JsonbValue *key, const char *const *list)
{
	for (; list != NULL && *list != NULL; list++)
		if (strlen(*list) == key->val.string.len &&
			memcmp(*list, key->val.string.val, key->val.string.len) == 0)
			return true;
	return false;
}

void
eduai_gateway_copy_pairs(EduaiJson *j, const Jsonb *object, const char *const *except)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	if (!eduai_core_json_is_object(object))
		return;
	it = JsonbIteratorInit((JsonbContainer *) &object->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (!is_listed(&key, except))
			eduai_core_json_put_value(j, pnstrdup(key.val.string.val, key.val.string.len), &value);
	}
}

bool
eduai_gateway_set_body(WireRequest *request, const Jsonb *body, CallOutcome *outcome)
{
	request->body = eduai_gateway_to_utf8(eduai_core_json_cstring(body));
	if (request->body == NULL)
		return eduai_gateway_bad_payload(outcome, "the payload cannot be encoded as UTF-8");
	request->body_length = strlen(request->body);
	return true;
}

char *
eduai_gateway_string(const Jsonb *json, const char *key)
{
	JsonbValue value;

	if (!eduai_core_json_get(json, key, &value) || value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

Jsonb *
eduai_gateway_messages(const Jsonb *payload, CallOutcome *outcome)
{
	Jsonb *messages = eduai_core_json_child(payload, "messages");
	char *prompt = eduai_gateway_string(payload, "prompt");
	EduaiJson j;

	if (eduai_core_json_length(messages) > 0)
		return messages;
	if (prompt == NULL || eduai_core_json_is_object(messages))
	{
		(void) eduai_gateway_bad_payload(outcome,
										 "payload.messages must be an array that is not empty");
		return NULL;
	}
	eduai_core_json_begin(&j);
	eduai_core_json_open_array(&j, "messages");
	eduai_core_json_open_object(&j, NULL);
	eduai_core_json_put_text(&j, "role", "user");
	eduai_core_json_put_text(&j, "content", prompt);
	eduai_core_json_close_object(&j);
	eduai_core_json_close_array(&j);
	return eduai_core_json_child(eduai_core_json_end(&j), "messages");
}

bool
eduai_gateway_base64(const char *text, char **bytes, size_t *length, char **type)
{
	size_t input;
	int decoded;

	*type = NULL;
	if (strncmp(text, "data:", 5) == 0)
	{
		const char *comma = strchr(text, ',');

		if (comma == NULL || comma - text < 12 || strncmp(comma - 7, ";base64", 7) != 0)
			return false;
		*type = pnstrdup(text + 5, strcspn(text + 5, ";,"));
		text = comma + 1;
	}
	input = strlen(text);
	if (input == 0 || input > MaxAllocSize / 2)
		return false;
	*bytes = palloc(pg_b64_dec_len((int) input) + 1);
	decoded = pg_b64_decode(text, (int) input, (void *) *bytes, pg_b64_dec_len((int) input));
	if (decoded <= 0)
		return false;
	*length = decoded;
	return true;
}

char *
eduai_gateway_url_escape(const char *text)
{
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	StringInfoData escaped;

	if (text[strspn(text, plain)] == '\0')
		return pstrdup(text);
	initStringInfo(&escaped);
	for (const unsigned char *p = (const unsigned char *) text; *p; p++)
	{
		if (isalnum(*p) || strchr("-._~", *p) != NULL)
			appendStringInfoChar(&escaped, *p);
		else
			appendStringInfo(&escaped, "%%%02X", *p);
	}
	return escaped.data;
}

/*
 * Conversions are C functions that need no catalog once they were looked up,
 * as the server itself does for its client's encoding.
 */
void
eduai_gateway_encoding_prepare(void)
{
	int encoding = GetDatabaseEncoding();
	Oid proc;
	FmgrInfo *info;

	if (to_utf8_proc != NULL || encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return;
	proc = FindDefaultConversionProc(encoding, PG_UTF8);
	if (!OidIsValid(proc))
		return;
	info = MemoryContextAlloc(TopMemoryContext, sizeof(FmgrInfo));
	fmgr_info_cxt(proc, info, TopMemoryContext);
	to_utf8_proc = info;
}

char *
eduai_gateway_to_utf8(const char *text)
{
	int length = strlen(text);
	char *converted;

	if (GetDatabaseEncoding() == PG_UTF8)
		return (char *) text;
	if (to_utf8_proc == NULL)
		return pg_verify_mbstr(PG_UTF8, text, length, true) ? (char *) text : NULL;
	if (length >= MaxAllocSize / MAX_CONVERSION_GROWTH)
		return NULL;
	converted = palloc(length * MAX_CONVERSION_GROWTH + 1);
	(void) FunctionCall6(to_utf8_proc, Int32GetDatum(GetDatabaseEncoding()), Int32GetDatum(PG_UTF8),
						 CStringGetDatum(text), CStringGetDatum(converted), Int32GetDatum(length),
						 BoolGetDatum(false));
	return converted;
}

char *
eduai_gateway_clip(const char *text, int characters)
{
	return pnstrdup(text, pg_mbcharcliplen(text, strlen(text), characters));
}

int64
eduai_gateway_count(const Jsonb *json, const char *key)
{
	int64 value;

	/* counts beyond any model's are hostile: keep their sums within int64 */
	if (!eduai_core_json_int64(json, key, &value) || value < 0)
		return 0;
	return Min(value, INT64CONST(1000000000000));
}

void
eduai_gateway_bound_usage(CallOutcome *outcome)
{
	int64 left;

	outcome->tokens_cached = Min(outcome->tokens_cached, outcome->tokens_in);
	outcome->tokens_cache_write =
		Min(outcome->tokens_cache_write, outcome->tokens_in - outcome->tokens_cached);
	outcome->tokens_cache_write_1h =
		Min(outcome->tokens_cache_write_1h, outcome->tokens_cache_write);
	left = outcome->tokens_in - outcome->tokens_cached - outcome->tokens_cache_write;
	outcome->tokens_audio_in = Min(outcome->tokens_audio_in, left);
	outcome->tokens_image_in = Min(outcome->tokens_image_in, left - outcome->tokens_audio_in);
	outcome->tokens_reasoning = Min(outcome->tokens_reasoning, outcome->tokens_out);
	outcome->tokens_audio_out =
		Min(outcome->tokens_audio_out, outcome->tokens_out - outcome->tokens_reasoning);
}

/* No call costs a million: such a number is an error or an attack on a budget. */
Numeric
eduai_gateway_given_cost(const Jsonb *json, const char *key)
{
	Numeric cost = eduai_core_json_numeric(json, key);

	if (cost == NULL || numeric_is_nan(cost) || numeric_is_inf(cost) ||
		eduai_gateway_is_negative(cost) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(cost),
										 NumericGetDatum(int64_to_numeric(1000000)))))
		return NULL;
	return cost;
}

void
eduai_gateway_put_usage(EduaiJson *j, const CallOutcome *outcome)
{
	eduai_core_json_put_text(j, "model", outcome->model);
	eduai_core_json_open_object(j, "usage");
	eduai_core_json_put_int(j, "input", outcome->tokens_in);
	eduai_core_json_put_int(j, "cached", outcome->tokens_cached);
	eduai_core_json_put_int(j, "output", outcome->tokens_out);
	if (outcome->tokens_cache_write > 0)
		eduai_core_json_put_int(j, "cache_write", outcome->tokens_cache_write);
	if (outcome->tokens_reasoning > 0)
		eduai_core_json_put_int(j, "reasoning", outcome->tokens_reasoning);
	if (outcome->audio_ms > 0)
		eduai_core_json_put_double(j, "audio_seconds", outcome->audio_ms / 1000.0);
	eduai_core_json_close_object(j);
}

bool
eduai_gateway_knows_schemas(const Instance *instance)
{
	bool knows = true;

	(void) eduai_core_json_bool(instance->options, "json_schema", &knows);
	return knows;
}

bool
eduai_gateway_wants_json(const Jsonb *payload)
{
	char *type = eduai_gateway_string(eduai_core_json_child(payload, "response_format"), "type");

	return type != NULL && (strcmp(type, "json_object") == 0 || strcmp(type, "json_schema") == 0);
}

/* Models like to fence what they were told not to. */
static char *
without_fence(const char *text)
{
	const char *start = text + strspn(text, " \t\r\n");
	const char *end;

	if (strncmp(start, "```", 3) != 0)
		return (char *) text;
	start += strcspn(start, "\n");
	end = strstr(start, "```");
	return end == NULL ? (char *) text : pnstrdup(start, end - start);
}

void
eduai_gateway_put_json_text(EduaiJson *j, const Jsonb *payload, const char *text)
{
	char *utf8;
	char *why;
	Jsonb *json;

	if (!eduai_gateway_wants_json(payload))
		return;
	utf8 = eduai_gateway_to_utf8(without_fence(text));
	if (utf8 == NULL)
		return;
	json = eduai_core_json_parse_bytes(utf8, strlen(utf8), &why);
	if (json != NULL)
		eduai_core_json_put_json(j, "json", json);
}
