/*
 * store_live.c: the rows of task_live.  See store.h.
 *
 * A claim changes no indexed column and no column of a predicate, so its new
 * version has no index entries.  A row that came to another index is entered
 * in all that it belongs to, as after any update that is not heap-only.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "core/compat.h"
#include "queue/due.h"
#include "queue/event.h"
#include "queue/lane.h"
#include "queue/quota.h"
#include "queue/store_internal.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static char *
text_of(const Datum *values, const bool *nulls, LiveColumn column)
{
	return nulls[column] ? NULL : TextDatumGetCString(values[column]);
}

static int64
int64_of(const Datum *values, const bool *nulls, LiveColumn column)
{
	return nulls[column] ? 0 : DatumGetInt64(values[column]);
}

static Jsonb *
json_of(const Datum *values, const bool *nulls, LiveColumn column)
{
	return nulls[column] ? NULL : DatumGetJsonbPCopy(values[column]);
}

/* everything but the tuple and the slot */
static void
read_columns(const Datum *values, const bool *nulls, LiveTask *t)
{
	t->tenant = text_of(values, nulls, LIVE_TENANT_ID);
	t->task_id = DatumGetInt64(values[LIVE_TASK_ID]);
	t->task_type = text_of(values, nulls, LIVE_TASK_TYPE);
	t->model = text_of(values, nulls, LIVE_MODEL);
	t->priority = DatumGetInt16(values[LIVE_PRIORITY]);
	t->state = text_of(values, nulls, LIVE_STATE);
	t->attempt = DatumGetInt32(values[LIVE_ATTEMPT]);
	t->attempt_base = DatumGetInt32(values[LIVE_ATTEMPT_BASE]);
	t->in_lane = !nulls[LIVE_LANE];
	t->lane = int64_of(values, nulls, LIVE_LANE);
	t->ready_key = int64_of(values, nulls, LIVE_READY_KEY);
	t->run_at = DatumGetTimestampTz(values[LIVE_RUN_AT]);
	t->due_at = int64_of(values, nulls, LIVE_DUE_AT);
	t->backoff = DatumGetBool(values[LIVE_BACKOFF]);
	t->held = DatumGetBool(values[LIVE_HELD]);
	t->expires_at = int64_of(values, nulls, LIVE_EXPIRES_AT);
	t->unique_key = text_of(values, nulls, LIVE_UNIQUE_KEY);
	t->concurrency_key = text_of(values, nulls, LIVE_CONCURRENCY_KEY);
	t->worker = int64_of(values, nulls, LIVE_WORKER);
	t->worker_name = text_of(values, nulls, LIVE_WORKER_NAME);
	t->lease_ms = int64_of(values, nulls, LIVE_LEASE_MS);
	t->instance = text_of(values, nulls, LIVE_INSTANCE);
	t->started_at = int64_of(values, nulls, LIVE_STARTED_AT);
	t->cost_usd = nulls[LIVE_COST_USD] ? NULL : DatumGetNumericCopy(values[LIVE_COST_USD]);
	t->error = json_of(values, nulls, LIVE_ERROR);
	t->progress = json_of(values, nulls, LIVE_PROGRESS);
	t->plain = DatumGetBool(values[LIVE_PLAIN]);
	t->unplaced = DatumGetBool(values[LIVE_UNPLACED]);
	t->fresh = false;
	if (nulls[LIVE_REQUEST])
		ItemPointerSetInvalid(&t->request);
	else
		t->request = *(ItemPointer) DatumGetPointer(values[LIVE_REQUEST]);
}

void
eduai_queue_live_read_tuple(EduaiTasks *tasks, HeapTuple tuple, LiveTask *task)
{
	Datum values[LIVE_COLUMNS];
	bool nulls[LIVE_COLUMNS];

	task->tuple = heap_copytuple(tuple);
	task->slot = NULL;
	heap_deform_tuple(task->tuple, RelationGetDescr(eduai_queue_tasks_table(tasks, TABLE_LIVE)),
					  values, nulls);
	read_columns(values, nulls, task);
}

