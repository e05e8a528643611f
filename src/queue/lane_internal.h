/*
 * lane_internal.h: the lanes' shared memory.  Private to lane*.c and claim*.c.
 *
 * A lane's ready tasks are ranges of keys: everything from the mark on, and the
 * strays below it.  Who looks at a range takes it first (hold), and gives back
 * what he did not look at (leave).  While somebody has what the mark began,
 * others may help: they look further on than he has come, and give back, too, what
 * they did not look at, since he may have passed what one of them had in hand.
 *
 * A hold is this backend's only one, and ends when the (sub)transaction that
 * took it is rolled back: all of it is given back then.
 *
 * Locks: the directory's lock, then one lane's mutex; the strays' mutex and the
 * waiters' are taken alone.  Under a mutex a few fields are read and written.
 */
#ifndef EDUAI_QUEUE_LANE_INTERNAL_H
#define EDUAI_QUEUE_LANE_INTERNAL_H

#include "postgres.h"
#include "access/xact.h"
#include "core/heap.h"
#include "port/atomics.h"
#include "queue/lane.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#define LANE_NO_KEY    PG_INT64_MAX
#define LANE_DATABASES 64
#define LANE_NONE      (-1)

typedef struct Lane
{
	slock_t mutex; /* guards what is below, but what is read as a hint */
	bool open;     /* as in the bitmap */
	int priority;
	Oid database; /* InvalidOid: free; changes under the directory's lock and the mutex */
	int next;     /* in its bucket, or of the free ones; under the directory's lock */
	int64 hash;
	uint64 tenant; /* eduai_queue_lane_word() */
	uint64 task_type;
	int64 mark;     /* LANE_NO_KEY: none */
	int64 frontier; /* the greatest key that any scan has looked at */
	int64 reach;    /* of the scans in progress */
	uint64 served;  /* a stamp that grows */
	int pins;       /* transactions that will say something about it */
	int scans;      /* in progress */
	int takers;     /* of those that took the mark */
	int stray;      /* the first of its strays, or LANE_NONE */
	int fresh;      /* of its fresh tasks (fresh.h), in their order, or LANE_NONE */
	int fresh_end;  /* the last of them */
	int late;       /* of those that came too late to be put in order, or LANE_NONE */
	int late_end;
} Lane;

/* A range of keys below the mark that may have ready tasks. */
typedef struct Stray
{
	int next;
	int64 first;
	int64 last;
} Stray;

typedef struct LaneDatabase
{
	Oid database;  /* InvalidOid: free */
	Oid relation;  /* eduai.task_live when its lanes were discovered */
	bool missed;   /* a lane found no room in the directory */
	bool all;      /* the sweep has to read everything, and has not yet */
	bool unsure;   /* a prepared transaction found no room below */
	bool moved;    /* a fresh task's request is not where it is said to be */
	bool unlisted; /* there may be fresh tasks that have no place */
	uint32 loads;  /* of fresh tasks */
	/* ids that were begun to be drawn, and that were drawn: equal now and then */
	pg_atomic_uint64 drawing;
	pg_atomic_uint64 drawn;
	pg_atomic_uint64 last_id; /* at least; of those that were drawn */
	uint64 drawn_base;        /* when "counted_from" was the last id; under the session lock */
	int64 counted_from;
	uint64 jump_xid; /* ids were drawn elsewhere, by transactions below; 0: none */
	int64 base_us;   /* of the steady clock, beyond the monotonic one */
} LaneDatabase;

/* A prepared transaction that will make tasks ready, or give them back. */
typedef struct LanePrepared
{
	Oid database; /* InvalidOid: free */
	TransactionId xid;
} LanePrepared;

typedef struct LaneShared
{
	slock_t mutex;        /* guards databases, prepared */
	slock_t strays_mutex; /* guards free_stray, and next of the free ones */
	int free_stray;
	int free_lane;       /* under the directory's lock */
	int hand;            /* where the next lane to make room is looked for; the same */
	int64 full_until_us; /* no room can be made before; monotonic; the same */
	pg_atomic_uint64 served;
	LaneDatabase databases[LANE_DATABASES];
	int nprepared; /* places */
	LanePrepared *prepared;
	int nbuckets;
	int *buckets;
	pg_atomic_uint64 *open; /* a bit for each lane */
	Lane *lanes;
	Stray *strays;
} LaneShared;

extern LaneShared *eduai_queue_lanes; /* NULL without preload */

/* settings */
extern int eduai_queue_lane_count;
extern int eduai_queue_stray_count;

extern void eduai_queue_lane_shared_init(void);

/* ---- the directory ---- */

/* The hash of a tenant's or a task type's name. */
extern uint64 eduai_queue_lane_word(const char *name);

