/*
 * reducer.h: calling a user's reducer, (state jsonb, event eduai.event_record)
 * returns jsonb, through the function manager, without a statement for each.
 *
 * It runs as the role that registered it, under SECURITY_RESTRICTED_OPERATION,
 * with eduai.tenant set to the events' tenant.  event.position is NULL.
 */
#ifndef EDUAI_PROJECTIONS_REDUCER_H
#define EDUAI_PROJECTIONS_REDUCER_H

#include "postgres.h"
#include "core/hooks.h"
#include "projections/catalog.h"

typedef struct EduaiReducer EduaiReducer;

/*
 * Finds the reducer, checks that its role may execute it and becomes that
 * role, until closed.  All it needs lives in the current context, and states
 * that it makes, to its deletion.  With "impatient", whatever it waits for is
 * waited for some milliseconds only.  Raises 42704 (the role), 42883, 42501.
 */
extern EduaiReducer *eduai_projections_reducer_open(const EduaiProjection *projection,
													const char *tenant, bool impatient);

/*
 * The state after the event.  It lives until the next call but one; the state
 * given is unchanged.  Raises 22004 for NULL and what the reducer raises.
 */
extern Jsonb *
eduai_projections_reducer_call(EduaiReducer *reducer, Jsonb *state, const EduaiEvent *event);

/* Back to the role from before; after an error, the rollback does that. */
extern void eduai_projections_reducer_close(EduaiReducer *reducer);

/* eduai.event_record's oid. */
extern Oid eduai_projections_record_type(void);

#endif
