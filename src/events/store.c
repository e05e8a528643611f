/*
 * store.c: writing to the hot table.  See store.h; reading is in hot.c.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "core/heap.h"
#include "events/block.h"
#include "events/columns.h"
#include "events/event_id.h"
#include "events/heads.h"
#include "events/order.h"
#include "events/partition.h"
#include "events/store.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Rows handed to the heap at a time: a few pages' worth. */
#define CHUNK 256

/* Probes the index for those versions that are still 0. */
static void
probe_versions(const char *tenant, char *const *streams, int n, int64 *versions)
{
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	EduaiHotReader *reader = eduai_events_hot_open(latest);

	for (int i = 0; i < n; i++)
	{
		if (versions[i] == 0)
			versions[i] = eduai_events_hot_version(reader, tenant, streams[i]);
		if (versions[i] == 0)
			versions[i] = eduai_events_block_version(tenant, streams[i], latest);
	}
	eduai_events_hot_close(reader);
	UnregisterSnapshot(latest);
}

void
eduai_events_last_versions(const char *tenant, char *const *streams, int n, int64 *versions)
{
	/* what this transaction appended itself is only in the table */
	bool ask = !eduai_events_order_noted();
	bool probe = false;

	for (int i = 0; i < n; i++)
	{
		versions[i] = 0;
		if (!ask || !eduai_events_head_get(tenant, streams[i], &versions[i]))
			probe = true;
	}
	if (probe)
		probe_versions(tenant, streams, n, versions);
}

