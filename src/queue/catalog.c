/*
 * catalog.c: task types and pools.  See catalog.h.
 *
 * The built-in rows are the seeds' numbers.  eduai.task_type and eduai.pool
 * hold only what was defined or changed, and win over a built-in row of the
 * same name.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/relcache.h"
#include "queue/catalog.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "core/privilege.h"

#define DEFAULT_TIMEOUT_MS 300000
#define DEFAULT_ATTEMPTS   3

static const TaskType builtin_types[] = {
	{"chat", true, "chat", DEFAULT_ATTEMPTS, DEFAULT_TIMEOUT_MS, "retry"},
	{"image_generation", true, "image", DEFAULT_ATTEMPTS, DEFAULT_TIMEOUT_MS, "retry"},
	{"transcription", true, "analysis", DEFAULT_ATTEMPTS, DEFAULT_TIMEOUT_MS, "retry"},
	{"embeddings", true, "analysis", DEFAULT_ATTEMPTS, DEFAULT_TIMEOUT_MS, "retry"},
	{"analysis", true, "analysis", DEFAULT_ATTEMPTS, DEFAULT_TIMEOUT_MS, "retry"},
	{"custom", false, "custom", DEFAULT_ATTEMPTS, DEFAULT_TIMEOUT_MS, "retry"},
};

static const Pool builtin_pools[] = {
	{"chat", 3, 30, 1},
	{"image", 1, 4, 0},
	{"analysis", 2, 20, 1},
	{"custom", 1000, 1000, 1},
};

static MemoryContext context = NULL; /* NULL: to be loaded */
static bool stale = true;
static TaskType *types;
static int ntypes;
static Pool *pools;
static int npools;
static Oid type_relid = InvalidOid;
static Oid pool_relid = InvalidOid;
static Oid paused_relid = InvalidOid;

static void
on_relcache(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == type_relid || relid == pool_relid || relid == paused_relid)
		stale = true;
}

void
eduai_queue_catalog_mark_stale(void)
{
	stale = true;
}

void
eduai_queue_catalog_init(void)
{
	eduai_core_relcache_register(on_relcache);
}

static void
put_type(TaskType type)
{
	int at = 0;

	while (at < ntypes && strcmp(types[at].name, type.name) != 0)
		at++;
	types[at] = type;
	if (at == ntypes)
		ntypes++;
}

static void
put_pool(Pool pool)
{
	int at = 0;

	while (at < npools && strcmp(pools[at].name, pool.name) != 0)
		at++;
	pools[at] = pool;
	if (at == npools)
		npools++;
}

static void
load_types(void)
{
	static EduaiPlan all = {
		"SELECT name, served_by, pool, max_attempts, timeout_ms, on_uncertain FROM eduai.task_type",
		0};
	uint64 n = eduai_core_run_latest(&all, NULL, NULL);
	MemoryContext old = MemoryContextSwitchTo(context);

	types = palloc(sizeof(TaskType) * (n + lengthof(builtin_types)));
	ntypes = 0;
	for (size_t i = 0; i < lengthof(builtin_types); i++)
		put_type(builtin_types[i]);
	for (uint64 i = 0; i < n; i++)
	{
		TaskType type = {.name = eduai_core_text(i, 1),
						 .by_gateway = strcmp(eduai_core_text(i, 2), "gateway") == 0,
						 .pool = eduai_core_text(i, 3),
						 .max_attempts = (int) eduai_core_int64(i, 4, DEFAULT_ATTEMPTS),
						 .timeout_ms = eduai_core_int64(i, 5, DEFAULT_TIMEOUT_MS),
						 .on_uncertain = eduai_core_text(i, 6)};

		put_type(type);
	}
	MemoryContextSwitchTo(old);
}

static void
load_paused(void)
{
	static EduaiPlan all = {"SELECT task_type FROM eduai.paused_type", 0};
	uint64 n = eduai_core_run_latest(&all, NULL, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		char *name = eduai_core_text(i, 1);

		for (int t = 0; t < ntypes; t++)
			if (strcmp(types[t].name, name) == 0)
				types[t].paused = true;
	}
}

static void
load_pools(void)
{
	static EduaiPlan all = {
		"SELECT name, max_concurrent, scale_to, reserved_critical FROM eduai.pool", 0};
	uint64 n = eduai_core_run_latest(&all, NULL, NULL);
	MemoryContext old = MemoryContextSwitchTo(context);

	pools = palloc(sizeof(Pool) * (n + lengthof(builtin_pools)));
	npools = 0;
	for (size_t i = 0; i < lengthof(builtin_pools); i++)
		put_pool(builtin_pools[i]);
	for (uint64 i = 0; i < n; i++)
	{
		int most = (int) eduai_core_int64(i, 2, 1);
		Pool pool = {.name = eduai_core_text(i, 1),
					 .max_concurrent = most,
					 .scale_to = (int) eduai_core_int64(i, 3, most),
					 .reserved_critical = (int) eduai_core_int64(i, 4, 0)};

		put_pool(pool);
	}
	MemoryContextSwitchTo(old);
}

static void
load_if_stale(void)
{
	if (!stale)
		return;
	if (context == NULL)
		context =
			AllocSetContextCreate(TopMemoryContext, "eduai queue catalog", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(context);
	type_relid = get_relname_relid("task_type", eduai_core_schema());
	pool_relid = get_relname_relid("pool", eduai_core_schema());
	paused_relid = get_relname_relid("paused_type", eduai_core_schema());
	/* an invalidation that comes while loading asks for another load */
	stale = false;
	PG_TRY();
	{
		load_types();
		load_paused();
		load_pools();
	}
	PG_CATCH();
	{
		stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
}

const TaskType *
eduai_queue_type(const char *name)
{
	load_if_stale();
	for (int i = 0; i < ntypes; i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

const Pool *
eduai_queue_pool(const char *name)
{
	load_if_stale();
	for (int i = 0; i < npools; i++)
		if (strcmp(pools[i].name, name) == 0)
			return &pools[i];
	return NULL;
}

const Pool *
eduai_queue_pools(int *n)
{
	load_if_stale();
	*n = npools;
	return pools;
}

const TaskType *
eduai_queue_types(int *n)
{
	load_if_stale();
	*n = ntypes;
	return types;
}

const TaskType *
eduai_queue_require_type(const char *name)
{
	const TaskType *type = eduai_queue_type(name);

	if (type == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown task type \"%s\"", name),
			 errhint(
				 "SELECT * FROM eduai.task_types() lists them; eduai.define_task_type() adds one.")));
	return type;
}
