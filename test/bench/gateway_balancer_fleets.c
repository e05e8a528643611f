/*
 * gateway_balancer_fleets.c: the ten scenarios.  See gateway_balancer_fleets.h.
 *
 * Prices and latencies are of the order of hosted models; with a dollar worth
 * 100 seconds, as the composite has it, a call to a large model costs about a
 * second of money, one to a small model a hundredth.
 */
#include "gateway_balancer_fleets.h"

#include <stdlib.h>
#include <string.h>

#define S(seconds) ((int64) ((seconds) *1e6))
#define MTOK(usd)  ((usd) / 1e6)
#define ALWAYS \
	.share = 1, .latency_factor = 1, .error_rate = -1, .fast_fail_us = -1, .price_factor = 1
#define FROM(from, to)     ALWAYS, .at_us = S(from), .until_us = S(to)
#define MS(p50, p95)       .latency_p50_us = (p50) *1e3, .latency_p95_us = (p95) *1e3
#define USD(input, output) .price_input = MTOK(input), .price_output = MTOK(output)
#define DOWN(from, to)                                           \
	{                                                            \
		FROM(from, to), .error_rate = 1, .fast_fail_us = S(0.03) \
	}
#define SILENT(from, to)               \
	{                                  \
		FROM(from, to), .silent = true \
	}
#define SLOWER(from, to, by)                 \
	{                                        \
		FROM(from, to), .latency_factor = by \
	}

static const Scenario scenarios[SCENARIOS] = {
	{"heterogeneous", "five models of other latency, price and error rate",
	 .instances = {{"large", MS(700, 1600), USD(3, 15)},
				   {"medium", MS(1000, 2300), USD(0.8, 4), .max_concurrent = 8},
				   {"small", MS(1500, 3600), USD(0.15, 0.6), .max_concurrent = 8},
				   {"flaky", MS(900, 2000), USD(0.3, 1.2), .error_rate = 0.08},
				   {"old", MS(3000, 8000), USD(5, 20)}}},
	{"slow drift", "one of three slows down to a sixth within five minutes, and recovers",
	 .instances = {{"drifting", MS(800, 1800), USD(0.5, 2)},
				   {"second", MS(1000, 2300), USD(0.5, 2)},
				   {"third", MS(1300, 2900), USD(0.5, 2)}}},
	{"brownout", "a fifth of one instance's requests takes ten times as long, for five minutes",
	 .instances = {{"browned", MS(700, 1500), USD(0.5, 2),
					.events = {{FROM(120, 420), .share = 0.2, .latency_factor = 10}}},
				   {"second", MS(900, 2000), USD(0.5, 2)},
				   {"third", MS(900, 2000), USD(0.5, 2)},
				   {"fourth", MS(1200, 2600), USD(0.5, 2)}}},
	{"fast 429s", "one refuses at once for five minutes, another every second request",
	 .instances = {{"refusing", MS(700, 1500), USD(0.5, 2), .events = {DOWN(100, 400)}},
				   {"half", MS(800, 1700), USD(0.5, 2),
					.events = {{FROM(200, 500), .error_rate = 0.5, .fast_fail_us = S(0.03)}}},
				   {"third", MS(1000, 2300), USD(0.5, 2)},
				   {"fourth", MS(1200, 2600), USD(0.5, 2)}}},
	{"outage, flapping", "one is down, then up and down every ten seconds",
	 .instances = {{"flapping", MS(700, 1500), USD(0.5, 2),
					.events = {DOWN(60, 160), DOWN(170, 180), DOWN(190, 200), DOWN(210, 220),
							   DOWN(230, 240), DOWN(250, 260), DOWN(270, 280), DOWN(290, 300),
							   DOWN(310, 320), DOWN(330, 340)}},
				   {"second", MS(1000, 2300), USD(0.5, 2)},
				   {"third", MS(1100, 2500), USD(0.5, 2)}}},
	{"cold start", "nothing is known, one is very slow; the best one joins after a minute",
	 .fleet = {.duration_us = S(200)},
	 .instances = {{"first", MS(1000, 2300), USD(0.5, 2)},
				   {"second", MS(1200, 2600), USD(0.5, 2)},
				   {"cold", MS(6000, 15000), USD(0.5, 2)},
				   {"dear", MS(900, 2000), USD(3, 15)},
				   {"joining", MS(600, 1300), USD(0.3, 1.2), .from_us = S(60)}}},
	{"bimodal sizes", "one request in six is 30 times as large; who is fast depends on the size",
	 .fleet = {.sizes = {100, 250}, .large_share = 0.16, .large = {3000, 6000}},
	 .instances = {{"quick", MS(500, 900), USD(0.3, 1.2), .first_byte_share = 0.4},
				   {"quick too", MS(550, 1000), USD(0.3, 1.2), .first_byte_share = 0.4},
				   {"steady", MS(1500, 2700), USD(0.3, 1.2), .first_byte_share = 0.95}}},
	{"price cut", "one of three becomes ten times cheaper, later another",
	 .instances = {{"first", MS(1000, 2300), USD(2, 8)},
				   {"second", MS(1100, 2500), USD(2.5, 10),
					.events = {{FROM(200, 1e6), .price_factor = 0.1}}},
				   {"third", MS(900, 2000), USD(3, 12),
					.events = {{FROM(400, 1e6), .price_factor = 0.05}}}}},
	{"shared limit", "two instances share a limit of 100 requests a minute, at 240 in all",
	 .instances = {{"twin", MS(800, 1800), USD(0.5, 2), .rpm = 100},
				   {"other twin", MS(800, 1800), USD(0.5, 2), .rpm = 100, .limit_group = -1},
				   {"third", MS(1000, 2300), USD(1, 4)},
				   {"fourth", MS(1300, 3000), USD(1, 4)}}},
	{"silent", "one takes requests and never answers, three times for a minute",
	 .instances = {{"silent", MS(700, 1500), USD(0.5, 2), .max_concurrent = 40,
					.events = {SILENT(60, 120), SILENT(240, 300), SILENT(420, 480)}},
				   {"second", MS(900, 2000), USD(0.5, 2), .max_concurrent = 40},
				   {"third", MS(1000, 2300), USD(0.5, 2), .max_concurrent = 40}}},
};

