/*
 * statistics.c: skill_statistics() and exercise_statistics(), from the rows
 * that the learner model keeps: what a question costs does not depend on how
 * many answers there were.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "funcapi.h"
#include "projections/model_reader.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/tuplestore.h"

#define MAX_COUNT 10000

/* The most columns of a result. */
#define MAX_COLUMNS 9

PG_FUNCTION_INFO_V1(eduai_skill_statistics);
PG_FUNCTION_INFO_V1(eduai_exercise_statistics);

/* Of a row of model_skill or model_item. */
#define SUCCESS_RATE "correct::float8 / answers"
#define MEAN_TIME_S  "time_us::float8 / nullif(timed, 0) / 1000000"

static EduaiPlan read_skills = {"SELECT skill, learners, answers, " SUCCESS_RATE
								", NULL::float8, " MEAN_TIME_S ", last_at FROM eduai.model_skill"
								" WHERE tenant_id = $1 AND generation = $2 ORDER BY skill",
								2,
								{TEXTOID, INT4OID}};

#define READ_ITEMS(which)                                                                       \
	"SELECT i.item, i.skill, e.level, i.answers, i.learners, " SUCCESS_RATE                     \
	", NULL::float8, " MEAN_TIME_S                                                              \
	", last_at FROM (SELECT * FROM eduai.model_item m WHERE m.tenant_id = $1"                   \
	" AND m.generation = $2" which " ORDER BY m.skill, m.item LIMIT $3) i"                      \
	" LEFT JOIN eduai.exercise e ON e.tenant_id = $1 AND e.skill = i.skill AND e.item = i.item" \
	" ORDER BY i.skill, i.item"

static EduaiPlan read_items = {READ_ITEMS(""), 3, {TEXTOID, INT4OID, INT4OID}};
static EduaiPlan read_items_of = {
	READ_ITEMS(" AND m.skill = $4"), 4, {TEXTOID, INT4OID, INT4OID, TEXTOID}};

/* Gives the rows that were read, with the difficulty put in. */
static void
give(ReturnSetInfo *result, EduaiModelReader *reader, uint64 n, bool items)
{
	int columns = items ? 9 : 7;
	int difficulty = items ? 6 : 4;
	SPITupleTable *read = SPI_tuptable;

	for (uint64 row = 0; row < n; row++)
	{
		Datum values[MAX_COLUMNS];
		bool nulls[MAX_COLUMNS];
		char *skill = SPI_getvalue(read->vals[row], read->tupdesc, items ? 2 : 1);
		char *item = items ? SPI_getvalue(read->vals[row], read->tupdesc, 1) : NULL;

		for (int i = 0; i < columns; i++)
			values[i] = SPI_getbinval(read->vals[row], read->tupdesc, i + 1, &nulls[i]);
		nulls[difficulty] = false;
		values[difficulty] =
			Float8GetDatum(eduai_projections_reader_difficulty(reader, skill, item));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* Reads the rows by a plan whose first arguments are tenant and generation. */
static void
run(FunctionCallInfo fcinfo, EduaiPlan *plan, Datum *args, bool items)
{
	EduaiModelReader reader;
	EduaiPrivilege saved;
	char *tenant = eduai_core_tenant();
	uint64 n;

	InitMaterializedSRF(fcinfo, 0);
	args[0] = CStringGetTextDatum(tenant);
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_projections_reader_open(&reader, tenant);
	args[1] = Int32GetDatum(reader.generation);
	n = eduai_core_query(plan, args, NULL);
	give((ReturnSetInfo *) fcinfo->resultinfo, &reader, n, items);
	eduai_projections_reader_close(&reader);
	SPI_finish();
	eduai_core_leave(&saved);
}

/* skill_statistics() returns setof skill_statistic */
Datum
eduai_skill_statistics(PG_FUNCTION_ARGS)
{
	Datum args[2];

	run(fcinfo, &read_skills, args, false);
	return (Datum) 0;
}

/* exercise_statistics(skill, max_count) returns setof exercise_statistic */
Datum
eduai_exercise_statistics(PG_FUNCTION_ARGS)
{
	Datum args[4];

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("max_count must not be null")));
	if (PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) > MAX_COUNT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid max_count %d", PG_GETARG_INT32(1)),
						errhint("Ask for 1 to %d exercises.", MAX_COUNT)));
	args[2] = PG_GETARG_DATUM(1);
	if (PG_ARGISNULL(0))
	{
		run(fcinfo, &read_items, args, true);
		return (Datum) 0;
	}
	eduai_projections_check_label("skill", text_to_cstring(PG_GETARG_TEXT_PP(0)));
	args[3] = PG_GETARG_DATUM(0);
	run(fcinfo, &read_items_of, args, true);
	return (Datum) 0;
}
