/*
 * window.c: rolling periods by sub-buckets.  See window.h.
 */
#include "postgres.h"

#include "ratelimit/window.h"

#define PARTS (RATE_BUCKETS - 1)

static int
place(int64 bucket)
{
	return (int) (bucket % RATE_BUCKETS);
}

static int64
bucket_of(const RateWindow *w, int64 now_us)
{
	return Max(now_us / w->width_us, w->newest);
}

int64
eduai_ratelimit_window_width(int64 per_us)
{
	return Max((per_us + PARTS - 1) / PARTS, 1);
}

static void
add_to(RateWindow *w, int64 bucket, int64 n)
{
	uint32 *used = &w->used[place(bucket)];

	n = Min(n, (int64) (PG_UINT32_MAX - *used));
	*used += (uint32) n;
	w->total += n;
}

/* The sub-buckets up to "bucket" begin, and as many of the oldest end. */
static void
advance(RateWindow *w, int64 bucket)
{
	if (bucket - w->newest >= RATE_BUCKETS || w->total == 0)
	{
		memset(w->used, 0, sizeof(w->used));
		w->total = 0;
		w->newest = bucket;
		return;
	}
	while (w->newest < bucket)
	{
		uint32 *used = &w->used[place(++w->newest)];

		w->total -= *used;
		*used = 0;
	}
}

/* Its latest moment, but not after now. */
static int64
latest_of(const RateWindow *w, int64 bucket, int64 now_us)
{
	return Min((bucket + 1) * w->width_us - 1, Max(now_us, bucket * w->width_us));
}

void
eduai_ratelimit_window_fit(RateWindow *w, int64 per_us, int64 now_us)
{
	int64 width_us = eduai_ratelimit_window_width(per_us);
	RateWindow fitted;

	if (likely(w->width_us == width_us))
		return;
	memset(&fitted, 0, sizeof(fitted));
	fitted.width_us = width_us;
	if (w->total > 0)
	{
		fitted.newest = latest_of(w, w->newest, now_us) / width_us;
		for (int age = 0; age < RATE_BUCKETS && age <= w->newest; age++)
		{
			int64 bucket = w->newest - age;
			int64 moved = latest_of(w, bucket, now_us) / width_us;

			if (fitted.newest - moved >= RATE_BUCKETS)
				break;
			add_to(&fitted, moved, w->used[place(bucket)]);
		}
	}
	*w = fitted;
}

int64
eduai_ratelimit_window_used(const RateWindow *w, int64 now_us)
{
	int64 passed;
	int64 total = w->total;

	if (total == 0)
		return 0;
	passed = bucket_of(w, now_us) - w->newest;
	if (passed >= RATE_BUCKETS)
		return 0;
	for (int64 bucket = w->newest + 1; passed > 0; bucket++, passed--)
		total -= w->used[place(bucket)];
	return total;
}

void
eduai_ratelimit_window_add(RateWindow *w, int64 now_us, int64 n)
{
	advance(w, bucket_of(w, now_us));
	add_to(w, w->newest, n);
}

void
eduai_ratelimit_window_take_back(RateWindow *w, int64 now_us, int64 n, bool newest_first)
{
	if (w->total == 0)
		return;
	advance(w, bucket_of(w, now_us));
	for (int i = 0; i < RATE_BUCKETS && n > 0 && w->total > 0; i++)
	{
		/* the place after the newest is the oldest's */
		uint32 *used =
			&w->used[place(newest_first ? w->newest + RATE_BUCKETS - i : w->newest + 1 + i)];
		int64 taken = Min(n, (int64) *used);

		*used -= (uint32) taken;
		w->total -= taken;
		n -= taken;
	}
}

int64
eduai_ratelimit_window_falls_to(const RateWindow *w, int64 most, int64 now_us)
{
	int64 total = eduai_ratelimit_window_used(w, now_us);
	int64 bucket;

	if (most < 0)
		return INT64_MAX;
	if (total <= most)
		return now_us;
	bucket = bucket_of(w, now_us) - PARTS;
	for (; bucket <= w->newest; bucket++)
	{
		total -= bucket >= 0 ? w->used[place(bucket)] : 0;
		if (total <= most)
			return (bucket + RATE_BUCKETS) * w->width_us;
	}
	return INT64_MAX; /* not reached: an empty window holds nothing */
}

int64
eduai_ratelimit_window_idle_us(const RateWindow *w)
{
	if (w->total == 0)
		return 0;
	for (int age = 0; age < RATE_BUCKETS; age++)
		if (w->used[place(w->newest + RATE_BUCKETS - age)] > 0)
			return (w->newest - age + RATE_BUCKETS) * w->width_us;
	return 0; /* not reached */
}
