/*
 * statistics.c: counting, and cache_stats.  See statistics.h.
 */
#include "postgres.h"

#include "cache/kind.h"
#include "cache/statistics.h"
#include "cache/store_internal.h"
#include "core/health.h"
#include "core/json.h"
#include "core/tenant.h"
#include "core/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define RECENT_MISSES 32
#define DEFAULT_KIND  "default"

static int64 pending[CACHE_SHELVES][CACHE_COUNTERS];
static uint8 dirty[CACHE_SHELVES];
static int ndirty = 0;

/* keys that were not there, counted for the default kind */
static uint64 misses[RECENT_MISSES];
static int miss_turn = 0;

static int default_shelf = -1;

PG_FUNCTION_INFO_V1(eduai_cache_stats);
PG_FUNCTION_INFO_V1(eduai_cache_memory);

static void
add(int shelf, CacheCounter counter, int64 n)
{
	bool known = false;

	for (int c = 0; c < CACHE_COUNTERS && !known; c++)
		known = pending[shelf][c] != 0;
	if (!known)
	{
		for (int i = 0; i < ndirty && !known; i++)
			known = dirty[i] == shelf;
		if (!known)
			dirty[ndirty++] = (uint8) shelf;
	}
	pending[shelf][counter] += n;
}

static void
flush(void)
{
	for (int i = 0; i < ndirty; i++)
		for (int c = 0; c < CACHE_COUNTERS; c++)
		{
			int64 n = pending[dirty[i]][c];

			pending[dirty[i]][c] = 0;
			if (n != 0)
				pg_atomic_fetch_add_u64(&eduai_cache_shared->shelves[dirty[i]].counters[c], n);
		}
	ndirty = 0;
}

/* The number of a kind's place, or -1.  Names are compared without the lock: a count may go astray. */
static int
shelf_of(Oid database, const char *kind)
{
	CacheShelf *shelf;

	LWLockAcquire(CACHE_WRITER, LW_SHARED);
	shelf = eduai_cache_shelf(database, kind, false);
	LWLockRelease(CACHE_WRITER);
	if (shelf != NULL)
		return (int) (shelf - eduai_cache_shared->shelves);
	LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	shelf = eduai_cache_shelf(database, kind, true);
	LWLockRelease(CACHE_WRITER);
	return shelf != NULL ? (int) (shelf - eduai_cache_shared->shelves) : -1;
}

static int
shelf_of_default(Oid database)
{
	if (default_shelf < 0 || eduai_cache_shared->shelves[default_shelf].database != database ||
		strcmp(eduai_cache_shared->shelves[default_shelf].name, DEFAULT_KIND) != 0)
		default_shelf = shelf_of(database, DEFAULT_KIND);
	return default_shelf;
}

void
eduai_cache_count_get(uint64 hash, Oid database, CacheFound found, int shelf)
{
	if (shelf < 0)
	{
		shelf = shelf_of_default(database);
		misses[miss_turn++ % RECENT_MISSES] = hash;
	}
	if (shelf < 0)
		return;
	if (found == CACHE_HIT)
		add(shelf, CACHE_COUNT_HITS, 1);
	else
		add(shelf, CACHE_COUNT_MISSES, 1);
	if (found == CACHE_STALE)
		add(shelf, CACHE_COUNT_STALE, 1);
}

void
eduai_cache_count_stored(uint64 hash, Oid database, const char *kind)
{
	for (int i = 0; i < RECENT_MISSES; i++)
	{
		int from;
		int to;

		if (misses[i] != hash)
			continue;
		misses[i] = 0;
		from = shelf_of_default(database);
		to = shelf_of(database, kind);
		if (from < 0 || to < 0 || from == to)
			continue;
		add(from, CACHE_COUNT_MISSES, -1);
		add(to, CACHE_COUNT_MISSES, 1);
	}
}

void
eduai_cache_store_count_computation(const char *kind)
{
	int shelf = eduai_cache_shared != NULL ? shelf_of(MyDatabaseId, kind) : -1;

	if (shelf >= 0)
		add(shelf, CACHE_COUNT_COMPUTATIONS, 1);
}

/* What is to be shown of a kind, read under the lock. */
typedef struct Shown
{
	uint64 entries;
	uint64 bytes;
	uint64 raw_bytes;
	uint64 packed_bytes;
	uint64 counters[CACHE_COUNTERS];
} Shown;

static Shown
show(const char *kind)
{
	Shown shown = {0};
	CacheShelf *shelf;

	if (eduai_cache_shared == NULL)
		return shown;
	LWLockAcquire(CACHE_WRITER, LW_SHARED);
	shelf = eduai_cache_shelf(MyDatabaseId, kind, false);
	if (shelf != NULL)
	{
		shown.entries = shelf->evict.small.count + shelf->evict.main.count;
		shown.bytes = (shelf->evict.small.weight + shelf->evict.main.weight) * CACHE_BLOCK;
		shown.raw_bytes = shelf->raw_bytes;
		shown.packed_bytes = shelf->packed_bytes;
		for (int c = 0; c < CACHE_COUNTERS; c++)
			shown.counters[c] = pg_atomic_read_u64(&shelf->counters[c]);
	}
	LWLockRelease(CACHE_WRITER);
	return shown;
}

