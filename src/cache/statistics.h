/*
 * statistics.h: what cache_stats shows.
 *
 * Counts of a transaction are added to the shared ones when it ends, or when
 * it reads cache_stats, so that a hit writes nothing that others write.
 *
 * A key that is not there has no kind.  Its miss is counted for the kind
 * "default", and moves to the kind that this session stores the key with soon
 * after.
 */
#ifndef EDUAI_CACHE_STATISTICS_H
#define EDUAI_CACHE_STATISTICS_H

#include "postgres.h"
#include "cache/store.h"

/* shelf: the entry's, or -1. */
extern void eduai_cache_count_get(uint64 hash, Oid database, CacheFound found, int shelf);
extern void eduai_cache_count_stored(uint64 hash, Oid database, const char *kind);

extern void eduai_cache_statistics_init(void);

#endif
