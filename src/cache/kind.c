/*
 * kind.c: kinds of cached values.  See kind.h.
 *
 * The built-in rows are the seeds' numbers.  eduai.cache_kind holds only what
 * was defined or changed, and wins over a built-in row of the same name.
 */
#include "postgres.h"

#include "cache/interval.h"
#include "cache/kind.h"
#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static const CacheKind builtin[] = {
	{"default", 5 * USECS_PER_MINUTE, 0, true},
	{"query", 5 * USECS_PER_MINUTE, 0, true},
	{"recommendations", 15 * USECS_PER_MINUTE, 0, true},
	{"progress", USECS_PER_HOUR, 0, true},
	{"hierarchy", USECS_PER_DAY, 0, true},
};

static int default_max_entries = 1000;

static MemoryContext context = NULL;
static bool stale = true;
static CacheKind *kinds = NULL;
static int nkinds = 0;
static Oid relid_of_kinds = InvalidOid;

PG_FUNCTION_INFO_V1(eduai_define_cache_kind);

static void
on_relcache(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == relid_of_kinds)
		stale = true;
}

static void
put_kind(CacheKind kind)
{
	int at = 0;

	while (at < nkinds && strcmp(kinds[at].name, kind.name) != 0)
		at++;
	kinds[at] = kind;
	if (at == nkinds)
		nkinds++;
}

static void
load(void)
{
	static EduaiPlan all = {
		"SELECT name, ttl_us, max_entries, train FROM eduai.cache_kind ORDER BY name", 0};
	EduaiPrivilege saved;
	MemoryContext old;
	uint64 n;

	eduai_core_enter(&saved);
	SPI_connect();
	relid_of_kinds = get_relname_relid("cache_kind", eduai_core_schema());
	n = eduai_core_run_latest(&all, NULL, NULL);
	old = MemoryContextSwitchTo(context);
	nkinds = 0;
	kinds = palloc(sizeof(CacheKind) * (n + lengthof(builtin)));
	for (size_t i = 0; i < lengthof(builtin); i++)
		put_kind(builtin[i]);
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;

		put_kind((CacheKind){.name = eduai_core_text(i, 1),
							 .ttl_us = eduai_core_int64(i, 2, 0),
							 .max_entries = (int) eduai_core_int64(i, 3, 0),
							 .train = DatumGetBool(eduai_core_value(i, 4, &isnull))});
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	eduai_core_leave(&saved);
}

static void
load_if_stale(void)
{
	if (!stale)
		return;
	if (context == NULL)
		context =
			AllocSetContextCreate(TopMemoryContext, "eduai cache kinds", ALLOCSET_SMALL_SIZES);
	nkinds = 0;
	MemoryContextReset(context);
	/* an invalidation that comes while loading asks for another load */
	stale = false;
	PG_TRY();
	{
		load();
	}
	PG_CATCH();
	{
		stale = true;
		nkinds = 0;
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static const CacheKind *
find(const char *name)
{
	for (int i = 0; i < nkinds; i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

const CacheKind *
eduai_cache_kind(const char *name)
{
	const CacheKind *kind;

	load_if_stale();
	kind = find(name);
	if (kind == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("cache kind \"%s\" does not exist", name),
						errhint("An administrator can define it with eduai.define_cache_kind().")));
	return kind;
}

void
eduai_cache_kind_limits(const char *name, int *max_entries, bool *train)
{
	const CacheKind *kind = find(name);

	*max_entries = kind != NULL && kind->max_entries > 0 ? kind->max_entries : default_max_entries;
	*train = kind != NULL && kind->train;
}

void
eduai_cache_kind_each(void (*each)(const CacheKind *kind, void *arg), void *arg)
{
	load_if_stale();
	for (int i = 0; i < nkinds; i++)
		each(&kinds[i], arg);
}

static void
check_name(const char *name)
{
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid name of a cache kind: \"%.*s\"",
							   pg_mbcliplen(name, (int) strlen(name), 100), name),
						errhint("A kind's name has 1 to %d bytes.", NAMEDATALEN - 1)));
}

static int
check_max_entries(int max_entries)
{
	if (max_entries < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid number of entries \"%d\"", max_entries),
						errhint("Give at least 1, or NULL for eduai.cache_max_entries.")));
	return max_entries;
}

static void
refuse_null(bool isnull, const char *what)
{
	if (isnull)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s is null", what)));
}

/* define_cache_kind(name, ttl, max_entries, train) */
Datum
eduai_define_cache_kind(PG_FUNCTION_ARGS)
{
	static EduaiPlan define = {
		"INSERT INTO eduai.cache_kind (name, ttl_us, max_entries, train) VALUES ($1, $2, $3, $4) "
		"ON CONFLICT (name) DO UPDATE SET ttl_us = excluded.ttl_us, "
		"max_entries = excluded.max_entries, train = excluded.train",
		4,
		{TEXTOID, INT8OID, INT4OID, BOOLOID}};
	EduaiPrivilege saved;
	Datum args[4] = {0};
	char nulls[4] = {' ', ' ', ' ', ' '};

	refuse_null(PG_ARGISNULL(0), "the name");
	refuse_null(PG_ARGISNULL(1), "the time to live");
	check_name(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	args[0] = PG_GETARG_DATUM(0);
	args[1] = Int64GetDatum(eduai_cache_ttl_us(PG_GETARG_INTERVAL_P(1)));
	if (PG_ARGISNULL(2))
		nulls[2] = 'n';
	else
		args[2] = Int32GetDatum(check_max_entries(PG_GETARG_INT32(2)));
	args[3] = BoolGetDatum(PG_ARGISNULL(3) || PG_GETARG_BOOL(3));
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run(&define, args, nulls);
	CacheInvalidateRelcacheByRelid(get_relname_relid("cache_kind", eduai_core_schema()));
	SPI_finish();
	eduai_core_leave(&saved);
	stale = true;
	PG_RETURN_VOID();
}

void
eduai_cache_kind_init(void)
{
	DefineCustomIntVariable("eduai.cache_max_entries",
							"Values of a kind kept in a database, where the kind does not say.",
							"When there are more, those of the kind used least give way.",
							&default_max_entries, 1000, 1, INT_MAX, PGC_SIGHUP, 0, NULL, NULL,
							NULL);
	eduai_core_relcache_register(on_relcache);
}
