/*
 * options.c: the options of providers and instances, as tables.
 *
 * Adding an option means adding a line here and reading it where it acts.
 * Values of "headers" are never repeated in a message: people put secrets
 * there, though they are told not to.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "core/json.h"
#include "gateway/options.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"

typedef enum OptionType
{
	OPTION_BOOL,
	OPTION_TEXT,     /* min..max bytes */
	OPTION_INT,      /* min..max */
	OPTION_NUMBER,   /* at least 0 */
	OPTION_FRACTION, /* 0..1 */
	OPTION_TEXTS,    /* an array of strings, each min..max bytes */
	OPTION_HEADERS,  /* an object of strings */
	OPTION_PRICES    /* a number of at least 0, or an object of some */
} OptionType;

typedef struct OptionSpec
{
	const char *name;
	OptionType type;
	int64 min;
	int64 max;
	const char *kind; /* NULL: any kind of provider */
} OptionSpec;

#define ONE_DAY_MS INT64CONST(86400000)

static const OptionSpec provider_options[] = {
	{"allow_loopback", OPTION_BOOL},
	{"allow_private", OPTION_BOOL},
	{"headers", OPTION_HEADERS},
	{"http2", OPTION_BOOL},
	{"webhook", OPTION_BOOL, 0, 0, "openai"},
	{"anthropic_version", OPTION_TEXT, 1, 64, "anthropic"},
	{"latency_ms", OPTION_INT, 0, ONE_DAY_MS, "mock"},
	{"text", OPTION_TEXT, 0, 1048576, "mock"},
	{"echo", OPTION_BOOL, 0, 0, "mock"},
	{"finish_reason", OPTION_TEXT, 1, 64, "mock"},
	{"dimensions", OPTION_INT, 1, 16384, "mock"},
	{"tokens_in", OPTION_INT, 0, PG_INT32_MAX, "mock"},
	{"tokens_cached", OPTION_INT, 0, PG_INT32_MAX, "mock"},
	{"tokens_out", OPTION_INT, 0, PG_INT32_MAX, "mock"},
	{"status", OPTION_INT, 400, 599, "mock"},
	{"code", OPTION_TEXT, 1, 64, "mock"},
	{"message", OPTION_TEXT, 1, 500, "mock"},
	{"retry_after_ms", OPTION_INT, 0, ONE_DAY_MS, "mock"},
	{"error_rate", OPTION_FRACTION, 0, 0, "mock"},
	{"fail_first", OPTION_INT, 0, 1000, "mock"},
};

static const OptionSpec instance_options[] = {
	{"aliases", OPTION_TEXTS, 1, 256},
	{"tier", OPTION_INT, 1, 100},
	{"fallback", OPTION_TEXTS, 1, 256},
	{"tenants", OPTION_TEXTS, 1, 63},
	{"region", OPTION_TEXT, 1, 64},
	{"context_tokens", OPTION_INT, 1, PG_INT32_MAX},
	{"max_output_tokens", OPTION_INT, 1, PG_INT32_MAX},
	{"image_tokens", OPTION_INT, 1, PG_INT32_MAX},
	{"embedding_space", OPTION_TEXT, 1, 256},
	{"rpm", OPTION_INT, 1, PG_INT32_MAX},
	{"tpm", OPTION_INT, 1, INT64CONST(1000000000000)},
	{"daily_tokens", OPTION_INT, 1, INT64CONST(1000000000000000)},
	{"price_cached", OPTION_NUMBER},
	{"price_cache_write", OPTION_NUMBER},
	{"price_cache_write_1h", OPTION_NUMBER},
	{"price_audio_input", OPTION_NUMBER},
	{"price_image_input", OPTION_NUMBER},
	{"price_audio_output", OPTION_NUMBER},
	{"price_reasoning", OPTION_NUMBER},
	{"price_audio_second", OPTION_NUMBER},
	{"price_image", OPTION_PRICES},
	{"audio_url", OPTION_BOOL},
	{"json_schema", OPTION_BOOL},
	{"connect_ms", OPTION_INT, 1, ONE_DAY_MS},
	{"first_byte_ms", OPTION_INT, 1, ONE_DAY_MS},
	{"stall_ms", OPTION_INT, 1, ONE_DAY_MS},
	{"stream", OPTION_BOOL},
	{"timeout_ms", OPTION_INT, 1, ONE_DAY_MS},
};

