/*
 * record.c: the ledger, and the queue told of results.  See record.h.
 *
 * A row per call goes to eduai.provider_call whatever became of the task: an
 * answer that came too late was paid for all the same.
 */
#include "core/personal.h"
#include "postgres.h"

#include "core/clock.h"
#include "gateway/budget.h"
#include "gateway/attachments.h"
#include "gateway/hedge.h"
#include "gateway/ledger.h"
#include "gateway/record.h"
#include "gateway/route.h"
#include "queue/orphan.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define ORPHAN_BATCH        500
#define HANDLER_PATIENCE_US (60 * INT64CONST(1000000))

/* what is to follow a failure: at once elsewhere, later, or nothing */
static void
fill_next(const Fleet *fleet, const Flight *f, TaskOutcome *o)
{
	const CallOutcome *r = f->outcome;
	const char *name = f->call.instance->name;
	RouteAsk ask = f->ask;
	RouteNext next = NEXT_LATER;
	bool alone = true;

	o->retry = r->verdict == CALL_RETRY;
	if (fleet == NULL)
		return;
	ask.failures = palloc(sizeof(RouteFailure) * (ask.nfailures + 2));
	for (int i = 0; i < ask.nfailures; i++)
		ask.failures[i] = f->ask.failures[i];
	if (o->also_code != NULL)
		ask.failures[ask.nfailures++] = (RouteFailure){o->also_instance, o->also_code, 0};
	ask.failures[ask.nfailures++] = (RouteFailure){name, r->code, 0};
	next = eduai_gateway_route_next(fleet, &ask, name, o->retry, &alone);
	o->retry = next != NEXT_NOWHERE;
	o->at_once = next == NEXT_AT_ONCE;
	/* another instance need not wait for what this one wishes */
	if (!alone)
		o->retry_after_ms = -1;
}

/* the other call of the attempt */
static void
fill_partner(const Flight *f, TaskOutcome *o)
{
	const Flight *other = f->partner;

	o->cost_usd = numeric_add_opt_error(o->cost_usd, other->outcome->cost_usd, NULL);
	if (other->outcome->verdict == CALL_COMPLETED || other->outcome->verdict == CALL_CANCELLED)
		return;
	o->also_code = other->outcome->code;
	o->also_message = other->outcome->message;
	o->also_instance = other->call.instance->name;
}

/* what the queue is told; which failures another attempt may mend is decided here */
static void
fill_outcome(const Fleet *fleet, const Flight *f, TaskOutcome *o)
{
	const GatewayCall *call = &f->call;
	const CallOutcome *r = f->outcome;

	memset(o, 0, sizeof(*o));
	o->tenant = call->tenant;
	o->task_id = call->task_id;
	o->attempt = call->attempt;
	o->tid = f->tid;
	o->instance = call->instance->name;
	o->end = r->verdict == CALL_COMPLETED ? ATTEMPT_COMPLETED : ATTEMPT_FAILED;
	o->code = r->code;
	o->message = r->message;
	o->http_status = r->http_status;
	o->cost_usd = r->cost_usd;
	o->result = r->result;
	o->retry_after_ms = r->retry_after_ms;
	if (f->partner != NULL)
		fill_partner(f, o);
	o->patience_over = f->tries > 0 && eduai_core_mono_us() - f->ended_us > HANDLER_PATIENCE_US;
	if (o->end == ATTEMPT_COMPLETED || r->verdict == CALL_FATAL)
		return;
	fill_next(fleet, f, o);
}

static const char *
ledger_outcome(const Flight *f, FinishStatus status)
{
	if (f->outcome->verdict == CALL_CANCELLED)
		return "cancelled";
	if (status == FINISH_STALE)
		return "refused";
	return f->outcome->verdict == CALL_COMPLETED ? "completed" : "failed";
}

static void
fill_ledger(const Flight *f, FinishStatus status, LedgerRow *row)
{
	const CallOutcome *r = f->outcome;

	memset(row, 0, sizeof(*row));
	row->tenant = f->call.tenant;
	row->task_id = f->call.task_id;
	row->attempt = f->call.attempt;
	row->hedge = f->hedge;
	row->instance = f->call.instance->name;
	row->provider = f->call.instance->provider->name;
	row->task_type = f->call.task_type;
	/* an answer that comes in after the learner was erased */
	row->user_id =
		eduai_core_personal_erased(f->call.tenant, f->call.user_id) ? NULL : f->call.user_id;
	row->model = r->model ? r->model : f->call.instance->model;
	row->tokens_in = r->tokens_in;
	row->tokens_cached = r->tokens_cached;
	row->tokens_cache_write = r->tokens_cache_write;
	row->tokens_out = r->tokens_out;
	row->tokens_reasoning = r->tokens_reasoning;
	row->images = r->images;
	row->audio_ms = r->audio_ms;
	row->cost_usd = r->cost_usd;
	row->outcome = ledger_outcome(f, status);
	row->code = r->verdict == CALL_COMPLETED ? NULL : r->code;
	row->http_status = r->http_status;
	row->request_id = r->request_id;
	row->started_at = f->started_at;
	row->duration_us = r->duration_us;
	row->first_byte_us = r->first_byte_us;
}

