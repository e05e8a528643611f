/*
 * hedge.c: second calls of attempts; see hedge.h.
 *
 * How many there may be is an allowance: each call that could be hedged adds
 * eduai.hedge_max_percent of one, each hedge takes one.  It begins with one
 * and holds ten at most, so that a quiet day does not pay for a storm.
 *
 * The wait is a time and not a quantile of the instance's own latency: it is
 * the patience of somebody who waits; it holds from the first call on; and a
 * quantile grows with the very slowness that hedges are against.  What a
 * quantile is for, a bound of the extra load, the allowance gives.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/worker.h"
#include "gateway/dispatch_place.h"
#include "gateway/hedge.h"
#include "gateway/line.h"
#include "gateway/stand.h"
#include "gateway/transfer.h"
#include "queue/task.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MOST_ALLOWED 10.0
#define MOST_IN_TURN 64 /* the others are asked in the next turn */

int eduai_gateway_hedge_after_ms = 0;

static int max_percent = 5;
static double allowed = 1;

/* of calls that may be hedged and were not asked yet, in the order in which they left */
static dlist_head watched = DLIST_STATIC_INIT(watched);
/* of first calls that have a partner, while neither spoke or ended */
static dlist_head racing = DLIST_STATIC_INIT(racing);

/* chosen in this transaction */
static Flight *chosen[MOST_IN_TURN];
static int nchosen = 0;

