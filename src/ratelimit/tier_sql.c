/*
 * tier_sql.c: define_tier(), set_key_limit(), set_role_tier() and the lists.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "funcapi.h"
#include "ratelimit/factor.h"
#include "ratelimit/tier.h"
#include "utils/acl.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_define_tier);
PG_FUNCTION_INFO_V1(eduai_drop_tier);
PG_FUNCTION_INFO_V1(eduai_set_key_limit);
PG_FUNCTION_INFO_V1(eduai_set_role_tier);
PG_FUNCTION_INFO_V1(eduai_rate_tier_rows);

static void
must_be_given(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what)));
}

static char *
name_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	char *name;

	must_be_given(fcinfo, n, what);
	name = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s \"%s\"", what, name),
				 errhint("A name has 1 to %d bytes.", NAMEDATALEN - 1)));
	return name;
}

static void
check_count(const char *what, int64 value, int64 least)
{
	if (value < least || value > RATE_LIMIT_MOST)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%lld\"", what, (long long) value),
				 errhint("Use %lld to %lld.", (long long) least, (long long) RATE_LIMIT_MOST)));
}

/* ---- define_tier ---- */

typedef struct Definition
{
	char *name;
	char *type;
	char *algorithm;
	char *tenant;  /* NULL: common */
	int64 limit;   /* -1: none */
	int64 burst;   /* -1: the limit */
	Interval *per; /* NULL: none */
	bool adaptive;
} Definition;

static void
check_period(const Definition *d)
{
	int64 per_us;

	if (d->per == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("per must not be null for algorithm \"%s\"", d->algorithm),
						errhint("Give the period of the limit, such as '1 hour'.")));
	per_us = eduai_ratelimit_per_us(d->per);
	if (per_us < RATE_PER_LEAST || per_us > RATE_PER_MOST)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid per \"%s\"", DatumGetCString(DirectFunctionCall1(
														 interval_out, IntervalPGetDatum(d->per)))),
						errhint("Use 1 ms to 400 days.")));
	if (strcmp(d->algorithm, "gcra") == 0 &&
		(double) per_us * (d->burst >= 0 ? d->burst : d->limit) / Max(d->limit, 1) >
			RATE_PACE_MOST_US)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid burst \"%lld\"", (long long) d->burst),
						errhint("Its repayment, per / limit x burst, may take ten years.")));
}

static void
check_definition(const Definition *d)
{
	bool paced = strcmp(d->algorithm, "gcra") == 0;
	bool windowed = strcmp(d->algorithm, "window") == 0;

	if (!paced && !windowed && strcmp(d->algorithm, "concurrency") != 0 &&
		strcmp(d->algorithm, "unlimited") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid algorithm \"%s\"", d->algorithm),
						errhint("Use \"window\", \"gcra\", \"concurrency\" or \"unlimited\".")));
	if (d->limit >= 0 || strcmp(d->algorithm, "unlimited") != 0)
		check_count("limit_count", d->limit, 0);
	if (d->burst >= 0 && !paced)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid burst \"%lld\" for algorithm \"%s\"", (long long) d->burst,
							   d->algorithm),
						errhint("Only \"gcra\" has a burst.")));
	if (d->burst >= 0)
		check_count("burst", d->burst, 1);
	if (paced || windowed)
		check_period(d);
}

static Definition
definition(FunctionCallInfo fcinfo)
{
	Definition d = {.name = name_argument(fcinfo, 0, "tier"),
					.algorithm = name_argument(fcinfo, 3, "algorithm"),
					.type = name_argument(fcinfo, 5, "request_type"),
					.limit = -1,
					.burst = -1};

	must_be_given(fcinfo, 6, "adaptive");
	d.adaptive = PG_GETARG_BOOL(6);
	if (PG_ARGISNULL(1))
		d.algorithm = "unlimited";
	else if (strcmp(d.algorithm, "unlimited") != 0)
	{
		d.limit = PG_GETARG_INT64(1);
		check_count("limit_count", d.limit, 0);
	}
	if (!PG_ARGISNULL(2))
		d.per = PG_GETARG_INTERVAL_P(2);
	if (!PG_ARGISNULL(4))
	{
		d.burst = PG_GETARG_INT64(4);
		check_count("burst", d.burst, 1);
	}
	if (!PG_ARGISNULL(7))
	{
		d.tenant = text_to_cstring(PG_GETARG_TEXT_PP(7));
		eduai_core_check_tenant_name(d.tenant);
	}
	check_definition(&d);
	return d;
}

