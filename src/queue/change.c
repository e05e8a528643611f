/*
 * change.c: cancel_task().
 *
 * It writes the rows in the caller's transaction and takes effect at its commit,
 * when the dispatcher is told.
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
#include "queue/board.h"
#include "queue/change.h"
#include "queue/fresh.h"
#include "queue/lane.h"
#include "queue/queue.h"
#include "queue/quota.h"
#include "queue/running.h"
#include "queue/store.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_cancel_task);

/* the living task, ended; false when there is none; waits for whoever holds it */
static bool
cancel(const char *tenant, int64 task_id, LiveTask *task)
{
	EduaiTasks *tasks = eduai_queue_tasks_open();
	EndedRow end;
	WriteResult result = WRITE_MOVED;

	while (result == WRITE_MOVED && eduai_queue_live_take(tasks, tenant, task_id, task))
		result = eduai_queue_live_delete(tasks, task, true);
	if (result == WRITE_DONE)
	{
		eduai_queue_live_left(task);
		if (strcmp(task->state, "running") == 0)
			eduai_queue_running_end(task_id, task->attempt);
		eduai_queue_end_of_live(task, &end);
		end.state = "cancelled";
		end.finished_at = eduai_core_now();
		eduai_queue_end_insert(tasks, &end);
		CommandCounterIncrement();
	}
	eduai_queue_tasks_close(tasks);
	return result == WRITE_DONE;
}

bool
eduai_queue_cancel(const char *tenant, int64 task_id)
{
	LiveTask task;

	eduai_queue_running_load();
	if (!cancel(tenant, task_id, &task))
		return false;
	eduai_queue_quota_release(tenant, 1);
	eduai_queue_board_ended_here(tenant, task_id, ENDED_CANCELLED,
								 strcmp(task.state, "running") == 0 && task.lease_ms == 0, true);
	return true;
}

Datum
eduai_cancel_task(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	int64 task_id = PG_GETARG_INT64(0);
	EduaiPrivilege saved;
	bool ended;

	eduai_core_require_preload("the queue");
	eduai_core_enter(&saved);
	SPI_connect();
	ended = eduai_queue_cancel(tenant, task_id);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_BOOL(ended);
}
