/*
 * retain.c: set_retention() and the policies it leaves.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/retention.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "privacy/retain.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_set_retention);

static char *
subject_list(void)
{
	StringInfoData list;
	const EduaiRetentionSubject *subject;

	initStringInfo(&list);
	for (int i = 0; (subject = eduai_core_retention_nth(i)) != NULL; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", subject->name);
	return list.data;
}

static void
check_policy(const char *name, const char *action)
{
	const EduaiRetentionSubject *subject = eduai_core_retention_subject(name);

	if (subject == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid subject \"%s\"", name),
				 errhint("Subjects are %s.", subject_list())));
	if (!eduai_core_retention_allows(subject, action))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid action \"%s\" for %s", action, name),
						errhint("Possible: %s.", subject->actions)));
}

static void
check_keep(Datum keep)
{
	Datum now = TimestampTzGetDatum(eduai_core_now());
	TimestampTz before =
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval, now, keep));

	if (before >= DatumGetTimestampTz(now))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid keep \"%s\"",
							   DatumGetCString(DirectFunctionCall1(interval_out, keep))),
						errhint("Give a time longer than nothing.")));
}

/* set_retention(subject text, keep interval, action text) returns void */
Datum
eduai_set_retention(PG_FUNCTION_ARGS)
{
	static EduaiPlan put = {
		"INSERT INTO eduai.retention_policy (tenant_id, subject, action, keep, set_at)"
		" VALUES ($1, $2, $3, $4, now()) ON CONFLICT (tenant_id, subject, action)"
		" DO UPDATE SET keep = EXCLUDED.keep, set_at = EXCLUDED.set_at",
		4,
		{TEXTOID, TEXTOID, TEXTOID, INTERVALOID}};
	static EduaiPlan drop = {"DELETE FROM eduai.retention_policy WHERE tenant_id = $1"
							 " AND subject = $2 AND action = $3",
							 3,
							 {TEXTOID, TEXTOID, TEXTOID}};
	Datum args[4];
	EduaiPrivilege saved;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s must not be null", PG_ARGISNULL(0) ? "subject" : "action")));
	check_policy(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(2)));
	if (!PG_ARGISNULL(1))
		check_keep(PG_GETARG_DATUM(1));
	args[0] = CStringGetTextDatum(eduai_core_tenant());
	args[1] = PG_GETARG_DATUM(0);
	args[2] = PG_GETARG_DATUM(2);
	args[3] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run(PG_ARGISNULL(1) ? &drop : &put, args, NULL);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* What deletes first, so that nothing is anonymised that goes anyway. */
static EduaiPlan list = {
	"SELECT p.tenant_id, p.subject, p.action, $2 - p.keep FROM eduai.retention_policy p"
	" WHERE $1 IS NULL OR p.subject = $1"
	" ORDER BY p.subject, p.tenant_id, array_position('{delete,anonymise,compact}', p.action)",
	2,
	{TEXTOID, TIMESTAMPTZOID}};

EduaiRetentionPolicy *
eduai_privacy_policies(const char *subject, int *n)
{
	Datum args[] = {subject ? CStringGetTextDatum(subject) : (Datum) 0,
					TimestampTzGetDatum(eduai_core_now())};
	EduaiRetentionPolicy *policies;

	*n = (int) eduai_core_run(&list, args, subject ? "  " : "n ");
	policies = palloc(sizeof(EduaiRetentionPolicy) * (*n + 1));
	for (int i = 0; i < *n; i++)
	{
		bool isnull;

		policies[i] =
			(EduaiRetentionPolicy){.tenant = eduai_core_text(i, 1),
								   .subject = eduai_core_text(i, 2),
								   .action = eduai_core_text(i, 3),
								   .before = DatumGetTimestampTz(eduai_core_value(i, 4, &isnull))};
	}
	return policies;
}
