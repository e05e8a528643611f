/*
 * rate_sql.c: the SQL functions that decide.
 *
 * They are called for every request of an application, and once per row in
 * bulk: no SQL, no catalog lookup and no allocation but the result's.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/direct.h"
#include "core/errors.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "funcapi.h"
#include "ratelimit/decide.h"
#include "ratelimit/factor.h"
#include "ratelimit/ratelimit.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(eduai_rate_limit);
PG_FUNCTION_INFO_V1(eduai_rate_ok);
PG_FUNCTION_INFO_V1(eduai_rate_limit_all);
PG_FUNCTION_INFO_V1(eduai_require_rate);
PG_FUNCTION_INFO_V1(eduai_rate_peek);
PG_FUNCTION_INFO_V1(eduai_rate_refund);
PG_FUNCTION_INFO_V1(eduai_rate_reset);
PG_FUNCTION_INFO_V1(eduai_rate_release);
PG_FUNCTION_INFO_V1(eduai_rate_report);

/* ---- arguments ---- */

static void
check_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (unlikely(PG_ARGISNULL(n)))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what),
				 errhint("Leave the argument out to have its default.")));
}

static void
bad_cost(int32 cost)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid cost \"%d\"", cost),
					errhint("A cost is at least 1.")));
}

static int32
cost_argument(FunctionCallInfo fcinfo, int n)
{
	int32 cost;

	check_argument(fcinfo, n, "cost");
	cost = PG_GETARG_INT32(n);
	if (unlikely(cost <= 0))
		bad_cost(cost);
	return cost;
}

/* Everything of a question: key, tier, request type; cost 0: none is asked for. */
static void
ask(FunctionCallInfo fcinfo, RateQuestion *q, int type_argument, int32 cost)
{
	const char *tenant;

	eduai_core_require_preload("the rate limiter");
	check_argument(fcinfo, 0, "key");
	check_argument(fcinfo, 1, "tier");
	check_argument(fcinfo, type_argument, "request_type");
	tenant = eduai_core_tenant_here();
	eduai_ratelimit_tiers_fresh();
	eduai_ratelimit_ask(q, tenant, PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1),
						PG_GETARG_TEXT_PP(type_argument), cost);
}

/* ---- the result ---- */

/* The row type that the function returns; looked up once for each function. */
static TupleDesc
decision_desc(FunctionCallInfo fcinfo)
{
	static Oid function = InvalidOid;
	static TypeCacheEntry *type = NULL; /* entries of the type cache stay where they are */

	/* a row type that is changed loses its description there */
	if (unlikely(type == NULL || function != fcinfo->flinfo->fn_oid || type->tupDesc == NULL))
	{
		type = lookup_type_cache(get_func_rettype(fcinfo->flinfo->fn_oid), TYPECACHE_TUPDESC);
		function = fcinfo->flinfo->fn_oid;
	}
	return type->tupDesc;
}

static Datum
decision(FunctionCallInfo fcinfo, const RateQuestion *q)
{
	const RateVerdict *v = &q->verdict;
	bool limited = q->rules.algorithm != RATE_UNLIMITED;
	Interval retry = {.time = Max(v->retry_us, 0)};
	Interval reset = {.time = Max(v->reset_us, 0)};
	Datum values[8] = {
		BoolGetDatum(v->allowed),
		Int64GetDatum(v->limit),
		Int64GetDatum(v->remaining),
		IntervalPGetDatum(&retry),
		IntervalPGetDatum(&reset),
		q->full != NULL ? CStringGetTextDatum(q->full) : PointerGetDatum(q->key),
		PointerGetDatum(q->tier->name_text),
		IntervalPGetDatum((Interval *) &q->tier->per),
	};
	bool nulls[8] = {
		false,           !limited,
		!limited,        v->retry_us < 0,
		v->reset_us < 0, false,
		false,           !limited || !q->tier->has_per || q->rules.algorithm == RATE_CONCURRENCY};
	EduaiRows *rows = eduai_core_direct_rows(fcinfo);
	HeapTuple tuple;

	if (rows != NULL)
	{
		eduai_core_direct_put(rows, values, nulls);
		return (Datum) 0;
	}
	tuple = heap_form_tuple(decision_desc(fcinfo), values, nulls);
	return HeapTupleHeaderGetDatum(tuple->t_data);
}

