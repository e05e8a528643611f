/*
 * batch.h: the next events of the feed that a follower wants, as a fold takes them.
 */
#ifndef EDUAI_PROJECTIONS_BATCH_H
#define EDUAI_PROJECTIONS_BATCH_H

#include "postgres.h"
#include "events/feed.h"
#include "projections/place.h"

/* A batch lives in a memory context of its own, a child of that of the read. */
typedef struct EduaiBatch
{
	MemoryContext context;
	EduaiEvent **events; /* wanted, of the lane; data upcast */
	int64 *positions;
	int n;
	int looked;    /* events read */
	int64 scanned; /* everything up to here was looked at */
} EduaiBatch;

/*
 * Reads on after "after": as many events as fit a batch, by number, bytes and
 * time.  Raises what an upcaster raises.  Inside SPI, as the owner.
 */
extern EduaiBatch *
eduai_projections_batch_read(const EduaiProjection *projection, const EduaiFollower *follower,
							 const EduaiFeedView *view, int64 after);

extern void eduai_projections_batch_free(EduaiBatch *batch);

#endif
