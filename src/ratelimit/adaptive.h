/*
 * adaptive.h: the share of its limit that an adaptive tier has now.  Pure.
 *
 * What callers report (went well or not, how long it took) is gathered for a
 * period.  A period with too many errors, or too slow a 95th percentile, cuts
 * the factor (times 0.7); a good one adds 0.05: additive increase,
 * multiplicative decrease.  It stays between the floor and 1, so that a tier
 * never has more than its configured limit.  A period with few reports goes on
 * until there are enough, or six have passed; six without any add 0.05, since
 * nothing is wrong then that anybody knows of.
 */
#ifndef EDUAI_RATELIMIT_ADAPTIVE_H
#define EDUAI_RATELIMIT_ADAPTIVE_H

#include "postgres.h"

#define RATE_TIMES 80 /* four steps to a doubling, from 1 ms up to 20 minutes */

typedef struct RateAdaptiveRules
{
	double floor;       /* 0..1 */
	double most_errors; /* 0..1: of the reports of a period */
	int64 most_p95_us;  /* 0: durations do not matter */
	int64 period_us;
} RateAdaptiveRules;

typedef struct RateAdaptive
{
	double factor;
	int64 since_us; /* when the period began */
	uint32 good;
	uint32 bad;
	uint32 timed;
	uint32 times[RATE_TIMES];
} RateAdaptive;

extern void eduai_ratelimit_adaptive_start(RateAdaptive *a, int64 now_us);

/* One call's outcome; latency_us < 0: unknown. */
extern void eduai_ratelimit_adaptive_report(RateAdaptive *a, bool ok, int64 latency_us);

/* Ends the period if it is over; returns the factor, and when to look again. */
extern double eduai_ratelimit_adaptive_turn(RateAdaptive *a, const RateAdaptiveRules *rules,
											int64 now_us, int64 *again_us);

/* The 95th percentile of this period's durations, rounded up; 0: none are known. */
extern int64 eduai_ratelimit_adaptive_p95_us(const RateAdaptive *a);

/* A limit under the factor: at least 1, where it is not 0, and never more than it is. */
extern int64 eduai_ratelimit_adaptive_limit(int64 limit, double factor);

#endif
