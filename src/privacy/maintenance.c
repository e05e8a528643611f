/*
 * maintenance.c: run_maintenance(): the jobs that pg_cron calls, or anybody.
 *
 *   retain_SUBJECT     carries out all tenants' policies for a subject
 *   compact_events     compacts what is older than eduai.compact_after, if the
 *                      projector has not
 *   fit_learner_model  eduai.fit_learner_model() for the session's tenant
 *   prune_runs         forgets runs of jobs that are older than 90 days
 *
 * Work in steps goes through job.h: each step commits by itself, the same work
 * runs once at a time, and no step begins once eduai.maintenance_time_limit is
 * over: the next run goes on.  A job that fails says so in its result instead of
 * raising, so that the row of eduai.maintenance_run stays.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/guard.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/retention.h"
#include "core/tenant.h"
#include "events/compact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "privacy/anonymise.h"
#include "privacy/job.h"
#include "privacy/retain.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(eduai_run_maintenance);
PG_FUNCTION_INFO_V1(eduai_call_maintenance);

#define JOB_RETAIN "retain"
#define PREFIX     "retain_"

static int time_limit_ms = 60000;

/* What a run has come to. */
typedef struct Run
{
	char *job;
	TimestampTz started_at;
	int64 began_us;
	bool commits; /* see eduai_privacy_job_run() */
	int64 rows;
	bool unfinished;
	bool busy;
	char *error;
} Run;

/* ---- steps ---- */

static bool
retain_step(const EduaiJobCall *call, int64 *rows)
{
	char *action = pstrdup(call->argument);
	char *subject = strchr(action, ' ');
	bool more = false;

	*subject++ = '\0';
	*rows += eduai_core_retention_subject(subject)->run(call->tenant, action, call->before, &more);
	return more;
}

static int64
left_ms(const Run *run)
{
	return Max(time_limit_ms - (eduai_core_mono_us() - run->began_us) / 1000, 1);
}

static void
take_result(Run *run, const EduaiJobResult *result)
{
	run->rows += result->rows;
	run->busy |= result->busy;
	run->unfinished |= !result->complete && !result->busy && result->sqlstate == 0;
	if (result->sqlstate != 0 && run->error == NULL)
		run->error = pstrdup(result->error);
}

static void
run_policy(Run *run, const EduaiRetentionPolicy *policy)
{
	EduaiJobCall call = {.before = policy->before};
	EduaiJobResult result;

	strlcpy(call.tenant, policy->tenant, sizeof(call.tenant));
	if (strcmp(policy->action, "anonymise") == 0)
		strlcpy(call.job, EDUAI_JOB_ANONYMISE, sizeof(call.job));
	else
	{
		strlcpy(call.job, JOB_RETAIN, sizeof(call.job));
		snprintf(call.argument, sizeof(call.argument), "%s %s", policy->action, policy->subject);
	}
	call.limit_ms = left_ms(run);
	eduai_privacy_job_run(&call, run->commits, &result);
	take_result(run, &result);
}

static void
run_retention(Run *run, const char *subject)
{
	MemoryContext caller = CurrentMemoryContext;
	EduaiRetentionPolicy *policies;
	EduaiPrivilege saved;
	int n;

	eduai_core_enter(&saved);
	SPI_connect();
	MemoryContextSwitchTo(caller);
	policies = eduai_privacy_policies(subject, &n);
	SPI_finish();
	eduai_core_leave(&saved);
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < n; i++)
	{
		if (run->rows + i > 0 && left_ms(run) == 1)
		{
			run->unfinished = true;
			break;
		}
		run_policy(run, &policies[i]);
	}
}

/* ---- jobs that are a statement ---- */

static EduaiPlan compact = {
	"SELECT eduai.compact_events(greatest(current_setting('eduai.compact_after')::interval,"
	" interval '1 hour'))"
	" WHERE current_setting('eduai.compact_after')::interval > interval '0'",
	0};

static EduaiPlan fit = {"SELECT eduai.fit_learner_model()", 0};

static EduaiPlan prune = {
	"WITH gone AS (DELETE FROM eduai.maintenance_run r WHERE r.started_at < $1 RETURNING 1)"
	" SELECT count(*) FROM gone",
	1,
	{TIMESTAMPTZOID}};

typedef struct Statement
{
	EduaiPlan *plan;
	int64 rows;
} Statement;

static void
run_statement(void *arg)
{
	Statement *statement = arg;
	Datum argument = TimestampTzGetDatum(eduai_core_now() - 90 * USECS_PER_DAY);
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_run(statement->plan, &argument, NULL) > 0)
		statement->rows = eduai_core_int64(0, 1, 0);
	SPI_finish();
	eduai_core_leave(&saved);
}

