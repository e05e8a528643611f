/*
 * fresh_sweep.c: what the dispatcher does for fresh tasks.  See fresh.h.
 *
 * Old ones get their rows, so that new ones find places, and so that fresh_from can
 * move on: it is the least id of those that have a place, as long as all ids were
 * drawn by enqueue().  When ids were drawn elsewhere (a restore sets the sequence),
 * fresh_from stays until the transactions of that time have ended and a load has
 * looked at what they wrote.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/plan.h"
#include "miscadmin.h"
#include "queue/fresh_internal.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/*
 * Tasks that a sweep gives rows to, some 10 us each: of those that wait for so long, and
 * when there is hardly room left.  A dispatcher that has more sweeps every 50 ms.
 */
#define SETTLE_SOME   500
#define SETTLE_MANY   2000
#define SETTLE_AGE_US INT64CONST(10000000)
#define MARK_LEAST_US 1000000 /* between two moves of fresh_from */
#define LOAD_REST     100     /* times as long as a load for unlisted tasks took */
#define TRIES         10

/* ---- the ids that were drawn ---- */

static int64
last_id(void)
{
	static EduaiPlan last = {
		"SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM eduai.task_id_seq",
		0};

	(void) eduai_core_run(&last, NULL, NULL);
	return eduai_core_int64(0, 1, 0);
}

/* The last id, and how many were drawn by then; false when one is always being drawn. */
static bool
read_drawn(LaneDatabase *db, int64 *last, uint64 *drawn)
{
	for (int i = 0; i < TRIES; i++)
	{
		*drawn = pg_atomic_read_u64(&db->drawing);
		if (*drawn != pg_atomic_read_u64(&db->drawn))
			continue;
		*last = last_id();
		pg_memory_barrier();
		if (*drawn == pg_atomic_read_u64(&db->drawing))
			return true;
	}
	return false;
}

static void
note_last(LaneDatabase *db, int64 id)
{
	uint64 last = pg_atomic_read_u64(&db->last_id);

	while (last < (uint64) id && !pg_atomic_compare_exchange_u64(&db->last_id, &last, (uint64) id))
		;
}

int64
eduai_queue_fresh_draw(Oid sequence)
{
	LaneDatabase *db = eduai_queue_lane_database();
	volatile int64 id = 0;

	pg_atomic_fetch_add_u64(&db->drawing, 1);
	PG_TRY();
	{
		id = nextval_internal(sequence, false);
	}
	PG_CATCH();
	{
		pg_atomic_fetch_sub_u64(&db->drawing, 1);
		PG_RE_THROW();
	}
	PG_END_TRY();
	note_last(db, id);
	pg_atomic_fetch_add_u64(&db->drawn, 1);
	return id;
}

static void
load_again(LaneDatabase *db)
{
	db->moved = true;
	(void) eduai_queue_lane_discover();
}

/* Were ids drawn by others than enqueue(), and is what they did with them not over? */
static bool
drawn_elsewhere(LaneDatabase *db, int64 last, uint64 drawn)
{
	if (db->jump_xid == 0 && last - db->counted_from <= (int64) (drawn - db->drawn_base))
		return false;
	if (db->jump_xid == 0)
		db->jump_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
	if (TransactionIdPrecedes(GetLatestSnapshot()->xmin, (TransactionId) db->jump_xid))
		return true;
	db->jump_xid = 0;
	db->counted_from = last;
	db->drawn_base = drawn;
	load_again(db);
	return true;
}

/* ---- rows for the old ---- */

typedef struct Old
{
	int lane;
	int place;
	int64 key;
	int64 task_id;
} Old;

/* with ids or keys below these, wherever they stand */
static int
find_old(int64 below_id, int64 below_key, Old *old, int wanted)
{
	static int hand = 0;
	int most = eduai_queue_fresh_most;
	int n = 0;

	for (int i = 0; i < most && n < wanted; i++)
	{
		const FreshPlace *t = &eduai_queue_fresh->tasks[hand];

		/* a hint: it is looked at again when it is seized */
		old[n] = (Old){t->lane, hand, t->key, t->task_id};
		if (t->state == FRESH_READY && old[n].task_id > 0 &&
			(old[n].task_id < below_id || old[n].key < below_key) &&
			eduai_queue_lanes->lanes[old[n].lane].database == MyDatabaseId)
			n++;
		hand = (hand + 1) % most;
	}
	return n;
}

static int
compare_old(const void *a, const void *b)
{
	const Old *x = a;
	const Old *y = b;

	if (x->lane != y->lane)
		return x->lane < y->lane ? -1 : 1;
	return (x->key > y->key) - (x->key < y->key);
}

