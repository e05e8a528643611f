/*
 * store.h: the rows of tasks, read and written without SQL.
 *
 * task_request is written once, task_live while the task lives, task_end when
 * it ended.  Reads see what is committed and what this transaction did, whatever
 * its isolation level; writes say whether they may wait for whoever holds the
 * row.  Nothing is checked: CHECK constraints are the caller's.
 *
 * An EduaiTasks is opened for one call and closed before it returns (after an
 * error, the end of the transaction does it); closing appends the events of the
 * changes, where they are asked for (event.h).  What is read lives in the memory
 * context that is current.  The caller counts commands:
 * CommandCounterIncrement() after what statements, or later calls here, shall see.
 */
#ifndef EDUAI_QUEUE_STORE_H
#define EDUAI_QUEUE_STORE_H

#include "postgres.h"
#include "access/htup.h"
#include "executor/tuptable.h"
#include "queue/enqueue.h"
#include "storage/itemptr.h"
#include "utils/numeric.h"

extern EduaiTasks *eduai_queue_tasks_open(void);
extern void eduai_queue_tasks_close(EduaiTasks *tasks);

/* The columns of task_live, as in sql/queue/schema.sql. */
typedef enum LiveColumn
{
	LIVE_TASK_ID,
	LIVE_RUN_AT,
	LIVE_LANE,
	LIVE_READY_KEY,
	LIVE_ATTEMPT,
	LIVE_ATTEMPT_BASE,
	LIVE_PRIORITY,
	LIVE_BACKOFF,
	LIVE_HELD,
	LIVE_PLAIN,
	LIVE_UNPLACED,
	LIVE_TENANT_ID,
	LIVE_TASK_TYPE,
	LIVE_STATE,
	LIVE_REQUEST,
	LIVE_MODEL,
	LIVE_DUE_AT,
	LIVE_HELD_KEY,
	LIVE_EXPIRES_AT,
	LIVE_UNIQUE_KEY,
	LIVE_CONCURRENCY_KEY,
	LIVE_WORKER,
	LIVE_WORKER_NAME,
	LIVE_LEASE_MS,
	LIVE_STARTED_AT,
	LIVE_INSTANCE,
	LIVE_COST_USD,
	LIVE_ERROR,
	LIVE_PROGRESS,
	LIVE_COLUMNS
} LiveColumn;

/* A row of task_live.  NULLs are NULL pointers, or 0 for the numbers that can be null. */
typedef struct LiveTask
{
	HeapTuple tuple;      /* as read; t_self is where */
	TupleTableSlot *slot; /* NULL, or deformed; a caller whose scan stays here may set it */
	char *tenant;
	int64 task_id;
	char *task_type;
	char *model;
	int priority;
	char *state;
	int attempt;
	int attempt_base;
	bool in_lane;
	int64 lane;
	int64 ready_key; /* when in_lane or held */
	TimestampTz run_at;
	TimestampTz due_at;
	bool backoff;
	bool held;
	bool unplaced; /* started before it had a place in its lane */
	bool fresh;    /* not of the row: it had none when it was claimed */
	TimestampTz expires_at;
	char *unique_key;
	char *concurrency_key;
	int64 worker;
	char *worker_name;
	int64 lease_ms;
	char *instance;
	TimestampTz started_at;
	Numeric cost_usd;
	Jsonb *error;
	Jsonb *progress;
	bool plain;              /* no on_result, no user_id: its end follows from this row alone */
	ItemPointerData request; /* where its request may be; invalid: nobody knows */
} LiveTask;

/* The row of a task; false when it does not live (or somebody else's enqueue is not committed). */
extern bool
eduai_queue_live_find(EduaiTasks *tasks, const char *tenant, int64 task_id, LiveTask *task);

/* The row at a place, if it is this task's (tenant NULL: whoever's); false when it is not there any more. */
extern bool eduai_queue_live_at(EduaiTasks *tasks, const ItemPointerData *tid, const char *tenant,
								int64 task_id, LiveTask *task);

/* Reads a row of task_live that somebody else has found; it is copied. */
extern void eduai_queue_live_read(TupleTableSlot *slot, LiveTask *task);
extern void eduai_queue_live_read_tuple(EduaiTasks *tasks, HeapTuple tuple, LiveTask *task);

/* What is to become of some columns. */
typedef struct LiveChange
{
	Datum values[LIVE_COLUMNS];
	bool nulls[LIVE_COLUMNS];
	bool replace[LIVE_COLUMNS];
} LiveChange;

