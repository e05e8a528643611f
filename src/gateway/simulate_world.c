/*
 * simulate_world.c: the truth about the simulated instances.
 *
 * A call's latency is lognormal; "first_byte_share" of it comes before the
 * first byte whatever the request's size, the rest grows with the tokens, so
 * that latency_ms is that of a request of median size.  Events of an instance
 * that overlap multiply their factors; of error rates and the like the last
 * one counts.  A call that is refused or fails costs time and no money.  Fast
 * failures are 429s that do not say when to come again; those of a limit do,
 * and answers of limited instances carry what is left, as providers' headers.
 */
#include "postgres.h"

#include "gateway/simulate_chance.h"
#include "gateway/simulate_internal.h"

#define REFUSED_US     20000 /* a refusal for a limit comes at once */
#define FAILED_PART    0.5   /* of the latency, until an ordinary failure is known */
#define MINUTE_US      60e6
#define SILENT_SECONDS 1e3 /* to the clairvoyant: never */
#define SAVED          0.1
#define SAVED_SECONDS  2.0

/* The parts of a request that chance decides; see eduai_gateway_chance(). */
enum
{
	PART_SIZE,
	PART_CALL = 16 /* + one for each attempt and instance */
};

/* What holds for one call, or for all of them on average. */
typedef struct Condition
{
	double latency_factor;
	double error_rate;
	int64 fast_fail_us;
	bool silent;
} Condition;

void
eduai_gateway_world_start(SimulatedWorld *w, const SimulatedFleet *fleet, uint64 seed)
{
	w->fleet = fleet;
	w->seed = seed;
	for (int i = 0; i < fleet->n; i++)
	{
		w->limits[i].left = fleet->instances[i].rpm;
		w->limits[i].at_us = 0;
	}
}

static int32
draw_size(SimulationChance *chance, const SimulatedSizes *sizes)
{
	double tokens = eduai_gateway_chance_lognormal(chance, sizes->p50, sizes->p95);

	return tokens < 1 ? 1 : tokens > 1e7 ? 10000000 : (int32) tokens;
}

/* The gateway knows the input about, and of the output a bound up to twice what will come. */
void
eduai_gateway_world_draw(const SimulatedWorld *w, int number, SimulatedRequest *r)
{
	SimulationChance chance = eduai_gateway_chance(w->seed, number, PART_SIZE);
	const SimulatedSizes *sizes = &w->fleet->sizes;

	if (eduai_gateway_chance_unit(&chance) < w->fleet->large_share)
		sizes = &w->fleet->large;
	r->tokens_in = draw_size(&chance, sizes);
	r->tokens_out = draw_size(&chance, sizes);
	r->bound = (int32) (r->tokens_out * (1 + eduai_gateway_chance_unit(&chance)));
}

/* ---- conditions ---- */

static bool
is_on(const SimulatedEvent *e, int64 now_us)
{
	return now_us >= e->at_us && now_us < e->until_us;
}

/* "lot" in [0, 1) decides whether the call is among the share that an event touches. */
static Condition
condition_at(const SimulatedInstance *i, double lot, int64 now_us)
{
	Condition c = {1, i->error_rate, -1, false};

	for (int k = 0; k < i->nevents; k++)
	{
		const SimulatedEvent *e = &i->events[k];

		if (!is_on(e, now_us) || lot >= e->share)
			continue;
		c.latency_factor *= e->latency_factor;
		if (e->error_rate >= 0)
			c.error_rate = e->error_rate;
		if (e->fast_fail_us >= 0)
			c.fast_fail_us = e->fast_fail_us;
		c.silent = c.silent || e->silent;
	}
	return c;
}

double
eduai_gateway_world_usd(const SimulatedWorld *w, int instance, int in, int out, int64 now_us)
{
	const SimulatedInstance *i = &w->fleet->instances[instance];
	double usd = in * i->price_input + out * i->price_output;

	for (int k = 0; k < i->nevents; k++)
		if (is_on(&i->events[k], now_us))
			usd *= i->events[k].price_factor;
	return usd;
}

/* ---- limits ---- */

static void
fill(SimulatedLimit *limit, int rpm, int64 now_us)
{
	double left = limit->left + (now_us - limit->at_us) * (rpm / MINUTE_US);

	limit->left = Min(left, rpm);
	limit->at_us = now_us;
}

/* ---- calls ---- */

/* How much longer than a median request on an idle instance? */
static double
stretch(const SimulatedWorld *w, const SimulatedInstance *i, double tokens, int load)
{
	double size = i->first_byte_share + (1 - i->first_byte_share) * tokens / w->fleet->sizes.p50;

	return size * (1 + i->load_factor * load / i->max_concurrent);
}

/* What headers say, after this call. */
static void
tell_limit(SimulatedEnd *end, const SimulatedInstance *i, const SimulatedLimit *limit)
{
	end->limit = i->rpm;
	end->left = (int64) limit->left;
	end->reset_ms = (int64) ((i->rpm - limit->left) * MINUTE_US / i->rpm / 1e3);
}

static SimulatedEnd
refused(const SimulatedInstance *i, const SimulatedLimit *limit)
{
	SimulatedEnd end = {.duration_us = REFUSED_US, .first_byte_us = -1, .refused = true};

	tell_limit(&end, i, limit);
	end.wish_ms = (int64) ((1 - limit->left) * MINUTE_US / i->rpm / 1e3) + 1;
	return end;
}