Datum
eduai_rate_limit(PG_FUNCTION_ARGS)
{
	int32 cost = cost_argument(fcinfo, 2);
	RateQuestion q;

	ask(fcinfo, &q, 3, cost);
	eduai_ratelimit_decide(&q, cost);
	return decision(fcinfo, &q);
}

Datum
eduai_rate_ok(PG_FUNCTION_ARGS)
{
	int32 cost = cost_argument(fcinfo, 2);
	RateQuestion q;

	ask(fcinfo, &q, 3, cost);
	eduai_ratelimit_decide(&q, cost);
	PG_RETURN_BOOL(q.verdict.allowed);
}

Datum
eduai_rate_peek(PG_FUNCTION_ARGS)
{
	RateQuestion q;

	ask(fcinfo, &q, 2, 0);
	eduai_ratelimit_peek(&q);
	return decision(fcinfo, &q);
}

/* ---- UE002 ---- */

static char *
readable(int64 us)
{
	if (us < USECS_PER_MINUTE)
		return psprintf("%.3f s", (double) us / USECS_PER_SEC);
	return psprintf("%lld s", (long long) ((us + USECS_PER_SEC - 1) / USECS_PER_SEC));
}

static char *
limit_text(const RateQuestion *q)
{
	const char *what =
		psprintf("Tier \"%s\" allows %lld", q->tier->name, (long long) q->verdict.limit);

	switch (q->rules.algorithm)
	{
		case RATE_CONCURRENCY:
			return psprintf("%s at once", what);
		case RATE_GCRA:
			return psprintf("%s in %s, %lld of them at once", what, readable(q->rules.per_us),
							(long long) q->rules.burst);
		default:
			return psprintf("%s in %s", what, readable(q->rules.per_us));
	}
}

static void
raise_limited(const RateQuestion *q)
{
	char *key = pnstrdup(VARDATA_ANY(q->key), Min(VARSIZE_ANY_EXHDR(q->key), 200));

	if (q->full != NULL)
		ereport(ERROR, (errcode(EDUAI_RATE_LIMITED),
						errmsg("there is no room to count the key \"%s\"", key),
						errdetail("%s; what %s has room for is in use.", limit_text(q), q->full),
						errhint("Raise %s and restart the server.", q->full)));
	if (q->verdict.retry_us < 0)
		ereport(ERROR,
				(errcode(EDUAI_RATE_LIMITED), errmsg("rate limit exceeded for key \"%s\"", key),
				 errdetail("%s; time alone will not let the call in.", limit_text(q)),
				 errhint(q->rules.algorithm == RATE_CONCURRENCY
							 ? "Try again when eduai.rate_release() has given one back."
							 : "The limit is 0.")));
	ereport(
		ERROR,
		(errcode(EDUAI_RATE_LIMITED), errmsg("rate limit exceeded for key \"%s\"", key),
		 errdetail("%s; wait %s.", limit_text(q), readable(q->verdict.retry_us)),
		 errhint("Try again later; eduai.rate_limit() returns a refusal instead of an error.")));
}

Datum
eduai_require_rate(PG_FUNCTION_ARGS)
{
	int32 cost = cost_argument(fcinfo, 2);
	RateQuestion q;

	ask(fcinfo, &q, 3, cost);
	eduai_ratelimit_decide(&q, cost);
	if (!q.verdict.allowed)
		raise_limited(&q);
	PG_RETURN_VOID();
}

/* ---- several ---- */

static int
texts_argument(FunctionCallInfo fcinfo, int n, const char *what, Datum **values)
{
	ArrayType *array;
	bool *nulls;
	int count;

	check_argument(fcinfo, n, what);
	array = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("%s must be an array of one dimension", what)));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, values, &nulls, &count);
	for (int i = 0; i < count; i++)
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("%s must not contain nulls", what)));
	return count;
}

