/*
 * budget_book.c: the budgets and their sums in the dispatcher's memory.  See
 * budget_book.h.
 *
 * The book is read when sessions changed a budget (the relation's invalidation,
 * or a new fleet, which comes with each change of the configuration), when a
 * period of one ends, when the clock or the time zone was set, and after an
 * abort.  Reservations are all in it; what was spent is read at need, a row for
 * each budget and user.
 *
 * A sum that has no row is zero: the rows of the period in which the counting
 * of a budget began were made of the ledger then.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/worker.h"
#include "core/xact.h"
#include "gateway/budget_book.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define CLOCK_SLACK_US INT64CONST(5000000) /* a clock that was set back by more */

static struct
{
	MemoryContext context;
	bool loaded;
	bool touched; /* by this transaction */
	bool again;   /* something was left to be done at the next reading */
	BudgetList list;
	HTAB *sums;
	BudgetSum *unwritten;
	int64 nreservations;
	TimestampTz read_at;
	TimestampTz ends_at; /* of the first period to end */
	const Fleet *fleet;
	uint64 changes;
} book;

/* ---- staleness ---- */

static void
on_commit(void)
{
	book.touched = false;
}

static void
on_abort(void)
{
	if (book.touched)
		book.loaded = false;
	book.touched = false;
}

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && book.touched)
		book.loaded = false;
}

void
eduai_gateway_budget_book_init(void)
{
	static const EduaiXactHooks hooks = {.name = "budgets",
										 .rank = EDUAI_RANK_GATEWAY,
										 .commit = on_commit,
										 .abort = on_abort,
										 .subxact = on_subxact};

	eduai_gateway_budget_list_init();
	eduai_core_xact_register(&hooks);
}

static bool
is_stale(const Fleet *fleet)
{
	TimestampTz now;

	if (!book.loaded || book.again || book.changes != eduai_gateway_budget_changes() ||
		book.fleet != fleet)
		return true;
	if (book.list.n == 0)
		return false;
	now = eduai_core_now();
	return now >= book.ends_at || now < book.read_at - CLOCK_SLACK_US ||
		   book.list.timezone != eduai_gateway_budget_timezone();
}

bool
eduai_gateway_budget_book_empty(void)
{
	if (!book.loaded)
		elog(ERROR, "the budgets were not read");
	return book.list.n == 0 && book.nreservations == 0;
}

/* ---- sums ---- */

static uint32
hash_sum(const void *key, Size size)
{
	const BudgetSum *sum = key;

	return hash_combine(hash_combine(hash_uint32(sum->budget), string_hash(sum->user, 1024)),
						hash_bytes((const unsigned char *) &sum->starts_at, sizeof(TimestampTz)));
}

static int
compare_sums(const void *a, const void *b, Size size)
{
	const BudgetSum *x = a;
	const BudgetSum *y = b;

	return x->budget != y->budget || x->starts_at != y->starts_at || strcmp(x->user, y->user) != 0;
}

static void *
copy_key(void *to, const void *from, Size size)
{
	BudgetSum *sum = to;
	const BudgetSum *key = from;

	sum->budget = key->budget;
	sum->user = MemoryContextStrdup(book.context, key->user);
	sum->starts_at = key->starts_at;
	return to;
}

static HTAB *
make_sums(void)
{
	HASHCTL info = {.keysize = sizeof(BudgetSum),
					.entrysize = sizeof(BudgetSum),
					.hash = hash_sum,
					.match = compare_sums,
					.keycopy = copy_key,
					.hcxt = book.context};

	return hash_create("eduai budgets", 256, &info,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_KEYCOPY | HASH_CONTEXT);
}

static Numeric
keep(Numeric value)
{
	MemoryContext old = MemoryContextSwitchTo(book.context);
	Numeric copy = DatumGetNumericCopy(NumericGetDatum(value));

	MemoryContextSwitchTo(old);
	return copy;
}

