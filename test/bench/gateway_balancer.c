/*
 * gateway_balancer.c: the balancing algorithms over ten scenarios, beside a
 * clairvoyant; and what a decision costs.
 *
 * The very files that the dispatcher and simulate_balancer() run, linked
 * without PostgreSQL.  Each cell is the mean over SEEDS runs of the composite
 *
 *	  p95 in seconds + 50 x share of failed requests + 100 x USD a request
 *
 * The clairvoyant knows the true state of every instance at each moment, not
 * what chance will bring: it takes the instance with the least expected time
 * and money, by the mean or by the 95th percentile of the time, whichever of
 * the two has the better composite in the scenario.  Regret is how far above
 * it an algorithm is, in percent.
 *
 * The constants of balance_adaptive.c were tuned on seeds from 1 on, these
 * seeds begin at FIRST_SEED (1001).
 */
#include "gateway_balancer_fleets.h"
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHOWN          (BALANCE_ALGORITHMS + 1)
#define CLAIRVOYANT    BALANCE_ALGORITHMS
#define MOST_RATIO     1.05
#define LESS_REGRET    0.7
#define FLEET          20
#define DECISIONS      200000
#define MOST_NS        2000
#define MOST_ATTRACTED 0.02

static int seeds;
static int first_seed;

/* ---- scenarios ---- */

typedef struct Cell
{
	double composite;
	double p95_s;
	double failed;
	double usd;
	double wasted;
	double share_of_first;
} Cell;

static Cell
measure(const SimulatedFleet *fleet, SimulatedChooser chooser, BalanceAlgorithm algorithm)
{
	void *memory = malloc(eduai_gateway_simulation_memory(fleet));
	Cell mean = {0};

	for (int k = 0; k < seeds; k++)
	{
		SimulatedRun run;

		eduai_gateway_simulate(fleet, chooser, algorithm, first_seed + k, memory, NULL, &run);
		mean.composite += eduai_gateway_simulation_composite(&run) / seeds;
		mean.p95_s += run.p95_us / 1e6 / seeds;
		mean.failed += (double) (run.requests - run.succeeded) / run.requests / seeds;
		mean.usd += run.usd / run.requests / seeds;
		mean.wasted += (double) run.wasted / run.calls / seeds;
		mean.share_of_first += (double) run.calls_of[0] / run.calls / seeds;
	}
	free(memory);
	return mean;
}

static void
measure_all(const SimulatedFleet *fleet, Cell *cells)
{
	Cell tail = measure(fleet, SIMULATED_CLAIRVOYANT_TAIL, 0);

	for (int a = 0; a < BALANCE_ALGORITHMS; a++)
		cells[a] = measure(fleet, SIMULATED_ALGORITHM, a);
	cells[CLAIRVOYANT] = measure(fleet, SIMULATED_CLAIRVOYANT_MEAN, 0);
	if (tail.composite < cells[CLAIRVOYANT].composite)
		cells[CLAIRVOYANT] = tail;
}

static double
regret(const Cell *cells, int algorithm)
{
	return cells[algorithm].composite / cells[CLAIRVOYANT].composite - 1;
}

static int
best_other(const Cell *cells)
{
	int best = BALANCE_ADAPTIVE + 1;

	for (int a = best + 1; a < BALANCE_ALGORITHMS; a++)
		if (cells[a].composite < cells[best].composite)
			best = a;
	return best;
}

/* ---- printing ---- */

static const char *
column(int algorithm)
{
	static const char *const names[SHOWN] = {"adaptive", "rr",   "wrr",        "least_conn",
											 "least_rt", "cost", "clairvoyant"};

	return names[algorithm];
}

static void
print_heading(const char *what)
{
	printf("\n%-18s", what);
	for (int a = 0; a < SHOWN; a++)
		printf(" %11s", column(a));
}

