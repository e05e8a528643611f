/*
 * cohort.c: set_cohort().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/lock.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "events/validate.h"
#include "fmgr.h"
#include "projections/cohort.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_set_cohort);

void
eduai_projections_check_user_ids(ArrayType *user_ids)
{
	Datum *values;
	bool *nulls;
	int n;

	if (ARR_NDIM(user_ids) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("user_ids has %d dimensions", ARR_NDIM(user_ids)),
						errhint("Give an array of one dimension.")));
	deconstruct_array(user_ids, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	if (n > EDUAI_PROJECTIONS_MAX_LEARNERS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("user_ids has %d elements", n),
				 errhint("Give at most %d learners at a time.", EDUAI_PROJECTIONS_MAX_LEARNERS)));
	for (int i = 0; i < n; i++)
		eduai_events_check_name("user id", nulls[i] ? NULL : TextDatumGetCString(values[i]), true);
}

char *
eduai_projections_cohort_arg(FunctionCallInfo fcinfo)
{
	char *cohort = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));

	eduai_events_check_name("cohort", cohort, true);
	return cohort;
}

static void
check_not_erased(const char *tenant, ArrayType *user_ids)
{
	Datum *values;
	bool *nulls;
	int n;

	deconstruct_array(user_ids, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
		eduai_core_personal_check(tenant, TextDatumGetCString(values[i]));
}

/*
 * set_cohort(cohort, user_ids) returns void
 *
 * The lock makes two calls for one cohort take turns, so that its members are
 * those of the last; the statements see what the one before committed.
 */
Datum
eduai_set_cohort(PG_FUNCTION_ARGS)
{
	static EduaiPlan leave = {"DELETE FROM eduai.cohort_member WHERE tenant_id = $1 AND cohort = $2"
							  " AND user_id <> ALL ($3)",
							  3,
							  {TEXTOID, TEXTOID, TEXTARRAYOID}};
	static EduaiPlan join = {"INSERT INTO eduai.cohort_member (tenant_id, cohort, user_id)"
							 " SELECT $1, $2, u FROM unnest($3) AS u ON CONFLICT DO NOTHING",
							 3,
							 {TEXTOID, TEXTOID, TEXTARRAYOID}};
	char *tenant = eduai_core_tenant();
	char *cohort = eduai_projections_cohort_arg(fcinfo);
	EduaiPrivilege saved;
	Datum args[3];

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("user_ids must not be null"),
				 errhint("Give an empty array to remove a cohort.")));
	eduai_projections_check_user_ids(PG_GETARG_ARRAYTYPE_P(1));
	check_not_erased(tenant, PG_GETARG_ARRAYTYPE_P(1));
	args[0] = CStringGetTextDatum(tenant);
	args[1] = CStringGetTextDatum(cohort);
	args[2] = PG_GETARG_DATUM(1);
	eduai_core_lock(EDUAI_LOCK_COHORT, eduai_core_lock_key(tenant, cohort), false);
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run_latest(&leave, args, NULL);
	eduai_core_run_latest(&join, args, NULL);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}