typedef struct LaneIdentity
{
	int64 hash;
	uint64 tenant;
	uint64 task_type;
	int priority;
} LaneIdentity;

extern void eduai_queue_lane_identity(const LaneName *name, LaneIdentity *identity);

/* This database's lane, pinned; LANE_NONE when the directory is full, which is noted. */
extern int eduai_queue_lane_pin(const LaneIdentity *identity);
extern void eduai_queue_lane_unpin(int lane);

/* The same, when there is such a lane; never makes one. */
extern int eduai_queue_lane_find(int64 hash);

/* This database's entry, made when there is none; raises 53400 when there is no room. */
extern LaneDatabase *eduai_queue_lane_database(void);

/* A lane was not found room for: the sweep tries again.  Never raises. */
extern void eduai_queue_lane_missed(void);

/* ---- ranges ---- */

/*
 * There may be ready tasks with keys first .. last.  The lane is pinned, or held.
 * Never raises.
 */
extern void eduai_queue_lane_add(int lane, int64 first, int64 last);

/* Forgets all of it: its database is gone.  With the directory's lock. */
extern void eduai_queue_lane_empty(int lane);

/* The same for all keys from first on. */
extern void eduai_queue_lane_lower(int lane, int64 first);

/* Is the key in a range of the lane, or before a scan that is in progress? */
extern bool eduai_queue_lane_knows(int lane, int64 key);

typedef struct LaneHold
{
	int lane;  /* LANE_NONE: nothing is held */
	int stray; /* its place, or LANE_NONE */
	bool duty; /* else it helps another, who has what the mark began */
	int64 first;
	int64 last;
	SubTransactionId subxact;
} LaneHold;

/* Takes a range of the lane; NULL when there is none.  The lane may have become another's: NULL, too. */
extern const LaneHold *eduai_queue_lane_hold(int lane, int64 hash);

/*
 * The task with this key is about to be looked at, and not before: false when it
 * is in the hands of another scan.
 */
extern bool eduai_queue_lane_pass(int64 key);

/* All keys below "next" of the hold were looked at; LANE_NO_KEY: all. */
extern void eduai_queue_lane_leave(int64 next);

/* Tasks were taken: it is the last in its turn. */
extern void eduai_queue_lane_served(int lane, int64 hash);

/*
 * What may be claimed of the lane, as it stands now: the first key in its ranges, and
 * that of its fresh tasks; LANE_NO_KEY: none.
 */
extern void eduai_queue_lane_heads(int lane, int64 hash, int64 *indexed, int64 *fresh);

/* With the lane's mutex, after its lists of fresh tasks have changed: is it open? */
extern void eduai_queue_lane_refresh(Lane *lane);

/* Ends the hold of a (sub)transaction that is rolled back; InvalidSubTransactionId: of any. */
extern void eduai_queue_lane_let_go(SubTransactionId subxact);

/* A lane with something to take, as it stood a moment ago. */
typedef struct LaneView
{
	int lane;
	int64 hash;
	uint64 tenant;
	uint64 task_type;
	int priority;
	int64 ready_us;
	uint64 served;
} LaneView;

/* This database's open lanes; palloc'd. */
extern int eduai_queue_lane_open(LaneView **views);

/* The view as it stands now; false when there is nothing to take any more. */
extern bool eduai_queue_lane_look(LaneView *view);

/*
 * eduai_queue_lane_taken() of a claim's scan, numbered: what one scan took is
 * given back as one range.
 */
extern void eduai_queue_lane_taken_by_scan(const LaneName *name, int64 key, uint32 scan);

/* ---- the rows ---- */

/* The table and its index task_live_lane. */
extern EduaiTable eduai_queue_lane_table;

/* Is nobody changing or locking the row, as far as one can see? */
extern bool eduai_queue_lane_row_free(HeapTuple tuple);

/* The lane of a row of the table is marked from it on; false, and noted, when it finds no place. */
extern bool eduai_queue_lane_place(const TupleTableSlot *slot);

/* Fills the directory from the table unless that is done; sets the steady clock. */
extern LaneDatabase *eduai_queue_lane_discover(void);

/*
 * The key was found in the table: the steady clock is past it.  Keys that are not
 * its own come with a restore; were it behind, all that follows would be late.
 */
extern void eduai_queue_lane_clock_past(LaneDatabase *db, int64 key);

/* ---- prepared transactions ---- */

/* At PREPARE, of the transaction xid.  Never raises. */
extern void eduai_queue_lane_prepared(TransactionId xid);

/* ---- waiters (lane_wait.h) ---- */

extern void eduai_queue_lane_wait_init(void);

#endif