static void
print_composites(Cell cells[SCENARIOS][SHOWN])
{
	print_heading("composite");
	printf("  adaptive / best other\n");
	for (int k = 0; k < SCENARIOS; k++)
	{
		int best = best_other(cells[k]);

		printf("%-18s", balancer_scenario(k)->name);
		for (int a = 0; a < SHOWN; a++)
			printf(" %11.3f", cells[k][a].composite);
		printf("  %.3f %s\n", cells[k][BALANCE_ADAPTIVE].composite / cells[k][best].composite,
			   column(best));
	}
}

static void
print_parts(Cell cells[SCENARIOS][SHOWN])
{
	print_heading("p95 s, failed %");
	putchar('\n');
	for (int k = 0; k < SCENARIOS; k++)
	{
		printf("%-18s", balancer_scenario(k)->name);
		for (int a = 0; a < SHOWN; a++)
			printf(" %6.2f %4.1f", cells[k][a].p95_s, 100 * cells[k][a].failed);
		putchar('\n');
	}
	print_heading("USD/1000, wasted %");
	putchar('\n');
	for (int k = 0; k < SCENARIOS; k++)
	{
		printf("%-18s", balancer_scenario(k)->name);
		for (int a = 0; a < SHOWN; a++)
			printf(" %6.3f %4.1f", 1e3 * cells[k][a].usd, 100 * cells[k][a].wasted);
		putchar('\n');
	}
}

/* True when adaptive is as good as it must be. */
static bool
judge(Cell cells[SCENARIOS][SHOWN])
{
	double mean[BALANCE_ALGORITHMS] = {0};
	double of_best = 0, of_others = 0, best_mean = 0, worst = 0;

	print_heading("regret %");
	putchar('\n');
	for (int k = 0; k < SCENARIOS; k++)
	{
		int best = best_other(cells[k]);

		printf("%-18s", balancer_scenario(k)->name);
		for (int a = 0; a < BALANCE_ALGORITHMS; a++)
		{
			printf(" %11.1f", 100 * regret(cells[k], a));
			mean[a] += regret(cells[k], a) / SCENARIOS;
		}
		putchar('\n');
		of_best += regret(cells[k], best) / SCENARIOS;
		worst = Max(worst, cells[k][BALANCE_ADAPTIVE].composite / cells[k][best].composite);
	}
	printf("%-18s", "mean");
	for (int a = 0; a < BALANCE_ALGORITHMS; a++)
	{
		printf(" %11.1f", 100 * mean[a]);
		if (a != BALANCE_ADAPTIVE)
		{
			of_others += mean[a] / (BALANCE_ALGORITHMS - 1);
			if (best_mean == 0 || mean[a] < best_mean)
				best_mean = mean[a];
		}
	}
	printf("\n\nadaptive at worst: %.3f of the best other (at most %.2f)\n", worst, MOST_RATIO);
	printf("mean regret: adaptive %.1f %%; the best other algorithm %.1f %%, %.0f %% less (at "
		   "least 30); the best other of each scenario %.1f %%, %.0f %% less; the mean of the "
		   "others %.1f %%, %.0f %% less\n",
		   100 * mean[0], 100 * best_mean, 100 * (1 - mean[0] / best_mean), 100 * of_best,
		   100 * (1 - mean[0] / of_best), 100 * of_others, 100 * (1 - mean[0] / of_others));
	return worst <= MOST_RATIO && mean[0] <= LESS_REGRET * best_mean;
}

/* An instance that fails at once, always or mostly: what part of the calls does it get? */
static bool
attracts(void)
{
	Scenario *s = balancer_scenario(3);
	SimulatedEvent *e = &s->instances[0].events[0];
	double rates[] = {1, 0.8};
	bool good = true;

	for (int k = 0; k < 2; k++)
	{
		e->at_us = 0;
		e->until_us = s->fleet.duration_us;
		e->error_rate = rates[k];
		printf("fails at once, %3.0f %%: share of calls", 100 * rates[k]);
		for (int a = 0; a < BALANCE_ALGORITHMS; a++)
		{
			double share = measure(&s->fleet, SIMULATED_ALGORITHM, a).share_of_first;

			printf("  %s %.2f %%", column(a), 100 * share);
			if (a == BALANCE_ADAPTIVE)
				good = good && share <= MOST_ATTRACTED;
		}
		putchar('\n');
	}
	return good;
}

