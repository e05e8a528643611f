/*
 * running.h: the attempts that run, in shared memory: slots of pools, leases,
 * concurrency keys, workers.
 *
 * An entry is made when a claim takes a task, in its transaction: from then on
 * it counts.  It goes when that transaction aborts (of its subtransaction too),
 * or when the transaction that ends the attempt commits.  So a pool never has
 * more running tasks than its size, whoever claims: the dispatcher or
 * applications' sessions.
 *
 * After a server start entries are made from eduai.task_live before the first
 * claim (eduai_queue_running_load); leases then run from that moment.  Leases
 * are on the monotonic clock, and extending one writes no row.
 *
 * When the table is full (eduai.max_running) nothing more is claimed until an
 * attempt ends.
 *
 * A transaction that started or ended attempts, or changed a pool, cannot be
 * prepared (0A000): what it holds here would be lost with a restart.
 *
 * What follows needs preload (UE011), but for the functions that say what they
 * answer without it.
 */
#ifndef EDUAI_QUEUE_RUNNING_H
#define EDUAI_QUEUE_RUNNING_H

#include "postgres.h"
#include "queue/catalog.h"
#include "queue/schedule.h"
#include "storage/itemptr.h"

/*
 * Before eduai_queue_lane_init(): what an abort gives back to its lane must be
 * out of the table by then, or the next claim passes over it (START_TAKEN).
 */
extern void eduai_queue_running_init(void);

/*
 * Loads this database's entries if nobody has since the server start, or since
 * the extension was created; waits while somebody else loads them.  Call it
 * before the first start.  SPI connected, as the owner.  Cheap when they are
 * loaded; does nothing on a standby.  Raises 53400 when they do not fit.
 */
extern void eduai_queue_running_load(void);

/* ---- pools ---- */

/*
 * How a pool stands.  Its size is exact at once: configure_pool() lowers it
 * before its commit and raises it at it (eduai_queue_pool_set).
 */
typedef struct PoolStand
{
	int size; /* between max_concurrent and scale_to */
	int running;
	int critical; /* of those */
	int reserved; /* of the size, kept for critical tasks while fewer of them run */
} PoolStand;

extern void eduai_queue_pool_stand(const Pool *pool, PoolStand *stand); /* without preload: idle */

/*
 * For configure_pool(): takes effect as said above; subtransactions heeded.
 * Call it before the pool's row is written, SPI connected, as the owner; waits
 * for other transactions that change the pool.  Raises 53400 when there are too
 * many pools.  No-op without preload.
 */
extern void eduai_queue_pool_set(const Pool *pool);

/* The choices made for a pool so far; shared.  Copy out, choose, put back. */
extern void eduai_queue_pool_choices(const Pool *pool, ScheduleState *state);
extern void eduai_queue_pool_chosen(const Pool *pool, const ScheduleState *state);

/* A provider of the pool's tasks said that it is too much. */
extern void eduai_queue_pool_pushback(const char *pool);

/*
 * For the dispatcher's sweep: takes over what no configure_pool() said, as
 * after a restore of eduai.pool or a change by hand.  In a transaction of its
 * own, SPI connected, as the owner; never waits.
 */
extern void eduai_queue_pools_check(void);

/*
 * For the dispatcher: adjusts a pool's size; "waiting" as ScaleInput says.
 * Milliseconds until it wants to be called again, -1: when something waits.
 */
extern long eduai_queue_pool_scale(const Pool *pool, bool waiting);

/* ---- attempts ---- */

typedef struct Attempt
{
	int64 task_id;
	int attempt;
	const Pool *pool;
	const char *tenant;
	int priority;
	const char *concurrency_key; /* NULL: none */
	int worker;                  /* eduai_queue_worker_seen(), -1: the dispatcher */
	int64 lease_ms;              /* 0: none */
} Attempt;

typedef enum StartVerdict
{
	START_OK,
	START_NO_SLOT,
	START_KEY_BUSY, /* a task of its concurrency key runs */
	START_TAKEN,    /* another transaction is claiming this very task: pass over it */
	START_FULL      /* the table is full */
} StartVerdict;

/* Takes the slot and the key for a task that this transaction is claiming. */
extern StartVerdict eduai_queue_running_start(const Attempt *attempt);

