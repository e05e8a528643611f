/*
 * tier.c: what the tables say of limits, kept per backend.  See tier.h.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "core/compat.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "miscadmin.h"
#include "ratelimit/factor.h"
#include "ratelimit/tier.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define HOUR                   \
	{                          \
		.time = USECS_PER_HOUR \
	}
#define HOURLY .has_per = true, .builtin = true, .factor = -1, .per = HOUR
#define MEMOS  8

static const RateTier builtin_tiers[] = {
	{.name = "public", .type = "*", .rules = {RATE_WINDOW, 100, 100, USECS_PER_HOUR, 100}, HOURLY},
	{.name = "authenticated",
	 .type = "*",
	 .rules = {RATE_WINDOW, 1000, 1000, USECS_PER_HOUR, 1000},
	 HOURLY},
	{.name = "premium",
	 .type = "*",
	 .rules = {RATE_WINDOW, 5000, 5000, USECS_PER_HOUR, 5000},
	 HOURLY},
	{.name = "admin",
	 .type = "*",
	 .rules = {.algorithm = RATE_UNLIMITED},
	 .builtin = true,
	 .factor = -1},
};

typedef struct KeyLimit
{
	uint64 hash;
	char *tenant;
	char *tier;
	char *key;
	int length;
	int64 limit;
} KeyLimit;

typedef struct RoleTier
{
	Oid role;
	text *tier;
} RoleTier;

typedef struct Memo
{
	Oid role;
	int tier_length;
	int type_length;
	char tenant[NAMEDATALEN];
	char tier[NAMEDATALEN];
	char type[NAMEDATALEN];
	RatePolicy policy;
} Memo;

static const char *const tables[] = {"rate_tier", "tenant_tier", "rate_key_limit", "role_tier"};

static bool stale = true;
static Oid relids[lengthof(tables)];
static MemoryContext context = NULL; /* of all below */
static RateTier *tiers;
static int ntiers;
static KeyLimit *limits;
static int nlimits;
static RoleTier *roles;
static int nroles;
static Memo memos[MEMOS];
static int nmemos = 0;
static int next_memo = 0;

/* ---- changes ---- */

static void
on_relcache(Datum arg, Oid relid)
{
	for (size_t i = 0; i < lengthof(tables); i++)
		if (relid == InvalidOid || relid == relids[i])
			stale = true;
}

static void
on_role(Datum arg, int cacheid, uint32 hashvalue)
{
	stale = true;
}

void
eduai_ratelimit_tier_init(void)
{
	eduai_core_relcache_register(on_relcache);
	CacheRegisterSyscacheCallback(AUTHOID, on_role, (Datum) 0);
}

void
eduai_ratelimit_tiers_changed(const char *table)
{
	CacheInvalidateRelcacheByRelid(get_relname_relid(table, eduai_core_schema()));
	stale = true;
}

/* ---- reading ---- */

static RateAlgorithm
algorithm_of(const char *name)
{
	if (strcmp(name, "window") == 0)
		return RATE_WINDOW;
	if (strcmp(name, "gcra") == 0)
		return RATE_GCRA;
	return strcmp(name, "concurrency") == 0 ? RATE_CONCURRENCY : RATE_UNLIMITED;
}

static void
put_tier(const RateTier *tier)
{
	int at = 0;

	while (at < ntiers &&
		   (strcmp(tiers[at].tenant, tier->tenant) != 0 ||
			strcmp(tiers[at].name, tier->name) != 0 || strcmp(tiers[at].type, tier->type) != 0))
		at++;
	tiers[at] = *tier;
	if (at == ntiers)
		ntiers++;
}

int64
eduai_ratelimit_per_us(const Interval *per)
{
	return per->time + (per->day + per->month * INT64CONST(30)) * USECS_PER_DAY;
}

static RateTier
read_tier(uint64 row)
{
	RateTier tier = {.factor = -1};
	bool isnull;
	Datum per = eduai_core_value(row, 5, &isnull);

	strlcpy(tier.tenant, eduai_core_text(row, 1), NAMEDATALEN);
	strlcpy(tier.name, eduai_core_text(row, 2), NAMEDATALEN);
	strlcpy(tier.type, eduai_core_text(row, 3), NAMEDATALEN);
	tier.has_per = !isnull;
	if (!isnull)
	{
		tier.per = *DatumGetIntervalP(per);
		tier.rules.per_us = eduai_ratelimit_per_us(&tier.per);
	}
	tier.rules.limit = tier.rules.most = eduai_core_int64(row, 4, 0);
	tier.rules.algorithm = algorithm_of(eduai_core_text(row, 6));
	tier.rules.burst = eduai_core_int64(row, 7, tier.rules.limit);
	tier.own_burst = tier.rules.burst != tier.rules.limit;
	tier.adaptive = DatumGetBool(eduai_core_value(row, 8, &isnull));
	return tier;
}

