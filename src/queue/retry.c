/*
 * retry.c: retry_task() and redrive(): tasks that failed live again.
 *
 * The row of the end goes, one of task_live comes, in the caller's transaction.
 * Attempts go on counting, so that a late answer of an old one is still
 * refused; earlier errors are kept.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "queue/catalog.h"
#include "queue/lane.h"
#include "queue/queue.h"
#include "queue/quota.h"
#include "queue/store.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define REDRIVE_BATCH 1000

PG_FUNCTION_INFO_V1(eduai_retry_task);
PG_FUNCTION_INFO_V1(eduai_redrive);

/* What take_end() reads of the task's rows. */
#define TAKEN "r.task_type, r.model, r.priority, e.attempt, r.concurrency_key, e.error, e.cost_usd"

#define RETRIABLE "e.state IN ('dead', 'cancelled', 'uncertain', 'expired')"

/* the key under which a task may not live twice; NULL: none */
static char *
find_unique_key(const char *tenant, int64 task_id)
{
	static EduaiPlan find = {"SELECT unique_key FROM eduai.task_request WHERE tenant_id = $1 "
							 "AND task_id = $2 AND unique_key IS NOT NULL",
							 2,
							 {TEXTOID, INT8OID}};
	Datum args[2] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id)};

	char *key = eduai_core_run_latest(&find, args, NULL) > 0 ? eduai_core_text(0, 1) : NULL;

	SPI_freetuptable(SPI_tuptable);
	return key;
}

/* as enqueue() does, so that neither meets the other's uncommitted task */
static bool
lock_unique_key(const char *tenant, const char *key, bool nowait)
{
	return eduai_core_lock(EDUAI_LOCK_UNIQUE_KEY, eduai_core_lock_key(tenant, key), nowait);
}

static bool
lives_with_key(const char *tenant, const char *key)
{
	static EduaiPlan find = {"SELECT FROM eduai.task_live WHERE tenant_id = $1 AND unique_key = $2",
							 2,
							 {TEXTOID, TEXTOID}};
	Datum args[2] = {CStringGetTextDatum(tenant), CStringGetTextDatum(key)};

	bool lives = eduai_core_run_latest(&find, args, NULL) > 0;

	SPI_freetuptable(SPI_tuptable);
	return lives;
}

/* Takes the row of the end away; false when it did not end so, or somebody was first. */
static bool
take_end(const char *tenant, int64 task_id, LiveTask *task)
{
	static EduaiPlan take = {"DELETE FROM eduai.task_end e USING eduai.task_request r "
							 "WHERE e.tenant_id = $1 AND e.task_id = $2 AND " RETRIABLE
							 " AND r.tenant_id = e.tenant_id AND r.task_id = e.task_id "
							 "RETURNING " TAKEN,
							 2,
							 {TEXTOID, INT8OID}};
	Datum args[2] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id)};
	bool isnull;
	Datum value;

	if (eduai_core_run(&take, args, NULL) == 0)
		return false;
	task->task_type = eduai_core_text(0, 1);
	task->model = eduai_core_text(0, 2);
	task->priority = (int) eduai_core_int64(0, 3, 0);
	task->attempt = task->attempt_base = (int) eduai_core_int64(0, 4, 0);
	task->concurrency_key = eduai_core_text(0, 5);
	value = eduai_core_value(0, 6, &isnull);
	task->error = isnull ? NULL : DatumGetJsonbPCopy(value);
	value = eduai_core_value(0, 7, &isnull);
	task->cost_usd = isnull ? NULL : DatumGetNumericCopy(value);
	SPI_freetuptable(SPI_tuptable);
	return true;
}

/* The nth of a call; its key, if it has one, is locked. */
static bool
revive(const char *tenant, int64 task_id, char *unique_key, int nth)
{
	EduaiTasks *tasks;
	LiveTask task = {0};

	if (!take_end(tenant, task_id, &task))
		return false;
	task.tenant = (char *) tenant;
	task.task_id = task_id;
	task.state = "ready";
	task.in_lane = true;
	task.lane = eduai_queue_lane_hash(tenant, task.task_type, task.model, task.priority);
	task.ready_key = eduai_queue_lane_key(nth);
	task.run_at = eduai_core_now();
	task.unique_key = unique_key;
	tasks = eduai_queue_tasks_open();
	eduai_queue_live_insert(tasks, &task);
	eduai_queue_live_announce(&task);
	eduai_queue_tasks_close(tasks);
	CommandCounterIncrement();
	(void) eduai_queue_quota_reserve(tenant, 1, 0);
	eduai_queue_wake_at_commit();
	return true;
}

