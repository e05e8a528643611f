/*
 * budget_admit.c: UE005: tasks that a budget refuses are refused at enqueue.
 *
 * Only budgets with on_exceeded 'refuse' matter here, and the session keeps a
 * list of all: where there are none, a call costs a look at a number.  A task
 * is refused when at each instance that could serve it the worst case exceeds
 * such a budget, with what is spent and reserved as this statement sees it.
 * Tasks that wait in the queue have reserved nothing yet: the dispatcher
 * measures again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/errors.h"
#include "core/hooks.h"
#include "core/json.h"
#include "core/plan.h"
#include "gateway/budget.h"
#include "gateway/budget_admit.h"
#include "gateway/budget_book.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

static struct
{
	MemoryContext context;
	BudgetList list;
	uint64 changes; /* when it was read; 0: never */
	bool refuses;   /* some budget does */
} known;

static void
refresh(void)
{
	uint64 changes = eduai_gateway_budget_changes();

	if (known.changes == changes)
		return;
	if (known.context == NULL)
		known.context =
			AllocSetContextCreate(TopMemoryContext, "eduai budgets known", ALLOCSET_DEFAULT_SIZES);
	known.changes = 0;
	known.refuses = false;
	MemoryContextReset(known.context);
	eduai_gateway_budget_list_read(&known.list, known.context, eduai_core_now());
	for (int i = 0; i < known.list.n; i++)
		known.refuses = known.refuses || known.list.budgets[i].refuses;
	known.changes = changes;
}

/* ---- instances ---- */

