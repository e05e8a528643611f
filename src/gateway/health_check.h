/*
 * health_check.h: asking providers now and then whether they are well.
 *
 * A check is a GET that costs nothing (the adapter's health_path), through the
 * transfers like any call, but of no task: it takes no slot of a pool or an
 * instance, is not in the ledger and feeds no average.  There is one per
 * provider, and its result is that of all of the provider's instances.
 *
 * No check leaves while the provider has no active instance, or the database
 * belongs elsewhere.
 */
#ifndef EDUAI_GATEWAY_HEALTH_CHECK_H
#define EDUAI_GATEWAY_HEALTH_CHECK_H

#include "gateway/call.h"
#include "gateway/fleet.h"

extern void eduai_gateway_health_check_init(void);

/* The fleet was loaded, or settings changed: which providers are to be asked. */
extern void eduai_gateway_health_check_plan(const Fleet *fleet);

/* Outside of a transaction: those that are due leave; each holds a reference to the fleet. */
extern void eduai_gateway_health_check_start_due(Fleet *fleet);

/*
 * One came back; the call remains the caller's.  "fleet": the present one.
 * True: an instance will be there for a probe earlier than it was said to be.
 */
extern bool eduai_gateway_health_check_ended(const Fleet *fleet, const GatewayCall *call,
											 const CallOutcome *outcome);

/* When the next one is due, monotonic; INT64_MAX: none is. */
extern int64 eduai_gateway_health_check_next_us(void);

#endif
