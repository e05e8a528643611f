/*
 * fresh_settle.c: fresh tasks get their rows without being started.  See fresh.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "miscadmin.h"
#include "queue/fresh_internal.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"

void
eduai_queue_fresh_write(EduaiTasks *tasks, LiveTask *task, int64 key)
{
	task->in_lane = true;
	task->lane = eduai_queue_lane_hash(task->tenant, task->task_type, task->model, task->priority);
	task->ready_key = key;
	eduai_queue_live_write(tasks, task);
	eduai_queue_lane_ready_among(
		&(LaneName){task->tenant, task->task_type, task->model, task->priority}, key);
}

/* ---- one task ---- */

typedef enum Seizure
{
	SEIZED,
	SEIZE_AGAIN, /* after a wait: what it is may have changed */
	SEIZE_NONE,  /* it has no place */
	SEIZE_OWN    /* this transaction has it in its hands, without a row */
} Seizure;

static void
write_place(EduaiTasks *tasks, int place, const ItemPointerData *request, int64 task_id)
{
	LiveTask task;

	if (!eduai_queue_request_live(tasks, request, task_id, &task))
		elog(ERROR, "the request of task %lld has moved", (long long) task_id);
	eduai_queue_fresh_write(tasks, &task, eduai_queue_fresh->tasks[place].key);
	CommandCounterIncrement();
}

static Seizure
seize(EduaiTasks *tasks, int64 task_id, const ItemPointerData *request)
{
	int place = eduai_queue_fresh_find(task_id);
	TransactionId owner;
	FreshState state;

	if (place == FRESH_NONE)
		return SEIZE_NONE;
	if (eduai_queue_fresh_try(place, task_id, &owner, &state))
	{
		write_place(tasks, place, request, task_id);
		return SEIZED;
	}
	if (state == FRESH_FREE || state == FRESH_RESERVED || state == FRESH_READY)
		return SEIZE_AGAIN; /* it changes at this moment */
	if (TransactionIdIsCurrentTransactionId(owner))
	{
		if (state != FRESH_BORN)
			return SEIZE_OWN;
		eduai_queue_fresh_write_own(place);
		write_place(tasks, place, request, task_id);
		return SEIZED;
	}
	XactLockTableWait(owner, NULL, NULL, XLTW_None);
	eduai_queue_fresh_settle_prepared();
	return SEIZE_AGAIN;
}

/*
 * A task that has no place though it is fresh: there was none free when it was found.
 * While this transaction lasts nobody lists it (fresh_load.c).
 */
static void
write_unlisted(EduaiTasks *tasks, int64 task_id, const ItemPointerData *request)
{
	LiveTask task;

	if (!eduai_queue_request_live(tasks, request, task_id, &task))
		return;
	eduai_queue_fresh_write(tasks, &task, eduai_queue_lane_key(0));
	CommandCounterIncrement();
}

bool
eduai_queue_live_take(EduaiTasks *tasks, const char *tenant, int64 task_id, LiveTask *task)
{
	int looks = 0;

	if (eduai_queue_fresh != NULL)
		(void) eduai_queue_lane_discover();
	for (;;)
	{
		ItemPointerData request;
		Seizure seizure;

		CHECK_FOR_INTERRUPTS();
		if (eduai_queue_live_find(tasks, tenant, task_id, task))
			return true;
		if (eduai_queue_fresh == NULL || !eduai_queue_requested(tasks, tenant, task_id, &request) ||
			eduai_queue_end_state(tasks, tenant, task_id) != NULL)
			return false;
		seizure = seize(tasks, task_id, &request);
		if (seizure == SEIZE_OWN)
			return false;
		if (seizure != SEIZE_NONE)
			continue;
		/* each look is at another moment: it may have been started, or ended, between two */
		if (looks++ == 0)
			eduai_queue_fresh_lock_listing();
		else if (looks > 2)
			return false;
		else
			write_unlisted(tasks, task_id, &request);
	}
}
