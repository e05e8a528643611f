/*
 * change.h: ending a task by hand.
 */
#ifndef EDUAI_QUEUE_CHANGE_H
#define EDUAI_QUEUE_CHANGE_H

#include "postgres.h"

/*
 * Ends a living task as cancelled, in the caller's transaction; the dispatcher
 * is told at its commit.  False when there is none.  Waits for whoever holds
 * the task's row.  As the owner, SPI connected; with preload.
 */
extern bool eduai_queue_cancel(const char *tenant, int64 task_id);

#endif