Datum
eduai_rate_limit_all(PG_FUNCTION_ARGS)
{
	int32 cost = cost_argument(fcinfo, 2);
	RateQuestion *questions;
	Datum *keys;
	Datum *tiers;
	char *tenant;
	int n;

	eduai_core_require_preload("the rate limiter");
	check_argument(fcinfo, 3, "request_type");
	n = texts_argument(fcinfo, 0, "keys", &keys);
	if (texts_argument(fcinfo, 1, "tiers", &tiers) != n)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("keys and tiers must have the same length"),
						errhint("Name a tier for each key.")));
	if (n < 1 || n > RATE_MOST_KEYS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid number of keys \"%d\"", n),
						errhint("Use 1 to %d.", RATE_MOST_KEYS)));
	tenant = eduai_core_tenant();
	eduai_ratelimit_tiers_fresh();
	questions = palloc(sizeof(RateQuestion) * n);
	for (int i = 0; i < n; i++)
		eduai_ratelimit_ask(&questions[i], tenant, DatumGetTextPP(keys[i]),
							DatumGetTextPP(tiers[i]), PG_GETARG_TEXT_PP(3), cost);
	return decision(fcinfo, &questions[eduai_ratelimit_decide_all(questions, n, cost)]);
}

/* ---- giving back ---- */

Datum
eduai_rate_refund(PG_FUNCTION_ARGS)
{
	int32 cost = cost_argument(fcinfo, 2);
	RateQuestion q;

	ask(fcinfo, &q, 3, 0);
	eduai_ratelimit_give_back(&q, cost);
	PG_RETURN_VOID();
}

Datum
eduai_rate_release(PG_FUNCTION_ARGS)
{
	int32 cost = cost_argument(fcinfo, 3);
	RateQuestion q;

	ask(fcinfo, &q, 2, 0);
	if (!eduai_ratelimit_release(&q, cost) && q.rules.algorithm != RATE_CONCURRENCY)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("tier \"%s\" is not a concurrency tier", q.tier->name),
						errhint("eduai.rate_refund() gives back what a call consumed.")));
	PG_RETURN_VOID();
}

/* The counters of the key in all request types of the tier, or of all tiers. */
Datum
eduai_rate_reset(PG_FUNCTION_ARGS)
{
	const RateTier *all;
	const char *wanted = NULL;
	char *tenant;
	int n;

	eduai_core_require_preload("the rate limiter");
	check_argument(fcinfo, 0, "key");
	tenant = eduai_core_tenant();
	eduai_ratelimit_tiers_fresh();
	if (!PG_ARGISNULL(1))
	{
		RateQuestion q;

		/* raises for an unknown tier, and knows the role's */
		eduai_ratelimit_ask(&q, tenant, PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1),
							cstring_to_text("*"), 0);
		wanted = q.tier->name;
	}
	all = eduai_ratelimit_tiers(&n);
	for (int i = 0; i < n; i++)
	{
		RateQuestion q;

		if ((all[i].tenant[0] != '\0' && strcmp(all[i].tenant, tenant) != 0) ||
			(wanted != NULL && strcmp(all[i].name, wanted) != 0))
			continue;
		eduai_ratelimit_ask_row(&q, tenant, PG_GETARG_TEXT_PP(0), &all[i]);
		eduai_ratelimit_reset(&q);
	}
	PG_RETURN_VOID();
}

/* ---- what adaptive tiers follow ---- */

Datum
eduai_rate_report(PG_FUNCTION_ARGS)
{
	int64 latency_us = -1;
	const RatePolicy *policy;
	char *tenant;

	eduai_core_require_preload("the rate limiter");
	check_argument(fcinfo, 0, "tier");
	check_argument(fcinfo, 1, "ok");
	check_argument(fcinfo, 3, "request_type");
	if (!PG_ARGISNULL(2))
	{
		latency_us = eduai_ratelimit_per_us(PG_GETARG_INTERVAL_P(2));
		if (latency_us < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid latency \"%s\"",
							DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(2)))),
					 errhint("A latency is not negative.")));
	}
	tenant = eduai_core_tenant();
	eduai_ratelimit_tiers_fresh();
	policy = eduai_ratelimit_policy(tenant, PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(3));
	eduai_ratelimit_factor_report(policy->tier->factor, PG_GETARG_BOOL(1), latency_us);
	PG_RETURN_VOID();
}

void
eduai_ratelimit_rate_init(void)
{
	/* eduai.rate_decision */
	static const Oid columns[] = {BOOLOID,     INT8OID, INT8OID, INTERVALOID,
								  INTERVALOID, TEXTOID, TEXTOID, INTERVALOID};

	eduai_core_direct_register(eduai_rate_limit, lengthof(columns), columns);
	eduai_core_direct_register(eduai_rate_limit_all, lengthof(columns), columns);
	eduai_core_direct_register(eduai_rate_peek, lengthof(columns), columns);
}
