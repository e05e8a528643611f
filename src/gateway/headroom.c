/*
 * headroom.c: rate limits predicted.  See headroom.h.
 *
 * The rolling minute is the rate limiter's window: the count may be too high, by
 * what entered in the second before the minute, and is never too low.
 */
#include "postgres.h"

#include "gateway/headroom.h"

#define MINUTE_MS      INT64CONST(60000)
#define DAY_MS         (24 * 60 * MINUTE_MS)
#define FIRST_PAUSE_MS INT64CONST(1000)
#define LAST_PAUSE_MS  MINUTE_MS

/* ---- what entered ---- */

static void
count(RateWindow *window, int64 n, int64 now_us)
{
	eduai_ratelimit_window_fit(window, HEADROOM_WINDOW_US, now_us);
	eduai_ratelimit_window_add(window, now_us, n);
}

/* ---- the provider's words ---- */

static bool
is_known(const HeadroomReport *r, int64 now_us)
{
	return r->limit > 0 && now_us < r->full_us;
}

static double
left_now(const HeadroomReport *r, int64 now_us)
{
	return Min(r->left + r->per_us * (double) Max(now_us - r->at_us, 0), (double) r->limit);
}

/* When so much is there; it is by full_us, when the report ends. */
static int64
refills_to(const HeadroomReport *r, int64 want, int64 now_us)
{
	double missing;

	if (!is_known(r, now_us))
		return now_us;
	missing = (double) Min(want, r->limit) - left_now(r, now_us);
	if (missing <= 0.0)
		return now_us;
	if (r->per_us <= 0.0)
		return r->full_us;
	return (int64) Min((double) r->full_us, (double) now_us + missing / r->per_us + 1.0);
}

static void
spend(HeadroomReport *r, int64 n)
{
	if (r->limit > 0)
		r->left -= (double) n;
}

/*
 * Calls in flight may or may not be in the provider's count already: they are
 * taken as if they were not.
 */
static void
report(HeadroomReport *r, int64 limit, int64 left, int64 reset_ms, int64 pending, int64 now_us)
{
	if (left < 0 || limit == 0)
		return;
	r->limit = Max(limit > 0 ? limit : left, 1);
	if (reset_ms < 0)
		reset_ms = MINUTE_MS;
	r->at_us = now_us;
	r->full_us = now_us + Min(reset_ms, DAY_MS) * 1000;
	left = Min(left, r->limit);
	r->per_us = (double) (r->limit - left) / (double) Max(r->full_us - now_us, 1);
	r->left = (double) left - (double) pending;
}

/* ---- looking ---- */

static int64
tokens_of_day(const Headroom *h, const HeadroomTime *time)
{
	return (h->day == time->day ? h->day_tokens : 0) + h->reserved;
}

static double
share(int64 used, int64 limit)
{
	return limit <= 0 ? 1.0 : Max(0.0, (double) (limit - used) / (double) limit);
}

static double
report_share(const HeadroomReport *r, int64 now_us)
{
	double left;

	if (!is_known(r, now_us))
		return 1.0;
	left = left_now(r, now_us);
	return left < 1.0 ? 0.0 : left / (double) r->limit;
}

double
eduai_gateway_headroom_look(const Headroom *h, const HeadroomRules *rules, int in_flight,
							const HeadroomTime *time)
{
	double least;

	if (eduai_gateway_headroom_opens_us(h, rules, in_flight, 1, time) > time->now_us)
		return 0.0;
	least = Min(report_share(&h->report_calls, time->now_us),
				report_share(&h->report_tokens, time->now_us));
	if (rules->rpm > 0)
		least = Min(least, share(eduai_ratelimit_window_used(&h->calls, time->now_us), rules->rpm));
	if (rules->tpm > 0)
		least =
			Min(least, share(eduai_ratelimit_window_used(&h->tokens, time->now_us) + h->reserved,
							 rules->tpm));
	if (rules->daily_tokens > 0)
		least = Min(least, share(tokens_of_day(h, time), rules->daily_tokens));
	return least;
}

/* What is larger than the limit waits until nothing else uses it. */
static int64
own_tokens_open_us(const Headroom *h, int64 tpm, int64 tokens, int64 now_us)
{
	int64 others = Max(tpm - tokens, 0) - h->reserved;

	return eduai_ratelimit_window_falls_to(&h->tokens, others, now_us);
}

static int64
day_opens_us(const Headroom *h, int64 daily, int64 tokens, const HeadroomTime *time)
{
	int64 most = Max(daily - tokens, 0);

	if (tokens_of_day(h, time) <= most)
		return time->now_us;
	return h->reserved <= most ? time->day_ends_us : INT64_MAX;
}

