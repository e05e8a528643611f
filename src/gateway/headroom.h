/*
 * headroom.h: what an instance's rate limits leave.  Pure: the caller holds
 * what guards it, and gives the time.
 *
 * Two witnesses, and the smaller word counts:
 *
 *   - our own count against the instance's options rpm, tpm and daily_tokens.
 *     A call counts when it enters, its tokens as reserved while it flies and
 *     as they were once it has ended.  rpm is exact: no rolling minute has
 *     more calls entering
 *   - what the provider said in the headers of its latest answer, less what
 *     entered since; and its refusals (429), which close the instance
 */
#ifndef EDUAI_GATEWAY_HEADROOM_H
#define EDUAI_GATEWAY_HEADROOM_H

#include "gateway/call.h"
#include "ratelimit/window.h"

/*
 * What a minute counts: a minute, and a second since a call leaves a moment
 * after it entered.
 */
#define HEADROOM_WINDOW_US INT64CONST(61000000)

typedef struct HeadroomRules
{
	int64 rpm; /* 0: no limit */
	int64 tpm;
	int64 daily_tokens;
} HeadroomRules;

typedef struct HeadroomTime
{
	int64 now_us;      /* monotonic */
	int32 day;         /* by the calendar: another day, another number */
	int64 day_ends_us; /* monotonic */
} HeadroomTime;

/* A limit as the provider reported it: refilled evenly until it is whole again. */
typedef struct HeadroomReport
{
	int64 limit;   /* 0: nothing known */
	double left;   /* at at_us, less what entered since */
	double per_us; /* that it refills */
	int64 at_us;   /* of the answer */
	int64 full_us; /* when it is whole, and the report worth nothing any more */
} HeadroomReport;

typedef struct Headroom
{
	RateWindow calls;  /* that entered */
	RateWindow tokens; /* of calls that ended */
	int64 reserved;    /* tokens of those in flight */
	int32 day;
	int64 day_tokens; /* of calls that ended on that day */
	HeadroomReport report_calls;
	HeadroomReport report_tokens;
	int64 closed_until_us; /* by a refusal */
	int refusals;          /* in a row */
} Headroom;

/* The share that is left, 0 when not even a small call may enter. */
extern double eduai_gateway_headroom_look(const Headroom *h, const HeadroomRules *rules,
										  int in_flight, const HeadroomTime *time);

/*
 * When time alone will let a call of so many tokens in: now_us if it may enter
 * at once, INT64_MAX if another call has to end first.  One that is larger
 * than a whole limit may enter when nothing else uses it.
 */
extern int64 eduai_gateway_headroom_opens_us(const Headroom *h, const HeadroomRules *rules,
											 int in_flight, int64 tokens, const HeadroomTime *time);

/* A call enters, if opens_us() says that it may; its tokens are reserved. */
extern bool eduai_gateway_headroom_reserve(Headroom *h, const HeadroomRules *rules, int in_flight,
										   int64 tokens, const HeadroomTime *time);

/* It did not leave after all. */
extern void eduai_gateway_headroom_take_back(Headroom *h, int64 tokens, const HeadroomTime *time);

/* It ended, having used so many of those it had reserved. */
extern void
eduai_gateway_headroom_settle(Headroom *h, int64 reserved, int64 used, const HeadroomTime *time);

/* What it brought home: limits in headers, a refusal.  "reserved", "in_flight": of the others. */
extern void eduai_gateway_headroom_heard(Headroom *h, const CallOutcome *outcome, int in_flight,
										 const HeadroomTime *time);

/* Who had calls in flight is gone: what they had reserved is taken as used. */
extern void eduai_gateway_headroom_restart(Headroom *h, const HeadroomTime *time);

/* Another provider or model: its own words are forgotten, our counts kept. */
extern void eduai_gateway_headroom_forget_reports(Headroom *h);

#endif
