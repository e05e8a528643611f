/*
 * append_sql.c: append_event(), append_batch() and publish_event().
 *
 * They turn SQL arguments into an EduaiAppendBatch; append_events(), which
 * reads JSON, is in append_json.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/tenant.h"
#include "events/append.h"
#include "events/validate.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(eduai_append_event);
PG_FUNCTION_INFO_V1(eduai_append_batch);
PG_FUNCTION_INFO_V1(eduai_publish_event);

static char *
text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static Jsonb *
json_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_JSONB_P(n);
}

static Datum
appended_row(FunctionCallInfo fcinfo, const EduaiEvent *event)
{
	Datum values[3] = {UUIDPGetDatum(&event->event_id), CStringGetTextDatum(event->stream),
					   Int64GetDatum(event->version)};
	bool nulls[3] = {false, false, false};
	/* the type from the call's expression: looking the function up costs more than the row */
	Oid type = get_fn_expr_rettype(fcinfo->flinfo);
	TupleDesc desc;
	Datum row;

	if (!OidIsValid(type))
		type = get_func_rettype(fcinfo->flinfo->fn_oid);
	desc = lookup_rowtype_tupdesc(type, -1);
	row = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	ReleaseTupleDesc(desc);
	return row;
}

/*
 * append_event(stream, event_type, data, user_id, session_id, metadata,
 *              expected_version, event_id, occurred_at) returns appended
 */
Datum
eduai_append_event(PG_FUNCTION_ARGS)
{
	EduaiEvent event = {
		.stream = text_arg(fcinfo, 0),
		.event_type = text_arg(fcinfo, 1),
		.data = json_arg(fcinfo, 2),
		.user_id = text_arg(fcinfo, 3),
		.session_id = text_arg(fcinfo, 4),
		.metadata = json_arg(fcinfo, 5),
		.own_id = PG_ARGISNULL(7),
		.occurred_at = EDUAI_EVENTS_NOW,
	};
	EduaiAppendBatch batch = {eduai_core_tenant(), &event, 1, false};
	int64 expected = PG_ARGISNULL(6) ? 0 : PG_GETARG_INT64(6);

	if (!PG_ARGISNULL(7))
		event.event_id = *PG_GETARG_UUID_P(7);
	if (!PG_ARGISNULL(8))
		event.occurred_at = eduai_events_check_time(PG_GETARG_TIMESTAMPTZ(8));
	eduai_events_append(&batch, PG_ARGISNULL(6) ? NULL : &expected, NULL);
	return appended_row(fcinfo, &event);
}

/* publish_event(event_type, user_id, session_id, data) returns uuid */
Datum
eduai_publish_event(PG_FUNCTION_ARGS)
{
	EduaiEvent event = {
		.event_type = text_arg(fcinfo, 0),
		.user_id = text_arg(fcinfo, 1),
		.session_id = text_arg(fcinfo, 2),
		.data = json_arg(fcinfo, 3),
		.own_id = true,
		.occurred_at = EDUAI_EVENTS_NOW,
	};
	EduaiAppendBatch batch = {eduai_core_tenant(), &event, 1, false};
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	eduai_events_check_name("user id", event.user_id, true);
	event.stream = psprintf("learner-%s", event.user_id);
	eduai_events_append(&batch, NULL, NULL);
	*id = event.event_id;
	PG_RETURN_UUID_P(id);
}

/* ---- append_batch: one array per column ---- */

typedef struct Column
{
	Datum *values; /* NULL when the argument is */
	bool *nulls;
} Column;

typedef struct ColumnType
{
	const char *name;
	Oid type;
	bool required;
} ColumnType;

static const ColumnType batch_columns[] = {
	{"streams", TEXTOID, true},
	{"event_types", TEXTOID, true},
	{"data", JSONBOID, true},
	{"user_ids", TEXTOID, false},
	{"session_ids", TEXTOID, false},
	{"event_ids", UUIDOID, false},
	{"occurred_at", TIMESTAMPTZOID, false},
};

enum
{
	BATCH_STREAM,
	BATCH_TYPE,
	BATCH_DATA,
	BATCH_USER,
	BATCH_SESSION,
	BATCH_ID,
	BATCH_TIME,
	BATCH_COLUMNS,
};

/* Reads argument n; *length is that of the arrays before it, or -1. */
static Column
column_arg(FunctionCallInfo fcinfo, int n, int *length)
{
	const ColumnType *type = &batch_columns[n];
	Column column = {NULL, NULL};
	ArrayType *array;
	int16 typlen;
	bool typbyval;
	char typalign;
	int got;

	if (PG_ARGISNULL(n))
	{
		if (type->required)
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("%s must not be null", type->name)));
		return column;
	}
	array = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("%s has %d dimensions", type->name, ARR_NDIM(array)),
						errhint("Give an array of one dimension.")));
	get_typlenbyvalalign(type->type, &typlen, &typbyval, &typalign);
	deconstruct_array(array, type->type, typlen, typbyval, typalign, &column.values, &column.nulls,
					  &got);
	if (*length >= 0 && got != *length)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("%s has %d elements, streams has %d", type->name, got, *length),
						errhint("Give arrays of equal length; optional ones may be NULL.")));
	*length = got;
	return column;
}

static Datum *
cell(const Column *columns, int column, int row)
{
	if (columns[column].values == NULL || columns[column].nulls[row])
		return NULL;
	return &columns[column].values[row];
}

static char *
text_cell(const Column *columns, int column, int row)
{
	Datum *value = cell(columns, column, row);

	return value ? TextDatumGetCString(*value) : NULL;
}

static void
read_row(const Column *columns, int row, EduaiEvent *event)
{
	Datum *data = cell(columns, BATCH_DATA, row);
	Datum *id = cell(columns, BATCH_ID, row);
	Datum *time = cell(columns, BATCH_TIME, row);

	event->stream = text_cell(columns, BATCH_STREAM, row);
	event->event_type = text_cell(columns, BATCH_TYPE, row);
	event->data = data ? DatumGetJsonbP(*data) : NULL;
	event->user_id = text_cell(columns, BATCH_USER, row);
	event->session_id = text_cell(columns, BATCH_SESSION, row);
	event->own_id = id == NULL;
	if (id)
		event->event_id = *DatumGetUUIDP(*id);
	event->occurred_at =
		time ? eduai_events_check_time(DatumGetTimestampTz(*time)) : EDUAI_EVENTS_NOW;
}

/*
 * append_batch(streams, event_types, data, user_ids, session_ids, event_ids,
 *              occurred_at) returns bigint
 */
Datum
eduai_append_batch(PG_FUNCTION_ARGS)
{
	EduaiAppendBatch batch = {.tenant = eduai_core_tenant()};
	EduaiEventsPlace place;
	Column columns[BATCH_COLUMNS];
	int length = -1;
	int64 inserted;

	for (int i = 0; i < BATCH_COLUMNS; i++)
		columns[i] = column_arg(fcinfo, i, &length);
	batch.nevents = length;
	batch.events = palloc0(sizeof(EduaiEvent) * length);
	eduai_events_place_push(&place, length);
	for (int i = 0; i < length; i++)
	{
		place.number = i + 1;
		read_row(columns, i, &batch.events[i]);
	}
	eduai_events_place_pop(&place);
	eduai_events_append(&batch, NULL, &inserted);
	PG_RETURN_INT64(inserted);
}
