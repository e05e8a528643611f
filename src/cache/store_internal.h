/*
 * store_internal.h: how the entries lie in shared memory.
 *
 * One part of eduai.cache_size bytes, its locks included, holds everything:
 * this struct, the buckets of the index, the ghost's traces, the log of
 * deletions, and blocks of 256 bytes.  An entry is a chain of blocks: its
 * header in the first, then tenant, key, dependencies, ids of its snapshot and
 * value as one run of bytes through them all.  So memory does not fragment,
 * and what an entry gives back always serves another.
 *
 * Locks, in this order:
 *   writer       exclusive for every change: free blocks, queues, kinds, log of
 *                deletions, dictionaries.  Held for a lookup and a few links;
 *                bytes are copied into taken blocks before and after.
 *   partitions   a lock for each 64th of the buckets: shared to read an entry,
 *                exclusive (by the writer) to link or unlink one.  What a
 *                reader may reach does not change but for EvictNode.uses.
 *
 * Nothing raises or allocates under them.  A process that is killed with
 * blocks in its hands takes the server through a crash restart, which empties
 * the cache; there is no other way to lose them.
 */
#ifndef EDUAI_CACHE_STORE_INTERNAL_H
#define EDUAI_CACHE_STORE_INTERNAL_H

#include "postgres.h"
#include "cache/evict.h"
#include "cache/stamp.h"
#include "cache/store.h"
#include "storage/lwlock.h"

#define CACHE_PARTITIONS   64
#define CACHE_BLOCK        256
#define CACHE_NO_BLOCK     UINT32_MAX
#define CACHE_SHELVES      128
#define CACHE_DICTIONARIES 64
#define CACHE_PATTERNS     32
#define CACHE_PATTERN_TEXT 128
#define CACHE_LOG_WAYS     3

/* What cache_stats counts beside what it can look up. */
typedef enum CacheCounter
{
	CACHE_COUNT_HITS,
	CACHE_COUNT_MISSES,
	CACHE_COUNT_COMPUTATIONS,
	CACHE_COUNT_STALE,
	CACHE_COUNT_EVICTIONS,
	CACHE_COUNT_EXPIRATIONS,
	CACHE_COUNT_INVALIDATIONS,
	CACHE_COUNTERS
} CacheCounter;

/* A kind of a database.  The name is written once, under the writer lock. */
typedef struct CacheShelf
{
	Oid database; /* InvalidOid: free */
	char name[NAMEDATALEN];
	/* under the writer lock: */
	int max_entries;
	EvictState evict;
	uint64 raw_bytes;     /* of values as they were put */
	uint64 packed_bytes;  /* of values as they are stored */
	uint32 dictionary;    /* the one for new entries, by place + 1, or 0 */
	uint64 next_training; /* when so many were put */
	uint64 puts;
	bool train;
	/* by anybody: */
	pg_atomic_uint64 counters[CACHE_COUNTERS];
} CacheShelf;

/* The head of a block, and all of one that is not an entry's first. */
typedef struct CacheBlock
{
	uint32 next;
	char data[CACHE_BLOCK - sizeof(uint32)];
} CacheBlock;

typedef struct CacheEntry
{
	uint32 next;  /* as CacheBlock's */
	uint32 chain; /* the next entry of the bucket; its partition's lock */
	EvictNode node;
	uint64 hash;
	int64 expires_us;
	uint64 xmin; /* of the snapshot */
	uint64 xmax;
	uint32 key_length;
	uint32 stored_length;
	uint32 raw_length;
	uint32 dictionary; /* id, 0: none */
	uint32 advice;     /* the cached query's place in cache_advice, or 0 */
	Oid database;
	uint8 tenant_length;
	uint8 scope;
	uint8 ndeps;
	uint8 nxip;
	uint8 packed; /* by zstd */
	uint8 vague;  /* the snapshot is */
	uint8 shelf;
	char data[FLEXIBLE_ARRAY_MEMBER];
} CacheEntry;

#define CACHE_ENTRY_HEAD offsetof(CacheEntry, data)

typedef struct CacheDictionary
{
	uint32 id;     /* 0: free; never used twice */
	uint32 first;  /* its blocks */
	uint32 length; /* bytes */
	uint32 users;  /* entries */
	uint8 shelf;
	bool current;
} CacheDictionary;

typedef struct CacheDeletion
{
	uint64 what; /* a key's or a dependency's hash; 0: free */
	CacheStamp stamp;
} CacheDeletion;

typedef struct CacheDeletionSet
{
	CacheDeletion last[CACHE_LOG_WAYS];
	uint32 turn;
	uint64 lost; /* builders must have this xmin at least */
} CacheDeletionSet;