static Datum
optional_text(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

static void
form_values(const EduaiEvent *event, Datum tenant, Datum *values, bool *nulls)
{
	memset(nulls, false, sizeof(bool) * EDUAI_EVENT_COLUMNS);
	values[EDUAI_EVENT_VERSION] = Int64GetDatum(event->version);
	values[EDUAI_EVENT_RECORDED_AT] = TimestampTzGetDatum(event->recorded_at);
	values[EDUAI_EVENT_OCCURRED_AT] = TimestampTzGetDatum(event->occurred_at);
	values[EDUAI_EVENT_ID] = UUIDPGetDatum(&event->event_id);
	values[EDUAI_EVENT_SCHEMA_VERSION] = Int32GetDatum(event->schema_version);
	values[EDUAI_EVENT_ID_GIVEN] = BoolGetDatum(!event->own_id);
	values[EDUAI_EVENT_TENANT] = tenant;
	values[EDUAI_EVENT_STREAM] = CStringGetTextDatum(event->stream);
	values[EDUAI_EVENT_TYPE] = CStringGetTextDatum(event->event_type);
	values[EDUAI_EVENT_USER] = optional_text(event->user_id, &nulls[EDUAI_EVENT_USER]);
	values[EDUAI_EVENT_SESSION] = optional_text(event->session_id, &nulls[EDUAI_EVENT_SESSION]);
	values[EDUAI_EVENT_DATA] = JsonbPGetDatum(event->data);
	values[EDUAI_EVENT_METADATA] = JsonbPGetDatum(event->metadata);
}

typedef struct Target
{
	Relation rel;
	Relation indexes[2];
	IndexInfo *infos[2];
	Datum tenant;
} Target;

static Target
open_target(const EduaiPartition *part, const char *tenant)
{
	Target target;

	target.rel = table_open(part->relid, RowExclusiveLock);
	target.indexes[0] = index_open(part->key_index, RowExclusiveLock);
	target.indexes[1] = index_open(part->id_index, RowExclusiveLock);
	target.infos[0] = part->key_info;
	target.infos[1] = part->id_info;
	target.tenant = CStringGetTextDatum(tenant);
	return target;
}

static void
close_target(Target *target)
{
	index_close(target->indexes[0], NoLock);
	index_close(target->indexes[1], NoLock);
	table_close(target->rel, NoLock);
}

static void
insert_one(Target *target, const EduaiEvent *event)
{
	Datum values[EDUAI_EVENT_COLUMNS];
	bool nulls[EDUAI_EVENT_COLUMNS];
	HeapTuple tuple;

	form_values(event, target->tenant, values, nulls);
	tuple = heap_form_tuple(RelationGetDescr(target->rel), values, nulls);
	eduai_core_heap_insert(target->rel, tuple, target->indexes, target->infos, 2, values, nulls);
}

/* Many rows: the heap takes them by the page, with one WAL record each. */
static void
insert_chunk(Target *target, EduaiEvent **events, int n, TupleTableSlot **slots,
			 BulkInsertState bulk)
{
	Datum(*values)[EDUAI_EVENT_COLUMNS] = palloc(sizeof(*values) * n);
	bool(*nulls)[EDUAI_EVENT_COLUMNS] = palloc(sizeof(*nulls) * n);
	TupleDesc desc = RelationGetDescr(target->rel);

	for (int i = 0; i < n; i++)
	{
		form_values(events[i], target->tenant, values[i], nulls[i]);
		ExecStoreHeapTuple(heap_form_tuple(desc, values[i], nulls[i]), slots[i], false);
		slots[i]->tts_tableOid = RelationGetRelid(target->rel);
	}
	heap_multi_insert(target->rel, slots, n, GetCurrentCommandId(true), 0, bulk);
	for (int index = 0; index < 2; index++)
		for (int i = 0; i < n; i++)
			eduai_core_index_insert(target->rel, target->indexes[index], target->infos[index],
									&slots[i]->tts_tid, values[i], nulls[i]);
}

static void
insert_many(Target *target, EduaiEvent **order, int n)
{
	TupleTableSlot *slots[CHUNK];
	int nslots = Min(n, CHUNK);
	BulkInsertState bulk = GetBulkInsertState();
	MemoryContext chunk =
		AllocSetContextCreate(CurrentMemoryContext, "eduai append", ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < nslots; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(target->rel), &TTSOpsHeapTuple);
	for (int done = 0; done < n; done += CHUNK)
	{
		MemoryContext old = MemoryContextSwitchTo(chunk);

		insert_chunk(target, order + done, Min(n - done, CHUNK), slots, bulk);
		for (int i = 0; i < nslots; i++)
			ExecClearTuple(slots[i]);
		MemoryContextSwitchTo(old);
		MemoryContextReset(chunk);
	}
	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	FreeBulkInsertState(bulk);
	MemoryContextDelete(chunk);
}

static void
set_times_and_ids(EduaiAppendBatch *batch, TimestampTz recorded_at)
{
	for (int i = 0; i < batch->nevents; i++)
	{
		EduaiEvent *event = &batch->events[i];

		event->recorded_at = recorded_at;
		if (event->own_id)
			eduai_events_derive_id(batch->tenant, event->stream, strlen(event->stream),
								   event->version, recorded_at, &event->event_id);
	}
}

void
eduai_events_insert(EduaiAppendBatch *batch, EduaiEvent **order)
{
	TimestampTz recorded_at = batch->events[0].recorded_at;
	EduaiPartition part = eduai_events_partition_for(&recorded_at);
	Target target = open_target(&part, batch->tenant);

	set_times_and_ids(batch, recorded_at);
	if (batch->nevents == 1)
		insert_one(&target, order[0]);
	else
		insert_many(&target, order, batch->nevents);
	close_target(&target);
	CommandCounterIncrement();
}

void
eduai_events_hot_delete(const EduaiHotPlace *places, int n)
{
	Relation rel = NULL;

	for (int i = 0; i < n; i++)
	{
		ItemPointerData tid = places[i].tid;

		if (rel == NULL || RelationGetRelid(rel) != places[i].partition)
		{
			if (rel)
				table_close(rel, NoLock);
			rel = table_open(places[i].partition, RowExclusiveLock);
		}
		simple_heap_delete(rel, &tid);
	}
	if (rel)
		table_close(rel, NoLock);
}
