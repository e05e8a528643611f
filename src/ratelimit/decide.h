/*
 * decide.h: may this call enter?
 *
 * A question is a counter (its name) with the rules that hold for it now.  The
 * decision is made under the locks of the counters' shards, with the time read
 * under them; what is admitted is counted at once and for good: a transaction
 * that rolls back keeps what it consumed.
 */
#ifndef EDUAI_RATELIMIT_DECIDE_H
#define EDUAI_RATELIMIT_DECIDE_H

#include "ratelimit/tier.h"

/* The most keys of one call of rate_limit_all(). */
#define RATE_MOST_KEYS 32

typedef struct RateQuestion
{
	const RateTier *tier;
	const text *key;
	RateRules rules;
	RateName name;
	RateVerdict verdict; /* the answer */
	const char *full;    /* the setting that bounds what has no room; NULL: there was room */
} RateQuestion;

/*
 * Fills the question, all but its answer; raises for bad input.  Runs no SQL
 * if eduai_ratelimit_tiers_fresh() was called before.  cost 0: any.
 */
extern void eduai_ratelimit_ask(RateQuestion *q, const char *tenant, const text *key,
								const text *tier, const text *type, int32 cost);

/* The same for a row of tiers, whatever would be chosen. */
extern void
eduai_ratelimit_ask_row(RateQuestion *q, const char *tenant, const text *key, const RateTier *tier);

/* Decides, and consumes if it is allowed. */
extern void eduai_ratelimit_decide(RateQuestion *q, int32 cost);

/*
 * The same for several counters: all or nothing.  Returns which binds: of those
 * that refuse the one with the longest wait, else that with the least left.  A
 * counter that is named twice is consumed once.
 */
extern int eduai_ratelimit_decide_all(RateQuestion *questions, int n, int32 cost);

/* What decide() would say, with a cost of 1; remaining is what there is without it. */
extern void eduai_ratelimit_peek(RateQuestion *q);

/* Gives back what was consumed; of a concurrency limit, slots. */
extern void eduai_ratelimit_give_back(RateQuestion *q, int32 cost);

/* Gives slots back, also of a tier that has none any more; false: there were none. */
extern bool eduai_ratelimit_release(RateQuestion *q, int32 n);

/* Forgets the counter, and gives back all its slots. */
extern void eduai_ratelimit_reset(RateQuestion *q);

#endif
