/*
 * tier_feed.c: see tier_feed.h.
 */
#include "postgres.h"

#include "gateway/stand.h"
#include "gateway/tier_feed.h"
#include "ratelimit/factor.h"

static void
feed(const char *what, const char *name, const char *tenant, const char *type, bool ok)
{
	char tier[NAMEDATALEN];

	/* a longer name is no tier's */
	if (snprintf(tier, sizeof(tier), "%s:%s", what, name) < NAMEDATALEN)
		eduai_ratelimit_factor_outcome(tenant, tier, type, ok);
}

void
eduai_gateway_tier_feed(const Instance *instance, const char *tenant, const char *type,
						const CallOutcome *outcome)
{
	bool ok = outcome->verdict == CALL_COMPLETED;

	if (!ok && strcmp(outcome->code, "rate_limited") != 0 &&
		!eduai_gateway_is_instances_fault(outcome))
		return;
	feed("provider", instance->provider->name, tenant, type, ok);
	feed("instance", instance->name, tenant, type, ok);
}
