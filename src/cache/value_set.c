/*
 * value_set.c: cache_set().
 *
 * A value is others' as soon as it is stored, whatever becomes of this
 * transaction.  So nothing is stored by a transaction that has written
 * anything: the value may have been computed from what is rolled back later.
 */
#include "postgres.h"

#include "access/xact.h"
#include "cache/interval.h"
#include "cache/kind.h"
#include "cache/tag.h"
#include "cache/value.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/tenant.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(eduai_cache_set);

void
eduai_cache_refuse_null(FunctionCallInfo fcinfo, int argument, const char *what)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s is null", what)));
}

static void
refuse_length(const char *what, const text *value, int most)
{
	int length = (int) VARSIZE_ANY_EXHDR(value);
	const char *bytes = VARDATA_ANY(value);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid cache %s \"%.*s\"", what, pg_mbcliplen(bytes, length, 100), bytes),
			 errdetail("It has %d bytes.", length), errhint("Give between 1 and %d bytes.", most)));
}

CacheKey
eduai_cache_value_key(const text *key, const char *tenant)
{
	size_t length = VARSIZE_ANY_EXHDR(key);

	if (length == 0 || length > CACHE_LONGEST_KEY)
		refuse_length("key", key, CACHE_LONGEST_KEY);
	return (CacheKey){.scope = CACHE_SCOPE_VALUE,
					  .database = MyDatabaseId,
					  .tenant = tenant,
					  .key = VARDATA_ANY(key),
					  .length = length};
}

char *
eduai_cache_check_tag(const text *tag)
{
	size_t length = VARSIZE_ANY_EXHDR(tag);

	if (length == 0 || length > CACHE_LONGEST_TAG)
		refuse_length("tag", tag, CACHE_LONGEST_TAG);
	return text_to_cstring(tag);
}

static void
read_tags(ArrayType *tags, const char *tenant, CacheDeps *deps)
{
	Datum *values;
	bool *nulls;
	int n;

	deconstruct_array(tags, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a tag is null")));
		if (!eduai_cache_tag_add(deps, MyDatabaseId, tenant,
								 eduai_cache_check_tag(DatumGetTextPP(values[i]))))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("too many tags"),
							errhint("Give at most %d.", CACHE_MAX_DEPS / 2)));
	}
}

/* The snapshot that the value was read under; false: nothing can be said of it. */
static bool
read_built_at(FunctionCallInfo fcinfo, int argument, CacheSnapshot *built)
{
	if (PG_ARGISNULL(argument))
		return eduai_cache_snapshot_take(built);
	return eduai_cache_snapshot_import(built, PG_GETARG_DATUM(argument));
}

/* cache_set(key, value, ttl, tags, kind, built_at) */
Datum
eduai_cache_set(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	CacheDeps deps = {0};
	CacheSnapshot built;
	CacheItem item = {.deps = &deps, .built = &built};
	struct varlena *value;

	eduai_cache_refuse_null(fcinfo, 0, "the key");
	eduai_cache_refuse_null(fcinfo, 1, "the value");
	eduai_cache_refuse_null(fcinfo, 4, "the kind");
	item.key = eduai_cache_value_key(PG_GETARG_TEXT_PP(0), tenant);
	item.kind = text_to_cstring(PG_GETARG_TEXT_PP(4));
	item.ttl_us = eduai_cache_kind(item.kind)->ttl_us;
	if (!PG_ARGISNULL(2))
		item.ttl_us = eduai_cache_ttl_us(PG_GETARG_INTERVAL_P(2));
	if (!PG_ARGISNULL(3))
		read_tags(PG_GETARG_ARRAYTYPE_P(3), tenant, &deps);
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()) || !read_built_at(fcinfo, 5, &built) ||
		eduai_cache_deleted_here(&item.key) || !eduai_cache_may_store(&built, &deps))
		PG_RETURN_BOOL(false);
	/* whole, with its header: a hit is one copy */
	value = PG_DETOAST_DATUM(PG_GETARG_DATUM(1));
	item.value = (char *) value;
	item.length = VARSIZE(value);
	PG_RETURN_BOOL(eduai_cache_store_put(&item));
}
