/*
 * read.c: looking at tasks and waiting for them.
 *
 * Waiting: register on the task's condition variable, look, sleep, look again.
 * Every look has a fresh snapshot, whatever the isolation level, since a
 * transaction that waits wants to see the end.  wait_task() runs inside a
 * statement and so holds its snapshot; await_task() is a procedure that
 * commits first and holds none while it sleeps.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "queue/board.h"
#include "queue/sensitive.h"
#include "queue/status.h"
#include "queue/task.h"
#include "tcop/pquery.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(eduai_get_task);
PG_FUNCTION_INFO_V1(eduai_get_tasks);
PG_FUNCTION_INFO_V1(eduai_wait_task);
PG_FUNCTION_INFO_V1(eduai_wait_tasks);
PG_FUNCTION_INFO_V1(eduai_await_task);

static bool
is_final(const char *state)
{
	static const char *const finals[] = {"completed", "dead", "cancelled", "uncertain", "expired"};

	for (size_t i = 0; i < lengthof(finals); i++)
		if (strcmp(state, finals[i]) == 0)
			return true;
	return false;
}

/* ---- one look ---- */

typedef struct Look
{
	bool found;
	bool final;
	bool own; /* this very transaction wrote it */
} Look;

static void
look(const char *tenant, int64 task_id, Look *seen)
{
	static EduaiPlan peek = {
		"SELECT state, xmin FROM eduai.task_live WHERE tenant_id = $1 AND task_id = $2 UNION ALL "
		"SELECT state, xmin FROM eduai.task_end WHERE tenant_id = $1 AND task_id = $2 UNION ALL "
		/* neither: it is fresh */
		"SELECT 'ready', xmin FROM eduai.task_request WHERE tenant_id = $1 AND task_id = $2 LIMIT 1",
		2,
		{TEXTOID, INT8OID}};
	Datum args[2] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id)};
	EduaiPrivilege saved;
	bool isnull;

	memset(seen, 0, sizeof(*seen));
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_run_latest(&peek, args, NULL) > 0)
	{
		seen->found = true;
		seen->final = is_final(eduai_core_text(0, 1));
		seen->own = TransactionIdIsCurrentTransactionId(
			DatumGetTransactionId(eduai_core_value(0, 2, &isnull)));
	}
	SPI_finish();
	eduai_core_leave(&saved);
}

/* the task's row as a task_status in the caller's context; false when unknown */
static bool
fetch(const char *tenant, int64 task_id, bool latest, Datum *status)
{
	static EduaiPlan get = {"SELECT " EDUAI_TASK_STATUS
							", t.user_id FROM eduai.task t WHERE tenant_id = $1 AND task_id = $2",
							2,
							{TEXTOID, INT8OID}};
	Datum args[2] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id)};
	EduaiPrivilege saved;
	uint64 n;
	bool isnull;

	eduai_core_enter(&saved);
	SPI_connect();
	n = latest ? eduai_core_run_latest(&get, args, NULL) : eduai_core_run(&get, args, NULL);
	if (n > 0)
	{
		*status = SPI_datumTransfer(eduai_core_value(0, 1, &isnull), false, -1);
		eduai_core_personal_note(tenant, eduai_core_text(0, 2), "tasks",
								 eduai_core_text(0, 2) ? 1 : 0, saved.caller);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	if (n > 0)
		*status = eduai_queue_open_status(tenant, *status, GetUserId());
	return n > 0;
}

/* ---- waiting ---- */

/* sleeps until the task may have ended; false when the deadline (monotonic) is over */
static bool
sleep_for(int64 task_id, int64 deadline_us)
{
	int64 left_ms = (deadline_us - eduai_core_mono_us() + 999) / 1000;

	if (left_ms <= 0)
		return false;
	(void) ConditionVariableTimedSleep(eduai_queue_board_waiters(task_id),
									   (long) Min(left_ms, INT_MAX), PG_WAIT_EXTENSION);
	return true;
}

static void
refuse_own(int64 task_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("task %lld cannot end before this transaction does", (long long) task_id),
			 errdetail("This transaction enqueued or changed it."),
			 errhint("Commit first, then wait.")));
}

static void
wait_for(const char *tenant, int64 task_id, int64 deadline_us)
{
	Look seen;

	ConditionVariablePrepareToSleep(eduai_queue_board_waiters(task_id));
	for (;;)
	{
		look(tenant, task_id, &seen);
		if (!seen.found || seen.final)
			break;
		if (seen.own)
			refuse_own(task_id);
		if (!sleep_for(task_id, deadline_us))
			break;
	}
	ConditionVariableCancelSleep();
}

