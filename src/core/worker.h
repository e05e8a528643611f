/*
 * worker.h: the life of eduai's background workers.
 *
 * A static launcher keeps, for each database named by eduai.database that has
 * the extension, one worker of each registered kind.  A database has a slot in
 * shared memory; its workers' latches are reached through it.
 *
 * A kind's run() is called connected to its database, as superuser, outside
 * any transaction, with search_path pinned, holding the session lock that
 * makes it the only one of its kind there.  It loops around
 * eduai_core_worker_wait() and CHECK_FOR_INTERRUPTS(); SIGTERM ends it there.
 * It returns when eduai_core_worker_should_stop().
 */
#ifndef EDUAI_CORE_WORKER_H
#define EDUAI_CORE_WORKER_H

#include "postgres.h"

typedef struct EduaiWorkerKind
{
	const char *name; /* "dispatcher": shown as "eduai dispatcher" */
	void (*run)(void);
} EduaiWorkerKind;

#define EDUAI_WORKER_KINDS 4

extern void eduai_core_worker_init(void);

/* Registers a static kind; the index identifies it in the calls below. */
extern int eduai_core_worker_register(const EduaiWorkerKind *kind);

/*
 * Asks for the worker of this database to be woken when this transaction
 * commits; eduai_core_worker_wake_now() does it at once.  Both are no-ops
 * without preload.  The wake is a latch set from the commit callback.
 */
extern void eduai_core_worker_wake_at_commit(int kind);
extern void eduai_core_worker_wake_now(int kind);

/*
 * The same for a change of what workers keep of the configuration.  They are
 * told so: invalidations leave only after the commit callbacks, so that a
 * worker that was woken may not have got them yet.
 */
extern void eduai_core_worker_reconfigure_at_commit(int kind);

/*
 * Called when a transaction that dropped the extension has committed; it may
 * neither raise nor wait for more than a lightweight lock.
 */
extern void eduai_core_worker_at_drop(void (*forget)(void));

/*
 * What the launcher does besides: run() is called whenever it is awake, outside
 * of transactions, and returns the ms until it wants to be called again, or -1
 * for when the launcher is woken.  It must not raise.
 */
typedef struct EduaiLauncherTask
{
	const char *name;
	long (*run)(void);
} EduaiLauncherTask;

extern void eduai_core_launcher_task_register(const EduaiLauncherTask *task);
extern void eduai_core_launcher_wake(void);

/* ---- for the workers themselves ---- */

/* A descriptor to wait for besides the latch (a private epoll set), or -1. */
extern void eduai_core_worker_watch(int fd);

typedef enum EduaiWake
{
	EDUAI_WAKE_LATCH = 1,
	EDUAI_WAKE_FD = 2,
	EDUAI_WAKE_TIMEOUT = 4,
} EduaiWake;

/* Sleeps until the latch, the descriptor or the timeout; counts its wake-ups. */
extern int eduai_core_worker_wait(long timeout_ms);

/* True once somebody asked for work since the last call; clears the request. */
extern bool eduai_core_worker_requested(void);

/*
 * True once the configuration changed since the last call.  Ask outside a
 * transaction, after eduai_core_worker_requested(): the next snapshot sees it.
 */
extern bool eduai_core_worker_reconfigured(void);

/* stop_workers(), DROP EXTENSION, a newer library: leave run(). */
extern bool eduai_core_worker_should_stop(void);

/* A number that no other incarnation of this worker has had. */
extern int64 eduai_core_worker_epoch(void);

/* Settings changed: true once after a SIGHUP. */
extern bool eduai_core_worker_reloaded(void);

/*
 * For a background process that helps this database's workers: from here to
 * its end stop_workers() waits for it, and eduai_core_worker_should_stop()
 * tells it to leave.  Ask that often: nothing wakes it.
 */
extern void eduai_core_worker_helper_attach(void);

/*
 * Nothing that a database or the server has set may bend what a worker does:
 * done for workers, again after each SIGHUP; for other background processes.
 */
extern void eduai_core_worker_pin_settings(void);

#endif
