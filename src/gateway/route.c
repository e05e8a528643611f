/*
 * route.c: who may take a task, and the choice between them.  See route.h.
 *
 * What rules an instance out is looked at in a fixed order (RouteOut), so that
 * its words name the reason that would have to go first: what it serves, how
 * it stands, then what speaks against it for this very task.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "gateway/route.h"
#include "gateway/route_failures.h"
#include "utils/guc.h"

#define USD_SECONDS  100.0 /* what a dollar is worth while budgets are not scarce */
#define USD_SCARCE   9.0   /* so many times more when one is spent */
#define TOKENS_OUT   256   /* of an answer, before anything is known of answers */
#define NEAR         1.5   /* a session may cost so much more than the best */
#define NEAR_SECONDS 0.05  /* ... or so much, where that is little */

static const struct config_enum_entry algorithms[] = {
	{"adaptive", BALANCE_ADAPTIVE, false},
	{"round_robin", BALANCE_ROUND_ROBIN, false},
	{"weighted_round_robin", BALANCE_WEIGHTED_ROUND_ROBIN, false},
	{"least_connections", BALANCE_LEAST_CONNECTIONS, false},
	{"least_response_time", BALANCE_LEAST_RESPONSE_TIME, false},
	{"cost_optimized", BALANCE_COST_OPTIMIZED, false},
	{0}};

int eduai_gateway_balancer = BALANCE_ADAPTIVE;

bool (*eduai_gateway_route_tracer)(RouteChoice *choice) = NULL;

