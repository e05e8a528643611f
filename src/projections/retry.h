/*
 * retry.h: folding parked events again.
 */
#ifndef EDUAI_PROJECTIONS_RETRY_H
#define EDUAI_PROJECTIONS_RETRY_H

#include "postgres.h"
#include "projections/catalog.h"

/* A fold of parked events into a generation, which has none yet. */
extern EduaiFold
eduai_projections_refold(const EduaiProjection *projection, int generation, const char *tenant);

/*
 * Takes up a key of which events are parked, up to the first that fails; one
 * of eduai.projection_skipped is passed over.  Returns how many were folded.
 * Called inside SPI, as the owner, after the gate, with the lock of park.h.
 */
extern int64 eduai_projections_retry_key(const EduaiFold *fold, const char *key);

#endif
