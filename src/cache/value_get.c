/*
 * value_get.c: cache_get(), cache_lookup() and cache_mget().
 *
 * No SQL, and nothing that is shared is written but what the store counts.
 */
#include "postgres.h"

#include "cache/value.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
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
get(const text *name, const char *tenant)
{
	CacheKey key = eduai_cache_value_key(name, tenant);
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
	char *value = get(PG_GETARG_TEXT_PP(0), eduai_core_tenant_here());

	if (value == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(value);
}

/* cache_lookup(key) */
Datum
eduai_cache_lookup(PG_FUNCTION_ARGS)
{
	char *value = get(PG_GETARG_TEXT_PP(0), eduai_core_tenant_here());
	Datum values[2] = {BoolGetDatum(value != NULL), PointerGetDatum(value)};
	bool nulls[2] = {false, value == NULL};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "cache_lookup() does not return a row");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* cache_mget(keys): a row for each key, in their order */
Datum
eduai_cache_mget(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char *tenant = eduai_core_tenant();
	Datum *keys;
	bool *key_nulls;
	int n;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &keys, &key_nulls,
					  &n);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		char *value = key_nulls[i] ? NULL : get(DatumGetTextPP(keys[i]), tenant);
		Datum values[2] = {keys[i], PointerGetDatum(value)};
		bool nulls[2] = {key_nulls[i], value == NULL};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		if (value != NULL)
			pfree(value);
	}
	return (Datum) 0;
}