static void
store(const Definition *d)
{
#define COLUMNS "limit_count, per, algorithm, burst, adaptive"
#define EXCLUDED                                                                               \
	"limit_count = excluded.limit_count, per = excluded.per, algorithm = excluded.algorithm, " \
	"burst = excluded.burst, adaptive = excluded.adaptive"
	static EduaiPlan common = {
		"INSERT INTO eduai.rate_tier (name, request_type, " COLUMNS ") "
		"VALUES ($2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name, request_type) DO UPDATE SET " EXCLUDED,
		8,
		{TEXTOID, TEXTOID, TEXTOID, INT8OID, INTERVALOID, TEXTOID, INT8OID, BOOLOID}};
	static EduaiPlan own = {
		"INSERT INTO eduai.tenant_tier (tenant_id, name, request_type, " COLUMNS ") "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
		"ON CONFLICT (tenant_id, name, request_type) DO UPDATE SET " EXCLUDED,
		8,
		{TEXTOID, TEXTOID, TEXTOID, INT8OID, INTERVALOID, TEXTOID, INT8OID, BOOLOID}};
	char nulls[9] = "        ";
	Datum args[8] = {CStringGetTextDatum(d->tenant != NULL ? d->tenant : ""),
					 CStringGetTextDatum(d->name),
					 CStringGetTextDatum(d->type),
					 Int64GetDatum(d->limit),
					 IntervalPGetDatum(d->per),
					 CStringGetTextDatum(d->algorithm),
					 Int64GetDatum(d->burst),
					 BoolGetDatum(d->adaptive)};

	nulls[3] = d->limit < 0 ? 'n' : ' ';
	nulls[4] = d->per == NULL ? 'n' : ' ';
	nulls[6] = d->burst < 0 ? 'n' : ' ';
	eduai_core_run(d->tenant != NULL ? &own : &common, args, nulls);
	eduai_ratelimit_tiers_changed(d->tenant != NULL ? "tenant_tier" : "rate_tier");
}

Datum
eduai_define_tier(PG_FUNCTION_ARGS)
{
	Definition d = definition(fcinfo);
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	store(&d);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

Datum
eduai_drop_tier(PG_FUNCTION_ARGS)
{
	static EduaiPlan common = {
		"DELETE FROM eduai.rate_tier WHERE name = $1 AND ($2 IS NULL OR request_type = $2)",
		2,
		{TEXTOID, TEXTOID}};
	static EduaiPlan own = {"DELETE FROM eduai.tenant_tier WHERE name = $1 AND "
							"($2 IS NULL OR request_type = $2) AND tenant_id = $3",
							3,
							{TEXTOID, TEXTOID, TEXTOID}};
	char *name = name_argument(fcinfo, 0, "tier");
	Datum args[3] = {CStringGetTextDatum(name), PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1),
					 PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2)};
	char nulls[4] = "   ";
	EduaiPrivilege saved;
	uint64 n;

	nulls[1] = PG_ARGISNULL(1) ? 'n' : ' ';
	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_core_run(PG_ARGISNULL(2) ? &common : &own, args, nulls);
	eduai_ratelimit_tiers_changed(PG_ARGISNULL(2) ? "rate_tier" : "tenant_tier");
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_BOOL(n > 0);
}

/* ---- keys and roles ---- */

static void
unknown_tier(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("tier \"%s\" does not exist", name),
					errhint("SELECT * FROM eduai.rate_tiers lists them; eduai.define_tier() makes "
							"one.")));
}

/* Raises unless the tier is there for the tenant, in any request type, with a limit. */
static void
check_has_limit(const char *tenant, const char *name)
{
	const RateTier *tiers;
	bool known = false;
	bool limited = false;
	int n;

	eduai_ratelimit_tiers_fresh();
	tiers = eduai_ratelimit_tiers(&n);
	for (int i = 0; i < n; i++)
		if (strcmp(tiers[i].name, name) == 0 &&
			(tiers[i].tenant[0] == '\0' || strcmp(tiers[i].tenant, tenant) == 0))
		{
			known = true;
			limited |= tiers[i].rules.algorithm != RATE_UNLIMITED;
		}
	if (!known)
		unknown_tier(name);
	if (!limited)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("tier \"%s\" is unlimited", name),
				 errhint("A key's own limit is for a tier that has one.")));
}

