/*
 * table.h: the counters of all keys, in shared memory of a fixed size.
 *
 * An entry is (database, tenant, tier, request type, key).  It is found by a
 * 64-bit hash with the server's own random seed, and known by its bytes: the
 * label.  A key that has no room in the label stands there as its SHA-256.
 *
 * The table is cut into shards by the hash, a lock for each; who takes several
 * takes them in ascending order.  Everything in a shard is guarded by its lock.
 * Under it nothing raises, allocates or waits, but for the slots' lock
 * (slots.h), which comes after it.
 *
 * An entry gives its place away only when forgetting it changes nothing: its
 * window is empty, its debt paid, its slots given back.  A shard without such
 * an entry is full.  A new key is then refused, or counts in the shard's
 * overflow counter of its (tenant, tier, request type), as eduai.rate_when_full
 * says; slots are always refused.  Places are kept aside for those counters.
 * A key that gets an entry of its own while such a counter counts begins with a
 * copy of it, which may hold what that key used: never too little.
 *
 * Time is the limiter's own (now_us()): it begins with the wall clock's, then
 * follows the monotonic clock, and goes on from where it was after a restart.
 */
#ifndef EDUAI_RATELIMIT_TABLE_H
#define EDUAI_RATELIMIT_TABLE_H

#include "ratelimit/counter.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#define RATE_LABEL       224
#define RATE_MAX_SHARDS  64
#define RATE_SHARD_SHIFT 40   /* of a hash, to the bits that choose the shard */
#define RATE_FREE        (-1) /* instead of an entry's idle time */

/* How an entry is called. */
typedef struct RateName
{
	uint64 hash;
	Oid database;
	uint8 tenant_length;
	uint8 tier_length;
	uint8 type_length;
	uint8 key_length;
	bool digest;            /* the key is its SHA-256 */
	bool overflow;          /* of the keys that found no room; without a key */
	char label[RATE_LABEL]; /* tenant, tier, type, key */
} RateName;

/* In this order a decision touches four cache lines of it. */
typedef struct RateEntry
{
	int32 next; /* in its chain, or among the free ones; of the table; -1: none */
	int32 slot; /* the first of the slots that are held (slots.h); -1: none */
	RateName name;
	uint64 admitted; /* calls, since the entry was made */
	uint64 refused;
	RateCounter counter;
} RateEntry;

typedef struct RateShard
{
	int32 free;      /* entries */
	int32 used;      /* entries with a key */
	int32 overflows; /* entries without */
	int64 sweep_us;  /* no entry is idle before */
	uint64 changes;  /* so far: what saving looks at */
	uint64 refused;  /* calls, for want of room */
	uint64 overflowed;
	int64 full_us; /* when a call last found it full; 0: never */
	char padding[64];
} RateShard;

typedef struct RateTable
{
	int nshards;
	int shard_entries; /* for keys, in each */
	int shard_kept;    /* for overflow counters, in each */
	int shard_chains;  /* a power of two */
	uint64 seed;
	int64 ahead_us;         /* of the limiter's time before the monotonic clock */
	pg_atomic_uint32 dirty; /* something changed since the last save began */
	pg_atomic_uint64 sessions;
	RateShard shards[RATE_MAX_SHARDS];
} RateTable;

extern void eduai_ratelimit_table_init(void);

/* NULL without preload. */
extern RateTable *eduai_ratelimit_table(void);

extern int64 eduai_ratelimit_now_us(void);

/*
 * Makes the name of a key under a prefix: tenant, tier and type, which are in
 * name->label and its lengths already.
 */
extern void eduai_ratelimit_name_key(RateName *name, const char *key, int length);

/* Its hash again, of a label that is whole. */
extern void eduai_ratelimit_name_hash(RateName *name);

static inline int
eduai_ratelimit_shard_of(const RateTable *table, const RateName *name)
{
	return (int) ((name->hash >> RATE_SHARD_SHIFT) & (table->nshards - 1));
}

/* Outside of locks: the name will be looked for at once.  Has its memory fetched meanwhile. */
extern void eduai_ratelimit_expect(const RateName *name);

extern void eduai_ratelimit_shard_lock(int shard, LWLockMode mode);
extern void eduai_ratelimit_shard_unlock(int shard);

/* ---- under the shard's lock ---- */

/* The entry of that name; NULL: none. */
extern RateEntry *eduai_ratelimit_find(const RateName *name);

/*
 * What a call by that name is counted in: its entry, or else what a new one
 * would begin with.  NULL: nothing counts.  *full: it would find no room.
 */
extern const RateEntry *
eduai_ratelimit_look(const RateName *name, RateAlgorithm algorithm, int64 now_us, bool *full);

/* The entry, made at need, or the overflow counter's; NULL: no room. */
extern RateEntry *eduai_ratelimit_make(const RateName *name, RateAlgorithm algorithm, int64 now_us);

/* To be called when an entry's counter changed; outside of the lock then save_soon() (save.h). */
extern void eduai_ratelimit_changed(RateEntry *entry);

/* It is not to give its place away until changed() is called, with the lock held all the while. */
extern void eduai_ratelimit_pin(RateEntry *entry);

/* A call was refused for want of room. */
extern void eduai_ratelimit_note_full(const RateName *name, int64 now_us);

/* Forgets an entry; its slots must have been given back. */
extern void eduai_ratelimit_forget(RateEntry *entry);

/* The i-th place of a shard, NULL when it is free; i up to places(). */
extern RateEntry *eduai_ratelimit_entry_at(int shard, int i);
extern int eduai_ratelimit_places(void);

/* Of an entry's index in the table and back. */
extern int32 eduai_ratelimit_index(const RateEntry *entry);
extern RateEntry *eduai_ratelimit_entry(int32 index, int *shard);

#endif
