/*
 * dispatch_place.h: between dispatch_claim.c, which claims tasks, and
 * dispatch_place.c, which says where each goes.
 */
#ifndef EDUAI_GATEWAY_DISPATCH_PLACE_H
#define EDUAI_GATEWAY_DISPATCH_PLACE_H

#include "gateway/budget.h"
#include "gateway/route.h"
#include "queue/claim.h"

#define CLAIM_BATCH 512 /* so that no transaction grows long */

/* What a task that was routed in this transaction holds. */
typedef struct Placement
{
	int64 task_id;
	int attempt;
	Instance *instance;
	int64 tokens;
	bool probe;
	RouteAsk ask; /* its failures are copies, the other strings are the candidate's */
} Placement;

/* A claim of at most CLAIM_BATCH tasks begins: nothing is placed. */
extern void eduai_gateway_place_begin(void);

/*
 * The claim's router and its opposite, with the fleet as their argument.  A
 * placement holds a place in flight, tokens, maybe a probe, and a reservation
 * of the budgets; they are noted in the order of the claimed tasks.
 */
extern RouteVerdict eduai_gateway_place(void *fleet, const Candidate *candidate, Routing *routing);
extern void eduai_gateway_unplace(void *fleet, const Candidate *candidate, const char *instance);

/*
 * Reserves a call for the budgets that apply to it, of which ask says all but
 * the bound, which is made of what is sent.
 */
extern BudgetVerdict
eduai_gateway_place_reserve(BudgetAsk *ask, const Jsonb *payload, BudgetAnswer *answer);

/* The nth of this transaction. */
extern const Placement *eduai_gateway_placement(int n);

/* The transaction ended: what was placed stays in flight, or was never. */
extern void eduai_gateway_place_end(bool committed);

/* In the current memory context. */
extern RouteFailure *eduai_gateway_copy_failures(const RouteAsk *ask);

#endif
