/*
 * route_failures.h: which instances could serve a task at all, and what its
 * failures say of them.  Pure; between route.c and its parts.
 */
#ifndef EDUAI_GATEWAY_ROUTE_FAILURES_H
#define EDUAI_GATEWAY_ROUTE_FAILURES_H

#include "gateway/route.h"

/* Sets step, and out where it is -1, of all options; one per instance of the fleet. */
extern void
eduai_gateway_route_steps(const Fleet *fleet, const RouteAsk *ask, RouteOption *options);

extern RouteRank
eduai_gateway_route_rank(const Fleet *fleet, const RouteAsk *ask, const Instance *instance);

/*
 * For how many microseconds from now on it rests for this task after failing it:
 * half a second from the failure, doubled with each, at most 30 s; what the
 * shortest backoff would be.  0 when the wall clock was set back since.
 */
extern int64
eduai_gateway_route_rest_us(const RouteAsk *ask, const char *instance, TimestampTz now);

#endif