/* Up to six times as slow in steps of five seconds, and down again. */
static void
drift(SimulatedInstance *i)
{
	for (int k = 0; k < 60; k++)
	{
		double way = k < 50 ? k / 50.0 : (60 - k) / 10.0;

		i->events[i->nevents++] = (SimulatedEvent) SLOWER(60 + 5 * k, 65 + 5 * k, 1 + 5 * way);
	}
}

static void
complete_instance(SimulatedInstance *i, int number)
{
	if (i->first_byte_share == 0)
		i->first_byte_share = 0.3;
	if (i->load_factor == 0)
		i->load_factor = 0.3;
	if (i->max_concurrent == 0)
		i->max_concurrent = 10;
	if (i->limit_group == 0)
		i->limit_group = number;
	else
		i->limit_group = number + i->limit_group;
	i->weight = 1;
	i->tier = 1;
	i->first_byte_us = S(30);
	while (i->nevents < EDUAI_SIMULATION_EVENTS && i->events[i->nevents].until_us > 0)
		i->nevents++;
}

Scenario *
balancer_scenario(int number)
{
	Scenario *s = malloc(sizeof(Scenario));
	SimulatedFleet *fleet = &s->fleet;

	memcpy(s, &scenarios[number], sizeof(Scenario));
	fleet->instances = s->instances;
	if (fleet->duration_us == 0)
		fleet->duration_us = S(600);
	if (fleet->arrivals_per_s == 0)
		fleet->arrivals_per_s = 4;
	if (fleet->sizes.p50 == 0)
		fleet->sizes = (SimulatedSizes){300, 1000};
	fleet->attempts = 3;
	fleet->timeout_us = S(120);
	fleet->usd_to_seconds = 100;
	while (s->instances[fleet->n].name != NULL)
	{
		complete_instance(&s->instances[fleet->n], fleet->n);
		fleet->n++;
	}
	if (strcmp(s->name, "slow drift") == 0)
		drift(&s->instances[0]);
	return s;
}
