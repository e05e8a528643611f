/*
 * balance_adaptive.h: what balance.c and the algorithm "adaptive" share.
 */
#ifndef EDUAI_GATEWAY_BALANCE_ADAPTIVE_H
#define EDUAI_GATEWAY_BALANCE_ADAPTIVE_H

#include "gateway/balance.h"

/* How many calls at once the option may take now: at least 1. */
extern int eduai_gateway_balance_capacity(const BalanceOption *option);

/* Sets the scores: the seconds that a call is expected to cost, money and failures included. */
extern void eduai_gateway_balance_score(const BalanceRequest *request, BalanceOption *options,
										int n, int64 now_us);

/*
 * The option to take of "order" (m of them, best first; m > 0): the first, but
 * for a probe of a half-open breaker and for the few calls that explore.
 */
extern int
eduai_gateway_balance_venture(const BalanceRequest *request, const BalanceOption *options,
							  const int *order, int m, int64 now_us, double random);

#endif
