/*
 * budget.c: reserving and settling.  See budget.h.
 *
 * A call is measured with all budgets that limit it, and reserved in all that
 * count it, or in none.  Its reservation is of the period that it was made in,
 * and so is its cost, whenever it ends.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/hooks.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/worker.h"
#include "core/xact.h"
#include "gateway/budget.h"
#include "gateway/budget_admit.h"
#include "gateway/budget_book.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SOON_US         INT64CONST(1000000) /* until a call in flight may have ended */
#define FORGOTTEN_BATCH 500

/* reservations of this transaction that are not written yet, in a context of their own */
static MemoryContext pending_context = NULL;
static BudgetReservation *pending = NULL;
static int npending = 0;
static int pending_room = 0;

/* ---- arithmetic ---- */

bool
eduai_gateway_budget_more(Numeric a, Numeric b)
{
	return DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(a), NumericGetDatum(b)));
}

char *
eduai_gateway_budget_words(Numeric usd)
{
	return DatumGetCString(DirectFunctionCall1(
		numeric_out, DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(usd))));
}

static double
to_double(Numeric a)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(a)));
}

/* ---- the transaction ---- */

static void
check_written(void)
{
	if (npending > 0)
		elog(ERROR, "reservations of budgets were not written");
}

static void
forget_pending(void)
{
	npending = 0;
}

void
eduai_gateway_budget_begin(const Fleet *fleet)
{
	eduai_gateway_budget_write();
	eduai_gateway_budget_book_refresh(fleet);
}

static void
add_pending(const BudgetReservation *r)
{
	MemoryContext old;
	BudgetReservation *copy;

	if (pending_context == NULL)
		pending_context =
			AllocSetContextCreate(TopMemoryContext, "eduai reservations", ALLOCSET_DEFAULT_SIZES);
	if (npending == 0)
	{
		MemoryContextReset(pending_context);
		pending_room = 64;
		pending = MemoryContextAlloc(pending_context, sizeof(BudgetReservation) * pending_room);
	}
	if (npending == pending_room)
	{
		pending_room *= 2;
		pending = repalloc(pending, sizeof(BudgetReservation) * pending_room);
	}
	old = MemoryContextSwitchTo(pending_context);
	copy = &pending[npending++];
	*copy = *r;
	copy->subject.tenant = pstrdup(r->subject.tenant);
	copy->subject.user_id = r->subject.user_id ? pstrdup(r->subject.user_id) : NULL;
	copy->subject.task_type = pstrdup(r->subject.task_type);
	copy->subject.provider = pstrdup(r->subject.provider);
	copy->instance = pstrdup(r->instance);
	copy->model = pstrdup(r->model);
	copy->bound_usd = DatumGetNumericCopy(NumericGetDatum(r->bound_usd));
	MemoryContextSwitchTo(old);
}

void
eduai_gateway_budget_write(void)
{
	if (npending > 0)
		eduai_gateway_budget_insert(pending, npending);
	npending = 0;
}

/* ---- reserving ---- */

bool
eduai_gateway_budget_any(const char *tenant, const char *user_id, const char *provider,
						 const char *task_type)
{
	BudgetSubject subject = {tenant, user_id, provider, task_type};

	return eduai_gateway_budget_next(&subject, false, 0) != 0;
}

bool
eduai_gateway_budget_is_patient(const Jsonb *metadata)
{
	char *on_refusal = eduai_core_json_text(metadata, "on_refusal");

	return on_refusal != NULL && strcmp(on_refusal, "defer") == 0;
}

/* Where a call stands with the budgets that limit it. */
typedef struct Standing
{
	const Budget *blocks; /* the one that is in the way the longest; NULL: none */
	const BudgetSum *sum; /* its */
	bool refused;         /* by one that refuses, for what is spent */
	bool spent;           /* of some one: waiting for calls in flight does not help */
	bool of_user;         /* some one is a user's: others of the tenant need not wait */
	bool stays;           /* some one says that it waits rather than goes elsewhere */
	TimestampTz until;
} Standing;

static void
meet(Standing *s, const BudgetAsk *ask, const Budget *b, const BudgetSum *sum,
	 const BudgetPeriod *period)
{
	Numeric all = budget_plus(sum->spent, ask->bound_usd);
	bool spent = eduai_gateway_budget_more(all, b->usd);

	if (!spent && !eduai_gateway_budget_more(budget_plus(all, sum->reserved), b->usd))
		return;
	if (s->blocks == NULL || (spent && (!s->spent || period->ends_at > s->until)))
	{
		s->blocks = b;
		s->sum = sum;
	}
	s->spent = s->spent || spent;
	s->refused = s->refused || (spent && b->refuses && !ask->patient);
	s->of_user = s->of_user || b->kind == SCOPE_USER || b->kind == SCOPE_EACH_USER;
	s->stays = s->stays || (b->defers && b->kind != SCOPE_PROVIDER);
	if (spent)
		s->until = Max(s->until, period->ends_at);
}

