/*
 * query.c: cached_query().
 *
 * The result is computed in the snapshot of the statement that called, and
 * kept with it.  A hit must be the result of that statement, so it is served
 * by the rule of validity.h, and never
 *
 *   - to a transaction that wrote one of the tables, whether or not the rows
 *     it wrote matter;
 *   - in SERIALIZABLE: a hit reads no row, so the conflicts that the server
 *     looks for there would be missed;
 *   - on a standby, where nobody publishes.
 *
 * Rights: the key has the role, and whatever changes rights (the kind catalog)
 * refuses all entries of before; so a hit was computed by this role, after
 * the last such change, with the checks of any query.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "cache/advice.h"
#include "cache/flight.h"
#include "cache/interval.h"
#include "cache/kind.h"
#include "cache/query.h"
#include "cache/steady.h"
#include "cache/store.h"
#include "cache/tag.h"
#include "cache/validity.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_cached_query);
PG_FUNCTION_INFO_V1(eduai_test_cache_computed);

static int wait_ms = 5000;
static int64 computed = 0; /* by this session */

/* One call. */
typedef struct Call
{
	CachedStatement *statement;
	char **params; /* NULL entries: null */
	CacheKey key;
	char *kind;
	int64 ttl_us;
	CacheDeps deps;
	bool may_hit;
	bool may_store;
	uint64 hash;         /* of the key, for flights */
	uint32 ends;         /* of flights, before the first look */
	uint32 advice;       /* the statement's place in cache_advice */
	AdviceReason reason; /* why it would be computed */
} Call;

/* ---- arguments ---- */

static char **
text_array(ArrayType *array, int *n, bool nulls_allowed, const char *what)
{
	Datum *values;
	bool *nulls;
	char **texts;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("%s must be a one-dimensional array", what)));
	*n = 0;
	if (ARR_NDIM(array) == 0)
		return NULL;
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	texts = palloc(sizeof(char *) * *n);
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i] && !nulls_allowed)
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("%s must not contain nulls", what)));
		texts[i] = nulls[i] ? NULL : TextDatumGetCString(values[i]);
	}
	return texts;
}

static void
refuse_null(FunctionCallInfo fcinfo, int argument, const char *what)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what)));
}

static bool
wrote_any(const CacheJudge *judge, const CacheDeps *tables)
{
	if (judge->all_own)
		return true;
	for (int i = 0; judge->own != NULL && i < judge->own->n; i++)
		for (int j = 0; j < tables->n; j++)
			if (judge->own->hash[i] == tables->hash[j])
				return true;
	return false;
}

/* What this call may do with entries. */
static void
look_at_rules(Call *call, char **tags, int ntags)
{
	const CacheJudge *judge = eduai_cache_judge();
	bool known = eduai_cache_statement_deps(call->statement, call->params, &call->deps);

	for (int i = 0; i < ntags && known; i++)
		known = eduai_cache_tag_add(&call->deps, MyDatabaseId, call->key.tenant, tags[i]);
	call->may_store = known && !judge->recovery && !wrote_any(judge, &call->statement->tables);
	call->may_hit = call->may_store && XactIsoLevel != XACT_SERIALIZABLE;
}

static void
make_key(Call *call, const char *tenant, StringInfo key)
{
	eduai_cache_statement_normalise(call->statement, call->params);
	eduai_cache_statement_key(call->statement, call->params, key);
	call->key.scope = CACHE_SCOPE_QUERY;
	call->key.database = MyDatabaseId;
	call->key.tenant = tenant;
	call->key.key = key->data;
	call->key.length = key->len;
	call->key.hash = 0;
	call->key.hash = eduai_cache_hash(&call->key);
	call->hash = call->key.hash;
}

/* ---- computing ---- */

static Jsonb *
run(const Call *call)
{
	const CachedStatement *s = call->statement;
	Datum *values = palloc(sizeof(Datum) * Max(s->nparams, 1));
	char *nulls = palloc0(Max(s->nparams, 1) + 1);
	MemoryContext caller = CurrentMemoryContext;
	Jsonb *rows;
	bool isnull;
	int status;

	for (int i = 0; i < s->nparams; i++)
	{
		nulls[i] = call->params[i] ? ' ' : 'n';
		values[i] =
			OidInputFunctionCall(s->params[i].input, call->params[i], s->params[i].ioparam, -1);
	}
	SPI_connect();
	/* read only: in the snapshot of the calling statement */
	status = SPI_execute_plan(s->plan, values, nulls, true, 0);
	if (status != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "cached query failed: %s", SPI_result_code_string(status));
	rows = DatumGetJsonbP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	MemoryContextSwitchTo(caller);
	rows = (Jsonb *) DatumGetPointer(datumCopy(PointerGetDatum(rows), false, -1));
	SPI_finish();
	return rows;
}

/* Was it stored? */
static bool
store(const Call *call, const Jsonb *rows, const CacheSnapshot *built)
{
	CacheItem item = {.key = call->key,
					  .kind = call->kind,
					  .value = (const char *) rows,
					  .length = VARSIZE(rows),
					  .ttl_us = call->ttl_us,
					  .deps = &call->deps,
					  .built = built,
					  .advice = call->advice};

	/* a function of the query may have written */
	if (wrote_any(eduai_cache_judge(), &call->statement->tables) ||
		!eduai_cache_may_store(built, &call->deps))
		return false;
	return eduai_cache_store_put(&item);
}

