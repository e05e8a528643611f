/*
 * worker_finish.c: complete_task(), complete_tasks() and fail_task().
 *
 * What a worker says is recorded in its own transaction, by the path that the
 * dispatcher uses (finish.h).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "queue/attempt.h"
#include "queue/finish.h"
#include "queue/running.h"
#include "queue/store.h"
#include "queue/task.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MOST_BATCH   10000
#define MOST_MESSAGE 2000 /* bytes */

PG_FUNCTION_INFO_V1(eduai_complete_task);
PG_FUNCTION_INFO_V1(eduai_complete_tasks);
PG_FUNCTION_INFO_V1(eduai_fail_task);

/* ---- recording ---- */

/* Writes the outcomes; each comes back recorded or stale: a session waits for whoever holds a task. */
static void
record(TaskOutcome *outcomes, int n)
{
	eduai_queue_running_load();
	for (int i = 0; i < n; i++)
	{
		TaskOutcome *o = &outcomes[i];

		o->by_worker = true;
		o->tid = eduai_queue_running_place(o->task_id, o->attempt);
	}
	eduai_queue_finish(outcomes, n, false);
}

static void
record_one(const NamedAttempt *attempt, TaskOutcome *outcome)
{
	EduaiPrivilege saved;

	outcome->tenant = attempt->tenant;
	outcome->task_id = attempt->task_id;
	outcome->attempt = attempt->attempt;
	eduai_core_enter(&saved);
	SPI_connect();
	record(outcome, 1);
	if (outcome->status == FINISH_STALE)
		eduai_queue_attempt_refuse(attempt);
	SPI_finish();
	eduai_core_leave(&saved);
}

/* ---- one ---- */

static Numeric
check_cost(Datum value)
{
	Numeric cost = DatumGetNumeric(value);

	if (numeric_is_nan(cost) || numeric_is_inf(cost) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, value,
										 DirectFunctionCall1(int4_numeric, Int32GetDatum(0)))))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid cost_usd %s",
							   DatumGetCString(DirectFunctionCall1(numeric_out, value))),
						errhint("Give what the attempt cost, 0 or more, or leave it out.")));
	return cost;
}

Datum
eduai_complete_task(PG_FUNCTION_ARGS)
{
	NamedAttempt attempt;
	TaskOutcome outcome = {.end = ATTEMPT_COMPLETED, .retry_after_ms = -1};

	eduai_core_require_preload("complete_task()");
	PreventCommandIfReadOnly("complete_task()");
	eduai_queue_attempt_read(fcinfo, &attempt);
	if (!PG_ARGISNULL(2))
		outcome.result = PG_GETARG_JSONB_P(2);
	if (!PG_ARGISNULL(3))
		outcome.cost_usd = check_cost(PG_GETARG_DATUM(3));
	record_one(&attempt, &outcome);
	PG_RETURN_VOID();
}

/* What a worker says of a failure: bounded, on lines that a terminal survives. */
static char *
clean_message(const text *message)
{
	char *clean = text_to_cstring(message);
	int length = pg_mbcliplen(clean, (int) strlen(clean), MOST_MESSAGE);

	clean[length] = '\0';
	for (char *c = clean; *c != '\0'; c++)
		if (((unsigned char) *c < ' ' && *c != '\n' && *c != '\t') || *c == '\x7f')
			*c = ' ';
	return clean;
}

Datum
eduai_fail_task(PG_FUNCTION_ARGS)
{
	NamedAttempt attempt;
	TaskOutcome outcome = {.end = ATTEMPT_FAILED, .retry_after_ms = -1, .code = "worker_failed"};

	eduai_core_require_preload("fail_task()");
	PreventCommandIfReadOnly("fail_task()");
	eduai_queue_attempt_read(fcinfo, &attempt);
	eduai_queue_require_argument(fcinfo, 2, "error");
	eduai_queue_require_argument(fcinfo, 3, "retry");
	outcome.message = clean_message(PG_GETARG_TEXT_PP(2));
	outcome.retry = PG_GETARG_BOOL(3);
	if (!PG_ARGISNULL(4))
		outcome.retry_after_ms =
			eduai_queue_interval_ms(PG_GETARG_INTERVAL_P(4), "retry_after", 0, EDUAI_DAY_MS);
	record_one(&attempt, &outcome);
	PG_RETURN_VOID();
}

/* ---- a batch ---- */

