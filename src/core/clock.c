/*
 * clock.c: monotonic and wall time, randomness and UUIDs.  See clock.h.
 */
#include "postgres.h"

#include <time.h>

#include "core/clock.h"
#include "core/pause.h"
#include "core/shmem.h"
#include "fmgr.h"
#include "port/atomics.h"
#include "utils/timestamp.h"

/* microseconds that tests added to the wall clock; see eduai_test_clock() */
static pg_atomic_uint64 *wall_offset = NULL;

static uint64 random_state = 0; /* splitmix64; 0: not seeded */

PG_FUNCTION_INFO_V1(eduai_test_clock);

static Size
clock_size(void)
{
	return sizeof(pg_atomic_uint64);
}

static void
clock_shmem_init(void *ptr)
{
	pg_atomic_init_u64(ptr, 0);
}

void
eduai_core_clock_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_clock",
										.size = clock_size,
										.init = clock_shmem_init,
										.address = (void **) &wall_offset};

	eduai_core_shmem_register(&part);
}

int64
eduai_core_processor_us(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0)
		return 0;
	return (int64) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64
eduai_core_mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64
eduai_core_test_offset_us(void)
{
	if (unlikely(eduai_core_test_mode) && wall_offset != NULL)
		return (int64) pg_atomic_read_u64(wall_offset);
	return 0;
}

TimestampTz
eduai_core_now(void)
{
	return GetCurrentTimestamp() + eduai_core_test_offset_us();
}

uint64
eduai_core_random(void)
{
	uint64 z;

	if (random_state == 0 &&
		(!pg_strong_random(&random_state, sizeof(random_state)) || random_state == 0))
		random_state = (uint64) eduai_core_mono_us() | 1;
	/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014) */
	z = (random_state += UINT64CONST(0x9E3779B97F4A7C15));
	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

double
eduai_core_random_unit(void)
{
	return (double) (eduai_core_random() >> 11) / 9007199254740992.0;
}

/*
 * RFC 9562, section 5.7: 48 bits of milliseconds, then 12 bits of the
 * sub-millisecond fraction (its method 3), then 62 random bits.
 */
void
eduai_core_uuid7(unsigned char uuid[16])
{
	static int64 last_tick = 0;
	int64 unix_us = eduai_core_now() + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	/* 4096 ticks a millisecond */
	int64 tick = (unix_us / 1000) * 4096 + (unix_us % 1000) * 4096 / 1000;
	uint64 noise;

	if (tick <= last_tick)
		tick = last_tick + 1;
	last_tick = tick;
	for (int i = 0; i < 6; i++)
		uuid[i] = (unsigned char) ((tick >> 12) >> (40 - 8 * i));
	uuid[6] = 0x70 | (unsigned char) ((tick >> 8) & 0x0f);
	uuid[7] = (unsigned char) tick;
	if (!pg_strong_random(&noise, sizeof(noise)))
		noise = eduai_core_random();
	memcpy(uuid + 8, &noise, 8);
	uuid[8] = 0x80 | (uuid[8] & 0x3f);
}

/* test_clock(offset interval): shifts the wall clock of all eduai's processes */
Datum
eduai_test_clock(PG_FUNCTION_ARGS)
{
	Interval *offset = PG_GETARG_INTERVAL_P(0);
	int64 us = offset->time + (offset->day + offset->month * INT64CONST(30)) * USECS_PER_DAY;

	eduai_core_require_test_mode();
	eduai_core_require_preload("the test clock");
	pg_atomic_write_u64(wall_offset, (uint64) us);
	PG_RETURN_VOID();
}