void
eduai_gateway_route_init(void)
{
	DefineCustomEnumVariable("eduai.balancer", "How an instance is chosen for a task.",
							 "Between those of the lowest tier that can take it.",
							 &eduai_gateway_balancer, BALANCE_ADAPTIVE, algorithms, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
}

/* ---- how it stands, for any task ---- */

static bool
is_full(const RouteOption *o)
{
	return o->stand.breaker != BREAKER_HALF_OPEN &&
		   o->stand.in_flight >= o->instance->max_concurrent;
}

static RouteOut
stands(RouteOption *o)
{
	if (!o->instance->active)
		return OUT_STATE;
	if (o->instance->provider->key_error != NULL)
		return OUT_KEY;
	if (o->stand.breaker == BREAKER_OPEN)
	{
		o->until_us = o->stand.breaker_at_us;
		return OUT_OPEN;
	}
	if (o->stand.headroom <= 0)
	{
		o->until_us = o->stand.headroom_at_us;
		return OUT_LIMIT;
	}
	return ROUTE_IN;
}

static bool
is_usable(const RouteOption *o)
{
	return o->step >= 0 && o->instance->active && o->instance->provider->key_error == NULL;
}

/* ---- what speaks against it for this task ---- */

/* The worst rank that is still asked: as good as there are any. */
static RouteRank
worst_rank(const RouteDecision *d)
{
	RouteRank best = RANK_HOPELESS;

	for (int i = 0; i < d->noptions; i++)
		if (is_usable(&d->options[i]))
			best = Min(best, d->options[i].rank);
	return Max(best, RANK_FAILED);
}

static bool
fits(const RouteAsk *ask, const Instance *i)
{
	return i->context_tokens == 0 || ask->tokens_in + ask->tokens_out <= i->context_tokens;
}

/* What is asked of a context: where the task fits nowhere, the largest; its provider decides. */
static int64
least_context(const RouteDecision *d, const RouteAsk *ask)
{
	int64 largest = 0;

	for (int i = 0; i < d->noptions; i++)
	{
		if (!is_usable(&d->options[i]))
			continue;
		if (fits(ask, d->options[i].instance))
			return ask->tokens_in + ask->tokens_out;
		largest = Max(largest, d->options[i].instance->context_tokens);
	}
	return largest;
}

static void
rule_out(RouteDecision *d, const RouteAsk *ask, const RouteNow *now)
{
	RouteRank worst = worst_rank(d);
	int64 context = least_context(d, ask);

	for (int i = 0; i < d->noptions; i++)
	{
		RouteOption *o = &d->options[i];
		int64 rest_us = 0;

		if (o->step < 0)
			continue;
		o->out = stands(o);
		if (o->out != ROUTE_IN)
			continue;
		if (o->instance->context_tokens > 0 && o->instance->context_tokens < context)
			o->out = OUT_CONTEXT;
		else if (o->rank > worst)
			o->out = OUT_FAILED;
		else if (o->rank >= RANK_FAILED &&
				 (rest_us = eduai_gateway_route_rest_us(ask, o->instance->name, now->now)) > 0)
		{
			o->out = OUT_RESTING;
			o->until_us = now->now_us + rest_us;
		}
	}
}

/* ---- the choice ---- */

static int64
expected_out(const RouteAsk *ask, const RouteOption *o)
{
	double learnt = o->stand.stats.tokens_out;

	if (strcmp(ask->task_type, "embeddings") == 0)
		return 0;
	if (learnt > 0 && (ask->tokens_out == 0 || learnt < ask->tokens_out))
		return (int64) learnt;
	return ask->tokens_out > 0 ? ask->tokens_out : TOKENS_OUT;
}

static int64
reserved_tokens(const RouteAsk *ask, const RouteOption *o)
{
	return ask->tokens_in + (ask->tokens_out > 0 ? ask->tokens_out : expected_out(ask, o));
}

static double
expected_usd(const RouteAsk *ask, const RouteOption *o)
{
	const Instance *i = o->instance;

	return (ask->tokens_in * i->usd_input + expected_out(ask, o) * i->usd_output) / 1e6 +
		   ask->images * i->usd_image;
}

/* A bound that answers do not reach says nothing of their time: the averages do. */
static int64
telling_bound(const RouteAsk *ask, const RouteDecision *d)
{
	double most = 0;

	for (int i = 0; i < d->noptions; i++)
		most = Max(most, d->options[i].stand.stats.tokens_out);
	return ask->tokens_out < most ? ask->tokens_out : 0;
}

static void
fill_option(const RouteAsk *ask, RouteOption *o, BalanceOption *b)
{
	b->stats = &o->stand.stats;
	b->in_flight = o->stand.in_flight;
	b->max_concurrent = o->instance->max_concurrent;
	b->weight = o->instance->weight;
	b->tier = o->instance->tier;
	b->failed_before = o->rank != RANK_FRESH;
	b->probe = o->stand.breaker == BREAKER_HALF_OPEN;
	b->ramp = o->stand.ramp;
	b->headroom = o->stand.headroom;
	b->usd = expected_usd(ask, o);
	b->score = 0;
	b->eligible = false;
}

/* Is x as good as the best but for its score, and that nearly? */
static bool
is_near(BalanceAlgorithm algorithm, const BalanceOption *best, const BalanceOption *x)
{
	double unit = algorithm == BALANCE_LEAST_RESPONSE_TIME ? 1e6 : 1;

	if (x->tier != best->tier || x->failed_before != best->failed_before || x->probe)
		return false;
	switch (algorithm)
	{
		case BALANCE_ADAPTIVE:
		case BALANCE_LEAST_RESPONSE_TIME:
			return x->score <= Max(best->score * NEAR, best->score + NEAR_SECONDS * unit);
		case BALANCE_COST_OPTIMIZED:
			return x->score <= best->score * NEAR;
		default:
			return true;
	}
}

/* rendezvous hashing: each instance bids for the session; one that goes takes only its own along */
static uint64
bid(uint64 session, const char *name)
{
	return hash_bytes_extended((const unsigned char *) name, (int) strlen(name), session);
}

/* of 53 bits, so that the trace's numbers hold it */
static uint64
session_hash(const char *session)
{
	return hash_bytes_extended((const unsigned char *) session, (int) strlen(session), 0) >> 11;
}

static void
move_to_front(int *order, int n, int chosen)
{
	int at = 0;

	while (at < n && order[at] != chosen)
		at++;
	if (at == n)
		return;
	memmove(order + 1, order, sizeof(int) * at);
	order[0] = chosen;
}

static bool
keep_session(RouteChoice *c)
{
	const BalanceOption *best = &c->options[c->order[0]];
	int chosen = -1;
	uint64 highest = 0;

	for (int k = 0; k < c->norder; k++)
	{
		int i = c->order[k];
		uint64 its;

		if (!is_near(c->algorithm, best, &c->options[i]))
			continue;
		its = bid(c->session, c->names[i]);
		if (chosen < 0 || its > highest)
		{
			chosen = i;
			highest = its;
		}
	}
	if (chosen < 0)
		return false;
	move_to_front(c->order, c->norder, chosen);
	return true;
}

bool
eduai_gateway_route_choose(RouteChoice *c)
{
	BalanceState state = c->state;
	int taken = eduai_gateway_balance_choose(c->algorithm, &state, &c->request, c->options, c->n,
											 c->now_us, c->random, c->order, &c->norder);

	if (taken < 0)
		return false;
	if (c->sticky && keep_session(c))
		return true;
	move_to_front(c->order, c->norder, taken);
	return false;
}

/* Those in "among" (indexes of options) choose; d->order is set. */
static void
choose(const RouteAsk *ask, const RouteNow *now, RouteDecision *d, const int *among, int n)
{
	RouteChoice c = {.algorithm = now->algorithm,
					 .state = *now->state,
					 .n = n,
					 .now_us = now->now_us,
					 .random = now->random,
					 .sticky = ask->session != NULL,
					 .session = ask->session != NULL ? session_hash(ask->session) : 0};

	c.request = (BalanceRequest){.priority = ask->priority,
								 .tokens_in = ask->tokens_in,
								 .tokens_out = telling_bound(ask, d),
								 .deadline_us = ask->deadline_us,
								 .usd_to_seconds = USD_SECONDS * (1 + USD_SCARCE * ask->pressure)};
	c.options = palloc(sizeof(BalanceOption) * Max(n, 1));
	c.names = palloc(sizeof(char *) * Max(n, 1));
	c.order = palloc(sizeof(int) * Max(n, 1));
	for (int k = 0; k < n; k++)
	{
		RouteOption *o = &d->options[among[k]];

		if (!o->was_at_choice)
			o->weight_before = o->stand.stats.current_weight;
		fill_option(ask, o, &c.options[k]);
		c.names[k] = o->instance->name;
	}
	if (n > 0)
	{
		d->kept_session = eduai_gateway_route_tracer != NULL ? eduai_gateway_route_tracer(&c)
															 : eduai_gateway_route_choose(&c);
		now->state->turn++;
	}
	d->norder = n > 0 ? c.norder : 0;
	for (int k = 0; k < d->norder; k++)
		d->order[k] = among[c.order[k]];
	for (int k = 0; k < n; k++)
	{
		RouteOption *o = &d->options[among[k]];

		o->score = c.options[k].score;
		o->was_at_choice = true;
		if (!c.options[k].eligible)
			o->out = OUT_BUSY;
		o->tokens = reserved_tokens(ask, o);
	}
}

/* One step's choice; false when the next step is to be asked. */
static bool
choose_step(const RouteAsk *ask, const RouteNow *now, RouteDecision *d, int step)
{
	int *among = palloc(sizeof(int) * Max(d->noptions, 1));
	int n = 0;

	for (int i = 0; i < d->noptions; i++)
		if (d->options[i].step == step && d->options[i].out == ROUTE_IN)
			among[n++] = i;
	choose(ask, now, d, among, n);
	d->step = step;
	return n > 0;
}

/* ---- when nobody can ---- */

static bool
speaks_against_all(const RouteOption *o)
{
	return o->out < OUT_CONTEXT || is_full(o);
}

static void
describe_wait(RouteDecision *d)
{
	bool any = false;
	bool others_need_not = false;

	for (int i = 0; i < d->noptions; i++)
	{
		any = any || d->options[i].step >= 0;
		others_need_not =
			others_need_not || (d->options[i].step >= 0 && !speaks_against_all(&d->options[i]));
	}
	d->end = !any ? ROUTE_NOBODY : others_need_not ? ROUTE_IT_WAITS : ROUTE_ALL_WAIT;
	for (int i = 0; i < d->noptions; i++)
	{
		const RouteOption *o = &d->options[i];

		if (o->step >= 0 && o->until_us > 0 && (d->until_us == 0 || o->until_us < d->until_us))
			d->until_us = o->until_us;
	}
}

/* ---- the whole ---- */

static void
choose_by_steps(const RouteAsk *ask, const RouteNow *now, RouteDecision *d)
{
	int last = 0;

	d->algorithm = now->algorithm;
	d->kept_session = false;
	d->norder = 0;
	d->until_us = 0;
	for (int i = 0; i < d->noptions; i++)
		last = Max(last, d->options[i].step);
	for (int step = 0; step <= last; step++)
		if (choose_step(ask, now, d, step))
			break;
	d->end = ROUTE_FOUND;
	if (d->norder == 0)
		describe_wait(d);
}

void
eduai_gateway_route(const Fleet *fleet, const RouteAsk *ask, const RouteNow *now, RouteDecision *d)
{
	memset(d, 0, sizeof(*d));
	d->noptions = fleet->ninstances;
	d->options = palloc0(sizeof(RouteOption) * Max(d->noptions, 1));
	d->order = palloc(sizeof(int) * Max(d->noptions, 1));
	for (int i = 0; i < d->noptions; i++)
		d->options[i].instance = &fleet->instances[i];
	eduai_gateway_route_steps(fleet, ask, d->options);
	for (int i = 0; i < d->noptions; i++)
		if (d->options[i].step >= 0)
		{
			now->look(d->options[i].instance, now->now_us, &d->options[i].stand);
			d->options[i].rank = eduai_gateway_route_rank(fleet, ask, d->options[i].instance);
		}
	rule_out(d, ask, now);
	choose_by_steps(ask, now, d);
}

void
eduai_gateway_route_again(const RouteAsk *ask, const RouteNow *now, RouteDecision *d)
{
	for (int i = 0; i < d->noptions; i++)
		if (d->options[i].out == OUT_BUSY)
			d->options[i].out = ROUTE_IN;
	choose_by_steps(ask, now, d);
}

RouteNext
eduai_gateway_route_next(const Fleet *fleet, const RouteAsk *ask, const char *last, bool may_return,
						 bool *alone)
{
	RouteOption *options = palloc0(sizeof(RouteOption) * Max(fleet->ninstances, 1));
	RouteRank best = RANK_HOPELESS;

	for (int i = 0; i < fleet->ninstances; i++)
		options[i].instance = &fleet->instances[i];
	eduai_gateway_route_steps(fleet, ask, options);
	for (int i = 0; i < fleet->ninstances; i++)
	{
		options[i].rank = eduai_gateway_route_rank(fleet, ask, options[i].instance);
		if (strcmp(options[i].instance->name, last) != 0 && is_usable(&options[i]))
			best = Min(best, options[i].rank);
	}
	pfree(options);
	*alone = best == RANK_HOPELESS;
	if (best <= RANK_TAINTED)
		return NEXT_AT_ONCE;
	return may_return || best < RANK_HOPELESS ? NEXT_LATER : NEXT_NOWHERE;
}