/* NULL: nobody knows what it cost */
static Numeric
known_cost(const CallOutcome *outcome)
{
	return eduai_gateway_cost_is_known(outcome) ? outcome->cost_usd : NULL;
}

/*
 * What budgets make of a call.  One of unknown cost counts at its bound, also
 * for budgets that are set later.
 */
static void
put_money(const GatewayCall *call, const BudgetCall *settled, LedgerRow *row)
{
	row->bound_usd = settled->bound_usd;
	if (settled->cost_usd != NULL)
		return;
	row->counted_usd = settled->bound_usd;
	if (row->counted_usd == NULL && call != NULL)
		row->counted_usd =
			eduai_gateway_cost_bound(call->instance, call->task_type, call->payload, NULL, NULL);
}

/* Calls that are to be in the ledger, with what their attempts came to. */
typedef struct Entries
{
	LedgerRow *rows;
	BudgetCall *calls;
	const Flight **flights;
	int n;
	/* second calls of attempts, whose records go */
	char **tenants;
	int64 *task_ids;
	int32 *attempts;
	int nhedges;
} Entries;

static void
begin_entries(Entries *e, int n)
{
	e->rows = palloc(sizeof(LedgerRow) * n);
	e->calls = palloc0(sizeof(BudgetCall) * n);
	e->flights = palloc(sizeof(Flight *) * n);
	e->tenants = palloc(sizeof(char *) * n);
	e->task_ids = palloc(sizeof(int64) * n);
	e->attempts = palloc(sizeof(int32) * n);
	e->n = e->nhedges = 0;
}

static void
enter(Entries *e, const Flight *f, FinishStatus status)
{
	e->calls[e->n] = (BudgetCall){.tenant = f->call.tenant,
								  .task_id = f->call.task_id,
								  .attempt = f->call.attempt,
								  .hedge = f->hedge,
								  .cost_usd = known_cost(f->outcome)};
	e->flights[e->n] = f;
	fill_ledger(f, status, &e->rows[e->n++]);
	if (!f->hedge)
		return;
	e->tenants[e->nhedges] = f->call.tenant;
	e->task_ids[e->nhedges] = f->call.task_id;
	e->attempts[e->nhedges++] = f->call.attempt;
}

static void
write_entries(Entries *e)
{
	if (e->n == 0)
		return;
	eduai_gateway_budget_settle(e->calls, e->n);
	for (int i = 0; i < e->n; i++)
		put_money(&e->flights[i]->call, &e->calls[i], &e->rows[i]);
	eduai_gateway_ledger_insert(e->rows, e->n);
	if (e->nhedges > 0)
		eduai_gateway_hedge_delete(e->tenants, e->task_ids, e->attempts, e->nhedges);
}

void
eduai_gateway_record(const Fleet *fleet, Flight **flights, int n, bool *done)
{
	TaskOutcome *outcomes = palloc(sizeof(TaskOutcome) * n);
	Entries entries;

	begin_entries(&entries, 2 * n);

	for (int i = 0; i < n; i++)
	{
		eduai_gateway_pictures_keep(&flights[i]->call, flights[i]->outcome);
		fill_outcome(fleet, flights[i], &outcomes[i]);
	}
	eduai_queue_finish(outcomes, n, true);
	for (int i = 0; i < n; i++)
	{
		if (outcomes[i].status != FINISH_RECORDED)
			eduai_gateway_pictures_unkeep(&flights[i]->call, flights[i]->outcome);
		done[i] = outcomes[i].status != FINISH_BUSY;
		flights[i]->tid = outcomes[i].tid; /* it may have moved */
		if (!done[i])
			continue;
		enter(&entries, flights[i], outcomes[i].status);
		/* an answer of the other call has no task to go to */
		if (flights[i]->partner != NULL)
			enter(&entries, flights[i]->partner,
				  flights[i]->partner->outcome->verdict == CALL_COMPLETED ? FINISH_STALE
																		  : FINISH_RECORDED);
	}
	write_entries(&entries);
}

