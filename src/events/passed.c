/*
 * passed.c: what fetches have passed over.  See passed.h.
 *
 * A table of fixed size: a key's hash names a set of WAYS entries, the least
 * recently used of which gives way.  Sets are spread over LOCKS locks, each
 * held for the copy of one entry only; nothing raises, allocates or waits
 * under them.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/shmem.h"
#include "events/passed.h"
#include "port/atomics.h"

#define SETS  128
#define WAYS  8
#define LOCKS 16

typedef struct PassedEntry
{
	EduaiPassedKey key; /* database InvalidOid: free */
	uint64 used;        /* the clock at its last use */
	EduaiPassed passed;
} PassedEntry;

typedef struct PassedTable
{
	pg_atomic_uint64 clock;
	PassedEntry entries[SETS][WAYS]; /* each set under its lock */
} PassedTable;

static PassedTable *table = NULL;
static LWLockPadded *locks = NULL;

static Size
table_size(void)
{
	return sizeof(PassedTable);
}

static void
table_init(void *ptr)
{
	PassedTable *new = ptr;

	memset(new, 0, sizeof(PassedTable));
	pg_atomic_init_u64(&new->clock, 0);
}

void
eduai_events_passed_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_events_passed",
										.size = table_size,
										.init = table_init,
										.nlocks = LOCKS,
										.address = (void **) &table,
										.locks = &locks};

	eduai_core_shmem_register(&part);
}

static uint32
set_of(const EduaiPassedKey *key)
{
	uint64 hash = hash_combine64((uint64) key->generation, murmurhash32(key->member));

	return (uint32) (hash_combine64(hash, murmurhash32(key->database)) % SETS);
}

static bool
same_key(const EduaiPassedKey *a, const EduaiPassedKey *b)
{
	return a->database == b->database && a->table == b->table && a->generation == b->generation &&
		   a->member == b->member;
}

/* The key's entry in a set, or NULL.  The caller holds the set's lock. */
static PassedEntry *
find(PassedEntry *set, const EduaiPassedKey *key)
{
	for (int i = 0; i < WAYS; i++)
		if (same_key(&set[i].key, key))
			return &set[i];
	return NULL;
}

static PassedEntry *
least_used(PassedEntry *set)
{
	PassedEntry *least = &set[0];

	for (int i = 1; i < WAYS; i++)
		if (set[i].used < least->used)
			least = &set[i];
	return least;
}

EduaiPassed
eduai_events_passed_get(const EduaiPassedKey *key)
{
	EduaiPassed passed = {{0, 0}, {0, 0}, 0};
	uint32 set;
	PassedEntry *entry;

	if (table == NULL)
		return passed;
	set = set_of(key);
	LWLockAcquire(&locks[set % LOCKS].lock, LW_SHARED);
	entry = find(table->entries[set], key);
	if (entry)
		passed = entry->passed;
	LWLockRelease(&locks[set % LOCKS].lock);
	return passed;
}

void
eduai_events_passed_put(const EduaiPassedKey *key, const EduaiPassed *passed)
{
	uint32 set;
	PassedEntry *entry;

	if (table == NULL)
		return;
	set = set_of(key);
	LWLockAcquire(&locks[set % LOCKS].lock, LW_EXCLUSIVE);
	entry = find(table->entries[set], key);
	if (entry == NULL)
		entry = least_used(table->entries[set]);
	entry->key = *key;
	entry->used = pg_atomic_add_fetch_u64(&table->clock, 1);
	entry->passed = *passed;
	LWLockRelease(&locks[set % LOCKS].lock);
}

static int64
pass(const EduaiFact *fact, int64 position)
{
	return fact->after <= position && position < fact->through ? fact->through : position;
}

int64
eduai_events_passed_from(const EduaiPassed *passed, int64 position)
{
	position = pass(&passed->lead, position);
	position = pass(&passed->tail, position);
	return pass(&passed->lead, position);
}
