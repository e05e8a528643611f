/*
 * writes.h: what the running transaction wrote, as dependencies of the cache.
 *
 * Tables come from the statistics that PostgreSQL keeps per transaction: rows
 * inserted, updated and deleted and tables truncated, by whatever way, with
 * rolled back savepoints left out.  A partition's writes are its ancestors',
 * too.  Tags come through eduai_cache_wrote().
 */
#ifndef EDUAI_CACHE_WRITES_H
#define EDUAI_CACHE_WRITES_H

#include "postgres.h"
#include "cache/validity.h"

/*
 * Calls found() for each dependency written so far, some of them twice.
 * "ancestors" needs the catalogs, so it is not for the judge of a statement,
 * which asks eduai_cache_writes_own().
 */
extern void eduai_cache_writes_each(void (*found)(uint64 dep, void *arg), void *arg);

/* The same in *deps; false when there are more than it holds. */
extern bool eduai_cache_writes_own(CacheDeps *deps);

/* Did definitions or rights change in this transaction? */
extern bool eduai_cache_writes_catalog(void);

/* Nothing was written: a new transaction. */
extern void eduai_cache_writes_forget(void);

extern void
eduai_cache_writes_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent);
extern void eduai_cache_writes_init(void);

#endif
