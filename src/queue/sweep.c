/*
 * sweep.c: due, expired, orphaned and superseded tasks.  See sweep.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/worker.h"
#include "queue/board.h"
#include "queue/dependency.h"
#include "queue/finish_internal.h"
#include "queue/lane.h"
#include "queue/quota.h"
#include "queue/status.h"
#include "queue/sweep.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* so many at a time that no transaction grows long; the rest comes next turn */
#define SWEEP_BATCH "1000"

/* times as long as a look for expired tasks took that found none */
#define EXPIRE_REST 100

WriteResult
eduai_queue_try_ready(EduaiTasks *tasks, LiveTask *task, TimestampTz run_at, LiveChange *change,
					  bool wait)
{
	TimestampTz now = eduai_core_now();
	WriteResult result;

	/* one that was let go by its parents may have to wait for its time */
	if (run_at > now && !task->backoff)
	{
		eduai_queue_change_text(change, LIVE_STATE, "scheduled");
		eduai_queue_change_to(change, LIVE_DUE_AT, TimestampTzGetDatum(run_at));
		return eduai_queue_live_update(tasks, task, change, wait);
	}
	task->lane = eduai_queue_lane_hash(task->tenant, task->task_type, task->model, task->priority);
	task->ready_key = eduai_queue_lane_key(0);
	eduai_queue_change_text(change, LIVE_STATE, "ready");
	eduai_queue_change_to(change, LIVE_LANE, Int64GetDatum(task->lane));
	eduai_queue_change_to(change, LIVE_READY_KEY, Int64GetDatum(task->ready_key));
	if (!change->replace[LIVE_RUN_AT])
		eduai_queue_change_to(change, LIVE_RUN_AT, TimestampTzGetDatum(Max(run_at, now)));
	eduai_queue_change_null(change, LIVE_DUE_AT);
	eduai_queue_change_to(change, LIVE_BACKOFF, BoolGetDatum(false));
	eduai_queue_change_to(change, LIVE_HELD, BoolGetDatum(false));
	eduai_queue_change_to(change, LIVE_UNPLACED, BoolGetDatum(false));
	eduai_queue_change_null(change, LIVE_HELD_KEY);
	result = eduai_queue_live_update(tasks, task, change, wait);
	if (result == WRITE_DONE)
		eduai_queue_live_announce(task);
	return result;
}

bool
eduai_queue_make_ready(EduaiTasks *tasks, LiveTask *task, TimestampTz run_at, LiveChange *change)
{
	return eduai_queue_try_ready(tasks, task, run_at, change, false) == WRITE_DONE;
}

/* tasks as the rows of the last statement name them: tenant, id */
static int
read_names(uint64 n, char ***tenants, int64 **ids)
{
	*tenants = palloc(sizeof(char *) * Max(n, 1));
	*ids = palloc(sizeof(int64) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		(*tenants)[i] = eduai_core_text(i, 1);
		(*ids)[i] = eduai_core_int64(i, 2, 0);
	}
	return (int) n;
}

int
eduai_queue_expire(void)
{
	static EduaiPlan over = {
		"SELECT tenant_id, task_id FROM eduai.task_live "
		"WHERE expires_at IS NOT NULL AND expires_at <= $1 AND state <> 'running' "
		"ORDER BY expires_at LIMIT " SWEEP_BATCH,
		1,
		{TIMESTAMPTZOID}};
	static int64 rest_until_us = 0;
	TimestampTz now = eduai_core_now();
	Datum args[1] = {TimestampTzGetDatum(now)};
	EndedParent *parents;
	EduaiTasks *tasks;
	char **tenants;
	int64 *ids;
	int64 began_us = eduai_core_mono_us();
	int ended = 0;
	int n;

	if (began_us < rest_until_us)
		return 0;
	n = read_names(eduai_core_run(&over, args, NULL), &tenants, &ids);
	/* while a snapshot is held, entries of tasks long gone are passed each time */
	rest_until_us = n > 0 ? 0 : began_us + EXPIRE_REST * (eduai_core_mono_us() - began_us);
	if (n == 0)
		return 0;
	parents = palloc(sizeof(EndedParent) * n);
	tasks = eduai_queue_tasks_open();
	for (int i = 0; i < n; i++)
	{
		LiveTask task;
		EndedRow end;

		if (!eduai_queue_live_find(tasks, tenants[i], ids[i], &task) ||
			strcmp(task.state, "running") == 0 ||
			eduai_queue_live_delete(tasks, &task, false) != WRITE_DONE)
			continue;
		eduai_queue_live_left(&task);
		eduai_queue_end_of_live(&task, &end);
		end.state = "expired";
		end.finished_at = now;
		eduai_queue_end_insert(tasks, &end);
		eduai_queue_quota_release(tenants[i], 1);
		eduai_queue_board_ended(ids[i]);
		eduai_queue_notify(tenants[i], ids[i], "expired");
		parents[ended++] = (EndedParent){tenants[i], ids[i], false};
	}
	eduai_queue_tasks_close(tasks);
	CommandCounterIncrement();
	eduai_queue_release_children(parents, ended);
	return ended;
}

int
eduai_queue_superseded(char *const *tenants, const int64 *task_ids, const int *attempts, int n,
					   int *indexes)
{
	static EduaiPlan running = {
		"SELECT o.ord FROM unnest($1, $2, $3) WITH ORDINALITY o (tenant_id, task_id, attempt, ord) "
		"CROSS JOIN LATERAL (SELECT FROM eduai.task_live t WHERE t.tenant_id = o.tenant_id "
		"AND t.task_id = o.task_id AND t.attempt = o.attempt AND t.state = 'running' OFFSET 0) t",
		3,
		{TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID}};
	Datum args[3] = {eduai_core_text_array(tenants, n), eduai_core_int8_array(task_ids, NULL, n),
					 eduai_core_int4_array(attempts, NULL, n)};
	bool *alive = palloc0(sizeof(bool) * Max(n, 1));
	uint64 got = eduai_core_run(&running, args, NULL);
	int gone = 0;

	for (uint64 i = 0; i < got; i++)
		alive[eduai_core_int64(i, 1, 1) - 1] = true;
	for (int i = 0; i < n; i++)
		if (!alive[i])
			indexes[gone++] = i;
	return gone;
}
