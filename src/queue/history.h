/*
 * history.h: finished tasks are kept for a while, then forgotten.
 *
 * A task is forgotten as a whole: how it ended, its request, its edges and the
 * attachments that no other task refers to.  Kept longer than their time are
 * the parents of tasks that wait, tasks whose idempotency key still counts
 * (24 h), and those whose rows somebody holds.
 */
#ifndef EDUAI_QUEUE_HISTORY_H
#define EDUAI_QUEUE_HISTORY_H

#include "postgres.h"

extern void eduai_queue_history_init(void);

/*
 * For the dispatcher, outside a transaction: forgets some of the tasks that
 * are old enough (eduai.task_retention, eduai.dead_task_retention), in a
 * transaction of its own of about 10 ms.  Never waits for a lock, never
 * raises.  Milliseconds until it wants to be called again.
 */
extern long eduai_queue_forget_step(void);

#endif
