/*
 * store_delete.c: deleting many entries: by dependency, by pattern, all.
 *
 * The index is walked a partition at a time under the writer lock, which is
 * let go in between, so that others put and delete meanwhile.  Readers wait
 * only while an entry is unlinked.
 */
#include "postgres.h"

#include "cache/dictionary.h"
#include "cache/store_internal.h"

typedef struct Doomed
{
	Oid database;
	const char *tenant; /* NULL: any */
	size_t tenant_length;
	uint64 dep;          /* 0: any */
	const char *pattern; /* NULL: any, in all scopes */
	size_t pattern_length;
	char *key; /* room for a key of any length */
} Doomed;

#define LONGEST_KEY PG_UINT16_MAX

static bool
has_dep(CacheEntry *entry, CacheCursor *cursor, uint64 dep)
{
	for (int i = 0; i < entry->ndeps; i++)
	{
		uint64 hash;

		eduai_cache_read(cursor, &hash, sizeof(hash));
		if (hash == dep)
			return true;
	}
	return false;
}

static bool
is_doomed(CacheEntry *entry, const Doomed *doomed)
{
	CacheCursor cursor = eduai_cache_cursor(entry);

	if (entry->database != doomed->database)
		return false;
	if (doomed->tenant == NULL)
		return true;
	if (entry->tenant_length != doomed->tenant_length ||
		!eduai_cache_same(&cursor, doomed->tenant, doomed->tenant_length))
		return false;
	if (doomed->pattern != NULL)
	{
		if (entry->scope != CACHE_SCOPE_VALUE)
			return false;
		eduai_cache_read(&cursor, doomed->key, entry->key_length);
		doomed->key[entry->key_length] = '\0';
		return eduai_cache_matches(doomed->pattern, doomed->pattern_length, doomed->key,
								   entry->key_length);
	}
	if (doomed->dep == 0)
		return true;
	eduai_cache_skip(&cursor, entry->key_length);
	return has_dep(entry, &cursor, doomed->dep);
}

static int64
delete_partition(uint32 partition, const Doomed *doomed)
{
	int64 n = 0;

	LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	for (uint32 b = partition; b < eduai_cache_shared->nbuckets; b += CACHE_PARTITIONS)
	{
		uint32 block = eduai_cache_shared->buckets[b];

		while (block != CACHE_NO_BLOCK)
		{
			CacheEntry *entry = eduai_cache_entry(block);
			uint32 next = entry->chain;

			if (is_doomed(entry, doomed))
			{
				eduai_cache_remove(block, CACHE_COUNT_INVALIDATIONS);
				n++;
			}
			block = next;
		}
	}
	LWLockRelease(CACHE_WRITER);
	return n;
}

static int64
delete_all(Doomed *doomed)
{
	int64 n = 0;

	if (eduai_cache_shared == NULL)
		return 0;
	doomed->tenant_length = doomed->tenant != NULL ? strlen(doomed->tenant) : 0;
	doomed->key = doomed->pattern != NULL ? palloc(LONGEST_KEY + 1) : NULL;
	for (uint32 p = 0; p < CACHE_PARTITIONS; p++)
		n += delete_partition(p, doomed);
	if (doomed->key != NULL)
		pfree(doomed->key);
	return n;
}

int64
eduai_cache_store_delete_dep(Oid database, const char *tenant, uint64 dep)
{
	Doomed doomed = {.database = database, .tenant = tenant, .dep = dep};

	return delete_all(&doomed);
}

int64
eduai_cache_store_delete_pattern(Oid database, const char *tenant, const char *pattern)
{
	Doomed doomed = {.database = database,
					 .tenant = tenant,
					 .pattern = pattern,
					 .pattern_length = strlen(pattern)};

	return delete_all(&doomed);
}

int64
eduai_cache_store_clear(Oid database, const char *tenant)
{
	Doomed doomed = {.database = database, .tenant = tenant};
	int64 n = delete_all(&doomed);

	if (eduai_cache_shared != NULL)
	{
		LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
		eduai_cache_dictionary_retire(database);
		LWLockRelease(CACHE_WRITER);
	}
	return n;
}
