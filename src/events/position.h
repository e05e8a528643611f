/*
 * position.h: the counter of positions and its safe mark, in shared memory.
 *
 * A transaction that appended draws a dense range of positions at pre-commit.
 * Between the draw and the moment when the transaction is visible (or
 * aborted) its range is in flight.  The safe mark is the greatest position
 * with none in flight at or below it: a snapshot taken after the mark was read
 * shows every event up to the mark that will ever be there.
 *
 * Positions are durable in steps: eduai.event_position (a sequence) is moved
 * ahead of the counter, flushed, before any position of the step is drawn, so
 * none is ever drawn twice, after a crash, a promotion or a restore.
 */
#ifndef EDUAI_EVENTS_POSITION_H
#define EDUAI_EVENTS_POSITION_H

#include "postgres.h"

/*
 * Starts this database's counter after a server's start: reads tables, so
 * call it before the first append rather than at commit.
 */
extern void eduai_events_position_prepare(void);

/* Draws n positions; returns the first.  *mark is the safe mark at the draw. */
extern int64 eduai_events_position_draw(int64 n, int64 *mark);

/*
 * This transaction's range is no longer in flight; wakes who waits for the
 * mark.  False when it had none.
 */
extern bool eduai_events_position_settle(void);

/*
 * The safe mark.  Take a snapshot after it.  Without preload, and in recovery,
 * where nobody can append, PG_INT64_MAX.
 */
extern int64 eduai_events_position_mark(void);

/* The same for upkeep: does not start the counter; -1 when nothing was drawn or read since the start. */
extern int64 eduai_events_position_peek(void);

/* The last position that was drawn, in flight or not; -1 as for peek. */
extern int64 eduai_events_position_drawn(void);

/*
 * Waits until the mark is beyond "mark" or the deadline (monotonic clock,
 * microseconds) has passed; false in the latter case.  Interruptible.
 */
extern bool eduai_events_position_wait(int64 mark, int64 deadline_us);

#endif
