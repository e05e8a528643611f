/*
 * steady.h: whether definitions and rights stand still.
 */
#ifndef EDUAI_CACHE_STEADY_H
#define EDUAI_CACHE_STEADY_H

#include "postgres.h"

/*
 * False while a transaction that changed a catalog commits and others may not
 * have been told.  What was computed between two calls that return true and
 * the same *changes, with invalidations accepted after the first, used the
 * definitions that its snapshot sees.
 */
extern bool eduai_cache_catalog_steady(uint64 *changes);

/* Around a change whose transaction is not this session's: COMMIT PREPARED. */
extern void eduai_cache_catalog_change_begins(void);
extern void eduai_cache_catalog_change_ends(void);

#endif
