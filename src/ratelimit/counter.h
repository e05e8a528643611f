/*
 * counter.h: what one key has used of one limit, whatever its algorithm.  Pure:
 * the caller holds what guards it, and gives the time.
 */
#ifndef EDUAI_RATELIMIT_COUNTER_H
#define EDUAI_RATELIMIT_COUNTER_H

#include "ratelimit/gcra.h"
#include "ratelimit/window.h"

/* The largest limit, and the longest and shortest period. */
#define RATE_LIMIT_MOST INT64CONST(2000000000)
#define RATE_PER_MOST   (INT64CONST(400) * 86400 * 1000000)
#define RATE_PER_LEAST  INT64CONST(1000)

typedef enum RateAlgorithm
{
	RATE_NONE, /* of a counter: nothing was counted yet */
	RATE_WINDOW,
	RATE_GCRA,
	RATE_CONCURRENCY,
	RATE_UNLIMITED
} RateAlgorithm;

typedef struct RateRules
{
	RateAlgorithm algorithm;
	int64 limit;  /* in force: an adaptive tier's may be below the configured one */
	int64 most;   /* as configured: what a single call may cost */
	int64 per_us; /* window, gcra */
	int64 burst;  /* gcra */
} RateRules;

/* All zeros: nothing was counted. */
typedef struct RateCounter
{
	RateAlgorithm algorithm;
	uint32 held; /* slots taken and not given back, of a concurrency limit */
	union
	{
		RateWindow window;
		RatePace pace;
	} u;
} RateCounter;

typedef struct RateVerdict
{
	bool allowed;
	int64 limit;
	int64 remaining; /* after the call, when it is allowed */
	int64 retry_us;  /* from now; 0: allowed; -1: not for time to say */
	int64 reset_us;  /* from now until all of the limit is there again; -1: not for time to say */
} RateVerdict;

/*
 * Follows a tier that was redefined: another period, another algorithm.  To be
 * called before the others with new rules.
 */
extern void eduai_ratelimit_counter_fit(RateCounter *c, const RateRules *rules, int64 now_us);

/*
 * May a call of that cost enter?  Changes nothing.  A call that costs more than
 * what an adaptive tier leaves of its limit may enter when nothing else counts.
 */
extern RateVerdict eduai_ratelimit_counter_judge(const RateCounter *c, const RateRules *rules,
												 int64 cost, int64 now_us);

/* It enters: judge() has said that it may, at the same moment. */
extern void
eduai_ratelimit_counter_consume(RateCounter *c, const RateRules *rules, int64 cost, int64 now_us);

/* What it took is given back (window: the oldest first). */
extern void
eduai_ratelimit_counter_refund(RateCounter *c, const RateRules *rules, int64 cost, int64 now_us);

/* From when on forgetting the counter changes nothing; INT64_MAX: slots are held. */
extern int64 eduai_ratelimit_counter_idle_us(const RateCounter *c);

#endif