void
eduai_queue_live_read(TupleTableSlot *slot, LiveTask *task)
{
	slot_getallattrs(slot);
	task->tuple = ExecCopySlotHeapTuple(slot);
	task->tuple->t_self = slot->tts_tid;
	task->slot = NULL;
	read_columns(slot->tts_values, slot->tts_isnull, task);
}

bool
eduai_queue_live_find(EduaiTasks *tasks, const char *tenant, int64 task_id, LiveTask *task)
{
	TupleTableSlot *slot = eduai_queue_tasks_find(tasks, TABLE_LIVE, LIVE_PKEY, tenant, task_id);

	if (slot == NULL)
		return false;
	eduai_queue_live_read(slot, task);
	return true;
}

bool
eduai_queue_lives(EduaiTasks *tasks, const char *tenant, int64 task_id)
{
	return eduai_queue_tasks_find(tasks, TABLE_LIVE, LIVE_PKEY, tenant, task_id) != NULL;
}

bool
eduai_queue_live_at(EduaiTasks *tasks, const ItemPointerData *tid, const char *tenant,
					int64 task_id, LiveTask *task)
{
	TupleTableSlot *slot = eduai_queue_tasks_at(tasks, TABLE_LIVE, tid, tenant, task_id);

	if (slot == NULL)
		return false;
	eduai_queue_live_read(slot, task);
	return true;
}

/* ---- writing ---- */

void
eduai_queue_change_to(LiveChange *change, LiveColumn column, Datum value)
{
	change->values[column] = value;
	change->nulls[column] = false;
	change->replace[column] = true;
}

void
eduai_queue_change_null(LiveChange *change, LiveColumn column)
{
	change->values[column] = (Datum) 0;
	change->nulls[column] = true;
	change->replace[column] = true;
}

void
eduai_queue_change_text(LiveChange *change, LiveColumn column, const char *value)
{
	if (value == NULL)
		eduai_queue_change_null(change, column);
	else
		eduai_queue_change_to(change, column, CStringGetTextDatum(value));
}

/* the row's entries in the indexes that it belongs to */
static void
enter_indexes(EduaiTasks *tasks, ItemPointer tid, const Datum *values, const bool *nulls,
			  bool again)
{
	bool in_lane = !nulls[LIVE_LANE];
	bool scheduled = !nulls[LIVE_DUE_AT];
	bool held = DatumGetBool(values[LIVE_HELD]);
	bool unplaced = DatumGetBool(values[LIVE_UNPLACED]);

	eduai_queue_tasks_enter(tasks, LIVE_PKEY, tid, values, nulls, again);
	if (in_lane)
		eduai_queue_tasks_enter(tasks, LIVE_BY_LANE, tid, values, nulls, again);
	if (scheduled)
		eduai_queue_tasks_enter(tasks, LIVE_BY_DUE, tid, values, nulls, again);
	if (!in_lane && !scheduled && !held && !unplaced)
		eduai_queue_tasks_enter(tasks, LIVE_BY_WAITING, tid, values, nulls, again);
	if (held)
		eduai_queue_tasks_enter(tasks, LIVE_BY_HELD, tid, values, nulls, again);
	if (!nulls[LIVE_EXPIRES_AT])
		eduai_queue_tasks_enter(tasks, LIVE_BY_EXPIRING, tid, values, nulls, again);
	if (!nulls[LIVE_UNIQUE_KEY])
		eduai_queue_tasks_enter(tasks, LIVE_BY_UNIQUE_KEY, tid, values, nulls, again);
}

static WriteResult
write_result(TM_Result result, bool wait)
{
	switch (result)
	{
		case TM_Ok:
			return WRITE_DONE;
		case TM_BeingModified:
		case TM_WouldBlock:
			return WRITE_HELD;
		case TM_Updated:
		case TM_Deleted:
			return WRITE_MOVED;
		case TM_SelfModified:
		case TM_Invisible:
			break;
	}
	elog(ERROR, "a task's row was written twice by one command");
	return WRITE_MOVED; /* not reached */
}

