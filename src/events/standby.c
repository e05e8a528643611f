/*
 * standby.c: the safe mark, written where a standby can see it.
 *
 * A reader of a standby has no counter to ask.  It may read up to the greatest
 * mark that its snapshot shows, in order rows and in eduai.event_mark.  An
 * order row carries the mark as it was when its positions were drawn, which
 * is below them: when appends pause, the last transactions' events are above
 * every mark.  So a chore of the projector stores the mark itself.
 *
 * Why a stored mark is safe: every transaction with positions up to it wrote
 * its commit record before its range was settled, so before the mark was
 * read, so before the record that commits the mark.  A standby that shows the
 * mark has replayed them all.
 *
 * The chore writes only when the mark has moved: at most every 100 ms while a
 * standby streams from here; else every 10 s, so that a standby that comes
 * later, or is fed from an archive, is not kept waiting for the next append;
 * and never where wal_level rules out standbys.
 *
 * standby_due of the database's slot says that the chore will look without
 * being woken.  The one whose settling finds it 0 sets it and wakes the
 * projector, so that a burst of commits wakes it once.  The chore clears it,
 * then reads the mark, and sets it again while it keeps looking by itself.  Both sides put a full barrier
 * between their write and their read, so that one of them sees the other.
 *
 * Once an hour the chore asks for the mark in the way that starts the counter,
 * which finds what came without an append: a restored dump.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/heap.h"
#include "core/pause.h"
#include "core/plan.h"
#include "events/position.h"
#include "events/projector.h"
#include "events/shared.h"
#include "events/standby.h"
#include "executor/tuptable.h"
#include "port/atomics.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"

#define STREAMING_PERIOD_MS 100
#define OTHER_PERIOD_MS     10000
#define LOOK_MS             1000 /* for a standby that has come meanwhile */
#define FULL_LOOK_MS        3600000

#define MARK_COLUMN 2 /* of eduai.event_mark */

/* in a projector */
static int64 stored = -1; /* the mark in the table; -1: not known */
static int64 seen;        /* the mark as it was last read */
static int64 written_us = 0;
static int64 next_full_look_us = 0;

void
eduai_events_standby_note(void)
{
	EduaiEventsSlot *slot = eduai_events_slot_if_any();

	if (slot == NULL)
		return;
	pg_memory_barrier();
	if (pg_atomic_read_u32(&slot->standby_due) == 0 &&
		pg_atomic_exchange_u32(&slot->standby_due, 1) == 0)
		eduai_events_projector_nudge();
}

int64
eduai_events_standby_mark(Snapshot snapshot)
{
	static EduaiTable table = {"event_mark", "event_mark_pkey"};
	Relation rel;
	TableScanDesc scan;
	TupleTableSlot *slot;
	int64 mark = 0;

	eduai_core_table_find(&table);
	rel = table_open(table.relid, AccessShareLock);
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, snapshot, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool isnull;

		mark = Max(mark, DatumGetInt64(slot_getattr(slot, MARK_COLUMN, &isnull)));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return mark;
}

/* ---- the chore ---- */

/* an unlocked look: one that comes or goes meanwhile is seen the next time */
static bool
anybody_streams(void)
{
	for (int i = 0; i < max_wal_senders; i++)
		if (WalSndCtl->walsnds[i].pid != 0)
			return true;
	return false;
}

static void
read_stored(void)
{
	static EduaiPlan plan = {.sql = "SELECT mark FROM eduai.event_mark"};

	stored = eduai_core_run(&plan, NULL, NULL) > 0 ? eduai_core_int64(0, 1, 0) : 0;
}

static void
write_mark(void)
{
	static EduaiPlan plan = {.sql = "INSERT INTO eduai.event_mark AS m (mark) VALUES ($1)"
									" ON CONFLICT (singleton) DO UPDATE SET mark = EXCLUDED.mark"
									" WHERE m.mark < EXCLUDED.mark",
							 .nargs = 1,
							 .types = {INT8OID}};
	Datum arg = Int64GetDatum(seen);

	(void) eduai_core_run(&plan, &arg, NULL);
	EDUAI_PAUSE("events-mark-written");
}

static void
read_mark(void)
{
	seen = eduai_events_position_mark();
}

/* the mark, asked for in the costlier way once an hour */
static int64
current_mark(void)
{
	if (eduai_core_mono_us() < next_full_look_us)
		return eduai_events_position_peek();
	eduai_events_as_owner(read_mark);
	next_full_look_us = eduai_core_mono_us() + (int64) FULL_LOOK_MS * 1000;
	return seen;
}

static long
ms_until(int64 then_us)
{
	return (long) Max(0, (then_us - eduai_core_mono_us() + 999) / 1000);
}

/* the monotonic time before which nothing is to be written */
static int64
next_write_us(void)
{
	if (written_us == 0)
		return 0;
	return written_us + (anybody_streams() ? STREAMING_PERIOD_MS : OTHER_PERIOD_MS) * 1000;
}

static bool
wanted(void)
{
	EduaiEventsSlot *slot = eduai_events_slot_if_any();

	return slot != NULL && pg_atomic_read_u32(&slot->standby_due) != 0 && XLogStandbyInfoActive() &&
		   eduai_core_mono_us() >= next_write_us();
}

static long
keep_mark(void)
{
	pg_atomic_uint32 *due = &eduai_events_slot()->standby_due;

	if (!XLogStandbyInfoActive())
	{
		pg_atomic_write_u32(due, 1);
		return -1;
	}
	if (ms_until(next_write_us()) > 0)
		return Min(ms_until(next_write_us()), LOOK_MS);
	if (stored < 0)
		eduai_events_as_owner(read_stored);

	(void) pg_atomic_exchange_u32(due, 0);
	seen = current_mark();
	/* the extension was dropped and made anew: its positions start again */
	if (seen >= 0 && seen < stored)
		eduai_events_as_owner(read_stored);
	if (seen <= stored)
		return ms_until(next_full_look_us);

	pg_atomic_write_u32(due, 1);
	eduai_events_as_owner(write_mark);
	stored = seen;
	written_us = eduai_core_mono_us();
	return Min(ms_until(next_write_us()), LOOK_MS);
}

void
eduai_events_standby_init(void)
{
	static const EduaiChore chore = {"standby mark", keep_mark, wanted};

	eduai_events_chore_register(&chore);
}
