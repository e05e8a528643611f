/*
 * configure.c: define_task_type(), configure_pool() and the lists of both.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "funcapi.h"
#include "queue/catalog.h"
#include "queue/queue.h"
#include "queue/running.h"
#include "queue/task.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_define_task_type);
PG_FUNCTION_INFO_V1(eduai_configure_pool);
PG_FUNCTION_INFO_V1(eduai_task_types);
PG_FUNCTION_INFO_V1(eduai_pools);

#define MAX_ATTEMPTS 100
#define MAX_POOL     100000

static char *
name_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	char *name;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what)));
	name = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s \"%s\"", what, name),
				 errhint("A name has 1 to %d bytes.", NAMEDATALEN - 1)));
	return name;
}

static void
check_choice(const char *what, const char *value, const char *a, const char *b)
{
	if (strcmp(value, a) != 0 && strcmp(value, b) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s \"%s\"", what, value),
				 errhint("Use \"%s\" or \"%s\".", a, b)));
}

static void
check_range(const char *what, int64 value, int64 least, int64 most)
{
	if (value < least || value > most)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid %s \"%lld\"", what, (long long) value),
						errhint("Use %lld to %lld.", (long long) least, (long long) most)));
}

static void
announce(const char *table)
{
	CacheInvalidateRelcacheByRelid(get_relname_relid(table, eduai_core_schema()));
	eduai_queue_reload_at_commit();
}

static void
save_type(const TaskType *type)
{
	static EduaiPlan upsert = {
		"INSERT INTO eduai.task_type AS t (name, served_by, pool, max_attempts, timeout_ms, on_uncertain) "
		"VALUES ($1, $2, $3, $4, $5, $6) "
		"ON CONFLICT (name) DO UPDATE SET served_by = excluded.served_by, pool = excluded.pool, "
		"max_attempts = excluded.max_attempts, timeout_ms = excluded.timeout_ms, "
		"on_uncertain = excluded.on_uncertain",
		6,
		{TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID, TEXTOID}};
	Datum args[6] = {CStringGetTextDatum(type->name),
					 CStringGetTextDatum(type->by_gateway ? "gateway" : "application"),
					 CStringGetTextDatum(type->pool),
					 Int32GetDatum(type->max_attempts),
					 Int64GetDatum(type->timeout_ms),
					 CStringGetTextDatum(type->on_uncertain)};

	eduai_core_run(&upsert, args, NULL);
	announce("task_type");
}

Datum
eduai_define_task_type(PG_FUNCTION_ARGS)
{
	TaskType type;
	char *served_by;
	EduaiPrivilege saved;

	type.name = name_argument(fcinfo, 0, "task type");
	served_by = name_argument(fcinfo, 1, "served_by");
	check_choice("served_by", served_by, "gateway", "application");
	type.by_gateway = strcmp(served_by, "gateway") == 0;
	type.pool = name_argument(fcinfo, 2, "pool");
	type.max_attempts = PG_ARGISNULL(3) ? 3 : PG_GETARG_INT32(3);
	check_range("max_attempts", type.max_attempts, 1, MAX_ATTEMPTS);
	type.timeout_ms = PG_ARGISNULL(4) ? 300000
									  : eduai_queue_interval_ms(PG_GETARG_INTERVAL_P(4), "timeout",
																1, EDUAI_DAY_MS);
	type.on_uncertain = PG_ARGISNULL(5) ? "retry" : text_to_cstring(PG_GETARG_TEXT_PP(5));
	check_choice("on_uncertain", type.on_uncertain, "retry", "hold");

	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_queue_pool(type.pool) == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("pool \"%s\" does not exist", type.pool),
			 errhint("SELECT * FROM eduai.pools() lists them; eduai.configure_pool() makes one.")));
	save_type(&type);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

static void
save_pool(const Pool *pool, bool scales)
{
	static EduaiPlan upsert = {
		"INSERT INTO eduai.pool AS p (name, max_concurrent, scale_to, reserved_critical) "
		"VALUES ($1, $2, $3, $4) "
		"ON CONFLICT (name) DO UPDATE SET max_concurrent = excluded.max_concurrent, "
		"scale_to = excluded.scale_to, reserved_critical = excluded.reserved_critical",
		4,
		{TEXTOID, INT4OID, INT4OID, INT4OID}};
	Datum args[4] = {CStringGetTextDatum(pool->name), Int32GetDatum(pool->max_concurrent),
					 Int32GetDatum(pool->scale_to), Int32GetDatum(pool->reserved_critical)};

	eduai_core_run(&upsert, args, scales ? "    " : "  n ");
	announce("pool");
}

static void
move_types(ArrayType *names, char *pool)
{
	Datum *elements;
	bool *nulls;
	int n;

	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		TaskType type;

		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("task types must not be null")));
		type = *eduai_queue_require_type(TextDatumGetCString(elements[i]));
		if (strcmp(type.pool, pool) == 0)
			continue;
		type.pool = pool;
		save_type(&type);
	}
}

Datum
eduai_configure_pool(PG_FUNCTION_ARGS)
{
	Pool pool;
	EduaiPrivilege saved;

	pool.name = name_argument(fcinfo, 0, "pool");
	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("task_types and max_concurrent must not be null")));
	pool.max_concurrent = PG_GETARG_INT32(2);
	check_range("max_concurrent", pool.max_concurrent, 1, MAX_POOL);
	pool.scale_to = PG_ARGISNULL(3) ? pool.max_concurrent : PG_GETARG_INT32(3);
	check_range("scale_to", pool.scale_to, pool.max_concurrent, MAX_POOL);
	pool.reserved_critical =
		PG_ARGISNULL(4) ? (pool.max_concurrent >= 2 ? 1 : 0) : PG_GETARG_INT32(4);
	check_range("reserved_critical", pool.reserved_critical, 0, pool.max_concurrent);

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_queue_pool_set(&pool);
	save_pool(&pool, !PG_ARGISNULL(3));
	move_types(PG_GETARG_ARRAYTYPE_P(1), pool.name);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

Datum
eduai_task_types(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EduaiPrivilege saved;
	const TaskType *types;
	int n;

	InitMaterializedSRF(fcinfo, 0);
	eduai_core_enter(&saved);
	SPI_connect();
	types = eduai_queue_types(&n);
	for (int i = 0; i < n; i++)
	{
		Interval *timeout = palloc0(sizeof(Interval));
		Datum values[6] = {CStringGetTextDatum(types[i].name),
						   CStringGetTextDatum(types[i].by_gateway ? "gateway" : "application"),
						   CStringGetTextDatum(types[i].pool),
						   Int32GetDatum(types[i].max_attempts),
						   IntervalPGetDatum(timeout),
						   CStringGetTextDatum(types[i].on_uncertain)};
		bool nulls[6] = {0};

		timeout->time = types[i].timeout_ms * 1000;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	return (Datum) 0;
}

Datum
eduai_pools(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EduaiPrivilege saved;
	const Pool *pools;
	int n;

	InitMaterializedSRF(fcinfo, 0);
	eduai_core_enter(&saved);
	SPI_connect();
	pools = eduai_queue_pools(&n);
	for (int i = 0; i < n; i++)
	{
		Datum values[4] = {CStringGetTextDatum(pools[i].name),
						   Int32GetDatum(pools[i].max_concurrent), Int32GetDatum(pools[i].scale_to),
						   Int32GetDatum(pools[i].reserved_critical)};
		bool nulls[4] = {0};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	return (Datum) 0;
}
