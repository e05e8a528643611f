/*
 * queue.h: what the queue offers to the dispatcher.
 */
#ifndef EDUAI_QUEUE_QUEUE_H
#define EDUAI_QUEUE_QUEUE_H

#include "postgres.h"

extern void eduai_queue_init(void);

/* The gateway tells which worker kind dispatches; enqueue wakes it. */
extern void eduai_queue_set_dispatcher(int kind);

/* Wakes the dispatcher when this transaction commits. */
extern void eduai_queue_wake_at_commit(void);

/* Wakes it at once; safe in commit and abort callbacks. */
extern void eduai_queue_wake_now(void);

/* At the commit, and it looks at the task types and pools again. */
extern void eduai_queue_reload_at_commit(void);

/*
 * Ends a task that lives, as eduai.cancel_task() does; false when it does not.
 * Waits for whoever holds it; inside SPI, as the owner.
 */
extern bool eduai_queue_cancel(const char *tenant, int64 task_id);

#endif
