/*
 * stand.h: how the instances stand, in shared memory: what was learnt of them,
 * their breakers, rate limits, calls in flight and health.
 *
 * An entry per (database, instance), made at need.  The dispatcher writes;
 * every session may look (route(), instance_status, health()).  A lock for
 * the table; nothing under it raises, allocates or waits.  Counts of calls in
 * flight are the dispatcher's and are cleared when it starts.
 *
 * Where the table has no room (eduai.instance_slots), or there is none as
 * eduai was not preloaded, the entry is the process's own: everything holds
 * for the dispatcher just the same, and no other session sees it.
 */
#ifndef EDUAI_GATEWAY_STAND_H
#define EDUAI_GATEWAY_STAND_H

#include "gateway/balance.h"
#include "gateway/breaker.h"
#include "gateway/call.h"
#include "gateway/fleet.h"

typedef enum InstanceHealth
{
	HEALTH_UNKNOWN,
	HEALTH_GOOD,
	HEALTH_BAD
} InstanceHealth;

/* A copy of an entry. */
typedef struct InstanceStand
{
	int in_flight;
	BreakerState breaker; /* open also while the probe is out: nothing passes */
	int64 breaker_at_us;  /* open: when it will let a probe pass, monotonic; else 0 */
	double ramp;          /* of max_concurrent, at least one call: what it may take now */
	double headroom;      /* 0..1: of rpm, tpm, daily_tokens and what headers said; 0: none */
	int64 headroom_at_us; /* when headroom 0 will be over, monotonic; 0: it is not */
	InstanceHealth health;
	int64 checked_us;    /* monotonic; 0: never */
	char last_error[64]; /* a code; empty: none */
	BalanceStats stats;
} InstanceStand;

extern void eduai_gateway_stand_init(void);

/* The dispatcher starts: nothing of this database is in flight. */
extern void eduai_gateway_stand_reset_flights(void);

/*
 * Instances that are gone make room, and dropped databases: called after a
 * load of the fleet, in its transaction.  One of another provider, URL or
 * model than before is a new one, calls in flight aside.
 */
extern void eduai_gateway_stand_keep(const Fleet *fleet);

extern void eduai_gateway_stand_look(const Instance *instance, int64 now_us, InstanceStand *stand);

/*
 * When time alone will let a call of so many tokens in, by breaker and limits:
 * now_us if it may enter at once, INT64_MAX if something else has to happen
 * first (a call has to end).
 */
extern int64 eduai_gateway_stand_opens_us(const Instance *instance, int64 tokens, int64 now_us);

/*
 * A call is to leave: counts it, takes the breaker's probe and reserves its
 * tokens.  False: no room, the breaker or a limit forbids it; nothing is
 * changed.  *probe must be given back with the call's end.
 */
extern bool
eduai_gateway_stand_enter(const Instance *instance, int64 tokens, int64 now_us, bool *probe);

/* It did not leave: as if it had not entered. */
extern void
eduai_gateway_stand_take_back(const Instance *instance, int64 tokens, int64 now_us, bool probe);

/*
 * It ended: averages, breaker, limits by its headers and its real tokens.
 * Which failures are the instance's fault: see eduai_gateway_is_instances_fault().
 */
extern void eduai_gateway_stand_leave(const Instance *instance, int64 tokens,
									  const CallOutcome *outcome, int64 now_us, bool probe);

/* A call that leaves had been given up after so long without a word. */
extern void eduai_gateway_stand_gave_up(const Instance *instance, int64 waited_us, int64 now_us);

/* Does this failure speak against the instance (not the request)? */
extern bool eduai_gateway_is_instances_fault(const CallOutcome *outcome);

/*
 * A health check ended; never feeds the averages.  Unknown: it says nothing,
 * and what was known before stays.  "code": why it is bad.  True: its
 * breaker will let a probe pass earlier than it would have.
 */
extern bool eduai_gateway_stand_checked(const Instance *instance, InstanceHealth health,
										const char *code, int64 now_us);

/* Stats may be written by choose(): weights of weighted round robin. */
extern void eduai_gateway_stand_weights(const Instance *instance, double current_weight);

#endif
