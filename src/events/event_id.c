/*
 * event_id.c: the ids that eduai makes.  See event_id.h.
 *
 * 48 bits of milliseconds, 12 of the microseconds within (RFC 9562, method 3
 * of its section 6.2), 62 of the hash.  FNV-1a spreads the names and
 * splitmix64's finalizer the rest: fixed arithmetic, so that ids are the same
 * on every platform and release.
 */
#include "postgres.h"

#include "events/event_id.h"

#define UNIX_EPOCH_OFFSET_US INT64CONST(946684800000000) /* 1970 to 2000 */

static uint64
fnv1a(uint64 h, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		h = (h ^ (unsigned char) bytes[i]) * UINT64CONST(0x100000001b3);
	/* a separator, so that "a" + "bc" is not "ab" + "c" */
	return (h ^ 0xff) * UINT64CONST(0x100000001b3);
}

static uint64
mix(uint64 x)
{
	x ^= x >> 30;
	x *= UINT64CONST(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64CONST(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

void
eduai_events_derive_id(const char *tenant, const char *stream, size_t stream_length, int64 version,
					   TimestampTz recorded_at, pg_uuid_t *id)
{
	uint64 unix_us = (uint64) (recorded_at + UNIX_EPOCH_OFFSET_US);
	uint64 ms = unix_us / 1000;
	uint64 fraction = (unix_us % 1000) * 4096 / 1000;
	uint64 h = fnv1a(UINT64CONST(0xcbf29ce484222325), tenant, strlen(tenant));

	h = fnv1a(h, stream, stream_length);
	h = mix(h + (uint64) version * UINT64CONST(0x9e3779b97f4a7c15));
	h = mix(h ^ unix_us);
	for (int i = 0; i < 6; i++)
		id->data[i] = (unsigned char) (ms >> (40 - 8 * i));
	id->data[6] = (unsigned char) (0x70 | (fraction >> 8));
	id->data[7] = (unsigned char) fraction;
	for (int i = 0; i < 8; i++)
		id->data[8 + i] = (unsigned char) (h >> (56 - 8 * i));
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
}
