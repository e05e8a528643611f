/*
 * finish_internal.h: between finish.c, finish_write.c and handler.c.
 */
#ifndef EDUAI_QUEUE_FINISH_INTERNAL_H
#define EDUAI_QUEUE_FINISH_INTERNAL_H

#include "core/hooks.h"
#include "queue/finish.h"
#include "storage/itemptr.h"

/* a task row that is locked, with what is to become of it */
typedef struct Ending
{
	TaskOutcome *outcome;
	ItemPointerData tid;
	char *task_type;
	char *user_id;
	char *owner;
	char *on_result;
	char *on_uncertain;
	int priority;
	int used; /* attempts since the base, this one included */
	int max_attempts;
	Jsonb *metadata;
	Jsonb *old_error;
	/* decided */
	const char *state;
	TimestampTz run_at; /* of a retry; else 0 */
	Jsonb *error;
	EduaiTaskResult result;
} Ending;

/* Decides state, run_at and error; pure but for the clock and randomness. */
extern void eduai_queue_decide(Ending *ending, TimestampTz now, double random);

/* Writes the endings, all in one go, and what follows from them. */
extern void eduai_queue_write_endings(Ending *endings, int n, TimestampTz now);

/* Sends eduai_task notifications, unless the setting or a full queue forbids. */
extern void eduai_queue_notify(const char *tenant, int64 task_id, const char *state);

/*
 * Runs the handler of a recorded ending as its owner, under the time limit.
 * False when it would have to wait for a lock and patience is not over:
 * the caller takes everything back.  Other errors are written to the task.
 */
extern bool eduai_queue_run_handler(Ending *ending);

extern void eduai_queue_handler_init(void);

#endif
