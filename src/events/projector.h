/*
 * projector.h: the projector, a background worker of each served database,
 * and the chores (core/chores.h) that rooms give it; health() tells of those that fail.
 */
#ifndef EDUAI_EVENTS_PROJECTOR_H
#define EDUAI_EVENTS_PROJECTOR_H

#include "core/chores.h"
#include "postgres.h"
#include "postmaster/bgworker.h"

extern void eduai_events_projector_init(void);

/* Adds a static chore (core/chores.h); from <room>_init() only. */
extern void eduai_events_chore_register(const EduaiChore *chore);

/* Wakes this database's projector for all its chores, at commit or now. */
extern void eduai_events_projector_wake_at_commit(void);
extern void eduai_events_projector_wake_now(void);

/*
 * The same for a change of what chores keep of tables: they are told so, see
 * eduai_core_worker_reconfigured().
 */
extern void eduai_events_projector_reconfigure_at_commit(void);

/*
 * Wakes it to ask the chores' wanted() only; from a commit callback too.  A
 * no-op while none runs: one that starts does all its chores.
 */
extern void eduai_events_projector_nudge(void);

/* Runs "work" in a transaction of its own, as the extension's owner, inside SPI. */
extern void eduai_events_as_owner(void (*work)(void));

/*
 * Runs "function" (a PGDLLEXPORT symbol of this library, void (Datum)) once in a
 * background worker connected to this database as superuser, outside any
 * transaction, with the argument, a string of at most EDUAI_APART_ARGUMENT
 * bytes.  Returns the worker's handle, palloc'd in TopMemoryContext, or NULL
 * when none could be started; this process' latch is set when it ends.
 *
 * It never waits for a lock for longer than its lock_timeout of 10 s.
 */
#define EDUAI_APART_ARGUMENT 48
extern BackgroundWorkerHandle *eduai_events_start_apart(const char *function, const char *argument);

/*
 * The same, and waits for its end.  False when no worker could be started;
 * true says no more than that it ended: its error is in the server log, so
 * look at what it should have done.  The wait can be cancelled; the worker
 * then goes on.
 */
extern bool eduai_events_run_apart(const char *function);

/* The entry of that worker; the postmaster calls it by its name. */
extern PGDLLEXPORT void eduai_events_apart_main(Datum arg);

#endif