static BudgetSubject
subject_of(const BudgetAsk *ask)
{
	return (BudgetSubject){ask->tenant, ask->user_id, ask->instance->provider->name,
						   ask->task_type};
}

static void
measure(const BudgetAsk *ask, TimestampTz now, Standing *standing)
{
	BudgetSubject subject = subject_of(ask);

	memset(standing, 0, sizeof(*standing));
	/* what costs nothing exceeds nothing */
	if (!eduai_gateway_budget_more(ask->bound_usd, int64_to_numeric(0)))
		return;
	for (int i = 0; (i = eduai_gateway_budget_next(&subject, true, i)) != 0;)
	{
		const Budget *b = eduai_gateway_budget_at(i - 1);
		BudgetPeriod period =
			eduai_gateway_budget_period(&b->per, now, eduai_gateway_budget_timezone());

		meet(standing, ask, b, eduai_gateway_budget_sum(i - 1, &subject, period.starts_at),
			 &period);
	}
}

static BudgetVerdict
answer_with(const BudgetAsk *ask, const Standing *s, TimestampTz now, BudgetAnswer *answer)
{
	const Budget *b = s->blocks;

	answer->scope = pstrdup(b->scope);
	answer->elsewhere = !s->stays;
	answer->code = "budget_exceeded";
	answer->message = psprintf(
		"budget \"%s\" of %s USD per %s: %s spent, %s reserved, and this call may cost %s",
		b->scope, eduai_gateway_budget_words(b->usd), eduai_gateway_budget_per_words(&b->per),
		eduai_gateway_budget_words(s->sum->spent), eduai_gateway_budget_words(s->sum->reserved),
		eduai_gateway_budget_words(ask->bound_usd));
	if (s->refused)
		return BUDGET_REFUSE;
	if (!s->spent && !s->of_user)
		return BUDGET_WAIT;
	answer->until = s->spent ? s->until : now + SOON_US;
	return BUDGET_DEFER;
}

static BudgetVerdict
refuse_unbounded(const BudgetAsk *ask, int index, BudgetAnswer *answer)
{
	answer->scope = pstrdup(eduai_gateway_budget_at(index)->scope);
	answer->elsewhere = true;
	answer->code = "budget_unbounded";
	answer->message =
		psprintf("budget \"%s\" applies, and the cost of this call has no bound at instance "
				 "\"%s\": %s",
				 answer->scope, ask->instance->name, ask->why_unbounded);
	return BUDGET_REFUSE;
}

BudgetVerdict
eduai_gateway_budget_reserve(const BudgetAsk *ask, BudgetAnswer *answer)
{
	BudgetReservation r = {.subject = subject_of(ask),
						   .task_id = ask->task_id,
						   .attempt = ask->attempt,
						   .hedge = ask->hedge,
						   .instance = ask->instance->name,
						   .model = ask->instance->model,
						   .bound_usd = ask->bound_usd,
						   .reserved_at = eduai_core_now()};
	int first = eduai_gateway_budget_next(&r.subject, false, 0);
	Standing standing;

	memset(answer, 0, sizeof(*answer));
	if (first == 0)
		return BUDGET_OK;
	if (ask->bound_usd == NULL)
		return refuse_unbounded(ask, first - 1, answer);
	measure(ask, r.reserved_at, &standing);
	if (standing.blocks != NULL)
		return answer_with(ask, &standing, r.reserved_at, answer);
	eduai_gateway_budget_book_reservation(&r, false);
	add_pending(&r);
	return BUDGET_OK;
}

void
eduai_gateway_budget_unreserve(int64 task_id, int attempt)
{
	for (int i = npending - 1; i >= 0; i--)
		if (pending[i].task_id == task_id && pending[i].attempt == attempt)
		{
			eduai_gateway_budget_book_reservation(&pending[i], true);
			pending[i] = pending[--npending];
			return;
		}
}

