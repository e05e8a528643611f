/*
 * personal.c: limits that were set for a learner: those of the key that is the
 * learner's id.  Counters in shared memory are under hashes and pass by themselves.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/personal.h"
#include "core/plan.h"
#include "ratelimit/personal.h"
#include "utils/builtins.h"

static EduaiPlan drop = {
	"DELETE FROM eduai.rate_key_limit WHERE tenant_id = $1 AND key = $2", 2, {TEXTOID, TEXTOID}};
static EduaiPlan count = {
	"SELECT count(*) FROM eduai.rate_key_limit WHERE tenant_id = $1 AND key = $2",
	2,
	{TEXTOID, TEXTOID}};

static int64
erase(const char *tenant, const char *user_id, int limit, bool *more)
{
	Datum args[] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id)};

	*more = false;
	return (int64) eduai_core_run_latest(&drop, args, NULL);
}

static int64
remaining(const char *tenant, const char *user_id)
{
	Datum args[] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id)};

	eduai_core_run_latest(&count, args, NULL);
	return eduai_core_int64(0, 1, 0);
}

static void
export_all(const char *tenant, const char *user_id, EduaiPersonalRow row, void *arg)
{
	eduai_core_personal_export_rows(
		"rate_limits",
		"SELECT to_jsonb(l) - 'tenant_id' FROM eduai.rate_key_limit l WHERE l.tenant_id = $1"
		" AND l.key = $2",
		tenant, user_id, row, arg);
}

void
eduai_ratelimit_personal_init(void)
{
	static const EduaiPersonalStore limits = {.name = "rate_limits",
											  .rank = 75,
											  .erase = erase,
											  .remaining = remaining,
											  .export = export_all,
											  .exact = true};

	eduai_core_personal_register_store(&limits);
}
