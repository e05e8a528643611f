/*
 * flight.h: a call from its claim to the commit of its outcome.
 */
#ifndef EDUAI_GATEWAY_FLIGHT_H
#define EDUAI_GATEWAY_FLIGHT_H

#include "gateway/call.h"
#include "gateway/fleet.h"
#include "gateway/route.h"
#include "queue/finish.h"

typedef struct Flight
{
	struct Flight *next;  /* in the dispatcher's list of ended flights */
	GatewayCall call;     /* this struct too is in call.context */
	CallOutcome *outcome; /* NULL while it flies */
	ItemPointerData tid;  /* of the task's row as the claim left it */
	char *pool;
	RouteAsk ask; /* as it was routed; its strings live with the call */
	TimestampTz started_at;
	int tries;      /* to record it */
	int failures;   /* of those, that the outcome itself caused */
	int64 ended_us; /* monotonic, when it ended */
	int64 retry_us; /* monotonic, not to be recorded before */
} Flight;

#define FLIGHT_OF(c) ((Flight *) ((char *) (c) -offsetof(Flight, call)))

#endif
