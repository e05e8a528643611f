/*
 * dispatch_place.c: where a task goes, if it may start now.
 *
 * The router says who could take it (route.h).  The best that lets it in
 * (stand.h: room, breaker, rate limits) and that the budgets allow gets it.
 * What was taken for a task is given back when its claim or the transaction
 * fails.
 */
#include "postgres.h"

#include "core/clock.h"
#include "gateway/budget.h"
#include "gateway/dispatch.h"
#include "gateway/dispatch_place.h"
#include "gateway/parents.h"
#include "gateway/route_trace.h"
#include "gateway/stand.h"
#include "queue/enqueue.h"
#include "utils/memutils.h"

#define BUSY_MS    100 /* the least until one that waits for busy instances is tried again */
#define BUSY_MOST  5000
#define CONFIG_MS  5000 /* ... for what only a change of the fleet or another call's end brings */
#define SOONEST_US 1000 /* a time that is over must not make a busy loop */

static Placement placements[CLAIM_BATCH];
static int nplacements = 0;
static MemoryContext placements_context = NULL; /* of their failures */
static BalanceState balance = {0};
static int64 claim_at_us = INT64_MAX;
static int waiting = 0; /* tasks that this claim has deferred for busy instances */

void
eduai_gateway_place_begin(void)
{
	if (placements_context == NULL)
		placements_context =
			AllocSetContextCreate(TopMemoryContext, "eduai placements", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(placements_context);
	nplacements = 0;
	claim_at_us = INT64_MAX;
	waiting = 0;
}

const Placement *
eduai_gateway_placement(int n)
{
	Assert(n < nplacements);
	return &placements[n];
}

int64
eduai_gateway_dispatch_claim_at_us(void)
{
	return claim_at_us;
}

RouteFailure *
eduai_gateway_copy_failures(const RouteAsk *ask)
{
	RouteFailure *copies = NULL;

	if (ask->nfailures > 0)
		copies = palloc(sizeof(RouteFailure) * ask->nfailures);
	for (int i = 0; i < ask->nfailures; i++)
		copies[i] = (RouteFailure){pstrdup(ask->failures[i].instance),
								   pstrdup(ask->failures[i].code), ask->failures[i].at};
	return copies;
}

/* ---- placing ---- */

/* What limits and budgets said of the instances that were asked. */
typedef struct Refusals
{
	bool limited;
	int64 limit_us; /* monotonic: when a limit lets it in, INT64_MAX: when a call has ended */
	/* the mildest of the budgets' verdicts; BUDGET_OK: none was asked, or none refused */
	BudgetVerdict verdict;
	BudgetAnswer answer;
} Refusals;

static void
give_back(const Placement *p)
{
	eduai_gateway_stand_take_back(p->instance, p->tokens, eduai_core_mono_us(), p->probe);
}

BudgetVerdict
eduai_gateway_place_reserve(BudgetAsk *ask, const Jsonb *payload, BudgetAnswer *answer)
{
	BudgetAudio audio;
	bool has_audio;

	if (!eduai_gateway_budget_any(ask->tenant, ask->user_id, ask->instance->provider->name,
								  ask->task_type))
		return BUDGET_OK;
	has_audio = eduai_gateway_budget_audio(ask->tenant, payload, &audio);
	ask->bound_usd = eduai_gateway_cost_bound(ask->instance, ask->task_type, payload,
											  has_audio ? &audio : NULL, &ask->why_unbounded);
	return eduai_gateway_budget_reserve(ask, answer);
}

static BudgetVerdict
reserve(const Candidate *c, const Instance *instance, BudgetAnswer *answer)
{
	BudgetAsk ask = {.tenant = c->tenant,
					 .user_id = c->user_id,
					 .task_type = c->task_type,
					 .instance = instance,
					 .task_id = c->task_id,
					 .attempt = c->attempt,
					 .patient = eduai_gateway_budget_is_patient(c->metadata)};

	return eduai_gateway_place_reserve(&ask, c->payload, answer);
}

static void
place(const Candidate *c, const RouteAsk *ask, const RouteOption *o, bool probe)
{
	Placement *p = &placements[nplacements++];
	MemoryContext old = MemoryContextSwitchTo(placements_context);

	*p = (Placement){.task_id = c->task_id,
					 .attempt = c->attempt,
					 .instance = o->instance,
					 .tokens = o->tokens,
					 .probe = probe,
					 .ask = *ask};
	p->ask.failures = eduai_gateway_copy_failures(ask);
	MemoryContextSwitchTo(old);
}

/*
 * May it go there?  Counts it there if so, and notes why not otherwise.  What
 * it took is noted before anything can raise: an abort gives it back.
 */
static bool
enter(const Candidate *c, const RouteAsk *ask, RouteOption *o, int64 now_us, Refusals *why)
{
	BudgetAnswer answer = {0};
	BudgetVerdict verdict;
	bool probe;

	o->out = OUT_REFUSED;
	if (!eduai_gateway_stand_enter(o->instance, o->tokens, now_us, &probe))
	{
		int64 opens_us = eduai_gateway_stand_opens_us(o->instance, o->tokens, now_us);

		why->limit_us = why->limited ? Min(why->limit_us, opens_us) : opens_us;
		why->limited = true;
		return false;
	}
	place(c, ask, o, probe);
	verdict = reserve(c, o->instance, &answer);
	if (verdict == BUDGET_OK)
	{
		o->out = ROUTE_IN;
		return true;
	}
	give_back(&placements[--nplacements]);
	if (why->verdict == BUDGET_OK || verdict < why->verdict ||
		(verdict == why->verdict && answer.until < why->answer.until))
	{
		why->verdict = verdict;
		why->answer = answer;
	}
	return false;
}

/* The best that lets it in; NULL: none does, or the cheapest is to be asked first. */
static RouteOption *
take_first(const Candidate *c, const RouteAsk *ask, RouteDecision *d, int64 now_us, Refusals *why)
{
	for (int k = 0; k < d->norder; k++)
	{
		RouteOption *o = &d->options[d->order[k]];

		if (enter(c, ask, o, now_us, why))
			return o;
		if (why->verdict != BUDGET_OK &&
			(!why->answer.elsewhere || d->algorithm != BALANCE_COST_OPTIMIZED))
			return NULL;
	}
	return NULL;
}

/* Rounds go on from choice to choice. */
static void
keep_weights(const RouteDecision *d)
{
	for (int i = 0; i < d->noptions; i++)
	{
		const RouteOption *o = &d->options[i];

		if (o->was_at_choice && o->stand.stats.current_weight != o->weight_before)
			eduai_gateway_stand_weights(o->instance, o->stand.stats.current_weight);
	}
}

/*
 * Asks those that the router named; where a limit or a budget keeps them all
 * from it, the cheapest first, or those that stand in.
 */
static RouteOption *
take_any(const Candidate *c, const RouteAsk *ask, RouteNow *now, RouteDecision *d, Refusals *why)
{
	RouteOption *taken = NULL;

	while (taken == NULL && d->norder > 0)
	{
		taken = take_first(c, ask, d, now->now_us, why);
		if (taken != NULL || (why->verdict != BUDGET_OK && !why->answer.elsewhere))
			break;
		if (why->verdict != BUDGET_OK && now->algorithm != BALANCE_COST_OPTIMIZED)
		{
			/* from the beginning: what was too dear by the first choice may be the cheapest */
			now->algorithm = BALANCE_COST_OPTIMIZED;
			for (int i = 0; i < d->noptions; i++)
				if (d->options[i].out == OUT_REFUSED)
					d->options[i].out = ROUTE_IN;
		}
		eduai_gateway_route_again(ask, now, d);
	}
	return taken;
}

/* ---- waiting ---- */

/* Until one of the busy instances may have a place, for the nth that waits for that; -1: none is. */
static int64
busy_ms(const RouteDecision *d)
{
	double best = BUSY_MOST;
	bool any = false;

	for (int i = 0; i < d->noptions; i++)
	{
		const RouteOption *o = &d->options[i];
		double ms = o->stand.stats.response_us / 1000 / o->instance->max_concurrent;

		if (o->out != OUT_BUSY)
			continue;
		any = true;
		best = Min(best, Max(ms, BUSY_MS) * (1 + waiting));
	}
	waiting += any;
	return any ? (int64) best : -1;
}

/* The earliest of a time that is known (monotonic, 0: none) and a place that may become free. */
static int64
wait_us(const RouteNow *now, const RouteDecision *d, int64 until_us)
{
	int64 busy = busy_ms(d) * 1000;
	int64 known = until_us > 0 ? Max(until_us - now->now_us, 0) : -1;

	if (busy < 0 && known < 0)
		return CONFIG_MS * INT64CONST(1000);
	return busy < 0 ? known : known < 0 ? busy : Min(busy, known);
}

static RouteVerdict
wait(const RouteNow *now, const RouteDecision *d, Routing *routing)
{
	if (d->end == ROUTE_IT_WAITS)
	{
		routing->wait_us = Max(wait_us(now, d, d->until_us), 1);
		return ROUTE_DEFER;
	}
	if (d->until_us > 0)
		claim_at_us = Min(claim_at_us, Max(d->until_us, now->now_us + SOONEST_US));
	return ROUTE_FULL;
}

/* A limit has no room for so many tokens; smaller tasks may go on. */
static RouteVerdict
wait_for_limit(const RouteNow *now, const RouteDecision *d, const Refusals *why, Routing *routing)
{
	routing->wait_us = Max(wait_us(now, d, why->limit_us == INT64_MAX ? 0 : why->limit_us), 1);
	return ROUTE_DEFER;
}

/* None of those that could take it lets it in. */
static RouteVerdict
refused(const RouteNow *now, const RouteDecision *d, const Refusals *why, Routing *routing)
{
	if (why->verdict == BUDGET_OK || (why->limited && why->answer.elsewhere))
		return wait_for_limit(now, d, why, routing);
	routing->code = why->answer.code;
	routing->message = why->answer.message;
	switch (why->verdict)
	{
		case BUDGET_WAIT:
			/* for calls in flight, whose ends make turns; all of the tenant's, or of the provider's */
			return ROUTE_FULL;
		case BUDGET_DEFER:
			routing->until = why->answer.until;
			return ROUTE_DEFER;
		default:
			return ROUTE_REFUSE;
	}
}

/* ---- the claim's router ---- */

/* What will be sent; the payload itself where that cannot be made: the call says why. */
static const Jsonb *
rendered(const Candidate *c)
{
	CallOutcome outcome = {0};
	Jsonb *payload = eduai_gateway_render_parents((Jsonb *) c->payload, c->parents, c->metadata,
												  eduai_queue_max_payload_bytes(), &outcome);

	return payload != NULL ? payload : c->payload;
}

RouteVerdict
eduai_gateway_place(void *fleet, const Candidate *candidate, Routing *routing)
{
	RouteNow now = {.now_us = eduai_core_mono_us(),
					.now = eduai_core_now(),
					.random = eduai_core_random_unit(),
					.algorithm = (BalanceAlgorithm) eduai_gateway_balancer,
					.state = &balance,
					.look = eduai_gateway_stand_look};
	Candidate sent = *candidate;
	RouteAsk ask;
	RouteDecision d;
	Refusals why = {.verdict = BUDGET_OK};
	RouteOption *taken;

	if (candidate->parents != NULL)
		sent.payload = rendered(candidate);
	eduai_gateway_route_ask(&sent, now.now, &ask);
	ask.pressure = eduai_gateway_budget_pressure(candidate->tenant, candidate->user_id, NULL,
												 candidate->task_type);
	eduai_gateway_trace_task(candidate->task_id, candidate->attempt);
	eduai_gateway_route(fleet, &ask, &now, &d);
	if (d.end != ROUTE_FOUND)
		return wait(&now, &d, routing);
	taken = take_any(&sent, &ask, &now, &d, &why);
	keep_weights(&d);
	if (taken == NULL)
		return refused(&now, &d, &why, routing);
	routing->instance = taken->instance->name;
	return ROUTE_TO;
}

/* the one that was placed last */
void
eduai_gateway_unplace(void *fleet, const Candidate *candidate, const char *instance)
{
	Placement *p = &placements[--nplacements];

	Assert(p->task_id == candidate->task_id);
	give_back(p);
	eduai_gateway_budget_unreserve(p->task_id, p->attempt);
}

void
eduai_gateway_place_end(bool committed)
{
	while (!committed && nplacements > 0)
		give_back(&placements[--nplacements]);
	nplacements = 0;
}
