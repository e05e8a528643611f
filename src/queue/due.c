/*
 * due.c: tasks that become ready at a time.  See due.h.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "core/clock.h"
#include "core/heap.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "miscadmin.h"
#include "queue/due.h"
#include "queue/lane.h"
#include "queue/queue.h"
#include "queue/store_internal.h"
#include "queue/sweep.h"
#include "storage/spin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define DUE_BATCH     1000 /* so that no transaction grows long */
#define DUE_DATABASES 64
#define HELD_MS       50  /* a due task that somebody holds must not make a busy loop */
#define REST          100 /* times as long as a look from the beginning took */

/* the clocks; also the values of task_live.backoff */
enum
{
	WALL,
	STEADY,
	CLOCKS
};

/* PG_INT64_MIN: look from the beginning */
typedef struct DuePlace
{
	Oid database;
	int64 earliest[CLOCKS];
} DuePlace;

typedef struct DueShared
{
	slock_t mutex; /* guards all of it */
	int hand;      /* the place that is taken next when none is free */
	DuePlace places[DUE_DATABASES];
} DueShared;

/* What the dispatcher knows of a clock; a time is PG_INT64_MAX for none. */
typedef struct DueClock
{
	int64 next; /* no task is due before; below it the index is not read */
	bool held;  /* the task at "next" was due, but somebody held its row */
} DueClock;

static DueShared *shared = NULL;

/* of this transaction */
static int64 announced[CLOCKS] = {PG_INT64_MAX, PG_INT64_MAX};

/* of the dispatcher */
static DueClock clocks[CLOCKS] = {{.next = PG_INT64_MIN}, {.next = PG_INT64_MIN}};
static bool dispatching = false;
static bool looked = false;        /* in this transaction */
static int64 steady_offset_us = 0; /* of the steady clock from the monotonic one */
static int64 rest_until_us = 0;

/* ---- shared memory ---- */

static Size
due_size(void)
{
	return sizeof(DueShared);
}

static void
due_shmem_init(void *ptr)
{
	DueShared *s = ptr;

	memset(s, 0, sizeof(*s));
	SpinLockInit(&s->mutex);
}

/* This database's place, with the mutex held; NULL: it has none, so all is looked at anyway. */
static DuePlace *
find_place(void)
{
	for (int i = 0; i < DUE_DATABASES; i++)
		if (shared->places[i].database == MyDatabaseId)
			return &shared->places[i];
	return NULL;
}

static DuePlace *
make_place(void)
{
	DuePlace *place = find_place();

	if (place != NULL)
		return place;
	place = &shared->places[shared->hand];
	shared->hand = (shared->hand + 1) % DUE_DATABASES;
	place->database = MyDatabaseId;
	for (int clock = 0; clock < CLOCKS; clock++)
		place->earliest[clock] = PG_INT64_MIN;
	return place;
}

/* takes what was announced since the last time */
static void
take_announced(void)
{
	DuePlace *place;

	SpinLockAcquire(&shared->mutex);
	place = make_place();
	for (int clock = 0; clock < CLOCKS; clock++)
	{
		clocks[clock].next = Min(clocks[clock].next, place->earliest[clock]);
		place->earliest[clock] = PG_INT64_MAX;
	}
	SpinLockRelease(&shared->mutex);
}

/* ---- the transaction ---- */

static void
forget(void)
{
	for (int clock = 0; clock < CLOCKS; clock++)
		announced[clock] = PG_INT64_MAX;
	looked = false;
}

static void
on_commit(void)
{
	if (announced[WALL] != PG_INT64_MAX || announced[STEADY] != PG_INT64_MAX)
	{
		DuePlace *place;

		SpinLockAcquire(&shared->mutex);
		place = find_place();
		for (int clock = 0; place != NULL && clock < CLOCKS; clock++)
			place->earliest[clock] = Min(place->earliest[clock], announced[clock]);
		SpinLockRelease(&shared->mutex);
		for (int clock = 0; clock < CLOCKS; clock++)
			clocks[clock].next = Min(clocks[clock].next, announced[clock]);
		if (!dispatching)
			eduai_queue_wake_now();
	}
	forget();
}

/* what was woken is not: a look at the index tells */
static void
on_abort(void)
{
	if (looked)
		for (int clock = 0; clock < CLOCKS; clock++)
			clocks[clock].next = PG_INT64_MIN;
	forget();
}

