/*
 * rebuild.h: rebuilding a projection's states from the log, beside the live
 * ones.
 *
 * A process of its own folds the whole log into the next generation, in
 * committed batches: killed, it goes on from there when the projector starts
 * it again.  When it has caught up it makes that generation the live one, in
 * one transaction that also folds what came since:
 *
 *   async   the projection's followers stand still for that transaction.
 *   inline  it closes the gate (state_table.h), so that nobody who appended is
 *           still in flight and whoever comes next folds into the new
 *           generation.  Closing waits CUT_OVER_MS at most, as everybody who
 *           appends queues behind it meanwhile.  When somebody keeps his
 *           transaction open longer, it lets go and waits for just the
 *           transactions in its way, without queueing, folding on.
 *
 * Readers look up the live generation in their own snapshot and never wait.
 */
#ifndef EDUAI_PROJECTIONS_REBUILD_H
#define EDUAI_PROJECTIONS_REBUILD_H

#include "postgres.h"
#include "postmaster/bgworker.h"

/* A process that was started; handle NULL: none. */
typedef struct EduaiRebuildProcess
{
	BackgroundWorkerHandle *handle;
	int64 asked_us; /* when it was asked for */
} EduaiRebuildProcess;

/*
 * Starts the process for a projection unless there is one; with "begin" it
 * registers a next generation first.  Returns whether one was wanted; the
 * handle is NULL when none could be had.
 */
extern bool
eduai_projections_rebuild_start(int projection, bool begin, EduaiRebuildProcess *process);

/* Forgets a process that has ended, which may have been before it began. */
extern void eduai_projections_rebuild_check(int projection, EduaiRebuildProcess *process);

/*
 * For the projector: starts what is to go on, one at a time, of the n
 * projections that have a next generation.  Returns in how many milliseconds
 * to ask again; -1: when a rebuild ended.
 */
extern long eduai_projections_rebuild_tend(const int *projections, int n);

/* What that process runs; see eduai_events_start_apart(). */
extern PGDLLEXPORT void eduai_projections_rebuild_run(Datum argument);

#endif
