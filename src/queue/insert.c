/*
 * insert.c: a checked request becomes the rows of a task.  See enqueue.h.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "core/json.h"
#include "core/privilege.h"
#include "queue/board.h"
#include "queue/dependency.h"
#include "queue/enqueue.h"
#include "queue/fresh.h"
#include "queue/lane.h"
#include "queue/quota.h"
#include "queue/store.h"
#include "utils/lsyscache.h"

static int64
next_id(void)
{
	static Oid sequence = InvalidOid;
	static Oid installation = InvalidOid;

	if (installation != eduai_core_installation())
	{
		sequence = get_relname_relid("task_id_seq", eduai_core_schema());
		installation = eduai_core_installation();
	}
	return eduai_queue_fresh_draw(sequence);
}

static void
insert_live(EduaiTasks *tasks, const TaskRequest *task, int64 task_id, ItemPointer request,
			int64 ready_key)
{
	LiveTask live;

	eduai_queue_live_of_request(task, task_id, &live);
	live.request = *request;
	live.in_lane = strcmp(task->state, "ready") == 0;
	if (live.in_lane)
	{
		live.lane =
			eduai_queue_lane_hash(task->tenant, task->type.name, task->model, task->priority);
		live.ready_key = ready_key;
	}
	if (strcmp(task->state, "scheduled") == 0)
		live.due_at = task->run_at;
	eduai_queue_live_insert(tasks, &live);
	if (live.in_lane)
		eduai_queue_live_announce(&live);
}

/* a parent of it failed before: as if it had failed a moment later */
static void
insert_dead(EduaiTasks *tasks, const TaskRequest *task, int64 task_id)
{
	EndedRow end = {.tenant = task->tenant,
					.task_id = task_id,
					.task_type = task->type.name,
					.priority = task->priority,
					.state = "dead",
					.run_at = task->run_at,
					.finished_at = task->now,
					.error = eduai_queue_parent_failed()};

	eduai_queue_end_insert(tasks, &end);
	eduai_queue_quota_release(task->tenant, 1);
	eduai_queue_board_ended_here(task->tenant, task_id, ENDED_DEAD, false, false);
}

int64
eduai_queue_insert(EduaiTasks *tasks, const TaskRequest *task, int nth)
{
	LaneName lane = {task->tenant, task->type.name, task->model, task->priority};
	int64 ready_key = eduai_queue_lane_key(nth);
	int fresh = eduai_queue_fresh_reserve(task, &lane, ready_key);
	int64 id = next_id();
	ItemPointerData request;

	eduai_queue_request_insert(tasks, task, id, &request);
	if (fresh != FRESH_NONE)
		eduai_queue_fresh_born(fresh, id, &request);
	else if (strcmp(task->state, "dead") == 0)
		insert_dead(tasks, task, id);
	else
		insert_live(tasks, task, id, &request, ready_key);
	return id;
}
