/*
 * table.c: the shared table of counters.  See table.h.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "common/hashfn.h"
#include "core/clock.h"
#include "core/shmem.h"
#include "miscadmin.h"
#include "ratelimit/save.h"
#include "ratelimit/slots.h"
#include "ratelimit/table.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define SHARD_LEAST 512 /* entries, below which a table has fewer shards */

typedef enum WhenFull
{
	FULL_REFUSE,
	FULL_OVERFLOW
} WhenFull;

static const struct config_enum_entry when_full_options[] = {
	{"refuse", FULL_REFUSE, false}, {"overflow", FULL_OVERFLOW, false}, {NULL, 0, false}};

static int rate_keys = 65536;
static int rate_when_full = FULL_REFUSE;

static RateTable *table = NULL;
static LWLockPadded *locks = NULL;
/* parts of the same memory, each shard's one after the other */
static int64 *idle_us; /* of each entry: when forgetting it changes nothing; RATE_FREE */
static int32 *chains;  /* the first entry of each; -1: none */
static RateEntry *entries;

/* ---- the memory ---- */

static int
shards_for(int keys)
{
	int n = 1;

	while (n < RATE_MAX_SHARDS && keys / (n * 2) >= SHARD_LEAST)
		n *= 2;
	return n;
}

static void
shape(RateTable *t)
{
	t->nshards = shards_for(rate_keys);
	t->shard_entries = (rate_keys + t->nshards - 1) / t->nshards;
	t->shard_kept = Max(t->shard_entries / 32, 2);
	for (t->shard_chains = 16; t->shard_chains < 2 * t->shard_entries;)
		t->shard_chains *= 2;
}

static int
places(const RateTable *t)
{
	return t->shard_entries + t->shard_kept;
}

static Size
table_size(void)
{
	RateTable t;
	Size n;

	shape(&t);
	n = (Size) t.nshards * places(&t);
	return MAXALIGN(sizeof(RateTable)) + MAXALIGN(n * sizeof(int64)) +
		   MAXALIGN((Size) t.nshards * t.shard_chains * sizeof(int32)) + n * sizeof(RateEntry);
}

static void
find_parts(RateTable *t)
{
	char *at = (char *) t + MAXALIGN(sizeof(RateTable));
	Size n = (Size) t->nshards * places(t);

	idle_us = (int64 *) at;
	at += MAXALIGN(n * sizeof(int64));
	chains = (int32 *) at;
	at += MAXALIGN((Size) t->nshards * t->shard_chains * sizeof(int32));
	entries = (RateEntry *) at;
}

static void
empty_shard(int shard)
{
	RateShard *s = &table->shards[shard];
	int first = shard * places(table);

	memset(s, 0, sizeof(*s));
	s->free = -1;
	for (int c = 0; c < table->shard_chains; c++)
		chains[shard * table->shard_chains + c] = -1;
	for (int i = places(table) - 1; i >= 0; i--)
	{
		idle_us[first + i] = RATE_FREE;
		entries[first + i].next = s->free;
		s->free = first + i;
	}
}

static void
table_shmem_init(void *ptr)
{
	RateTable *t = ptr;

	memset(t, 0, sizeof(*t));
	shape(t);
	if (!pg_strong_random(&t->seed, sizeof(t->seed)))
		t->seed = eduai_core_random();
	t->ahead_us = GetCurrentTimestamp() - eduai_core_mono_us();
	pg_atomic_init_u32(&t->dirty, 0);
	pg_atomic_init_u64(&t->sessions, 0);
	table = t;
	find_parts(t);
	for (int shard = 0; shard < t->nshards; shard++)
		empty_shard(shard);
	eduai_ratelimit_save_started();
}

/* A library that is not preloaded may define nothing for the start. */
static GucContext
start_only(void)
{
	return process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP;
}

void
eduai_ratelimit_table_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_ratelimit",
										.size = table_size,
										.init = table_shmem_init,
										.nlocks = RATE_MAX_SHARDS,
										.address = (void **) &table,
										.locks = &locks};

	DefineCustomIntVariable("eduai.rate_keys", "The most keys that are counted at once.",
							"Of all limits, tenants and databases together.", &rate_keys, 65536, 16,
							16 * 1024 * 1024, start_only(), 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"eduai.rate_when_full", "What a call gets whose key finds no room.",
		"refuse: it is not allowed. overflow: it shares a limit with other such keys.",
		&rate_when_full, FULL_REFUSE, when_full_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	eduai_core_shmem_register(&part);
}

RateTable *
eduai_ratelimit_table(void)
{
	if (table != NULL && unlikely(entries == NULL))
		find_parts(table);
	return table;
}

int64
eduai_ratelimit_now_us(void)
{
	return eduai_core_mono_us() + table->ahead_us + eduai_core_test_offset_us();
}

/* ---- names ---- */

