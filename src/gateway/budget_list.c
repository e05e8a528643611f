/*
 * budget_list.c: reading the budgets; whom they are for.  See budget_list.h.
 */
#include "postgres.h"

#include "core/plan.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "gateway/budget_list.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static Oid watched = InvalidOid;
static uint64 changes = 1;

static void
relation_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == watched)
		changes++;
}

uint64
eduai_gateway_budget_changes(void)
{
	return changes;
}

void
eduai_gateway_budget_list_init(void)
{
	eduai_core_relcache_register(relation_changed);
}

/* ---- reading ---- */

static BudgetScope
kind_of(const char *scope)
{
	if (strcmp(scope, "tenant") == 0)
		return SCOPE_TENANT;
	if (strcmp(scope, "user:*") == 0)
		return SCOPE_EACH_USER;
	return strncmp(scope, "user:", 5) == 0 ? SCOPE_USER : SCOPE_PROVIDER;
}

static void
read_budget(uint64 row, Budget *b, TimestampTz now, pg_tz *timezone)
{
	bool isnull;
	char *exceeded = eduai_core_text(row, 8);
	char *type = eduai_core_text(row, 3);
	char *zone;

	memset(b, 0, sizeof(*b));
	b->tenant = eduai_core_text(row, 1);
	b->scope = eduai_core_text(row, 2);
	b->kind = kind_of(b->scope);
	if (b->kind == SCOPE_USER || b->kind == SCOPE_PROVIDER)
		b->name = strchr(b->scope, ':') + 1;
	b->task_type = *type != '\0' ? type : NULL;
	b->per = *DatumGetIntervalP(eduai_core_value(row, 4, &isnull));
	b->budget_id = eduai_core_int64(row, 5, 0);
	b->revision = eduai_core_int64(row, 6, 0);
	b->usd = DatumGetNumericCopy(eduai_core_value(row, 7, &isnull));
	b->defers = strcmp(exceeded, "defer") == 0;
	b->refuses = strcmp(exceeded, "refuse") == 0;
	zone = eduai_core_text(row, 10);
	b->counted = zone != NULL && (!eduai_gateway_budget_is_local(&b->per) ||
								  strcmp(zone, eduai_gateway_budget_timezone_name()) == 0);
	b->seen = b->counted && eduai_core_int64(row, 9, 0) == b->revision;
	b->now = eduai_gateway_budget_period(&b->per, now, timezone);
}

void
eduai_gateway_budget_list_read(BudgetList *list, MemoryContext context, TimestampTz now)
{
	static EduaiPlan select = {
		"SELECT b.tenant_id, b.scope, b.task_type, b.per, b.budget_id, b.revision, b.usd, "
		"b.on_exceeded, c.revision, c.timezone FROM eduai.budget b "
		"LEFT JOIN eduai.budget_counted c "
		"ON c.tenant_id = b.tenant_id AND c.budget_id = b.budget_id "
		"ORDER BY b.tenant_id, b.budget_id",
		0,
		{0}};
	uint64 n;
	MemoryContext old;

	/* what changes while it is read is noticed */
	watched = get_relname_relid("budget", eduai_core_schema());
	/* whatever the isolation level: it is kept beyond the transaction */
	n = eduai_core_run_latest(&select, NULL, NULL);
	old = MemoryContextSwitchTo(context);
	list->timezone = eduai_gateway_budget_timezone();
	list->budgets = palloc(sizeof(Budget) * Max(n, 1));
	list->n = (int) n;
	for (uint64 i = 0; i < n; i++)
		read_budget(i, &list->budgets[i], now, list->timezone);
	MemoryContextSwitchTo(old);
}

/* ---- whom a budget is for ---- */

static bool
counts(const Budget *b, const BudgetSubject *s)
{
	if (b->task_type != NULL && strcmp(b->task_type, s->task_type) != 0)
		return false;
	switch (b->kind)
	{
		case SCOPE_TENANT:
			return true;
		case SCOPE_EACH_USER:
			return s->user_id != NULL && *s->user_id != '\0';
		case SCOPE_USER:
			return s->user_id != NULL && strcmp(b->name, s->user_id) == 0;
		case SCOPE_PROVIDER:
			break;
	}
	return s->provider != NULL && strcmp(b->name, s->provider) == 0;
}

static bool
same_type(const Budget *a, const Budget *b)
{
	if (a->task_type == NULL || b->task_type == NULL)
		return a->task_type == b->task_type;
	return strcmp(a->task_type, b->task_type) == 0;
}

static bool
same_period(const Budget *a, const Budget *b)
{
	return a->per.month == b->per.month && a->per.day == b->per.day && a->per.time == b->per.time;
}

/* the first budget of a tenant, or where it would be */
static int
first_of(const BudgetList *list, const char *tenant)
{
	int low = 0;
	int high = list->n;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (strcmp(list->budgets[middle].tenant, tenant) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* has the user a budget of his own in the place of this one? */
static bool
is_replaced(const BudgetList *list, const Budget *each, const BudgetSubject *subject)
{
	for (int i = first_of(list, each->tenant);
		 i < list->n && strcmp(list->budgets[i].tenant, each->tenant) == 0; i++)
	{
		const Budget *b = &list->budgets[i];

		if (b->kind == SCOPE_USER && strcmp(b->name, subject->user_id) == 0 && same_type(b, each) &&
			same_period(b, each))
			return true;
	}
	return false;
}

int
eduai_gateway_budget_list_next(const BudgetList *list, const BudgetSubject *subject, bool limits,
							   int at)
{
	int first = list->n == 0 ? 0 : first_of(list, subject->tenant);

	for (int i = at; i < list->n; i++)
	{
		const Budget *b = &list->budgets[i];

		/* providers' (the tenant without a name) come first */
		if (*b->tenant != '\0' && i < first)
			i = first;
		b = &list->budgets[i];
		if (i >= list->n || (*b->tenant != '\0' && strcmp(b->tenant, subject->tenant) != 0))
			return 0;
		if (counts(b, subject) &&
			!(limits && b->kind == SCOPE_EACH_USER && is_replaced(list, b, subject)))
			return i + 1;
	}
	return 0;
}