/* Headers that the gateway sets itself, or that would carry a key into a dump. */
static const char *const refused_headers[] = {
	"authorization",    "proxy-authorization",
	"x-api-key",        "api-key",
	"cookie",           "host",
	"content-length",   "content-type",
	"content-encoding", "transfer-encoding",
	"connection",       "upgrade",
	"expect",           "te",
	"trailer",          "idempotency-key",
	"accept-encoding",
};

static char *
known_names(const OptionSpec *specs, int n, const char *kind)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < n; i++)
		if (specs[i].kind == NULL || (kind != NULL && strcmp(specs[i].kind, kind) == 0))
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", specs[i].name);
	return names.data;
}

static void
refuse(const char *what, const OptionSpec *spec, const char *must, const JsonbValue *value)
{
	char *shown = NULL;

	if (spec->type != OPTION_HEADERS && value->type == jbvString)
		shown = pnstrdup(value->val.string.val,
						 pg_mbcliplen(value->val.string.val, value->val.string.len, 100));
	else if (value->type == jbvNumeric)
	{
		shown =
			DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		if (strlen(shown) > 100)
			strcpy(shown + 97, "...");
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 shown != NULL ? errmsg("%s option \"%s\" cannot be \"%s\"", what, spec->name, shown)
						   : errmsg("%s option \"%s\" has an invalid value", what, spec->name),
			 errhint("The option \"%s\" must be %s.", spec->name, must)));
}

static bool
text_fits(const char *text, int length, const OptionSpec *spec)
{
	return length >= spec->min && length <= spec->max;
}

static bool
is_token(const char *text, int length)
{
	for (int i = 0; i < length; i++)
		if (!isalnum((unsigned char) text[i]) && strchr("!#$%&'*+-.^_`|~", text[i]) == NULL)
			return false;
	return length > 0;
}

static bool
is_printable(const char *text, int length)
{
	for (int i = 0; i < length; i++)
		if ((unsigned char) text[i] < 0x20 || text[i] == 0x7F)
			return false;
	return true;
}

static void
check_header(const char *what, const OptionSpec *spec, const JsonbValue *name,
			 const JsonbValue *value)
{
	char *text = pnstrdup(name->val.string.val, name->val.string.len);

	if (!is_token(text, strlen(text)) || strlen(text) > 100)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is no HTTP header's name", text)));
	for (size_t i = 0; i < lengthof(refused_headers); i++)
		if (pg_strcasecmp(text, refused_headers[i]) == 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("header \"%s\" cannot be set by an option", text),
							errhint("The gateway sets it; a key goes into the argument api_key.")));
	if (value->type != jbvString || value->val.string.len > 4096 ||
		!is_printable(value->val.string.val, value->val.string.len))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("header \"%s\" has an invalid value", text),
				 errhint("It must be a string of at most 4096 bytes without control characters.")));
}

static void
check_headers(const char *what, const OptionSpec *spec, const JsonbValue *object)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue name;
	JsonbValue value;

	if (object->type != jbvBinary || !JsonContainerIsObject(object->val.binary.data))
		refuse(what, spec, "an object of strings", object);
	it = JsonbIteratorInit(object->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		check_header(what, spec, &name, &value);
	}
}

static void
check_texts(const char *what, const OptionSpec *spec, const JsonbValue *array)
{
	char *must = psprintf("an array of strings of " INT64_FORMAT " to " INT64_FORMAT " bytes",
						  spec->min, spec->max);
	JsonbContainer *container;

	if (array->type != jbvBinary || !JsonContainerIsArray(array->val.binary.data))
		refuse(what, spec, must, array);
	container = array->val.binary.data;
	for (uint32 i = 0; i < JsonContainerSize(container); i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(container, i);

		if (value->type != jbvString ||
			!text_fits(value->val.string.val, value->val.string.len, spec))
			refuse(what, spec, must, value);
	}
}

