/*
 * value_get.c: cache_get(), cache_lookup() and cache_mget().
 *
 * No SQL, and nothing that is shared is written but what the store counts.
 */
#include "postgres.h"

#include "cache/value.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/direct.h"
#include "core/tenant.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(eduai_cache_get);
PG_FUNCTION_INFO_V1(eduai_cache_lookup);
PG_FUNCTION_INFO_V1(eduai_cache_mget);

/* The value as it was set, palloc'd; NULL on a miss. */
static char *
get(const text *name)
{
	CacheKey key = eduai_cache_value_key(name, eduai_core_tenant_here());
	char *value;
	size_t length;

	if (unlikely(eduai_cache_deleted_here(&key)))
		return NULL;
	if (eduai_cache_store_get(&key, eduai_cache_judge(), &value, &length) != CACHE_HIT)
		return NULL;
	return value;
}

/* cache_get(key) */
Datum
eduai_cache_get(PG_FUNCTION_ARGS)
{
	char *value = get(PG_GETARG_TEXT_PP(0));

	if (value == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(value);
}

/* cache_lookup(key) */
Datum
eduai_cache_lookup(PG_FUNCTION_ARGS)
{
	char *value = get(PG_GETARG_TEXT_PP(0));
	Datum values[2] = {BoolGetDatum(value != NULL), PointerGetDatum(value)};
	bool nulls[2] = {false, value == NULL};
	EduaiRows *rows = eduai_core_direct_rows(fcinfo);
	TupleDesc desc;

	if (rows != NULL)
	{
		eduai_core_direct_put(rows, values, nulls);
		return (Datum) 0;
	}
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "cache_lookup() does not return a row");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* Where cache_mget()'s rows go: to the client, or into a tuplestore. */
typedef struct Entries
{
	EduaiRows *rows; /* or NULL */
	ReturnSetInfo *rsinfo;
	const CacheJudge *judge;
	const char *tenant;
} Entries;

static void
put_entry(const Entries *entries, Datum name, bool null)
{
	char *value = NULL;
	char *copy = NULL;
	Datum values[2] = {name};
	bool nulls[2] = {null, true};

	if (!null)
	{
		CacheKey key = eduai_cache_value_key(DatumGetTextPP(name), entries->tenant);

		nulls[1] = eduai_cache_deleted_here(&key) ||
				   eduai_cache_store_view(&key, entries->judge, &value, &copy) != CACHE_HIT;
	}
	values[1] = PointerGetDatum(value);
	if (entries->rows != NULL)
		eduai_core_direct_put(entries->rows, values, nulls);
	else
		tuplestore_putvalues(entries->rsinfo->setResult, entries->rsinfo->setDesc, values, nulls);
	if (copy != NULL)
		pfree(copy);
}

/* cache_mget(keys): a row for each key, in their order */
Datum
eduai_cache_mget(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	Entries entries = {.rows = eduai_core_direct_rows(fcinfo),
					   .rsinfo = (ReturnSetInfo *) fcinfo->resultinfo,
					   .judge = eduai_cache_judge(),
					   .tenant = tenant};
	Datum *keys;
	bool *nulls;
	int n;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &keys, &nulls,
					  &n);
	if (entries.rows == NULL)
		InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
		put_entry(&entries, keys[i], nulls[i]);
	return (Datum) 0;
}

void
eduai_cache_get_init(void)
{
	static const Oid lookup[] = {BOOLOID, JSONBOID}; /* eduai.lookup */
	static const Oid entry[] = {TEXTOID, JSONBOID};  /* eduai.cache_entry */

	eduai_core_direct_register(eduai_cache_lookup, lengthof(lookup), lookup);
	eduai_core_direct_register(eduai_cache_mget, lengthof(entry), entry);
}