bool
eduai_gateway_budget_audio(const char *tenant, const Jsonb *payload, BudgetAudio *audio)
{
	static EduaiPlan select = {
		/* of sealed bytes the format is not looked at: bounded as the longest */
		"SELECT octet_length(data)::bigint, CASE WHEN NOT sealed THEN substr(data, 1, 4) ELSE '' END "
		"FROM eduai.attachment "
		"WHERE tenant_id = $1 AND attachment_id = CASE WHEN "
		"$2 ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN $2::uuid END",
		2,
		{TEXTOID, TEXTOID}};
	char *id = eduai_core_json_text(eduai_core_json_child(payload, "audio"), "attachment");
	Datum args[2];
	bytea *head;
	bool isnull;

	if (id == NULL)
		return false;
	args[0] = CStringGetTextDatum(tenant);
	args[1] = CStringGetTextDatum(id);
	if (eduai_core_run(&select, args, NULL) == 0)
		return false;
	audio->bytes = eduai_core_int64(0, 1, 0);
	head = DatumGetByteaPP(eduai_core_value(0, 2, &isnull));
	memset(audio->head, 0, sizeof(audio->head));
	memcpy(audio->head, VARDATA_ANY(head), Min(VARSIZE_ANY_EXHDR(head), sizeof(audio->head)));
	return true;
}

/* ---- settling ---- */

static void
settle_one(BudgetCall *call, const BudgetReservation *r)
{
	Numeric spent = call->cost_usd != NULL ? call->cost_usd : r->bound_usd;

	for (int i = 0; (i = eduai_gateway_budget_next(&r->subject, false, i)) != 0;)
	{
		BudgetPeriod period = eduai_gateway_budget_period(
			&eduai_gateway_budget_at(i - 1)->per, r->reserved_at, eduai_gateway_budget_timezone());

		eduai_gateway_budget_change(eduai_gateway_budget_sum(i - 1, &r->subject, period.starts_at),
									spent, r->bound_usd, true);
	}
	call->bound_usd = r->bound_usd;
}

/* deletes the calls' reservations; *which of the calls each row is of */
static int
take_reservations(const BudgetCall *calls, int n, BudgetReservation **rows, int **which)
{
	static EduaiPlan take = {
		"DELETE FROM eduai.budget_reservation r "
		"USING unnest($1, $2, $3, $4) WITH ORDINALITY c (tenant_id, task_id, attempt, hedge, n) "
		"WHERE r.tenant_id = c.tenant_id AND r.task_id = c.task_id AND r.attempt = c.attempt "
		"AND r.hedge = c.hedge "
		"RETURNING c.n, r.user_id, r.task_type, r.provider, r.bound_usd, r.reserved_at",
		4,
		{TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID, BOOLARRAYOID}};
	char **tenants = palloc(sizeof(char *) * n);
	int64 *ids = palloc(sizeof(int64) * n);
	int32 *attempts = palloc(sizeof(int32) * n);
	Datum *hedges = palloc(sizeof(Datum) * n);
	Datum args[4];
	bool isnull;
	int found;

	for (int i = 0; i < n; i++)
	{
		tenants[i] = (char *) calls[i].tenant;
		ids[i] = calls[i].task_id;
		attempts[i] = calls[i].attempt;
		hedges[i] = BoolGetDatum(calls[i].hedge);
	}
	args[0] = eduai_core_text_array(tenants, n);
	args[1] = eduai_core_int8_array(ids, NULL, n);
	args[2] = eduai_core_int4_array(attempts, NULL, n);
	args[3] = eduai_core_datum_array(hedges, NULL, n, BOOLOID);
	found = (int) eduai_core_run(&take, args, NULL);
	*rows = palloc0(sizeof(BudgetReservation) * Max(found, 1));
	*which = palloc(sizeof(int) * Max(found, 1));
	for (int i = 0; i < found; i++)
	{
		BudgetReservation *r = &(*rows)[i];

		(*which)[i] = (int) eduai_core_int64(i, 1, 1) - 1;
		r->subject.tenant = calls[(*which)[i]].tenant;
		r->subject.user_id = eduai_core_text(i, 2);
		r->subject.task_type = eduai_core_text(i, 3);
		r->subject.provider = eduai_core_text(i, 4);
		r->bound_usd = DatumGetNumericCopy(eduai_core_value(i, 5, &isnull));
		r->reserved_at = DatumGetTimestampTz(eduai_core_value(i, 6, &isnull));
	}
	return found;
}

void
eduai_gateway_budget_settle(BudgetCall *calls, int n)
{
	BudgetReservation *rows;
	int *which;
	int found;

	for (int i = 0; i < n; i++)
		calls[i].bound_usd = NULL;
	if (n == 0 || eduai_gateway_budget_book_empty())
		return;
	found = take_reservations(calls, n, &rows, &which);
	eduai_gateway_budget_deleted(found);
	for (int i = 0; i < found; i++)
		settle_one(&calls[which[i]], &rows[i]);
	eduai_gateway_budget_write_sums();
}

/*
 * What nobody will end: its dispatcher died, and its task does not run.  Second
 * calls of attempts have a record of their own that is followed (hedge.h).
 */
