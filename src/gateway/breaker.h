/*
 * breaker.h: the circuit breaker of one instance.  Pure: the caller holds what
 * guards it, and gives the (monotonic) time.
 *
 *   closed     calls pass; "threshold" failures in a row, or half of the last
 *              ones, open it
 *   open       none passes for "open_us"
 *   half open  exactly one probe passes; its success closes, its failure opens
 *   closed again: a ramp lets more and more pass
 *
 * What calls that left before it opened bring home moves nothing any more but
 * the rate: only the probe's word counts until it closes.
 */
#ifndef EDUAI_GATEWAY_BREAKER_H
#define EDUAI_GATEWAY_BREAKER_H

#include "postgres.h"

typedef enum BreakerState
{
	BREAKER_CLOSED,
	BREAKER_OPEN,
	BREAKER_HALF_OPEN
} BreakerState;

typedef struct Breaker
{
	BreakerState state;
	int failures;  /* in a row */
	double recent; /* discounted counts, for the rate */
	double recent_failures;
	int64 recent_us;
	int64 opened_us; /* open: since when */
	int64 until_us;  /* open: to when */
	int64 probe_us;  /* half open: when the probe left, 0: it has not */
	int probes_out;  /* that have not come back, lost ones too */
	int64 closed_us; /* when it closed after having been open, 0: never was */
	int64 opened;    /* how often */
} Breaker;

typedef struct BreakerRules
{
	int threshold;  /* eduai.failover_threshold, 3 */
	int64 open_us;  /* eduai.breaker_open, 60 s */
	int64 probe_us; /* a probe that has not come back by then is lost */
	int64 ramp_us;  /* from one call to all, after a recovery */
} BreakerRules;

/*
 * What a call meets that wants to leave now: closed, it passes; half open, it
 * would be the probe; open, it does not pass, as long as the probe is out too.
 * Nothing is changed.
 */
extern BreakerState
eduai_gateway_breaker_look(const Breaker *b, const BreakerRules *rules, int64 now_us);
/* Open: when it lets a probe pass; 0 when look() says otherwise. */
extern int64
eduai_gateway_breaker_opens_us(const Breaker *b, const BreakerRules *rules, int64 now_us);
/* Takes the probe of a half-open one: false when it is taken or the breaker is open. */
extern bool
eduai_gateway_breaker_admit(Breaker *b, const BreakerRules *rules, int64 now_us, bool *probe);
/* The call says nothing: it did not leave, was cancelled or unfit.  Gives a probe back. */
extern void eduai_gateway_breaker_release(Breaker *b, bool probe);
/* Whoever had calls in flight is gone: none of them will come back. */
extern void eduai_gateway_breaker_restart(Breaker *b);
extern void
eduai_gateway_breaker_success(Breaker *b, const BreakerRules *rules, int64 now_us, bool probe);
extern void
eduai_gateway_breaker_failure(Breaker *b, const BreakerRules *rules, int64 now_us, bool probe);
/* A health check was good: an open one waits half its time at most.  False: it does already. */
extern bool eduai_gateway_breaker_hurry(Breaker *b, const BreakerRules *rules, int64 now_us);
/* The share of its capacity that it may take now: 1 unless it has just recovered. */
extern double eduai_gateway_breaker_ramp(const Breaker *b, const BreakerRules *rules, int64 now_us);

extern const char *eduai_gateway_breaker_name(BreakerState state);

#endif
