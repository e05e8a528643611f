/*
 * simulate.c: a discrete-event simulation of the dispatcher.  See simulate.h.
 *
 * Time jumps from event to event: a request arrives, a call ends, a backoff is
 * over, something that waiting requests wait for is due.  After each, waiting
 * requests are sent as far as the choice finds room: first come, first served,
 * those that failed elsewhere before the others.
 *
 * The gateway's side of an instance (Side) knows what the dispatcher knows,
 * by the dispatcher's own means: averages, a breaker, what is left of limits.
 * What ends a call feeds them as it does there.
 */
#include "postgres.h"

#include "gateway/headroom.h"
#include "gateway/simulate_chance.h"
#include "gateway/simulate_internal.h"

#define SECOND_US       INT64CONST(1000000)
#define MOST_BACKOFF_US (60 * SECOND_US)
#define NORMAL_PRIORITY 2
#define TICK            4096 /* steps */
#define LOOK_AGAIN_US   (SECOND_US / 10)
#define PART_DECISION   1 /* of a request's chance */
#define PART_ARRIVAL    2
#define PART_BACKOFF    3

static const BreakerRules rules = {
	.threshold = 3,
	.open_us = 60 * SECOND_US,
	.probe_us = 120 * SECOND_US,
	.ramp_us = 30 * SECOND_US,
};

typedef enum EventKind
{
	EVENT_ARRIVAL,
	EVENT_END,
	EVENT_RETRY,
	EVENT_LOOK /* what was in the way may be out of it */
} EventKind;

typedef struct Event
{
	int64 at_us;
	uint32 number; /* events of one time happen in the order in which they were made */
	int32 request;
	int16 kind;
	int16 instance;
	bool probe;
	SimulatedEnd end;
	int64 left_us;
} Event;

/* An instance as the gateway sees it. */
typedef struct Side
{
	BalanceStats stats;
	Breaker breaker;
	Headroom headroom;
} Side;

typedef struct Simulation
{
	const SimulatedFleet *fleet;
	SimulatedChooser chooser;
	BalanceAlgorithm algorithm;
	uint64 seed;
	SimulatedWorld world;
	SimulatedRun *run;
	int64 now_us;

	Side sides[EDUAI_SIMULATION_INSTANCES];
	int in_flight[EDUAI_SIMULATION_INSTANCES];
	BalanceState state;

	SimulatedRequest *requests;
	int nrequests;
	int most;
	int first_waiting; /* -1: none */
	int last_waiting;
	int64 look_us; /* when an EVENT_LOOK is due, 0: none */

	Event *events; /* a heap */
	int nevents;
	uint32 numbered;
} Simulation;

/* ---- events ---- */

static bool
is_before(const Event *a, const Event *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->number < b->number;
}

