/*
 * change.c: cancel_task() and retry_task(): what people do to tasks.
 *
 * Both write the row in the caller's transaction and take effect at its
 * commit, when the dispatcher is told.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "queue/board.h"
#include "queue/queue.h"
#include "queue/quota.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_cancel_task);
PG_FUNCTION_INFO_V1(eduai_retry_task);

Datum
eduai_cancel_task(PG_FUNCTION_ARGS)
{
	static EduaiPlan cancel = {"UPDATE eduai.task SET state = 'cancelled', finished_at = $3 "
							   "WHERE tenant_id = $1 AND task_id = $2 "
							   "AND state IN ('waiting', 'scheduled', 'ready', 'running')",
							   3,
							   {TEXTOID, INT8OID, TIMESTAMPTZOID}};
	char *tenant = eduai_core_tenant();
	int64 task_id = PG_GETARG_INT64(0);
	Datum args[3] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id),
					 TimestampTzGetDatum(eduai_core_now())};
	EduaiPrivilege saved;
	uint64 n;

	eduai_core_require_preload("the queue");
	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_core_run(&cancel, args, NULL);
	if (n > 0)
	{
		eduai_queue_quota_release(tenant, 1);
		eduai_queue_board_ended_here(tenant, task_id);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_BOOL(n > 0);
}

/* as enqueue() does, so that neither meets the other's uncommitted task */
static void
lock_unique_key(const char *tenant, Datum *args)
{
	static EduaiPlan find = {"SELECT unique_key FROM eduai.task WHERE tenant_id = $1 "
							 "AND task_id = $2 AND unique_key IS NOT NULL",
							 2,
							 {TEXTOID, INT8OID}};

	if (eduai_core_run_latest(&find, args, NULL) > 0)
		(void) eduai_core_lock(EDUAI_LOCK_UNIQUE_KEY,
							   eduai_core_lock_key(tenant, eduai_core_text(0, 1)), false);
}

Datum
eduai_retry_task(PG_FUNCTION_ARGS)
{
	/* attempts go on counting, so that a late answer of an old one is still refused */
	static EduaiPlan retry = {
		"UPDATE eduai.task SET state = 'ready', finished_at = NULL, "
		"attempt_base = attempt, "
		"run_at = $3, deadline = $3 + (ARRAY[1, 5, 30, 300])[priority + 1] * interval '1 s', "
		"expires_at = NULL, result = NULL "
		"WHERE tenant_id = $1 AND task_id = $2 "
		"AND state IN ('dead', 'cancelled', 'uncertain', 'expired')",
		3,
		{TEXTOID, INT8OID, TIMESTAMPTZOID}};
	char *tenant = eduai_core_tenant();
	Datum args[3] = {CStringGetTextDatum(tenant), PG_GETARG_DATUM(0),
					 TimestampTzGetDatum(eduai_core_now())};
	EduaiPrivilege saved;
	uint64 n;

	eduai_core_require_preload("the queue");
	eduai_core_enter(&saved);
	SPI_connect();
	lock_unique_key(tenant, args);
	n = eduai_core_run(&retry, args, NULL);
	if (n > 0)
	{
		(void) eduai_queue_quota_reserve(tenant, 1, 0);
		eduai_queue_wake_at_commit();
	}
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_BOOL(n > 0);
}
