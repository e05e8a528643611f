/*
 * simulate.c: simulate_cache(): how often a policy would hit.
 *
 * The store's own eviction code over a seeded trace: keys drawn from a Zipf
 * distribution, and now and then a scan, a run of keys that nobody asks for
 * again.  Each value weighs 1.
 */
#include "postgres.h"

#include <math.h>

#include "cache/evict.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#define MOST_KEYS     5000000
#define MOST_REQUESTS 100000000

PG_FUNCTION_INFO_V1(eduai_simulate_cache);

typedef struct Scenario
{
	int64 requests;
	int64 keys;
	int64 capacity;
	double zipf;      /* 0: all keys alike */
	int64 scan_every; /* requests between scans, 0: none */
	int64 scan_length;
} Scenario;

typedef struct Simulation
{
	Scenario scenario;
	EvictAlgorithm algorithm;
	EvictState state;
	EvictSpace space;
	EvictGhost ghost;
	EvictNode *nodes; /* a node for each key, those of scans after the others */
	double *cumulated;
	uint64 random;
	int64 next_scanned;
	int64 hits;
} Simulation;

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014) */
static double
draw(uint64 *state)
{
	uint64 z = (*state += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return (double) ((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static double
number(Jsonb *scenario, const char *name, double otherwise, double least, double most)
{
	JsonbValue buffer;
	JsonbValue *v =
		getKeyJsonValueFromContainer(&scenario->root, name, (int) strlen(name), &buffer);
	double value = otherwise;

	if (v != NULL && v->type == jbvNumeric)
		value =
			DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(v->val.numeric)));
	else if (v != NULL)
		value = NAN;
	if (!(value >= least && value <= most))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value of \"%s\" in the scenario", name),
						errhint("Give a number between %g and %g.", least, most)));
	return value;
}

static void
check_names(Jsonb *scenario)
{
	static const char *const names[] = {"requests", "keys",       "capacity",
										"zipf",     "scan_every", "scan_length"};
	JsonbIterator *it;
	JsonbValue v;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(scenario))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the scenario is not a JSON object")));
	it = JsonbIteratorInit(&scenario->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		bool known = token != WJB_KEY;

		for (size_t i = 0; i < lengthof(names) && !known; i++)
			known = strlen(names[i]) == v.val.string.len &&
					memcmp(names[i], v.val.string.val, v.val.string.len) == 0;
		if (!known)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("unknown part \"%.*s\" of the scenario",
								   Min(v.val.string.len, 100), v.val.string.val)));
	}
}

static Scenario
read_scenario(Jsonb *json)
{
	check_names(json);
	return (Scenario){.requests = (int64) number(json, "requests", 1000000, 1, MOST_REQUESTS),
					  .keys = (int64) number(json, "keys", 100000, 1, MOST_KEYS),
					  .capacity = (int64) number(json, "capacity", 10000, 1, MOST_KEYS),
					  .zipf = number(json, "zipf", 1, 0, 10),
					  .scan_every = (int64) number(json, "scan_every", 0, 0, MOST_REQUESTS),
					  .scan_length = (int64) number(json, "scan_length", 0, 0, MOST_KEYS)};
}

static void
begin(Simulation *sim)
{
	const Scenario *s = &sim->scenario;
	int64 n = s->keys + s->scan_length;
	double sum = 0;

	sim->nodes = MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(EvictNode));
	for (int64 i = 0; i < n; i++)
	{
		sim->nodes[i] = (EvictNode){.weight = 1, .print = (uint32) i + 1, .place = EVICT_OUT};
		pg_atomic_init_u32(&sim->nodes[i].uses, 0);
	}
	sim->space = (EvictSpace){(char *) sim->nodes, sizeof(EvictNode)};
	eduai_cache_evict_reset(&sim->state);
	sim->ghost.nsets = pg_nextpower2_32((uint32) Max(s->capacity / 2, 1));
	sim->ghost.traces = MemoryContextAllocExtended(
		CurrentMemoryContext, sim->ghost.nsets * EVICT_WAYS * sizeof(EvictTrace),
		MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	sim->cumulated = MemoryContextAllocHuge(CurrentMemoryContext, s->keys * sizeof(double));
	for (int64 i = 0; i < s->keys; i++)
		sim->cumulated[i] = (sum += pow((double) i + 1, -s->zipf));
}

static uint32
draw_key(Simulation *sim)
{
	double at = draw(&sim->random) * sim->cumulated[sim->scenario.keys - 1];
	int64 low = 0;
	int64 high = sim->scenario.keys - 1;

	while (low < high)
	{
		int64 middle = (low + high) / 2;

		if (sim->cumulated[middle] <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return (uint32) low;
}

static void
request(Simulation *sim, uint32 key)
{
	EvictNode *node = &sim->nodes[key];

	if (node->place != EVICT_OUT)
	{
		sim->hits++;
		if (sim->algorithm == EVICT_LRU)
			eduai_cache_evict_renew(&sim->state, sim->space, key);
		else
			eduai_cache_evict_use(node);
		return;
	}
	while (sim->state.small.count + sim->state.main.count >= sim->scenario.capacity)
		(void) eduai_cache_evict_victim(&sim->state, sim->space, sim->ghost, sim->algorithm);
	pg_atomic_write_u32(&node->uses, 0);
	eduai_cache_evict_insert(&sim->state, sim->space, sim->ghost, sim->algorithm, key);
}

static void
simulate(Simulation *sim)
{
	const Scenario *s = &sim->scenario;
	int64 scanning = 0;

	for (int64 i = 0; i < s->requests; i++)
	{
		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
		if (s->scan_every > 0 && scanning == 0 && i % s->scan_every == s->scan_every - 1)
			scanning = s->scan_length;
		if (scanning > 0)
			request(sim, (uint32) (s->keys + --scanning));
		else
			request(sim, draw_key(sim));
	}
}

static EvictAlgorithm
read_algorithm(const text *name)
{
	char *word = text_to_cstring(name);

	if (strcmp(word, "s3fifo") == 0)
		return EVICT_S3FIFO;
	if (strcmp(word, "lru") == 0)
		return EVICT_LRU;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("unknown eviction algorithm \"%.*s\"", 100, word),
					errhint("Give \"s3fifo\" or \"lru\".")));
}

/* simulate_cache(algorithm, scenario, seed) */
Datum
eduai_simulate_cache(PG_FUNCTION_ARGS)
{
	Simulation sim = {.algorithm = read_algorithm(PG_GETARG_TEXT_PP(0)),
					  .scenario = read_scenario(PG_GETARG_JSONB_P(1)),
					  .random = (uint64) PG_GETARG_INT64(2)};
	StringInfoData out;

	begin(&sim);
	simulate(&sim);
	initStringInfo(&out);
	appendStringInfo(
		&out, "{\"requests\": " INT64_FORMAT ", \"hits\": " INT64_FORMAT ", \"hit_ratio\": %.4f}",
		sim.scenario.requests, sim.hits, (double) sim.hits / sim.scenario.requests);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(out.data)));
}