static Event *
add_event(Simulation *s, EventKind kind, int64 at_us, int request)
{
	Event made = {.at_us = at_us, .number = s->numbered++, .request = request, .kind = kind};
	int at = s->nevents++;

	while (at > 0 && is_before(&made, &s->events[(at - 1) / 2]))
	{
		s->events[at] = s->events[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	s->events[at] = made;
	return &s->events[at];
}

static Event
next_event(Simulation *s)
{
	Event first = s->events[0];
	Event last = s->events[--s->nevents];
	int at = 0;

	for (;;)
	{
		int child = 2 * at + 1;

		if (child >= s->nevents)
			break;
		if (child + 1 < s->nevents && is_before(&s->events[child + 1], &s->events[child]))
			child++;
		if (!is_before(&s->events[child], &last))
			break;
		s->events[at] = s->events[child];
		at = child;
	}
	s->events[at] = last;
	return first;
}

/* ---- the line ---- */

static void
wait_in_line(Simulation *s, int request, bool in_front)
{
	SimulatedRequest *r = &s->requests[request];

	r->next = -1;
	if (s->first_waiting < 0)
		s->first_waiting = s->last_waiting = request;
	else if (in_front)
	{
		r->next = s->first_waiting;
		s->first_waiting = request;
	}
	else
	{
		s->requests[s->last_waiting].next = request;
		s->last_waiting = request;
	}
}

static void
leave_line(Simulation *s)
{
	s->first_waiting = s->requests[s->first_waiting].next;
}

static void
look_at(Simulation *s, int64 at_us)
{
	if (s->look_us != 0 && s->look_us <= at_us)
		return;
	s->look_us = at_us;
	add_event(s, EVENT_LOOK, at_us, -1);
}

/* ---- choosing ---- */

static HeadroomRules
limits_of(const Simulation *s, int instance)
{
	return (HeadroomRules){.rpm = s->fleet->instances[instance].rpm};
}

static HeadroomTime
time_of(const Simulation *s)
{
	return (HeadroomTime){.now_us = s->now_us, .day_ends_us = PG_INT64_MAX};
}

static double
headroom(const Simulation *s, int instance)
{
	HeadroomRules limits = limits_of(s, instance);
	HeadroomTime time = time_of(s);

	return eduai_gateway_headroom_look(&s->sides[instance].headroom, &limits,
									   s->in_flight[instance], &time);
}

static bool
make_option(Simulation *s, const SimulatedRequest *r, int instance, BalanceOption *o)
{
	const SimulatedInstance *i = &s->fleet->instances[instance];
	Side *side = &s->sides[instance];
	BreakerState met = eduai_gateway_breaker_look(&side->breaker, &rules, s->now_us);

	if (s->now_us < i->from_us || met == BREAKER_OPEN)
		return false;
	*o = (BalanceOption){
		.stats = &side->stats,
		.in_flight = s->in_flight[instance],
		.max_concurrent = i->max_concurrent,
		.weight = i->weight,
		.tier = i->tier,
		.failed_before = (r->failed & UINT64CONST(1) << instance) != 0,
		.probe = met == BREAKER_HALF_OPEN,
		.ramp = eduai_gateway_breaker_ramp(&side->breaker, &rules, s->now_us),
		.headroom = headroom(s, instance),
		.usd = eduai_gateway_world_usd(&s->world, instance, r->tokens_in, r->bound, s->now_us),
	};
	return true;
}

static int
choose(Simulation *s, int request)
{
	const SimulatedRequest *r = &s->requests[request];
	BalanceRequest wanted = {.priority = NORMAL_PRIORITY,
							 .tokens_in = r->tokens_in,
							 .tokens_out = r->bound,
							 .usd_to_seconds = s->fleet->usd_to_seconds};
	BalanceOption options[EDUAI_SIMULATION_INSTANCES];
	int instances[EDUAI_SIMULATION_INSTANCES] = {0};
	int order[EDUAI_SIMULATION_INSTANCES];
	SimulationChance chance = eduai_gateway_chance(s->seed, request, PART_DECISION);
	int n = 0;
	int taken;

	for (int i = 0; i < s->fleet->n; i++)
		if (make_option(s, r, i, &options[n]))
			instances[n++] = i;
	chance.state += r->calls;
	taken = eduai_gateway_balance_choose(s->algorithm, &s->state, &wanted, options, n, s->now_us,
										 eduai_gateway_chance_unit(&chance), order, &(int){0});
	return taken < 0 ? -1 : instances[taken];
}

static void
send(Simulation *s, int request, int instance)
{
	SimulatedRequest *r = &s->requests[request];
	Side *side = &s->sides[instance];
	HeadroomRules limits = limits_of(s, instance);
	HeadroomTime time = time_of(s);
	bool probe = false;
	SimulatedEnd end;
	Event *event;

	if (s->chooser == SIMULATED_ALGORITHM)
	{
		(void) eduai_gateway_breaker_admit(&side->breaker, &rules, s->now_us, &probe);
		(void) eduai_gateway_headroom_reserve(&side->headroom, &limits, s->in_flight[instance], 0,
											  &time);
		eduai_gateway_balance_sent(&side->stats, s->now_us);
	}
	end = eduai_gateway_world_call(&s->world, instance, request, r, s->in_flight[instance],
								   s->now_us);
	s->in_flight[instance]++;
	r->calls++;
	s->run->calls++;
	s->run->calls_of[instance]++;
	event = add_event(s, EVENT_END, s->now_us + end.duration_us, request);
	event->instance = instance;
	event->probe = probe;
	event->end = end;
	event->left_us = s->now_us;
}

static bool
is_late(const Simulation *s, const SimulatedRequest *r)
{
	return s->now_us - r->arrived_us >= s->fleet->timeout_us;
}

static void
send_waiting(Simulation *s)
{
	while (s->first_waiting >= 0)
	{
		int request = s->first_waiting;
		SimulatedRequest *r = &s->requests[request];
		int instance = -1;

		if (!is_late(s, r))
		{
			instance = s->chooser == SIMULATED_ALGORITHM
						   ? choose(s, request)
						   : eduai_gateway_world_clairvoyant(&s->world, s->chooser, r, s->in_flight,
															 s->now_us);
			if (instance < 0)
			{
				look_at(s, s->now_us + LOOK_AGAIN_US);
				return;
			}
		}
		leave_line(s);
		if (instance >= 0)
			send(s, request, instance);
	}
}

/* ---- what happens ---- */

static void
arrive(Simulation *s)
{
	SimulationChance chance = eduai_gateway_chance(s->seed, s->nrequests, PART_ARRIVAL);
	int64 wait_us =
		(int64) (eduai_gateway_chance_exponential(&chance) * 1e6 / s->fleet->arrivals_per_s);
	SimulatedRequest *r = &s->requests[s->nrequests];

	*r = (SimulatedRequest){.arrived_us = s->now_us, .took_us = -1};
	eduai_gateway_world_draw(&s->world, s->nrequests, r);
	wait_in_line(s, s->nrequests, false);
	s->nrequests++;
	if (s->nrequests < s->most && s->now_us + wait_us < s->fleet->duration_us)
		add_event(s, EVENT_ARRIVAL, s->now_us + wait_us, -1);
}

/* Is there an instance that this request could be sent to now and where it did not fail? */
static bool
is_untried(const Simulation *s, const SimulatedRequest *r)
{
	for (int i = 0; i < s->fleet->n; i++)
		if (s->now_us >= s->fleet->instances[i].from_us && (r->failed & UINT64CONST(1) << i) == 0 &&
			eduai_gateway_breaker_look(&s->sides[i].breaker, &rules, s->now_us) != BREAKER_OPEN &&
			headroom(s, i) > 0)
			return true;
	return false;
}

/* As the queue does: elsewhere at once, again after a backoff that doubles. */
static void
try_again(Simulation *s, int request)
{
	SimulatedRequest *r = &s->requests[request];
	SimulationChance chance = eduai_gateway_chance(s->seed, request, PART_BACKOFF);
	int64 backoff_us = SECOND_US << Min(r->calls - 1, 6);

	if (r->calls >= s->fleet->attempts)
		return;
	if (is_untried(s, r))
	{
		wait_in_line(s, request, true);
		return;
	}
	chance.state += r->calls;
	backoff_us = Min(backoff_us, MOST_BACKOFF_US);
	backoff_us = (int64) (backoff_us * (0.5 + 0.5 * eduai_gateway_chance_unit(&chance)));
	add_event(s, EVENT_RETRY, s->now_us + backoff_us, request);
}

/* As stand.c does: a refusal for a limit is no fault of the instance. */
static void
learn(Simulation *s, const Event *e, const SimulatedRequest *r)
{
	const SimulatedEnd *end = &e->end;
	Side *side = &s->sides[e->instance];
	HeadroomTime time = time_of(s);
	BalanceSample sample = {.success = end->success,
							.first_byte_us = end->first_byte_us,
							.duration_us = end->duration_us,
							.tokens_out = end->success ? r->tokens_out : 0,
							.probe = e->probe};
	CallOutcome outcome = {
		.verdict = end->success ? CALL_COMPLETED : CALL_RETRY,
		.code = end->refused ? "rate_limited" : "failed",
		.http_status = end->refused              ? 429
					   : end->first_byte_us >= 0 ? 200
												 : 0,
		.retry_after_ms = end->wish_ms,
		.limits = {end->limit, end->left, end->reset_ms, -1, -1, -1},
	};

	eduai_gateway_balance_observe(&side->stats, &sample, s->now_us);
	eduai_gateway_headroom_heard(&side->headroom, &outcome, s->in_flight[e->instance], &time);
	if (end->success)
		eduai_gateway_breaker_success(&side->breaker, &rules, s->now_us, e->probe);
	else if (end->refused)
		eduai_gateway_breaker_release(&side->breaker, e->probe);
	else
		eduai_gateway_breaker_failure(&side->breaker, &rules, s->now_us, e->probe);
}

static void
end_call(Simulation *s, const Event *e)
{
	SimulatedRequest *r = &s->requests[e->request];

	s->in_flight[e->instance]--;
	if (s->chooser == SIMULATED_ALGORITHM)
		learn(s, e, r);
	if (e->end.success)
	{
		r->took_us = s->now_us - r->arrived_us;
		s->run->succeeded++;
		s->run->usd += eduai_gateway_world_usd(&s->world, e->instance, r->tokens_in, r->tokens_out,
											   e->left_us);
		return;
	}
	s->run->wasted++;
	r->failed |= UINT64CONST(1) << e->instance;
	try_again(s, e->request);
}

static void
happen(Simulation *s, const Event *e)
{
	s->now_us = e->at_us;
	switch ((EventKind) e->kind)
	{
		case EVENT_ARRIVAL:
			arrive(s);
			break;
		case EVENT_END:
			end_call(s, e);
			break;
		case EVENT_RETRY:
			wait_in_line(s, e->request, true);
			break;
		case EVENT_LOOK:
			if (e->at_us == s->look_us)
				s->look_us = 0;
			break;
	}
	send_waiting(s);
}

/* ---- the whole ---- */

int
eduai_gateway_simulation_requests(const SimulatedFleet *fleet)
{
	/* half as many again as are expected, and some for short runs */
	double most = fleet->duration_us / 1e6 * fleet->arrivals_per_s * 1.5 + 100;

	return (int) Min(most, EDUAI_SIMULATION_REQUESTS);
}

/* A request has one event at a time, beside an arrival and a look. */
size_t
eduai_gateway_simulation_memory(const SimulatedFleet *fleet)
{
	size_t most = eduai_gateway_simulation_requests(fleet);

	return sizeof(Simulation) + (most + 16) * sizeof(Event) + most * sizeof(SimulatedRequest);
}

static int
compare_times(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return x < y ? -1 : x > y;
}

static double
percentile(const double *sorted, int64 n, double share)
{
	return n == 0 ? 0 : sorted[(int64) (share * (n - 1) + 0.5)];
}

/* The events' memory is free by now. */
static void
sum_up(Simulation *s)
{
	double *times = (double *) s->events;
	SimulatedRun *run = s->run;
	int64 n = 0;

	for (int i = 0; i < s->nrequests; i++)
		if (s->requests[i].took_us >= 0)
			times[n++] = (double) s->requests[i].took_us;
	qsort(times, n, sizeof(double), compare_times);
	run->requests = s->nrequests;
	run->p50_us = percentile(times, n, 0.5);
	run->p95_us = percentile(times, n, 0.95);
	run->p99_us = percentile(times, n, 0.99);
}

double
eduai_gateway_simulation_composite(const SimulatedRun *run)
{
	double requests = Max(run->requests, 1);

	return run->p95_us / 1e6 + 50 * (run->requests - run->succeeded) / requests +
		   100 * run->usd / requests;
}

void
eduai_gateway_simulate(const SimulatedFleet *fleet, SimulatedChooser chooser,
					   BalanceAlgorithm algorithm, uint64 seed, void *memory, void (*tick)(void),
					   SimulatedRun *run)
{
	Simulation *s = memory;

	memset(run, 0, sizeof(*run));
	memset(s, 0, sizeof(*s));
	s->fleet = fleet;
	s->chooser = chooser;
	s->algorithm = algorithm;
	s->seed = seed;
	s->run = run;
	s->most = eduai_gateway_simulation_requests(fleet);
	s->first_waiting = -1;
	s->events = (Event *) (s + 1);
	s->requests = (SimulatedRequest *) (s->events + s->most + 16);
	eduai_gateway_world_start(&s->world, fleet, seed);
	add_event(s, EVENT_ARRIVAL, 0, -1);
	for (int64 steps = 0; s->nevents > 0; steps++)
	{
		Event e = next_event(s);

		happen(s, &e);
		if (tick != NULL && steps % TICK == 0)
			tick();
	}
	sum_up(s);
}
