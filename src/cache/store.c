/*
 * store.c: putting, getting and deleting one entry.  See store.h and
 * store_internal.h.
 */
#include "postgres.h"

#include "cache/advice.h"
#include "cache/clock.h"
#include "cache/dictionary.h"
#include "cache/kind.h"
#include "cache/squeeze.h"
#include "cache/statistics.h"
#include "cache/store_internal.h"
#include "cache/trainer.h"
#include "core/pause.h"

#define LARGEST_SHARE 4 /* a value takes at most a quarter of the blocks */

/* What is being put, once its bytes are as they will be stored. */
typedef struct Putting
{
	const CacheItem *item;
	Squeezed value;
	uint64 hash;
	uint32 dictionary;
	uint32 nblocks;
	uint32 first;
} Putting;

/* What a look at an entry found, with its bytes in the scratch buffer. */
typedef struct Looked
{
	CacheFound found;
	const char *bytes;
	size_t room; /* needed and not there: look again with more */
	size_t stored_length;
	size_t raw_length;
	uint32 dictionary;
	bool packed;
	int shelf; /* -1: not known */
} Looked;

static size_t
run_length(const Putting *put)
{
	const CacheItem *item = put->item;
	int ndeps = item->deps != NULL ? item->deps->n : 0;

	return strlen(item->key.tenant) + item->key.length + (ndeps + item->built->n) * sizeof(uint64) +
		   put->value.length;
}

static bool
prepare(Putting *put, const CacheItem *item)
{
	put->item = item;
	put->hash = eduai_cache_hash(&item->key);
	put->dictionary = eduai_cache_dictionary_current(item->key.database, item->kind);
	put->value = eduai_cache_squeeze(item->value, item->length, put->dictionary);
	if (!put->value.packed)
		put->dictionary = 0;
	if (item->length > PG_UINT32_MAX || item->key.length > PG_UINT16_MAX)
		return false;
	put->nblocks = eduai_cache_blocks_for(CACHE_ENTRY_HEAD, run_length(put));
	return put->nblocks <= eduai_cache_shared->nblocks / LARGEST_SHARE;
}

/* The blocks are this process's alone: no lock. */
static void
fill(const Putting *put)
{
	const CacheItem *item = put->item;
	CacheEntry *entry = eduai_cache_entry(put->first);
	CacheCursor cursor = eduai_cache_cursor(entry);
	size_t tenant_length = strlen(item->key.tenant);

	entry->hash = put->hash;
	entry->node.weight = put->nblocks;
	entry->expires_us = eduai_cache_now_us() + item->ttl_us;
	entry->xmin = item->built->xmin;
	entry->xmax = item->built->xmax;
	entry->key_length = (uint32) item->key.length;
	entry->stored_length = (uint32) put->value.length;
	entry->raw_length = (uint32) item->length;
	entry->dictionary = put->dictionary;
	entry->advice = item->advice;
	entry->database = item->key.database;
	entry->tenant_length = (uint8) tenant_length;
	entry->scope = (uint8) item->key.scope;
	entry->ndeps = (uint8) (item->deps != NULL ? item->deps->n : 0);
	entry->nxip = (uint8) item->built->n;
	entry->vague = item->built->vague;
	entry->packed = put->value.packed;
	eduai_cache_write(&cursor, item->key.tenant, tenant_length);
	eduai_cache_write(&cursor, item->key.key, item->key.length);
	if (entry->ndeps > 0)
		eduai_cache_write(&cursor, item->deps->hash, entry->ndeps * sizeof(uint64));
	eduai_cache_write(&cursor, item->built->xip, entry->nxip * sizeof(uint64));
	eduai_cache_write(&cursor, put->value.bytes, put->value.length);
}

/* Was what stands there built later? */
static bool
newer_stands(uint32 old, const CacheItem *item)
{
	CacheEntry *entry = eduai_cache_entry(old);
	CacheSnapshot built;
	CacheDeps deps;

	if (entry->expires_us <= eduai_cache_now_us())
		return false;
	eduai_cache_read_deps(entry, &built, &deps);
	return !eduai_cache_snapshot_covers(item->built, &built);
}

/* One more entry will be in the kind: others give way. */
static void
keep_limit(CacheShelf *shelf, int max_entries)
{
	shelf->max_entries = max_entries;
	while (shelf->evict.small.count + shelf->evict.main.count >= max_entries)
	{
		uint32 victim =
			eduai_cache_evict_victim(&shelf->evict, eduai_cache_space(), eduai_cache_shared->ghost,
									 (EvictAlgorithm) eduai_cache_eviction);

		if (victim == EVICT_NONE)
			return;
		pg_atomic_fetch_add_u64(&shelf->counters[CACHE_COUNT_EVICTIONS], 1);
		eduai_cache_advice_evicted(eduai_cache_entry(victim)->advice);
		eduai_cache_drop(victim);
	}
}

