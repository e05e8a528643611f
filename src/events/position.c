/*
 * position.c: the counter of positions and its safe mark.  See position.h.
 *
 * The ranges in flight of a database form a list in the order of their draws,
 * one node for each process, under the slot's spinlock: a draw appends, an end
 * removes from anywhere, and the mark is what lies before the first.
 *
 * A commit that waits for a synchronous standby is not visible yet, so its
 * range is in flight and holds the mark back until the wait ends.
 *
 * Lock order: the reserve lock, then a slot's spinlock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/pause.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "events/position.h"
#include "events/shared.h"
#include "events/standby.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/wait_event.h"

/* How far ahead of the counter positions are made durable: a flush for that many. */
#define STEP 65536

static EduaiEventsSlot *in_flight = NULL; /* the slot where this transaction drew */

static Oid
sequence_oid(void)
{
	return get_relname_relid("event_position", eduai_core_schema());
}

/* No position beyond this one was ever drawn.  The caller has entered. */
static int64
read_durable(Oid sequence)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum value;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(sequence);
	fcinfo->args[0].isnull = false;
	value = pg_sequence_last_value(fcinfo);
	/* null: never set */
	return fcinfo->isnull ? 0 : DatumGetInt64(value);
}

/*
 * A restore moves the sequence behind the counter's back: the rows come by
 * COPY, into a database where workers and readers have started the counter.
 * So until the first draw the counter follows the sequence, and a reservation
 * looks at it again before it sets it.
 */
static bool
follow(EduaiEventsSlot *slot, int64 durable)
{
	bool moved;

	SpinLockAcquire(&slot->mutex);
	moved = durable > slot->reserved && !slot->reserving;
	if (moved)
	{
		slot->next = durable + 1;
		slot->reserved = durable;
	}
	SpinLockRelease(&slot->mutex);
	return moved;
}

/* The slot with its counter started, which happens once after a server's start. */
static EduaiEventsSlot *
started_slot(void)
{
	EduaiEventsSlot *slot = eduai_events_slot();
	Oid installation = eduai_core_installation();
	EduaiPrivilege saved;
	int64 durable;

	if (slot->started && slot->drawn && slot->installation == installation)
		return slot;
	eduai_core_enter(&saved);
	durable = read_durable(sequence_oid());
	eduai_core_leave(&saved);
	if (slot->started && slot->installation == installation)
	{
		if (follow(slot, durable))
			eduai_events_standby_note();
		return slot;
	}
	SpinLockAcquire(&slot->mutex);
	/* nobody drew before it was started, so nobody can be passed over */
	if (!slot->started || slot->installation != installation)
	{
		slot->next = Max(slot->next, durable + 1);
		slot->reserved = slot->next - 1;
		slot->installation = installation;
		slot->started = true;
		slot->drawn = false;
		pg_atomic_write_u64(&slot->newest_started, 0);
	}
	SpinLockRelease(&slot->mutex);
	return slot;
}

void
eduai_events_position_prepare(void)
{
	(void) started_slot();
}

/* The caller holds the mutex. */
static int64
mark_of(const EduaiEventsSlot *slot)
{
	if (slot->oldest == EDUAI_EVENTS_NOBODY)
		return slot->next - 1;
	return eduai_events_flight(slot->oldest)->first - 1;
}

/* The caller holds the mutex. */
static void
take_off(EduaiEventsSlot *slot, int64 first)
{
	int proc = eduai_my_proc_number();
	EduaiEventsFlight *flight = eduai_events_flight(proc);

	flight->first = first;
	flight->older = slot->youngest;
	flight->younger = EDUAI_EVENTS_NOBODY;
	if (slot->youngest == EDUAI_EVENTS_NOBODY)
		slot->oldest = proc;
	else
		eduai_events_flight(slot->youngest)->younger = proc;
	slot->youngest = proc;
}

/* The caller holds the mutex. */
static void
land(EduaiEventsSlot *slot)
{
	EduaiEventsFlight *flight = eduai_events_flight(eduai_my_proc_number());

	if (flight->older == EDUAI_EVENTS_NOBODY)
		slot->oldest = flight->younger;
	else
		eduai_events_flight(flight->older)->younger = flight->younger;
	if (flight->younger == EDUAI_EVENTS_NOBODY)
		slot->youngest = flight->older;
	else
		eduai_events_flight(flight->younger)->older = flight->older;
}

