/*
 * dispatch.h: between dispatcher.c (turns), dispatch_claim.c (claims) and
 * dispatch_upkeep.c (what else the queue needs of a turn).
 */
#ifndef EDUAI_GATEWAY_DISPATCH_H
#define EDUAI_GATEWAY_DISPATCH_H

#include "gateway/fleet.h"
#include "gateway/flight.h"
#include "queue/claim.h"

extern void eduai_gateway_dispatch_settings(void);

/* The worker's run(). */
extern void eduai_gateway_dispatch_run(void);

/* Inside a turn's transaction: claims what there is room for. */
extern ClaimLeft eduai_gateway_dispatch_claim(Fleet *fleet);

/* When to claim again for what no commit and no call that ends announces; INT64_MAX: not by time. */
extern int64 eduai_gateway_dispatch_claim_at_us(void);

/* The transaction failed: as if nothing had been claimed. */
extern void eduai_gateway_dispatch_forget_claims(void);

/* The transaction committed: the calls leave.  Returns how many. */
extern int eduai_gateway_dispatch_start_claims(void);

/* Inside a turn's transaction, in this order around the recording and the claims. */
extern void eduai_gateway_dispatch_before_recording(void);
extern void eduai_gateway_dispatch_after_recording(void);
extern void eduai_gateway_dispatch_after_claiming(void);

/* When a turn is due for their sake, monotonic; INT64_MAX for never. */
extern int64 eduai_gateway_dispatch_next_upkeep_us(void);

/* Will the next turn sweep? */
extern bool eduai_gateway_dispatch_sweep_due(void);

/* They failed: not again at once. */
extern void eduai_gateway_dispatch_postpone_upkeep(void);

/* A call ended: its instance has room again, and something was learnt of it; its pool, too. */
extern void eduai_gateway_dispatch_leave(const Flight *flight);

#endif
