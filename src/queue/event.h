/*
 * event.h: the queue's changes as events of the log (eduai.queue_events).
 *
 * The store calls these where it writes rows, so that each change makes exactly
 * one event, whoever changes the task: what a call changed is noted in its
 * EduaiTasks, and appended in the same transaction when it is closed.  A task
 * has a stream of its own, so that no two tasks share a lock.
 *
 *   task_enqueued    a request was written
 *   task_started     an attempt began
 *   task_retried     an attempt ended and another will follow, or retry_task()
 *                    took the task back
 *   task_completed, task_dead, task_cancelled, task_expired, task_uncertain
 *                    it ended
 *
 * Whoever may not wait asks first: may_update() and may_end() take the lock of
 * the task's stream without waiting, and what they refuse is to be treated as
 * a row that somebody holds.
 *
 * Events name neither learners nor payloads, results or messages: nothing in
 * them has to be erased with a learner.
 */
#ifndef EDUAI_QUEUE_EVENT_H
#define EDUAI_QUEUE_EVENT_H

#include "postgres.h"
#include "queue/store.h"

extern void eduai_queue_event_init(void);

/* Does enqueuing make an event? */
extern bool eduai_queue_event_of_enqueue(void);

/* Before a row is written; false only without wait. */
extern bool eduai_queue_event_may_update(EduaiTasks *tasks, const LiveTask *task,
										 const LiveChange *change, bool wait);
extern bool eduai_queue_event_may_end(EduaiTasks *tasks, const LiveTask *task, bool wait);

/* After it was. */
extern void
eduai_queue_event_enqueued(EduaiTasks *tasks, const TaskRequest *request, int64 task_id);
extern void eduai_queue_event_live(EduaiTasks *tasks, const LiveTask *task);
extern void
eduai_queue_event_updated(EduaiTasks *tasks, const LiveTask *task, const LiveChange *change);
extern void eduai_queue_event_ended(EduaiTasks *tasks, const EndedRow *end);

/* Appends what was noted. */
extern void eduai_queue_event_flush(EduaiTasks *tasks);

#endif
