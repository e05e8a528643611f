/*
 * adaptive.c: additive increase, multiplicative decrease.  See adaptive.h.
 */
#include "postgres.h"

#include <math.h>

#include "ratelimit/adaptive.h"

#define STEP_UP     0.05
#define CUT         0.7
#define ENOUGH      20 /* reports, to judge a period by */
#define LONGEST     6  /* periods, until one with fewer is judged */
#define FIRST_US    1000.0
#define PER_DOUBLED 4

void
eduai_ratelimit_adaptive_start(RateAdaptive *a, int64 now_us)
{
	memset(a, 0, sizeof(*a));
	a->factor = 1.0;
	a->since_us = now_us;
}

void
eduai_ratelimit_adaptive_report(RateAdaptive *a, bool ok, int64 latency_us)
{
	int step = 0;

	if (ok)
		a->good++;
	else
		a->bad++;
	if (latency_us < 0)
		return;
	if (latency_us > FIRST_US)
		step = (int) Min(ceil(log2((double) latency_us / FIRST_US) * PER_DOUBLED), RATE_TIMES - 1);
	a->times[step]++;
	a->timed++;
}

int64
eduai_ratelimit_adaptive_p95_us(const RateAdaptive *a)
{
	uint32 beyond = a->timed / 20; /* may be slower */

	for (int step = RATE_TIMES - 1; step >= 0; step--)
	{
		if (a->times[step] > beyond)
			return (int64) (FIRST_US * exp2((double) step / PER_DOUBLED));
		beyond -= a->times[step];
	}
	return 0;
}

static bool
went_badly(const RateAdaptive *a, const RateAdaptiveRules *rules)
{
	double reports = (double) a->good + a->bad;

	if (a->bad > rules->most_errors * reports)
		return true;
	return rules->most_p95_us > 0 && eduai_ratelimit_adaptive_p95_us(a) > rules->most_p95_us;
}

double
eduai_ratelimit_adaptive_turn(RateAdaptive *a, const RateAdaptiveRules *rules, int64 now_us,
							  int64 *again_us)
{
	int64 passed = Max(now_us - a->since_us, 0) / rules->period_us;
	uint64 reports = (uint64) a->good + a->bad;
	double factor = a->factor;

	if (passed >= 1 && reports > 0 && (reports >= ENOUGH || passed >= LONGEST))
		factor = went_badly(a, rules) ? factor * CUT : factor + STEP_UP;
	else if (reports == 0 && passed >= LONGEST)
		factor += STEP_UP * (double) (passed / LONGEST);
	else
		passed = 0;
	if (passed > 0)
		eduai_ratelimit_adaptive_start(a, now_us);
	a->factor = Max(Min(factor, 1.0), rules->floor);
	*again_us = now_us + rules->period_us - Max(now_us - a->since_us, 0) % rules->period_us;
	return a->factor;
}

int64
eduai_ratelimit_adaptive_limit(int64 limit, double factor)
{
	if (limit <= 0)
		return limit;
	return Max(Min((int64) floor((double) limit * factor + 1e-6), limit), 1);
}
