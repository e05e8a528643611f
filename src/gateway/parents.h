/*
 * parents.h: what a dependant sends of its parents' results.
 */
#ifndef EDUAI_GATEWAY_PARENTS_H
#define EDUAI_GATEWAY_PARENTS_H

#include "gateway/call.h"

/*
 * The payload as it is sent, of at most "limit" bytes as jsonb.  NULL when it
 * cannot be: "outcome" says why, for good.  metadata may be NULL.  Pure.
 */
extern Jsonb *
eduai_gateway_render_parents(Jsonb *payload, const Jsonb *parents, const Jsonb *metadata,
							 size_t limit, CallOutcome *outcome);

#endif