extern void eduai_queue_change_to(LiveChange *change, LiveColumn column, Datum value);
extern void eduai_queue_change_text(LiveChange *change, LiveColumn column, const char *value);
extern void eduai_queue_change_null(LiveChange *change, LiveColumn column);

typedef enum WriteResult
{
	WRITE_DONE,
	WRITE_HELD, /* somebody holds the row; only without wait */
	WRITE_MOVED /* it was changed or deleted since it was read: find it again */
} WriteResult;

/*
 * Writes the row that was read.  Waits for whoever holds it if asked to, with
 * lock_timeout's limit; then it has mostly moved.  On WRITE_DONE task->tuple is
 * the new row, the other fields are as they were.
 */
extern WriteResult
eduai_queue_live_update(EduaiTasks *tasks, LiveTask *task, const LiveChange *change, bool wait);
extern WriteResult eduai_queue_live_delete(EduaiTasks *tasks, const LiveTask *task, bool wait);

/*
 * A new task's row, or that of one that lives again: as "task" says, but for
 * tuple, which it sets.  Raises 23505 when another task with its unique_key lives.
 */
extern void eduai_queue_live_insert(EduaiTasks *tasks, LiveTask *task);

/*
 * The row of a task that was enqueued before without one (fresh.h): the same, but
 * that it is no news.
 */
extern void eduai_queue_live_write(EduaiTasks *tasks, LiveTask *task);

/* Fills what a request says of its live row; the state's columns are the caller's. */
extern void eduai_queue_live_of_request(const TaskRequest *request, int64 task_id, LiveTask *task);

/* The place in its lane that a ready task gets: sets lane, ready_key, and announces it for the commit. */
extern void eduai_queue_live_announce(const LiveTask *task);

/* This transaction took it out of its lane, if it was ready there; before or after the write. */
extern void eduai_queue_live_left(const LiveTask *task);

/* Sets *place to where the row is. */
extern void eduai_queue_request_insert(EduaiTasks *tasks, const TaskRequest *request, int64 task_id,
									   ItemPointer place);

/* What a task was asked to do. */
typedef struct AskedTask
{
	int max_attempts;
	int64 timeout_ms;
	char *user_id;
	char *owner;
	char *on_result;
	bool has_parents;
	Jsonb *payload;
	Jsonb *metadata;
} AskedTask;

/*
 * False when there is no such task.  The payload is read only if asked for.
 * "place" is where the row may be; NULL or invalid: nobody knows.
 */
extern bool
eduai_queue_request_find(EduaiTasks *tasks, const char *tenant, int64 task_id,
						 const ItemPointerData *place, bool with_payload, AskedTask *asked);

/*
 * What the live row of a ready task that has none says, by its request, which is
 * at "place": no tuple, not in its lane.  False when it is not there.
 */
extern bool eduai_queue_request_live(EduaiTasks *tasks, const ItemPointerData *place, int64 task_id,
									 LiveTask *task);

/* Is there a request of this tenant's with this id? */
extern bool
eduai_queue_requested(EduaiTasks *tasks, const char *tenant, int64 task_id, ItemPointer place);

/* Does the task have a row of task_live?  Cheaper than eduai_queue_live_find(). */
extern bool eduai_queue_lives(EduaiTasks *tasks, const char *tenant, int64 task_id);

/* The state in which it ended; NULL when it did not, or is forgotten. */
extern char *eduai_queue_end_state(EduaiTasks *tasks, const char *tenant, int64 task_id);

/* How a task ended. */
typedef struct EndedRow
{
	const char *tenant;
	int64 task_id;
	const char *task_type;
	int priority;
	const char *state;
	int attempt;
	TimestampTz run_at;
	TimestampTz started_at; /* 0: never */
	TimestampTz finished_at;
	const char *instance;
	Numeric cost_usd; /* NULL: none */
	const Jsonb *result;
	const Jsonb *error;
	const Jsonb *progress;
} EndedRow;

extern void eduai_queue_end_insert(EduaiTasks *tasks, const EndedRow *end);

/*
 * The same for many: nobody sees them before ends_insert(), which must come before the close;
 * the row's result, error and progress must last until then.
 */
extern void eduai_queue_end_collect(EduaiTasks *tasks, const EndedRow *end);
extern void eduai_queue_ends_insert(EduaiTasks *tasks);

/* The column ended_key of the tasks that ended so. */
extern int64 eduai_queue_ended_key(const char *state, const char *tenant);

/* Fills what carries over from the live row. */
extern void eduai_queue_end_of_live(const LiveTask *task, EndedRow *end);

#endif
