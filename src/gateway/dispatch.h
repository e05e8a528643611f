/*
 * dispatch.h: between dispatcher.c (turns) and dispatch_claim.c (claims).
 */
#ifndef EDUAI_GATEWAY_DISPATCH_H
#define EDUAI_GATEWAY_DISPATCH_H

#include "gateway/fleet.h"
#include "gateway/flight.h"

extern void eduai_gateway_dispatch_settings(void);

/* The worker's run(). */
extern void eduai_gateway_dispatch_run(void);

typedef enum ClaimLeft
{
	CLAIM_ALL,  /* nothing that could start was left */
	CLAIM_HELD, /* rows that somebody holds: look again soon */
	CLAIM_MORE  /* the batch was full: look again after the commit */
} ClaimLeft;

/* Inside a turn's transaction: claims what there is room for. */
extern ClaimLeft eduai_gateway_dispatch_claim(Fleet *fleet);

/* The transaction failed: as if nothing had been claimed. */
extern void eduai_gateway_dispatch_forget_claims(void);

/* The transaction committed: the calls leave. */
extern void eduai_gateway_dispatch_start_claims(void);

/* A call ended: its pool and instance have room again. */
extern void eduai_gateway_dispatch_free_slot(Flight *flight);

#endif