static void
emit(const CacheKind *kind, void *arg)
{
	ReturnSetInfo *rsinfo = arg;
	Shown shown = show(kind->name);
	uint64 *n = shown.counters;
	uint64 gets = n[CACHE_COUNT_HITS] + n[CACHE_COUNT_MISSES];
	bool nulls[13] = {[4] = gets == 0};
	Datum values[13] = {CStringGetTextDatum(kind->name),
						Int64GetDatum((int64) shown.entries),
						Int64GetDatum((int64) n[CACHE_COUNT_HITS]),
						Int64GetDatum((int64) n[CACHE_COUNT_MISSES]),
						Float8GetDatum(gets > 0 ? (double) n[CACHE_COUNT_HITS] / gets : 0),
						Int64GetDatum((int64) n[CACHE_COUNT_COMPUTATIONS]),
						Int64GetDatum((int64) n[CACHE_COUNT_STALE]),
						Int64GetDatum((int64) n[CACHE_COUNT_EVICTIONS]),
						Int64GetDatum((int64) n[CACHE_COUNT_EXPIRATIONS]),
						Int64GetDatum((int64) n[CACHE_COUNT_INVALIDATIONS]),
						Int64GetDatum((int64) shown.bytes),
						Int64GetDatum((int64) shown.raw_bytes),
						Int64GetDatum((int64) shown.packed_bytes)};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* the rows of the view cache_stats */
Datum
eduai_cache_stats(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	if (eduai_cache_shared != NULL)
		flush();
	eduai_cache_kind_each(emit, fcinfo->resultinfo);
	return (Datum) 0;
}

/* ---- the part of shared memory ---- */

typedef struct Memory
{
	int64 total;
	int64 bookkeeping;
	int64 used;
	int64 free;
	int64 entries;
	int dictionaries;
} Memory;

static Memory
memory_now(void)
{
	const CacheShared *c = eduai_cache_shared;
	Memory m = {0};

	LWLockAcquire(CACHE_WRITER, LW_SHARED);
	m.total = (int64) c->total;
	m.bookkeeping = m.total - (int64) c->nblocks * CACHE_BLOCK;
	m.free = (int64) c->free_blocks * CACHE_BLOCK;
	m.used = m.total - m.bookkeeping - m.free;
	m.entries = (int64) c->entries;
	for (int i = 0; i < CACHE_DICTIONARIES; i++)
		m.dictionaries += c->dictionaries[i].id != 0;
	LWLockRelease(CACHE_WRITER);
	return m;
}

/* cache_memory(): the account of the part of shared memory */
Datum
eduai_cache_memory(PG_FUNCTION_ARGS)
{
	TupleDesc desc;
	Datum values[6];
	bool nulls[6] = {0};
	Memory m;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "cache_memory() does not return a row");
	if (eduai_cache_shared == NULL)
		PG_RETURN_NULL();
	m = memory_now();
	values[0] = Int64GetDatum(m.total);
	values[1] = Int64GetDatum(m.bookkeeping);
	values[2] = Int64GetDatum(m.used);
	values[3] = Int64GetDatum(m.free);
	values[4] = Int64GetDatum(m.entries);
	values[5] = Int32GetDatum(m.dictionaries);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* ---- health ---- */

/* The sum over the kinds of this database. */
static int64
sum_of(CacheCounter counter)
{
	int64 sum = 0;

	for (int i = 0; i < CACHE_SHELVES; i++)
		if (eduai_cache_shared->shelves[i].database == MyDatabaseId)
			sum += (int64) pg_atomic_read_u64(&eduai_cache_shared->shelves[i].counters[counter]);
	return sum;
}

static void
report(EduaiHealth *health)
{
	EduaiJson j;
	Memory m;

	if (eduai_cache_shared == NULL)
		return;
	flush();
	m = memory_now();
	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "bytes", m.total);
	eduai_core_json_put_int(&j, "free_bytes", m.free);
	eduai_core_json_put_int(&j, "entries", m.entries);
	eduai_core_json_put_int(&j, "hits", sum_of(CACHE_COUNT_HITS));
	eduai_core_json_put_int(&j, "misses", sum_of(CACHE_COUNT_MISSES));
	eduai_core_json_put_int(&j, "evictions", sum_of(CACHE_COUNT_EVICTIONS));
	eduai_core_health_section(health, "cache", eduai_core_json_end(&j));
}

void
eduai_cache_statistics_init(void)
{
	static const EduaiXactHooks hooks = {.name = "cache statistics",
										 .rank = EDUAI_RANK_CACHE,
										 .commit = flush,
										 .abort = flush,
										 .prepare = flush};

	eduai_core_xact_register(&hooks);
	eduai_core_health_register(report);
}