/* the new version; from the slot that the row was read from, if that is still at it */
static HeapTuple
changed_row(Relation rel, const LiveTask *task, const LiveChange *change)
{
	TupleTableSlot *slot = task->slot;
	Datum values[LIVE_COLUMNS];
	bool nulls[LIVE_COLUMNS];

	if (slot == NULL || TTS_EMPTY(slot) || slot->tts_nvalid < LIVE_COLUMNS ||
		!ItemPointerEquals(&slot->tts_tid, &task->tuple->t_self))
		return heap_modify_tuple(task->tuple, RelationGetDescr(rel), (Datum *) change->values,
								 (bool *) change->nulls, (bool *) change->replace);
	for (int i = 0; i < LIVE_COLUMNS; i++)
	{
		values[i] = change->replace[i] ? change->values[i] : slot->tts_values[i];
		nulls[i] = change->replace[i] ? change->nulls[i] : slot->tts_isnull[i];
	}
	return heap_form_tuple(RelationGetDescr(rel), values, nulls);
}

WriteResult
eduai_queue_live_update(EduaiTasks *tasks, LiveTask *task, const LiveChange *change, bool wait)
{
	Relation rel = eduai_queue_tasks_table(tasks, TABLE_LIVE);
	HeapTuple new = changed_row(rel, task, change);
	bool entries = false;
	WriteResult result;

	if (!eduai_queue_event_may_update(tasks, task, change, wait))
		return WRITE_HELD;
	result = write_result(eduai_heap_update(rel, &task->tuple->t_self, new, wait, &entries), wait);
	if (result != WRITE_DONE)
		return result;
	if (change->replace[LIVE_DUE_AT] && !change->nulls[LIVE_DUE_AT])
		eduai_queue_due_at(DatumGetTimestampTz(change->values[LIVE_DUE_AT]),
						   change->replace[LIVE_BACKOFF]
							   ? DatumGetBool(change->values[LIVE_BACKOFF])
							   : task->backoff);
	if (entries)
	{
		Datum values[LIVE_COLUMNS];
		bool nulls[LIVE_COLUMNS];

		heap_deform_tuple(new, RelationGetDescr(rel), values, nulls);
		enter_indexes(tasks, &new->t_self, values, nulls, true);
	}
	task->tuple = new;
	eduai_queue_event_updated(tasks, task, change);
	return WRITE_DONE;
}

WriteResult
eduai_queue_live_delete(EduaiTasks *tasks, const LiveTask *task, bool wait)
{
	TM_FailureData failure;

	eduai_queue_quota_know(task->tenant);
	if (!eduai_queue_event_may_end(tasks, task, wait))
		return WRITE_HELD;
	return write_result(heap_delete(eduai_queue_tasks_table(tasks, TABLE_LIVE),
									&task->tuple->t_self, GetCurrentCommandId(true),
									InvalidSnapshot, wait, &failure, false),
						wait);
}

static void
put(Datum *values, bool *nulls, LiveColumn column, bool null, Datum value)
{
	values[column] = value;
	nulls[column] = null;
}

static void
put_text(Datum *values, bool *nulls, LiveColumn column, const char *text)
{
	put(values, nulls, column, text == NULL, text ? CStringGetTextDatum(text) : (Datum) 0);
}

static void
put_int64(Datum *values, bool *nulls, LiveColumn column, int64 value)
{
	put(values, nulls, column, value == 0, Int64GetDatum(value));
}