typedef struct Column
{
	Datum *values;
	bool *nulls;
	int n;
} Column;

static Column
read_column(FunctionCallInfo fcinfo, int argument, Oid element, int length, bool byval, char align)
{
	Column column = {0};

	if (!PG_ARGISNULL(argument))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), element, length, byval, align,
						  &column.values, &column.nulls, &column.n);
	return column;
}

static void
check_length(FunctionCallInfo fcinfo, int argument, const char *name, int n, int expected)
{
	if (!PG_ARGISNULL(argument) && n != expected)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("arrays of unequal length: %d task_ids, %d %s", expected, n, name)));
}

/* tasks in one order whoever completes them, so that two batches cannot deadlock */
static int
by_task(const void *a, const void *b)
{
	int64 left = ((const TaskOutcome *) a)->task_id;
	int64 right = ((const TaskOutcome *) b)->task_id;

	return left < right ? -1 : left > right;
}

static TaskOutcome *
read_batch(FunctionCallInfo fcinfo, const char *tenant, int *n)
{
	Column ids = read_column(fcinfo, 0, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	Column attempts = read_column(fcinfo, 1, INT4OID, sizeof(int32), true, TYPALIGN_INT);
	Column results = read_column(fcinfo, 2, JSONBOID, -1, false, TYPALIGN_INT);
	Column costs = read_column(fcinfo, 3, NUMERICOID, -1, false, TYPALIGN_INT);
	TaskOutcome *outcomes;

	*n = ids.n;
	check_length(fcinfo, 1, "attempts", attempts.n, *n);
	check_length(fcinfo, 2, "results", results.n, *n);
	check_length(fcinfo, 3, "costs_usd", costs.n, *n);
	if (*n > MOST_BATCH)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%d tasks given", *n),
						errhint("Complete at most %d at a time.", MOST_BATCH)));
	outcomes = palloc0(sizeof(TaskOutcome) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		TaskOutcome *o = &outcomes[i];

		if (ids.nulls[i] || attempts.nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("task_ids and attempts must not contain nulls")));
		o->tenant = tenant;
		o->task_id = DatumGetInt64(ids.values[i]);
		o->attempt = DatumGetInt32(attempts.values[i]);
		o->end = ATTEMPT_COMPLETED;
		o->retry_after_ms = -1;
		if (results.n > 0 && !results.nulls[i])
			o->result = DatumGetJsonbP(results.values[i]);
		if (costs.n > 0 && !costs.nulls[i])
			o->cost_usd = check_cost(costs.values[i]);
	}
	qsort(outcomes, *n, sizeof(TaskOutcome), by_task);
	for (int i = 1; i < *n; i++)
		if (outcomes[i].task_id == outcomes[i - 1].task_id)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("task %lld is given twice", (long long) outcomes[i].task_id)));
	return outcomes;
}

static bool
skips_stale(FunctionCallInfo fcinfo)
{
	char *on_stale;

	eduai_queue_require_argument(fcinfo, 4, "on_stale");
	on_stale = text_to_cstring(PG_GETARG_TEXT_PP(4));
	if (strcmp(on_stale, "skip") != 0 && strcmp(on_stale, "error") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid on_stale \"%s\"", on_stale), errhint("Use skip or error.")));
	return strcmp(on_stale, "skip") == 0;
}

Datum
eduai_complete_tasks(PG_FUNCTION_ARGS)
{
	char *tenant;
	bool skip;
	int n;
	int64 recorded = 0;
	TaskOutcome *outcomes;
	EduaiPrivilege saved;

	eduai_core_require_preload("complete_tasks()");
	PreventCommandIfReadOnly("complete_tasks()");
	eduai_queue_require_argument(fcinfo, 0, "task_ids");
	eduai_queue_require_argument(fcinfo, 1, "attempts");
	skip = skips_stale(fcinfo);
	tenant = eduai_core_tenant();
	outcomes = read_batch(fcinfo, tenant, &n);
	eduai_core_enter(&saved);
	SPI_connect();
	record(outcomes, n);
	for (int i = 0; i < n; i++)
	{
		NamedAttempt attempt = {tenant, outcomes[i].task_id, outcomes[i].attempt};

		if (outcomes[i].status == FINISH_RECORDED)
			recorded++;
		else if (!skip)
			eduai_queue_attempt_refuse(&attempt);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT64(recorded);
}