static void
store_key_limit(const char *tenant, const char *key, const char *tier, int64 limit)
{
	static EduaiPlan upsert = {
		"INSERT INTO eduai.rate_key_limit (tenant_id, key, tier, limit_count) VALUES ($1, $2, $3, $4) "
		"ON CONFLICT (tenant_id, key, tier) DO UPDATE SET limit_count = excluded.limit_count",
		4,
		{TEXTOID, TEXTOID, TEXTOID, INT8OID}};
	static EduaiPlan remove = {
		"DELETE FROM eduai.rate_key_limit WHERE tenant_id = $1 AND key = $2 AND tier = $3",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum args[4] = {CStringGetTextDatum(tenant), CStringGetTextDatum(key),
					 CStringGetTextDatum(tier), Int64GetDatum(limit)};

	eduai_core_run(limit < 0 ? &remove : &upsert, args, NULL);
	eduai_ratelimit_tiers_changed("rate_key_limit");
}

Datum
eduai_set_key_limit(PG_FUNCTION_ARGS)
{
	char *tier = name_argument(fcinfo, 1, "tier");
	int64 limit = PG_ARGISNULL(2) ? -1 : PG_GETARG_INT64(2);
	char *key;
	char *tenant;
	EduaiPrivilege saved;

	must_be_given(fcinfo, 0, "key");
	key = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (key[0] == '\0' || strlen(key) > 1024)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid key \"%.100s\"", key),
				 errhint("A key that has a limit of its own has 1 to 1024 bytes.")));
	if (!PG_ARGISNULL(2))
		check_count("limit_count", limit, 0);
	tenant = eduai_core_tenant();
	check_has_limit(tenant, tier);
	eduai_core_enter(&saved);
	SPI_connect();
	store_key_limit(tenant, key, tier, limit);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

Datum
eduai_set_role_tier(PG_FUNCTION_ARGS)
{
	static EduaiPlan upsert = {"INSERT INTO eduai.role_tier (role, tier) VALUES ($1, $2) "
							   "ON CONFLICT (role) DO UPDATE SET tier = excluded.tier",
							   2,
							   {NAMEOID, TEXTOID}};
	static EduaiPlan remove = {"DELETE FROM eduai.role_tier WHERE role = $1", 1, {NAMEOID}};
	char *tier = PG_ARGISNULL(1) ? NULL : name_argument(fcinfo, 1, "tier");
	EduaiPrivilege saved;
	Datum args[2];
	const RateTier *tiers;
	bool known = tier == NULL;
	int n;

	must_be_given(fcinfo, 0, "role");
	(void) get_role_oid(NameStr(*PG_GETARG_NAME(0)), false);
	eduai_ratelimit_tiers_fresh();
	tiers = eduai_ratelimit_tiers(&n);
	for (int i = 0; !known && i < n; i++)
		known = strcmp(tiers[i].name, tier) == 0;
	if (!known)
		unknown_tier(tier);
	args[0] = PG_GETARG_DATUM(0);
	args[1] = tier != NULL ? CStringGetTextDatum(tier) : (Datum) 0;
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run(tier != NULL ? &upsert : &remove, args, NULL);
	eduai_ratelimit_tiers_changed("role_tier");
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* ---- the list ---- */

static const char *
algorithm_name(RateAlgorithm algorithm)
{
	static const char *const names[] = {"none", "window", "gcra", "concurrency", "unlimited"};

	return names[algorithm];
}

/* The tiers that the session's tenant has: its own, and the common ones. */
Datum
eduai_rate_tier_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char *tenant = eduai_core_tenant();
	const RateTier *tiers;
	int n;

	eduai_ratelimit_tiers_fresh();
	InitMaterializedSRF(fcinfo, 0);
	tiers = eduai_ratelimit_tiers(&n);
	for (int i = 0; i < n; i++)
	{
		const RateTier *t = &tiers[i];
		bool limited = t->rules.algorithm != RATE_UNLIMITED;
		bool paced = t->rules.algorithm == RATE_GCRA;
		Datum values[9] = {CStringGetTextDatum(t->name),
						   CStringGetTextDatum(t->type),
						   Int64GetDatum(t->rules.limit),
						   IntervalPGetDatum((Interval *) &t->per),
						   CStringGetTextDatum(algorithm_name(t->rules.algorithm)),
						   Int64GetDatum(t->rules.burst),
						   BoolGetDatum(t->adaptive),
						   Float8GetDatum(t->factor >= 0 ? eduai_ratelimit_factor(t->factor) : 1.0),
						   BoolGetDatum(t->tenant[0] != '\0')};
		bool nulls[9] = {false,  false, !limited,     !t->has_per, false,
						 !paced, false, !t->adaptive, false};

		if (t->tenant[0] == '\0' || strcmp(t->tenant, tenant) == 0)
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
