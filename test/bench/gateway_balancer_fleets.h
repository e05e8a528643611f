/*
 * gateway_balancer_fleets.h: the scenarios of the balancer's benchmark.
 */
#ifndef GATEWAY_BALANCER_FLEETS_H
#define GATEWAY_BALANCER_FLEETS_H

#include "postgres.h"

#include "gateway/simulate.h"

typedef struct Scenario
{
	const char *name;
	const char *what;
	SimulatedFleet fleet;
	SimulatedInstance instances[8];
} Scenario;

#define SCENARIOS 10

/* "fleet.instances" points into the scenario. */
extern Scenario *balancer_scenario(int number);

#endif
