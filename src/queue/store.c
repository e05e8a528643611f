/*
 * store.c: the rows of tasks.  See store.h.
 *
 * The indexes are opened when they are first needed: most tasks have an entry
 * in the primary keys and in one of the others.  Which of them a row belongs to
 * repeats the predicates of sql/queue/schema.sql.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "core/compat.h"
#include "core/heap.h"
#include "core/json.h"
#include "core/privilege.h"
#include "executor/tuptable.h"
#include "nodes/makefuncs.h"
#include "queue/event.h"
#include "queue/store_internal.h"
#include "queue/task.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static const char *const table_names[TASK_TABLES] = {"task_request", "task_live", "task_end"};

static const struct
{
	const char *name;
	TaskTable table;
} index_names[TASK_INDEXES] = {
	[REQUEST_PKEY] = {"task_request_pkey", TABLE_REQUEST},
	[REQUEST_IDEMPOTENCY_KEY] = {"task_request_idempotency_key", TABLE_REQUEST},
	[LIVE_PKEY] = {"task_live_pkey", TABLE_LIVE},
	[LIVE_BY_LANE] = {"task_live_lane", TABLE_LIVE},
	[LIVE_BY_DUE] = {"task_live_due", TABLE_LIVE},
	[LIVE_BY_WAITING] = {"task_live_waiting", TABLE_LIVE},
	[LIVE_BY_HELD] = {"task_live_held", TABLE_LIVE},
	[LIVE_BY_EXPIRING] = {"task_live_expiring", TABLE_LIVE},
	[LIVE_BY_UNIQUE_KEY] = {"task_live_unique_key", TABLE_LIVE},
	[END_PKEY] = {"task_end_pkey", TABLE_END},
	[END_BY_STATE] = {"task_end_state", TABLE_END},
};

/* the oids, found once and again when the extension was created anew */
static Oid known_installation = InvalidOid;
static Oid table_oids[TASK_TABLES];
static Oid index_oids[TASK_INDEXES];

static void
find_oids(void)
{
	Oid installation = eduai_core_installation();
	Oid schema;

	if (installation == known_installation)
		return;
	schema = eduai_core_schema();
	for (int i = 0; i < TASK_TABLES; i++)
		table_oids[i] = get_relname_relid(table_names[i], schema);
	for (int i = 0; i < TASK_INDEXES; i++)
		index_oids[i] = get_relname_relid(index_names[i].name, schema);
	for (int i = 0; i < TASK_INDEXES; i++)
		if (!OidIsValid(index_oids[i]) || !OidIsValid(table_oids[index_names[i].table]))
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
							errmsg("table \"eduai.%s\" or its index \"%s\" does not exist",
								   table_names[index_names[i].table], index_names[i].name)));
	known_installation = installation;
}

EduaiTasks *
eduai_queue_tasks_open(void)
{
	EduaiTasks *tasks;

	find_oids();
	tasks = palloc0(sizeof(EduaiTasks));
	tasks->context = CurrentMemoryContext;
	return tasks;
}

Relation
eduai_queue_tasks_table(EduaiTasks *tasks, TaskTable table)
{
	if (tasks->tables[table] == NULL)
		tasks->tables[table] = table_open(table_oids[table], RowExclusiveLock);
	return tasks->tables[table];
}

Relation
eduai_queue_tasks_index(EduaiTasks *tasks, TaskIndex which)
{
	Relation index = tasks->indexes[which];
	IndexInfo *info;
	MemoryContext old;

	if (index != NULL)
		return index;
	old = MemoryContextSwitchTo(tasks->context);
	index = index_open(index_oids[which], RowExclusiveLock);
	/* what an insertion looks at: BuildIndexInfo() would parse the predicate, too */
	info = makeNode(IndexInfo);
	info->ii_NumIndexAttrs = index->rd_index->indnatts;
	info->ii_NumIndexKeyAttrs = index->rd_index->indnkeyatts;
	for (int i = 0; i < info->ii_NumIndexAttrs; i++)
		info->ii_IndexAttrNumbers[i] = index->rd_index->indkey.values[i];
	info->ii_Unique = index->rd_index->indisunique;
	info->ii_ReadyForInserts = index->rd_index->indisready;
	tasks->indexes[which] = index;
	tasks->infos[which] = info;
	MemoryContextSwitchTo(old);
	return index;
}

