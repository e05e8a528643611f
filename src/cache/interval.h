/*
 * interval.h: times to live.
 */
#ifndef EDUAI_CACHE_INTERVAL_H
#define EDUAI_CACHE_INTERVAL_H

#include "postgres.h"
#include "datatype/timestamp.h"

/* Microseconds of a time to live; raises 22023 unless it is between 1 ms and 10 years. */
extern int64 eduai_cache_ttl_us(const Interval *ttl);

#endif
