/*
 * board.h: what the queue's processes tell each other through shared memory.
 *
 * Waiters sleep on one of many condition variables, chosen by task id, and
 * look again when it is broadcast.  Tasks that ended outside the dispatcher
 * (cancelled, or dead from the start) are told to it through a ring, so that it
 * aborts the transfer and sends the notification; when the ring overflows it
 * looks at everything.
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

/* As above, outside the dispatcher, which is told. */
extern void eduai_queue_board_ended_here(const char *tenant, int64 task_id);

/*
 * For the dispatcher: takes up to "most" such tasks of this database;
 * *overflow when some were lost.
 */
typedef struct EndedTask
{
	int64 task_id;
	char tenant[NAMEDATALEN];
} EndedTask;

extern int eduai_queue_board_take(EndedTask *tasks, int most, bool *overflow);

#endif