static Jsonb *
compute_and_store(const Call *call)
{
	CacheSnapshot built;
	uint64 before, after;
	bool steady = eduai_cache_catalog_steady(&before);
	bool stored = false;
	int64 started_us = eduai_core_mono_us();
	int64 took_us;
	Jsonb *rows;

	AcceptInvalidationMessages();
	eduai_cache_snapshot_take(&built);
	eduai_cache_store_count_computation(call->kind);
	EDUAI_PAUSE("cache_compute");
	rows = run(call);
	took_us = eduai_core_mono_us() - started_us;
	EDUAI_PAUSE("cache_store");
	if (call->may_store && steady && eduai_cache_catalog_steady(&after) && before == after)
		stored = store(call, rows, &built);
	eduai_cache_advice_computed(call->advice, call->reason, took_us, stored);
	return rows;
}

static Jsonb *
compute(const Call *call)
{
	Jsonb *volatile rows = NULL;

	computed++;
	eduai_cache_statement_hold(call->statement);
	PG_TRY();
	{
		rows = eduai_core_preloaded() ? compute_and_store(call) : run(call);
	}
	PG_FINALLY();
	{
		eduai_cache_statement_release(call->statement);
	}
	PG_END_TRY();
	return rows;
}

static Jsonb *
look_up(Call *call)
{
	char *value;
	size_t length;
	CacheFound found = eduai_cache_store_get(&call->key, eduai_cache_judge(), &value, &length);

	if (found == CACHE_HIT)
	{
		eduai_cache_advice_hit(call->advice);
		return (Jsonb *) value;
	}
	call->reason = found == CACHE_EXPIRED ? ADVICE_EXPIRED
				   : found == CACHE_STALE ? ADVICE_STALE
										  : ADVICE_ABSENT;
	return NULL;
}

/* Somebody may have stored it between the first look and this flight. */
static Jsonb *
look_up_or_compute(Call *call)
{
	Jsonb *volatile rows = NULL;

	PG_TRY();
	{
		if (eduai_cache_flight_ends(call->hash) != call->ends)
			rows = look_up(call);
		if (rows == NULL)
			rows = compute(call);
	}
	PG_CATCH();
	{
		eduai_cache_flight_end(call->hash);
		PG_RE_THROW();
	}
	PG_END_TRY();
	eduai_cache_flight_end(call->hash);
	return rows;
}

/* Computes it for whoever else wants it, or waits for who does. */
static Jsonb *
compute_once(Call *call)
{
	int64 until_us = eduai_core_mono_us() + (int64) wait_ms * 1000;
	Jsonb *rows = NULL;

	while (rows == NULL)
		switch (eduai_cache_flight_begin(call->hash, until_us))
		{
			case FLIGHT_MINE:
				rows = look_up_or_compute(call);
				break;
			case FLIGHT_ALONE:
				rows = compute(call);
				break;
			case FLIGHT_ENDED:
				rows = look_up(call);
				break;
		}
	return rows;
}

/* The statement keeps the number of its last call, most often this one's. */
static uint32
advice_of(CachedStatement *s, const char *tenant, const char *kind)
{
	if (!eduai_cache_advice_is(s->advice, tenant, kind))
		s->advice = eduai_cache_advice_place(s->text, s->hash, tenant, kind);
	return s->advice;
}

/* cached_query(query, params, ttl, tags, kind) */
Datum
eduai_cached_query(PG_FUNCTION_ARGS)
{
	Call call;
	StringInfoData key;
	char **tags;
	int nparams, ntags;
	const char *tenant;
	Jsonb *rows;

	refuse_null(fcinfo, 0, "query");
	refuse_null(fcinfo, 1, "params");
	refuse_null(fcinfo, 3, "tags");
	refuse_null(fcinfo, 4, "kind");
	tenant = eduai_core_tenant();
	call.params = text_array(PG_GETARG_ARRAYTYPE_P(1), &nparams, true, "params");
	tags = text_array(PG_GETARG_ARRAYTYPE_P(3), &ntags, false, "tags");
	call.kind = text_to_cstring(PG_GETARG_TEXT_PP(4));
	call.ttl_us = PG_ARGISNULL(2) ? eduai_cache_kind(call.kind)->ttl_us
								  : eduai_cache_ttl_us(PG_GETARG_INTERVAL_P(2));
	if (!PG_ARGISNULL(2))
		eduai_cache_kind(call.kind);
	call.statement = eduai_cache_statement(PG_GETARG_TEXT_PP(0), nparams);
	if (!eduai_core_preloaded())
		PG_RETURN_JSONB_P(compute(&call));
	initStringInfo(&key);
	make_key(&call, tenant, &key);
	look_at_rules(&call, tags, ntags);
	call.advice = advice_of(call.statement, tenant, call.kind);
	call.reason = ADVICE_BYPASSED;
	if (!call.may_hit)
		PG_RETURN_JSONB_P(compute(&call));
	call.ends = eduai_cache_flight_ends(call.hash);
	rows = look_up(&call);
	PG_RETURN_JSONB_P(rows != NULL ? rows : compute_once(&call));
}

/* test_cache_computed() */
Datum
eduai_test_cache_computed(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(computed);
}

void
eduai_cache_query_init(void)
{
	DefineCustomIntVariable("eduai.cache_wait",
							"How long cached_query() waits for another session that computes the "
							"same, before it computes by itself.",
							"It does not wait for one that itself waits for a lock.", &wait_ms,
							5000, 0, 600000, PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	eduai_cache_flight_init();
}