/*
 * Of the start that came last: where its row lies now, and how long its attempt
 * may take, for which no lease is extended.  Both hold from the commit on.
 */
extern void eduai_queue_running_placed(const ItemPointerData *place, int64 timeout_ms);

/*
 * Where the row of an attempt lay when its claim committed: whoever goes there
 * must look whose row it is.  Invalid when nobody knows.
 */
extern ItemPointerData eduai_queue_running_place(int64 task_id, int attempt);

/* Takes back a start of this transaction, at once: the row was not free after all. */
extern void eduai_queue_running_take_back(int64 task_id, int attempt);

/*
 * The attempt ends with this transaction, which may fill its slot from now on,
 * others when it has committed.  No-op when it is unknown.  As the owner; before
 * its row is written, or after eduai_queue_running_load(): what was not loaded
 * then, a rollback would not bring back.  At the commit the dispatcher is woken
 * if somebody found no slot, or the attempt had a key.
 */
extern void eduai_queue_running_end(int64 task_id, int attempt);

/* Does this attempt of the tenant run (and is its lease not lapsed)?  Without reading a row. */
extern bool eduai_queue_attempt_runs(const char *tenant, int64 task_id, int attempt);

/* How many attempts run on the server, and how many may; 0 of 0 without preload. */
extern int eduai_queue_running_used(int *most);

/* Does a task of the key run (or end in a transaction that has not ended)? */
extern bool eduai_queue_key_busy(const char *tenant, const char *concurrency_key);

/*
 * This transaction takes a task out of its lane because the key is busy.  If it
 * is not busy any more at the commit, it is among those that became free: who
 * freed it may have looked for held tasks before this one could be seen.
 */
extern void eduai_queue_key_held(const char *tenant, const char *concurrency_key);

/* How many tasks this transaction took out of their lanes for that reason, so far. */
extern int eduai_queue_keys_held(void);

/*
 * Keys of this database that became free since the last call: up to "most" hashes of
 * (tenant, key); *overflow when some were lost.  For the dispatcher, who lets held tasks go.
 */
extern uint64 eduai_queue_key_hash(const char *tenant, const char *concurrency_key);
extern int eduai_queue_keys_freed(uint64 *hashes, int most, bool *overflow);

/* ---- leases ---- */

/*
 * Extends a lease, at most to the end of the attempt's timeout; its worker was
 * seen.  Returns for how many milliseconds: 0 when the attempt does not run with
 * a lease, or lapsed.
 */
extern int64 eduai_queue_lease_extend(int64 task_id, int attempt, int64 lease_ms);

typedef struct Lapsed
{
	int64 task_id;
	int attempt;
	bool timed_out; /* its timeout was over, not its lease alone */
	char tenant[NAMEDATALEN];
} Lapsed;

/*
 * Attempts whose lease has been over for late_ms: up to "most"; who gets them makes their tasks
 * ready again (with eduai_queue_running_end()), or calls
 * eduai_queue_lease_unlapse() when that fails.  From now on they cannot be
 * extended.  Those that are neither ended nor unlapsed within 5 s are returned
 * again; those whose claim or end has not committed are not.  The table is
 * looked through at most every 50 ms.
 */
extern int eduai_queue_leases_lapsed(Lapsed *lapsed, int most, int64 late_ms);
/* It can be extended again; if it is not, it lapses in 100 ms. */
extern void eduai_queue_lease_unlapse(int64 task_id, int attempt);

/* Milliseconds until the next lease may lapse, -1 for none; takes no lock. */
extern int64 eduai_queue_next_lapse_ms(void);

/* ---- workers ---- */

/*
 * Notes that an application's worker of this tenant asked for work now, of
 * these types (a list for worker_status; NULL: as before); an index for Attempt.worker.  The least recently seen makes room when the
 * registry is full.
 */
extern int eduai_queue_worker_seen(const char *tenant, const char *name, const char *task_types);

typedef struct WorkerStand
{
	char name[NAMEDATALEN];
	char task_types[256];
	int leases;
	int64 last_seen_us; /* monotonic */
} WorkerStand;

/* The workers of this database and tenant; palloc'd. */
extern int eduai_queue_workers(const char *tenant, WorkerStand **workers);

#endif