/*
 * Makes n more positions durable, and a step beyond.  The lock is held over a
 * WAL flush, once in STEP positions: who else comes here has to wait for just
 * that.  The sequence's lock is taken before, so that nothing is waited for
 * inside.  setval() neither rolls back nor disturbs the session's lastval().
 */
static void
reserve(EduaiEventsSlot *slot, int64 n)
{
	Oid sequence = sequence_oid();
	EduaiPrivilege saved;
	int64 end;

	eduai_core_enter(&saved);
	LockRelationOid(sequence, RowExclusiveLock);
	LWLockAcquire(eduai_events_reserve_lock(), LW_EXCLUSIVE);
	/* left behind by one that failed: nobody else is here */
	slot->reserving = false;
	(void) follow(slot, read_durable(sequence));
	SpinLockAcquire(&slot->mutex);
	end = slot->next + n - 1 > slot->reserved ? slot->next + n + STEP : 0;
	slot->reserving = end > 0;
	SpinLockRelease(&slot->mutex);
	if (end > 0)
	{
		(void) DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence), Int64GetDatum(end));
		EDUAI_PAUSE("events-reserved");
		XLogFlush(XactLastRecEnd);
		SpinLockAcquire(&slot->mutex);
		slot->reserved = end;
		slot->reserving = false;
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(eduai_events_reserve_lock());
	eduai_core_leave(&saved);
}

int64
eduai_events_position_draw(int64 n, int64 *mark)
{
	EduaiEventsSlot *slot = started_slot();
	int64 first = 0;

	for (;;)
	{
		SpinLockAcquire(&slot->mutex);
		if (slot->next + n - 1 <= slot->reserved)
		{
			*mark = mark_of(slot);
			first = slot->next;
			slot->next += n;
			slot->drawn = true;
			take_off(slot, first);
		}
		SpinLockRelease(&slot->mutex);
		if (first > 0)
			break;
		reserve(slot, n);
	}
	in_flight = slot;
	return first;
}

bool
eduai_events_position_settle(void)
{
	EduaiEventsSlot *slot = in_flight;

	if (slot == NULL)
		return false;
	in_flight = NULL;
	SpinLockAcquire(&slot->mutex);
	land(slot);
	SpinLockRelease(&slot->mutex);
	ConditionVariableBroadcast(&slot->moved);
	return true;
}

static int64
read_mark(EduaiEventsSlot *slot)
{
	int64 mark;

	SpinLockAcquire(&slot->mutex);
	mark = mark_of(slot);
	SpinLockRelease(&slot->mutex);
	return mark;
}

int64
eduai_events_position_mark(void)
{
	if (!eduai_core_preloaded() || RecoveryInProgress())
		return PG_INT64_MAX;
	return read_mark(started_slot());
}

int64
eduai_events_position_peek(void)
{
	EduaiEventsSlot *slot = eduai_events_slot_if_any();

	return slot != NULL && slot->started ? read_mark(slot) : -1;
}

int64
eduai_events_position_drawn(void)
{
	EduaiEventsSlot *slot = eduai_events_slot_if_any();
	int64 drawn = -1;

	if (slot == NULL || !slot->started)
		return -1;
	SpinLockAcquire(&slot->mutex);
	drawn = slot->next - 1;
	SpinLockRelease(&slot->mutex);
	return drawn;
}

bool
eduai_events_position_wait(int64 mark, int64 deadline_us)
{
	EduaiEventsSlot *slot = started_slot();
	bool moved = true;

	ConditionVariablePrepareToSleep(&slot->moved);
	while (read_mark(slot) <= mark)
	{
		int64 left_us = deadline_us - eduai_core_mono_us();

		if (left_us <= 0)
		{
			moved = false;
			break;
		}
		(void) ConditionVariableTimedSleep(&slot->moved, (long) (left_us / 1000 + 1),
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return moved;
}
