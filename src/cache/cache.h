/*
 * cache.h: the cache room, values in shared memory that are never stale.
 */
#ifndef EDUAI_CACHE_CACHE_H
#define EDUAI_CACHE_CACHE_H

/* Registers the room's parts; called once, from _PG_init(). */
extern void eduai_cache_init(void);

#endif