int64
eduai_gateway_headroom_opens_us(const Headroom *h, const HeadroomRules *rules, int in_flight,
								int64 tokens, const HeadroomTime *time)
{
	int64 now_us = time->now_us;
	int64 opens_us = Max(now_us, h->closed_until_us);

	tokens = Max(tokens, 1);
	/* refused again after a pause: one call at a time, to see */
	if (h->refusals > 1 && in_flight > 0)
		return INT64_MAX;
	opens_us = Max(opens_us, refills_to(&h->report_calls, 1, now_us));
	opens_us = Max(opens_us, refills_to(&h->report_tokens, tokens, now_us));
	if (rules->rpm > 0)
		opens_us =
			Max(opens_us, eduai_ratelimit_window_falls_to(&h->calls, rules->rpm - 1, now_us));
	if (rules->tpm > 0)
		opens_us = Max(opens_us, own_tokens_open_us(h, rules->tpm, tokens, now_us));
	if (rules->daily_tokens > 0)
		opens_us = Max(opens_us, day_opens_us(h, rules->daily_tokens, tokens, time));
	return opens_us;
}

/* ---- counting ---- */

bool
eduai_gateway_headroom_reserve(Headroom *h, const HeadroomRules *rules, int in_flight, int64 tokens,
							   const HeadroomTime *time)
{
	if (eduai_gateway_headroom_opens_us(h, rules, in_flight, tokens, time) > time->now_us)
		return false;
	count(&h->calls, 1, time->now_us);
	h->reserved += tokens;
	spend(&h->report_calls, 1);
	spend(&h->report_tokens, tokens);
	return true;
}

void
eduai_gateway_headroom_take_back(Headroom *h, int64 tokens, const HeadroomTime *time)
{
	/* entered a moment ago, with those beside it that may be taken back, too */
	eduai_ratelimit_window_take_back(&h->calls, time->now_us, 1, true);
	h->reserved = Max(h->reserved - tokens, 0);
	spend(&h->report_calls, -1);
	spend(&h->report_tokens, -tokens);
}

void
eduai_gateway_headroom_settle(Headroom *h, int64 reserved, int64 used, const HeadroomTime *time)
{
	h->reserved = Max(h->reserved - reserved, 0);
	if (used > 0)
		count(&h->tokens, used, time->now_us);
	if (h->day != time->day)
	{
		h->day = time->day;
		h->day_tokens = 0;
	}
	h->day_tokens += used;
}

/* ---- answers ---- */

static bool
is_refusal(const CallOutcome *outcome)
{
	if (outcome->verdict == CALL_COMPLETED)
		return false;
	if (strcmp(outcome->code, "rate_limited") == 0)
		return true;
	return outcome->retry_after_ms >= 0 &&
		   (outcome->http_status == 429 || outcome->http_status == 503 ||
			outcome->http_status == 529);
}

/*
 * Closed for as long as the provider wishes; where it says nothing, or was
 * not content with that, for a second, two, four ... a minute.  The answers of
 * calls that had left before it closed close it no longer than that.
 */
static void
refused(Headroom *h, int64 wish_ms, int64 now_us)
{
	int64 pause_ms = Max(wish_ms, 0);

	if (now_us >= h->closed_until_us)
	{
		h->refusals = Min(h->refusals + 1, 30);
		if (wish_ms < 0 || h->refusals > 1)
			pause_ms = Max(pause_ms, Min(FIRST_PAUSE_MS << Min(h->refusals - 1, 6), LAST_PAUSE_MS));
	}
	h->closed_until_us = Max(h->closed_until_us, now_us + pause_ms * 1000);
}

void
eduai_gateway_headroom_heard(Headroom *h, const CallOutcome *outcome, int in_flight,
							 const HeadroomTime *time)
{
	const CallLimits *said = &outcome->limits;

	report(&h->report_calls, said->requests_limit, said->requests_left, said->requests_reset_ms,
		   in_flight, time->now_us);
	report(&h->report_tokens, said->tokens_limit, said->tokens_left, said->tokens_reset_ms,
		   h->reserved, time->now_us);
	if (is_refusal(outcome))
		refused(h, outcome->retry_after_ms, time->now_us);
	else if (outcome->http_status > 0)
		h->refusals = 0;
}

void
eduai_gateway_headroom_restart(Headroom *h, const HeadroomTime *time)
{
	eduai_gateway_headroom_settle(h, h->reserved, h->reserved, time);
}

void
eduai_gateway_headroom_forget_reports(Headroom *h)
{
	memset(&h->report_calls, 0, sizeof(h->report_calls));
	memset(&h->report_tokens, 0, sizeof(h->report_tokens));
	h->closed_until_us = 0;
	h->refusals = 0;
}