typedef struct CachePatternDeletion
{
	Oid database; /* InvalidOid: free */
	char tenant[NAMEDATALEN];
	char pattern[CACHE_PATTERN_TEXT]; /* a long one is cut, with a '*' at its end */
	bool queries;                     /* of both scopes: cache_clear() */
	CacheStamp stamp;
} CachePatternDeletion;

typedef struct CacheShared
{
	uint64 seed; /* of hashes: nobody can choose keys that collide */
	uint32 nblocks;
	uint32 nbuckets; /* a power of two, CACHE_PARTITIONS at least */
	uint32 nlog;     /* a power of two */
	Size total;      /* with the locks: eduai.cache_size */
	/* under the writer lock: */
	uint32 free_blocks;
	uint32 free;
	uint32 dictionary_id;
	uint32 pattern_turn;
	uint64 pattern_lost;
	uint64 entries;
	CachePatternDeletion patterns[CACHE_PATTERNS];
	CacheDictionary dictionaries[CACHE_DICTIONARIES];
	CacheShelf shelves[CACHE_SHELVES];
	EvictGhost ghost;
	/* where the rest is */
	CacheDeletionSet *log;
	uint32 *buckets; /* first entry of each; its partition's lock */
	char *blocks;
} CacheShared;

/* NULL without preload. */
extern CacheShared *eduai_cache_shared;
extern LWLockPadded *eduai_cache_locks;
extern int eduai_cache_eviction;

#define CACHE_WRITER (&eduai_cache_locks[CACHE_PARTITIONS].lock)

static inline LWLock *
eduai_cache_partition(uint32 bucket)
{
	return &eduai_cache_locks[bucket % CACHE_PARTITIONS].lock;
}

static inline uint32
eduai_cache_bucket(uint64 hash)
{
	return (uint32) hash & (eduai_cache_shared->nbuckets - 1);
}

static inline CacheEntry *
eduai_cache_entry(uint32 block)
{
	return (CacheEntry *) (eduai_cache_shared->blocks + (size_t) block * CACHE_BLOCK);
}

/* The queues' nodes, in the entries' headers. */
static inline EvictSpace
eduai_cache_space(void)
{
	return (EvictSpace){eduai_cache_shared->blocks + offsetof(CacheEntry, node), CACHE_BLOCK};
}

/* ---- runs of bytes through blocks (store_block.c) ---- */

typedef struct CacheCursor
{
	char *at;
	size_t left; /* in this block */
	uint32 next;
} CacheCursor;

/* At the first byte after the header of an entry; of a chain without one. */
extern CacheCursor eduai_cache_cursor(CacheEntry *entry);
extern CacheCursor eduai_cache_cursor_plain(uint32 block);
extern void eduai_cache_read(CacheCursor *cursor, void *to, size_t n);
extern void eduai_cache_write(CacheCursor *cursor, const void *from, size_t n);
extern bool eduai_cache_same(CacheCursor *cursor, const void *bytes, size_t n);
extern void eduai_cache_skip(CacheCursor *cursor, size_t n);

/* How many blocks a run of n bytes needs behind a header of "head" bytes. */
extern uint32 eduai_cache_blocks_for(size_t head, size_t n);

/* Under the writer lock: n blocks in a chain, of which there are enough free; back again. */
extern uint32 eduai_cache_take(uint32 n);
extern void eduai_cache_give(uint32 first);

/* ---- entries (store_entry.c); all under the writer lock unless said ---- */

/* Under the partition's lock: the entry of the key or CACHE_NO_BLOCK. */
extern uint32 eduai_cache_find(const CacheKey *key, uint64 hash);

/* Takes an entry, not in a queue any more, out of the index and frees it. */
extern void eduai_cache_drop(uint32 block);
/* Takes an entry out of its queue, the index and memory, and counts it. */
extern void eduai_cache_remove(uint32 block, CacheCounter why);

/* Evicts until that many blocks are free; false when that cannot be. */
extern bool eduai_cache_make_room(uint32 nblocks);

/* A place for a kind of a database, made at need; NULL when there is none. */
extern CacheShelf *eduai_cache_shelf(Oid database, const char *name, bool make);

extern void eduai_cache_read_deps(CacheEntry *entry, CacheSnapshot *built, CacheDeps *deps);

/* ---- the log of deletions (store_log.c), under the writer lock ---- */

extern void eduai_cache_log_deletion(uint64 what, const CacheStamp *stamp);
extern void eduai_cache_log_pattern(Oid database, const char *tenant, const char *pattern,
									bool queries, const CacheStamp *stamp);
/* May it be stored, as far as deletions go? */
extern bool eduai_cache_log_passes(const CacheItem *item, uint64 hash);

/* '*' is any run of bytes, '?' any one character. */
extern bool
eduai_cache_matches(const char *pattern, size_t pattern_length, const char *text, size_t length);


#endif
