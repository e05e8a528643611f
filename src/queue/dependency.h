/*
 * dependency.h: tasks that wait for others.
 *
 * A task waits while it has an edge (edge.h) to a parent.  Its policy,
 * metadata.on_parent_failure, says which parents those are: with run, parents
 * that live; with wait, parents that have not completed; with fail, parents
 * that live, and the first that fails ends the task too.
 *
 * Only the dispatcher lets children go, so that two parents that end at once
 * cannot each leave the child to the other.  Nobody locks a parent: it may end
 * while the transaction that makes the edge is open.  So a task that begins
 * waiting is looked at again once it is committed (board.h).
 */
#ifndef EDUAI_QUEUE_DEPENDENCY_H
#define EDUAI_QUEUE_DEPENDENCY_H

#include "postgres.h"
#include "queue/enqueue.h"
#include "queue/store.h"
#include "utils/array.h"

typedef enum ParentFailure
{
	PARENT_FAILURE_FAIL,
	PARENT_FAILURE_RUN,
	PARENT_FAILURE_WAIT
} ParentFailure;

extern ParentFailure eduai_queue_parent_failure(const Jsonb *metadata);

typedef enum ParentStand
{
	PARENT_UNKNOWN, /* never was, or is forgotten */
	PARENT_LIVES,
	PARENT_COMPLETED,
	PARENT_FAILED
} ParentStand;

extern ParentStand eduai_queue_parent_stand(EduaiTasks *tasks, const char *tenant, int64 task_id);

/*
 * Looks at parents as a task with this policy does: puts those it waits for
 * into "awaited" (palloc'd), each once, and says whether one has failed it.
 * Raises 22023 for an unknown id.  SPI is not needed.
 */
extern bool
eduai_queue_parents_failed(EduaiTasks *tasks, const char *tenant, const ArrayType *parents,
						   ParentFailure policy, int64 **awaited, int *nawaited);

/*
 * Looks at the parents and says in which state the task begins: sets
 * task->state to waiting or dead where they ask for it, and task->awaited.
 */
extern void eduai_queue_look_at_parents(EduaiTasks *tasks, TaskRequest *task);

/* Raises UE010 when the existing task that the call stands for is one of its own parents. */
extern void eduai_queue_check_own_parent(const TaskRequest *task, int64 existing);

/* The error of a task that does not run because of a parent. */
extern Jsonb *eduai_queue_parent_failed(void);

/* Records the edges of a task that begins waiting, and tells the dispatcher at the commit. */
extern void eduai_queue_insert_edges(const TaskRequest *task, int64 task_id);

/*
 * What a task sees of its parents: an array in the order of its depends_on of
 * {task_id, task_type, state, result, error}; NULL when it has none.  SPI
 * connected, as the owner.
 */
extern Jsonb *eduai_queue_parents(const char *tenant, int64 task_id);

/* ---- for the dispatcher, inside a transaction, SPI connected; nothing waits ---- */

typedef struct EndedParent
{
	const char *tenant;
	int64 task_id;
	bool completed;
} EndedParent;

/* These tasks ended: lets their children run, or fails them, and so on down. */
extern void eduai_queue_release_children(const EndedParent *parents, int n);

/* These tasks began waiting, or may wait for nothing: looks at their parents. */
extern int eduai_queue_look_again(const char *const *tenants, const int64 *task_ids, int n);

/*
 * For the sweep: looks at the waiting tasks after those of the last call, or
 * from the first, so many of them; *all is set when it came to their end.
 * Returns how many it let go.
 */
extern int eduai_queue_release_orphans(bool anew, bool *all);

/*
 * Follows the news (board.h): notifies, lets children go.  calls_ended is told of
 * tasks whose calls may be for nothing now; with NULL, that any may be.  True:
 * it is to be called again within EDUAI_NEWS_MS.
 */
typedef void (*CallsEnded)(const int64 *task_ids, int n);
extern bool eduai_queue_follow_board(CallsEnded calls_ended);

#endif
