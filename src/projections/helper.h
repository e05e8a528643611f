/*
 * helper.h: processes that catch followers up that are far behind.
 *
 * The projector starts them, eduai.projection_helpers at once in a database.
 * A helper takes one follower's steps until that has caught up, then ends; it
 * also ends, after its step, when the workers are told to stop.
 */
#ifndef EDUAI_PROJECTIONS_HELPER_H
#define EDUAI_PROJECTIONS_HELPER_H

#include "postgres.h"
#include "projections/place.h"

extern void eduai_projections_helper_init(void);

/* A projector starts: what its predecessor had asked for is void. */
extern void eduai_projections_helpers_forget(void);

/* Whether a helper is at work for the follower; starts one where that may be. */
extern bool eduai_projections_help(const EduaiFollower *follower);

/* Whether a helper is at work for the follower. */
extern bool eduai_projections_is_helped(const EduaiFollower *follower);

/* Frees the places of helpers that never came; true while some are expected or at work. */
extern bool eduai_projections_helpers_check(void);

/* For processes of their own: waits so long, or until woken; interruptible, ends with the postmaster. */
extern void eduai_projections_nap(long ms);

/* What a helper runs; see eduai_events_start_apart(). */
extern PGDLLEXPORT void eduai_projections_catch_up(Datum argument);

#endif
