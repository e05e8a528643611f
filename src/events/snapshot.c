/*
 * snapshot.c: save_snapshot() and load_snapshot().  See snapshot.h.
 *
 * Savers of a stream take turns by a lock, so that the one kept, read with the
 * latest snapshot, is the newest under every isolation level.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "events/read.h"
#include "events/snapshot.h"
#include "events/validate.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_save_snapshot);
PG_FUNCTION_INFO_V1(eduai_load_snapshot);

/* ---- the event at a version ---- */

typedef struct EventId
{
	pg_uuid_t id;
	bool found;
} EventId;

static bool
take_id(const EduaiRecord *record, void *arg)
{
	EventId *event = arg;

	event->id = record->event_id;
	event->found = true;
	return false;
}

/* The id of a stream's event at a version, if the snapshot shows it. */
static EventId
event_at(const char *tenant, const char *stream, int64 version, Snapshot snapshot)
{
	EventId event = {.found = false};

	if (version > 0)
		eduai_events_read_stream(tenant, stream, version, version, false, 1, snapshot, take_id,
								 &event);
	return event;
}

/* ---- keeping ---- */

bool
eduai_events_snapshot_get(const char *tenant, const char *stream, int schema_version,
						  Snapshot snapshot, EduaiSnapshot *found)
{
	static EduaiPlan read = {"SELECT version, event_id, state FROM eduai.event_snapshot"
							 " WHERE tenant_id = $1 AND stream = $2 AND schema_version = $3",
							 3,
							 {TEXTOID, TEXTOID, INT4OID}};
	Datum args[3] = {CStringGetTextDatum(tenant), CStringGetTextDatum(stream),
					 Int32GetDatum(schema_version)};
	pg_uuid_t kept;
	EventId actual;
	bool isnull;

	if (eduai_core_query(&read, args, NULL) == 0)
		return false;
	found->version = eduai_core_int64(0, 1, 0);
	kept = *DatumGetUUIDP(eduai_core_value(0, 2, &isnull));
	found->state = DatumGetJsonbPCopy(eduai_core_value(0, 3, &isnull));
	actual = event_at(tenant, stream, found->version, snapshot);
	return actual.found && memcmp(&kept, &actual.id, sizeof(pg_uuid_t)) == 0;
}

bool
eduai_events_snapshot_put(const char *tenant, const char *stream, int schema_version, int64 version,
						  const pg_uuid_t *event_id, const Jsonb *state, bool nowait)
{
	static EduaiPlan write = {
		"INSERT INTO eduai.event_snapshot AS s"
		" (tenant_id, stream, schema_version, version, event_id, state, saved_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7)"
		" ON CONFLICT (tenant_id, stream, schema_version) DO UPDATE"
		" SET version = excluded.version, event_id = excluded.event_id, state = excluded.state,"
		" saved_at = excluded.saved_at WHERE s.version <= excluded.version",
		7,
		{TEXTOID, TEXTOID, INT4OID, INT8OID, UUIDOID, JSONBOID, TIMESTAMPTZOID}};
	Datum args[7] = {CStringGetTextDatum(tenant),
					 CStringGetTextDatum(stream),
					 Int32GetDatum(schema_version),
					 Int64GetDatum(version),
					 UUIDPGetDatum(event_id),
					 JsonbPGetDatum(state),
					 TimestampTzGetDatum(eduai_core_now())};

	if (!eduai_core_lock(EDUAI_LOCK_SNAPSHOT, eduai_core_lock_key(tenant, stream), nowait))
		return false;
	eduai_core_run_latest(&write, args, NULL);
	return true;
}

/* ---- the functions ---- */

static char *
stream_arg(FunctionCallInfo fcinfo)
{
	static const char *const save_names[] = {"stream", "version", "state", "schema_version"};
	static const char *const load_names[] = {"stream", "schema_version"};
	char *stream = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));

	eduai_events_check_name("stream", stream, true);
	for (int i = 1; i < PG_NARGS(); i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("%s must not be null",
								   PG_NARGS() == 2 ? load_names[i] : save_names[i])));
	return stream;
}

static void
check_schema_version(int schema_version)
{
	if (schema_version < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid schema_version %d", schema_version),
						errhint("Schema versions are 1 and up.")));
}

static void
refuse_version(const char *tenant, const char *stream, int64 version)
{
	int64 actual = eduai_events_version(tenant, stream, GetActiveSnapshot());

	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("stream \"%s\" has no version %lld", stream, (long long) version),
					errdetail("It is at version %lld.", (long long) actual)));
}

/* save_snapshot(stream, version, state, schema_version) returns void */
Datum
eduai_save_snapshot(PG_FUNCTION_ARGS)
{
	char *stream = stream_arg(fcinfo);
	int64 version = PG_GETARG_INT64(1);
	int schema_version = PG_GETARG_INT32(3);
	char *tenant;
	EduaiPrivilege saved;
	EventId event;

	PreventCommandIfReadOnly("save_snapshot()");
	check_schema_version(schema_version);
	tenant = eduai_core_tenant();
	eduai_core_personal_check_stream(tenant, stream);
	eduai_core_enter(&saved);
	SPI_connect();
	event = event_at(tenant, stream, version, GetActiveSnapshot());
	if (!event.found)
		refuse_version(tenant, stream, version);
	eduai_events_snapshot_put(tenant, stream, schema_version, version, &event.id,
							  PG_GETARG_JSONB_P(2), false);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* load_snapshot(stream, schema_version) returns setof snapshot, at most one row */
Datum
eduai_load_snapshot(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *stream = stream_arg(fcinfo);
	int schema_version = PG_GETARG_INT32(1);
	char *tenant;
	EduaiPrivilege saved;
	EduaiSnapshot found;

	check_schema_version(schema_version);
	tenant = eduai_core_tenant();
	InitMaterializedSRF(fcinfo, 0);
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_events_snapshot_get(tenant, stream, schema_version, GetActiveSnapshot(), &found))
	{
		Datum values[2] = {Int64GetDatum(found.version), JsonbPGetDatum(found.state)};
		bool nulls[2] = {false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	eduai_events_note_read(tenant, stream, fcinfo);
	return (Datum) 0;
}
