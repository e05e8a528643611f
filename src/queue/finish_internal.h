/*
 * finish_internal.h: between finish.c, finish_write.c, handler.c and who else ends tasks.
 */
#ifndef EDUAI_QUEUE_FINISH_INTERNAL_H
#define EDUAI_QUEUE_FINISH_INTERNAL_H

#include "core/hooks.h"
#include "queue/finish.h"
#include "queue/store.h"

/* a task that runs, with what is to become of it */
typedef struct Ending
{
	TaskOutcome *outcome;
	LiveTask live;
	AskedTask asked;
	bool by_dispatcher;
	bool hold_uncertain; /* an uncertain attempt is left to a person */
	int used;            /* attempts since the base, this one included */
	/* decided */
	const char *state;
	bool again; /* there will be another attempt */
	int64 wait_ms;
	Jsonb *error;
	EduaiTaskResult result;
} Ending;

/* Decides state, wait and error; pure. */
extern void eduai_queue_decide(Ending *ending, TimestampTz now, double random);

/*
 * Writes the row of an ending.  Nothing is written unless it is WRITE_DONE;
 * the dispatcher does not wait, a session gets WRITE_MOVED when it has waited
 * and the task has changed.
 */
extern WriteResult eduai_queue_write_ending(EduaiTasks *tasks, Ending *ending, TimestampTz now);

/* What follows from written endings, those with another attempt aside: all of one transaction. */
extern void eduai_queue_follow_endings(Ending *const *endings, int n);

/* Sends eduai_task notifications, unless the setting or a full queue forbids. */
extern void eduai_queue_notify(const char *tenant, int64 task_id, const char *state);

/*
 * Runs the handler of a recorded ending as its owner, under the time limit.
 * False, in the dispatcher only, when it would have to wait for a lock and
 * patience is not over: the caller takes everything back.  Other errors are
 * written to the task.
 */
extern bool eduai_queue_run_handler(Ending *ending);

extern void eduai_queue_handler_init(void);

#endif
