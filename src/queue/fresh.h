/*
 * fresh.h: ready tasks that are nothing but their request.
 *
 * Most tasks are enqueued ready and started soon.  Such a task gets no row of
 * task_live when it is enqueued: shared memory has its place in its lane, and the
 * claim writes the row, as running.  That saves who enqueues a row and two index
 * entries, and the claim a version of the row.
 *
 * A task that lives is fresh when it has its row of task_request and none of
 * task_live or task_end.  Who reads tables treats it as ready, without an attempt,
 * since it was enqueued: the view eduai.fresh_task has those tasks.  Who would write
 * its row of task_live takes it first, so that nobody else does:
 *
 *   eduai_queue_live_take()   finds or makes the row of one task (cancel_task() ...)
 *   eduai_queue_fresh_take()  is for claims
 *
 * The task is back in its lane when the transaction, or the savepoint, that took
 * it is rolled back.  A transaction that is prepared gives the tasks that it
 * enqueued their rows before.
 *
 * Shared memory has room for eduai.queue_fresh such tasks; those that find none are
 * enqueued with their row.  Those that wait for long get theirs from the dispatcher.
 * The table eduai.fresh_from says from which id on there may be fresh tasks: it
 * bounds what views and a server start have to look through.  After a start they are
 * found there again.
 *
 * Keys, parents, times and queue events want a row of task_live at once: tasks that
 * have such are never fresh.  Nor are those of a large batch: they mostly wait, their
 * rows cost little together, and they would take the room of what comes and goes.
 */
#ifndef EDUAI_QUEUE_FRESH_H
#define EDUAI_QUEUE_FRESH_H

#include "postgres.h"
#include "queue/enqueue.h"
#include "queue/lane.h"
#include "queue/store.h"
#include "storage/itemptr.h"

#define FRESH_NONE (-1)

extern void eduai_queue_fresh_init(void);

/*
 * A place for a task that is about to be enqueued, before its id is drawn;
 * FRESH_NONE: it needs its row.  As lane_ready(): SPI connected, as the owner.
 */
extern int eduai_queue_fresh_reserve(const TaskRequest *task, const LaneName *name, int64 key);

/* Its request is written: it can be claimed when this transaction commits. */
extern void eduai_queue_fresh_born(int place, int64 task_id, const ItemPointerData *request);

/*
 * The next id of a task, fresh or not, from "sequence".  Who draws ids elsewhere makes
 * fresh_from wait for him.
 */
extern int64 eduai_queue_fresh_draw(Oid sequence);

typedef struct FreshTask
{
	int place;
	int64 task_id;
	int64 key; /* its place in its lane */
	ItemPointerData request;
} FreshTask;

/*
 * Takes the lane's oldest fresh tasks whose keys are below "before", in their
 * order, in this (sub)transaction.  Returns how many.
 */
extern int eduai_queue_fresh_take(int lane, int64 hash, int64 before, FreshTask *tasks, int most);

/* One that was taken and has got no row goes back to its lane at once. */
extern void eduai_queue_fresh_give_back(int place);

/* The request was not where the task says. */
extern void eduai_queue_fresh_moved(void);

/*
 * The living task, whose row is made, as ready, if it has none.  False when there
 * is no such task (or somebody else's enqueue is not committed).  Waits for a
 * transaction that has taken it.
 */
extern bool
eduai_queue_live_take(EduaiTasks *tasks, const char *tenant, int64 task_id, LiveTask *task);

/* How many of a tenant's tasks are fresh, whoever enqueued them, by the tables. */
extern int64 eduai_queue_fresh_count(const char *tenant);

/*
 * For the dispatcher's sweep: gives old ones their rows, moves fresh_from on.  True
 * when it wants to be called again soon.  SPI connected, as the owner.
 */
extern bool eduai_queue_fresh_sweep(void);

#endif
