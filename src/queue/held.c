/*
 * held.c: putting held tasks back into their lanes.  See held.h.
 *
 * They are found by the hash of their key, which is what is known of a key that
 * became free.  Two keys of one hash: a task too many is put back, and taken out
 * again by the next claim.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "queue/held.h"
#include "queue/lane_internal.h"
#include "queue/running.h"
#include "queue/store.h"
#include "utils/snapmgr.h"

#define KEYS_AT_ONCE 1000

static EduaiTable held_table = {.name = "task_live", .index_name = "task_live_held"};

/* into its lane; false when somebody has the row */
static bool
put_back(EduaiTasks *tasks, LiveTask *task)
{
	LaneName name = {task->tenant, task->task_type, task->model, task->priority};
	int64 lane = eduai_queue_lane_hash(name.tenant, name.task_type, name.model, name.priority);
	LiveChange change = {0};

	eduai_queue_change_to(&change, LIVE_HELD, BoolGetDatum(false));
	eduai_queue_change_null(&change, LIVE_HELD_KEY);
	eduai_queue_change_to(&change, LIVE_LANE, Int64GetDatum(lane));
	if (eduai_queue_live_update(tasks, task, &change, false) != WRITE_DONE)
		return false;
	eduai_queue_lane_ready(&name, task->ready_key);
	CommandCounterIncrement();
	return true;
}

/* the oldest of those with this hash that nobody has */
static bool
release_one(EduaiTasks *tasks, EduaiScan *scan, int64 hash)
{
	ScanKeyData key;

	eduai_core_key_int8(&key, 1, BTEqualStrategyNumber, hash);
	eduai_core_scan_seek(scan, &key);
	while (eduai_core_scan_next(scan, ForwardScanDirection))
	{
		LiveTask task;

		if (!eduai_queue_lane_row_free(ExecFetchSlotHeapTuple(scan->slot, false, NULL)))
			continue;
		eduai_queue_live_read(scan->slot, &task);
		if (put_back(tasks, &task))
			return true;
	}
	return false;
}

int
eduai_queue_release_held(bool *more)
{
	uint64 hashes[KEYS_AT_ONCE];
	int n = eduai_queue_keys_freed(hashes, KEYS_AT_ONCE, more);
	int released = 0;
	EduaiTasks *tasks;
	EduaiScan scan;

	if (*more)
		released = eduai_queue_sweep_held();
	*more = *more || n == KEYS_AT_ONCE;
	if (n == 0)
		return released;
	tasks = eduai_queue_tasks_open();
	eduai_core_table_open(&scan, &held_table, SnapshotSelf, 1);
	for (int i = 0; i < n; i++)
		released += release_one(tasks, &scan, (int64) hashes[i]);
	eduai_core_scan_close(&scan);
	eduai_queue_tasks_close(tasks);
	return released;
}

/* the next hash above the last; *busy when its key is */
static bool
next_hash(EduaiTasks *tasks, EduaiScan *scan, int64 *hash, bool *busy)
{
	ScanKeyData key;
	LiveTask task;

	eduai_core_key_int8(&key, 1, BTGreaterStrategyNumber, *hash);
	eduai_core_scan_seek(scan, &key);
	if (!eduai_core_scan_next(scan, ForwardScanDirection))
		return false;
	*hash = DatumGetInt64(scan->slot->tts_values[LIVE_HELD_KEY]);
	eduai_queue_live_read(scan->slot, &task);
	*busy = eduai_queue_key_busy(task.tenant, task.concurrency_key);
	return true;
}

int
eduai_queue_sweep_held(void)
{
	static int64 last = PG_INT64_MIN; /* where the next call goes on */
	EduaiTasks *tasks = eduai_queue_tasks_open();
	EduaiScan scan;
	int released = 0;
	int seen = 0;
	bool busy;

	eduai_core_table_open(&scan, &held_table, SnapshotSelf, 1);
	while (seen < KEYS_AT_ONCE && next_hash(tasks, &scan, &last, &busy))
	{
		seen++;
		if (!busy)
			released += release_one(tasks, &scan, last);
	}
	if (seen < KEYS_AT_ONCE)
		last = PG_INT64_MIN;
	eduai_core_scan_close(&scan);
	eduai_queue_tasks_close(tasks);
	return released;
}