void
eduai_queue_tasks_close(EduaiTasks *tasks)
{
	Assert(tasks->nends == 0);
	eduai_queue_event_flush(tasks);
	for (int i = 0; i < TASK_TABLES; i++)
		eduai_core_scan_close(&tasks->scans[i]);
	for (int i = 0; i < TASK_TABLES; i++)
		if (tasks->slots[i] != NULL)
			ExecDropSingleTupleTableSlot(tasks->slots[i]);
	for (int i = 0; tasks->ends != NULL && i < EDUAI_MOST_ENDS && tasks->ends[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(tasks->ends[i]);
	/* locks are kept to the end of the transaction, as a statement's would be */
	for (int i = 0; i < TASK_INDEXES; i++)
		if (tasks->indexes[i] != NULL)
			index_close(tasks->indexes[i], NoLock);
	for (int i = 0; i < TASK_TABLES; i++)
		if (tasks->tables[i] != NULL)
			table_close(tasks->tables[i], NoLock);
	pfree(tasks);
}

void
eduai_queue_tasks_enter(EduaiTasks *tasks, TaskIndex which, ItemPointer tid, const Datum *values,
						const bool *nulls, bool again)
{
	Relation index = eduai_queue_tasks_index(tasks, which);
	Relation rel = tasks->tables[index_names[which].table];

	if (again)
		eduai_core_index_reinsert(rel, index, tasks->infos[which], tid, values, nulls);
	else
		eduai_core_index_insert(rel, index, tasks->infos[which], tid, values, nulls);
}

/* The row of a table by its primary key, in the slot of its scan. */
TupleTableSlot *
eduai_queue_tasks_find(EduaiTasks *tasks, TaskTable table, TaskIndex pkey, const char *tenant,
					   int64 task_id)
{
	EduaiScan *scan = &tasks->scans[table];
	ScanKeyData keys[2];

	if (scan->rel == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(tasks->context);

		eduai_core_scan_begin(scan, eduai_queue_tasks_table(tasks, table),
							  eduai_queue_tasks_index(tasks, pkey), SnapshotSelf, lengthof(keys));
		MemoryContextSwitchTo(old);
	}
	eduai_core_key_text(&keys[0], 1, CStringGetTextDatum(tenant));
	eduai_core_key_int8(&keys[1], 2, BTEqualStrategyNumber, task_id);
	eduai_core_scan_seek(scan, keys);
	return eduai_core_scan_next(scan, ForwardScanDirection) ? scan->slot : NULL;
}

/* Does the table reach so far?  What it had once it keeps, but for a truncation by vacuum. */
static bool
has_block(EduaiTasks *tasks, TaskTable table, BlockNumber block)
{
	if (block >= tasks->blocks[table])
		tasks->blocks[table] = RelationGetNumberOfBlocks(tasks->tables[table]);
	return block < tasks->blocks[table];
}

static bool
is_row_of(const TupleTableSlot *slot, TaskTable table, const char *tenant, int64 task_id)
{
	/* the other two tables begin with tenant_id, task_id */
	int tenant_column = table == TABLE_LIVE ? LIVE_TENANT_ID : 0;
	int id_column = table == TABLE_LIVE ? LIVE_TASK_ID : 1;
	text *its;
	size_t length;

	if (DatumGetInt64(slot->tts_values[id_column]) != task_id)
		return false;
	if (tenant == NULL)
		return true;
	its = DatumGetTextPP(slot->tts_values[tenant_column]);
	length = strlen(tenant);
	return VARSIZE_ANY_EXHDR(its) == length && memcmp(VARDATA_ANY(its), tenant, length) == 0;
}

TupleTableSlot *
eduai_queue_tasks_at(EduaiTasks *tasks, TaskTable table, const ItemPointerData *place,
					 const char *tenant, int64 task_id)
{
	Relation rel = eduai_queue_tasks_table(tasks, table);
	TupleTableSlot *slot = tasks->slots[table];

	if (place == NULL || !ItemPointerIsValid(place) ||
		!has_block(tasks, table, ItemPointerGetBlockNumber(place)))
		return NULL;
	if (slot == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(tasks->context);

		slot = tasks->slots[table] = table_slot_create(rel, NULL);
		MemoryContextSwitchTo(old);
	}
	if (!table_tuple_fetch_row_version(rel, (ItemPointer) place, SnapshotSelf, slot))
		return NULL;
	slot_getallattrs(slot);
	return is_row_of(slot, table, tenant, task_id) ? slot : NULL;
}

/* ---- requests ---- */

enum
{
	REQUEST_TENANT_ID,
	REQUEST_TASK_ID,
	REQUEST_TASK_TYPE,
	REQUEST_PRIORITY,
	REQUEST_MAX_ATTEMPTS,
	REQUEST_TIMEOUT_MS,
	REQUEST_MODEL,
	REQUEST_USER_ID,
	REQUEST_OWNER,
	REQUEST_ON_RESULT,
	REQUEST_IDEMPOTENCY,
	REQUEST_UNIQUE_KEY,
	REQUEST_CONCURRENCY_KEY,
	REQUEST_DEPENDS_ON,
	REQUEST_ENQUEUED_AT,
	REQUEST_EXPIRES_AT,
	REQUEST_PAYLOAD,
	REQUEST_METADATA,
	REQUEST_COLUMNS
};

void
eduai_queue_request_insert(EduaiTasks *tasks, const TaskRequest *r, int64 task_id,
						   ItemPointer place)
{
	Relation rel = eduai_queue_tasks_table(tasks, TABLE_REQUEST);
	Datum values[REQUEST_COLUMNS];
	bool nulls[REQUEST_COLUMNS] = {0};
	bool depends = r->depends_on != NULL && ARR_NDIM(r->depends_on) > 0;
	HeapTuple tuple;

	values[REQUEST_TENANT_ID] = CStringGetTextDatum(r->tenant);
	values[REQUEST_TASK_ID] = Int64GetDatum(task_id);
	values[REQUEST_TASK_TYPE] = CStringGetTextDatum(r->type.name);
	values[REQUEST_PRIORITY] = Int16GetDatum((int16) r->priority);
	values[REQUEST_MAX_ATTEMPTS] = Int32GetDatum(r->max_attempts);
	values[REQUEST_TIMEOUT_MS] = Int64GetDatum(r->timeout_ms);
	eduai_queue_put_text(&values[REQUEST_MODEL], &nulls[REQUEST_MODEL], r->model);
	eduai_queue_put_text(&values[REQUEST_USER_ID], &nulls[REQUEST_USER_ID], r->user_id);
	values[REQUEST_OWNER] = CStringGetTextDatum(r->owner);
	eduai_queue_put_text(&values[REQUEST_ON_RESULT], &nulls[REQUEST_ON_RESULT], r->on_result);
	eduai_queue_put_text(&values[REQUEST_IDEMPOTENCY], &nulls[REQUEST_IDEMPOTENCY],
						 r->idempotency_key);
	eduai_queue_put_text(&values[REQUEST_UNIQUE_KEY], &nulls[REQUEST_UNIQUE_KEY], r->unique_key);
	eduai_queue_put_text(&values[REQUEST_CONCURRENCY_KEY], &nulls[REQUEST_CONCURRENCY_KEY],
						 r->concurrency_key);
	values[REQUEST_DEPENDS_ON] = PointerGetDatum(r->depends_on);
	nulls[REQUEST_DEPENDS_ON] = !depends;
	values[REQUEST_ENQUEUED_AT] = TimestampTzGetDatum(r->now);
	eduai_queue_put_time(&values[REQUEST_EXPIRES_AT], &nulls[REQUEST_EXPIRES_AT], r->expires_at);
	values[REQUEST_PAYLOAD] = JsonbPGetDatum(r->kept ? r->kept : r->payload);
	values[REQUEST_METADATA] = JsonbPGetDatum(r->metadata);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	heap_insert(rel, tuple, GetCurrentCommandId(true), 0, NULL);
	eduai_queue_tasks_enter(tasks, REQUEST_PKEY, &tuple->t_self, values, nulls, false);
	if (r->idempotency_key != NULL)
		eduai_queue_tasks_enter(tasks, REQUEST_IDEMPOTENCY_KEY, &tuple->t_self, values, nulls,
								false);
	*place = tuple->t_self;
	heap_freetuple(tuple);
	eduai_queue_event_enqueued(tasks, r, task_id);
}

static char *
text_of(const TupleTableSlot *slot, int column)
{
	return slot->tts_isnull[column] ? NULL : TextDatumGetCString(slot->tts_values[column]);
}

bool
eduai_queue_request_find(EduaiTasks *tasks, const char *tenant, int64 task_id,
						 const ItemPointerData *place, bool with_payload, AskedTask *asked)
{
	TupleTableSlot *slot = tasks->slots[TABLE_REQUEST];

	/* a claim of a fresh task has just read it */
	if (slot == NULL || TTS_EMPTY(slot) || place == NULL ||
		!ItemPointerEquals(&slot->tts_tid, (ItemPointer) place) ||
		!is_row_of(slot, TABLE_REQUEST, tenant, task_id))
		slot = eduai_queue_tasks_at(tasks, TABLE_REQUEST, place, tenant, task_id);
	if (slot == NULL)
		slot = eduai_queue_tasks_find(tasks, TABLE_REQUEST, REQUEST_PKEY, tenant, task_id);
	if (slot == NULL)
		return false;
	asked->max_attempts = DatumGetInt32(slot->tts_values[REQUEST_MAX_ATTEMPTS]);
	asked->timeout_ms = DatumGetInt64(slot->tts_values[REQUEST_TIMEOUT_MS]);
	asked->user_id = text_of(slot, REQUEST_USER_ID);
	asked->owner = text_of(slot, REQUEST_OWNER);
	asked->on_result = text_of(slot, REQUEST_ON_RESULT);
	asked->has_parents = !slot->tts_isnull[REQUEST_DEPENDS_ON];
	asked->payload = with_payload ? DatumGetJsonbPCopy(slot->tts_values[REQUEST_PAYLOAD]) : NULL;
	asked->metadata = DatumGetJsonbPCopy(slot->tts_values[REQUEST_METADATA]);
	return true;
}

bool
eduai_queue_requested(EduaiTasks *tasks, const char *tenant, int64 task_id, ItemPointer place)
{
	TupleTableSlot *slot =
		eduai_queue_tasks_find(tasks, TABLE_REQUEST, REQUEST_PKEY, tenant, task_id);

	if (slot == NULL)
		return false;
	*place = slot->tts_tid;
	return true;
}

void
eduai_queue_request_live_of(const TupleTableSlot *slot, LiveTask *task)
{
	memset(task, 0, sizeof(*task));
	task->tenant = text_of(slot, REQUEST_TENANT_ID);
	task->task_id = DatumGetInt64(slot->tts_values[REQUEST_TASK_ID]);
	task->task_type = text_of(slot, REQUEST_TASK_TYPE);
	task->priority = DatumGetInt16(slot->tts_values[REQUEST_PRIORITY]);
	task->model = text_of(slot, REQUEST_MODEL);
	task->state = "ready";
	task->run_at = DatumGetTimestampTz(slot->tts_values[REQUEST_ENQUEUED_AT]);
	/* a request that somebody has put there by hand may have any */
	task->unique_key = text_of(slot, REQUEST_UNIQUE_KEY);
	task->concurrency_key = text_of(slot, REQUEST_CONCURRENCY_KEY);
	if (!slot->tts_isnull[REQUEST_EXPIRES_AT])
		task->expires_at = DatumGetTimestampTz(slot->tts_values[REQUEST_EXPIRES_AT]);
	task->plain = slot->tts_isnull[REQUEST_USER_ID] && slot->tts_isnull[REQUEST_ON_RESULT];
	task->request = slot->tts_tid;
}

bool
eduai_queue_request_live(EduaiTasks *tasks, const ItemPointerData *place, int64 task_id,
						 LiveTask *task)
{
	TupleTableSlot *slot = eduai_queue_tasks_at(tasks, TABLE_REQUEST, place, NULL, task_id);

	if (slot == NULL)
		return false;
	eduai_queue_request_live_of(slot, task);
	return true;
}
