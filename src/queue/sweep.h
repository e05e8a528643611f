/*
 * sweep.h: what time, not a commit, makes due.
 *
 * In the dispatcher, inside a transaction, SPI connected; nothing waits.
 */
#ifndef EDUAI_QUEUE_SWEEP_H
#define EDUAI_QUEUE_SWEEP_H

#include "postgres.h"

#include "queue/store.h"

/*
 * Makes a task that lives ready, at the end of its lane: with "change" what
 * else is to change.  False when somebody holds its row.
 */
extern bool
eduai_queue_make_ready(EduaiTasks *tasks, LiveTask *task, TimestampTz run_at, LiveChange *change);

/* The same, waiting for whoever holds the row if asked to. */
extern WriteResult eduai_queue_try_ready(EduaiTasks *tasks, LiveTask *task, TimestampTz run_at,
										 LiveChange *change, bool wait);

/* Tasks that expired before they started become final; returns how many. */
extern int eduai_queue_expire(void);

/* Of these attempts, the indexes of those that are no longer running. */
extern int eduai_queue_superseded(char *const *tenants, const int64 *task_ids, const int *attempts,
								  int n, int *indexes);

#endif