void
eduai_queue_due_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_due",
										.size = due_size,
										.init = due_shmem_init,
										.address = (void **) &shared};
	static const EduaiXactHooks hooks = {.name = "due",
										 .rank = EDUAI_RANK_QUEUE,
										 .commit = on_commit,
										 .abort = on_abort,
										 .prepare = forget};

	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
}

void
eduai_queue_due_at(TimestampTz due_at, bool backoff)
{
	int clock = backoff ? STEADY : WALL;

	if (shared != NULL)
		announced[clock] = Min(announced[clock], due_at);
}

/* ---- the dispatcher ---- */

static int64
now_of(int clock)
{
	return clock == WALL ? eduai_core_now() : eduai_core_mono_us() + steady_offset_us;
}

/* false when somebody holds the row */
static bool
wake(EduaiTasks *tasks, TupleTableSlot *slot)
{
	LiveTask task;
	LiveChange change = {0};

	eduai_queue_live_read(slot, &task);
	return eduai_queue_make_ready(tasks, &task, task.backoff ? eduai_core_now() : task.run_at,
								  &change);
}

/* Reads the index from clocks[clock].next on, and sets that anew. */
static int
wake_clock(EduaiTasks *tasks, int clock, int64 now)
{
	EduaiScan scan;
	ScanKeyData keys[2];
	int64 next = PG_INT64_MAX;
	int woken = 0;
	int read = 0;

	clocks[clock].held = false;
	eduai_core_scan_begin(&scan, eduai_queue_tasks_table(tasks, TABLE_LIVE),
						  eduai_queue_tasks_index(tasks, LIVE_BY_DUE), SnapshotSelf, 2);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_BOOLEQ, BoolGetDatum(clock == STEADY));
	eduai_core_key_int8(&keys[1], 2, BTGreaterEqualStrategyNumber, clocks[clock].next);
	eduai_core_scan_seek(&scan, keys);
	while (eduai_core_scan_next(&scan, ForwardScanDirection))
	{
		int64 due = DatumGetTimestampTz(scan.slot->tts_values[LIVE_DUE_AT]);

		if (due > now || read++ == DUE_BATCH)
		{
			next = Min(next, due);
			break;
		}
		if (wake(tasks, scan.slot))
			woken++;
		else
		{
			clocks[clock].held = true;
			next = Min(next, due);
		}
	}
	eduai_core_scan_close(&scan);
	clocks[clock].next = next;
	return woken;
}

int
eduai_queue_wake_due(void)
{
	EduaiTasks *tasks = NULL;
	int woken = 0;

	dispatching = true;
	steady_offset_us = eduai_queue_steady_us() - eduai_core_mono_us();
	take_announced();
	for (int clock = 0; clock < CLOCKS; clock++)
	{
		int64 now = clocks[clock].next == PG_INT64_MAX ? 0 : now_of(clock);
		bool from_start = clocks[clock].next == PG_INT64_MIN;
		int64 began_us;

		if (clocks[clock].next > now)
			continue;
		looked = true;
		if (tasks == NULL)
			tasks = eduai_queue_tasks_open();
		began_us = eduai_core_mono_us();
		woken += wake_clock(tasks, clock, now);
		if (from_start)
			rest_until_us =
				Max(rest_until_us, eduai_core_mono_us() + REST * (eduai_core_mono_us() - began_us));
	}
	if (tasks != NULL)
	{
		eduai_queue_tasks_close(tasks);
		CommandCounterIncrement();
	}
	return woken;
}

int64
eduai_queue_next_due_ms(void)
{
	int64 ms = -1;

	for (int clock = 0; clock < CLOCKS; clock++)
	{
		int64 left;

		if (clocks[clock].next == PG_INT64_MAX)
			continue;
		left = (clocks[clock].next - now_of(clock)) / 1000 + 1;
		if (clocks[clock].next == PG_INT64_MIN || left < 0)
			left = 0;
		if (clocks[clock].held)
			left = Max(left, HELD_MS);
		ms = ms < 0 ? left : Min(ms, left);
	}
	return ms;
}

void
eduai_queue_due_recheck(void)
{
	if (eduai_core_mono_us() < rest_until_us)
		return;
	for (int clock = 0; clock < CLOCKS; clock++)
		clocks[clock].next = PG_INT64_MIN;
}
