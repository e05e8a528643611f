/*
 * simulate.h: a simulated fleet, in its own time, under the very choices,
 * averages and breakers of the dispatcher.  Pure: no clock, no SQL, no shared
 * memory, no allocation; the caller gives the memory.  docs/gateway-balancing.md
 * says what is simulated and what is not.
 */
#ifndef EDUAI_GATEWAY_SIMULATE_H
#define EDUAI_GATEWAY_SIMULATE_H

#include "gateway/balance.h"
#include "gateway/breaker.h"

#define EDUAI_SIMULATION_INSTANCES 64
#define EDUAI_SIMULATION_EVENTS    64 /* of an instance */
#define EDUAI_SIMULATION_REQUESTS  200000

/* Something that happens to an instance, from one time to another. */
typedef struct SimulatedEvent
{
	int64 at_us;
	int64 until_us;
	double share; /* of the requests, which it touches */
	double latency_factor;
	double error_rate;   /* -1: as before */
	int64 fast_fail_us;  /* failures take so long; -1: as before */
	bool silent;         /* requests are never answered */
	double price_factor; /* known to the gateway: an administrator's change */
} SimulatedEvent;

typedef struct SimulatedInstance
{
	const char *name;
	double latency_p50_us; /* of a request of median size, on an idle instance */
	double latency_p95_us;
	double first_byte_share; /* of the latency, whatever the size; the rest grows with it */
	double load_factor;      /* a full instance is so much slower than an idle one */
	double error_rate;
	int max_concurrent;
	int weight;
	int tier;
	int rpm;            /* 0: no limit */
	int limit_group;    /* instances of a group share one limit of "rpm"; their index otherwise */
	double price_input; /* USD per token */
	double price_output;
	int64 from_us;       /* joins the fleet */
	int64 first_byte_us; /* the longest wait for the first byte */
	SimulatedEvent events[EDUAI_SIMULATION_EVENTS];
	int nevents;
} SimulatedInstance;

/* The sizes of requests in tokens; a share of them may be of another kind. */
typedef struct SimulatedSizes
{
	double p50;
	double p95;
} SimulatedSizes;

typedef struct SimulatedFleet
{
	int64 duration_us;
	double arrivals_per_s;
	SimulatedSizes sizes;
	double large_share;
	SimulatedSizes large;
	int attempts;          /* of a request */
	int64 timeout_us;      /* of a request, all in */
	double usd_to_seconds; /* see BalanceRequest */
	SimulatedInstance *instances;
	int n;
} SimulatedFleet;

/* What chooses: an algorithm, or one that knows the instances' true state. */
typedef enum SimulatedChooser
{
	SIMULATED_ALGORITHM,
	SIMULATED_CLAIRVOYANT_MEAN, /* takes the least expected time and money */
	SIMULATED_CLAIRVOYANT_TAIL  /* takes the 95th percentile of the time instead */
} SimulatedChooser;

typedef struct SimulatedRun
{
	int64 requests;
	int64 succeeded;
	int64 calls;
	int64 wasted;  /* calls that failed */
	double p50_us; /* of requests that succeeded, from arrival to the last byte */
	double p95_us;
	double p99_us;
	double usd;
	int64 calls_of[EDUAI_SIMULATION_INSTANCES];
} SimulatedRun;

/* p95 in seconds + 50 x the share that failed + 100 x USD a request. */
extern double eduai_gateway_simulation_composite(const SimulatedRun *run);

/* The most requests that may arrive: what the memory is for. */
extern int eduai_gateway_simulation_requests(const SimulatedFleet *fleet);
extern size_t eduai_gateway_simulation_memory(const SimulatedFleet *fleet);

/*
 * Runs the fleet.  "memory" is of the size above; "tick" is called every few
 * thousand steps and may not return (NULL: none).
 */
extern void eduai_gateway_simulate(const SimulatedFleet *fleet, SimulatedChooser chooser,
								   BalanceAlgorithm algorithm, uint64 seed, void *memory,
								   void (*tick)(void), SimulatedRun *run);

#endif
