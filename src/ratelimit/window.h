/*
 * window.h: how much was admitted in the last period, by sub-buckets.  Pure:
 * the caller holds what guards it, and gives the time.
 *
 * A period is cut into 60 sub-buckets; 61 are counted, the oldest whole, so
 * that every rolling period lies inside what is counted.  The count may be too
 * high, by what entered in the 60th before the period, and is never too low: of
 * a limit, nothing is admitted too much, and some of it at worst a 60th of the
 * period later than could be.
 *
 * Numbers of sub-buckets never fall: a caller who read the clock a moment
 * before another, or whose clock was set back, counts in the newest one.
 */
#ifndef EDUAI_RATELIMIT_WINDOW_H
#define EDUAI_RATELIMIT_WINDOW_H

#include "postgres.h"

#define RATE_BUCKETS 61

/* All zeros: nothing was admitted. */
typedef struct RateWindow
{
	int64 width_us;            /* of a sub-bucket; 0: not known yet */
	int64 newest;              /* number of the newest one that counts: its time / width_us */
	int64 total;               /* of used */
	uint32 used[RATE_BUCKETS]; /* by number modulo RATE_BUCKETS */
} RateWindow;

/* The width of the sub-buckets of a period: a 60th, rounded up. */
extern int64 eduai_ratelimit_window_width(int64 per_us);

/*
 * Another period: what is known moves to the latest times that it can be of,
 * so that nothing counts for less long than it should.  What the former period
 * had forgotten stays forgotten.
 */
extern void eduai_ratelimit_window_fit(RateWindow *w, int64 per_us, int64 now_us);

/* What was admitted in the period up to now, rounded up to whole sub-buckets. */
extern int64 eduai_ratelimit_window_used(const RateWindow *w, int64 now_us);

/* Admits n; whether that is within a limit is the caller's to say. */
extern void eduai_ratelimit_window_add(RateWindow *w, int64 now_us, int64 n);

/*
 * Takes n back, of what still counts.  Oldest first: whatever is meant, no
 * rolling period then holds more than is counted.  Newest first is for what
 * entered a moment ago, where that moment does not matter.
 */
extern void
eduai_ratelimit_window_take_back(RateWindow *w, int64 now_us, int64 n, bool newest_first);

/* When no more than "most" will count, if nothing enters; now_us: at once; INT64_MAX: never. */
extern int64 eduai_ratelimit_window_falls_to(const RateWindow *w, int64 most, int64 now_us);

/* From when on nothing counts any more; 0: nothing does. */
extern int64 eduai_ratelimit_window_idle_us(const RateWindow *w);

#endif
