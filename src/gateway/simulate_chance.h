/*
 * simulate_chance.h: chance that is the same everywhere.
 *
 * Integers of splitmix64, and of real functions only + - * /, the square root
 * and powers of two, which IEEE 754 defines to the last bit: a seed gives the
 * same run on every platform and C library.  Draws are keyed: what happens to
 * a request does not depend on how many draws were made before, so that two
 * algorithms are compared on the same luck.
 */
#ifndef EDUAI_GATEWAY_SIMULATE_CHANCE_H
#define EDUAI_GATEWAY_SIMULATE_CHANCE_H

#include "postgres.h"

typedef struct SimulationChance
{
	uint64 state;
} SimulationChance;

/* The source of what happens to "subject" (a request, say) in its "part". */
extern SimulationChance eduai_gateway_chance(uint64 seed, uint64 subject, uint64 part);

extern double eduai_gateway_chance_unit(SimulationChance *chance);        /* [0, 1) */
extern double eduai_gateway_chance_exponential(SimulationChance *chance); /* mean 1 */
extern double eduai_gateway_chance_normal(SimulationChance *chance);

/* Of a lognormal by its median and 95th percentile (0 < p50 <= p95). */
extern double eduai_gateway_chance_lognormal(SimulationChance *chance, double p50, double p95);
extern double eduai_gateway_lognormal_mean(double p50, double p95);

#endif