static int64
deadline_of(Interval *timeout)
{
	eduai_core_require_preload("waiting for a task");
	return eduai_core_mono_us() +
		   1000 * eduai_queue_interval_ms(timeout, "timeout", 0, EDUAI_DAY_MS);
}

Datum
eduai_wait_task(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	int64 task_id = PG_GETARG_INT64(0);
	Datum status;

	wait_for(tenant, task_id, deadline_of(PG_GETARG_INTERVAL_P(1)));
	if (!fetch(tenant, task_id, true, &status))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(status);
}

static int64 *
read_ids(ArrayType *array, int *n)
{
	Datum *values;
	bool *nulls;
	int64 *ids;
	int count;

	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values,
					  &nulls, &count);
	ids = palloc(sizeof(int64) * Max(count, 1));
	*n = 0;
	for (int i = 0; i < count; i++)
		if (!nulls[i])
			ids[(*n)++] = DatumGetInt64(values[i]);
	return ids;
}

static void
return_tasks(FunctionCallInfo fcinfo, const char *tenant, const int64 *ids, int n, bool latest)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int i = 0; i < n; i++)
	{
		Datum status;
		HeapTupleData tuple;
		HeapTupleHeader header;

		if (!fetch(tenant, ids[i], latest, &status))
			continue;
		header = DatumGetHeapTupleHeader(status);
		tuple.t_len = HeapTupleHeaderGetDatumLength(header);
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		tuple.t_data = header;
		tuplestore_puttuple(rsinfo->setResult, &tuple);
	}
}

Datum
eduai_get_task(PG_FUNCTION_ARGS)
{
	int64 id = PG_GETARG_INT64(0);

	return_tasks(fcinfo, eduai_core_tenant(), &id, 1, false);
	return (Datum) 0;
}

Datum
eduai_get_tasks(PG_FUNCTION_ARGS)
{
	int n;
	int64 *ids = read_ids(PG_GETARG_ARRAYTYPE_P(0), &n);

	return_tasks(fcinfo, eduai_core_tenant(), ids, n, false);
	return (Datum) 0;
}

Datum
eduai_wait_tasks(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	int64 deadline = deadline_of(PG_GETARG_INTERVAL_P(1));
	int n;
	int64 *ids = read_ids(PG_GETARG_ARRAYTYPE_P(0), &n);

	for (int i = 0; i < n; i++)
		wait_for(tenant, ids[i], deadline);
	return_tasks(fcinfo, tenant, ids, n, true);
	return (Datum) 0;
}

/* ---- await_task ---- */

/* ends the transaction, and with it every snapshot; the next look begins another */
static void
let_go(void)
{
	SPI_commit();
}

Datum
eduai_await_task(PG_FUNCTION_ARGS)
{
	bool nonatomic = fcinfo->context && IsA(fcinfo->context, CallContext) &&
					 !((CallContext *) fcinfo->context)->atomic;
	MemoryContext caller = CurrentMemoryContext;
	int64 task_id;
	int64 deadline;
	char *tenant;
	Look seen;
	Datum status;
	bool found;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("task_id and timeout must not be null")));
	if (!nonatomic)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
			 errmsg("await_task() cannot run inside a transaction block"),
			 errhint("It commits before it waits; call it on its own, or use eduai.wait_task().")));
	task_id = PG_GETARG_INT64(0);
	deadline = deadline_of(PG_GETARG_INTERVAL_P(1));
	tenant = eduai_core_tenant();

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	let_go();
	ConditionVariablePrepareToSleep(eduai_queue_board_waiters(task_id));
	for (;;)
	{
		EnsurePortalSnapshotExists();
		MemoryContextSwitchTo(caller);
		look(tenant, task_id, &seen);
		let_go();
		if (!seen.found || seen.final || !sleep_for(task_id, deadline))
			break;
	}
	ConditionVariableCancelSleep();
	EnsurePortalSnapshotExists();
	MemoryContextSwitchTo(caller);
	found = fetch(tenant, task_id, true, &status);
	SPI_finish();

	/* a procedure answers with a row of its INOUT arguments */
	{
		TupleDesc desc;
		Datum values[1] = {found ? status : (Datum) 0};
		bool nulls[1] = {!found};

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "await_task() must return a row");
		PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
	}
}
