/*
 * personal.c: a learner in the ledger and in budgets.  See personal.h.
 *
 * What a provider call cost stays in the ledger, without the learner's name:
 * the books have to add up.  What was counted for the learner alone goes, and
 * so does a budget of one's own.  The cursor is the ledger's next page.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/pages.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "gateway/personal.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#define PAGES_AT_ONCE 256

static EduaiPlan blank_calls = {"UPDATE eduai.provider_call SET user_id = NULL WHERE ctid >= $3"
								" AND ctid < $4 AND tenant_id = $1 AND user_id = $2",
								4,
								{TEXTOID, TEXTOID, TIDOID, TIDOID}};
static EduaiPlan blank_reservations = {
	"UPDATE eduai.budget_reservation SET user_id = NULL WHERE tenant_id = $1 AND user_id = $2",
	2,
	{TEXTOID, TEXTOID}};
static EduaiPlan drop_spent = {
	"DELETE FROM eduai.budget_spent WHERE tenant_id = $1 AND user_id = $2", 2, {TEXTOID, TEXTOID}};
static EduaiPlan drop_budgets = {
	"DELETE FROM eduai.budget WHERE tenant_id = $1 AND scope = 'user:' || $2",
	2,
	{TEXTOID, TEXTOID}};

static int64
erase_part(EduaiPersonalWork *work)
{
	int64 page = work->cursor ? strtoll(work->cursor, NULL, 10) : 0;
	int64 pages = eduai_core_pages_of(get_relname_relid("provider_call", eduai_core_schema()));
	Datum args[4] = {CStringGetTextDatum(work->tenant), CStringGetTextDatum(work->user_id)};
	int64 removed = 0;

	while (page < pages && removed < work->limit && eduai_core_mono_us() < work->until_us)
	{
		CHECK_FOR_INTERRUPTS();
		args[2] = eduai_core_page_start(page);
		args[3] = eduai_core_page_start(page + PAGES_AT_ONCE);
		removed += (int64) eduai_core_run_latest(&blank_calls, args, NULL);
		page += PAGES_AT_ONCE;
	}
	work->cursor = psprintf(INT64_FORMAT, page);
	work->more = page < pages;
	if (work->more)
		return removed;
	removed += (int64) eduai_core_run_latest(&blank_reservations, args, NULL);
	removed += (int64) eduai_core_run_latest(&drop_spent, args, NULL);
	return removed + (int64) eduai_core_run_latest(&drop_budgets, args, NULL);
}

/* Only looking through the table would tell. */
static int64
remaining(const char *tenant, const char *user_id)
{
	return 0;
}

static void
export_all(const char *tenant, const char *user_id, EduaiPersonalRow row, void *arg)
{
	eduai_core_personal_export_rows(
		"usage",
		"SELECT to_jsonb(c) - 'tenant_id' FROM eduai.provider_call c WHERE c.tenant_id = $1"
		" AND c.user_id = $2 ORDER BY c.task_id, c.attempt",
		tenant, user_id, row, arg);
	eduai_core_personal_export_rows(
		"budgets",
		"SELECT to_jsonb(b) - 'tenant_id' FROM eduai.budget b WHERE b.tenant_id = $1"
		" AND b.scope = 'user:' || $2 UNION ALL"
		" SELECT to_jsonb(s) - 'tenant_id' FROM eduai.budget_spent s WHERE s.tenant_id = $1"
		" AND s.user_id = $2",
		tenant, user_id, row, arg);
}

static void
learners(EduaiPersonalLearner learner, void *arg)
{
	eduai_core_personal_tell_learners(
		"SELECT tenant_id, user_id FROM eduai.provider_call WHERE user_id IS NOT NULL"
		" UNION SELECT tenant_id, substr(scope, 6) FROM eduai.budget WHERE scope LIKE 'user:_%'"
		" AND scope <> 'user:*'",
		learner, arg);
}

void
eduai_gateway_personal_init(void)
{
	static const EduaiPersonalStore usage = {.name = "usage",
											 .rank = 70,
											 .erase_part = erase_part,
											 .remaining = remaining,
											 .export = export_all,
											 .learners = learners};

	eduai_core_personal_register_store(&usage);
}
