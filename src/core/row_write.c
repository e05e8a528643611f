/*
 * row_write.c: see row_write.h.
 *
 * What depends on settings in more than one way (DateStyle, extra_float_digits,
 * unusual intervals) is left to the type's output function, which is called without
 * being looked up.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/json_write.h"
#include "core/row_write.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

static void
put_bytes(StringInfo message, const char *bytes, int length)
{
	enlargeStringInfo(message, length + 4);
	pq_writeint32(message, (uint32) length);
	memcpy(message->data + message->len, bytes, length);
	message->len += length;
}

static void
put_output(StringInfo message, PGFunction output, Datum value)
{
	char *text = DatumGetCString(DirectFunctionCall1(output, value));

	put_bytes(message, text, (int) strlen(text));
	pfree(text);
}

static void
put_bool(StringInfo message, Datum value)
{
	put_bytes(message, DatumGetBool(value) ? "t" : "f", 1);
}

static void
put_int4(StringInfo message, Datum value)
{
	char text[12];
	int length = pg_ltoa(DatumGetInt32(value), text);

	put_bytes(message, text, length);
}

static void
put_int8(StringInfo message, Datum value)
{
	char text[MAXINT8LEN + 1];
	int length = pg_lltoa(DatumGetInt64(value), text);

	put_bytes(message, text, length);
}

static void
put_text(StringInfo message, Datum value)
{
	text *t = DatumGetTextPP(value);

	put_bytes(message, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
	if ((Pointer) t != DatumGetPointer(value))
		pfree(t);
}

static void
put_jsonb(StringInfo message, Datum value)
{
	Jsonb *json = DatumGetJsonbP(value);
	int at = message->len;
	uint32 length;

	pq_sendint32(message, 0); /* its place: the length is not known yet */
	eduai_core_json_write(message, &json->root);
	length = pg_hton32((uint32) (message->len - at - 4));
	memcpy(message->data + at, &length, 4);
	if ((Pointer) json != DatumGetPointer(value))
		pfree(json);
}

/* ".25", nothing of 0: what follows the seconds. */
static char *
put_fraction(char *at, uint32 us)
{
	if (us == 0)
		return at;
	*at++ = '.';
	at = pg_ultostr_zeropad(at, us, 6);
	while (at[-1] == '0')
		at--;
	return at;
}

static void
put_interval(StringInfo message, Datum value)
{
	const Interval *interval = DatumGetIntervalP(value);
	char text[MAXINT8LEN + 32];
	char *at = text;
	uint64 seconds;

	if (IntervalStyle != INTSTYLE_POSTGRES || interval->month != 0 || interval->day != 0 ||
		interval->time < 0 || interval->time >= INT64CONST(100) * USECS_PER_HOUR)
	{
		put_output(message, interval_out, value);
		return;
	}
	seconds = (uint64) interval->time / USECS_PER_SEC;
	at = pg_ultostr_zeropad(at, (uint32) (seconds / SECS_PER_HOUR), 2);
	*at++ = ':';
	at = pg_ultostr_zeropad(at, (uint32) (seconds / SECS_PER_MINUTE % MINS_PER_HOUR), 2);
	*at++ = ':';
	at = pg_ultostr_zeropad(at, (uint32) (seconds % SECS_PER_MINUTE), 2);
	at = put_fraction(at, (uint32) ((uint64) interval->time % USECS_PER_SEC));
	put_bytes(message, text, (int) (at - text));
}

static void
put_timestamptz(StringInfo message, Datum value)
{
	put_output(message, timestamptz_out, value);
}

static void
put_float8(StringInfo message, Datum value)
{
	put_output(message, float8out, value);
}

static void
put_uuid(StringInfo message, Datum value)
{
	put_output(message, uuid_out, value);
}

static void
put_void(StringInfo message, Datum value)
{
	put_bytes(message, "", 0);
}

EduaiColumnWriter
eduai_core_column_writer(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return put_bool;
		case INT4OID:
			return put_int4;
		case INT8OID:
			return put_int8;
		case TEXTOID:
			return put_text;
		case JSONBOID:
			return put_jsonb;
		case INTERVALOID:
			return put_interval;
		case TIMESTAMPTZOID:
			return put_timestamptz;
		case FLOAT8OID:
			return put_float8;
		case UUIDOID:
			return put_uuid;
		case VOIDOID:
			return put_void;
		default:
			return NULL;
	}
}
