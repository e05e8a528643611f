/*
 * personal.c: what the cache may hold of a learner.
 *
 * Nobody knows whose data the values are that an application cached: an erasure
 * clears the tenant's entries, and what cache_advice has of its queries, whose
 * texts may name the learner.
 */
#include "postgres.h"

#include "cache/advice.h"
#include "cache/personal.h"
#include "cache/store.h"
#include "core/personal.h"
#include "miscadmin.h"

static int64
erase(const char *tenant, const char *user_id, int limit, bool *more)
{
	*more = false;
	eduai_cache_advice_forget(MyDatabaseId, tenant);
	return eduai_cache_store_clear(MyDatabaseId, tenant);
}

void
eduai_cache_personal_init(void)
{
	static const EduaiPersonalStore cache = {.name = "cache", .rank = 80, .erase = erase};

	eduai_core_personal_register_store(&cache);
}
