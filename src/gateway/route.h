/*
 * route.h: from a task to the instance that serves it now.
 *
 * Pure but for the stands of instances, which are looked at by a callback: no
 * clock, no SQL.  The dispatcher and route() call the same functions; what the
 * balancing algorithms decide between is in balance.h.
 *
 * An instance that could serve a task at all is at a step: 0 for those that it
 * asks for, then those that stand in for them, in order ("fallback" of the
 * instances, "embedding_space" of embeddings).  A step is left when none of
 * its instances can take the task and none is merely busy.
 *
 * Where a task failed, it returns to only when nothing better is left; how
 * much better is a matter of the failure (RouteRank).
 */
#ifndef EDUAI_GATEWAY_ROUTE_H
#define EDUAI_GATEWAY_ROUTE_H

#include "gateway/balance.h"
#include "gateway/fleet.h"
#include "gateway/stand.h"
#include "queue/claim.h"

/* An attempt of this task that failed. */
typedef struct RouteFailure
{
	const char *instance;
	const char *code;
	TimestampTz at;
} RouteFailure;

/* What is to be sent. */
typedef struct RouteAsk
{
	const char *tenant;
	const char *task_type;
	const char *model; /* NULL: any */
	int priority;
	int64 tokens_in;     /* estimated; see eduai_gateway_payload_tokens() */
	int64 tokens_out;    /* the payload's bound, 0: none */
	int64 images;        /* asked for */
	int64 deadline_us;   /* time left, 0: none */
	double pressure;     /* 0..1: how scarce money is (budget.h) */
	const char *session; /* calls of one go to one instance where that is as good; NULL: none */
	RouteFailure *failures;
	int nfailures;
} RouteAsk;

/* Why an instance cannot take a task; ROUTE_IN: it can. */
typedef enum RouteOut
{
	ROUTE_IN,
	/* it never serves such tasks */
	OUT_TYPE,
	OUT_MODEL,
	OUT_TENANT,
	OUT_SPACE, /* its embeddings cannot be compared with those asked for */
	/* it serves nobody now */
	OUT_STATE, /* draining, disabled */
	OUT_KEY,   /* a reference that leads nowhere */
	OUT_OPEN,  /* its breaker */
	OUT_LIMIT, /* nothing is left of a rate limit */
	OUT_BUSY,  /* as many calls in flight as it may have */
	/* it does not serve this task now */
	OUT_CONTEXT, /* too small */
	OUT_FAILED,  /* the task failed there, and others are left */
	OUT_RESTING, /* it failed there a moment ago */
	OUT_REFUSED  /* taken out by whoever asked: budgets, a limit that the call would exceed */
} RouteOut;

/* What the task's failures say of an instance; the smaller the better. */
typedef enum RouteRank
{
	RANK_FRESH,
	RANK_TAINTED, /* its provider failed the task in a way that concerns all of it */
	RANK_FAILED,
	RANK_SILENT,  /* a timeout: the same again is not to be expected to end better */
	RANK_HOPELESS /* the key, the quota, the model, the context: only others can help */
} RouteRank;

typedef struct RouteOption
{
	Instance *instance;
	InstanceStand stand;
	RouteOut out;
	RouteRank rank;
	int step;       /* -1: it does not serve such tasks */
	int64 tokens;   /* that the call would reserve there */
	int64 until_us; /* monotonic, when it may be in; 0: nobody knows */
	/* when it was at its step's choice */
	bool was_at_choice;
	double score;
	double weight_before; /* stand.stats.current_weight may have moved */
} RouteOption;

typedef enum RouteEnd
{
	ROUTE_FOUND,
	ROUTE_NOBODY,   /* no instance, whatever its state, serves such tasks */
	ROUTE_ALL_WAIT, /* such tasks have to wait, all of them */
	ROUTE_IT_WAITS  /* this one has to wait, others like it need not */
} RouteEnd;

typedef struct RouteDecision
{
	RouteOption *options; /* of all instances of the fleet, in its order */
	int noptions;
	int *order; /* of those that can take it, best first; the first is the choice */
	int norder;
	int step; /* at which they are */
	BalanceAlgorithm algorithm;
	bool kept_session; /* the session decided between near equals */
	RouteEnd end;
	int64 until_us; /* of a wait, monotonic: the earliest that is known; 0: none is */
} RouteDecision;

/* How the instances stand now; without a clock of its own. */
typedef void (*RouteLook)(const Instance *instance, int64 now_us, InstanceStand *stand);

/* What a choice is made with, beside the ask. */
typedef struct RouteNow
{
	int64 now_us;    /* monotonic */
	TimestampTz now; /* the same moment on the wall */
	double random;   /* [0, 1) */
	BalanceAlgorithm algorithm;
	BalanceState *state;
	RouteLook look;
} RouteNow;

/* What a choice was made of and what it was; for the trace (route_trace.h). */
typedef struct RouteChoice
{
	BalanceAlgorithm algorithm;
	BalanceState state; /* before */
	BalanceRequest request;
	BalanceOption *options; /* with the stats of before */
	const char **names;
	int n;
	int64 now_us;
	double random;
	bool sticky;
	uint64 session; /* its hash */
	int *order;
	int norder;
} RouteChoice;

extern void eduai_gateway_route_init(void);

/* eduai.balancer */
extern int eduai_gateway_balancer;

/* In the current memory context; "stand" of all options is filled. */
extern void eduai_gateway_route(const Fleet *fleet, const RouteAsk *ask, const RouteNow *now,
								RouteDecision *decision);

/* Chooses again, by another algorithm maybe, between those that are in. */
extern void
eduai_gateway_route_again(const RouteAsk *ask, const RouteNow *now, RouteDecision *decision);

/*
 * The choice itself, between options of one step: the algorithm's, then the
 * session's.  Fills order and norder; true when the session decided.
 */
extern bool eduai_gateway_route_choose(RouteChoice *choice);

/* When it is set, it is called instead, and calls that: the trace is taken around it. */
extern bool (*eduai_gateway_route_tracer)(RouteChoice *choice);

/* ---- after a failure ---- */

typedef enum RouteNext
{
	NEXT_NOWHERE, /* no other attempt can help */
	NEXT_LATER,   /* only where it has failed: not at once */
	NEXT_AT_ONCE  /* there is another that has not failed it */
} RouteNext;

/*
 * What is to follow a failure at "last"; ask's failures contain it.  "alone":
 * no other instance is left but worse ones, so that its wish for a wait counts.
 */
extern RouteNext eduai_gateway_route_next(const Fleet *fleet, const RouteAsk *ask, const char *last,
										  bool may_return, bool *alone);

/* ---- route_ask.c ---- */

/* Of a candidate of the queue; in the current memory context, pointing into it. */
extern void eduai_gateway_route_ask(const Candidate *candidate, TimestampTz now, RouteAsk *ask);

/* Estimated input tokens: a quarter of the bytes of the payload's strings; pictures and the like count 1000. */
extern int64 eduai_gateway_payload_tokens(const Jsonb *payload);

/* ---- route_words.c ---- */

/* The decision in words, palloc'd; never a prompt. */
extern char *
eduai_gateway_route_reason(const RouteDecision *decision, const RouteAsk *ask, int64 now_us);

#endif