/* Puts the entry into its kind's queues, where the old one of its key was if that is possible. */
static void
queue_entry(CacheShelf *shelf, const Putting *put, uint32 old, int max_entries)
{
	EvictNode *node = &eduai_cache_entry(put->first)->node;
	uint8 number = (uint8) (shelf - eduai_cache_shared->shelves);

	eduai_cache_entry(put->first)->shelf = number;
	pg_atomic_write_u32(&node->uses, 0);
	/* kinds share the ghost; 0 is nobody's */
	node->print = ((uint32) (put->hash >> 32) ^ (number * 0x9E3779B9U)) | 1;
	if (old != CACHE_NO_BLOCK && eduai_cache_entry(old)->shelf == number)
	{
		eduai_cache_evict_replace(&shelf->evict, eduai_cache_space(), old, put->first);
		eduai_cache_drop(old);
		return;
	}
	if (old != CACHE_NO_BLOCK)
	{
		eduai_cache_evict_remove(&eduai_cache_shared->shelves[eduai_cache_entry(old)->shelf].evict,
								 eduai_cache_space(), old);
		eduai_cache_drop(old);
	}
	keep_limit(shelf, max_entries);
	eduai_cache_evict_insert(&shelf->evict, eduai_cache_space(), eduai_cache_shared->ghost,
							 (EvictAlgorithm) eduai_cache_eviction, put->first);
}

/* Under the writer lock: makes the filled blocks an entry; false when they may not be one. */
static bool
link_entry(const Putting *put, int max_entries, bool train, bool *train_now)
{
	const CacheItem *item = put->item;
	uint32 bucket = eduai_cache_bucket(put->hash);
	CacheEntry *entry = eduai_cache_entry(put->first);
	uint32 old = eduai_cache_find(&item->key, put->hash);
	CacheShelf *shelf;

	if ((old != CACHE_NO_BLOCK && newer_stands(old, item)) ||
		!eduai_cache_log_passes(item, put->hash))
		return false;
	shelf = eduai_cache_shelf(item->key.database, item->kind, true);
	if (shelf == NULL || (put->dictionary != 0 && !eduai_cache_dictionary_join(put->dictionary)))
		return false;
	shelf->train = train;
	shelf->puts++;
	shelf->raw_bytes += entry->raw_length;
	shelf->packed_bytes += entry->stored_length;
	eduai_cache_shared->entries++;
	eduai_cache_advice_entered(item->advice, (uint64) put->nblocks * CACHE_BLOCK);
	queue_entry(shelf, put, old, max_entries);
	*train_now = eduai_cache_trainer_due(shelf);
	LWLockAcquire(eduai_cache_partition(bucket), LW_EXCLUSIVE);
	entry->chain = eduai_cache_shared->buckets[bucket];
	eduai_cache_shared->buckets[bucket] = put->first;
	LWLockRelease(eduai_cache_partition(bucket));
	return true;
}

bool
eduai_cache_store_put(const CacheItem *item)
{
	Putting put;
	int max_entries;
	bool train;
	bool train_now = false;
	bool stored;

	if (eduai_cache_shared == NULL || !prepare(&put, item))
		return false;
	eduai_cache_kind_limits(item->kind, &max_entries, &train);
	LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	stored = eduai_cache_make_room(put.nblocks);
	if (stored)
		put.first = eduai_cache_take(put.nblocks);
	LWLockRelease(CACHE_WRITER);
	if (!stored)
		return false;
	fill(&put);
	EDUAI_PAUSE("cache-filled");
	LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	stored = link_entry(&put, max_entries, train, &train_now);
	if (!stored)
		eduai_cache_give(put.first);
	LWLockRelease(CACHE_WRITER);
	if (stored)
		eduai_cache_count_stored(put.hash, item->key.database, item->kind);
	if (train_now)
		eduai_cache_trainer_start(item->key.database, item->kind);
	return stored;
}

/* Under the partition's lock: what is there for the key, its bytes copied. */
static void
look(const CacheKey *key, uint64 hash, const CacheJudge *judge, char *scratch, size_t room,
	 Looked *looked)
{
	uint32 block = eduai_cache_find(key, hash);
	CacheEntry *entry;
	CacheCursor cursor;

	looked->found = CACHE_MISS;
	looked->room = 0;
	looked->shelf = -1;
	if (block == CACHE_NO_BLOCK)
		return;
	entry = eduai_cache_entry(block);
	looked->shelf = entry->shelf;
	looked->found = CACHE_EXPIRED;
	if (entry->expires_us <= eduai_cache_now_us())
		return;
	looked->found = CACHE_STALE;
	if (entry->ndeps > 0 && judge != NULL)
	{
		CacheSnapshot built;
		CacheDeps deps;

		eduai_cache_read_deps(entry, &built, &deps);
		if (!eduai_cache_valid(judge, &built, &deps))
			return;
	}
	looked->found = CACHE_HIT;
	looked->room = entry->stored_length;
	if (looked->room > room)
		return;
	cursor = eduai_cache_cursor(entry);
	eduai_cache_skip(&cursor, entry->tenant_length + entry->key_length +
								  (entry->ndeps + entry->nxip) * sizeof(uint64));
	eduai_cache_read(&cursor, scratch, entry->stored_length);
	looked->bytes = scratch;
	looked->stored_length = entry->stored_length;
	looked->raw_length = entry->raw_length;
	looked->dictionary = entry->dictionary;
	looked->packed = entry->packed;
	if (eduai_cache_eviction == EVICT_LRU)
		eduai_cache_evict_renew(&eduai_cache_shared->shelves[entry->shelf].evict,
								eduai_cache_space(), block);
	else
		eduai_cache_evict_use(&entry->node);
}

