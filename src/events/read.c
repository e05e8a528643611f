/*
 * read.c: read_stream() and stream_version().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "events/validate.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

/* a page small enough to hold in memory, large enough to be worth a call */
#define MAX_PAGE 10000

PG_FUNCTION_INFO_V1(eduai_read_stream);
PG_FUNCTION_INFO_V1(eduai_stream_version);

/* The columns of eduai.event_record; a position exists once the feed orders. */
#define RECORD_COLUMNS                                                                          \
	"NULL::bigint, event_id, stream, version, event_type, user_id, session_id, data, metadata," \
	" occurred_at, recorded_at"

static EduaiPlan forward = {
	"SELECT " RECORD_COLUMNS " FROM eduai.event"
	" WHERE tenant_id = $1 AND stream = $2 AND version >= $3 ORDER BY version LIMIT $4",
	4,
	{TEXTOID, TEXTOID, INT8OID, INT8OID}};

static EduaiPlan backward = {
	"SELECT " RECORD_COLUMNS " FROM eduai.event"
	" WHERE tenant_id = $1 AND stream = $2 AND version <= $3 ORDER BY version DESC LIMIT $4",
	4,
	{TEXTOID, TEXTOID, INT8OID, INT8OID}};

static EduaiPlan last = {"SELECT version FROM eduai.event WHERE tenant_id = $1 AND stream = $2"
						 " ORDER BY version DESC LIMIT 1",
						 2,
						 {TEXTOID, TEXTOID}};

static void
require_arguments(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"stream", "from_version", "max_count", "backward"};

	/* no from_version: from the end that is read first */
	for (int i = 0; i < PG_NARGS(); i++)
		if (PG_ARGISNULL(i) && i != 1)
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("%s must not be null", names[i])));
	eduai_events_check_name("stream", text_to_cstring(PG_GETARG_TEXT_PP(0)), true);
}

/* read_stream(stream, from_version, max_count, backward) returns setof event_record */
Datum
eduai_read_stream(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EduaiPrivilege saved;
	bool is_backward;
	char *tenant;
	Datum args[4];
	uint64 n;

	require_arguments(fcinfo);
	is_backward = PG_GETARG_BOOL(3);
	if (PG_GETARG_INT32(2) < 1 || PG_GETARG_INT32(2) > MAX_PAGE)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid max_count %d", PG_GETARG_INT32(2)),
						errhint("Read 1 to %d events at a time.", MAX_PAGE)));
	tenant = eduai_core_tenant();
	InitMaterializedSRF(fcinfo, 0);
	args[0] = CStringGetTextDatum(tenant);
	args[1] = PG_GETARG_DATUM(0);
	args[2] = PG_ARGISNULL(1) ? Int64GetDatum(is_backward ? PG_INT64_MAX : 1) : PG_GETARG_DATUM(1);
	args[3] = Int64GetDatum(PG_GETARG_INT32(2));
	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_core_query(is_backward ? &backward : &forward, args, NULL);
	for (uint64 row = 0; row < n; row++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[row]);
	SPI_finish();
	eduai_core_leave(&saved);
	return (Datum) 0;
}

/* stream_version(stream) returns bigint */
Datum
eduai_stream_version(PG_FUNCTION_ARGS)
{
	EduaiPrivilege saved;
	char *tenant;
	Datum args[2];
	int64 version = 0;

	require_arguments(fcinfo);
	tenant = eduai_core_tenant();
	args[0] = CStringGetTextDatum(tenant);
	args[1] = PG_GETARG_DATUM(0);
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_query(&last, args, NULL) > 0)
		version = eduai_core_int64(0, 1, 0);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT64(version);
}
