/*
 * sweep.h: what time, not a commit, makes due.
 *
 * In the dispatcher, inside a transaction, SPI connected; nothing waits.
 */
#ifndef EDUAI_QUEUE_SWEEP_H
#define EDUAI_QUEUE_SWEEP_H

#include "postgres.h"

#include "queue/board.h"
#include "storage/itemptr.h"

/* Scheduled tasks that are due become ready; returns how many. */
extern int eduai_queue_wake_due(void);

/* Milliseconds until the next scheduled task is due, -1 for none. */
extern int64 eduai_queue_next_due_ms(void);

/* Tasks that expired before they started become final; returns how many. */
extern int eduai_queue_expire(void);

/* A running task of another incarnation of the dispatcher: its attempt is uncertain. */
typedef struct Orphan
{
	int64 task_id;
	ItemPointerData tid;
	int attempt;
	char *tenant;
	char *instance;
	char *model;
	int64 started_at; /* timestamptz */
} Orphan;

/* At most "most" of them, palloc'd. */
extern int eduai_queue_orphans(int most, Orphan **orphans);

/* Notifies of tasks that ended outside the dispatcher and deals with their children. */
extern void eduai_queue_follow_ended(const EndedTask *tasks, int n);

/* Of these attempts, the indexes of those that are no longer running. */
extern int eduai_queue_superseded(const int64 *task_ids, const int *attempts, int n, int *indexes);

#endif