void
eduai_gateway_hedge_init(void)
{
	DefineCustomIntVariable(
		"eduai.hedge_after",
		"How long a critical chat may be without an answer until another instance is asked, too.",
		"Both calls may have to be paid. 0: never.", &eduai_gateway_hedge_after_ms, 0, 0, 3600000,
		PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("eduai.hedge_max_percent",
							"The most second calls, in percent of the calls of critical chats.",
							NULL, &max_percent, 5, 0, 100, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* ---- who is watched ---- */

static bool
may_be_hedged(const RouteAsk *ask, const Instance *instance)
{
	return eduai_gateway_hedge_after_ms > 0 && max_percent > 0 && ask->priority == 0 &&
		   strcmp(ask->task_type, "chat") == 0 && !instance->provider->webhook;
}

void
eduai_gateway_hedge_watch(Flight *f)
{
	f->left_us = eduai_core_mono_us();
	if (f->hedge || !may_be_hedged(&f->ask, f->call.instance))
		return;
	allowed = Min(allowed + max_percent / 100.0, MOST_ALLOWED);
	dlist_push_tail(&watched, &f->watch_node);
	f->watched = true;
}

static void
unwatch(Flight *f)
{
	if (f->watched)
		dlist_delete(&f->watch_node);
	f->watched = false;
}

static int64
due_us(const Flight *f)
{
	return f->left_us + eduai_gateway_hedge_after_ms * INT64CONST(1000);
}

int64
eduai_gateway_hedge_next_us(void)
{
	if (eduai_gateway_hedge_after_ms == 0 || dlist_is_empty(&watched))
		return INT64_MAX;
	return due_us(dlist_head_element(Flight, watch_node, &watched));
}

/* ---- choosing ---- */

static bool
is_elsewhere(const Instance *one, const Instance *other)
{
	return strcmp(one->provider->name, other->provider->name) != 0 &&
		   !eduai_gateway_line_is_same_host(one->provider->base_url, other->provider->base_url);
}

/* As good as a first call's: no probe, none that failed the task. */
static bool
may_take(const RouteOption *o, const Instance *first)
{
	return is_elsewhere(first, o->instance) && !o->instance->provider->webhook &&
		   o->rank == RANK_FRESH && o->stand.breaker == BREAKER_CLOSED && o->tokens >= 0;
}

bool
eduai_gateway_hedge_foresee(const RouteDecision *d, const RouteAsk *ask, const Instance **second,
							int *most)
{
	const Instance *first = d->options[d->order[0]].instance;

	*second = NULL;
	*most = max_percent;
	for (int k = 1; k < d->norder && *second == NULL; k++)
		if (may_take(&d->options[d->order[k]], first))
			*second = d->options[d->order[k]].instance;
	return may_be_hedged(ask, first);
}

static bool
reserve(const Flight *f, const Instance *instance)
{
	BudgetAsk ask = {.tenant = f->call.tenant,
					 .user_id = f->call.user_id,
					 .task_type = f->call.task_type,
					 .instance = instance,
					 .task_id = f->call.task_id,
					 .attempt = f->call.attempt,
					 .hedge = true,
					 .patient = true};
	BudgetAnswer answer;

	return eduai_gateway_place_reserve(&ask, f->call.payload, &answer) == BUDGET_OK;
}

/* It lives until both calls are recorded, and uses what the first one has. */
static Flight *
make(Flight *first, const RouteOption *o, int64 timeout_ms)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "eduai hedge", ALLOCSET_SMALL_SIZES);
	Flight *f = MemoryContextAllocZero(context, sizeof(Flight));

	f->call = first->call;
	f->call.context = context;
	f->call.instance = o->instance;
	f->call.tokens = o->tokens;
	f->call.probe = false;
	f->call.timeout_ms = timeout_ms;
	f->call.muted = true;
	f->tid = first->tid;
	f->pool = first->pool;
	f->ask = first->ask;
	f->started_at = eduai_core_now();
	f->hedge = true;
	f->partner = first;
	return f;
}

/* What was taken is given back when it cannot be had whole. */
static Flight *
enter(Flight *first, const RouteOption *o, int64 now_us, int64 timeout_ms)
{
	bool probe;
	Flight *f;

	if (!eduai_gateway_stand_enter(o->instance, o->tokens, now_us, &probe))
		return NULL;
	/* noted before anything can raise: an abort gives it back */
	f = make(first, o, timeout_ms);
	f->call.probe = probe;
	o->instance->fleet->refs++;
	chosen[nchosen++] = f;
	if (!probe && reserve(first, o->instance))
		return f;
	nchosen--;
	eduai_gateway_stand_take_back(o->instance, o->tokens, now_us, probe);
	o->instance->fleet->refs--;
	MemoryContextDelete(f->call.context);
	return NULL;
}

static void
choose(Fleet *fleet, Flight *first)
{
	BalanceState state = {0};
	RouteNow now = {.now_us = eduai_core_mono_us(),
					.now = eduai_core_now(),
					.random = eduai_core_random_unit(),
					.algorithm = (BalanceAlgorithm) eduai_gateway_balancer,
					.state = &state,
					.look = eduai_gateway_stand_look};
	RouteAsk ask = first->ask;
	RouteDecision d;
	int64 left_ms = first->call.timeout_ms - (now.now_us - first->left_us) / 1000;

	if (left_ms <= 0)
		return;
	ask.deadline_us = left_ms * 1000;
	eduai_gateway_route(fleet, &ask, &now, &d);
	for (int k = 0; k < d.norder; k++)
	{
		const RouteOption *o = &d.options[d.order[k]];

		if (may_take(o, first->call.instance) && enter(first, o, now.now_us, left_ms) != NULL)
		{
			allowed -= 1;
			return;
		}
	}
}

static void
record(void)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.provider_hedge (tenant_id, task_id, attempt, instance, provider, model, "
		"started_at, dispatcher) SELECT l.*, $8 FROM unnest($1, $2, $3, $4, $5, $6, $7) l",
		8,
		{TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
		 TIMESTAMPTZARRAYOID, INT8OID}};
	char *texts[4][MOST_IN_TURN];
	int64 ids[MOST_IN_TURN];
	int32 attempts[MOST_IN_TURN];
	Datum times[MOST_IN_TURN];
	Datum args[8];

	for (int i = 0; i < nchosen; i++)
	{
		const GatewayCall *call = &chosen[i]->call;

		texts[0][i] = call->tenant;
		texts[1][i] = call->instance->name;
		texts[2][i] = call->instance->provider->name;
		texts[3][i] = call->instance->model;
		ids[i] = call->task_id;
		attempts[i] = call->attempt;
		times[i] = TimestampTzGetDatum(chosen[i]->started_at);
	}
	args[0] = eduai_core_text_array(texts[0], nchosen);
	args[1] = eduai_core_int8_array(ids, NULL, nchosen);
	args[2] = eduai_core_int4_array(attempts, NULL, nchosen);
	for (int k = 1; k < 4; k++)
		args[2 + k] = eduai_core_text_array(texts[k], nchosen);
	args[6] = eduai_core_datum_array(times, NULL, nchosen, TIMESTAMPTZOID);
	args[7] = Int64GetDatum(eduai_core_worker_epoch());
	eduai_core_run(&insert, args, NULL);
}

void
eduai_gateway_hedge_claim(Fleet *fleet)
{
	int64 now_us = eduai_core_mono_us();

	nchosen = 0;
	while (nchosen < MOST_IN_TURN && eduai_gateway_hedge_next_us() <= now_us)
	{
		Flight *f = dlist_head_element(Flight, watch_node, &watched);

		unwatch(f);
		if (allowed >= 1 && fleet->adopted && eduai_gateway_transfer_is_silent(&f->call))
			choose(fleet, f);
	}
	if (nchosen > 0)
		record();
}

void
eduai_gateway_hedge_forget(void)
{
	int64 now_us = eduai_core_mono_us();

	while (nchosen > 0)
	{
		Flight *f = chosen[--nchosen];

		allowed = Min(allowed + 1, MOST_ALLOWED);
		eduai_gateway_stand_take_back(f->call.instance, f->call.tokens, now_us, f->call.probe);
		f->call.instance->fleet->refs--;
		MemoryContextDelete(f->call.context);
	}
	/* those that were not come to, or turns would follow each other without a rest */
	while (eduai_gateway_hedge_next_us() <= now_us)
		unwatch(dlist_head_element(Flight, watch_node, &watched));
}

