/*
 * trainer.c: training of dictionaries.  See trainer.h.
 */
#include "postgres.h"

#include <zdict.h>

#include "cache/dictionary.h"
#include "cache/squeeze.h"
#include "cache/trainer.h"
#include "core/pause.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"

#define MOST_SAMPLES    2000
#define MOST_BYTES      (2 * 1024 * 1024)
#define LEAST_SAMPLES   64
#define LEAST_BYTES     (16 * 1024)
#define LARGEST_SAMPLE  (16 * 1024)
#define LARGEST         (32 * 1024) /* a dictionary */
#define LEAST           256
#define SHARE_OF_CACHE  64
#define SAMPLES_A_BYTE  10 /* as many bytes of samples as zstd wants for one of a dictionary */
#define HELD_OUT        8  /* one sample in so many is for the trial */
#define TRY_AGAIN_AFTER 10 /* times as many puts */

PGDLLEXPORT void eduai_cache_trainer_main(Datum shelf);

typedef struct Samples
{
	char *bytes;
	size_t used;
	size_t sizes[MOST_SAMPLES];
	int n;
} Samples;

bool
eduai_cache_trainer_due(CacheShelf *shelf)
{
	if (!shelf->train || shelf->puts < shelf->next_training || shelf->raw_bytes < LEAST_BYTES ||
		shelf->evict.small.count + shelf->evict.main.count < LEAST_SAMPLES)
		return false;
	shelf->next_training = shelf->puts * TRY_AGAIN_AFTER;
	return true;
}

void
eduai_cache_trainer_start(Oid database, const char *kind)
{
	BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS,
							   .bgw_start_time = BgWorkerStart_ConsistentState,
							   .bgw_restart_time = BGW_NEVER_RESTART};
	CacheShelf *shelf;

	LWLockAcquire(CACHE_WRITER, LW_SHARED);
	shelf = eduai_cache_shelf(database, kind, false);
	LWLockRelease(CACHE_WRITER);
	if (shelf == NULL)
		return;
	worker.bgw_main_arg = Int32GetDatum((int) (shelf - eduai_cache_shared->shelves));
	strlcpy(worker.bgw_library_name, "eduai", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "eduai_cache_trainer_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "eduai cache trainer", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "eduai cache trainer", sizeof(worker.bgw_type));
	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return;
	LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	shelf->next_training = shelf->puts + TRAINER_AGAIN;
	LWLockRelease(CACHE_WRITER);
}

/* ---- the process ---- */

/* An entry's bytes as they are stored, behind each other until a partition is read. */
typedef struct Found
{
	size_t at;
	uint32 stored_length;
	uint32 raw_length;
	uint32 dictionary;
	bool packed;
} Found;

typedef struct Batch
{
	Found found[MOST_SAMPLES];
	int n;
	char *bytes;
	size_t used;
} Batch;

/* Under the partition's lock: copies what belongs to the kind, as far as it fits. */
static void
read_bucket(uint32 bucket, int shelf, Batch *batch)
{
	for (uint32 b = eduai_cache_shared->buckets[bucket]; b != CACHE_NO_BLOCK;
		 b = eduai_cache_entry(b)->chain)
	{
		CacheEntry *entry = eduai_cache_entry(b);
		CacheCursor cursor;

		if (entry->shelf != shelf || entry->raw_length > LARGEST_SAMPLE ||
			batch->n == MOST_SAMPLES || batch->used + entry->stored_length > MOST_BYTES)
			continue;
		cursor = eduai_cache_cursor(entry);
		eduai_cache_skip(&cursor, entry->tenant_length + entry->key_length +
									  (entry->ndeps + entry->nxip) * sizeof(uint64));
		eduai_cache_read(&cursor, batch->bytes + batch->used, entry->stored_length);
		batch->found[batch->n++] = (Found){batch->used, entry->stored_length, entry->raw_length,
										   entry->dictionary, entry->packed};
		batch->used += entry->stored_length;
	}
}

static void
add_samples(const Batch *batch, Samples *samples)
{
	for (int i = 0; i < batch->n; i++)
	{
		const Found *f = &batch->found[i];
		char *to = samples->bytes + samples->used;

		if (samples->n == MOST_SAMPLES || samples->used + f->raw_length > MOST_BYTES)
			return;
		if (!f->packed)
			memcpy(to, batch->bytes + f->at, f->raw_length);
		else if ((f->dictionary != 0 && !eduai_cache_dictionary_fetch(f->dictionary)) ||
				 !eduai_cache_unsqueeze(batch->bytes + f->at, f->stored_length, f->dictionary, to,
										f->raw_length))
			continue;
		samples->sizes[samples->n++] = f->raw_length;
		samples->used += f->raw_length;
	}
}

static void
collect(int shelf, Samples *samples)
{
	Batch *batch = palloc(sizeof(Batch));

	batch->bytes = palloc(MOST_BYTES);
	for (uint32 p = 0; p < CACHE_PARTITIONS; p++)
	{
		batch->n = 0;
		batch->used = 0;
		LWLockAcquire(eduai_cache_partition(p), LW_SHARED);
		for (uint32 b = p; b < eduai_cache_shared->nbuckets; b += CACHE_PARTITIONS)
			read_bucket(b, shelf, batch);
		LWLockRelease(eduai_cache_partition(p));
		add_samples(batch, samples);
	}
	pfree(batch->bytes);
	pfree(batch);
}

/* Does the dictionary, known under the id, save a tenth more than none, on samples from "first" on? */
static bool
is_worth_it(const Samples *samples, int first, size_t skipped, uint32 id)
{
	const char *at = samples->bytes + skipped;
	size_t with = 0;
	size_t without = 0;

	for (int i = first; i < samples->n; i++)
	{
		with += eduai_cache_squeeze(at, samples->sizes[i], id).length;
		without += eduai_cache_squeeze(at, samples->sizes[i], 0).length;
		at += samples->sizes[i];
	}
	return with <= without - without / 10;
}

void
eduai_cache_trainer_main(Datum arg)
{
	int shelf = DatumGetInt32(arg);
	Samples *samples = palloc0(sizeof(Samples));
	size_t most = Min(LARGEST, (size_t) eduai_cache_shared->nblocks * CACHE_BLOCK / SHARE_OF_CACHE);
	size_t trained = 0;
	int ntrained;
	char *dictionary = palloc(LARGEST);
	size_t length;

	BackgroundWorkerUnblockSignals();
	samples->bytes = palloc(MOST_BYTES);
	collect(shelf, samples);
	ntrained = samples->n - samples->n / HELD_OUT;
	for (int i = 0; i < ntrained; i++)
		trained += samples->sizes[i];
	most = Min(most, trained / SAMPLES_A_BYTE);
	EDUAI_PAUSE("cache-training");
	if (samples->n < LEAST_SAMPLES || trained < LEAST_BYTES || most < LEAST)
		return;
	length = ZDICT_trainFromBuffer(dictionary, most, samples->bytes, samples->sizes,
								   (unsigned) ntrained);
	/* the trial's id is no dictionary's of the cache */
	if (!ZDICT_isError(length) && eduai_cache_dictionary_learn(PG_UINT32_MAX, dictionary, length) &&
		is_worth_it(samples, ntrained, trained, PG_UINT32_MAX))
		(void) eduai_cache_dictionary_publish(shelf, dictionary, length);
}
