/*
 * route.h: from a task to the instance that serves it now.  Pure: no clock,
 * no SQL, no shared memory; loads are an argument.
 */
#ifndef EDUAI_GATEWAY_ROUTE_H
#define EDUAI_GATEWAY_ROUTE_H

#include "gateway/fleet.h"
#include "queue/claim.h"

typedef int (*RouteLoad)(const Instance *instance);

/*
 * The active instance that serves the candidate, of the lowest tier that has
 * one with room, and there the one with the smallest share of its
 * max_concurrent in use (least connections), ties going round.  The instance
 * that failed the task last is taken only when no other is left.  NULL when
 * none has room.
 */
extern Instance *eduai_gateway_route(const Fleet *fleet, const Candidate *task, RouteLoad load);

/* Is there another active instance than "name" that serves this? */
extern bool eduai_gateway_route_elsewhere(const Fleet *fleet, const char *task_type,
										  const char *model, const char *tenant, const char *name);

#endif
