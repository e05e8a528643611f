/*
 * tier.h: tiers, keys' own limits and roles' tiers, kept per backend.
 *
 * They stand in tables; the built-in tiers in the library, so that a dump has
 * only what an administrator changed.  A backend reads them once, and again
 * when their functions have changed them (relcache invalidation at commit): a
 * call that decides needs no SQL.
 *
 * A tier is looked up for (tenant, name, request type): the tenant's own row,
 * its row for '*', the common one, the common one for '*'.
 */
#ifndef EDUAI_RATELIMIT_TIER_H
#define EDUAI_RATELIMIT_TIER_H

#include "ratelimit/table.h"
#include "utils/timestamp.h"

typedef struct RateTier
{
	char tenant[NAMEDATALEN]; /* empty: common to all */
	char name[NAMEDATALEN];
	char type[NAMEDATALEN];
	RateRules rules;
	Interval per; /* as it was given */
	bool has_per;
	bool own_burst; /* not simply the limit */
	bool adaptive;
	bool builtin;
	int factor; /* where its factor is (factor.h); -1: it has none */
	text *name_text;
} RateTier;

/* A tier for (role, tenant, name, type), ready for use; valid until the next fresh(). */
typedef struct RatePolicy
{
	const RateTier *tier;
	RateName prefix; /* of the names of its keys */
} RatePolicy;

extern void eduai_ratelimit_tier_init(void);

/* Reads the tables if they have changed.  May run SQL, and raise. */
extern void eduai_ratelimit_tiers_fresh(void);

/*
 * Without SQL.  Raises 42704 for an unknown tier.  'public' means the role's
 * own tier, where set_role_tier() gave it one.
 */
extern const RatePolicy *
eduai_ratelimit_policy(const char *tenant, const text *tier, const text *type);

/* The limit that set_key_limit() gave the key in that tier; -1: none. */
extern int64
eduai_ratelimit_key_limit(const char *tenant, const RateTier *tier, const char *key, int length);

/* The row for exactly these; NULL: there is none. */
extern const RateTier *
eduai_ratelimit_tier_row(const char *tenant, const char *name, const char *type);

/* All of them. */
extern const RateTier *eduai_ratelimit_tiers(int *n);

/* The beginning of the names of a tier's keys. */
extern void eduai_ratelimit_name_prefix(RateName *name, const char *tenant, const RateTier *tier);

/* A period in microseconds: a month is 30 days. */
extern int64 eduai_ratelimit_per_us(const Interval *per);

/* Bytes of a text as a name, cut to one's room; false: it has more. */
extern bool eduai_ratelimit_name_of(const text *value, char name[NAMEDATALEN]);

/* What is stored was changed by this transaction. */
extern void eduai_ratelimit_tiers_changed(const char *table);

#endif