static Numeric
read_spent(const Budget *budget, const char *user, TimestampTz starts_at)
{
	static EduaiPlan select = {"SELECT usd FROM eduai.budget_spent WHERE tenant_id = $1 "
							   "AND budget_id = $2 AND user_id = $3 AND starts_at = $4",
							   4,
							   {TEXTOID, INT8OID, TEXTOID, TIMESTAMPTZOID}};
	Datum args[4];
	bool isnull;

	args[0] = CStringGetTextDatum(budget->tenant);
	args[1] = Int64GetDatum(budget->budget_id);
	args[2] = CStringGetTextDatum(user);
	args[3] = TimestampTzGetDatum(starts_at);
	if (eduai_core_run(&select, args, NULL) == 0)
		return int64_to_numeric(0);
	return DatumGetNumeric(eduai_core_value(0, 1, &isnull));
}

BudgetSum *
eduai_gateway_budget_sum(int index, const BudgetSubject *subject, TimestampTz starts_at)
{
	const Budget *budget = &book.list.budgets[index];
	BudgetSum key = {.budget = index, .user = "", .starts_at = starts_at};
	BudgetSum *sum;
	bool found;

	if (budget->kind == SCOPE_EACH_USER)
		key.user = (char *) subject->user_id;
	sum = hash_search(book.sums, &key, HASH_FIND, &found);
	if (!found)
	{
		Numeric spent = keep(read_spent(budget, key.user, starts_at));

		sum = hash_search(book.sums, &key, HASH_ENTER, &found);
		sum->spent = spent;
		sum->reserved = keep(int64_to_numeric(0));
		sum->unwritten = NULL;
		sum->next_unwritten = NULL;
	}
	return sum;
}

static void
replace(Numeric *value, Numeric by)
{
	Numeric old = *value;

	*value = keep(by);
	if (old != NULL)
		pfree(old);
}

void
eduai_gateway_budget_change(BudgetSum *sum, Numeric spent, Numeric reserved, bool less)
{
	book.touched = true;
	if (reserved != NULL)
		replace(&sum->reserved, less ? budget_minus(sum->reserved, reserved)
									 : budget_plus(sum->reserved, reserved));
	if (spent == NULL || !eduai_gateway_budget_more(spent, int64_to_numeric(0)))
		return;
	replace(&sum->spent, budget_plus(sum->spent, spent));
	if (sum->unwritten == NULL)
	{
		sum->next_unwritten = book.unwritten;
		book.unwritten = sum;
		sum->unwritten = keep(spent);
	}
	else
		replace(&sum->unwritten, budget_plus(sum->unwritten, spent));
}

void
eduai_gateway_budget_write_sums(void)
{
	static EduaiPlan upsert = {
		"INSERT INTO eduai.budget_spent AS s (tenant_id, budget_id, user_id, starts_at, usd) "
		"SELECT * FROM unnest($1, $2, $3, $4, $5) "
		"ON CONFLICT (tenant_id, budget_id, user_id, starts_at) "
		"DO UPDATE SET usd = s.usd + excluded.usd",
		5,
		{TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, NUMERICARRAYOID}};
	int n = 0;
	char **tenants;
	char **users;
	int64 *ids;
	Datum *starts;
	Datum *amounts;
	Datum args[5];

	for (BudgetSum *s = book.unwritten; s != NULL; s = s->next_unwritten)
		n++;
	if (n == 0)
		return;
	tenants = palloc(sizeof(char *) * n);
	users = palloc(sizeof(char *) * n);
	ids = palloc(sizeof(int64) * n);
	starts = palloc(sizeof(Datum) * n);
	amounts = palloc(sizeof(Datum) * n);
	n = 0;
	for (BudgetSum *s = book.unwritten; s != NULL; s = s->next_unwritten)
	{
		tenants[n] = book.list.budgets[s->budget].tenant;
		users[n] = s->user;
		ids[n] = book.list.budgets[s->budget].budget_id;
		starts[n] = TimestampTzGetDatum(s->starts_at);
		amounts[n++] = NumericGetDatum(s->unwritten);
		s->unwritten = NULL;
	}
	book.unwritten = NULL;
	args[0] = eduai_core_text_array(tenants, n);
	args[1] = eduai_core_int8_array(ids, NULL, n);
	args[2] = eduai_core_text_array(users, n);
	args[3] = eduai_core_datum_array(starts, NULL, n, TIMESTAMPTZOID);
	args[4] = eduai_core_datum_array(amounts, NULL, n, NUMERICOID);
	eduai_core_run(&upsert, args, NULL);
}

