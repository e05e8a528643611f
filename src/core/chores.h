/*
 * chores.h: a worker whose work is a list of chores.
 *
 * Between chores there is no transaction and no snapshot.  A chore runs at the
 * worker's start, each time somebody woke the worker, and when its time has
 * come, one after the other.  It opens its own transactions, waits for a lock
 * for half a second at most (lock_timeout) and never for a standby
 * (synchronous_commit is local).
 *
 * A chore with more to do returns after a fraction of a second, so that others
 * have their turn and stop_workers() is heard.
 *
 * One that raises is logged, its transaction aborted, and tried again after a
 * second, doubling to a minute, whoever wakes the worker meanwhile: what always
 * fails costs a try a minute, and delays no other chore.
 */
#ifndef EDUAI_CORE_CHORES_H
#define EDUAI_CORE_CHORES_H

#include "postgres.h"

#define EDUAI_CHORES 12

typedef struct EduaiChore
{
	const char *name;
	/* returns in how many ms it runs again at the latest; 0: more to do; -1: only when woken */
	long (*run)(void);
	/* asked whenever the worker is awake: run now?  Cheap, never raises; may be NULL */
	bool (*wanted)(void);
} EduaiChore;

/* Static, one for each kind of worker; zero but for the first three. */
typedef struct EduaiChores
{
	const char *worker; /* the kind's name: "projector" */
	/* called in the worker before its first chore; may be NULL */
	void (*begin)(void);
	/* how chore i fared, error NULL for well; must not raise; may be NULL */
	void (*fared)(int i, const ErrorData *error);

	int n;
	const EduaiChore *chores[EDUAI_CHORES];
	int64 due_us[EDUAI_CHORES]; /* monotonic; PG_INT64_MAX: when woken */
	int failures[EDUAI_CHORES]; /* since it last succeeded */
} EduaiChores;

/* Adds a static chore; from the init functions only. */
extern void eduai_core_chores_add(EduaiChores *list, const EduaiChore *chore);

/* Until the worker should stop: for EduaiWorkerKind.run (core/worker.h). */
extern void eduai_core_chores_run(EduaiChores *list);

/* A second, doubled with each further failure, at most a minute. */
extern long eduai_core_chores_backoff_ms(int failures);

#endif
