/*
 * gcra.c: pacing.  See gcra.h.
 */
#include "postgres.h"

#include <math.h>

#include "ratelimit/gcra.h"

RatePaceRules
eduai_ratelimit_pace_rules(int64 limit, int64 per_us, int64 burst)
{
	RatePaceRules rules = {.interval_ns = (per_us * 1000 + limit - 1) / limit, .burst = burst};

	return rules;
}

static int64
paid(const RatePace *p, int64 now_us)
{
	return Max(p->paid_ns, now_us * 1000);
}

int64
eduai_ratelimit_pace_owed(const RatePace *p, int64 now_us)
{
	int64 debt_ns = paid(p, now_us) - now_us * 1000;

	return debt_ns > 0 ? (debt_ns + p->interval_ns - 1) / p->interval_ns : 0;
}

void
eduai_ratelimit_pace_fit(RatePace *p, const RatePaceRules *rules, int64 now_us)
{
	int64 debt_ns = paid(p, now_us) - now_us * 1000;

	if (p->interval_ns == rules->interval_ns)
		return;
	if (debt_ns > 0 && p->interval_ns > 0)
	{
		double owed_ns = ceil((double) debt_ns * rules->interval_ns / p->interval_ns);

		p->paid_ns =
			now_us * 1000 + (int64) Min(owed_ns, (double) (rules->burst * rules->interval_ns));
	}
	p->interval_ns = rules->interval_ns;
}

int64
eduai_ratelimit_pace_left(const RatePace *p, const RatePaceRules *rules, int64 now_us)
{
	int64 debt_ns = paid(p, now_us) - now_us * 1000;

	return Max((rules->burst * rules->interval_ns - debt_ns) / rules->interval_ns, 0);
}

int64
eduai_ratelimit_pace_opens_us(const RatePace *p, const RatePaceRules *rules, int64 n, int64 now_us)
{
	int64 at_ns = paid(p, now_us) - (rules->burst - n) * rules->interval_ns;

	return at_ns <= now_us * 1000 ? now_us : (at_ns + 999) / 1000;
}

void
eduai_ratelimit_pace_add(RatePace *p, const RatePaceRules *rules, int64 n, int64 now_us)
{
	p->paid_ns = paid(p, now_us) + n * rules->interval_ns;
	p->interval_ns = rules->interval_ns;
}

void
eduai_ratelimit_pace_take_back(RatePace *p, const RatePaceRules *rules, int64 n)
{
	p->paid_ns = Max(p->paid_ns - n * rules->interval_ns, 0);
}

int64
eduai_ratelimit_pace_idle_us(const RatePace *p)
{
	return (p->paid_ns + 999) / 1000;
}