static void
load_tiers(void)
{
	static EduaiPlan all = {
		"SELECT t.tenant_id, t.name, t.request_type, t.limit_count, t.per, t.algorithm, t.burst, "
		"t.adaptive "
		"FROM (SELECT '' AS tenant_id, name, request_type, limit_count, per, algorithm, burst, adaptive "
		"FROM eduai.rate_tier UNION ALL SELECT tenant_id, name, request_type, limit_count, per, "
		"algorithm, burst, adaptive FROM eduai.tenant_tier) t ORDER BY 1, 2, 3",
		0};
	uint64 n = eduai_core_run_latest(&all, NULL, NULL);
	MemoryContext old = MemoryContextSwitchTo(context);

	tiers = palloc0(sizeof(RateTier) * (n + lengthof(builtin_tiers)));
	ntiers = 0;
	for (size_t i = 0; i < lengthof(builtin_tiers); i++)
		put_tier(&builtin_tiers[i]);
	for (uint64 i = 0; i < n; i++)
	{
		RateTier tier = read_tier(i);

		put_tier(&tier);
	}
	for (int i = 0; i < ntiers; i++)
	{
		tiers[i].name_text = cstring_to_text(tiers[i].name);
		if (tiers[i].adaptive)
			tiers[i].factor =
				eduai_ratelimit_factor_place(tiers[i].tenant, tiers[i].name, tiers[i].type);
	}
	MemoryContextSwitchTo(old);
}

static uint64
limit_hash(const char *tenant, const char *tier, const char *key, int length)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) tenant, (int) strlen(tenant), 0);

	hash = hash_bytes_extended((const unsigned char *) tier, (int) strlen(tier), hash);
	return hash_bytes_extended((const unsigned char *) key, length, hash);
}

static int
compare_limits(const void *a, const void *b)
{
	uint64 one = ((const KeyLimit *) a)->hash;
	uint64 other = ((const KeyLimit *) b)->hash;

	return one < other ? -1 : one > other;
}

static void
load_limits(void)
{
	static EduaiPlan all = {"SELECT tenant_id, tier, key, limit_count FROM eduai.rate_key_limit",
							0};
	uint64 n = eduai_core_run_latest(&all, NULL, NULL);
	MemoryContext old = MemoryContextSwitchTo(context);

	limits = palloc_extended(sizeof(KeyLimit) * Max(n, 1), MCXT_ALLOC_HUGE);
	nlimits = (int) n;
	for (uint64 i = 0; i < n; i++)
	{
		KeyLimit *l = &limits[i];

		l->tenant = eduai_core_text(i, 1);
		l->tier = eduai_core_text(i, 2);
		l->key = eduai_core_text(i, 3);
		l->length = (int) strlen(l->key);
		l->limit = eduai_core_int64(i, 4, 0);
		l->hash = limit_hash(l->tenant, l->tier, l->key, l->length);
	}
	qsort(limits, n, sizeof(KeyLimit), compare_limits);
	MemoryContextSwitchTo(old);
}

static void
load_roles(void)
{
	static EduaiPlan all = {
		"SELECT r.oid, t.tier FROM eduai.role_tier t JOIN pg_catalog.pg_roles r ON r.rolname = t.role",
		0};
	uint64 n = eduai_core_run_latest(&all, NULL, NULL);
	MemoryContext old = MemoryContextSwitchTo(context);

	roles = palloc(sizeof(RoleTier) * Max(n, 1));
	nroles = (int) n;
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;

		roles[i].role = DatumGetObjectId(eduai_core_value(i, 1, &isnull));
		roles[i].tier = cstring_to_text(eduai_core_text(i, 2));
	}
	MemoryContextSwitchTo(old);
}

static void
find_tables(void)
{
	for (size_t i = 0; i < lengthof(tables); i++)
		relids[i] = get_relname_relid(tables[i], eduai_core_schema());
}

