/*
 * advice.c: what each cached query costs and brings.  See advice.h.
 *
 * A place is found without a lock, by its hash, which is written last when the
 * place is taken.  Only the store's writer lock lets somebody take one.
 */
#include "postgres.h"

#include "cache/advice.h"
#include "cache/store_internal.h"
#include "common/hashfn.h"
#include "core/clock.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "core/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define SETS    64
#define WAYS    8
#define PLACES  (SETS * WAYS)
#define TEXT    1024
#define COLUMNS 15

typedef struct Place
{
	pg_atomic_uint64 hash; /* 0: free */
	pg_atomic_uint32 id;   /* its number among the places + PLACES * how often it was taken */
	pg_atomic_uint64 last; /* when it was called, on the monotonic clock */
	/* written when it is taken, under the writer lock */
	Oid database;
	char tenant[NAMEDATALEN];
	char kind[NAMEDATALEN];
	char text[TEXT];
	/* under the writer lock */
	int64 entries;
	int64 bytes;
	int64 evictions;
	int64 invalidations;
	/* by anybody */
	pg_atomic_uint64 hits;
	pg_atomic_uint64 computed[ADVICE_REASONS];
	pg_atomic_uint64 not_stored;
	pg_atomic_uint64 took_us;
	pg_atomic_uint64 longest_us;
} Place;

static Place *places = NULL;

/* hits of this transaction, of one query */
static uint32 pending_place = 0;
static int64 pending = 0;

PG_FUNCTION_INFO_V1(eduai_cache_advice);

/* The place of the number, if it is still that one's. */
static Place *
place_of(uint32 id)
{
	Place *place;

	if (id == 0 || places == NULL)
		return NULL;
	place = &places[id % PLACES];
	return pg_atomic_read_u32(&place->id) == id ? place : NULL;
}

static void
touch(Place *place)
{
	pg_atomic_write_u64(&place->last, (uint64) eduai_core_mono_us());
}

/* Runs at the end of a transaction, too. */
static void
flush(void)
{
	Place *place = pending > 0 ? place_of(pending_place) : NULL;

	if (place != NULL)
	{
		pg_atomic_fetch_add_u64(&place->hits, pending);
		touch(place);
	}
	pending = 0;
}

/* ---- taking places ---- */

static Place *
find(Place *set, uint64 hash)
{
	for (int i = 0; i < WAYS; i++)
		if (pg_atomic_read_u64(&set[i].hash) == hash)
			return &set[i];
	return NULL;
}

/* A free one, or the one called longest ago. */
static Place *
victim(Place *set)
{
	Place *oldest = &set[0];

	for (int i = 0; i < WAYS; i++)
	{
		if (pg_atomic_read_u64(&set[i].hash) == 0)
			return &set[i];
		if (pg_atomic_read_u64(&set[i].last) < pg_atomic_read_u64(&oldest->last))
			oldest = &set[i];
	}
	return oldest;
}

static void
clear_counts(Place *place)
{
	place->entries = place->bytes = place->evictions = place->invalidations = 0;
	pg_atomic_write_u64(&place->hits, 0);
	for (int i = 0; i < ADVICE_REASONS; i++)
		pg_atomic_write_u64(&place->computed[i], 0);
	pg_atomic_write_u64(&place->not_stored, 0);
	pg_atomic_write_u64(&place->took_us, 0);
	pg_atomic_write_u64(&place->longest_us, 0);
}

/* Under the writer lock: nobody's any more, and no old number means it. */
static void
give_up(Place *place)
{
	pg_atomic_write_u64(&place->hash, 0);
	pg_atomic_fetch_add_u32(&place->id, PLACES);
	memset(place->text, 0, TEXT);
	clear_counts(place);
}

/* "length" of the text is cut where a character ends. */
static Place *
take(Place *set, uint64 hash, const char *text, int length, const char *tenant, const char *kind)
{
	Place *place;

	LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	place = find(set, hash);
	if (place == NULL)
	{
		place = victim(set);
		give_up(place);
		place->database = MyDatabaseId;
		strlcpy(place->tenant, tenant, NAMEDATALEN);
		strlcpy(place->kind, kind, NAMEDATALEN);
		memcpy(place->text, text, length);
		touch(place);
		pg_write_barrier();
		pg_atomic_write_u64(&place->hash, hash);
	}
	LWLockRelease(CACHE_WRITER);
	return place;
}

uint32
eduai_cache_advice_place(const char *text, uint64 text_hash, const char *tenant, const char *kind)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) kind, (int) strlen(kind), text_hash);
	Place *set;
	Place *place;

	if (places == NULL || eduai_cache_shared == NULL)
		return 0;
	hash = hash_bytes_extended((const unsigned char *) tenant, (int) strlen(tenant),
							   hash ^ eduai_cache_shared->seed ^ MyDatabaseId);
	hash |= 1;
	set = &places[(hash >> 32) % SETS * WAYS];
	place = find(set, hash);
	if (place == NULL)
		place =
			take(set, hash, text, pg_mbcliplen(text, (int) strlen(text), TEXT - 1), tenant, kind);
	return pg_atomic_read_u32(&place->id);
}

bool
eduai_cache_advice_is(uint32 id, const char *tenant, const char *kind)
{
	const Place *place = place_of(id);
	bool same = place != NULL && strncmp(place->tenant, tenant, NAMEDATALEN) == 0 &&
				strncmp(place->kind, kind, NAMEDATALEN) == 0;

	/* its names change after its number does */
	pg_read_barrier();
	return same && place_of(id) != NULL;
}

