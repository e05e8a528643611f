/*
 * park.h: events that a reducer could not fold.
 *
 * Such an event is parked with its error, and its key is blocked: the key's
 * row has "parked" set, and later events of it are put behind, without error,
 * in the order of "place".  So a state never has a hole.
 *
 * Who touches the parked events of a tenant's projection, or a row with
 * "parked" set, has their lock, which he takes before he reads the row again.
 * Rows without belong to whoever has their key (state_table.h).
 */
#ifndef EDUAI_PROJECTIONS_PARK_H
#define EDUAI_PROJECTIONS_PARK_H

#include "postgres.h"
#include "projections/catalog.h"
#include "projections/group.h"
#include "utils/elog.h"

/* To the end of the transaction; false only with nowait. */
extern bool
eduai_projections_parked_lock(const EduaiProjection *projection, const char *tenant, bool nowait);

/*
 * Parks the events of a run from the one with number "first" on: that one for
 * the error, the others behind it; without an error, all behind what is there.
 */
extern void eduai_projections_park(const EduaiFold *fold, const EduaiKeyRun *run, int first,
								   const ErrorData *error);

/*
 * The events of a fold but for those that eduai.skip_parked() took out of the
 * projection, in "rest"; "rest" may be "fold".
 */
extern void eduai_projections_drop_skipped(const EduaiFold *fold, EduaiFold *rest);

/* When to try again after so many tries; 0: not by itself. */
extern TimestampTz eduai_projections_next_try(int tries);

extern void eduai_projections_park_init(void);

#endif
