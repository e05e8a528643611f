/*
 * reduce.h: folding the events of keys with a user's reducer, so that one that
 * raises stops nothing but its key.
 */
#ifndef EDUAI_PROJECTIONS_REDUCE_H
#define EDUAI_PROJECTIONS_REDUCE_H

#include "postgres.h"
#include "projections/catalog.h"
#include "projections/group.h"
#include "projections/state_table.h"
#include "utils/elog.h"

/* A key's events, and what came of them. */
typedef struct EduaiReduction
{
	EduaiKeyRun run;
	EduaiStateRow row;   /* as it was read */
	EduaiStateRow after; /* the row to write */
	int folded;          /* how many of the events are in it */
	ErrorData *error;    /* why the one after those is not; NULL: all are */
} EduaiReduction;

/*
 * Folds them all, in the current context, writing nothing.  The fold says for
 * which projection and tenant, and by whom; its events are not looked at.
 *
 * Inline with on_error "raise", whatever the reducer raises is raised.  Else it
 * is in "error", but for what an appender may try again: conflicts, a lack of
 * resources, a cancellation other than the reducer's own time limit.
 */
extern void eduai_projections_reduce(const EduaiFold *fold, EduaiReduction *reductions, int n);

/* eduai.reducer_timeout, in milliseconds. */
extern int eduai_projections_reducer_timeout(void);

extern void eduai_projections_reduce_init(void);

#endif
