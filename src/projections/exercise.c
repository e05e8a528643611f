/*
 * exercise.c: the catalogue of exercises, register_exercises().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "projections/model_reader.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* As many as one call registers. */
#define MAX_EXERCISES 100000

PG_FUNCTION_INFO_V1(eduai_register_exercises);

/* Checks the array's elements, each "kind"; with required none may be null.  Returns their number. */
static int
check_labels(ArrayType *array, const char *name, const char *kind, bool required)
{
	Datum *values;
	bool *nulls;
	int n;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("%s has %d dimensions", name, ARR_NDIM(array)),
						errhint("Give an array of one dimension.")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	if (n > MAX_EXERCISES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s has %d elements", name, n),
				 errhint("Register at most %d exercises at a time.", MAX_EXERCISES)));
	for (int i = 0; i < n; i++)
		if (required || !nulls[i])
			eduai_projections_check_label(kind, nulls[i] ? NULL : TextDatumGetCString(values[i]));
	return n;
}

static void
check_length(const char *name, int n, int items)
{
	if (n != items)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("items has %d elements and %s has %d", items, name, n),
						errhint("Give as many of each; an element of levels may be null.")));
}

static void
check_arguments(FunctionCallInfo fcinfo)
{
	int n;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(3))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s must not be null", PG_ARGISNULL(0)   ? "items"
													  : PG_ARGISNULL(1) ? "skills"
																		: "active")));
	n = check_labels(PG_GETARG_ARRAYTYPE_P(0), "items", "item", true);
	check_length("skills", check_labels(PG_GETARG_ARRAYTYPE_P(1), "skills", "skill", true), n);
	if (!PG_ARGISNULL(2))
		check_length("levels", check_labels(PG_GETARG_ARRAYTYPE_P(2), "levels", "level", false), n);
}

/*
 * register_exercises(items, skills, levels, active) returns bigint
 *
 * In the order of the primary key, so that calls do not deadlock with each
 * other; the last of several mentions of an exercise counts.
 */
Datum
eduai_register_exercises(PG_FUNCTION_ARGS)
{
	static EduaiPlan put = {
		"INSERT INTO eduai.exercise AS e (tenant_id, skill, item, level, active)"
		" SELECT DISTINCT ON (g.skill COLLATE \"C\", g.item COLLATE \"C\")"
		"  $1, g.skill, g.item, g.level, $5"
		" FROM unnest($2, $3, $4) WITH ORDINALITY AS g (item, skill, level, place)"
		" WHERE g.item IS NOT NULL"
		" ORDER BY g.skill COLLATE \"C\", g.item COLLATE \"C\", g.place DESC"
		" ON CONFLICT (tenant_id, skill, item) DO UPDATE"
		" SET level = CASE WHEN $6 THEN excluded.level ELSE e.level END, active = excluded.active"
		" WHERE e.active <> excluded.active OR $6 AND e.level IS DISTINCT FROM excluded.level",
		6,
		{TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID, BOOLOID}};
	EduaiPrivilege saved;
	Datum args[6];
	int64 n;

	check_arguments(fcinfo);
	args[0] = CStringGetTextDatum(eduai_core_tenant());
	args[1] = PG_GETARG_DATUM(0);
	args[2] = PG_GETARG_DATUM(1);
	args[3] =
		PG_ARGISNULL(2) ? PointerGetDatum(construct_empty_array(TEXTOID)) : PG_GETARG_DATUM(2);
	args[4] = PG_GETARG_DATUM(3);
	args[5] = BoolGetDatum(!PG_ARGISNULL(2));
	eduai_core_enter(&saved);
	SPI_connect();
	n = (int64) eduai_core_run(&put, args, NULL);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT64(n);
}