/* ---- whom a budget is for ---- */

int
eduai_gateway_budget_next(const BudgetSubject *subject, bool limits, int at)
{
	return eduai_gateway_budget_list_next(&book.list, subject, limits, at);
}

const Budget *
eduai_gateway_budget_at(int index)
{
	return &book.list.budgets[index];
}

void
eduai_gateway_budget_book_reservation(const BudgetReservation *r, bool less)
{
	for (int i = 0; (i = eduai_gateway_budget_next(&r->subject, false, i)) != 0;)
	{
		BudgetPeriod period = eduai_gateway_budget_period(&book.list.budgets[i - 1].per,
														  r->reserved_at, book.list.timezone);

		eduai_gateway_budget_change(eduai_gateway_budget_sum(i - 1, &r->subject, period.starts_at),
									NULL, r->bound_usd, less);
	}
}

void
eduai_gateway_budget_deleted(int n)
{
	book.touched = true;
	book.nreservations -= n;
}

void
eduai_gateway_budget_insert(const BudgetReservation *rows, int n)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.budget_reservation (tenant_id, task_id, attempt, user_id, task_type, "
		"provider, instance, model, bound_usd, reserved_at, hedge, dispatcher) "
		"SELECT l.*, $12 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) l",
		12,
		{TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
		 TEXTARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID, INT8OID}};
	char **texts[6];
	int64 *ids = palloc(sizeof(int64) * n);
	int32 *attempts = palloc(sizeof(int32) * n);
	Datum *bounds = palloc(sizeof(Datum) * n);
	Datum *times = palloc(sizeof(Datum) * n);
	Datum *hedges = palloc(sizeof(Datum) * n);
	Datum args[12];

	for (int k = 0; k < 6; k++)
		texts[k] = palloc(sizeof(char *) * n);
	for (int i = 0; i < n; i++)
	{
		texts[0][i] = (char *) rows[i].subject.tenant;
		texts[1][i] = (char *) rows[i].subject.user_id;
		texts[2][i] = (char *) rows[i].subject.task_type;
		texts[3][i] = (char *) rows[i].subject.provider;
		texts[4][i] = (char *) rows[i].instance;
		texts[5][i] = (char *) rows[i].model;
		ids[i] = rows[i].task_id;
		attempts[i] = rows[i].attempt;
		bounds[i] = NumericGetDatum(rows[i].bound_usd);
		times[i] = TimestampTzGetDatum(rows[i].reserved_at);
		hedges[i] = BoolGetDatum(rows[i].hedge);
	}
	args[0] = eduai_core_text_array(texts[0], n);
	args[1] = eduai_core_int8_array(ids, NULL, n);
	args[2] = eduai_core_int4_array(attempts, NULL, n);
	for (int k = 1; k < 6; k++)
		args[2 + k] = eduai_core_text_array(texts[k], n);
	args[8] = eduai_core_datum_array(bounds, NULL, n, NUMERICOID);
	args[9] = eduai_core_datum_array(times, NULL, n, TIMESTAMPTZOID);
	args[10] = eduai_core_datum_array(hedges, NULL, n, BOOLOID);
	args[11] = Int64GetDatum(eduai_core_worker_epoch());
	eduai_core_run(&insert, args, NULL);
	book.touched = true;
	book.nreservations += n;
}

/* ---- reading ---- */

