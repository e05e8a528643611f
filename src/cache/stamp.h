/*
 * stamp.h: what a deletion demands of values that are stored after it.
 *
 * A session reads, another deletes, the first stores what it had read before:
 * the deleted value would be back.  So a deletion leaves a stamp, and a value
 * is stored only when the snapshot it was built under passes the stamps of all
 * that deleted it: when it sees what was committed at the deletion, and the
 * transaction that deleted, if that one wrote anything.  No transaction id is
 * drawn for it, so it serves on standbys, too.
 */
#ifndef EDUAI_CACHE_STAMP_H
#define EDUAI_CACHE_STAMP_H

#include "postgres.h"
#include "cache/validity.h"

#define STAMP_XIDS 8

typedef struct CacheStamp
{
	uint64 xmax;            /* of the latest snapshot at the deletion; 0: demands nothing */
	uint64 writer;          /* a transaction that must be visible, or 0 */
	int n;                  /* ids in progress then; -1: more than fit */
	uint64 xip[STAMP_XIDS]; /* sorted */
} CacheStamp;

/* Pure functions. */

/* Is the transaction over, as the snapshot sees it? */
extern bool eduai_cache_snapshot_sees(const CacheSnapshot *snapshot, uint64 xid);

/* Does "a" see all that "b" sees, as far as they tell? */
extern bool eduai_cache_snapshot_covers(const CacheSnapshot *a, const CacheSnapshot *b);

extern CacheStamp eduai_cache_stamp_of(const CacheSnapshot *latest);
extern CacheStamp eduai_cache_stamp_of_writer(uint64 xid);
extern bool eduai_cache_stamp_passed(const CacheStamp *stamp, const CacheSnapshot *built);

/* Does whatever passes the one pass the other? */
extern bool eduai_cache_stamp_implies(const CacheStamp *stamp, const CacheStamp *other);

/* No snapshot with this or a greater xmin fails the stamp. */
extern uint64 eduai_cache_stamp_horizon(const CacheStamp *stamp);

#endif