void
eduai_ratelimit_tiers_fresh(void)
{
	EduaiPrivilege saved;

	if (likely(!stale))
		return;
	nmemos = next_memo = 0;
	if (context != NULL)
		MemoryContextDelete(context);
	context = AllocSetContextCreate(TopMemoryContext, "eduai tiers", ALLOCSET_SMALL_SIZES);
	eduai_core_enter(&saved);
	find_tables();
	SPI_connect();
	/* what changes from here on is read the next time */
	stale = false;
	PG_TRY();
	{
		load_tiers();
		load_limits();
		load_roles();
	}
	PG_CATCH();
	{
		stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
	SPI_finish();
	eduai_core_leave(&saved);
}

/* ---- looking up ---- */

const RateTier *
eduai_ratelimit_tiers(int *n)
{
	*n = ntiers;
	return tiers;
}

const RateTier *
eduai_ratelimit_tier_row(const char *tenant, const char *name, const char *type)
{
	for (int i = 0; i < ntiers; i++)
		if (strcmp(tiers[i].name, name) == 0 && strcmp(tiers[i].type, type) == 0 &&
			strcmp(tiers[i].tenant, tenant) == 0)
			return &tiers[i];
	return NULL;
}

bool
eduai_ratelimit_name_of(const text *value, char name[NAMEDATALEN])
{
	int length = (int) VARSIZE_ANY_EXHDR(value);
	int kept = Min(length, NAMEDATALEN - 1);

	memcpy(name, VARDATA_ANY(value), kept);
	name[kept] = '\0';
	return kept == length;
}

static const RateTier *
find_tier(const char *tenant, const char *name, const char *type)
{
	const RateTier *tier = eduai_ratelimit_tier_row(tenant, name, type);

	if (tier == NULL)
		tier = eduai_ratelimit_tier_row(tenant, name, "*");
	if (tier == NULL)
		tier = eduai_ratelimit_tier_row("", name, type);
	return tier != NULL ? tier : eduai_ratelimit_tier_row("", name, "*");
}

static const text *
tier_of_role(Oid role, const text *named)
{
	for (int i = 0; i < nroles; i++)
		if (roles[i].role == role)
			return roles[i].tier;
	return named;
}

void
eduai_ratelimit_name_prefix(RateName *name, const char *tenant, const RateTier *tier)
{
	int length = 0;

	memset(name, 0, offsetof(RateName, label));
	name->database = MyDatabaseId;
	name->tenant_length = (uint8) strlen(tenant);
	name->tier_length = (uint8) strlen(tier->name);
	name->type_length = (uint8) strlen(tier->type);
	memcpy(name->label, tenant, name->tenant_length);
	length = name->tenant_length;
	memcpy(name->label + length, tier->name, name->tier_length);
	length += name->tier_length;
	memcpy(name->label + length, tier->type, name->type_length);
}

static void
resolve(const char *tenant, const text *tier, const text *type, RatePolicy *policy)
{
	char name[NAMEDATALEN];
	char request[NAMEDATALEN];
	bool short_enough = eduai_ratelimit_name_of(tier, name);

	if (strcmp(name, "public") == 0)
		short_enough = eduai_ratelimit_name_of(tier_of_role(GetUserId(), tier), name);
	/* no row has so long a type */
	if (!eduai_ratelimit_name_of(type, request))
		strcpy(request, "*");
	policy->tier = short_enough ? find_tier(tenant, name, request) : NULL;
	if (policy->tier == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("tier \"%s\" does not exist", text_to_cstring(tier)),
						errhint("SELECT * FROM eduai.rate_tiers lists them; eduai.define_tier() "
								"makes one.")));
	eduai_ratelimit_name_prefix(&policy->prefix, tenant, policy->tier);
}

static bool
is_text(const text *value, const char *bytes, int length)
{
	return (int) VARSIZE_ANY_EXHDR(value) == length &&
		   memcmp(VARDATA_ANY(value), bytes, length) == 0;
}

const RatePolicy *
eduai_ratelimit_policy(const char *tenant, const text *tier, const text *type)
{
	Oid role = GetUserId();
	int tier_length = (int) VARSIZE_ANY_EXHDR(tier);
	int type_length = (int) VARSIZE_ANY_EXHDR(type);
	Memo *memo;

	for (int i = 0; i < nmemos; i++)
		if (memos[i].role == role && is_text(tier, memos[i].tier, memos[i].tier_length) &&
			is_text(type, memos[i].type, memos[i].type_length) &&
			strcmp(memos[i].tenant, tenant) == 0)
			return &memos[i].policy;
	memo = &memos[next_memo];
	resolve(tenant, tier, type, &memo->policy);
	/* a type of that length is '*' to resolve(): nothing to remember it by */
	if (type_length >= NAMEDATALEN)
		type_length = -1;
	else
		memcpy(memo->type, VARDATA_ANY(type), type_length);
	memcpy(memo->tier, VARDATA_ANY(tier), tier_length);
	strlcpy(memo->tenant, tenant, NAMEDATALEN);
	memo->role = role;
	memo->tier_length = tier_length;
	memo->type_length = type_length;
	nmemos = Max(nmemos, next_memo + 1);
	next_memo = (next_memo + 1) % MEMOS;
	return &memo->policy;
}

int64
eduai_ratelimit_key_limit(const char *tenant, const RateTier *tier, const char *key, int length)
{
	KeyLimit wanted = {0};
	KeyLimit *found;

	if (likely(nlimits == 0))
		return -1;
	wanted.hash = limit_hash(tenant, tier->name, key, length);
	found = bsearch(&wanted, limits, nlimits, sizeof(KeyLimit), compare_limits);
	if (found == NULL)
		return -1;
	while (found > limits && found[-1].hash == wanted.hash)
		found--;
	for (; found < limits + nlimits && found->hash == wanted.hash; found++)
		if (found->length == length && memcmp(found->key, key, length) == 0 &&
			strcmp(found->tier, tier->name) == 0 && strcmp(found->tenant, tenant) == 0)
			return found->limit;
	return -1;
}