/* ---- the cost of a decision ---- */

static void
make_fleet(BalanceOption *options, BalanceStats *stats)
{
	for (int i = 0; i < FLEET; i++)
	{
		for (int k = 0; k < 50; k++)
		{
			BalanceSample sample = {.success = (k + i) % 13 != 0,
									.first_byte_us = 200000 + 10000 * i + 997 * k,
									.duration_us = 900000 + 30000 * i + 4999 * k,
									.tokens_out = 300};

			eduai_gateway_balance_observe(&stats[i], &sample, 1000000 * (k + 1));
		}
		options[i] = (BalanceOption){.stats = &stats[i],
									 .in_flight = i % 7,
									 .max_concurrent = 10,
									 .weight = 1 + i % 3,
									 .tier = 1,
									 .ramp = 1,
									 .headroom = 1,
									 .usd = 0.0001 * (i % 5)};
	}
}

/* Of this process: what others do on the machine does not count. */
static double
cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static double
decision_ns(BalanceAlgorithm algorithm)
{
	static BalanceStats stats[FLEET];
	BalanceOption options[FLEET];
	BalanceRequest request = {.priority = 2, .tokens_out = 300, .usd_to_seconds = 100};
	BalanceState state = {0};
	int order[FLEET];
	int norder;
	double begun;
	volatile int taken;

	memset(stats, 0, sizeof(stats));
	make_fleet(options, stats);
	begun = cpu_ns();
	for (int k = 0; k < DECISIONS; k++)
	{
		options[k % FLEET].in_flight = k % 9;
		taken = eduai_gateway_balance_choose(algorithm, &state, &request, options, FLEET,
											 60000000 + k, (k % 1000) / 1000.0, order, &norder);
	}
	(void) taken;
	return (cpu_ns() - begun) / DECISIONS;
}

static bool
time_decisions(int rounds)
{
	double ns[100];
	bool good = true;

	printf(
		"\na decision between %d instances, processor time, %d a round, median of %d rounds (least to most)\n",
		FLEET, DECISIONS, rounds);
	for (int a = 0; a < BALANCE_ALGORITHMS; a++)
	{
		double middle;

		for (int k = 0; k < rounds; k++)
			ns[k] = decision_ns(a);
		middle = median(ns, rounds);
		printf("%-22s %5.0f ns  (%.0f to %.0f)\n", eduai_gateway_balance_name(a), middle, ns[0],
			   ns[rounds - 1]);
		good = good && middle <= MOST_NS;
	}
	return good;
}

int
main(void)
{
	static Cell cells[SCENARIOS][SHOWN];
	bool good;

	seeds = env_int("SEEDS", 30);
	first_seed = env_int("FIRST_SEED", 1001);
	printf("seeds %d to %d, load %d %%; composite = p95 s + 50 x failed + 100 x USD a request\n",
		   first_seed, first_seed + seeds - 1, env_int("LOAD", 100));
	for (int k = 0; k < SCENARIOS; k++)
	{
		SimulatedFleet *fleet = &balancer_scenario(k)->fleet;

		fleet->arrivals_per_s *= env_int("LOAD", 100) / 100.0;
		measure_all(fleet, cells[k]);
	}
	print_composites(cells);
	print_parts(cells);
	good = judge(cells);
	good = attracts() && good;
	good = time_decisions(Min(Max(env_int("ROUNDS", 9), 1), 100)) && good;
	printf("\n%s\n", good ? "all as it must be" : "NOT as it must be");
	return good ? 0 : 1;
}
