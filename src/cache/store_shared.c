/*
 * store_shared.c: the part of shared memory, cut to eduai.cache_size.
 */
#include "postgres.h"

#include "cache/store_internal.h"
#include "core/shmem.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/guc.h"

#define LOCKS           (CACHE_PARTITIONS + 1)
#define BYTES_PER_LOG   (128 * 1024) /* of memory, for each set of the log of deletions */
#define LOG_SETS_MOST   1024
#define BLOCKS_A_BUCKET 2
#define BLOCKS_A_SET    8 /* of traces */

CacheShared *eduai_cache_shared = NULL;
LWLockPadded *eduai_cache_locks = NULL;
int eduai_cache_eviction = EVICT_S3FIFO;

static int cache_size_kb = 64 * 1024;

static const struct config_enum_entry evictions[] = {
	{"s3fifo", EVICT_S3FIFO, false}, {"lru", EVICT_LRU, false}, {NULL, 0, false}};

static Size
whole(void)
{
	return (Size) cache_size_kb * 1024;
}

/* The locks are PostgreSQL's, in its own array, and count as well. */
static Size
cache_bytes(void)
{
	return whole() - MAXALIGN(LOCKS * sizeof(LWLockPadded));
}

static uint32
power_below(uint64 n)
{
	return n < 2 ? 1 : (uint32) 1 << Min(pg_leftmost_one_pos64(n), 30);
}

static void *
carve(char **at, Size size)
{
	void *part = *at;

	*at += MAXALIGN(size);
	return part;
}

static void
chain_free_blocks(CacheShared *s)
{
	for (uint32 i = 0; i < s->nblocks; i++)
		((CacheBlock *) (s->blocks + (size_t) i * CACHE_BLOCK))->next =
			i + 1 < s->nblocks ? i + 1 : CACHE_NO_BLOCK;
	s->free = 0;
	s->free_blocks = s->nblocks;
}

static void
cache_shmem_init(void *ptr)
{
	CacheShared *s = ptr;
	char *at = (char *) ptr + MAXALIGN(sizeof(CacheShared));
	char *end = (char *) ptr + cache_bytes();
	uint64 most = cache_bytes() / CACHE_BLOCK;

	memset(ptr, 0, sizeof(CacheShared));
	if (!pg_strong_random(&s->seed, sizeof(s->seed)))
		s->seed = (uint64) MyStartTimestamp;
	s->total = whole();
	s->nlog = Min(power_below(whole() / BYTES_PER_LOG), LOG_SETS_MOST);
	s->nbuckets = Max(power_below(most / BLOCKS_A_BUCKET), CACHE_PARTITIONS);
	s->ghost.nsets = power_below(most / BLOCKS_A_SET);
	s->log = carve(&at, sizeof(CacheDeletionSet) * s->nlog);
	s->buckets = carve(&at, sizeof(uint32) * s->nbuckets);
	s->ghost.traces = carve(&at, sizeof(EvictTrace) * EVICT_WAYS * s->ghost.nsets);
	s->blocks = (char *) TYPEALIGN(PG_CACHE_LINE_SIZE, at);
	s->nblocks = (uint32) Min((uint64) (end - s->blocks) / CACHE_BLOCK, CACHE_NO_BLOCK - 1);
	memset(s->log, 0, sizeof(CacheDeletionSet) * s->nlog);
	memset(s->buckets, 0xff, sizeof(uint32) * s->nbuckets);
	memset(s->ghost.traces, 0, sizeof(EvictTrace) * EVICT_WAYS * s->ghost.nsets);
	for (int i = 0; i < CACHE_SHELVES; i++)
	{
		eduai_cache_evict_reset(&s->shelves[i].evict);
		for (int c = 0; c < CACHE_COUNTERS; c++)
			pg_atomic_init_u64(&s->shelves[i].counters[c], 0);
	}
	chain_free_blocks(s);
}

void
eduai_cache_store_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_cache",
										.size = cache_bytes,
										.init = cache_shmem_init,
										.nlocks = LOCKS,
										.address = (void **) &eduai_cache_shared,
										.locks = &eduai_cache_locks};

	DefineCustomIntVariable(
		"eduai.cache_size",
		"Shared memory for the cache, with all it needs to find and keep values.",
		"When it is full, values give way that are used least.", &cache_size_kb, 64 * 1024, 1024,
		MAX_KILOBYTES, process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP,
		GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"eduai.cache_eviction", "Which values give way when the cache or a kind is full.",
		"s3fifo keeps what is used again and lets scans pass; lru takes the one used longest ago, "
		"and every hit takes an exclusive lock for it.",
		&eduai_cache_eviction, EVICT_S3FIFO, evictions, PGC_SIGHUP, 0, NULL, NULL, NULL);
	eduai_core_shmem_register(&part);
}
