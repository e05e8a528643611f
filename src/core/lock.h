/*
 * lock.h: eduai's transaction-level locks, in the lock manager's advisory
 * space but out of reach of pg_advisory_lock(), whose tags use field4 1 and 2.
 *
 * Lock order within one call: event ids, then streams, then learners, each
 * sorted by (class, key).
 */
#ifndef EDUAI_CORE_LOCK_H
#define EDUAI_CORE_LOCK_H

#include "postgres.h"
#include "storage/lock.h"

typedef enum EduaiLockClass
{
	/* a sub-object of the database, one per worker kind, session level */
	EDUAI_LOCK_WORKER = 0xED00,
	EDUAI_LOCK_EVENT_ID = 0xED11,
	EDUAI_LOCK_STREAM = 0xED12,
	EDUAI_LOCK_LEARNER = 0xED13,    /* a learner's inline projections */
	EDUAI_LOCK_UNIQUE_KEY = 0xED14, /* enqueue's unique and idempotency keys */
	EDUAI_LOCK_QUOTA = 0xED15,      /* counting a tenant, session level */
} EduaiLockClass;

/* Hash of a tenant and a name, the key of a lock. */
extern uint64 eduai_core_lock_key(const char *tenant, const char *name);

/* Exclusive, to the end of the transaction.  With nowait, false when not free. */
extern bool eduai_core_lock(EduaiLockClass class, uint64 key, bool nowait);

/* Sorts and removes duplicates in place, then locks all; false only with nowait. */
extern bool eduai_core_lock_all(EduaiLockClass class, uint64 *keys, int n, bool nowait);

/* Exclusive, session level: released by unlock, or when the session ends. */
extern bool eduai_core_lock_session(EduaiLockClass class, uint64 key, bool nowait);
extern void eduai_core_unlock_session(EduaiLockClass class, uint64 key);

#endif