static void
check_number(const char *what, const OptionSpec *spec, const JsonbValue *value)
{
	Jsonb *json;
	double number = -1;
	bool valid = false;
	char *must = "a number of at least 0";

	if (value->type == jbvNumeric)
	{
		EduaiJson j;

		eduai_core_json_begin(&j);
		eduai_core_json_put_value(&j, "n", value);
		json = eduai_core_json_end(&j);
		valid = eduai_core_json_double(json, "n", &number);
	}
	switch (spec->type)
	{
		case OPTION_INT:
			must =
				psprintf("an integer from " INT64_FORMAT " to " INT64_FORMAT, spec->min, spec->max);
			valid = valid && number == rint(number) && number >= spec->min && number <= spec->max;
			break;
		case OPTION_FRACTION:
			must = "a number from 0 to 1";
			valid = valid && number >= 0 && number <= 1;
			break;
		default:
			valid = valid && number >= 0;
			break;
	}
	if (!valid)
		refuse(what, spec, must, value);
}

/* A number, or numbers under any names. */
static void
check_prices(const char *what, const OptionSpec *spec, const JsonbValue *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue name;
	JsonbValue price;
	int n = 0;

	if (value->type != jbvBinary)
	{
		check_number(what, spec, value);
		return;
	}
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &price, true);
		check_number(what, spec, &price);
		n++;
	}
	if (n == 0)
		refuse(what, spec, "a number of at least 0, or an object of some", value);
}

static void
check_value(const char *what, const OptionSpec *spec, const JsonbValue *value)
{
	switch (spec->type)
	{
		case OPTION_BOOL:
			if (value->type != jbvBool)
				refuse(what, spec, "true or false", value);
			break;
		case OPTION_TEXT:
			if (value->type != jbvString ||
				!text_fits(value->val.string.val, value->val.string.len, spec) ||
				(strcmp(spec->name, "anthropic_version") == 0 &&
				 !is_printable(value->val.string.val, value->val.string.len)))
				refuse(what, spec,
					   psprintf("a string of " INT64_FORMAT " to " INT64_FORMAT " bytes", spec->min,
								spec->max),
					   value);
			break;
		case OPTION_INT:
		case OPTION_NUMBER:
		case OPTION_FRACTION:
			check_number(what, spec, value);
			break;
		case OPTION_TEXTS:
			check_texts(what, spec, value);
			break;
		case OPTION_HEADERS:
			check_headers(what, spec, value);
			break;
		case OPTION_PRICES:
			check_prices(what, spec, value);
			break;
	}
}

static const OptionSpec *
find(const OptionSpec *specs, int n, const char *kind, const JsonbValue *name)
{
	for (int i = 0; i < n; i++)
		if (strlen(specs[i].name) == name->val.string.len &&
			memcmp(specs[i].name, name->val.string.val, name->val.string.len) == 0 &&
			(specs[i].kind == NULL || (kind != NULL && strcmp(specs[i].kind, kind) == 0)))
			return &specs[i];
	return NULL;
}

static void
check(const char *what, const OptionSpec *specs, int n, const char *kind, const Jsonb *options)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue name;
	JsonbValue value;

	if (!eduai_core_json_is_object(options))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s options must be a JSON object", what)));

	it = JsonbIteratorInit((JsonbContainer *) &options->root);
	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
	{
		const OptionSpec *spec;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		spec = find(specs, n, kind, &name);
		if (spec == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown %s option \"%s\"", what,
							pnstrdup(name.val.string.val,
									 pg_mbcliplen(name.val.string.val, name.val.string.len, 100))),
					 errhint("The options are %s.", known_names(specs, n, kind))));
		check_value(what, spec, &value);
	}
}

void
eduai_gateway_check_provider_options(const char *kind, const Jsonb *options)
{
	check("provider", provider_options, lengthof(provider_options), kind, options);
}

void
eduai_gateway_check_instance_options(const Jsonb *options)
{
	check("instance", instance_options, lengthof(instance_options), NULL, options);
}
