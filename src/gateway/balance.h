/*
 * balance.h: choosing an instance: the six algorithms.  Pure: no clock, no
 * SQL, no shared memory, no allocation; the dispatcher, route(),
 * simulate_balancer() and the replay of a trace call the same
 * eduai_gateway_balance_choose().  Formulas and sources: docs/gateway-balancing.md.
 */
#ifndef EDUAI_GATEWAY_BALANCE_H
#define EDUAI_GATEWAY_BALANCE_H

#include "postgres.h"

typedef enum BalanceAlgorithm
{
	BALANCE_ADAPTIVE,
	BALANCE_ROUND_ROBIN,
	BALANCE_WEIGHTED_ROUND_ROBIN,
	BALANCE_LEAST_CONNECTIONS,
	BALANCE_LEAST_RESPONSE_TIME,
	BALANCE_COST_OPTIMIZED,
	BALANCE_ALGORITHMS
} BalanceAlgorithm;

/* NULL-safe; false when there is no such name. */
extern bool eduai_gateway_balance_algorithm(const char *name, BalanceAlgorithm *algorithm);
extern const char *eduai_gateway_balance_name(BalanceAlgorithm algorithm);

/* What was learnt of an instance; all zero: nothing yet. */
typedef struct BalanceStats
{
	int64 observed_us;    /* when the last sample came */
	double first_byte_us; /* EWMA; whole calls where tokens are not counted */
	double us_per_token;  /* EWMA, of output tokens after the first byte */
	double peak;          /* calls take so many times the above: up at once, down slowly */
	double response_us;   /* EWMA of whole calls */
	double tokens_out;    /* EWMA of output tokens */
	double successes;     /* discounted counts: a Beta's parameters less its prior's */
	double failures;
	double failed_us;      /* EWMA of the time that failures took */
	double current_weight; /* of rounds: moved by choose() */
	int64 samples;         /* successes seen since the start */
	int64 unheard_us;      /* when the first of the calls below left */
	int unheard;           /* calls that left since it was last heard of */
} BalanceStats;

/* How a call ended, for the averages. */
typedef struct BalanceSample
{
	bool success;
	int64 first_byte_us; /* -1: unknown; that of an answer in one piece is its end */
	int64 duration_us;
	int64 tokens_out; /* 0: unknown */
	bool probe;       /* of a half-open breaker: its success ends what was before */
} BalanceSample;

/* A call leaves: how long nothing is heard from then on says something, too. */
extern void eduai_gateway_balance_sent(BalanceStats *stats, int64 now_us);

/* A call ended.  Failures never improve a latency. */
extern void
eduai_gateway_balance_observe(BalanceStats *stats, const BalanceSample *sample, int64 now_us);

/*
 * A call was given up after so long without a word: it would have taken longer.
 * Never lowers a time, and is neither a success nor a failure.
 */
extern void eduai_gateway_balance_gave_up(BalanceStats *stats, int64 waited_us, int64 now_us);

/* What is to be sent. */
typedef struct BalanceRequest
{
	int priority;          /* 0 critical .. 3 low */
	int64 tokens_in;       /* estimated */
	int64 tokens_out;      /* a bound or an estimate; 0: unknown */
	int64 deadline_us;     /* time left, 0: none */
	double usd_to_seconds; /* what a dollar is worth here: grows as a budget runs out */
} BalanceRequest;

/*
 * An instance that may serve it: the caller has filtered by capability, model,
 * tenant, state, and left out those whose breaker is open.
 */
typedef struct BalanceOption
{
	BalanceStats *stats; /* choose() moves current_weight only */
	int in_flight;
	int max_concurrent; /* at least 1 */
	int weight;
	int tier;
	bool failed_before; /* this task failed there: only when nothing else is left */
	bool probe;         /* its breaker is half open: one call, to see */
	double ramp;        /* 0..1: the share of max_concurrent that a recovered one may take */
	double headroom;    /* 0..1: of its rate limits, what is left; 0: none, not eligible */
	double usd;         /* expected cost of this request there */
	/* set by choose() */
	double score; /* lower is better; in seconds for adaptive */
	bool eligible;
} BalanceOption;

/* Of a whole fleet. */
typedef struct BalanceState
{
	uint64 turn; /* choices made: numbers them in a trace */
} BalanceState;

/*
 * The option to take, -1 when none has room; scores of all are set.  "random"
 * is in [0, 1) and is all the chance there is.  In "order" (room for n), the
 * eligible ones, best first; the one taken may be another than the first when
 * adaptive explores or probes.
 *
 * Those that failed the task come last, then higher tiers; the algorithm
 * decides between the rest.  Ties, and the rounds of round robin, go by
 * current_weight, which the caller keeps: smooth weighted round robin is fair
 * whatever subset of the fleet is at choice from call to call.
 */
extern int
eduai_gateway_balance_choose(BalanceAlgorithm algorithm, BalanceState *state,
							 const BalanceRequest *request, BalanceOption *options, int n,
							 int64 now_us, double random, int *order, int *norder);

#endif
