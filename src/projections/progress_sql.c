/*
 * progress_sql.c: user_progress() and progress_of().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "events/validate.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "projections/cohort.h"
#include "projections/progress.h"
#include "projections/progress_rows.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(eduai_user_progress);
PG_FUNCTION_INFO_V1(eduai_progress_of);

static EduaiPlan read_rows = {
	"SELECT u.user_id, p.state, p.version, p.last_at"
	" FROM unnest($2) WITH ORDINALITY AS u (user_id, place)"
	" LEFT JOIN LATERAL " EDUAI_PROGRESS_ROW("u.user_id") " AS p ON true ORDER BY u.place",
	2,
	{TEXTOID, TEXTARRAYOID}};

static EduaiPlan read_row = {"SELECT $2, p.state, p.version, p.last_at"
							 " FROM " EDUAI_PROGRESS_ROW("$2") " AS p",
							 2,
							 {TEXTOID, TEXTOID}};

/* The progress in a row of SPI_tuptable, whose state may be NULL: nobody yet. */
static EduaiProgress *
progress_in(uint64 row)
{
	bool isnull;
	Datum state = eduai_core_value(row, 2, &isnull);
	Datum last_activity;

	if (isnull)
		return eduai_projections_progress_read(NULL, 0, DT_NOBEGIN);
	last_activity = eduai_core_value(row, 4, &isnull);
	return eduai_projections_progress_read(DatumGetJsonbP(state), eduai_core_int64(row, 3, 0),
										   DatumGetTimestampTz(last_activity));
}

/* user_progress(user_id) returns jsonb */
Datum
eduai_user_progress(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	char *user_id = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	EduaiPrivilege saved;
	EduaiProgress *progress;
	Datum args[2];
	Jsonb *shown;

	eduai_events_check_name("user id", user_id, true);
	args[0] = CStringGetTextDatum(eduai_core_tenant());
	args[1] = PG_GETARG_DATUM(0);
	eduai_core_enter(&saved);
	SPI_connect();
	progress = eduai_core_query(&read_row, args, NULL) > 0
				   ? progress_in(0)
				   : eduai_projections_progress_read(NULL, 0, DT_NOBEGIN);
	MemoryContextSwitchTo(caller);
	shown = eduai_projections_progress_show(progress, user_id);
	SPI_finish();
	eduai_core_leave(&saved);
	eduai_core_personal_note(TextDatumGetCString(args[0]), user_id, "progress", 1, GetUserId());
	PG_RETURN_JSONB_P(shown);
}

/* progress_of(user_ids) returns setof learner_progress */
Datum
eduai_progress_of(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EduaiPrivilege saved;
	Datum args[2];
	uint64 n;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("user_ids must not be null")));
	eduai_projections_check_user_ids(PG_GETARG_ARRAYTYPE_P(0));
	InitMaterializedSRF(fcinfo, 0);
	args[0] = CStringGetTextDatum(eduai_core_tenant());
	args[1] = PG_GETARG_DATUM(0);
	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_core_query(&read_rows, args, NULL);
	for (uint64 row = 0; row < n; row++)
	{
		bool nulls[2] = {false, false};
		Datum values[2];

		values[0] = eduai_core_value(row, 1, &nulls[0]);
		values[1] = JsonbPGetDatum(
			eduai_projections_progress_show(progress_in(row), eduai_core_text(row, 1)));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		eduai_core_personal_note(TextDatumGetCString(args[0]), eduai_core_text(row, 1), "progress",
								 1, saved.caller);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	return (Datum) 0;
}
