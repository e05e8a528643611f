/*
 * board.h: what the queue's processes tell each other through shared memory.
 *
 * Waiters sleep on one of many condition variables, chosen by task id, and
 * look again when it is broadcast.  Tasks that ended outside the dispatcher
 * (cancelled) are told to it through a ring, so that it aborts the transfer
 * and sends the notification; when the ring overflows it looks at everything.
 */
#ifndef EDUAI_QUEUE_BOARD_H
#define EDUAI_QUEUE_BOARD_H

#include "postgres.h"
#include "storage/condition_variable.h"

extern void eduai_queue_board_init(void);

/* The condition variable of a task; needs preload. */
extern ConditionVariable *eduai_queue_board_waiters(int64 task_id);

/* Waiters of the task are woken when this transaction commits. */
extern void eduai_queue_board_ended(int64 task_id);

/* As above, and the dispatcher is told that the task was cancelled. */
extern void eduai_queue_board_cancelled(const char *tenant, int64 task_id);

/*
 * For the dispatcher: takes up to "most" cancelled tasks of this database;
 * *overflow when some were lost.
 */
typedef struct CancelledTask
{
	int64		task_id;
	char		tenant[NAMEDATALEN];
} CancelledTask;

extern int	eduai_queue_board_take(CancelledTask *tasks, int most, bool *overflow);

#endif
