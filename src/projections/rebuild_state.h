/*
 * rebuild_state.h: how the rebuilds of projections fare, in shared memory:
 * between the process that rebuilds, those who wait for it, the projector and
 * eduai.projection_status.
 *
 * That a projection is to be rebuilt is in eduai.projection_generation; what is
 * lost here with a crash is only who works on it and who waits.
 */
#ifndef EDUAI_PROJECTIONS_REBUILD_STATE_H
#define EDUAI_PROJECTIONS_REBUILD_STATE_H

#include "postgres.h"

typedef enum EduaiRebuildPhase
{
	EDUAI_REBUILD_NONE,   /* nobody is at it */
	EDUAI_REBUILD_STARTS, /* a process was asked for */
	EDUAI_REBUILD_FOLDS,  /* folds the log */
	EDUAI_REBUILD_WAITS,  /* has caught up; transactions are in the way of the cut-over */
	EDUAI_REBUILD_CUTS_OVER,
} EduaiRebuildPhase;

#define EDUAI_REBUILD_MESSAGE 240

typedef struct EduaiRebuild
{
	EduaiRebuildPhase phase;
	uint64 ended; /* how many rebuilds ended, well or not, since the server's start */
	/* of the last that ended */
	int sqlstate; /* 0: well */
	int64 events;
	char message[EDUAI_REBUILD_MESSAGE];
	int64 asked_us; /* monotonic: when a process was asked for */
	int pid;        /* of the process at work; 0: none is */
	int failures;   /* in a row */
	int64 retry_us; /* monotonic: not before */
} EduaiRebuild;

extern void eduai_projections_rebuild_state_init(void);

/* All zeroes when nothing is known. */
extern EduaiRebuild eduai_projections_rebuild_get(int projection);

/*
 * Asks for a process: true when there is none and the caller shall start it.
 * *before is the state before.  Raises 53400 when no place is left.
 */
extern bool eduai_projections_rebuild_ask(int projection, EduaiRebuild *before);

/* The process that was asked for then never came. */
extern void eduai_projections_rebuild_never_came(int projection, int64 asked_us);

/* The process could not be started, or ends without having rebuilt. */
extern void eduai_projections_rebuild_lost(int projection);

/* Sleeps until the state is another than the one seen, or a while.  Interruptible. */
extern void eduai_projections_rebuild_wait(int projection, const EduaiRebuild *seen);

/* ---- for the process itself ---- */

/* False when another one is at work. */
extern bool eduai_projections_rebuild_claim(int projection);

extern void eduai_projections_rebuild_phase(int projection, EduaiRebuildPhase phase);

/* It has ended: error NULL when well. */
extern void eduai_projections_rebuild_end(int projection, int64 events, const ErrorData *error);

#endif
