/*
 * plan.c: statements prepared once per backend.  See plan.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

/*
 * One generic plan for each statement, and never a sequential scan where an
 * index serves: a plan made while a table was small or unanalysed would go on
 * scanning it as it grows, until the session sees the next ANALYZE, and a load
 * in one session would cost the square of its rows.
 */
static void
prepare(EduaiPlan *plan)
{
	SPIPlanPtr prepared;

	if (plan->plan != NULL)
		return;
	prepared = SPI_prepare_cursor(plan->sql, plan->nargs, plan->types, CURSOR_OPT_GENERIC_PLAN);
	if (prepared == NULL)
		elog(ERROR, "could not prepare a statement: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(prepared);
	plan->plan = prepared;
}

static uint64
execute(EduaiPlan *plan, Datum *args, const char *nulls, Snapshot snapshot, bool read_only)
{
	bool seqscan = enable_seqscan;
	bool jit = jit_enabled;
	int code = 0;

	eduai_core_enter_sql();
	prepare(plan);
	PG_TRY();
	{
		/* the settings' variables themselves: SET would cost more than many a statement */
		enable_seqscan = false;
		/* a scan that is forbidden but the only way looks dear enough to compile it */
		jit_enabled = false;
		code = SPI_execute_snapshot(plan->plan, args, nulls, snapshot, InvalidSnapshot, read_only,
									true, 0);
	}
	PG_FINALLY();
	{
		enable_seqscan = seqscan;
		jit_enabled = jit;
	}
	PG_END_TRY();
	if (code < 0)
		elog(ERROR, "could not run a statement: %s", SPI_result_code_string(code));
	return SPI_processed;
}

uint64
eduai_core_run(EduaiPlan *plan, Datum *args, const char *nulls)
{
	return execute(plan, args, nulls, InvalidSnapshot, false);
}

uint64
eduai_core_query(EduaiPlan *plan, Datum *args, const char *nulls)
{
	return execute(plan, args, nulls, InvalidSnapshot, true);
}

uint64
eduai_core_run_latest(EduaiPlan *plan, Datum *args, const char *nulls)
{
	Snapshot snapshot;
	uint64 n;

	if (!ActiveSnapshotSet() && !IsolationUsesXactSnapshot())
		return execute(plan, args, nulls, InvalidSnapshot, false);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	n = execute(plan, args, nulls, snapshot, false);
	UnregisterSnapshot(snapshot);
	return n;
}

Datum
eduai_core_value(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

char *
eduai_core_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

int64
eduai_core_int64(uint64 row, int column, int64 if_null)
{
	bool isnull;
	Datum value = eduai_core_value(row, column, &isnull);

	if (isnull)
		return if_null;
	switch (SPI_gettypeid(SPI_tuptable->tupdesc, column))
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

Datum
eduai_core_datum_array(const Datum *values, const bool *nulls, int n, Oid element)
{
	int16 typlen;
	bool typbyval;
	char typalign;
	int dims[1] = {n};
	int lbs[1] = {1};

	if (n == 0)
		return PointerGetDatum(construct_empty_array(element));
	get_typlenbyvalalign(element, &typlen, &typbyval, &typalign);
	return PointerGetDatum(construct_md_array((Datum *) values, (bool *) nulls, 1, dims, lbs,
											  element, typlen, typbyval, typalign));
}

Datum
eduai_core_int8_array(const int64 *values, const bool *nulls, int n)
{
	Datum *datums = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(values[i]);
	return eduai_core_datum_array(datums, nulls, n, INT8OID);
}

Datum
eduai_core_int4_array(const int32 *values, const bool *nulls, int n)
{
	Datum *datums = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		datums[i] = Int32GetDatum(values[i]);
	return eduai_core_datum_array(datums, nulls, n, INT4OID);
}

Datum
eduai_core_text_array(char *const *values, int n)
{
	Datum *datums = palloc(sizeof(Datum) * Max(n, 1));
	bool *nulls = palloc(sizeof(bool) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		nulls[i] = values[i] == NULL;
		datums[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(values[i]);
	}
	return eduai_core_datum_array(datums, nulls, n, TEXTOID);
}
