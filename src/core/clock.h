/*
 * clock.h: the two clocks, and the tests' hand on them.
 *
 * Durations (leases, backoff in memory, time limits) use the monotonic clock,
 * schedules and records the wall clock.  With eduai.test_mode, a test shifts
 * the wall clock of every process through eduai.test_clock(); without it both
 * are the system's.
 */
#ifndef EDUAI_CORE_CLOCK_H
#define EDUAI_CORE_CLOCK_H

#include "postgres.h"
#include "datatype/timestamp.h"

extern void eduai_core_clock_init(void);
extern int64 eduai_core_mono_us(void);
extern TimestampTz eduai_core_now(void);

/* What this process has had of the processors; 0 where the system does not say. */
extern int64 eduai_core_processor_us(void);

/* What a test has added to the wall clock; 0 without eduai.test_mode. */
extern int64 eduai_core_test_offset_us(void);

/* A random uint64 from the backend's own generator, seeded strongly once. */
extern uint64 eduai_core_random(void);
extern double eduai_core_random_unit(void); /* [0, 1) */

/* A version 7 UUID (RFC 9562) of the wall clock's now, monotonic per backend. */
extern void eduai_core_uuid7(unsigned char uuid[16]);

#endif
