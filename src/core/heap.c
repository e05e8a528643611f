/*
 * heap.c: eduai's own tables without SQL.  See heap.h.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "core/compat.h"
#include "core/heap.h"
#include "core/privilege.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

void
eduai_core_table_find(EduaiTable *table)
{
	Oid installation = eduai_core_installation();
	Oid schema;

	if (installation == table->installation)
		return;
	schema = eduai_core_schema();
	table->relid = get_relname_relid(table->name, schema);
	table->index = get_relname_relid(table->index_name, schema);
	if (!OidIsValid(table->relid) || !OidIsValid(table->index))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"eduai.%s\" or its index \"%s\" does not exist", table->name,
							   table->index_name)));
	table->installation = installation;
}

static void
insert_entry(Relation rel, Relation index, IndexInfo *info, ItemPointer tid, const Datum *values,
			 const bool *nulls, IndexUniqueCheck check)
{
	Datum keys[INDEX_MAX_KEYS];
	bool key_nulls[INDEX_MAX_KEYS];

	for (int i = 0; i < info->ii_NumIndexAttrs; i++)
	{
		int column = info->ii_IndexAttrNumbers[i] - 1;

		keys[i] = values[column];
		key_nulls[i] = nulls[column];
	}
	index_insert(index, keys, key_nulls, tid, rel, check, false, info);
}

void
eduai_core_index_insert(Relation rel, Relation index, IndexInfo *info, ItemPointer tid,
						const Datum *values, const bool *nulls)
{
	insert_entry(rel, index, info, tid, values, nulls,
				 index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO);
}

void
eduai_core_index_reinsert(Relation rel, Relation index, IndexInfo *info, ItemPointer tid,
						  const Datum *values, const bool *nulls)
{
	insert_entry(rel, index, info, tid, values, nulls, UNIQUE_CHECK_NO);
}

void
eduai_core_heap_insert(Relation rel, HeapTuple tuple, Relation *indexes, IndexInfo **infos,
					   int nindexes, const Datum *values, const bool *nulls)
{
	heap_insert(rel, tuple, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < nindexes; i++)
		eduai_core_index_insert(rel, indexes[i], infos[i], &tuple->t_self, values, nulls);
}

void
eduai_core_heap_update(Relation rel, ItemPointer tid, HeapTuple tuple, Relation *indexes,
					   IndexInfo **infos, int nindexes, const Datum *values, const bool *nulls)
{
	if (!eduai_simple_heap_update(rel, tid, tuple))
		return;
	for (int i = 0; i < nindexes; i++)
		eduai_core_index_reinsert(rel, indexes[i], infos[i], &tuple->t_self, values, nulls);
}

static void
begin_scan(EduaiScan *s, Snapshot snapshot, int nkeys)
{
	s->slot = table_slot_create(s->rel, NULL);
	s->scan = eduai_index_beginscan(s->rel, s->index, snapshot, nkeys);
	s->context = CurrentMemoryContext;
	s->nkeys = nkeys;
}

bool
eduai_core_scan_open(EduaiScan *s, Oid relid, Oid index, Snapshot snapshot, int nkeys)
{
	s->rel = try_table_open(relid, AccessShareLock);
	if (s->rel == NULL)
		return false;
	s->index = index_open(index, AccessShareLock);
	s->borrowed = false;
	begin_scan(s, snapshot, nkeys);
	return true;
}

void
eduai_core_scan_begin(EduaiScan *s, Relation rel, Relation index, Snapshot snapshot, int nkeys)
{
	s->rel = rel;
	s->index = index;
	s->borrowed = true;
	begin_scan(s, snapshot, nkeys);
}

void
eduai_core_table_open(EduaiScan *s, EduaiTable *table, Snapshot snapshot, int nkeys)
{
	eduai_core_table_find(table);
	if (!eduai_core_scan_open(s, table->relid, table->index, snapshot, nkeys))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"eduai.%s\" does not exist", table->name)));
}

void
eduai_core_scan_seek(EduaiScan *s, ScanKey keys)
{
	MemoryContext old = MemoryContextSwitchTo(s->context);

	index_rescan(s->scan, keys, s->nkeys, NULL, 0);
	MemoryContextSwitchTo(old);
}

bool
eduai_core_scan_next(EduaiScan *s, ScanDirection direction)
{
	MemoryContext old = MemoryContextSwitchTo(s->context);
	bool found;

	CHECK_FOR_INTERRUPTS();
	found = index_getnext_slot(s->scan, direction, s->slot);
	if (found)
		slot_getallattrs(s->slot);
	MemoryContextSwitchTo(old);
	return found;
}

void
eduai_core_scan_close(EduaiScan *s)
{
	if (s->rel == NULL)
		return;
	index_endscan(s->scan);
	ExecDropSingleTupleTableSlot(s->slot);
	if (!s->borrowed)
	{
		index_close(s->index, AccessShareLock);
		table_close(s->rel, AccessShareLock);
	}
	s->rel = NULL;
}

void
eduai_core_key_text(ScanKey key, AttrNumber column, Datum value)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_TEXTEQ, value);
}

void
eduai_core_key_int8(ScanKey key, AttrNumber column, StrategyNumber strategy, int64 value)
{
	static const RegProcedure procedures[] = {
		[BTLessStrategyNumber] = F_INT8LT,    [BTLessEqualStrategyNumber] = F_INT8LE,
		[BTEqualStrategyNumber] = F_INT8EQ,   [BTGreaterEqualStrategyNumber] = F_INT8GE,
		[BTGreaterStrategyNumber] = F_INT8GT,
	};

	ScanKeyInit(key, column, strategy, procedures[strategy], Int64GetDatum(value));
}

void
eduai_core_key_uuid(ScanKey key, AttrNumber column, Datum value)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_UUID_EQ, value);
}
