/*
 * store_end.c: the rows of task_end.  See store.h.
 *
 * Ends that are recorded together are collected, so that the heap takes them by
 * the page, with one WAL record each.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "queue/event.h"
#include "queue/store_internal.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

enum
{
	END_TENANT_ID,
	END_TASK_ID,
	END_TASK_TYPE,
	END_PRIORITY,
	END_STATE,
	END_ATTEMPT,
	END_RUN_AT,
	END_STARTED_AT,
	END_FINISHED_AT,
	END_INSTANCE,
	END_COST_USD,
	END_RESULT,
	END_ERROR,
	END_PROGRESS,
	END_KEY,
	END_COLUMNS
};

static void
put_json(Datum *value, bool *null, const Jsonb *json)
{
	*null = json == NULL;
	*value = PointerGetDatum(json);
}

char *
eduai_queue_end_state(EduaiTasks *tasks, const char *tenant, int64 task_id)
{
	TupleTableSlot *slot = eduai_queue_tasks_find(tasks, TABLE_END, END_PKEY, tenant, task_id);

	return slot == NULL ? NULL : TextDatumGetCString(slot->tts_values[END_STATE]);
}

/* as the column's expression in sql/queue/schema.sql */
int64
eduai_queue_ended_key(const char *state, const char *tenant)
{
	char name[2 * NAMEDATALEN];
	int length = snprintf(name, sizeof(name), "%s %s", state, tenant);

	return (int64) hash_bytes_extended((const unsigned char *) name, length, 0);
}

void
eduai_queue_end_of_live(const LiveTask *task, EndedRow *end)
{
	memset(end, 0, sizeof(*end));
	end->tenant = task->tenant;
	end->task_id = task->task_id;
	end->task_type = task->task_type;
	end->priority = task->priority;
	end->attempt = task->attempt;
	end->run_at = task->run_at;
	end->started_at = task->started_at;
	end->instance = task->instance;
	end->cost_usd = task->cost_usd;
	end->error = task->error;
	end->progress = task->progress;
}

/* ---- writing ---- */

static void
fill(Datum *values, bool *nulls, const EndedRow *e)
{
	memset(nulls, false, sizeof(bool) * END_COLUMNS);
	values[END_TENANT_ID] = CStringGetTextDatum(e->tenant);
	values[END_TASK_ID] = Int64GetDatum(e->task_id);
	values[END_TASK_TYPE] = CStringGetTextDatum(e->task_type);
	values[END_PRIORITY] = Int16GetDatum((int16) e->priority);
	values[END_STATE] = CStringGetTextDatum(e->state);
	values[END_ATTEMPT] = Int32GetDatum(e->attempt);
	values[END_RUN_AT] = TimestampTzGetDatum(e->run_at);
	eduai_queue_put_time(&values[END_STARTED_AT], &nulls[END_STARTED_AT], e->started_at);
	values[END_FINISHED_AT] = TimestampTzGetDatum(e->finished_at);
	eduai_queue_put_text(&values[END_INSTANCE], &nulls[END_INSTANCE], e->instance);
	values[END_COST_USD] = NumericGetDatum(e->cost_usd);
	nulls[END_COST_USD] = e->cost_usd == NULL;
	put_json(&values[END_RESULT], &nulls[END_RESULT], e->result);
	put_json(&values[END_ERROR], &nulls[END_ERROR], e->error);
	put_json(&values[END_PROGRESS], &nulls[END_PROGRESS], e->progress);
	values[END_KEY] = Int64GetDatum(eduai_queue_ended_key(e->state, e->tenant));
}

/* kept for the next batch of the call */
static TupleTableSlot *
free_slot(EduaiTasks *tasks)
{
	Relation rel = eduai_queue_tasks_table(tasks, TABLE_END);

	if (tasks->ends == NULL)
		tasks->ends = palloc0(sizeof(TupleTableSlot *) * EDUAI_MOST_ENDS);
	if (tasks->ends[tasks->nends] == NULL)
		tasks->ends[tasks->nends] = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	return ExecClearTuple(tasks->ends[tasks->nends]);
}

void
eduai_queue_end_collect(EduaiTasks *tasks, const EndedRow *e)
{
	MemoryContext old = MemoryContextSwitchTo(tasks->context);
	TupleTableSlot *slot = free_slot(tasks);

	/* virtual: the values are the heap row's and then those of its index entries */
	fill(slot->tts_values, slot->tts_isnull, e);
	ExecStoreVirtualTuple(slot);
	tasks->nends++;
	MemoryContextSwitchTo(old);
	eduai_queue_event_ended(tasks, e);
	if (tasks->nends == EDUAI_MOST_ENDS)
		eduai_queue_ends_insert(tasks);
}

static void
enter_all(EduaiTasks *tasks, TaskIndex index)
{
	for (int i = 0; i < tasks->nends; i++)
	{
		TupleTableSlot *slot = tasks->ends[i];

		eduai_queue_tasks_enter(tasks, index, &slot->tts_tid, slot->tts_values, slot->tts_isnull,
								false);
	}
}

void
eduai_queue_ends_insert(EduaiTasks *tasks)
{
	if (tasks->nends == 0)
		return;
	heap_multi_insert(eduai_queue_tasks_table(tasks, TABLE_END), tasks->ends, tasks->nends,
					  GetCurrentCommandId(true), 0, NULL);
	enter_all(tasks, END_PKEY);
	enter_all(tasks, END_BY_STATE);
	tasks->nends = 0;
}

void
eduai_queue_end_insert(EduaiTasks *tasks, const EndedRow *e)
{
	eduai_queue_end_collect(tasks, e);
	eduai_queue_ends_insert(tasks);
}
