/*
 * gcra.h: pacing, the generic cell rate algorithm.  Pure.
 *
 * So many a period, evenly: each costs an interval, and up to "burst" may come
 * at once.  Of a rolling period it admits up to limit + burst: for "never more
 * than the limit in any period" use a window, or a burst of 1 with a limit one
 * lower.  The interval is rounded up to whole nanoseconds: never faster.
 */
#ifndef EDUAI_RATELIMIT_GCRA_H
#define EDUAI_RATELIMIT_GCRA_H

#include "postgres.h"

/* The longest debt, burst x interval, that the arithmetic has room for: ten years. */
#define RATE_PACE_MOST_US (INT64CONST(3650) * 86400 * 1000000)

typedef struct RatePace
{
	int64 paid_ns; /* until then all is paid for: the theoretical arrival time; 0: nothing came */
	int64 interval_ns; /* what one cost; 0: nothing came */
} RatePace;

typedef struct RatePaceRules
{
	int64 interval_ns; /* one of the limit */
	int64 burst;
} RatePaceRules;

extern RatePaceRules eduai_ratelimit_pace_rules(int64 limit, int64 per_us, int64 burst);

/*
 * Another pace: what is owed stays as many, each of them now costing what it
 * does, and at most a burst.
 */
extern void eduai_ratelimit_pace_fit(RatePace *p, const RatePaceRules *rules, int64 now_us);

/* So many are owed, rounded up. */
extern int64 eduai_ratelimit_pace_owed(const RatePace *p, int64 now_us);

/* How many may come now. */
extern int64 eduai_ratelimit_pace_left(const RatePace *p, const RatePaceRules *rules, int64 now_us);

/* When so many may come, if none does before; now_us: at once.  n <= burst. */
extern int64
eduai_ratelimit_pace_opens_us(const RatePace *p, const RatePaceRules *rules, int64 n, int64 now_us);

extern void
eduai_ratelimit_pace_add(RatePace *p, const RatePaceRules *rules, int64 n, int64 now_us);
extern void eduai_ratelimit_pace_take_back(RatePace *p, const RatePaceRules *rules, int64 n);

/* From when on the whole burst is there; 0: it always was. */
extern int64 eduai_ratelimit_pace_idle_us(const RatePace *p);

#endif