/* In the caller's transaction, for as long as the limit at most; its error is the result's. */
static void
guard_statement(Run *run, EduaiPlan *plan)
{
	Statement statement = {plan};
	ErrorData *error = eduai_core_guard(run_statement, &statement, time_limit_ms);

	run->rows = statement.rows;
	if (error != NULL)
		run->error = error->message;
}

/* ---- SQL ---- */

static bool
run_job(Run *run)
{
	if (strncmp(run->job, PREFIX, strlen(PREFIX)) == 0 &&
		eduai_core_retention_subject(run->job + strlen(PREFIX)) != NULL)
		run_retention(run, run->job + strlen(PREFIX));
	else if (strcmp(run->job, "compact_events") == 0)
		guard_statement(run, &compact);
	else if (strcmp(run->job, "fit_learner_model") == 0)
		guard_statement(run, &fit);
	else if (strcmp(run->job, "prune_runs") == 0)
		guard_statement(run, &prune);
	else
		return false;
	return true;
}

static const char *
outcome(const Run *run)
{
	if (run->error)
		return "failed";
	if (run->busy)
		return "busy";
	return run->unfinished ? "unfinished" : "done";
}

static void
record(const Run *run, TimestampTz ended_at)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.maintenance_run (job, started_at, ended_at, result, rows, error)"
		" VALUES ($1, $2, $3, $4, $5, $6)",
		6,
		{TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INT8OID, TEXTOID}};
	Datum args[6] = {
		CStringGetTextDatum(run->job), TimestampTzGetDatum(run->started_at),
		TimestampTzGetDatum(ended_at), CStringGetTextDatum(outcome(run)),
		Int64GetDatum(run->rows),      run->error ? CStringGetTextDatum(run->error) : (Datum) 0};
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run(&insert, args, run->error ? "      " : "     n");
	SPI_finish();
	eduai_core_leave(&saved);
}

static Datum
row_of(const Run *run, TimestampTz ended_at, TupleDesc desc)
{
	Datum values[6];
	bool nulls[6] = {false};

	values[0] = CStringGetTextDatum(run->job);
	values[1] = CStringGetTextDatum(outcome(run));
	values[2] = Int64GetDatum(run->rows);
	values[3] = TimestampTzGetDatum(run->started_at);
	values[4] = TimestampTzGetDatum(ended_at);
	nulls[5] = run->error == NULL;
	values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(run->error);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* The result's row type is "desc". */
static Datum
run_maintenance(const text *job, bool commits, TupleDesc desc)
{
	Run run = {.job = text_to_cstring(job),
			   .started_at = eduai_core_now(),
			   .began_us = eduai_core_mono_us(),
			   .commits = commits};
	TimestampTz ended_at;

	PreventCommandIfReadOnly("run_maintenance()");
	PreventCommandDuringRecovery("run_maintenance()");
	(void) eduai_core_tenant_here();
	if (!run_job(&run))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown job \"%s\"", run.job),
				 errhint("Jobs are in eduai.maintenance_status.")));
	ended_at = eduai_core_now();
	record(&run, ended_at);
	return row_of(&run, ended_at, desc);
}

static TupleDesc
result_row(FunctionCallInfo fcinfo)
{
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "run_maintenance() must return a row");
	return desc;
}

/* run_maintenance(job text) returns maintenance_result */
Datum
eduai_run_maintenance(PG_FUNCTION_ARGS)
{
	return run_maintenance(PG_GETARG_TEXT_PP(0), false, result_row(fcinfo));
}

/* CALL run_maintenance(job text, INOUT result maintenance_result) */
Datum
eduai_call_maintenance(PG_FUNCTION_ARGS)
{
	TupleDesc outer = CreateTupleDescCopy(result_row(fcinfo));
	TupleDesc inner = lookup_rowtype_tupdesc_copy(TupleDescAttr(outer, 0)->atttypid, -1);
	bool isnull = false;
	Datum result;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("job must not be null")));
	result = run_maintenance(PG_GETARG_TEXT_PP(0), eduai_privacy_job_may_commit(fcinfo), inner);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(outer), &result, &isnull));
}

void
eduai_privacy_maintenance_init(void)
{
	static const EduaiJob job = {JOB_RETAIN, retain_step, NULL};

	DefineCustomIntVariable("eduai.maintenance_time_limit",
							"How long a maintenance job works at most; the next run goes on.", NULL,
							&time_limit_ms, 60000, 100, PG_INT32_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL,
							NULL, NULL);
	eduai_privacy_job_register(&job);
}

void
eduai_privacy_retain_init(void)
{
	eduai_privacy_retain_subjects_init();
	eduai_privacy_maintenance_init();
}
