/*
 * clock.h: the cache's time.
 */
#ifndef EDUAI_CACHE_CLOCK_H
#define EDUAI_CACHE_CLOCK_H

#include "postgres.h"
#include "core/clock.h"
#include "core/pause.h"
#include "utils/timestamp.h"

/* The monotonic clock; in test mode, shifted as the tests' wall clock is. */
static inline int64
eduai_cache_now_us(void)
{
	int64 now = eduai_core_mono_us();

	if (unlikely(eduai_core_test_mode))
		now += eduai_core_now() - GetCurrentTimestamp();
	return now;
}

#endif
