/*
 * store_entry.c: finding entries, taking them out, and making room.
 */
#include "postgres.h"

#include "cache/advice.h"
#include "cache/dictionary.h"
#include "cache/store_internal.h"
#include "cache/trainer.h"
#include "common/hashfn.h"

uint64
eduai_cache_hash(const CacheKey *key)
{
	uint64 seed = eduai_cache_shared->seed ^ ((uint64) key->database << 8 | (uint64) key->scope);
	uint64 hash;

	if (key->hash != 0)
		return key->hash;
	hash =
		hash_bytes_extended((const unsigned char *) key->tenant, (int) strlen(key->tenant), seed);
	hash = hash_bytes_extended((const unsigned char *) key->key, (int) key->length, hash);
	return hash != 0 ? hash : 1; /* 0 is nobody's in the log */
}

static bool
is_key(CacheEntry *entry, const CacheKey *key, uint64 hash)
{
	CacheCursor cursor;
	size_t tenant_length;

	if (entry->hash != hash || entry->key_length != key->length ||
		entry->database != key->database || entry->scope != key->scope)
		return false;
	tenant_length = strlen(key->tenant);
	if (entry->tenant_length != tenant_length)
		return false;
	cursor = eduai_cache_cursor(entry);
	return eduai_cache_same(&cursor, key->tenant, tenant_length) &&
		   eduai_cache_same(&cursor, key->key, key->length);
}

uint32
eduai_cache_find(const CacheKey *key, uint64 hash)
{
	uint32 block = eduai_cache_shared->buckets[eduai_cache_bucket(hash)];

	while (block != CACHE_NO_BLOCK && !is_key(eduai_cache_entry(block), key, hash))
		block = eduai_cache_entry(block)->chain;
	return block;
}

void
eduai_cache_read_deps(CacheEntry *entry, CacheSnapshot *built, CacheDeps *deps)
{
	CacheCursor cursor = eduai_cache_cursor(entry);

	eduai_cache_skip(&cursor, entry->tenant_length + entry->key_length);
	deps->n = entry->ndeps;
	eduai_cache_read(&cursor, deps->hash, entry->ndeps * sizeof(uint64));
	built->xmin = entry->xmin;
	built->xmax = entry->xmax;
	built->vague = entry->vague;
	built->n = entry->nxip;
	eduai_cache_read(&cursor, built->xip, entry->nxip * sizeof(uint64));
}

static void
unlink_entry(uint32 block)
{
	uint32 bucket = eduai_cache_bucket(eduai_cache_entry(block)->hash);
	uint32 *link = &eduai_cache_shared->buckets[bucket];

	LWLockAcquire(eduai_cache_partition(bucket), LW_EXCLUSIVE);
	while (*link != block)
		link = &eduai_cache_entry(*link)->chain;
	*link = eduai_cache_entry(block)->chain;
	LWLockRelease(eduai_cache_partition(bucket));
}

void
eduai_cache_drop(uint32 block)
{
	CacheEntry *entry = eduai_cache_entry(block);

	unlink_entry(block);
	eduai_cache_shared->entries--;
	eduai_cache_shared->shelves[entry->shelf].raw_bytes -= entry->raw_length;
	eduai_cache_shared->shelves[entry->shelf].packed_bytes -= entry->stored_length;
	eduai_cache_advice_left(entry->advice, (uint64) entry->node.weight * CACHE_BLOCK);
	if (entry->dictionary != 0)
		eduai_cache_dictionary_leave(entry->dictionary);
	eduai_cache_give(block);
}

void
eduai_cache_remove(uint32 block, CacheCounter why)
{
	CacheEntry *entry = eduai_cache_entry(block);
	CacheShelf *shelf = &eduai_cache_shared->shelves[entry->shelf];

	eduai_cache_evict_remove(&shelf->evict, eduai_cache_space(), block);
	pg_atomic_fetch_add_u64(&shelf->counters[why], 1);
	if (why == CACHE_COUNT_INVALIDATIONS)
		eduai_cache_advice_invalidated(entry->advice);
	eduai_cache_drop(block);
}

static uint64
shelf_weight(const CacheShelf *shelf)
{
	return shelf->evict.small.weight + shelf->evict.main.weight;
}

/* The kind that has most gives way. */
static CacheShelf *
heaviest(void)
{
	CacheShelf *most = &eduai_cache_shared->shelves[0];

	for (int i = 1; i < CACHE_SHELVES; i++)
		if (shelf_weight(&eduai_cache_shared->shelves[i]) > shelf_weight(most))
			most = &eduai_cache_shared->shelves[i];
	return most;
}

bool
eduai_cache_make_room(uint32 nblocks)
{
	while (eduai_cache_shared->free_blocks < nblocks)
	{
		CacheShelf *shelf = heaviest();
		uint32 victim =
			eduai_cache_evict_victim(&shelf->evict, eduai_cache_space(), eduai_cache_shared->ghost,
									 (EvictAlgorithm) eduai_cache_eviction);

		if (victim == EVICT_NONE)
			return false;
		pg_atomic_fetch_add_u64(&shelf->counters[CACHE_COUNT_EVICTIONS], 1);
		eduai_cache_advice_evicted(eduai_cache_entry(victim)->advice);
		eduai_cache_drop(victim);
	}
	return true;
}

/* A shelf without entries, which nobody can be counting on. */
static CacheShelf *
new_shelf(void)
{
	CacheShelf *spare = NULL;

	for (int i = 0; i < CACHE_SHELVES; i++)
	{
		CacheShelf *shelf = &eduai_cache_shared->shelves[i];

		if (!OidIsValid(shelf->database))
			return shelf;
		if (spare == NULL && shelf->evict.small.count + shelf->evict.main.count == 0)
			spare = shelf;
	}
	if (spare != NULL)
		eduai_cache_dictionary_forget((int) (spare - eduai_cache_shared->shelves));
	return spare;
}

CacheShelf *
eduai_cache_shelf(Oid database, const char *name, bool make)
{
	CacheShelf *shelf;

	for (int i = 0; i < CACHE_SHELVES; i++)
	{
		shelf = &eduai_cache_shared->shelves[i];
		if (shelf->database == database && strncmp(shelf->name, name, NAMEDATALEN) == 0)
			return shelf;
	}
	shelf = make ? new_shelf() : NULL;
	if (shelf == NULL)
		return NULL;
	strlcpy(shelf->name, name, NAMEDATALEN);
	shelf->database = database;
	eduai_cache_evict_reset(&shelf->evict);
	shelf->raw_bytes = 0;
	shelf->packed_bytes = 0;
	shelf->dictionary = 0;
	shelf->next_training = TRAINER_FIRST;
	shelf->puts = 0;
	shelf->train = true;
	for (int c = 0; c < CACHE_COUNTERS; c++)
		pg_atomic_write_u64(&shelf->counters[c], 0);
	return shelf;
}
