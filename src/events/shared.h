/*
 * shared.h: what the sessions of a database share about its log.
 *
 * Private to src/events.  A database has a slot from its first use on; the
 * places of dropped databases are used again.
 */
#ifndef EDUAI_EVENTS_SHARED_H
#define EDUAI_EVENTS_SHARED_H

#include "postgres.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#define EDUAI_EVENTS_DATABASES 64

/* No transaction; end of the list of those in flight. */
#define EDUAI_EVENTS_NOBODY (-1)

typedef struct EduaiEventsSlot
{
	Oid database; /* InvalidOid: free; changes under the lock */

	slock_t mutex;    /* guards what follows, to "reserved", and the flights of this database */
	Oid installation; /* that was counted: another one starts anew */
	bool started;     /* next and reserved are known */
	bool drawn;       /* positions were drawn since then */
	int64 next;       /* the next position to draw */
	bool reserving;   /* the sequence is being moved: it is ahead of "reserved" */
	int64 reserved;   /* positions up to here are durable: never drawn again after a crash */
	int oldest;       /* flights in the order of their draws, or EDUAI_EVENTS_NOBODY */
	int youngest;

	ConditionVariable moved;         /* a range was settled: the mark may have moved */
	pg_atomic_uint64 newest_started; /* lower bound of the newest partition in use, 0: unknown */
	pg_atomic_uint32 standby_due;    /* a standby's mark is to be written */
	pg_atomic_uint32 generation;     /* of the entries of heads.c */
} EduaiEventsSlot;

/* A range of positions in flight; one for each process, by its proc number. */
typedef struct EduaiEventsFlight
{
	int64 first;
	int older;
	int younger;
} EduaiEventsFlight;

extern void eduai_events_shared_init(void);

/* This database's slot; makes it.  Raises UE011 without preload, 53400 when no place is left. */
extern EduaiEventsSlot *eduai_events_slot(void);

/* The same, or NULL when it was not made or eduai was not preloaded; never raises. */
extern EduaiEventsSlot *eduai_events_slot_if_any(void);

extern EduaiEventsFlight *eduai_events_flight(int proc);

/* Held while positions are made durable; nothing else may be held. */
extern LWLock *eduai_events_reserve_lock(void);

#endif