static void
fill_orphan(const Orphan *orphan, TaskOutcome *o)
{
	memset(o, 0, sizeof(*o));
	o->tenant = orphan->tenant;
	o->task_id = orphan->task_id;
	o->attempt = orphan->attempt;
	o->tid = orphan->tid;
	o->instance = orphan->instance;
	o->at_once = true;
	o->retry_after_ms = -1;
	o->cost_usd = int64_to_numeric(0);
	if (orphan->leased)
	{
		o->end = ATTEMPT_FAILED;
		o->retry = true;
		o->code = "lease_lapsed";
		o->message = "the task was restored while a worker had it";
		return;
	}
	o->end = ATTEMPT_UNCERTAIN;
	o->code = "uncertain";
	o->message = "the dispatcher ended while the provider was being called";
}

static void
fill_orphan_ledger(const Orphan *orphan, LedgerRow *row)
{
	memset(row, 0, sizeof(*row));
	row->tenant = orphan->tenant;
	row->task_id = orphan->task_id;
	row->attempt = orphan->attempt;
	row->instance = orphan->instance;
	row->model = orphan->model;
	row->tokens_in = row->tokens_cached = row->tokens_cache_write = -1;
	row->tokens_out = row->tokens_reasoning = row->images = row->audio_ms = -1;
	row->cost_usd = int64_to_numeric(0);
	row->outcome = "uncertain";
	row->code = "uncertain";
	row->started_at = orphan->started_at;
	row->duration_us = row->first_byte_us = -1;
}

static void
record_all(const Orphan *orphans, int n)
{
	TaskOutcome *outcomes = palloc(sizeof(TaskOutcome) * Max(n, 1));
	LedgerRow *rows = palloc(sizeof(LedgerRow) * Max(n, 1));
	BudgetCall *calls = palloc0(sizeof(BudgetCall) * Max(n, 1));
	int nrows = 0;

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		fill_orphan(&orphans[i], &outcomes[i]);
	eduai_queue_finish(outcomes, n, true);
	for (int i = 0; i < n; i++)
	{
		/* a reservation of one that has ended otherwise is forgotten: see budget.h */
		if (orphans[i].leased || outcomes[i].status != FINISH_RECORDED)
			continue;
		/* nobody knows what it cost: its bound counts as spent */
		calls[nrows] = (BudgetCall){.tenant = orphans[i].tenant,
									.task_id = orphans[i].task_id,
									.attempt = orphans[i].attempt};
		fill_orphan_ledger(&orphans[i], &rows[nrows++]);
	}
	if (nrows == 0)
		return;
	eduai_gateway_budget_settle(calls, nrows);
	for (int i = 0; i < nrows; i++)
		put_money(NULL, &calls[i], &rows[i]);
	eduai_gateway_ledger_insert(rows, nrows);
}

/* second calls of attempts */
static int
record_hedges(void)
{
	HedgeRecord *records;
	int n = eduai_gateway_hedge_take_orphans(ORPHAN_BATCH, &records);
	LedgerRow *rows = palloc(sizeof(LedgerRow) * Max(n, 1));
	BudgetCall *calls = palloc0(sizeof(BudgetCall) * Max(n, 1));

	if (n == 0)
		return 0;
	for (int i = 0; i < n; i++)
	{
		const HedgeRecord *h = &records[i];
		Orphan orphan = {.tenant = h->tenant,
						 .task_id = h->task_id,
						 .attempt = h->attempt,
						 .instance = h->instance,
						 .model = h->model,
						 .started_at = h->started_at};

		calls[i] = (BudgetCall){
			.tenant = h->tenant, .task_id = h->task_id, .attempt = h->attempt, .hedge = true};
		fill_orphan_ledger(&orphan, &rows[i]);
		rows[i].provider = h->provider;
		rows[i].hedge = true;
	}
	eduai_gateway_budget_settle(calls, n);
	for (int i = 0; i < n; i++)
		put_money(NULL, &calls[i], &rows[i]);
	eduai_gateway_ledger_insert(rows, n);
	return n;
}

int
eduai_gateway_record_orphans(void)
{
	Orphan *orphans;
	int n = eduai_queue_orphans(ORPHAN_BATCH, &orphans);

	record_all(orphans, n);
	return n + record_hedges();
}

int
eduai_gateway_record_forgotten(void)
{
	Orphan *orphans;
	int n = eduai_queue_forgotten(ORPHAN_BATCH, &orphans);

	record_all(orphans, n);
	return n + record_hedges();
}
