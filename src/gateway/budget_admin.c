/*
 * budget_admin.c: set_budget().
 *
 * It writes what was asked for and nothing else: the dispatcher counts.  The
 * table's trigger tells the dispatcher and the sessions.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "gateway/budget_book.h"
#include "mb/pg_wchar.h"
#include "queue/catalog.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_set_budget);

#define MOST_SCOPE_BYTES 512

static void
refuse_scope(const char *scope)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid scope \"%s\" of a budget",
						   pnstrdup(scope, pg_mbcliplen(scope, strlen(scope), 80))),
					errhint("The scopes are tenant, user:*, user:ID and provider:NAME.")));
}

/* is it global? */
static bool
check_scope(const char *scope)
{
	if (strlen(scope) > MOST_SCOPE_BYTES)
		refuse_scope(scope);
	if (strcmp(scope, "tenant") == 0 || (strncmp(scope, "user:", 5) == 0 && scope[5] != '\0'))
		return false;
	if (strncmp(scope, "provider:", 9) != 0 || scope[9] == '\0')
		refuse_scope(scope);
	return true;
}

static void
check_usd(Numeric usd)
{
	if (numeric_is_nan(usd) || numeric_is_inf(usd) ||
		eduai_gateway_budget_more(int64_to_numeric(0), usd))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a budget cannot be %s USD",
						DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(usd)))),
				 errhint("Give 0 or more, or null to remove the budget.")));
}

static void
check_exceeded(const char *on_exceeded)
{
	if (strcmp(on_exceeded, "defer") != 0 && strcmp(on_exceeded, "refuse") != 0 &&
		strcmp(on_exceeded, "cheapest") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid on_exceeded \"%s\"", on_exceeded),
						errhint("It is defer, refuse or cheapest.")));
}

/* A name that was mistyped would be a budget that nothing exceeds. */
static void
check_provider(const char *name)
{
	static EduaiPlan find = {"SELECT FROM eduai.provider WHERE name = $1", 1, {TEXTOID}};
	Datum args[1] = {CStringGetTextDatum(name)};

	if (eduai_core_run(&find, args, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("provider \"%s\" does not exist", name)));
}

/* args: tenant, scope, task_type, per */
static void
remove_budget(Datum *args, const char *scope, const Interval *per)
{
	static EduaiPlan delete = {"DELETE FROM eduai.budget WHERE tenant_id = $1 AND scope = $2 "
							   "AND task_type = $3 AND per = $4",
							   4,
							   {TEXTOID, TEXTOID, TEXTOID, INTERVALOID}};

	if (eduai_core_run(&delete, args, NULL) == 0)
		ereport(NOTICE, (errmsg("there is no budget \"%s\" per %s of this task type", scope,
								eduai_gateway_budget_per_words(per))));
}

/*
 * Periods that are equal as intervals (30 days and a month) are of one budget,
 * but are not the same: what was counted is not of the new one then.
 */
static void
put_budget(Datum *args)
{
	static EduaiPlan upsert = {
		"INSERT INTO eduai.budget AS b (tenant_id, scope, task_type, per, budget_id, revision, "
		"usd, on_exceeded) SELECT $1, $2, $3, $4, n, n, $5, $6 "
		"FROM nextval('eduai.budget_id_seq') n "
		"ON CONFLICT (tenant_id, scope, task_type, per) DO UPDATE SET per = excluded.per, "
		"budget_id = CASE WHEN b.per::text = excluded.per::text THEN b.budget_id "
		"ELSE excluded.budget_id END, revision = excluded.revision, usd = excluded.usd, "
		"on_exceeded = excluded.on_exceeded",
		6,
		{TEXTOID, TEXTOID, TEXTOID, INTERVALOID, NUMERICOID, TEXTOID}};

	eduai_core_run(&upsert, args, NULL);
}

static char *
text_arg(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" cannot be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

Datum
eduai_set_budget(PG_FUNCTION_ARGS)
{
	char *scope = text_arg(fcinfo, 0, "scope");
	char *on_exceeded = text_arg(fcinfo, 3, "on_exceeded");
	char *type = PG_ARGISNULL(4) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(4));
	bool global = check_scope(scope);
	char *tenant = global ? "" : eduai_core_tenant();
	Interval per;
	Datum args[6];
	EduaiPrivilege saved;

	if (PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" cannot be null", "per")));
	per = eduai_gateway_budget_check_period(PG_GETARG_INTERVAL_P(2));
	check_exceeded(on_exceeded);
	if (!PG_ARGISNULL(1) && strncmp(scope, "user:", 5) == 0)
		eduai_core_personal_check(tenant, scope + 5);
	if (!PG_ARGISNULL(1))
		check_usd(PG_GETARG_NUMERIC(1));
	args[0] = CStringGetTextDatum(tenant);
	args[1] = CStringGetTextDatum(scope);
	args[2] = CStringGetTextDatum(type);
	args[3] = IntervalPGetDatum(&per);
	args[4] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	args[5] = CStringGetTextDatum(on_exceeded);

	eduai_core_enter(&saved);
	SPI_connect();
	if (*type != '\0')
		(void) eduai_queue_require_type(type);
	if (PG_ARGISNULL(1))
		remove_budget(args, scope, &per);
	else
	{
		if (global)
			check_provider(scope + strlen("provider:"));
		put_budget(args);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}