/* what a bound needs of those that could serve the task */
static Instance *
serving(const EduaiEnqueue *task, int *n)
{
	static EduaiPlan select = {
		"SELECT i.name, i.provider, p.kind, i.price_input, i.price_output, i.options "
		"FROM eduai.instance i JOIN eduai.provider p ON p.name = i.provider "
		"WHERE $1 = ANY (i.task_types) "
		"AND ($2 IS NULL OR i.model = $2 OR coalesce(i.options->'aliases' ? $2, false)) "
		"AND (NOT i.options ? 'tenants' OR i.options->'tenants' ? $3) "
		"AND (i.state = 'active' OR NOT EXISTS (SELECT FROM eduai.instance a "
		"WHERE $1 = ANY (a.task_types) AND a.state = 'active')) ORDER BY i.name",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum args[3];
	char nulls[4] = "   ";
	Instance *instances;
	Provider *providers;
	bool isnull;

	args[0] = CStringGetTextDatum(task->task_type);
	args[1] = task->model ? CStringGetTextDatum(task->model) : (Datum) 0;
	nulls[1] = task->model ? ' ' : 'n';
	args[2] = CStringGetTextDatum(task->tenant);
	*n = (int) eduai_core_run(&select, args, nulls);
	instances = palloc0(sizeof(Instance) * Max(*n, 1));
	providers = palloc0(sizeof(Provider) * Max(*n, 1));
	for (int k = 0; k < *n; k++)
	{
		Instance *i = &instances[k];

		i->provider = &providers[k];
		i->name = eduai_core_text(k, 1);
		i->provider->name = eduai_core_text(k, 2);
		i->provider->kind = eduai_core_text(k, 3);
		i->price_input = DatumGetNumericCopy(eduai_core_value(k, 4, &isnull));
		i->price_output = DatumGetNumericCopy(eduai_core_value(k, 5, &isnull));
		i->options = DatumGetJsonbPCopy(eduai_core_value(k, 6, &isnull));
		eduai_gateway_read_prices(i);
	}
	return instances;
}

/* ---- measuring ---- */

static void
read_sums(const Budget *b, const EduaiEnqueue *task, Numeric *spent, Numeric *reserved)
{
	static EduaiPlan select = {"SELECT spent, reserved FROM eduai.budget_sum "
							   "WHERE budget_id = $1 AND user_id = $2",
							   2,
							   {INT8OID, TEXTOID}};
	Datum args[2];
	bool isnull;

	args[0] = Int64GetDatum(b->budget_id);
	args[1] = CStringGetTextDatum(b->kind == SCOPE_EACH_USER ? task->user_id : "");
	*spent = *reserved = int64_to_numeric(0);
	if (eduai_core_run(&select, args, NULL) == 0)
		return;
	*spent = DatumGetNumericCopy(eduai_core_value(0, 1, &isnull));
	*reserved = DatumGetNumericCopy(eduai_core_value(0, 2, &isnull));
}

/* What the task may cost at an instance. */
typedef struct Worst
{
	const Instance *instance;
	Numeric bound; /* NULL: none */
	const char *why;
} Worst;

static void
explain(const Budget *b, const Worst *worst, Numeric spent, Numeric reserved, EduaiRefusal *why)
{
	char *words = eduai_gateway_budget_words(b->usd);
	char *per = eduai_gateway_budget_per_words(&b->per);

	why->sqlstate = EDUAI_BUDGET_EXCEEDED;
	why->message =
		psprintf("budget \"%s\" of %s USD per %s would be exceeded", b->scope, words, per);
	if (worst->bound == NULL)
	{
		why->message =
			psprintf("the cost of this call has no bound, and budget \"%s\" applies", b->scope);
		why->hint = psprintf("At instance \"%s\": %s.", worst->instance->name, worst->why);
		return;
	}
	/* what others spend at a provider is not this tenant's to know */
	if (b->kind == SCOPE_PROVIDER)
		why->detail =
			psprintf("Scope %s, usd %s per %s; this call may cost %s at instance \"%s\".", b->scope,
					 words, per, eduai_gateway_budget_words(worst->bound), worst->instance->name);
	else
		why->detail = psprintf(
			"Scope %s, spent %s, reserved %s, usd %s per %s; this call may cost %s at instance \"%s\".",
			b->scope, eduai_gateway_budget_words(spent), eduai_gateway_budget_words(reserved),
			words, per, eduai_gateway_budget_words(worst->bound), worst->instance->name);
	why->hint = "Lower max_tokens, try again later, or enqueue with on_refusal => 'defer' to wait.";
}

/* is there a budget that refuses it there? */
static bool
is_refused(const EduaiEnqueue *task, const Worst *worst, EduaiRefusal *why)
{
	BudgetSubject subject = {task->tenant, task->user_id, worst->instance->provider->name,
							 task->task_type};

	for (int i = 0; (i = eduai_gateway_budget_list_next(&known.list, &subject, true, i)) != 0;)
	{
		const Budget *b = &known.list.budgets[i - 1];
		Numeric spent = NULL;
		Numeric reserved = NULL;

		if (!b->refuses)
			continue;
		if (worst->bound != NULL)
		{
			if (!eduai_gateway_budget_more(worst->bound, int64_to_numeric(0)))
				continue;
			read_sums(b, task, &spent, &reserved);
			if (!eduai_gateway_budget_more(budget_plus(budget_plus(spent, reserved), worst->bound),
										   b->usd))
				continue;
		}
		explain(b, worst, spent, reserved, why);
		return true;
	}
	return false;
}

/* the cheapest first; those without a bound last */
static int
compare_worst(const void *a, const void *b)
{
	const Worst *x = a;
	const Worst *y = b;

	if (x->bound == NULL || y->bound == NULL)
		return (x->bound == NULL) - (y->bound == NULL);
	return eduai_gateway_budget_more(x->bound, y->bound) -
		   eduai_gateway_budget_more(y->bound, x->bound);
}

static bool
is_within_budgets(const EduaiEnqueue *task, EduaiRefusal *why)
{
	Instance *instances;
	Worst *worst;
	BudgetAudio audio;
	bool has_audio;
	int n;

	if (!task->by_gateway)
		return true;
	refresh();
	if (!known.refuses)
		return true;
	instances = serving(task, &n);
	worst = palloc(sizeof(Worst) * Max(n, 1));
	has_audio = eduai_gateway_budget_audio(task->tenant, task->payload, &audio);
	for (int i = 0; i < n; i++)
	{
		worst[i].instance = &instances[i];
		worst[i].bound = eduai_gateway_cost_bound(&instances[i], task->task_type, task->payload,
												  has_audio ? &audio : NULL, &worst[i].why);
	}
	qsort(worst, n, sizeof(Worst), compare_worst);
	/* what is said is of the cheapest */
	for (int i = n - 1; i >= 0; i--)
		if (!is_refused(task, &worst[i], why))
			return true;
	return n == 0;
}

void
eduai_gateway_budget_admit_init(void)
{
	eduai_core_enqueue_hook_register(is_within_budgets);
}
