/*
 * ring.h: the transactions that wrote a dependency lately, and what two
 * snapshots make of them.  A pure core: no clock, no shared memory of its own,
 * no SQL, no errors.
 *
 * A ring keeps the CACHE_RING_IDS greatest full transaction ids it was given,
 * in no order, and the greatest that it lost.  One writer at a time changes it
 * (the caller's lock); readers take no lock.  The writer raises "lost" before
 * it overwrites an id, and a reader looks at "lost" last, so a reader sees
 * each id that was there before he began either in its place or as lost.  An
 * id that comes while he looks belongs to a transaction that had not
 * committed when both snapshots were taken: neither sees it, so it may be
 * missed.
 */
#ifndef EDUAI_CACHE_RING_H
#define EDUAI_CACHE_RING_H

#include "postgres.h"
#include "cache/validity.h"
#include "port/atomics.h"
#include "storage/spin.h"

#define CACHE_RING_IDS 14 /* with what else it holds, two lines of 64 bytes */

typedef struct CacheRing
{
	slock_t lock; /* of writers */
	pg_atomic_uint64 lost;
	pg_atomic_uint64 ids[CACHE_RING_IDS]; /* 0: none yet */
} CacheRing;

typedef enum CacheVisibility
{
	CACHE_INVISIBLE,
	CACHE_VISIBLE,
	CACHE_VAGUE, /* the snapshot cannot say */
} CacheVisibility;

extern void eduai_cache_ring_init(CacheRing *ring);

/* Remembers the id; the caller holds the ring's lock. */
extern void eduai_cache_ring_add(CacheRing *ring, uint64 id);

extern CacheVisibility eduai_cache_visible(const CacheSnapshot *snapshot, uint64 id);

/*
 * Do the two see the same of the ring's transactions?  With "both", do both
 * see all of them?
 */
extern bool
eduai_cache_ring_agrees(CacheRing *ring, const CacheSnapshot *a, const CacheSnapshot *b, bool both);

#endif
