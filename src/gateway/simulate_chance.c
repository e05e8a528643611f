/*
 * simulate_chance.c: see simulate_chance.h.
 */
#include "postgres.h"

#include <math.h>

#include "gateway/simulate_chance.h"

#define LN_2       0.69314718055994530942
#define NORMAL_P95 1.64485362695147271486 /* the 95th percentile of a normal */

static uint64
mix(uint64 x)
{
	x += UINT64CONST(0x9E3779B97F4A7C15);
	x = (x ^ (x >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return x ^ (x >> 31);
}

SimulationChance
eduai_gateway_chance(uint64 seed, uint64 subject, uint64 part)
{
	return (SimulationChance){mix(mix(mix(seed) ^ subject) ^ part)};
}

double
eduai_gateway_chance_unit(SimulationChance *chance)
{
	chance->state += UINT64CONST(0x9E3779B97F4A7C15);
	return (double) (mix(chance->state) >> 11) * (1.0 / 9007199254740992.0);
}

/* By the series of atanh, for mantissas around 1. */
static double
natural_log(double x)
{
	int exponent;
	double m = frexp(x, &exponent);
	double s, square, term, sum = 0;

	if (m < 0.70710678118654752440)
	{
		m *= 2;
		exponent--;
	}
	s = (m - 1) / (m + 1);
	square = s * s;
	term = s;
	for (int k = 1; k < 24; k += 2)
	{
		sum += term / k;
		term *= square;
	}
	return 2 * sum + exponent * LN_2;
}

/* By Taylor's series, after the powers of two are taken out. */
static double
natural_exp(double x)
{
	double n = floor(x / LN_2 + 0.5);
	double r = x - n * LN_2;
	double term = 1;
	double sum = 1;

	for (int k = 1; k < 18; k++)
	{
		term *= r / k;
		sum += term;
	}
	return ldexp(sum, (int) n);
}

double
eduai_gateway_chance_exponential(SimulationChance *chance)
{
	return -natural_log(1 - eduai_gateway_chance_unit(chance));
}

/* Marsaglia's polar method, one of its two values. */
double
eduai_gateway_chance_normal(SimulationChance *chance)
{
	double u, v, s;

	do
	{
		u = 2 * eduai_gateway_chance_unit(chance) - 1;
		v = 2 * eduai_gateway_chance_unit(chance) - 1;
		s = u * u + v * v;
	} while (s >= 1 || s == 0);
	return u * sqrt(-2 * natural_log(s) / s);
}

double
eduai_gateway_chance_lognormal(SimulationChance *chance, double p50, double p95)
{
	double sigma = natural_log(p95 / p50) / NORMAL_P95;

	return p50 * natural_exp(sigma * eduai_gateway_chance_normal(chance));
}

double
eduai_gateway_lognormal_mean(double p50, double p95)
{
	double sigma = natural_log(p95 / p50) / NORMAL_P95;

	return p50 * natural_exp(sigma * sigma / 2);
}