int
eduai_gateway_hedge_start(void)
{
	int n = nchosen;

	for (int i = 0; i < n; i++)
	{
		Flight *f = chosen[i];

		f->left_us = eduai_core_mono_us();
		f->partner->partner = f;
		f->partner->call.muted = true;
		dlist_push_tail(&racing, &f->watch_node);
		f->watched = true;
		eduai_gateway_transfer_start(&f->call);
	}
	nchosen = 0;
	return n;
}

/* ---- the race ---- */

/* Its instance was too slow this time, which its averages should know. */
static void
give_up(Flight *f)
{
	int64 now_us = eduai_core_mono_us();
	bool silent = eduai_gateway_transfer_is_silent(&f->call);

	if (!eduai_gateway_transfer_give_up(&f->call))
		return;
	f->lost = true;
	if (silent)
		eduai_gateway_stand_gave_up(f->call.instance, now_us - f->left_us, now_us);
}

void
eduai_gateway_hedge_listen(void)
{
	dlist_mutable_iter i;

	dlist_foreach_modify (i, &racing)
	{
		Flight *hedge = dlist_container(Flight, watch_node, i.cur);
		Flight *speaks = eduai_gateway_transfer_speaks(&hedge->partner->call) ? hedge->partner
						 : eduai_gateway_transfer_speaks(&hedge->call)        ? hedge
																			  : NULL;

		if (speaks == NULL)
			continue;
		unwatch(hedge);
		speaks->call.muted = false;
		give_up(speaks->partner);
	}
}

static bool
is_complete(const Flight *f)
{
	return f->outcome->verdict == CALL_COMPLETED;
}

/* Both ended, f the later: the outcome of which one is the attempt's? */
static Flight *
winner(Flight *f, Flight *other)
{
	if (is_complete(other))
		return other;
	if (is_complete(f))
		return f;
	return f->outcome->verdict == CALL_CANCELLED ? other : f;
}

Flight *
eduai_gateway_hedge_ended(Flight *f)
{
	Flight *other = f->partner;

	unwatch(f);
	if (f->lost && f->outcome->verdict == CALL_CANCELLED)
	{
		f->outcome->code = "hedge_lost";
		f->outcome->message = "the other call of the attempt was faster";
	}
	if (other == NULL)
		return f;
	if (other->outcome != NULL)
		return winner(f, other);
	unwatch(other);
	other->call.muted = false;
	if (is_complete(f))
		give_up(other);
	return NULL;
}

/* ---- records ---- */

void
eduai_gateway_hedge_delete(char *const *tenants, int64 *task_ids, int32 *attempts, int n)
{
	static EduaiPlan delete = {
		"DELETE FROM eduai.provider_hedge h USING unnest($1, $2, $3) c (tenant_id, task_id, attempt) "
		"WHERE h.tenant_id = c.tenant_id AND h.task_id = c.task_id AND h.attempt = c.attempt",
		3,
		{TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID}};
	Datum args[3] = {eduai_core_text_array(tenants, n), eduai_core_int8_array(task_ids, NULL, n),
					 eduai_core_int4_array(attempts, NULL, n)};

	eduai_core_run(&delete, args, NULL);
}

int
eduai_gateway_hedge_take_orphans(int most, HedgeRecord **records)
{
	static EduaiPlan take = {
		"DELETE FROM eduai.provider_hedge h USING (SELECT o.tenant_id, o.task_id, o.attempt "
		"FROM eduai.provider_hedge o WHERE o.dispatcher <> $1 LIMIT $2) x "
		"WHERE h.tenant_id = x.tenant_id AND h.task_id = x.task_id AND h.attempt = x.attempt "
		"RETURNING h.tenant_id, h.task_id, h.attempt, h.instance, h.provider, h.model, "
		"h.started_at",
		2,
		{INT8OID, INT8OID}};
	Datum args[2] = {Int64GetDatum(eduai_core_worker_epoch()), Int64GetDatum(most)};
	int n = (int) eduai_core_run(&take, args, NULL);
	bool isnull;

	*records = palloc0(sizeof(HedgeRecord) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*records)[i] =
			(HedgeRecord){.tenant = eduai_core_text(i, 1),
						  .task_id = eduai_core_int64(i, 2, 0),
						  .attempt = (int) eduai_core_int64(i, 3, 0),
						  .instance = eduai_core_text(i, 4),
						  .provider = eduai_core_text(i, 5),
						  .model = eduai_core_text(i, 6),
						  .started_at = DatumGetTimestampTz(eduai_core_value(i, 7, &isnull))};
	return n;
}