/* No first byte in time is a failure at that time. */
static SimulatedEnd
answered(const SimulatedWorld *w, const SimulatedInstance *i, const SimulatedRequest *r, int load,
		 double latency_us, bool fails, int64 fast_fail_us)
{
	double loaded = stretch(w, i, r->tokens_out, load) * latency_us;
	double first =
		i->first_byte_share * latency_us * (1 + i->load_factor * load / i->max_concurrent);
	SimulatedEnd end = {.duration_us = (int64) loaded + 1,
						.first_byte_us = (int64) first + 1,
						.wish_ms = -1,
						.limit = -1,
						.left = -1};

	if (fails)
	{
		end.duration_us = fast_fail_us >= 0 ? fast_fail_us : (int64) (FAILED_PART * loaded) + 1;
		end.first_byte_us = -1;
		end.refused = fast_fail_us >= 0;
	}
	else if (first >= i->first_byte_us)
	{
		end.duration_us = i->first_byte_us;
		end.first_byte_us = -1;
	}
	else
		end.success = true;
	return end;
}

SimulatedEnd
eduai_gateway_world_call(SimulatedWorld *w, int instance, int number, const SimulatedRequest *r,
						 int load, int64 now_us)
{
	const SimulatedInstance *i = &w->fleet->instances[instance];
	SimulatedLimit *limit = &w->limits[i->limit_group];
	SimulationChance chance = eduai_gateway_chance(
		w->seed, number, PART_CALL + (uint64) r->calls * EDUAI_SIMULATION_INSTANCES + instance);
	Condition c = condition_at(i, eduai_gateway_chance_unit(&chance), now_us);
	bool fails = eduai_gateway_chance_unit(&chance) < c.error_rate;
	double latency_us =
		eduai_gateway_chance_lognormal(&chance, i->latency_p50_us, i->latency_p95_us);
	SimulatedEnd end;

	if (i->rpm > 0)
	{
		fill(limit, i->rpm, now_us);
		if (limit->left < 1)
			return refused(i, limit);
		limit->left -= 1;
	}
	if (c.silent)
		return (SimulatedEnd){.duration_us = i->first_byte_us,
							  .first_byte_us = -1,
							  .wish_ms = -1,
							  .limit = -1,
							  .left = -1};
	end = answered(w, i, r, load, latency_us * c.latency_factor, fails, c.fast_fail_us);
	if (i->rpm > 0 && end.success)
		tell_limit(&end, i, limit);
	return end;
}

/* ---- the clairvoyant ---- */

/* Seconds and money of a call that the condition holds for, by its mean or 95th percentile. */
static double
expected(const SimulatedWorld *w, SimulatedChooser chooser, int instance, const Condition *c,
		 const SimulatedRequest *r, int load, int64 now_us)
{
	const SimulatedInstance *i = &w->fleet->instances[instance];
	double latency_us = chooser == SIMULATED_CLAIRVOYANT_TAIL
							? i->latency_p95_us
							: eduai_gateway_lognormal_mean(i->latency_p50_us, i->latency_p95_us);
	/* its own time, and what it adds to that of the others there */
	double seconds = latency_us * c->latency_factor * stretch(w, i, r->tokens_out, 2 * load) / 1e6;
	double usd = eduai_gateway_world_usd(w, instance, r->tokens_in, r->tokens_out, now_us);
	double p = Max(1 - c->error_rate, 1e-3);

	if (c->silent)
		return SILENT_SECONDS;
	/* what fails is known after a part of the time and goes elsewhere, for as much at least */
	return seconds + w->fleet->usd_to_seconds * usd + (1 - p) / p * seconds;
}

static double
worth(const SimulatedWorld *w, SimulatedChooser chooser, int instance, const SimulatedRequest *r,
	  int load, int64 now_us)
{
	const SimulatedInstance *i = &w->fleet->instances[instance];
	double sum = 0;
	double from = 0;

	/* each share that an event touches has a condition of its own */
	while (from < 1)
	{
		Condition c = condition_at(i, from, now_us);
		double to = 1;
		double value;

		for (int k = 0; k < i->nevents; k++)
			if (is_on(&i->events[k], now_us) && i->events[k].share > from)
				to = Min(to, i->events[k].share);
		value = expected(w, chooser, instance, &c, r, load, now_us);
		/* for the tail, what one call in twenty meets is what counts */
		if (chooser == SIMULATED_CLAIRVOYANT_TAIL && to - from >= 0.05)
			sum = Max(sum, value);
		else if (chooser == SIMULATED_CLAIRVOYANT_MEAN)
			sum += value * (to - from);
		from = to;
	}
	return sum;
}

/* The last tenth of a limit is for those that gain most by it. */
static double
saved(const SimulatedWorld *w, const SimulatedInstance *i)
{
	double left = i->rpm > 0 ? w->limits[i->limit_group].left / i->rpm : 1;

	return left < SAVED ? SAVED_SECONDS * (SAVED - left) / SAVED : 0;
}

int
eduai_gateway_world_clairvoyant(SimulatedWorld *w, SimulatedChooser chooser,
								const SimulatedRequest *r, const int *in_flight, int64 now_us)
{
	int best = -1;
	double least = SILENT_SECONDS;

	for (int k = 0; k < w->fleet->n; k++)
	{
		const SimulatedInstance *i = &w->fleet->instances[k];
		double value;

		if (now_us < i->from_us || in_flight[k] >= i->max_concurrent)
			continue;
		if (i->rpm > 0)
		{
			fill(&w->limits[i->limit_group], i->rpm, now_us);
			if (w->limits[i->limit_group].left < 1)
				continue;
		}
		value = worth(w, chooser, k, r, in_flight[k], now_us) + saved(w, i);
		if (value < least)
		{
			least = value;
			best = k;
		}
	}
	return best;
}
