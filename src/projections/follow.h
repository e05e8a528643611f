/*
 * follow.h: one step of a follower of the feed.
 *
 * A step is one transaction: it reads the next events, folds those of the
 * follower's lane that its projection wants, and writes how far it came.  It
 * commits without waiting for the disk: states and position are lost together
 * or not at all.
 *
 * Locks, to the end of the transaction, none of them waited for in a step: the
 * projection's, shared, then the follower's, exclusive.  Whoever must have all
 * followers of a projection stand still takes the projection's exclusively.
 */
#ifndef EDUAI_PROJECTIONS_FOLLOW_H
#define EDUAI_PROJECTIONS_FOLLOW_H

#include "postgres.h"
#include "projections/catalog.h"
#include "projections/place.h"

typedef enum EduaiStepOutcome
{
	EDUAI_STEP_DONE, /* it has seen all that was committed */
	EDUAI_STEP_MORE, /* there is more */
	EDUAI_STEP_BUSY, /* somebody else is at it */
	EDUAI_STEP_GONE, /* there is nothing of that name to follow for */
} EduaiStepOutcome;

typedef struct EduaiStep
{
	EduaiStepOutcome outcome;
	int64 scanned; /* how far it looked */
	int64 through; /* how far it could have */
	int64 looked;  /* events read */
	int64 folded;  /* of them */
} EduaiStep;

/* Whether a projection's generation has followers, now. */
extern bool eduai_projections_followed(const EduaiProjection *projection, int generation);

/* Outside a transaction.  What it raises has undone all of the step. */
extern EduaiStep eduai_projections_step(const EduaiFollower *follower);

/*
 * All that is left for the follower, in this transaction, for a caller who
 * sees to it that nobody else follows for it.  Returns the events folded.
 */
extern int64 eduai_projections_follow_rest(const EduaiFollower *follower);

/*
 * The lock that keeps all followers of a projection still, to the end of the
 * transaction.  Waits for steps that run, subject to lock_timeout; with nowait,
 * false when one does.
 */
extern bool eduai_projections_hold_followers(int projection, bool nowait);

#endif
