/*
 * flight.h: one computation for many who want the same.
 *
 * A flight is a place in shared memory that says that a process computes what
 * a key means.  Others wait for its end, for a bounded time and only while
 * the process does not itself wait for a lock, which the waiter might hold.
 * A process that is computing something never waits: two could wait for each
 * other.
 */
#ifndef EDUAI_CACHE_FLIGHT_H
#define EDUAI_CACHE_FLIGHT_H

#include "postgres.h"

typedef enum FlightTurn
{
	FLIGHT_MINE,  /* compute, then end it */
	FLIGHT_ENDED, /* somebody's has ended: look again */
	FLIGHT_ALONE, /* compute without one: late, nested, the place is another key's */
} FlightTurn;

/* Waits until "until_us" on the monotonic clock; interruptible. */
extern FlightTurn eduai_cache_flight_begin(uint64 key, int64 until_us);

/* Changes when a flight of the key has ended, now and then of another key. */
extern uint32 eduai_cache_flight_ends(uint64 key);

/* Ends the own flight of the key; does nothing without. */
extern void eduai_cache_flight_end(uint64 key);

extern void eduai_cache_flight_init(void);

#endif
