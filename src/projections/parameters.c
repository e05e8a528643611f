/*
 * parameters.c: the fitted parameters of the learner model.  See parameters.h.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "core/heap.h"
#include "projections/intern.h"
#include "projections/parameters.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

enum
{
	COLUMN_FROM,
	COLUMN_INIT,
	COLUMN_LEARN,
	COLUMN_SLIP,
	COLUMN_GUESS,
	COLUMN_FORGET,
};

/* What is known of a skill: the row, or that there is none, for these positions. */
typedef struct Known
{
	int64 first; /* above last: nothing is known */
	int64 last;
	bool fitted;
	EduaiModelBkt bkt;
} Known;

typedef struct Cache
{
	MemoryContext context;
	EduaiIntern *skills;
	Known *known; /* by the skill's number */
	uint32 size;
} Cache;

struct EduaiModelParameters
{
	Datum tenant;
	Snapshot snapshot; /* NULL: the latest */
	Cache *cache;      /* NULL: the tenant has no rows */
};

static EduaiTable parameters_table = {"model_parameters", "model_parameters_pkey"};

static Snapshot
take(const EduaiModelParameters *p)
{
	return RegisterSnapshot(p->snapshot != NULL ? p->snapshot : GetLatestSnapshot());
}

static bool
has_any(const EduaiModelParameters *p)
{
	Snapshot snapshot = take(p);
	ScanKeyData key;
	EduaiScan scan;
	bool any;

	eduai_core_table_open(&scan, &parameters_table, snapshot, 1);
	eduai_core_key_text(&key, 1, p->tenant);
	eduai_core_scan_seek(&scan, &key);
	any = eduai_core_scan_next(&scan, ForwardScanDirection);
	eduai_core_scan_close(&scan);
	UnregisterSnapshot(snapshot);
	return any;
}

EduaiModelParameters *
eduai_projections_parameters_view(const char *tenant, Snapshot snapshot)
{
	EduaiModelParameters *p = palloc0_object(EduaiModelParameters);

	p->tenant = CStringGetTextDatum(tenant);
	p->snapshot = snapshot;
	if (!has_any(p))
		return p;
	p->cache = palloc0_object(Cache);
	p->cache->context = CurrentMemoryContext;
	p->cache->skills = eduai_projections_intern_create();
	return p;
}

EduaiModelParameters *
eduai_projections_parameters_load(const char *tenant)
{
	return eduai_projections_parameters_view(tenant, NULL);
}

/* ---- reading a skill's rows ---- */

static EduaiModelBkt
read_row(const EduaiScan *scan)
{
	const Datum *values = scan->slot->tts_values;

	return (EduaiModelBkt){
		.init = DatumGetFloat8(values[COLUMN_INIT]),
		.learn = DatumGetFloat8(values[COLUMN_LEARN]),
		.slip = DatumGetFloat8(values[COLUMN_SLIP]),
		.guess = DatumGetFloat8(values[COLUMN_GUESS]),
		.forget = DatumGetFloat8(values[COLUMN_FORGET]),
	};
}

/* The row in force at the position, and how far it is. */
static Known
read_known(const EduaiModelParameters *p, const char *skill, int64 position)
{
	Known known = {.first = PG_INT64_MIN, .last = PG_INT64_MAX};
	Snapshot snapshot = take(p);
	ScanKeyData keys[3];
	EduaiScan scan;

	eduai_core_table_open(&scan, &parameters_table, snapshot, lengthof(keys));
	eduai_core_key_text(&keys[0], 1, p->tenant);
	eduai_core_key_text(&keys[1], 2, CStringGetTextDatum(skill));
	eduai_core_key_int8(&keys[2], 3, BTLessEqualStrategyNumber, position);
	eduai_core_scan_seek(&scan, keys);
	if (eduai_core_scan_next(&scan, BackwardScanDirection))
	{
		known.fitted = true;
		known.first = DatumGetInt64(scan.slot->tts_values[COLUMN_FROM]);
		known.bkt = read_row(&scan);
	}
	eduai_core_key_int8(&keys[2], 3, BTGreaterStrategyNumber, position);
	eduai_core_scan_seek(&scan, keys);
	if (eduai_core_scan_next(&scan, ForwardScanDirection))
		known.last = DatumGetInt64(scan.slot->tts_values[COLUMN_FROM]) - 1;
	eduai_core_scan_close(&scan);
	UnregisterSnapshot(snapshot);
	return known;
}

/* The cell of a skill, new ones knowing nothing. */
static Known *
cell_of(Cache *cache, const char *skill)
{
	uint32 number = eduai_projections_intern(cache->skills, skill);

	if (number >= cache->size)
	{
		uint32 size = Max(64, cache->size * 2);

		cache->known = cache->known == NULL
						   ? MemoryContextAlloc(cache->context, sizeof(Known) * size)
						   : repalloc_huge(cache->known, sizeof(Known) * (Size) size);
		for (uint32 i = cache->size; i < size; i++)
			cache->known[i] = (Known){.first = 1, .last = 0};
		cache->size = size;
	}
	return &cache->known[number];
}

const EduaiModelBkt *
eduai_projections_parameters_at(const EduaiModelParameters *parameters, const char *skill,
								int64 position)
{
	Known *known;

	if (parameters->cache == NULL)
		return NULL;
	known = cell_of(parameters->cache, skill);
	if (position < known->first || position > known->last)
		*known = read_known(parameters, skill, position);
	return known->fitted ? &known->bkt : NULL;
}