void
eduai_queue_live_write(EduaiTasks *tasks, LiveTask *t)
{
	Relation rel = eduai_queue_tasks_table(tasks, TABLE_LIVE);
	Datum values[LIVE_COLUMNS];
	bool nulls[LIVE_COLUMNS];

	eduai_queue_quota_know(t->tenant);
	put_text(values, nulls, LIVE_TENANT_ID, t->tenant);
	put(values, nulls, LIVE_TASK_ID, false, Int64GetDatum(t->task_id));
	put_text(values, nulls, LIVE_TASK_TYPE, t->task_type);
	put_text(values, nulls, LIVE_MODEL, t->model);
	put(values, nulls, LIVE_PRIORITY, false, Int16GetDatum((int16) t->priority));
	put_text(values, nulls, LIVE_STATE, t->state);
	put(values, nulls, LIVE_ATTEMPT, false, Int32GetDatum(t->attempt));
	put(values, nulls, LIVE_ATTEMPT_BASE, false, Int32GetDatum(t->attempt_base));
	put(values, nulls, LIVE_LANE, !t->in_lane, Int64GetDatum(t->lane));
	put(values, nulls, LIVE_READY_KEY, !t->in_lane && !t->held, Int64GetDatum(t->ready_key));
	put(values, nulls, LIVE_RUN_AT, false, TimestampTzGetDatum(t->run_at));
	put_int64(values, nulls, LIVE_DUE_AT, t->due_at);
	put(values, nulls, LIVE_BACKOFF, false, BoolGetDatum(t->backoff));
	put(values, nulls, LIVE_HELD, false, BoolGetDatum(t->held));
	put_int64(values, nulls, LIVE_EXPIRES_AT, t->expires_at);
	put_text(values, nulls, LIVE_UNIQUE_KEY, t->unique_key);
	put_text(values, nulls, LIVE_CONCURRENCY_KEY, t->concurrency_key);
	put_int64(values, nulls, LIVE_WORKER, t->worker);
	put_text(values, nulls, LIVE_WORKER_NAME, t->worker_name);
	put_int64(values, nulls, LIVE_LEASE_MS, t->lease_ms);
	put_text(values, nulls, LIVE_INSTANCE, t->instance);
	put_int64(values, nulls, LIVE_STARTED_AT, t->started_at);
	put(values, nulls, LIVE_COST_USD, t->cost_usd == NULL, NumericGetDatum(t->cost_usd));
	put(values, nulls, LIVE_ERROR, t->error == NULL, PointerGetDatum(t->error));
	put(values, nulls, LIVE_PROGRESS, t->progress == NULL, PointerGetDatum(t->progress));
	put_int64(values, nulls, LIVE_HELD_KEY, 0);
	put(values, nulls, LIVE_PLAIN, false, BoolGetDatum(t->plain));
	put(values, nulls, LIVE_UNPLACED, false, BoolGetDatum(t->unplaced));
	put(values, nulls, LIVE_REQUEST, !ItemPointerIsValid(&t->request),
		PointerGetDatum(&t->request));
	t->tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	heap_insert(rel, t->tuple, GetCurrentCommandId(true), 0, NULL);
	enter_indexes(tasks, &t->tuple->t_self, values, nulls, false);
	if (t->due_at != 0)
		eduai_queue_due_at(t->due_at, t->backoff);
}

void
eduai_queue_live_insert(EduaiTasks *tasks, LiveTask *t)
{
	eduai_queue_live_write(tasks, t);
	eduai_queue_event_live(tasks, t);
}

void
eduai_queue_live_of_request(const TaskRequest *r, int64 task_id, LiveTask *t)
{
	memset(t, 0, sizeof(*t));
	t->tenant = r->tenant;
	t->task_id = task_id;
	t->task_type = r->type.name;
	t->model = r->model;
	t->priority = r->priority;
	t->state = r->state;
	t->run_at = r->run_at;
	t->expires_at = r->expires_at;
	t->unique_key = r->unique_key;
	t->concurrency_key = r->concurrency_key;
	t->plain = r->user_id == NULL && r->on_result == NULL;
}

void
eduai_queue_live_announce(const LiveTask *t)
{
	LaneName name = {t->tenant, t->task_type, t->model, t->priority};

	eduai_queue_lane_ready(&name, t->ready_key);
}

void
eduai_queue_live_left(const LiveTask *t)
{
	LaneName name = {t->tenant, t->task_type, t->model, t->priority};

	if (t->in_lane && strcmp(t->state, "ready") == 0)
		eduai_queue_lane_taken(&name, t->ready_key);
}
