/*
 * dependency.h: tasks that wait for others.
 *
 * Only the dispatcher lets children go, so that two parents that end at once
 * cannot each leave the child to the other.
 */
#ifndef EDUAI_QUEUE_DEPENDENCY_H
#define EDUAI_QUEUE_DEPENDENCY_H

#include "postgres.h"
#include "utils/array.h"
#include "queue/enqueue.h"

/*
 * Looks at the parents, holds those that are not final against ending before
 * this transaction does, and says in which state the task begins: sets
 * task->state to waiting or dead where its parents ask for it.  Raises 22023
 * for an unknown id.
 */
extern void eduai_queue_look_at_parents(TaskRequest *task);

/* Completes a task that begins dead, for a parent failed before. */
extern void eduai_queue_bury_newborn(const TaskRequest *task, int64 task_id);

/* Records the edges of a task that begins waiting. */
extern void eduai_queue_insert_edges(const TaskRequest *task, int64 task_id);

/*
 * These tasks ended: lets their children run, or fails them, and so on down.
 * In the dispatcher, inside a transaction, SPI connected.
 */
extern void eduai_queue_release_children(char *const *tenants, const int64 *ids, int n);

/* For the sweep: waiting tasks whose parents have all ended; returns how many. */
extern int eduai_queue_release_orphans(void);

#endif
