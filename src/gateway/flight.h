/*
 * flight.h: a call from its claim to the commit of its outcome.
 */
#ifndef EDUAI_GATEWAY_FLIGHT_H
#define EDUAI_GATEWAY_FLIGHT_H

#include "gateway/call.h"
#include "gateway/fleet.h"
#include "gateway/route.h"
#include "lib/ilist.h"
#include "queue/finish.h"

typedef struct Flight
{
	struct Flight *next;  /* in the dispatcher's list of ended flights */
	GatewayCall call;     /* this struct too is in call.context */
	CallOutcome *outcome; /* NULL while it flies */
	ItemPointerData tid;  /* of the task's row as the claim left it */
	char *pool;
	bool hedge;             /* the second call of its attempt; see hedge.h */
	bool lost;              /* given up for the other one */
	struct Flight *partner; /* the other call of its attempt, NULL: none */
	dlist_node watch_node;  /* among those that may get a second call */
	bool watched;
	int64 left_us; /* monotonic, when it left */
	RouteAsk ask;  /* as it was routed; its strings live with the call */
	TimestampTz started_at;
	int tries;      /* to record it */
	int failures;   /* of those, that the outcome itself caused */
	int64 ended_us; /* monotonic, when it ended */
	int64 retry_us; /* monotonic, not to be recorded before */
} Flight;

#define FLIGHT_OF(c) ((Flight *) ((char *) (c) -offsetof(Flight, call)))

#endif
