/*
 * json_build.c: building jsonb.  See json.h.
 */
#include "postgres.h"

#include "core/json.h"
#include "datatype/timestamp.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

void
eduai_core_json_begin(EduaiJson *j)
{
	j->state = NULL;
	j->result = pushJsonbValue(&j->state, WJB_BEGIN_OBJECT, NULL);
}

Jsonb *
eduai_core_json_end(EduaiJson *j)
{
	j->result = pushJsonbValue(&j->state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(j->result);
}

static void
put_key(EduaiJson *j, const char *key)
{
	JsonbValue value;

	if (key == NULL)
		return;
	value.type = jbvString;
	value.val.string.val = pstrdup(key);
	value.val.string.len = strlen(key);
	pushJsonbValue(&j->state, WJB_KEY, &value);
}

void
eduai_core_json_put_value(EduaiJson *j, const char *key, const JsonbValue *value)
{
	put_key(j, key);
	j->result = pushJsonbValue(&j->state, key ? WJB_VALUE : WJB_ELEM, (JsonbValue *) value);
}

void
eduai_core_json_put_null(EduaiJson *j, const char *key)
{
	JsonbValue value = {.type = jbvNull};

	eduai_core_json_put_value(j, key, &value);
}

void
eduai_core_json_put_textn(EduaiJson *j, const char *key, const char *text, int length)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.val = pnstrdup(text, length);
	value.val.string.len = length;
	eduai_core_json_put_value(j, key, &value);
}

void
eduai_core_json_put_text(EduaiJson *j, const char *key, const char *text)
{
	if (text == NULL)
		eduai_core_json_put_null(j, key);
	else
		eduai_core_json_put_textn(j, key, text, strlen(text));
}

void
eduai_core_json_put_numeric(EduaiJson *j, const char *key, Numeric number)
{
	JsonbValue value;

	if (number == NULL)
	{
		eduai_core_json_put_null(j, key);
		return;
	}
	value.type = jbvNumeric;
	value.val.numeric = number;
	eduai_core_json_put_value(j, key, &value);
}

void
eduai_core_json_put_int(EduaiJson *j, const char *key, int64 number)
{
	eduai_core_json_put_numeric(j, key, int64_to_numeric(number));
}

void
eduai_core_json_put_double(EduaiJson *j, const char *key, double number)
{
	eduai_core_json_put_numeric(
		j, key, DatumGetNumeric(DirectFunctionCall1(float8_numeric, Float8GetDatum(number))));
}

void
eduai_core_json_put_bool(EduaiJson *j, const char *key, bool boolean)
{
	JsonbValue value = {.type = jbvBool};

	value.val.boolean = boolean;
	eduai_core_json_put_value(j, key, &value);
}

void
eduai_core_json_put_json(EduaiJson *j, const char *key, const Jsonb *json)
{
	JsonbValue value;

	if (json == NULL)
	{
		eduai_core_json_put_null(j, key);
		return;
	}
	if (JB_ROOT_IS_SCALAR(json))
	{
		(void) JsonbExtractScalar((JsonbContainer *) &json->root, &value);
		eduai_core_json_put_value(j, key, &value);
		return;
	}
	value.type = jbvBinary;
	value.val.binary.data = (JsonbContainer *) &json->root;
	value.val.binary.len = VARSIZE(json) - VARHDRSZ;
	eduai_core_json_put_value(j, key, &value);
}

void
eduai_core_json_put_time(EduaiJson *j, const char *key, int64 timestamptz)
{
	struct pg_tm tm;
	fsec_t fsec;
	char text[MAXDATELEN + 1];

	if (TIMESTAMP_NOT_FINITE(timestamptz) ||
		timestamp2tm(timestamptz, NULL, &tm, &fsec, NULL, NULL) != 0)
	{
		eduai_core_json_put_null(j, key);
		return;
	}
	snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year, tm.tm_mon,
			 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, fsec);
	eduai_core_json_put_text(j, key, text);
}

void
eduai_core_json_open_object(EduaiJson *j, const char *key)
{
	put_key(j, key);
	pushJsonbValue(&j->state, WJB_BEGIN_OBJECT, NULL);
}

void
eduai_core_json_close_object(EduaiJson *j)
{
	j->result = pushJsonbValue(&j->state, WJB_END_OBJECT, NULL);
}

void
eduai_core_json_open_array(EduaiJson *j, const char *key)
{
	put_key(j, key);
	pushJsonbValue(&j->state, WJB_BEGIN_ARRAY, NULL);
}

void
eduai_core_json_close_array(EduaiJson *j)
{
	j->result = pushJsonbValue(&j->state, WJB_END_ARRAY, NULL);
}

Jsonb *
eduai_core_json_with_text(const Jsonb *json, const char *key, const char *value)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	if (eduai_core_json_is_object(json))
	{
		JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &json->root);
		JsonbIteratorToken token;
		JsonbValue v;

		(void) JsonbIteratorNext(&it, &v, true); /* WJB_BEGIN_OBJECT */
		while ((token = JsonbIteratorNext(&it, &v, true)) == WJB_KEY)
		{
			pushJsonbValue(&j.state, WJB_KEY, &v);
			(void) JsonbIteratorNext(&it, &v, true);
			pushJsonbValue(&j.state, WJB_VALUE, &v);
		}
	}
	/* of equal keys the last one wins */
	eduai_core_json_put_text(&j, key, value);
	return eduai_core_json_end(&j);
}
