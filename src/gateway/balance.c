/*
 * balance.c: the six algorithms.  See balance.h.
 *
 * A choice is made in three steps: which options have room, what each is worth
 * (a score by algorithm, lower is better), and an order by group (those that
 * failed this task last, then by tier) and score.  Equals of the best group
 * take turns by smooth weighted round robin, which is also what the two round
 * robins are: there all are equal.
 *
 * Only + - * / and comparisons: the same inputs give the same choice on every
 * platform (the Makefile keeps the compiler from fusing them).
 */
#include "postgres.h"

#include "gateway/balance.h"
#include "gateway/balance_adaptive.h"

static const char *const names[BALANCE_ALGORITHMS] = {
	"adaptive",          "round_robin",         "weighted_round_robin",
	"least_connections", "least_response_time", "cost_optimized",
};

bool
eduai_gateway_balance_algorithm(const char *name, BalanceAlgorithm *algorithm)
{
	for (int i = 0; name != NULL && i < BALANCE_ALGORITHMS; i++)
		if (strcmp(name, names[i]) == 0)
		{
			*algorithm = (BalanceAlgorithm) i;
			return true;
		}
	return false;
}

const char *
eduai_gateway_balance_name(BalanceAlgorithm algorithm)
{
	return names[algorithm];
}

/* ---- who has room ---- */

/* A half-open breaker lets one call pass, however many from before are still out. */
static bool
has_room(const BalanceOption *o)
{
	return o->headroom > 0 && (o->probe || o->in_flight < eduai_gateway_balance_capacity(o));
}

int
eduai_gateway_balance_capacity(const BalanceOption *o)
{
	double share = o->ramp < 1 ? o->ramp * o->max_concurrent : o->max_concurrent;

	return share > 1 ? (int) share : 1;
}

/* Is x to be considered before y, whatever their scores? */
static int
compare_groups(const BalanceOption *x, const BalanceOption *y)
{
	if (x->failed_before != y->failed_before)
		return x->failed_before ? 1 : -1;
	return x->tier < y->tier ? -1 : x->tier > y->tier;
}

/* ---- scores ---- */

/* A fleet's slowest known answer, for those that have only failed so far. */
static double
slowest_response_us(const BalanceOption *options, int n)
{
	double slowest = 1;

	for (int i = 0; i < n; i++)
		slowest = Max(slowest, options[i].stats->response_us);
	return slowest;
}

/* One that was never tried comes first: 0. */
static double
response_us(const BalanceStats *stats, double slowest)
{
	if (stats->samples == 0 && stats->failures > 0)
		return slowest;
	return stats->response_us;
}

static void
score_simply(BalanceAlgorithm algorithm, BalanceOption *options, int n)
{
	double slowest = slowest_response_us(options, n);

	for (int i = 0; i < n; i++)
	{
		BalanceOption *o = &options[i];

		if (algorithm == BALANCE_LEAST_CONNECTIONS)
			o->score = (double) o->in_flight / eduai_gateway_balance_capacity(o);
		else if (algorithm == BALANCE_LEAST_RESPONSE_TIME)
			o->score = response_us(o->stats, slowest) * (o->in_flight + 1.0);
		else if (algorithm == BALANCE_COST_OPTIMIZED)
			o->score = o->usd;
		else
			o->score = 0;
	}
}

/* ---- order ---- */

static int
compare(const BalanceOption *x, const BalanceOption *y)
{
	int groups = compare_groups(x, y);

	if (groups != 0)
		return groups;
	return x->score < y->score ? -1 : x->score > y->score;
}

/* Those with room, best first; equals stay in the order in which they are given. */
static int
sort_eligible(const BalanceOption *options, int n, int *order)
{
	int m = 0;

	for (int i = 0; i < n; i++)
	{
		int at = m;

		if (!options[i].eligible)
			continue;
		while (at > 0 && compare(&options[i], &options[order[at - 1]]) < 0)
		{
			order[at] = order[at - 1];
			at--;
		}
		order[at] = i;
		m++;
	}
	return m;
}

static double
weight_of(BalanceAlgorithm algorithm, const BalanceOption *o)
{
	return algorithm == BALANCE_WEIGHTED_ROUND_ROBIN ? Max(o->weight, 1) : 1;
}

/*
 * A round among the first ones of "order", which are equal: each gains its
 * weight, the richest goes first and pays what all gained.
 */
static void
take_turns(BalanceAlgorithm algorithm, BalanceOption *options, int *order, int m)
{
	int equals = 1;
	int richest = 0;
	double total = 0;
	int taken;

	while (equals < m && compare(&options[order[0]], &options[order[equals]]) == 0)
		equals++;
	if (equals == 1)
		return;
	for (int k = 0; k < equals; k++)
	{
		const BalanceOption *o = &options[order[k]];

		total += weight_of(algorithm, o);
		o->stats->current_weight += weight_of(algorithm, o);
		if (o->stats->current_weight > options[order[richest]].stats->current_weight)
			richest = k;
	}
	taken = order[richest];
	options[taken].stats->current_weight -= total;
	memmove(order + 1, order, sizeof(int) * richest);
	order[0] = taken;
}

int
eduai_gateway_balance_choose(BalanceAlgorithm algorithm, BalanceState *state,
							 const BalanceRequest *request, BalanceOption *options, int n,
							 int64 now_us, double random, int *order, int *norder)
{
	state->turn++;
	for (int i = 0; i < n; i++)
		options[i].eligible = has_room(&options[i]);
	if (algorithm == BALANCE_ADAPTIVE)
		eduai_gateway_balance_score(request, options, n, now_us);
	else
		score_simply(algorithm, options, n);
	*norder = sort_eligible(options, n, order);
	if (*norder == 0)
		return -1;
	take_turns(algorithm, options, order, *norder);
	if (algorithm == BALANCE_ADAPTIVE)
		return eduai_gateway_balance_venture(request, options, order, *norder, now_us, random);
	return order[0];
}
