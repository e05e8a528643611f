/*
 * fresh_internal.h: the fresh tasks' shared memory.  Private to fresh*.c and lane*.c.
 *
 * A task's place is free, or reserved for one whose id is not known yet, or has the
 * task in one of these states:
 *
 *   BORN       enqueued, not committed
 *   WRITTEN    the same, and the transaction that enqueued it has made its row
 *   READY      in the list of its lane
 *   TAKEN      some transaction makes its row
 *   PREPARED   the same, and it was prepared
 *
 * Each lane has two lists of READY ones in the order of their keys: those that came
 * in order, which is cheap to keep, and a short one of those that came too late.
 *
 * Locks: mutex guards the free places and the buckets; a task's other fields are
 * guarded by its lane's mutex, but for those of BORN and WRITTEN ones, which are
 * their transaction's.  Neither is taken under the other.  While a place is in use
 * its lane is pinned, or open by it, so it stays that lane.
 */
#ifndef EDUAI_QUEUE_FRESH_INTERNAL_H
#define EDUAI_QUEUE_FRESH_INTERNAL_H

#include "postgres.h"
#include "queue/fresh.h"
#include "queue/lane_internal.h"
#include "storage/spin.h"

typedef enum FreshState
{
	FRESH_FREE,
	FRESH_RESERVED,
	FRESH_BORN,
	FRESH_WRITTEN,
	FRESH_READY,
	FRESH_TAKEN,
	FRESH_PREPARED
} FreshState;

typedef struct FreshPlace
{
	int64 task_id; /* 0: free; not known yet: minus the least that it may be */
	int64 key;
	int next; /* in its lane's list; or of the free ones */
	int prev;
	int chain; /* the next in its bucket */
	int lane;
	uint32 load;         /* LaneDatabase.loads when it was last seen in the table */
	TransactionId owner; /* of a BORN or TAKEN one; a subtransaction's, too */
	ItemPointerData request;
	uint8 state;
	bool late; /* in which list */
} FreshPlace;

typedef struct FreshShared
{
	slock_t mutex; /* guards free, used, buckets, chains */
	int free;
	int used;
	int *buckets;
	FreshPlace *tasks;
	pg_atomic_uint32 prepared; /* PREPARED ones */
} FreshShared;

extern FreshShared *eduai_queue_fresh; /* NULL without preload */
extern int eduai_queue_fresh_most;     /* setting: places */

/* ---- fresh_shared.c ---- */

extern void eduai_queue_fresh_shared_init(void);

/* A free place, reserved; FRESH_NONE when there is none.  The lane is pinned. */
extern int eduai_queue_fresh_place(int lane, int64 key, int64 least_id);

/* It has its id now. */
extern void eduai_queue_fresh_name(int place, int64 task_id, const ItemPointerData *request);

/* The place is free again; it is in no list. */
extern void eduai_queue_fresh_free(int place);

/* The place of this database's task; FRESH_NONE when it has none. */
extern int eduai_queue_fresh_find(int64 task_id);

/* Puts it into its lane's list.  Never raises, as all of these. */
extern void eduai_queue_fresh_ready(int place);

/*
 * Takes it out of the list, for "owner", if it is this task and READY; else *owner
 * and *state say what it is (FRESH_FREE: another).
 */
extern bool
eduai_queue_fresh_seize(int place, int64 task_id, TransactionId *owner, FreshState *state);

/* The same for a lane's oldest whose keys are below "before"; the lane is pinned for each. */
extern int eduai_queue_fresh_pop(int lane, int64 hash, int64 before, TransactionId owner,
								 FreshTask *tasks, int most);

/* A load has found the task in the table; false when it has no place. */
extern bool eduai_queue_fresh_seen(int64 task_id, const ItemPointerData *request, uint32 load);

/* Forgets the READY ones of a database that were not seen since that load. */
extern void eduai_queue_fresh_drop(Oid database, uint32 load);

/* ---- fresh.c ---- */

/* This transaction makes the row of the task that it has enqueued itself. */
extern void eduai_queue_fresh_write_own(int place);

/* eduai_queue_fresh_seize() in this (sub)transaction. */
extern bool
eduai_queue_fresh_try(int place, int64 task_id, TransactionId *owner, FreshState *state);

/* Those that a transaction took that was prepared and has ended. */
extern void eduai_queue_fresh_settle_prepared(void);

/* ---- fresh_load.c ---- */

/*
 * Finds the database's fresh tasks in the table; under the session lock of the
 * lanes' discovery.  Sets db->unlisted when there may be some that it could not list.
 */
extern void eduai_queue_fresh_load(LaneDatabase *db);

/* To the end of the transaction no load lists a task that has no place. */
extern void eduai_queue_fresh_lock_listing(void);

/* From which id on there may be fresh tasks, by the latest snapshot. */
extern int64 eduai_queue_fresh_from(void);

/* ---- fresh_sweep.c ---- */

/* The ids that are drawn from now on are counted. */
extern void eduai_queue_fresh_count_drawn(LaneDatabase *db);

/* ---- fresh_settle.c ---- */

/* Makes the row of a task that was taken, or is our own, as ready in its lane. */
extern void eduai_queue_fresh_write(EduaiTasks *tasks, LiveTask *task, int64 key);

#endif
