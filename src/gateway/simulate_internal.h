/*
 * simulate_internal.h: what the files of the simulation share.
 *
 * simulate.c moves requests and time; simulate_world.c is the truth about the
 * instances, which no algorithm sees: it decides how calls end.
 */
#ifndef EDUAI_GATEWAY_SIMULATE_INTERNAL_H
#define EDUAI_GATEWAY_SIMULATE_INTERNAL_H

#include "gateway/simulate.h"

typedef struct SimulatedRequest
{
	int64 arrived_us;
	int64 took_us; /* -1: not done, or failed */
	uint64 failed; /* a bit for each instance where it failed */
	int32 tokens_in;
	int32 tokens_out;
	int32 bound; /* what the gateway believes of tokens_out */
	int32 next;  /* in the line of those that wait; -1: last */
	int16 calls;
} SimulatedRequest;

/* How a call will end: decided when it leaves. */
typedef struct SimulatedEnd
{
	int64 duration_us;
	int64 first_byte_us; /* -1: none comes */
	bool success;
	bool refused;   /* a 429 */
	int64 wish_ms;  /* its Retry-After; -1: none */
	int64 limit;    /* what headers say of the limit; -1: nothing */
	int64 left;     /* ... of this minute */
	int64 reset_ms; /* ... until it is whole */
} SimulatedEnd;

/* The provider's view of a limit: a bucket of one minute. */
typedef struct SimulatedLimit
{
	double left;
	int64 at_us;
} SimulatedLimit;

typedef struct SimulatedWorld
{
	const SimulatedFleet *fleet;
	uint64 seed;
	SimulatedLimit limits[EDUAI_SIMULATION_INSTANCES]; /* by limit_group */
} SimulatedWorld;

extern void eduai_gateway_world_start(SimulatedWorld *w, const SimulatedFleet *fleet, uint64 seed);

/* The sizes of a request. */
extern void eduai_gateway_world_draw(const SimulatedWorld *w, int number, SimulatedRequest *r);

/* A call leaves: "load" are the calls in flight there, this one not among them. */
extern SimulatedEnd eduai_gateway_world_call(SimulatedWorld *w, int instance, int number,
											 const SimulatedRequest *r, int load, int64 now_us);

/* What a request of so many tokens costs there now. */
extern double
eduai_gateway_world_usd(const SimulatedWorld *w, int instance, int in, int out, int64 now_us);

/* Of one who knows everything but what chance will bring; -1: wait. */
extern int
eduai_gateway_world_clairvoyant(SimulatedWorld *w, SimulatedChooser chooser,
								const SimulatedRequest *r, const int *in_flight, int64 now_us);

#endif