static void
write_old(EduaiTasks *tasks, const Old *old)
{
	const FreshPlace *t = &eduai_queue_fresh->tasks[old->place];
	TransactionId owner;
	FreshState state;
	LiveTask task;

	if (!eduai_queue_fresh_try(old->place, old->task_id, &owner, &state))
		return;
	if (eduai_queue_request_live(tasks, &t->request, old->task_id, &task))
		eduai_queue_fresh_write(tasks, &task, t->key);
	else
	{
		eduai_queue_fresh_give_back(old->place);
		eduai_queue_fresh_moved();
	}
}

/* True when there may be more. */
static bool
settle_old(int64 last)
{
	int most = eduai_queue_fresh_most;
	bool tight = eduai_queue_fresh->used > most - most / 4;
	int wanted = tight ? SETTLE_MANY : SETTLE_SOME;
	int64 below_key = (eduai_queue_steady_us() - SETTLE_AGE_US) * EDUAI_LANE_KEY_STEP;
	MemoryContext row;
	EduaiTasks *tasks;
	Old *old;
	int n;

	if (eduai_queue_fresh->used == 0)
		return false;
	old = palloc(sizeof(Old) * (wanted + 1));
	n = find_old(tight ? last - most / 2 : 0, below_key, old, wanted);
	if (n == 0)
		return false;
	/* in the order of the index, and so that those of a lane are announced as one range */
	qsort(old, n, sizeof(Old), compare_old);
	row = AllocSetContextCreate(CurrentMemoryContext, "eduai fresh row", ALLOCSET_DEFAULT_SIZES);
	tasks = eduai_queue_tasks_open();
	for (int i = 0; i < n; i++)
	{
		MemoryContext before = MemoryContextSwitchTo(row);

		write_old(tasks, &old[i]);
		MemoryContextSwitchTo(before);
		MemoryContextReset(row);
	}
	eduai_queue_tasks_close(tasks);
	MemoryContextDelete(row);
	pfree(old);
	CommandCounterIncrement();
	return n == wanted;
}

/* ---- fresh_from ---- */

/* the least id that has a place, or may come to one that is reserved */
static int64
least_id(int64 last)
{
	int64 least = last + 1;

	pg_memory_barrier();
	for (int place = 0; place < eduai_queue_fresh_most; place++)
	{
		const FreshPlace *t = &eduai_queue_fresh->tasks[place];
		int64 task_id = t->task_id;

		if (task_id != 0 && eduai_queue_lanes->lanes[t->lane].database == MyDatabaseId)
			least = Min(least, Abs(task_id));
	}
	return least;
}

static void
write_from(int64 from)
{
	static EduaiPlan update = {
		"UPDATE eduai.fresh_from SET task_id = $1 WHERE task_id <> $1", 1, {INT8OID}};
	static EduaiPlan insert = {
		"INSERT INTO eduai.fresh_from SELECT $1 WHERE NOT EXISTS (SELECT FROM eduai.fresh_from)",
		1,
		{INT8OID}};
	Datum args[1] = {Int64GetDatum(from)};

	if (eduai_core_run_latest(&update, args, NULL) == 0)
		(void) eduai_core_run_latest(&insert, args, NULL);
}

static void
advance(LaneDatabase *db)
{
	static int64 next_us = 0;
	static int64 written = 0;
	int64 now_us = eduai_core_mono_us();
	int64 last;
	int64 least;
	uint64 drawn;

	if (now_us < next_us || !read_drawn(db, &last, &drawn) || drawn_elsewhere(db, last, drawn) ||
		db->moved || db->unlisted)
		return;
	least = least_id(last);
	if (least == written)
		return;
	write_from(least);
	written = least;
	next_us = now_us + MARK_LEAST_US;
}

bool
eduai_queue_fresh_sweep(void)
{
	static int64 load_at_us = 0;
	LaneDatabase *db = eduai_queue_lane_discover();
	int64 began_us = eduai_core_mono_us();
	bool more;

	if (eduai_queue_fresh == NULL)
		return false;
	eduai_queue_fresh_settle_prepared();
	more = settle_old(last_id());
	if (db->unlisted && began_us >= load_at_us)
	{
		load_again(db);
		load_at_us = began_us + LOAD_REST * (eduai_core_mono_us() - began_us);
	}
	advance(db);
	return more;
}

void
eduai_queue_fresh_count_drawn(LaneDatabase *db)
{
	int64 last;
	uint64 drawn;

	/* else it is taken for a jump */
	if (read_drawn(db, &last, &drawn))
	{
		db->counted_from = last;
		db->drawn_base = drawn;
		note_last(db, last);
	}
}
