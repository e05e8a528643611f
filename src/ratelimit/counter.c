/*
 * counter.c: one limit's counter.  See counter.h.
 */
#include "postgres.h"

#include "ratelimit/counter.h"

static RatePaceRules
pace_rules(const RateRules *rules)
{
	return eduai_ratelimit_pace_rules(Max(rules->limit, 1), rules->per_us, rules->burst);
}

/*
 * What a window knows becomes a debt, and the other way round, at most a whole
 * limit.  Slots are counted apart and stay.
 */
static void
change_algorithm(RateCounter *c, const RateRules *rules, int64 now_us)
{
	RatePaceRules pace = pace_rules(rules);
	int64 used = 0;

	if (c->algorithm == RATE_WINDOW)
		used = eduai_ratelimit_window_used(&c->u.window, now_us);
	else if (c->algorithm == RATE_GCRA)
		used = eduai_ratelimit_pace_owed(&c->u.pace, now_us);
	memset(&c->u, 0, sizeof(c->u));
	c->algorithm = rules->algorithm;
	if (rules->algorithm == RATE_GCRA && used > 0)
		eduai_ratelimit_pace_add(&c->u.pace, &pace, Min(used, rules->burst), now_us);
	else if (rules->algorithm == RATE_WINDOW)
	{
		c->u.window.width_us = eduai_ratelimit_window_width(rules->per_us);
		if (used > 0)
			eduai_ratelimit_window_add(&c->u.window, now_us, Min(used, rules->most));
	}
}

void
eduai_ratelimit_counter_fit(RateCounter *c, const RateRules *rules, int64 now_us)
{
	if (unlikely(c->algorithm != rules->algorithm))
		change_algorithm(c, rules, now_us);
	else if (rules->algorithm == RATE_WINDOW)
		eduai_ratelimit_window_fit(&c->u.window, rules->per_us, now_us);
	else if (rules->algorithm == RATE_GCRA)
	{
		RatePaceRules pace = pace_rules(rules);

		eduai_ratelimit_pace_fit(&c->u.pace, &pace, now_us);
	}
}

/* ---- judging ---- */

static RateVerdict
judge_window(const RateWindow *w, const RateRules *rules, int64 cost, int64 now_us)
{
	int64 used = eduai_ratelimit_window_used(w, now_us);
	int64 limit = cost <= rules->most ? Max(rules->limit, cost) : rules->limit;
	RateVerdict v = {.limit = rules->limit, .allowed = used + cost <= limit};

	/* what an adaptive tier has taken away is there for a call that is alone */
	if (limit > rules->limit && used > 0)
		v.allowed = false;
	if (v.allowed)
	{
		int64 newest = Max(now_us / w->width_us, w->newest);

		v.remaining = Max(rules->limit - used - cost, 0);
		v.reset_us = (newest + RATE_BUCKETS) * w->width_us - now_us;
		return v;
	}
	v.remaining = Max(rules->limit - used, 0);
	v.reset_us = Max(eduai_ratelimit_window_idle_us(w) - now_us, 0);
	if (cost > rules->most)
		v.retry_us = -1;
	else
		v.retry_us =
			eduai_ratelimit_window_falls_to(w, limit > rules->limit ? 0 : limit - cost, now_us) -
			now_us;
	return v;
}

static RateVerdict
judge_pace(const RatePace *p, const RateRules *rules, int64 cost, int64 now_us)
{
	RatePaceRules pace = pace_rules(rules);
	int64 left = eduai_ratelimit_pace_left(p, &pace, now_us);
	RateVerdict v = {.limit = rules->limit, .allowed = cost <= left && rules->limit > 0};

	v.remaining = v.allowed ? left - cost : left;
	v.reset_us = Max(eduai_ratelimit_pace_idle_us(p), now_us) - now_us;
	if (v.allowed)
		v.reset_us += (cost * pace.interval_ns + 999) / 1000;
	else if (cost > rules->burst || rules->limit == 0)
		v.retry_us = -1;
	else
		v.retry_us = eduai_ratelimit_pace_opens_us(p, &pace, cost, now_us) - now_us;
	return v;
}

static RateVerdict
judge_slots(const RateCounter *c, const RateRules *rules, int64 cost)
{
	int64 limit = cost <= rules->most && c->held == 0 ? Max(rules->limit, cost) : rules->limit;
	RateVerdict v = {.limit = rules->limit, .allowed = c->held + cost <= limit};

	v.remaining = Max(rules->limit - c->held - (v.allowed ? cost : 0), 0);
	v.retry_us = v.allowed ? 0 : -1;
	v.reset_us = c->held == 0 && !v.allowed ? 0 : -1;
	return v;
}

RateVerdict
eduai_ratelimit_counter_judge(const RateCounter *c, const RateRules *rules, int64 cost,
							  int64 now_us)
{
	switch (rules->algorithm)
	{
		case RATE_WINDOW:
			return judge_window(&c->u.window, rules, cost, now_us);
		case RATE_GCRA:
			return judge_pace(&c->u.pace, rules, cost, now_us);
		case RATE_CONCURRENCY:
			return judge_slots(c, rules, cost);
		default:
			return (RateVerdict){.allowed = true, .limit = -1, .remaining = -1};
	}
}

void
eduai_ratelimit_counter_consume(RateCounter *c, const RateRules *rules, int64 cost, int64 now_us)
{
	if (rules->algorithm == RATE_WINDOW)
		eduai_ratelimit_window_add(&c->u.window, now_us, cost);
	else if (rules->algorithm == RATE_GCRA)
	{
		RatePaceRules pace = pace_rules(rules);

		eduai_ratelimit_pace_add(&c->u.pace, &pace, cost, now_us);
	}
	else if (rules->algorithm == RATE_CONCURRENCY)
		c->held += (uint32) cost;
}

void
eduai_ratelimit_counter_refund(RateCounter *c, const RateRules *rules, int64 cost, int64 now_us)
{
	if (rules->algorithm == RATE_WINDOW)
		eduai_ratelimit_window_take_back(&c->u.window, now_us, cost, false);
	else if (rules->algorithm == RATE_GCRA)
	{
		RatePaceRules pace = pace_rules(rules);

		eduai_ratelimit_pace_take_back(&c->u.pace, &pace, cost);
	}
	else if (rules->algorithm == RATE_CONCURRENCY)
		c->held -= (uint32) Min(cost, (int64) c->held);
}

int64
eduai_ratelimit_counter_idle_us(const RateCounter *c)
{
	if (c->held > 0)
		return INT64_MAX;
	if (c->algorithm == RATE_WINDOW)
		return eduai_ratelimit_window_idle_us(&c->u.window);
	if (c->algorithm == RATE_GCRA)
		return eduai_ratelimit_pace_idle_us(&c->u.pace);
	return 0;
}
