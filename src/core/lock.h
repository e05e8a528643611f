/*
 * lock.h: eduai's transaction-level locks, in the lock manager's advisory
 * space but out of reach of pg_advisory_lock(), whose tags use field4 1 and 2.
 *
 * The lock table is small and all sessions share it, so a transaction may not
 * keep an entry for each of 50,000 streams.  Terms, for the classes of keys
 * (event ids, streams, learners, sessions, unique keys):
 *
 *   fine lock   an entry of the lock table for one key, exclusive, kept to the
 *               end of the transaction.
 *   room        how many fine locks a transaction may keep: a few for nothing,
 *               more from a budget of the server (lock_room.h).
 *   group       16,384 of each class: the keys with the same leading bits.
 *   bulk        a transaction that found no room.  It takes the bulk turn (one
 *               at a time in a database) and its door, both to its end, and
 *               keeps no more fine locks.  For each key it closes the key's
 *               group, by a mark in shared memory, then waits for whoever has
 *               the fine lock, by taking and releasing it.
 *
 * Whoever takes a fine lock looks, once he has it, whether a bulk has closed
 * the group; if so he gives it back, waits at the door (shared, for a moment)
 * until the bulk ends, and tries again.  A bulk marks first and looks for fine
 * locks then, the others the other way round: one of the two sees the other.
 * So a key belongs to one transaction at a time, a fine lock costs one look at
 * shared memory more than a plain one, and a bulk of any size has two entries.
 *
 * Calls cannot deadlock with each other
 *
 * A call says first how many keys it will lock in all (eduai_core_lock_expect),
 * so it waits for the bulk turn before it has anything.  It then locks classes
 * in the order of their values, in each class the keys in ascending order and
 * so the groups too.  Let every call be alone in its transaction, and suppose
 * a cycle of waits.  Without a bulk in it, everybody in it waits for a fine
 * lock with a key above all he has: no cycle.  Who waits for the turn has
 * nothing that others wait for.  So there is one bulk B, at group b.  B has
 * closed groups up to b only, and waits for a fine lock of group b.  From B
 * the cycle goes through owners of fine locks, each waiting for a higher key
 * than the one he is waited for, hence in group b or above, to somebody who
 * waits at the door.  He met a closed group c <= b, and before he waited there
 * he gave back what he had just taken in c: all he has is below c.  But he is
 * waited for because of a key in b or above.  The queues of the lock manager
 * change nothing: waiting behind somebody for a lock is waiting for its owner
 * and for a key of the same place in the order.
 *
 * What can deadlock (40P01): transactions of several calls that want what the
 * other has, as with any lock.  A transaction that runs out of room after many
 * calls waits for the bulk turn with up to its room of fine locks, so it
 * deadlocks with a bulk that wants one of those; with a bulk of other keys it
 * does not.  And it may wait at the door because of a group only, with a fine
 * lock from an earlier call that the bulk wants.  A call that locks unique keys
 * in the order of its tasks counts as several calls; large ones take turns.
 *
 * nowait variants take everything conditionally, the turn and the door too, and
 * so may return false for a key that nobody has, while a bulk closes its group
 * or looks at it.
 *
 * Savepoints: rolled back, their fine locks are given back, and the bulk turn
 * if it was taken in it.  Groups closed since an older turn stay closed, and
 * what the fine locks took of the room is free, at the end of the transaction.
 * PREPARE TRANSACTION keeps fine locks and gives their room back at once; it is
 * refused to a bulk (0A000), whose marks a restart would forget.
 *
 * Without preload there is no bulk: every lock is a fine one, without limit.
 */
#ifndef EDUAI_CORE_LOCK_H
#define EDUAI_CORE_LOCK_H

#include "postgres.h"
#include "storage/lock.h"

typedef enum EduaiLockClass
{
	/* a sub-object of the database, one per worker kind, session level */
	EDUAI_LOCK_WORKER = 0xED00,
	EDUAI_LOCK_BULK_TURN = 0xED01, /* see above; key: the ground of lock_room.c */
	EDUAI_LOCK_BULK_DOOR = 0xED02,
	EDUAI_LOCK_EVENT_ID = 0xED11,
	EDUAI_LOCK_STREAM = 0xED12,
	EDUAI_LOCK_LEARNER = 0xED13,      /* a learner's inline projections */
	EDUAI_LOCK_SESSION = 0xED14,      /* a learning session's inline projections */
	EDUAI_LOCK_UNIQUE_KEY = 0xED15,   /* enqueue's unique and idempotency keys */
	EDUAI_LOCK_QUOTA = 0xED16,        /* counting a tenant, session level */
	EDUAI_LOCK_SUBSCRIPTION = 0xED17, /* a subscription, then its members */
	EDUAI_LOCK_SNAPSHOT = 0xED18,     /* saving a stream's snapshot */
	EDUAI_LOCK_COMPACT = 0xED19,      /* a tenant's blocks and directory, for whoever writes them */
	EDUAI_LOCK_FOLLOWER = 0xED1A,     /* following the feed for a projection's lane */
	EDUAI_LOCK_PARKED = 0xED1B,       /* a tenant's parked events of a projection */
	EDUAI_LOCK_COHORT = 0xED1C,       /* a cohort's members */
	EDUAI_LOCK_LANES = 0xED1D,        /* discovering the queue's lanes, session level */
	EDUAI_LOCK_LISTING = 0xED1E,      /* listing fresh tasks (queue/fresh.h) */
	EDUAI_LOCK_RUNNING = 0xED20,      /* loading the attempts that run, session level */
	EDUAI_LOCK_POOL = 0xED21,         /* changing a pool's numbers */
	EDUAI_LOCK_GRAPH = 0xED22,        /* adding to a tenant's dependencies */
	EDUAI_LOCK_CONSENT = 0xED23,    /* a learner's consent to a purpose, being given or withdrawn */
	EDUAI_LOCK_ACCESS_LOG = 0xED40, /* adding to the access log's chains */
	EDUAI_LOCK_MAINTENANCE = 0xED41, /* running a maintenance job, session level */
	EDUAI_LOCK_ANONYMISE = 0xED42,   /* anonymising a tenant's events */
} EduaiLockClass;

/* Hash of a tenant and a name, the key of a lock. */
extern uint64 eduai_core_lock_key(const char *tenant, const char *name);

/*
 * Says that a call is about to lock up to n keys of the classes of keys, in
 * all, and becomes a bulk when they find no room.  Call it before the call's
 * first lock; further calls of it for some of the same keys do nothing.  False
 * only with nowait.
 */
extern bool eduai_core_lock_expect(int n, bool nowait);

/* Exclusive, to the end of the transaction.  With nowait, false when not free. */
extern bool eduai_core_lock(EduaiLockClass class, uint64 key, bool nowait);

/*
 * Sorts and removes duplicates in place, then locks all.  False only with
 * nowait; some of them may be locked then.
 */
extern bool eduai_core_lock_all(EduaiLockClass class, uint64 *keys, int n, bool nowait);

/* Exclusive, session level: released by unlock, or when the session ends. */
extern bool eduai_core_lock_session(EduaiLockClass class, uint64 key, bool nowait);
extern void eduai_core_unlock_session(EduaiLockClass class, uint64 key);

#endif
