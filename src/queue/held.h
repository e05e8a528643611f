/*
 * held.h: ready tasks that wait outside of their lanes because another task of
 * their concurrency key runs.
 *
 * A claim takes them out (claim_lane.c).  In the dispatcher, inside a
 * transaction, SPI connected, as the owner; nothing waits.
 */
#ifndef EDUAI_QUEUE_HELD_H
#define EDUAI_QUEUE_HELD_H

#include "postgres.h"

/*
 * Of each key that became free since the last call, puts the oldest held task
 * that nobody holds back into its lane.  Returns how many; *more: call it again
 * after the commit.
 */
extern int eduai_queue_release_held(bool *more);

/* For the sweep: the same for keys that nobody announced; returns how many. */
extern int eduai_queue_sweep_held(void);

#endif