/* LRU's order changes with each hit: the writer lock, too. */
static void
look_locked(const CacheKey *key, uint64 hash, const CacheJudge *judge, char *scratch, size_t room,
			Looked *looked)
{
	LWLock *partition = eduai_cache_partition(eduai_cache_bucket(hash));
	bool lru = eduai_cache_eviction == EVICT_LRU;

	if (unlikely(lru))
		LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	LWLockAcquire(partition, LW_SHARED);
	look(key, hash, judge, scratch, room, looked);
	LWLockRelease(partition);
	if (unlikely(lru))
		LWLockRelease(CACHE_WRITER);
}

static bool
remove_key(const CacheKey *key, uint64 hash, bool only_expired, CacheCounter why)
{
	uint32 block;
	bool removed;

	LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	block = eduai_cache_find(key, hash);
	removed = block != CACHE_NO_BLOCK &&
			  (!only_expired || eduai_cache_entry(block)->expires_us <= eduai_cache_now_us());
	if (removed)
		eduai_cache_remove(block, why);
	LWLockRelease(CACHE_WRITER);
	return removed;
}

/* The bytes as they were put; false when the dictionary is gone, and so the entry. */
static bool
open_value(const Looked *looked, char **value)
{
	*value = palloc_extended(looked->raw_length + 1, MCXT_ALLOC_HUGE);
	(*value)[looked->raw_length] = '\0';
	if (!looked->packed)
	{
		memcpy(*value, looked->bytes, looked->raw_length);
		return true;
	}
	if ((looked->dictionary == 0 || eduai_cache_dictionary_fetch(looked->dictionary)) &&
		eduai_cache_unsqueeze(looked->bytes, looked->stored_length, looked->dictionary, *value,
							  looked->raw_length))
		return true;
	pfree(*value);
	return false;
}

/* The same where they lie, if they are open; the next look is over them.  *copy is to be freed. */
static bool
view_value(const Looked *looked, char **value, char **copy)
{
	*copy = NULL;
	if (!looked->packed)
	{
		*value = unconstify(char *, looked->bytes);
		return true;
	}
	if (!open_value(looked, value))
		return false;
	*copy = *value;
	return true;
}

/* "copy" NULL: the value is the caller's. */
static CacheFound
fetch(const CacheKey *key, const CacheJudge *judge, char **value, char **copy, size_t *length)
{
	Looked looked;
	uint64 hash;
	size_t room = 16 * 1024;
	char *scratch;

	if (eduai_cache_shared == NULL)
		return CACHE_MISS;
	hash = eduai_cache_hash(key);
	for (;;)
	{
		scratch = eduai_cache_scratch(room);
		if (scratch == NULL)
			return CACHE_MISS;
		look_locked(key, hash, judge, scratch, room, &looked);
		if (looked.found != CACHE_HIT || looked.room <= room)
			break;
		room = looked.room;
	}
	if (looked.found == CACHE_HIT &&
		!(copy != NULL ? view_value(&looked, value, copy) : open_value(&looked, value)))
		looked.found = CACHE_MISS;
	if (looked.found == CACHE_HIT)
		*length = looked.raw_length;
	else if (looked.found == CACHE_EXPIRED)
		remove_key(key, hash, true, CACHE_COUNT_EXPIRATIONS);
	eduai_cache_count_get(hash, key->database, looked.found, looked.shelf);
	return looked.found;
}

CacheFound
eduai_cache_store_get(const CacheKey *key, const CacheJudge *judge, char **value, size_t *length)
{
	return fetch(key, judge, value, NULL, length);
}

CacheFound
eduai_cache_store_view(const CacheKey *key, const CacheJudge *judge, char **value, char **copy)
{
	size_t length;

	return fetch(key, judge, value, copy, &length);
}

bool
eduai_cache_store_delete(const CacheKey *key)
{
	return eduai_cache_shared != NULL &&
		   remove_key(key, eduai_cache_hash(key), false, CACHE_COUNT_INVALIDATIONS);
}