/* budgets that were removed */
static void
read_gone(TimestampTz now)
{
	static EduaiPlan select = {
		"SELECT c.tenant_id, c.budget_id, c.per FROM eduai.budget_counted c WHERE NOT EXISTS "
		"(SELECT FROM eduai.budget b WHERE b.budget_id = c.budget_id)",
		0,
		{0}};
	uint64 n = eduai_core_run(&select, NULL, NULL);
	BudgetCounted *gone = palloc(sizeof(BudgetCounted) * Max(n, 1));
	bool isnull;

	for (uint64 i = 0; i < n; i++)
	{
		gone[i].tenant = eduai_core_text(i, 1);
		gone[i].budget_id = eduai_core_int64(i, 2, 0);
		gone[i].per = *DatumGetIntervalP(eduai_core_value(i, 3, &isnull));
	}
	for (uint64 i = 0; i < n; i++)
	{
		BudgetPeriod period = eduai_gateway_budget_period(&gone[i].per, now, book.list.timezone);

		if (eduai_gateway_budget_wake(period.ends_at))
			book.again = true;
		else
			eduai_gateway_budget_uncount(&gone[i]);
	}
}

static void
read_reservations(void)
{
	static EduaiPlan select = {
		"SELECT tenant_id, user_id, task_type, provider, bound_usd, reserved_at "
		"FROM eduai.budget_reservation",
		0,
		{0}};
	uint64 n = eduai_core_run(&select, NULL, NULL);
	BudgetReservation *rows = palloc0(sizeof(BudgetReservation) * Max(n, 1));
	bool isnull;

	/* a row at a time: the sums are read by statements of their own */
	for (uint64 i = 0; i < n; i++)
	{
		rows[i].subject.tenant = eduai_core_text(i, 1);
		rows[i].subject.user_id = eduai_core_text(i, 2);
		rows[i].subject.task_type = eduai_core_text(i, 3);
		rows[i].subject.provider = eduai_core_text(i, 4);
		rows[i].bound_usd = DatumGetNumericCopy(eduai_core_value(i, 5, &isnull));
		rows[i].reserved_at = DatumGetTimestampTz(eduai_core_value(i, 6, &isnull));
	}
	book.nreservations = (int64) n;
	for (uint64 i = 0; i < n; i++)
		eduai_gateway_budget_book_reservation(&rows[i], false);
}

/*
 * What the new reading asks for; true when a budget is counted from now on.
 * Without a provider nothing is spent: a dump that is being loaded has come to
 * the budgets, and brings what was counted of them.
 */
static bool
follow(const Fleet *fleet)
{
	bool any_new = false;

	book.ends_at = PG_INT64_MAX;
	for (int i = 0; i < book.list.n; i++)
	{
		Budget *b = &book.list.budgets[i];

		if (!b->counted && fleet->nproviders == 0)
		{
			book.again = true;
			continue;
		}
		book.ends_at = Min(book.ends_at, b->now.ends_at);
		any_new = any_new || !b->counted;
		/* its limit was set: tasks that wait for it need not, perhaps */
		if (b->counted && !b->seen && eduai_gateway_budget_wake(b->now.ends_at))
			book.again = true;
		else if (!b->seen)
			eduai_gateway_budget_count(b, !b->counted);
	}
	eduai_gateway_budget_forget_old(book.list.budgets, book.list.n);
	return any_new;
}

void
eduai_gateway_budget_book_refresh(const Fleet *fleet)
{
	TimestampTz now;

	if (!is_stale(fleet))
		return;
	now = eduai_core_now();
	if (book.context == NULL)
		book.context =
			AllocSetContextCreate(TopMemoryContext, "eduai budgets", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(book.context);
	book.loaded = true;
	book.touched = true;
	book.again = false;
	book.unwritten = NULL;
	book.changes = eduai_gateway_budget_changes();
	book.fleet = fleet;
	book.read_at = now;
	book.sums = make_sums();
	eduai_gateway_budget_list_read(&book.list, book.context, now);
	read_gone(now);
	if (follow(fleet))
		eduai_gateway_budget_reserve_running(fleet);
	read_reservations();
}
