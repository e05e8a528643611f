/*
 * store_internal.h: between store.c (tables, requests), store_live.c and store_end.c.
 */
#ifndef EDUAI_QUEUE_STORE_INTERNAL_H
#define EDUAI_QUEUE_STORE_INTERNAL_H

#include "core/heap.h"
#include "nodes/execnodes.h"
#include "queue/store.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

typedef enum TaskTable
{
	TABLE_REQUEST,
	TABLE_LIVE,
	TABLE_END,
	TASK_TABLES
} TaskTable;

typedef enum TaskIndex
{
	REQUEST_PKEY,
	REQUEST_IDEMPOTENCY_KEY,
	LIVE_PKEY,
	LIVE_BY_LANE,
	LIVE_BY_DUE,
	LIVE_BY_WAITING,
	LIVE_BY_HELD,
	LIVE_BY_EXPIRING,
	LIVE_BY_UNIQUE_KEY,
	END_PKEY,
	END_BY_STATE,
	TASK_INDEXES
} TaskIndex;

#define EDUAI_MOST_ENDS 256 /* rows of task_end that are written together */

/* Everything is opened when it is first needed; NULL before. */
struct EduaiTasks
{
	MemoryContext context; /* of what is opened later, whatever is current then */
	Relation tables[TASK_TABLES];
	Relation indexes[TASK_INDEXES];
	IndexInfo *infos[TASK_INDEXES];
	EduaiScan scans[TASK_TABLES];       /* of the primary keys */
	TupleTableSlot *slots[TASK_TABLES]; /* for rows found by their place */
	BlockNumber blocks[TASK_TABLES];    /* of the table, when last asked: places beyond are none */
	TupleTableSlot **ends;              /* EDUAI_MOST_ENDS, as many as were needed so far */
	int nends;                          /* of them, rows of task_end that are to be written */
	struct TaskNotes *notes;            /* what event.c makes events of; NULL: nothing yet */
};

extern Relation eduai_queue_tasks_table(EduaiTasks *tasks, TaskTable table);
extern Relation eduai_queue_tasks_index(EduaiTasks *tasks, TaskIndex which);

/* Makes a row's entry in an index; again: of a new version, whose unique keys stay. */
extern void eduai_queue_tasks_enter(EduaiTasks *tasks, TaskIndex which, ItemPointer tid,
									const Datum *values, const bool *nulls, bool again);

/* The row by the primary key of its table, in a slot that lasts until the next call; NULL: none. */
extern TupleTableSlot *eduai_queue_tasks_find(EduaiTasks *tasks, TaskTable table, TaskIndex pkey,
											  const char *tenant, int64 task_id);

/* The same by its place, if that is the task's row (tenant NULL: whoever's). */
extern TupleTableSlot *
eduai_queue_tasks_at(EduaiTasks *tasks, TaskTable table, const ItemPointerData *place,
					 const char *tenant, int64 task_id);

/* eduai_queue_request_live() of a row of task_request, deformed. */
extern void eduai_queue_request_live_of(const TupleTableSlot *slot, LiveTask *task);

/* Columns that may be null. */
static inline void
eduai_queue_put_text(Datum *value, bool *null, const char *text)
{
	*null = text == NULL;
	*value = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static inline void
eduai_queue_put_time(Datum *value, bool *null, TimestampTz time)
{
	*null = time == 0;
	*value = TimestampTzGetDatum(time);
}

#endif