static int
find_forgotten(BudgetCall **calls)
{
	static EduaiPlan select = {
		"SELECT r.tenant_id, r.task_id, r.attempt, r.hedge FROM eduai.budget_reservation r "
		"WHERE r.dispatcher <> $1 AND NOT EXISTS (SELECT FROM eduai.task_live l "
		"WHERE l.tenant_id = r.tenant_id AND l.task_id = r.task_id AND l.attempt = r.attempt "
		"AND l.state = 'running') AND NOT (r.hedge AND EXISTS (SELECT FROM eduai.provider_hedge h "
		"WHERE h.tenant_id = r.tenant_id AND h.task_id = r.task_id AND h.attempt = r.attempt)) "
		"LIMIT " CppAsString2(FORGOTTEN_BATCH),
		1,
		{INT8OID}};
	Datum args[1] = {Int64GetDatum(eduai_core_worker_epoch())};
	int n = (int) eduai_core_run(&select, args, NULL);
	bool isnull;

	*calls = palloc0(sizeof(BudgetCall) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		(*calls)[i].tenant = eduai_core_text(i, 1);
		(*calls)[i].task_id = eduai_core_int64(i, 2, 0);
		(*calls)[i].attempt = (int) eduai_core_int64(i, 3, 0);
		(*calls)[i].hedge = DatumGetBool(eduai_core_value(i, 4, &isnull));
	}
	return n;
}

static void
enter_forgotten(const BudgetCall *call)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.provider_call (tenant_id, task_id, attempt, hedge, instance, provider, "
		"model, user_id, task_type, cost_usd, bound_usd, counted_usd, outcome, code, started_at) "
		"SELECT tenant_id, task_id, attempt, hedge, nullif(instance, ''), nullif(provider, ''), "
		"nullif(model, ''), user_id, task_type, 0, bound_usd, bound_usd, 'uncertain', "
		"'uncertain', reserved_at FROM eduai.budget_reservation "
		"WHERE tenant_id = $1 AND task_id = $2 AND attempt = $3 AND hedge = $4 ON CONFLICT DO NOTHING",
		4,
		{TEXTOID, INT8OID, INT4OID, BOOLOID}};
	Datum args[4];

	args[0] = CStringGetTextDatum(call->tenant);
	args[1] = Int64GetDatum(call->task_id);
	args[2] = Int32GetDatum(call->attempt);
	args[3] = BoolGetDatum(call->hedge);
	eduai_core_run(&insert, args, NULL);
}

void
eduai_gateway_budget_settle_forgotten(void)
{
	BudgetCall *calls;
	int n;

	if (eduai_gateway_budget_book_empty())
		return;
	n = find_forgotten(&calls);
	for (int i = 0; i < n; i++)
		enter_forgotten(&calls[i]);
	eduai_gateway_budget_settle(calls, n);
}

/* ---- pace ---- */

double
eduai_gateway_budget_pressure_of(double spent_share, double elapsed_share)
{
	double left = 1 - spent_share;
	double time_left = 1 - elapsed_share;

	if (!(left > 0))
		return 1;
	if (time_left <= left)
		return 0;
	return 1 - left / time_left;
}

static double
pressure_of(const Budget *b, const BudgetSum *sum, TimestampTz now)
{
	BudgetPeriod period =
		eduai_gateway_budget_period(&b->per, now, eduai_gateway_budget_timezone());
	double usd = to_double(b->usd);
	double elapsed =
		(double) (now - period.starts_at) / (double) (period.ends_at - period.starts_at);

	if (usd <= 0)
		return 1;
	return eduai_gateway_budget_pressure_of(to_double(budget_plus(sum->spent, sum->reserved)) / usd,
											elapsed);
}

double
eduai_gateway_budget_pressure(const char *tenant, const char *user_id, const char *provider,
							  const char *task_type)
{
	BudgetSubject subject = {tenant, user_id, provider, task_type};
	TimestampTz now = 0;
	double worst = 0;

	for (int i = 0; (i = eduai_gateway_budget_next(&subject, true, i)) != 0;)
	{
		const Budget *b = eduai_gateway_budget_at(i - 1);

		if (now == 0)
			now = eduai_core_now();
		worst = Max(worst, pressure_of(b,
									   eduai_gateway_budget_sum(
										   i - 1, &subject,
										   eduai_gateway_budget_period(
											   &b->per, now, eduai_gateway_budget_timezone())
											   .starts_at),
									   now));
	}
	return worst;
}

/* ---- the room ---- */

void
eduai_gateway_budget_init(void)
{
	static const EduaiXactHooks hooks = {.name = "reservations",
										 .rank = EDUAI_RANK_GATEWAY,
										 .pre_commit = check_written,
										 .abort = forget_pending};

	eduai_gateway_budget_period_init();
	eduai_gateway_budget_book_init();
	eduai_core_xact_register(&hooks);
	eduai_gateway_budget_admit_init();
}
