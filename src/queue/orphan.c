/*
 * orphan.c: attempts that nobody will end.  See orphan.h.
 *
 * An entry of the running table is there before its row can be seen running and
 * until after it cannot, so a running row without one is nobody's.  What is found
 * may change before it is recorded: finish.h fences by attempt.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "core/clock.h"
#include "core/worker.h"
#include "queue/catalog.h"
#include "queue/orphan.h"
#include "queue/running_internal.h"
#include "queue/store_internal.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#define SLICE_US     20000
#define SLICE_BLOCKS 64  /* between two looks at the clock */
#define REST         100 /* times as long as it worked */

/* where the next slice begins, and when */
static BlockNumber next_block = 0;
static int64 rest_until_us = 0;

static void
put_orphan(const LiveTask *task, Orphan *o)
{
	o->task_id = task->task_id;
	o->tid = task->tuple->t_self;
	o->attempt = task->attempt;
	o->leased = task->lease_ms != 0;
	o->tenant = task->tenant;
	o->instance = task->instance;
	o->model = task->model;
	o->started_at = task->started_at;
}

int
eduai_queue_unleased(Unleased **found)
{
	int room = 64;
	int n = room;

	*found = NULL;
	/* nothing may be allocated under the lock */
	while (n >= room)
	{
		RunningEntry *entry;
		int at = 0;

		room = n + 64;
		if (*found != NULL)
			pfree(*found);
		*found = palloc(sizeof(Unleased) * room);
		n = 0;
		running_lock();
		while ((entry = eduai_queue_running_next(&at)) != NULL)
		{
			if (entry->lease_until_us != 0 || !entry->committed || entry->enders > 0)
				continue;
			if (n < room)
			{
				(*found)[n].task_id = entry->task_id;
				(*found)[n].attempt = entry->attempt;
				strlcpy((*found)[n].tenant, entry->tenant, NAMEDATALEN);
			}
			n++;
		}
		running_unlock();
	}
	return n;
}

int
eduai_queue_orphans(int most, Orphan **orphans)
{
	EduaiTasks *tasks = eduai_queue_tasks_open();
	Unleased *attempts;
	int n = eduai_queue_unleased(&attempts);
	int found = 0;

	*orphans = palloc(sizeof(Orphan) * most);
	for (int i = 0; i < n && found < most; i++)
	{
		LiveTask task;

		if (!eduai_queue_live_find(tasks, attempts[i].tenant, attempts[i].task_id, &task) ||
			task.attempt != attempts[i].attempt || strcmp(task.state, "running") != 0)
			/* its row was taken away by hand: the slot is free */
			eduai_queue_running_end(attempts[i].task_id, attempts[i].attempt);
		else if (task.lease_ms == 0 && task.worker != eduai_core_worker_epoch())
			put_orphan(&task, &(*orphans)[found++]);
	}
	eduai_queue_tasks_close(tasks);
	return found;
}

/* ---- the slow pass ---- */

static bool
is_forgotten(TupleTableSlot *slot)
{
	text *state;
	bool known;

	slot_getallattrs(slot);
	state = DatumGetTextPP(slot->tts_values[LIVE_STATE]);
	if (VARSIZE_ANY_EXHDR(state) != 7 || memcmp(VARDATA_ANY(state), "running", 7) != 0)
		return false;
	if (slot->tts_isnull[LIVE_LEASE_MS] && !slot->tts_isnull[LIVE_WORKER] &&
		DatumGetInt64(slot->tts_values[LIVE_WORKER]) == eduai_core_worker_epoch())
		return false;
	running_lock();
	known = eduai_queue_running_find(DatumGetInt64(slot->tts_values[LIVE_TASK_ID]),
									 DatumGetInt32(slot->tts_values[LIVE_ATTEMPT])) != NULL;
	running_unlock();
	/* a restore may not have come to its type yet, which says what follows */
	return !known &&
		   eduai_queue_type(TextDatumGetCString(slot->tts_values[LIVE_TASK_TYPE])) != NULL;
}

/* reads some blocks; the orphans found so far, at most "most" */
static int
read_blocks(EduaiTasks *tasks, BlockNumber blocks, int most, Orphan *orphans, int found)
{
	Relation rel = eduai_queue_tasks_table(tasks, TABLE_LIVE);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan_strat(rel, GetActiveSnapshot(), 0, NULL, true, false);

	heap_setscanlimits(scan, next_block, blocks);
	while (found < most && table_scan_getnextslot(scan, ForwardScanDirection, slot))
		if (is_forgotten(slot))
		{
			LiveTask task;

			eduai_queue_live_read(slot, &task);
			put_orphan(&task, &orphans[found++]);
		}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

int
eduai_queue_forgotten(int most, Orphan **orphans)
{
	int64 began_us = eduai_core_mono_us();
	EduaiTasks *tasks;
	BlockNumber end;
	int found = 0;

	if (began_us < rest_until_us)
		return 0;
	*orphans = palloc(sizeof(Orphan) * most);
	tasks = eduai_queue_tasks_open();
	end = RelationGetNumberOfBlocks(eduai_queue_tasks_table(tasks, TABLE_LIVE));
	if (next_block >= end)
		next_block = 0;
	while (next_block < end && found < most && eduai_core_mono_us() - began_us < SLICE_US)
	{
		BlockNumber blocks = Min(end - next_block, SLICE_BLOCKS);

		found = read_blocks(tasks, blocks, most, *orphans, found);
		/* those that there was no room for are found when they come round again */
		next_block += blocks;
	}
	eduai_queue_tasks_close(tasks);
	rest_until_us = began_us + REST * (eduai_core_mono_us() - began_us);
	return found;
}
