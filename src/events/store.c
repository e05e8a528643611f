/*
 * store.c: how the log touches its table.  See store.h.
 *
 * All statements run with the latest snapshot: the stream's lock serialises
 * its writers, and what it waited for may have been committed after a
 * REPEATABLE READ transaction's snapshot.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "events/store.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* Columns of a row that differ from event to event, in the statements' order. */
typedef enum EventColumn
{
	COLUMN_STREAM,
	COLUMN_VERSION,
	COLUMN_EVENT_ID,
	COLUMN_EVENT_TYPE,
	COLUMN_USER_ID,
	COLUMN_SESSION_ID,
	COLUMN_DATA,
	COLUMN_METADATA,
	COLUMN_OCCURRED_AT,
	COLUMN_RECORDED_AT,
	COLUMNS,
} EventColumn;

static const Oid column_types[COLUMNS] = {
	TEXTOID, INT8OID,  UUIDOID,  TEXTOID,        TEXTOID,
	TEXTOID, JSONBOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
};

static EduaiPlan probe_one = {"SELECT version FROM eduai.event WHERE tenant_id = $1 AND stream = $2"
							  " ORDER BY version DESC LIMIT 1",
							  2,
							  {TEXTOID, TEXTOID}};

static EduaiPlan probe_many = {
	"SELECT u.place, (SELECT e.version FROM eduai.event e"
	"  WHERE e.tenant_id = $1 AND e.stream = u.stream ORDER BY e.version DESC LIMIT 1)"
	" FROM unnest($2) WITH ORDINALITY AS u (stream, place)",
	2,
	{TEXTOID, TEXTARRAYOID}};

static EduaiPlan insert_one = {
	"INSERT INTO eduai.event (tenant_id, stream, version, event_id, event_type, user_id,"
	" session_id, data, metadata, occurred_at, recorded_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
	1 + COLUMNS,
	{TEXTOID, TEXTOID, INT8OID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID,
	 TIMESTAMPTZOID, TIMESTAMPTZOID}};

static EduaiPlan insert_many = {
	"INSERT INTO eduai.event (tenant_id, stream, version, event_id, event_type, user_id,"
	" session_id, data, metadata, occurred_at, recorded_at)"
	" SELECT $1, u.* FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS u",
	1 + COLUMNS,
	{TEXTOID, TEXTARRAYOID, INT8ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	 JSONBARRAYOID, JSONBARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID}};

void
eduai_events_last_versions(const char *tenant, char *const *streams, int n, int64 *versions)
{
	Datum args[2] = {CStringGetTextDatum(tenant)};
	uint64 found;

	if (n == 1)
	{
		args[1] = CStringGetTextDatum(streams[0]);
		found = eduai_core_run_latest(&probe_one, args, NULL);
		versions[0] = found > 0 ? eduai_core_int64(0, 1, 0) : 0;
		return;
	}
	args[1] = eduai_core_text_array(streams, n);
	found = eduai_core_run_latest(&probe_many, args, NULL);
	for (uint64 row = 0; row < found; row++)
		versions[eduai_core_int64(row, 1, 0) - 1] = eduai_core_int64(row, 2, 0);
}

static Datum
text_datum(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

static Datum
column_value(const EduaiEvent *event, EventColumn column, bool *isnull)
{
	*isnull = false;
	switch (column)
	{
		case COLUMN_STREAM:
			return text_datum(event->stream, isnull);
		case COLUMN_VERSION:
			return Int64GetDatum(event->version);
		case COLUMN_EVENT_ID:
			return UUIDPGetDatum(&event->event_id);
		case COLUMN_EVENT_TYPE:
			return text_datum(event->event_type, isnull);
		case COLUMN_USER_ID:
			return text_datum(event->user_id, isnull);
		case COLUMN_SESSION_ID:
			return text_datum(event->session_id, isnull);
		case COLUMN_DATA:
			return JsonbPGetDatum(event->data);
		case COLUMN_METADATA:
			return JsonbPGetDatum(event->metadata);
		case COLUMN_OCCURRED_AT:
			return TimestampTzGetDatum(event->occurred_at);
		case COLUMN_RECORDED_AT:
			return TimestampTzGetDatum(event->recorded_at);
		case COLUMNS:
			break;
	}
	pg_unreachable();
}

/* One column of all events, as an array for unnest(). */
static Datum
column_array(const EduaiAppendBatch *batch, EventColumn column)
{
	Datum *values = palloc(sizeof(Datum) * batch->nevents);
	bool *nulls = palloc(sizeof(bool) * batch->nevents);

	for (int i = 0; i < batch->nevents; i++)
		values[i] = column_value(&batch->events[i], column, &nulls[i]);
	return eduai_core_datum_array(values, nulls, batch->nevents, column_types[column]);
}

void
eduai_events_insert(const EduaiAppendBatch *batch)
{
	Datum args[1 + COLUMNS] = {CStringGetTextDatum(batch->tenant)};
	char nulls[1 + COLUMNS] = {' '};
	bool one = batch->nevents == 1;

	for (EventColumn column = 0; column < COLUMNS; column++)
	{
		bool isnull = false;

		args[1 + column] =
			one ? column_value(&batch->events[0], column, &isnull) : column_array(batch, column);
		nulls[1 + column] = isnull ? 'n' : ' ';
	}
	eduai_core_run_latest(one ? &insert_one : &insert_many, args, nulls);
}