Datum
eduai_retry_task(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	int64 task_id = PG_GETARG_INT64(0);
	EduaiPrivilege saved;
	char *unique_key;
	bool revived;

	eduai_core_require_preload("the queue");
	eduai_core_enter(&saved);
	SPI_connect();
	unique_key = find_unique_key(tenant, task_id);
	if (unique_key != NULL)
		(void) lock_unique_key(tenant, unique_key, false);
	revived = revive(tenant, task_id, unique_key, 0);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_BOOL(revived);
}

/* ---- many ---- */

/* One that somebody holds, or whose key is taken, is left as it is. */
static bool
redrive_one(const char *tenant, int64 task_id, int nth)
{
	char *key = find_unique_key(tenant, task_id);

	if (key != NULL && (!lock_unique_key(tenant, key, true) || lives_with_key(tenant, key)))
		return false;
	return revive(tenant, task_id, key, nth);
}

/* where the last batch ended: the ends in their order, each once */
typedef struct Cursor
{
	TimestampTz finished_at;
	int64 task_id;
} Cursor;

/* Locks the next ends, without waiting; returns how many. */
static int
next_batch(const char *tenant, Datum task_type, bool any_type, Cursor *cursor, int64 *ids)
{
	static EduaiPlan next = {
		"SELECT e.task_id, e.finished_at FROM eduai.task_end e WHERE e.tenant_id = $1 AND " RETRIABLE
		" AND e.ended_key = ANY ($6) AND e.finished_at >= $2 "
		"AND (e.finished_at, e.task_id) > ($2, $3) AND ($4 IS NULL OR EXISTS "
		"(SELECT FROM eduai.task_request r WHERE r.tenant_id = e.tenant_id "
		"AND r.task_id = e.task_id AND r.task_type = $4 OFFSET 0)) "
		"ORDER BY e.finished_at, e.task_id LIMIT $5 FOR UPDATE SKIP LOCKED",
		6,
		{TEXTOID, TIMESTAMPTZOID, INT8OID, TEXTOID, INT8OID, INT8ARRAYOID}};
	int64 keys[] = {
		eduai_queue_ended_key("dead", tenant), eduai_queue_ended_key("cancelled", tenant),
		eduai_queue_ended_key("uncertain", tenant), eduai_queue_ended_key("expired", tenant)};
	Datum args[6] = {
		CStringGetTextDatum(tenant),    TimestampTzGetDatum(cursor->finished_at),
		Int64GetDatum(cursor->task_id), task_type,
		Int64GetDatum(REDRIVE_BATCH),   eduai_core_int8_array(keys, NULL, lengthof(keys))};
	int n = (int) eduai_core_run(&next, args, any_type ? "   n  " : "      ");
	bool isnull;

	for (int i = 0; i < n; i++)
		ids[i] = eduai_core_int64(i, 1, 0);
	if (n > 0)
	{
		cursor->task_id = ids[n - 1];
		cursor->finished_at = DatumGetTimestampTz(eduai_core_value(n - 1, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

static int64
redrive(const char *tenant, Datum task_type, bool any_type, TimestampTz since)
{
	MemoryContext batch_context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai redrive", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(batch_context);
	Cursor cursor = {since, PG_INT64_MIN};
	int64 ids[REDRIVE_BATCH];
	int64 revived = 0;
	int n;

	do
	{
		n = next_batch(tenant, task_type, any_type, &cursor, ids);
		for (int i = 0; i < n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			revived += redrive_one(tenant, ids[i], i);
		}
		MemoryContextReset(batch_context);
	} while (n == REDRIVE_BATCH);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(batch_context);
	return revived;
}

Datum
eduai_redrive(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	Datum task_type = PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0);
	TimestampTz since = PG_ARGISNULL(1) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(1);
	EduaiPrivilege saved;
	int64 revived;

	eduai_core_require_preload("the queue");
	eduai_core_enter(&saved);
	SPI_connect();
	if (!PG_ARGISNULL(0))
		(void) eduai_queue_require_type(TextDatumGetCString(task_type));
	revived = redrive(tenant, task_type, PG_ARGISNULL(0), since);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT64(revived);
}
