/*
 * claim_fresh.c: taking a lane's fresh tasks (fresh.h).
 *
 * Nobody else can have a task that was taken, so its row is written as started without
 * a look for another; what does not start goes back to its place.
 */
#include "postgres.h"

#include "access/xact.h"
#include "queue/claim_internal.h"
#include "queue/fresh.h"
#include "utils/memutils.h"

#define AT_ONCE 64 /* tasks that are taken before the first is looked at */

void
eduai_queue_claim_write_fresh(Claim *c, LiveTask *live)
{
	if (live->tuple != NULL)
		return;
	live->in_lane = true;
	live->lane = eduai_queue_lane_hash(live->tenant, live->task_type, live->model, live->priority);
	eduai_queue_live_write(c->tasks, live);
	/* if it stays so */
	eduai_queue_live_announce(live);
	CommandCounterIncrement();
}

/* false: it went back to its place */
static bool
try_task(LaneScan *s, const FreshTask *task)
{
	LiveTask live;
	RowEnd end;

	if (!eduai_queue_request_live(s->claim->tasks, &task->request, task->task_id, &live))
	{
		eduai_queue_fresh_moved();
		s->over = true;
		return false;
	}
	live.fresh = true;
	live.ready_key = task->key;
	end = eduai_queue_claim_start(s->claim, s->pool, &live);
	/* passed, and nothing was written: it is not to be had in this claim */
	if (end == ROW_PASSED && live.tuple == NULL)
		s->over = true;
	return eduai_queue_claim_look(s, end, task->key) && live.tuple != NULL;
}

void
eduai_queue_claim_fresh(LaneScan *s, const LaneView *view, int64 before)
{
	FreshTask tasks[AT_ONCE];
	int most = Min(s->most - s->took, AT_ONCE);
	int n = eduai_queue_fresh_take(view->lane, view->hash, before, tasks, most);
	int i = 0;

	for (bool taken = true; i < n && taken; i += taken)
	{
		MemoryContext old = MemoryContextSwitchTo(s->claim->row);

		taken = try_task(s, &tasks[i]);
		MemoryContextSwitchTo(old);
		MemoryContextReset(s->claim->row);
	}
	/* the last first: each is the lane's oldest then */
	while (n > i)
		eduai_queue_fresh_give_back(tasks[--n].place);
	CommandCounterIncrement();
}
