/*
 * claim.h: taking ready tasks: for the dispatcher and for applications'
 * workers, one path.
 *
 * A claim chooses a lane (schedule.h), takes a slot (running.h), updates the
 * row where it lies and goes on until nothing may start.  It never waits for a
 * lock: rows that somebody holds are passed over.
 */
#ifndef EDUAI_QUEUE_CLAIM_H
#define EDUAI_QUEUE_CLAIM_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"

/* A task that could start, for the router. */
typedef struct Candidate
{
	int64 task_id;
	const char *tenant;
	const char *task_type;
	const char *model;       /* NULL: any */
	const char *failed_last; /* the instance of its last attempt, or NULL */
	int priority;
	int attempt;      /* the one that would start */
	int attempt_base; /* those up to here were before somebody retried it */
	int64 timeout_ms;
	TimestampTz run_at;     /* since when it could have run */
	TimestampTz expires_at; /* 0: never */
	const char *user_id;    /* NULL: nobody's */
	const Jsonb *payload;
	const Jsonb *metadata;
	const Jsonb *parents; /* NULL: depends on none */
	const Jsonb
		*error; /* {code, attempts: [{attempt, code, instance}]} of earlier attempts, or NULL */
} Candidate;

typedef enum RouteVerdict
{
	ROUTE_TO,    /* "instance" takes it; it counts there from now on */
	ROUTE_FULL,  /* nothing that serves its lane has room: the lane is left for the next time */
	ROUTE_DEFER, /* not now: it becomes scheduled, without an attempt; "code" says why, or NULL */
	ROUTE_REFUSE /* it never can: it ends dead with code and message, without an attempt */
} RouteVerdict;

typedef struct Routing
{
	const char *instance;
	int64 wait_us;     /* to wait for so long, whatever the wall clock does; 0: see until */
	TimestampTz until; /* to wait for that time of the wall clock */
	const char *code;
	const char *message;
} Routing;

/* The router; in the claim's transaction, the row is not written yet. */
typedef RouteVerdict (*ClaimRoute)(void *arg, const Candidate *candidate, Routing *routing);
/* The candidate was not to be had after all. */
typedef void (*ClaimUnroute)(void *arg, const Candidate *candidate, const char *instance);

typedef struct ClaimOrder
{
	bool by_gateway;    /* types that the gateway serves, or those of applications */
	const char *tenant; /* only this tenant's; NULL: all */
	char *const *task_types;
	int ntypes; /* only these; 0: all that by_gateway says */
	int most;
	Oid role; /* that gets to see the payloads; InvalidOid: eduai itself */
	/* the gateway's */
	ClaimRoute route;
	ClaimUnroute unroute;
	void *arg;
	/* an application's */
	int worker;
	const char *worker_name;
	int64 lease_ms;
} ClaimOrder;

/* A claimed task; for the gateway in a context of its own, which the caller deletes. */
typedef struct ClaimedTask
{
	MemoryContext context;
	int64 task_id;
	ItemPointerData tid; /* of its task_live row as the claim left it */
	int attempt;
	char *tenant;
	char *task_type;
	char *pool;
	char *user_id;
	char *instance; /* NULL for an application's */
	char *model;
	int priority;
	int64 timeout_ms;
	Jsonb *payload;
	Jsonb *metadata;
	Jsonb *parents; /* NULL when it depends on none */
} ClaimedTask;

typedef enum ClaimLeft
{
	CLAIM_ALL,  /* nothing that could start was left */
	CLAIM_HELD, /* something that somebody holds: look again soon */
	CLAIM_MORE  /* "most" were claimed: look again after the commit */
} ClaimLeft;

/*
 * Claims in this transaction: each row becomes running, its attempt is counted,
 * the instance or the worker recorded: the durable record without which nothing
 * may be sent.  Up to order->most tasks in "claimed"; contexts under "parent".
 * SPI connected, as the owner.
 */
extern int eduai_queue_claim(const ClaimOrder *order, MemoryContext parent, ClaimedTask *claimed,
							 ClaimLeft *left);

#endif
