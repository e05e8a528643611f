/*
 * board.h: what the queue's processes tell each other through shared memory.
 *
 * Waiters sleep on one of many condition variables, chosen by task id, and
 * look again when it is broadcast.
 *
 * The news of a database are for its dispatcher: tasks that ended outside it,
 * so that it sends the notification, lets children go and aborts the transfer,
 * and tasks that began waiting for others, so that it looks at their parents
 * once more.  They are told when the transaction commits; nothing is told, and
 * nobody woken, when nothing would follow.  Nor is it woken for a notification
 * alone while it comes by itself, a moment after it took the last ones: so many
 * ends take few turns.  When the news are too many, those
 * that only ask for a notification are left out; of others the dispatcher is
 * told that it has to look at every task that waits.
 *
 * The mark says whether a task may wait for others in this database, that of an
 * open transaction included.  Who enqueues such a task sets it before looking
 * at the parents; who ends a task reads it once that is visible.  So either the
 * one sees the parent's end or the other sees the mark, and tells.
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

typedef enum EndedHow
{
	ENDED_COMPLETED,
	ENDED_DEAD,
	ENDED_CANCELLED,
	ENDED_UNCERTAIN,
	ENDED_EXPIRED,
	BEGAN_WAITING /* it has not ended: it waits for others */
} EndedHow;

/* The state's name, and the other way round for the five final ones. */
extern const char *eduai_queue_ended_name(EndedHow how);
extern EndedHow eduai_queue_ended_how(const char *state);

/*
 * As eduai_queue_board_ended(), outside the dispatcher, which is told.
 * "called": the gateway may be calling a provider for it.  "lived": it was
 * alive before this transaction, which then cannot be prepared (0A000): whoever
 * waits for the task would not be woken.
 */
extern void eduai_queue_board_ended_here(const char *tenant, int64 task_id, EndedHow how,
										 bool called, bool lived);

/* The task begins waiting for others with this transaction. */
extern void eduai_queue_board_waits(const char *tenant, int64 task_id);

/* ---- the mark ---- */

/* Sets it; the transaction gets an id. */
extern void eduai_queue_board_mark(void);

/* May a task wait for others? */
extern bool eduai_queue_board_marked(void);

/*
 * For the dispatcher, who has just seen that no task waits: takes the mark
 * away unless it was set after "seen", or by a transaction that may be open.
 * "seen" is of before that look.
 */
extern uint64 eduai_queue_board_seen(void);
extern void eduai_queue_board_unmark(uint64 seen, TransactionId oldest_running);

/* ---- for the dispatcher ---- */

typedef struct EndedTask
{
	int64 task_id;
	uint8 how; /* EndedHow */
	bool called;
	char tenant[NAMEDATALEN];
} EndedTask;

/*
 * Takes up to "most" news of this database, oldest first; *overflow when some
 * were lost.  When this transaction aborts, they count as lost.  Whoever gets any
 * comes again within EDUAI_NEWS_MS without being woken.
 */
#define EDUAI_NEWS_MS 5
extern int eduai_queue_board_take(EndedTask *tasks, int most, bool *overflow);

/* Are notifications sent when tasks end?  eduai.notify_results */
extern bool eduai_queue_notify_results;

#endif