void
eduai_cache_advice_forget(Oid database, const char *tenant)
{
	if (places == NULL || eduai_cache_shared == NULL)
		return;
	LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	for (int i = 0; i < PLACES; i++)
		if (pg_atomic_read_u64(&places[i].hash) != 0 && places[i].database == database &&
			strcmp(places[i].tenant, tenant) == 0)
			give_up(&places[i]);
	LWLockRelease(CACHE_WRITER);
}

/* ---- counting ---- */

void
eduai_cache_advice_hit(uint32 place)
{
	if (place != pending_place)
		flush();
	pending_place = place;
	pending++;
}

void
eduai_cache_advice_computed(uint32 id, AdviceReason reason, int64 took_us, bool stored)
{
	Place *place = place_of(id);
	uint64 longest;

	if (place == NULL)
		return;
	pg_atomic_fetch_add_u64(&place->computed[reason], 1);
	pg_atomic_fetch_add_u64(&place->took_us, took_us);
	if (!stored)
		pg_atomic_fetch_add_u64(&place->not_stored, 1);
	longest = pg_atomic_read_u64(&place->longest_us);
	while (longest < (uint64) took_us &&
		   !pg_atomic_compare_exchange_u64(&place->longest_us, &longest, (uint64) took_us))
		;
	touch(place);
}

void
eduai_cache_advice_entered(uint32 id, uint64 bytes)
{
	Place *place = place_of(id);

	if (place == NULL)
		return;
	place->entries++;
	place->bytes += (int64) bytes;
}

void
eduai_cache_advice_left(uint32 id, uint64 bytes)
{
	Place *place = place_of(id);

	if (place == NULL)
		return;
	place->entries--;
	place->bytes -= (int64) bytes;
}

void
eduai_cache_advice_evicted(uint32 id)
{
	Place *place = place_of(id);

	if (place != NULL)
		place->evictions++;
}

void
eduai_cache_advice_invalidated(uint32 id)
{
	Place *place = place_of(id);

	if (place != NULL)
		place->invalidations++;
}

/* ---- showing ---- */

/* Copies a place of the tenant; false when it is another's or free. */
static bool
read_place(const Place *place, const char *tenant, Place *copy)
{
	bool shown;

	LWLockAcquire(CACHE_WRITER, LW_SHARED);
	shown = pg_atomic_read_u64(&unconstify(Place *, place)->hash) != 0 &&
			place->database == MyDatabaseId && strcmp(place->tenant, tenant) == 0;
	if (shown)
		*copy = *place;
	LWLockRelease(CACHE_WRITER);
	return shown;
}

static void
emit(Place *place, ReturnSetInfo *rsinfo)
{
	int64 computed[ADVICE_REASONS];
	int64 computations = 0;
	int64 hits = (int64) pg_atomic_read_u64(&place->hits);
	bool nulls[COLUMNS] = {0};

	for (int i = 0; i < ADVICE_REASONS; i++)
	{
		computed[i] = (int64) pg_atomic_read_u64(&place->computed[i]);
		computations += computed[i];
	}
	{
		Datum values[COLUMNS] = {
			CStringGetTextDatum(place->text),
			CStringGetTextDatum(place->kind),
			Int64GetDatum(hits + computations),
			Int64GetDatum(hits),
			Int64GetDatum(computed[ADVICE_ABSENT]),
			Int64GetDatum(computed[ADVICE_EXPIRED]),
			Int64GetDatum(computed[ADVICE_STALE]),
			Int64GetDatum(computed[ADVICE_BYPASSED]),
			Int64GetDatum((int64) pg_atomic_read_u64(&place->not_stored)),
			Int64GetDatum(place->evictions),
			Int64GetDatum(place->invalidations),
			Float8GetDatum((double) pg_atomic_read_u64(&place->took_us) / 1000.0),
			Float8GetDatum((double) pg_atomic_read_u64(&place->longest_us) / 1000.0),
			Int64GetDatum(place->entries),
			Int64GetDatum(place->bytes)};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/* the rows of the view cache_advice */
Datum
eduai_cache_advice(PG_FUNCTION_ARGS)
{
	const char *tenant = eduai_core_tenant();
	Place copy;

	InitMaterializedSRF(fcinfo, 0);
	if (places == NULL || eduai_cache_shared == NULL)
		return (Datum) 0;
	flush();
	for (int i = 0; i < PLACES; i++)
		if (read_place(&places[i], tenant, &copy))
			emit(&copy, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}

static Size
advice_size(void)
{
	return sizeof(Place) * PLACES;
}

static void
advice_shmem_init(void *ptr)
{
	Place *all = ptr;

	memset(ptr, 0, advice_size());
	for (int i = 0; i < PLACES; i++)
	{
		pg_atomic_init_u64(&all[i].hash, 0);
		/* never 0, which is nobody's number */
		pg_atomic_init_u32(&all[i].id, (uint32) (i + PLACES));
		pg_atomic_init_u64(&all[i].last, 0);
		pg_atomic_init_u64(&all[i].hits, 0);
		for (int r = 0; r < ADVICE_REASONS; r++)
			pg_atomic_init_u64(&all[i].computed[r], 0);
		pg_atomic_init_u64(&all[i].not_stored, 0);
		pg_atomic_init_u64(&all[i].took_us, 0);
		pg_atomic_init_u64(&all[i].longest_us, 0);
	}
}

void
eduai_cache_advice_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_cache_advice",
										.size = advice_size,
										.init = advice_shmem_init,
										.address = (void **) &places};
	static const EduaiXactHooks hooks = {.name = "cache advice",
										 .rank = EDUAI_RANK_CACHE,
										 .commit = flush,
										 .abort = flush,
										 .prepare = flush};

	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
}
