/*
 * json.c: reading jsonb.  The builder is in json_build.c.  See json.h.
 */
#include "postgres.h"

#include <math.h>

#include "core/json.h"
#include "core/json_write.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

bool
eduai_core_json_is_object(const Jsonb *json)
{
	return json != NULL && JB_ROOT_IS_OBJECT(json);
}

bool
eduai_core_json_get(const Jsonb *json, const char *key, JsonbValue *value)
{
	if (!eduai_core_json_is_object(json))
		return false;
	return getKeyJsonValueFromContainer((JsonbContainer *) &json->root, key, strlen(key), value) !=
		   NULL;
}

static char *
value_text(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

char *
eduai_core_json_text(const Jsonb *json, const char *key)
{
	JsonbValue value;

	return eduai_core_json_get(json, key, &value) ? value_text(&value) : NULL;
}

bool
eduai_core_json_double(const Jsonb *json, const char *key, double *result)
{
	JsonbValue value;

	if (!eduai_core_json_get(json, key, &value) || value.type != jbvNumeric)
		return false;
	*result = DatumGetFloat8(
		DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value.val.numeric)));
	return !isnan(*result) && !isinf(*result);
}

bool
eduai_core_json_int64(const Jsonb *json, const char *key, int64 *result)
{
	double value;

	/* 2^63 is exact as a double; the largest below it is what may be cast */
	if (!eduai_core_json_double(json, key, &value) || value >= 9223372036854775807.0 ||
		value <= -9223372036854775808.0)
		return false;
	*result = (int64) rint(value);
	return true;
}

bool
eduai_core_json_bool(const Jsonb *json, const char *key, bool *result)
{
	JsonbValue value;

	if (!eduai_core_json_get(json, key, &value) || value.type != jbvBool)
		return false;
	*result = value.val.boolean;
	return true;
}

Numeric
eduai_core_json_numeric(const Jsonb *json, const char *key)
{
	JsonbValue value;

	if (!eduai_core_json_get(json, key, &value) || value.type != jbvNumeric)
		return NULL;
	return value.val.numeric;
}

Jsonb *
eduai_core_json_child(const Jsonb *json, const char *key)
{
	JsonbValue value;

	if (!eduai_core_json_get(json, key, &value) || value.type != jbvBinary)
		return NULL;
	return JsonbValueToJsonb(&value);
}

static JsonbValue *
element(const Jsonb *array, int index)
{
	if (array == NULL || !JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array) || index < 0)
		return NULL;
	return getIthJsonbValueFromContainer((JsonbContainer *) &array->root, index);
}

Jsonb *
eduai_core_json_element(const Jsonb *array, int index)
{
	JsonbValue *value = element(array, index);

	return value != NULL && value->type == jbvBinary ? JsonbValueToJsonb(value) : NULL;
}

char *
eduai_core_json_element_text(const Jsonb *array, int index)
{
	JsonbValue *value = element(array, index);

	return value != NULL ? value_text(value) : NULL;
}

int
eduai_core_json_length(const Jsonb *array)
{
	if (array == NULL || !JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array))
		return 0;
	return JB_ROOT_COUNT(array);
}

char *
eduai_core_json_cstring(const Jsonb *json)
{
	StringInfoData text;

	initStringInfo(&text);
	eduai_core_json_write(&text, &json->root);
	return text.data;
}

Jsonb *
eduai_core_json_parse(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/*
 * jsonb_in() takes no lock, buffer or other resource, so catching its error
 * needs no subtransaction: its memory goes with the context.
 */
static Jsonb *
parse_guarded(const char *text, char **why)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb *volatile json = NULL;

	PG_TRY();
	{
		json = eduai_core_json_parse(text);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		*why = pstrdup(error->message);
		FreeErrorData(error);
	}
	PG_END_TRY();
	return json;
}

Jsonb *
eduai_core_json_parse_bytes(const char *bytes, size_t length, char **why)
{
	char *text;

	if (length >= MaxAllocSize)
	{
		*why = pstrdup("too long");
		return NULL;
	}
	/* a NUL byte is no valid character here, so text below ends where it should */
	if (!pg_verify_mbstr(PG_UTF8, bytes, (int) length, true))
	{
		*why = pstrdup("invalid UTF-8");
		return NULL;
	}
	text = pnstrdup(bytes, length);
	if (GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII)
	{
		/* ASCII needs no conversion, and that is the only one without a catalog */
		for (size_t i = 0; i < length; i++)
			if ((unsigned char) text[i] >= 0x80)
			{
				*why = pstrdup("characters that the server's encoding may not have");
				return NULL;
			}
	}
	return parse_guarded(text, why);
}
