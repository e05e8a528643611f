/*
 * running_internal.h: what the files of running.h share.
 *
 *   running.c         attempts, and what a transaction did to them
 *   running_table.c   shared memory, the table of attempts, databases
 *   running_load.c    making the entries after a server start
 *   running_pool.c    pools' places, and changes of their numbers
 *   running_stand.c   what claims and the dispatcher ask of pools
 *   running_lease.c   leases and keys that became free
 *   running_worker.c  the registry of workers
 *
 * One LWLock, eduai_running, guards all of it but what says otherwise; a call
 * holds it for some dozens of instructions, except when the leases are looked
 * through and when a worker of the registry makes room.  It is taken in commit
 * and abort callbacks, so nothing may raise, allocate or wait under it.
 *
 * Entries and places are reached by index; the table's chains are int32
 * indices, -1 at the end.
 */
#ifndef EDUAI_QUEUE_RUNNING_INTERNAL_H
#define EDUAI_QUEUE_RUNNING_INTERNAL_H

#include "postgres.h"
#include "port/atomics.h"
#include "queue/running.h"
#include "storage/lwlock.h"

#define RUNNING_POOLS     256
#define RUNNING_DATABASES 64
#define RUNNING_WORKERS   1024
#define RUNNING_RING      1024
#define RUNNING_NONE      (-1)

typedef struct RunningEntry
{
	Oid database; /* InvalidOid: free */
	int attempt;
	int64 task_id;
	int32 next;           /* in its bucket, or of the free ones */
	int32 key_next;       /* in its key's bucket */
	uint64 key_hash;      /* 0: no concurrency key */
	int64 lease_until_us; /* monotonic; 0: no lease */
	int64 limit_us;       /* no lease goes beyond: the attempt's timeout; 0: none */
	int pool;             /* RUNNING_NONE: its type is gone */
	int worker;           /* RUNNING_NONE: the dispatcher, or forgotten */
	int enders;           /* transactions that end it */
	bool critical;
	bool committed;        /* its claim did */
	bool lapsed;           /* lease_until_us: when it is returned again */
	ItemPointerData place; /* of its row when its claim committed; invalid: unknown */
	char tenant[NAMEDATALEN];
} RunningEntry;

/* What an administrator says of a pool. */
typedef struct PoolNumbers
{
	int least; /* 0: there is no such pool yet */
	int most;
	int reserved;
} PoolNumbers;

/*
 * A pool as transactions left it, and what the one that is changing it lowers:
 * the lower of both holds until that ends.
 */
typedef struct PoolPlace
{
	Oid database; /* InvalidOid: free */
	char name[NAMEDATALEN];
	PoolNumbers numbers;
	PoolNumbers lowered;
	bool changing; /* lowered is set */
	bool pushback;
	bool refused; /* somebody found no slot since one was last given back */
	int running;
	int critical;
	ScaleState scale; /* its size may be outside of the numbers: see size_now() */
	ScheduleState choices;
} PoolPlace;

typedef struct DatabasePlace
{
	Oid database;                   /* InvalidOid: free */
	Oid relation;                   /* eduai.task_live when it was loaded, InvalidOid: not */
	pg_atomic_uint64 next_lapse_us; /* no lease lapses before; read without the lock; 0: none */
	uint64 ring_read;               /* how far the ring of freed keys was read */
} DatabasePlace;

typedef struct WorkerPlace
{
	uint64 hash; /* 0: free */
	Oid database;
	int leases;
	int64 last_seen_us;
	char tenant[NAMEDATALEN];
	char name[NAMEDATALEN];
	char task_types[256];
} WorkerPlace;

typedef struct FreedKey
{
	Oid database;
	uint64 hash;
} FreedKey;

