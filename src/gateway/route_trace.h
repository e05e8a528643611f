/*
 * route_trace.h: the dispatcher's choices with their inputs, in
 * eduai.routing_trace, so that they can be made again.
 *
 * Off unless eduai.trace_routing is on.  The latest 10,000 are kept.
 */
#ifndef EDUAI_GATEWAY_ROUTE_TRACE_H
#define EDUAI_GATEWAY_ROUTE_TRACE_H

#include "gateway/route.h"

extern void eduai_gateway_trace_init(void);

/* A claim begins: its choices are noted, if they are to be. */
extern void eduai_gateway_trace_begin(void);

/* Whose choices follow. */
extern void eduai_gateway_trace_task(int64 task_id, int attempt);

/* The claim is over: writes what was noted.  In its transaction, SPI connected. */
extern void eduai_gateway_trace_end(void);

#endif
