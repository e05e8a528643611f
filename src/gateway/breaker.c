/*
 * breaker.c: transitions of a circuit breaker.  See breaker.h.
 *
 * Invariants:
 *   - at most one probe is out; one that has not come back within probe_us is
 *     lost, and the next call may be it.  Should the lost one come back, its
 *     word counts all the same: it is as true as the other's.  A probe that
 *     comes back without a word makes room for another only when none is out
 *   - a breaker that is not half open has no probe out
 *   - time alone never closes it
 *
 * Two measures open it, as either alone is blind: failures in a row miss an
 * instance that fails every other call, a rate needs more calls than an idle
 * one gets.  The rate is that of the last half minute or so: counts lose half
 * of their weight in RATE_HALF_LIFE_US.
 */
#include "postgres.h"

#include <math.h>

#include "gateway/breaker.h"

#define RATE_HALF_LIFE_US INT64CONST(30000000)
#define RATE_LEAST        20.0 /* calls, discounted: fewer prove nothing */
#define RATE_OPENS        0.5

static bool
probe_is_out(const Breaker *b, const BreakerRules *rules, int64 now_us)
{
	return b->probe_us != 0 && now_us < b->probe_us + rules->probe_us;
}

BreakerState
eduai_gateway_breaker_look(const Breaker *b, const BreakerRules *rules, int64 now_us)
{
	if (b->state == BREAKER_CLOSED)
		return BREAKER_CLOSED;
	if (b->state == BREAKER_OPEN)
		return now_us >= b->until_us ? BREAKER_HALF_OPEN : BREAKER_OPEN;
	return probe_is_out(b, rules, now_us) ? BREAKER_OPEN : BREAKER_HALF_OPEN;
}

int64
eduai_gateway_breaker_opens_us(const Breaker *b, const BreakerRules *rules, int64 now_us)
{
	if (eduai_gateway_breaker_look(b, rules, now_us) != BREAKER_OPEN)
		return 0;
	return b->state == BREAKER_OPEN ? b->until_us : b->probe_us + rules->probe_us;
}

bool
eduai_gateway_breaker_admit(Breaker *b, const BreakerRules *rules, int64 now_us, bool *probe)
{
	BreakerState met = eduai_gateway_breaker_look(b, rules, now_us);

	*probe = met == BREAKER_HALF_OPEN;
	if (met == BREAKER_HALF_OPEN)
	{
		b->state = BREAKER_HALF_OPEN;
		b->probe_us = Max(now_us, 1);
		b->probes_out++;
	}
	return met != BREAKER_OPEN;
}

static void
count_in(Breaker *b, bool probe)
{
	if (probe)
		b->probes_out = Max(b->probes_out - 1, 0);
}

void
eduai_gateway_breaker_release(Breaker *b, bool probe)
{
	count_in(b, probe);
	if (probe && b->state == BREAKER_HALF_OPEN && b->probes_out == 0)
		b->probe_us = 0;
}

void
eduai_gateway_breaker_restart(Breaker *b)
{
	b->probes_out = 0;
	b->probe_us = 0;
}

/* ---- what came back ---- */

static void
count(Breaker *b, int64 now_us, bool failed)
{
	double keep = 1.0;

	if (b->recent_us != 0 && now_us > b->recent_us)
		keep = exp2(-(double) (now_us - b->recent_us) / RATE_HALF_LIFE_US);
	b->recent = b->recent * keep + 1.0;
	b->recent_failures = b->recent_failures * keep + (failed ? 1.0 : 0.0);
	b->recent_us = Max(now_us, b->recent_us);
}

static void
open_it(Breaker *b, const BreakerRules *rules, int64 now_us)
{
	b->state = BREAKER_OPEN;
	b->opened_us = now_us;
	b->until_us = now_us + rules->open_us;
	b->probe_us = 0;
	b->opened++;
}

static void
close_it(Breaker *b, int64 now_us)
{
	b->state = BREAKER_CLOSED;
	b->failures = 0;
	/* what was before the outage ended says nothing of now */
	b->recent = b->recent_failures = 0.0;
	b->probe_us = 0;
	b->closed_us = Max(now_us, 1);
}

void
eduai_gateway_breaker_success(Breaker *b, const BreakerRules *rules, int64 now_us, bool probe)
{
	count_in(b, probe);
	count(b, now_us, false);
	if (b->state == BREAKER_CLOSED)
		b->failures = 0;
	else if (probe)
		close_it(b, now_us);
}

void
eduai_gateway_breaker_failure(Breaker *b, const BreakerRules *rules, int64 now_us, bool probe)
{
	count_in(b, probe);
	count(b, now_us, true);
	if (b->state == BREAKER_CLOSED)
	{
		b->failures++;
		if (b->failures >= rules->threshold ||
			(b->recent >= RATE_LEAST && b->recent_failures >= RATE_OPENS * b->recent))
			open_it(b, rules, now_us);
	}
	else if (probe)
		open_it(b, rules, now_us);
}

bool
eduai_gateway_breaker_hurry(Breaker *b, const BreakerRules *rules, int64 now_us)
{
	int64 until_us = Max(now_us, b->opened_us + rules->open_us / 2);

	if (b->state != BREAKER_OPEN || b->until_us <= until_us)
		return false;
	b->until_us = until_us;
	return true;
}

double
eduai_gateway_breaker_ramp(const Breaker *b, const BreakerRules *rules, int64 now_us)
{
	if (b->state != BREAKER_CLOSED)
		return 1.0;
	if (b->closed_us == 0 || rules->ramp_us <= 0 || now_us >= b->closed_us + rules->ramp_us)
		return 1.0;
	return Max(0.0, (double) (now_us - b->closed_us) / rules->ramp_us);
}

const char *
eduai_gateway_breaker_name(BreakerState state)
{
	static const char *const names[] = {"closed", "open", "half_open"};

	return names[state];
}