typedef struct Running
{
	int32 free;          /* a chain by next */
	int high;            /* no entry from here on was ever used */
	bool refused;        /* somebody found the table full since */
	int npools;          /* no place from here on was ever used */
	uint64 pool_changes; /* grows when a transaction changes a pool, and when that commits */
	PoolPlace pools[RUNNING_POOLS];
	DatabasePlace databases[RUNNING_DATABASES];
	WorkerPlace workers[RUNNING_WORKERS];
	uint64 ring_written;
	FreedKey ring[RUNNING_RING]; /* ring_written % RUNNING_RING is next */
} Running;

extern Running *eduai_queue_running; /* NULL without preload */
extern LWLockPadded *eduai_queue_running_locks;

static inline void
running_lock(void)
{
	LWLockAcquire(&eduai_queue_running_locks->lock, LW_EXCLUSIVE);
}

static inline void
running_unlock(void)
{
	LWLockRelease(&eduai_queue_running_locks->lock);
}

/* ---- running.c ---- */

/* What lets something start that could not: the dispatcher is woken by the next call. Under the lock. */
extern void eduai_queue_running_want_wake(void);
/* The same, and a session that waits for a slot of the pool (NULL: of any) is woken, too. */
extern void eduai_queue_running_want_slot_wake(const PoolPlace *pool);
/* Not under the lock; safe in callbacks. */
extern void eduai_queue_running_wake(void);

/* Of a pool's slots in use, those of attempts that this transaction ends. */
extern void eduai_queue_running_own_slots(int pool, int *running, int *critical);

/* ---- running_table.c ---- */

extern void eduai_queue_running_table_init(void);

/*
 * This database's place, made at the first use.  Takes the lock.  Raises 53400
 * when there are too many databases.
 */
extern DatabasePlace *eduai_queue_running_database(void);

/* The same if it was made, else NULL; takes no lock. */
extern DatabasePlace *eduai_queue_running_database_known(void);

/* Under the lock, exclusive; entries of this database. */
extern RunningEntry *eduai_queue_running_find(int64 task_id, int attempt);
extern RunningEntry *eduai_queue_running_find_key(uint64 hash);
extern RunningEntry *eduai_queue_running_insert(const Attempt *attempt, int pool); /* NULL: full */
extern void eduai_queue_running_remove(RunningEntry *entry);
extern void eduai_queue_running_forget(Oid database);      /* its entries and pools */
extern void eduai_queue_running_forget_worker(int worker); /* its entries have none */

/* The first entry of this database from *at on, which it moves past it; NULL: no more. */
extern RunningEntry *eduai_queue_running_next(int *at);

/* ---- running_pool.c: under the lock, exclusive, but for the first ---- */

extern PoolNumbers eduai_queue_pool_numbers(const Pool *pool);

/* The pool's place, made if need be; RUNNING_NONE when there is no room. */
extern int eduai_queue_pool_place(const Pool *pool);
extern int eduai_queue_pool_find(const char *name); /* RUNNING_NONE: never used */
extern void eduai_queue_pool_stand_of(const PoolPlace *place, PoolStand *stand);
extern void eduai_queue_pools_forget(Oid database);

/* What the transaction does to pools; the second is for savepoints. */
extern bool eduai_queue_pools_changed(void);
extern void eduai_queue_pools_end(bool commit);
extern void eduai_queue_pools_subxact(SubTransactionId mine, SubTransactionId parent, bool commit);

/* ---- running_lease.c: under the lock, exclusive ---- */

/* The attempt's time is over at limit_us (0: never), and so is its lease. */
extern void eduai_queue_lease_limit(RunningEntry *entry, int64 limit_us);
extern void eduai_queue_lease_noted(DatabasePlace *database, int64 until_us);
extern void eduai_queue_key_freed(Oid database, uint64 hash);

/* ---- running_worker.c: under the lock, exclusive ---- */

/* The worker's place, made if need be; task_types as eduai_queue_worker_seen(). */
extern int eduai_queue_worker_place(const char *tenant, const char *name, const char *task_types);
extern void eduai_queue_workers_forget(Oid database);

#endif
