/*
 * store.h: the entries in shared memory: keys, values, lifetimes, eviction.
 *
 * The store knows nothing of tables or tags as such: an entry carries the
 * snapshot that it was built under and the hashes of what it depends on, and
 * whoever reads brings a judge (cache/validity.h) that says whether it may be
 * served.  Values are bytes, compressed by the store as it likes.
 *
 * Every operation is short, holds one partition's lock, allocates in shared
 * memory without ever raising, and evicts rather than grow past
 * eduai.cache_size.  "Not stored" is an answer, never an error.
 */
#ifndef EDUAI_CACHE_STORE_H
#define EDUAI_CACHE_STORE_H

#include "postgres.h"
#include "cache/validity.h"
#include "utils/snapshot.h"

/* What a key means: the same text under another scope is another key. */
typedef enum CacheScope
{
	CACHE_SCOPE_VALUE, /* cache_set(): database, tenant, key */
	CACHE_SCOPE_QUERY, /* cached_query(): also role, search_path, settings: all in "key" */
} CacheScope;

typedef struct CacheKey
{
	CacheScope scope;
	Oid database;
	const char *tenant;
	const char *key; /* bytes, any */
	size_t length;
	uint64 hash; /* eduai_cache_hash() of it, or 0: not made yet */
} CacheKey;

typedef struct CacheItem
{
	CacheKey key;
	const char *kind;
	const char *value; /* bytes */
	size_t length;
	int64 ttl_us;               /* > 0; on the monotonic clock */
	const CacheDeps *deps;      /* of tags and tables; may be NULL */
	const CacheSnapshot *built; /* never NULL */
	uint32 advice;              /* the cached query's place in cache_advice, or 0 */
} CacheItem;

typedef enum CacheFound
{
	CACHE_HIT,
	CACHE_MISS,
	CACHE_EXPIRED,
	CACHE_STALE, /* the judge refused it */
} CacheFound;

/* Puts the item in place of what was there; false: not stored (too large, full, a newer one stands). */
extern bool eduai_cache_store_put(const CacheItem *item);

/*
 * On CACHE_HIT *value is palloc'd in the current context, *length long and
 * NUL-terminated after it.  "judge" may not raise or wait; it is called under
 * the partition's lock.
 */
extern CacheFound
eduai_cache_store_get(const CacheKey *key, const CacheJudge *judge, char **value, size_t *length);

/*
 * The same without a copy where that is possible: the value is good until the process's
 * next call of the store, and has no end mark.  *copy: NULL, or what to free then.
 */
extern CacheFound
eduai_cache_store_view(const CacheKey *key, const CacheJudge *judge, char **value, char **copy);

extern bool eduai_cache_store_delete(const CacheKey *key);

/* Of all but the key's own "hash"; never 0.  With preload only. */
extern uint64 eduai_cache_hash(const CacheKey *key);
/* Removes entries of the database and tenant; their number. */
extern int64 eduai_cache_store_delete_dep(Oid database, const char *tenant, uint64 dep);
extern int64
eduai_cache_store_delete_pattern(Oid database, const char *tenant, const char *pattern);
/* Of all tenants with NULL; allocates nothing. */
extern int64 eduai_cache_store_clear(Oid database, const char *tenant);

/* Counts for cache_stats that only a caller knows. */
extern void eduai_cache_store_count_computation(const char *kind);

extern void eduai_cache_store_init(void);

#endif