static uint64
hash_of(const RateName *name)
{
	int length = name->tenant_length + name->tier_length + name->type_length + name->key_length;

	return hash_bytes_extended((const unsigned char *) name->label, length,
							   table->seed ^ name->database ^ ((uint64) name->overflow << 40));
}

void
eduai_ratelimit_name_key(RateName *name, const char *key, int length)
{
	int prefix = name->tenant_length + name->tier_length + name->type_length;

	name->overflow = false;
	name->digest = length > RATE_LABEL - prefix;
	if (likely(!name->digest))
		memcpy(name->label + prefix, key, length);
	else if (EVP_Digest(key, length, (unsigned char *) name->label + prefix, NULL, EVP_sha256(),
						NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a digest of a key")));
	name->key_length = (uint8) (name->digest ? 32 : length);
	name->hash = hash_of(name);
}

void
eduai_ratelimit_name_hash(RateName *name)
{
	name->hash = hash_of(name);
}

static bool
is_named(const RateName *a, const RateName *b)
{
	return a->hash == b->hash && a->database == b->database &&
		   a->tenant_length == b->tenant_length && a->tier_length == b->tier_length &&
		   a->type_length == b->type_length && a->key_length == b->key_length &&
		   a->digest == b->digest && a->overflow == b->overflow &&
		   memcmp(a->label, b->label,
				  a->tenant_length + a->tier_length + a->type_length + a->key_length) == 0;
}

static void
copy_name(RateName *to, const RateName *from)
{
	memcpy(to, from,
		   offsetof(RateName, label) + from->tenant_length + from->tier_length + from->type_length +
			   from->key_length);
}

/* Of the same shard, whatever its own hash. */
static RateName
overflow_name(const RateName *name)
{
	uint64 shard_bits = (uint64) (table->nshards - 1) << RATE_SHARD_SHIFT;
	RateName shared;

	copy_name(&shared, name);
	shared.key_length = 0;
	shared.digest = false;
	shared.overflow = true;
	shared.hash = hash_of(&shared);
	shared.hash = (shared.hash & ~shard_bits) | (name->hash & shard_bits);
	return shared;
}

/* ---- finding and making ---- */

void
eduai_ratelimit_shard_lock(int shard, LWLockMode mode)
{
	if (likely(IsUnderPostmaster))
		LWLockAcquire(&locks[shard].lock, mode);
}

void
eduai_ratelimit_shard_unlock(int shard)
{
	if (likely(IsUnderPostmaster))
		LWLockRelease(&locks[shard].lock);
}

static int32 *
chain_of(const RateName *name)
{
	int shard = eduai_ratelimit_shard_of(table, name);

	return &chains[shard * table->shard_chains + (int) (name->hash & (table->shard_chains - 1))];
}

void
eduai_ratelimit_expect(const RateName *name)
{
	int shard = eduai_ratelimit_shard_of(table, name);
	/* read without the lock: it may be anybody's by now, and is only a guess */
	int32 i = *(volatile int32 *) chain_of(name);

	__builtin_prefetch(&locks[shard].lock, 1);
	__builtin_prefetch(&table->shards[shard], 1);
	if (i < 0)
		return;
	__builtin_prefetch(&entries[i]);
	__builtin_prefetch(&entries[i].name.label);
	__builtin_prefetch(&entries[i].admitted, 1);
	__builtin_prefetch(&entries[i].counter, 1);
	__builtin_prefetch(&idle_us[i], 1);
}

RateEntry *
eduai_ratelimit_find(const RateName *name)
{
	for (int32 i = *chain_of(name); i >= 0; i = entries[i].next)
		if (is_named(&entries[i].name, name))
			return &entries[i];
	return NULL;
}

void
eduai_ratelimit_forget(RateEntry *entry)
{
	RateShard *s = &table->shards[eduai_ratelimit_shard_of(table, &entry->name)];
	int32 index = eduai_ratelimit_index(entry);
	int32 *link = chain_of(&entry->name);

	while (*link != index)
		link = &entries[*link].next;
	*link = entry->next;
	entry->next = s->free;
	s->free = index;
	idle_us[index] = RATE_FREE;
	if (entry->name.overflow)
		s->overflows--;
	else
		s->used--;
	s->changes++;
}

/* Forgets what is idle; a pass over the times, no more often than it can find something. */
static void
sweep(int shard, int64 now_us)
{
	RateShard *s = &table->shards[shard];
	int first = shard * places(table);
	int64 earliest = INT64_MAX;

	if (now_us < s->sweep_us)
		return;
	for (int i = first; i < first + places(table); i++)
		if (idle_us[i] != RATE_FREE)
		{
			if (idle_us[i] <= now_us)
				eduai_ratelimit_forget(&entries[i]);
			else
				earliest = Min(earliest, idle_us[i]);
		}
	s->sweep_us = earliest;
}

static bool
has_room(int shard, bool overflow)
{
	RateShard *s = &table->shards[shard];

	return overflow ? s->overflows < table->shard_kept : s->used < table->shard_entries;
}

static RateEntry *
take_place(const RateName *name)
{
	RateShard *s = &table->shards[eduai_ratelimit_shard_of(table, name)];
	int32 index = s->free;
	RateEntry *entry = &entries[index];
	int32 *chain = chain_of(name);

	s->free = entry->next;
	copy_name(&entry->name, name);
	entry->admitted = entry->refused = 0;
	entry->slot = -1;
	memset(&entry->counter, 0, sizeof(entry->counter));
	entry->next = *chain;
	*chain = index;
	idle_us[index] = 0;
	s->sweep_us = 0;
	if (name->overflow)
		s->overflows++;
	else
		s->used++;
	return entry;
}

/* The counter of those that found no room, while it counts. */
static RateEntry *
live_overflow(const RateName *name, int64 now_us)
{
	RateShard *s = &table->shards[eduai_ratelimit_shard_of(table, name)];
	RateName shared;
	RateEntry *entry;

	if (likely(s->overflows == 0))
		return NULL;
	shared = overflow_name(name);
	entry = eduai_ratelimit_find(&shared);
	if (entry != NULL && idle_us[eduai_ratelimit_index(entry)] > now_us)
		return entry;
	return NULL;
}

static RateEntry *
make_overflow(const RateName *name, int64 now_us)
{
	int shard = eduai_ratelimit_shard_of(table, name);
	RateName shared = overflow_name(name);
	RateEntry *entry = eduai_ratelimit_find(&shared);

	if (entry == NULL && has_room(shard, true))
		entry = take_place(&shared);
	if (entry != NULL)
		table->shards[shard].overflowed++;
	return entry;
}

RateEntry *
eduai_ratelimit_make(const RateName *name, RateAlgorithm algorithm, int64 now_us)
{
	int shard = eduai_ratelimit_shard_of(table, name);
	RateEntry *entry = eduai_ratelimit_find(name);
	RateEntry *shared;

	if (entry != NULL)
		return entry;
	if (name->overflow) /* of the file */
		return has_room(shard, true) ? take_place(name) : NULL;
	if (!has_room(shard, false))
		sweep(shard, now_us);
	if (has_room(shard, false))
	{
		shared = live_overflow(name, now_us);
		entry = take_place(name);
		if (shared != NULL)
			entry->counter = shared->counter;
		return entry;
	}
	if (rate_when_full == FULL_OVERFLOW && algorithm != RATE_CONCURRENCY)
		entry = make_overflow(name, now_us);
	if (entry == NULL)
		eduai_ratelimit_note_full(name, now_us);
	else
		table->shards[shard].full_us = now_us;
	return entry;
}

const RateEntry *
eduai_ratelimit_look(const RateName *name, RateAlgorithm algorithm, int64 now_us, bool *full)
{
	int shard = eduai_ratelimit_shard_of(table, name);
	const RateEntry *entry = eduai_ratelimit_find(name);

	*full = false;
	if (entry != NULL)
		return entry;
	if (!has_room(shard, false))
		sweep(shard, now_us);
	if (!has_room(shard, false))
		*full = rate_when_full == FULL_REFUSE || algorithm == RATE_CONCURRENCY ||
				(live_overflow(name, now_us) == NULL && !has_room(shard, true));
	return live_overflow(name, now_us);
}

void
eduai_ratelimit_changed(RateEntry *entry)
{
	int32 index = eduai_ratelimit_index(entry);
	RateShard *s = &table->shards[eduai_ratelimit_shard_of(table, &entry->name)];
	int64 idle = eduai_ratelimit_counter_idle_us(&entry->counter);

	idle_us[index] = idle;
	if (idle < s->sweep_us)
		s->sweep_us = idle;
	s->changes++;
}

void
eduai_ratelimit_pin(RateEntry *entry)
{
	idle_us[eduai_ratelimit_index(entry)] = INT64_MAX;
}

void
eduai_ratelimit_note_full(const RateName *name, int64 now_us)
{
	RateShard *s = &table->shards[eduai_ratelimit_shard_of(table, name)];

	s->full_us = now_us;
	s->refused++;
}

/* ---- places ---- */

int
eduai_ratelimit_places(void)
{
	return places(table);
}

RateEntry *
eduai_ratelimit_entry_at(int shard, int i)
{
	int index = shard * places(table) + i;

	return idle_us[index] == RATE_FREE ? NULL : &entries[index];
}

int32
eduai_ratelimit_index(const RateEntry *entry)
{
	return (int32) (entry - entries);
}

RateEntry *
eduai_ratelimit_entry(int32 index, int *shard)
{
	*shard = index / places(table);
	return &entries[index];
}
