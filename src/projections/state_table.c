/*
 * state_table.c: the table of states.  See state_table.h.
 *
 * Who writes reads a row as it stands, whatever his snapshot shows: nobody else
 * can be changing it, as the key is his, and so the second in turn folds on
 * what the first committed.  Under REPEATABLE READ that is not enough: a
 * transaction whose snapshot shows an older version of a row would from then on
 * see that one beside its own.  It gets 40001, as from an UPDATE.
 * A row that its snapshot does not show at all does no such harm, so a key's
 * first events never fail.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/heap.h"
#include "core/plan.h"
#include "miscadmin.h"
#include "projections/catalog.h"
#include "projections/state_hint.h"
#include "projections/state_table.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

enum
{
	STATE_VERSION,
	STATE_LAST_AT,
	STATE_PROJECTION,
	STATE_GENERATION,
	STATE_PARKED,
	STATE_TENANT,
	STATE_KEY,
	STATE_STATE,
	STATE_COLUMNS,
};

static EduaiTable state_table = {"projection_state", "projection_state_pkey"};

struct EduaiStateTable
{
	EduaiScan scan;
	Relation rel;
	Relation index;
	IndexInfo *info; /* NULL until an index entry is made */
	bool writing;
	BlockNumber nblocks; /* it gets no shorter while it is open for writing; 0: not looked yet */
	Datum tenant;
	int projection;
	int generation;
	ScanKeyData keys[4];
};

bool
eduai_projections_gate(bool nowait)
{
	eduai_core_table_find(&state_table);
	if (nowait)
		return ConditionalLockRelationOid(state_table.relid, RowExclusiveLock);
	LockRelationOid(state_table.relid, RowExclusiveLock);
	return true;
}

bool
eduai_projections_gate_close(bool nowait)
{
	eduai_core_table_find(&state_table);
	if (nowait)
		return ConditionalLockRelationOid(state_table.relid, ShareLock);
	LockRelationOid(state_table.relid, ShareLock);
	return true;
}

void
eduai_projections_gate_tag(LOCKTAG *tag)
{
	eduai_core_table_find(&state_table);
	SET_LOCKTAG_RELATION(*tag, MyDatabaseId, state_table.relid);
}

VirtualTransactionId *
eduai_projections_gate_holders(int *n)
{
	LOCKTAG tag;

	eduai_projections_gate_tag(&tag);
	return GetLockConflicts(&tag, ShareLock, n);
}

bool
eduai_projections_gate_held_by(const VirtualTransactionId *holders, int n)
{
	int nnow;
	VirtualTransactionId *now = eduai_projections_gate_holders(&nnow);
	bool held = false;

	for (int i = 0; i < n && !held; i++)
		for (int j = 0; j < nnow && !held; j++)
			held = VirtualTransactionIdEquals(holders[i], now[j]);
	pfree(now);
	return held;
}

static EduaiStateTable *
open_table(const char *tenant, int projection, int generation, Snapshot snapshot, LOCKMODE mode)
{
	EduaiStateTable *table = palloc0(sizeof(EduaiStateTable));

	eduai_core_table_find(&state_table);
	table->rel = table_open(state_table.relid, mode);
	table->index = index_open(state_table.index, mode);
	table->tenant = CStringGetTextDatum(tenant);
	table->projection = projection;
	table->generation = generation;
	eduai_core_scan_begin(&table->scan, table->rel, table->index, snapshot, lengthof(table->keys));
	eduai_core_key_text(&table->keys[0], 1, table->tenant);
	ScanKeyInit(&table->keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(projection));
	ScanKeyInit(&table->keys[2], 3, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(generation));
	return table;
}

EduaiStateTable *
eduai_projections_states_open(const char *tenant, int projection, int generation)
{
	EduaiStateTable *table =
		open_table(tenant, projection, generation, SnapshotSelf, RowExclusiveLock);

	table->writing = true;
	return table;
}

EduaiStateTable *
eduai_projections_states_view(const char *tenant, int projection, int generation, Snapshot snapshot)
{
	return open_table(tenant, projection, generation, snapshot, AccessShareLock);
}

/* The row in the slot; what it points to is copied. */
static void
take(const TupleTableSlot *slot, EduaiStateRow *row)
{
	const Datum *values = slot->tts_values;

	row->found = true;
	row->tid = slot->tts_tid;
	row->version = DatumGetInt64(values[STATE_VERSION]);
	row->last_at = DatumGetTimestampTz(values[STATE_LAST_AT]);
	row->parked = DatumGetBool(values[STATE_PARKED]);
	row->state = DatumGetJsonbPCopy(values[STATE_STATE]);
}

/* Finds the row in the scan's snapshot. */
static void
find(EduaiScan *scan, ScanKey keys, EduaiStateRow *row)
{
	*row = (EduaiStateRow){.last_at = DT_NOBEGIN};
	eduai_core_scan_seek(scan, keys);
	if (eduai_core_scan_next(scan, ForwardScanDirection))
		take(scan->slot, row);
}

static bool
same_text(Datum a, Datum b)
{
	return DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, a, b));
}

/* Whether the slot has the key's row: another may stand where it was. */
static bool
is_wanted(const EduaiStateTable *table, const TupleTableSlot *slot, Datum key)
{
	const Datum *values = slot->tts_values;

	return DatumGetInt32(values[STATE_PROJECTION]) == table->projection &&
		   DatumGetInt32(values[STATE_GENERATION]) == table->generation &&
		   same_text(values[STATE_KEY], key) && same_text(values[STATE_TENANT], table->tenant);
}

/* For writing: looks where this process last saw the row; false when it is not there any more. */
static bool
find_by_hint(EduaiStateTable *table, uint64 hint, Datum key, EduaiStateRow *row)
{
	TupleTableSlot *slot = table->scan.slot;
	ItemPointerData tid;
	bool found;

	if (!eduai_projections_hint_get(hint, &tid))
		return false;
	if (table->nblocks == 0)
		table->nblocks = RelationGetNumberOfBlocks(table->rel);
	if (ItemPointerGetBlockNumber(&tid) >= table->nblocks ||
		!table_tuple_fetch_row_version(table->rel, &tid, SnapshotSelf, slot))
		return false;
	slot_getallattrs(slot);
	found = is_wanted(table, slot, key);
	*row = (EduaiStateRow){.last_at = DT_NOBEGIN};
	if (found)
		take(slot, row);
	ExecClearTuple(slot);
	return found;
}

static uint64
hint_of(const EduaiStateTable *table, const char *key)
{
	return eduai_projections_hint_key(VARDATA_ANY(DatumGetPointer(table->tenant)),
									  VARSIZE_ANY_EXHDR(DatumGetPointer(table->tenant)),
									  table->projection, table->generation, key);
}

/* Raises 40001 when the transaction's snapshot shows another version of the row. */
static void
check_snapshot(EduaiStateTable *table, const char *key, const EduaiStateRow *row)
{
	EduaiScan scan;
	EduaiStateRow seen;
	const EduaiProjection *projection;

	eduai_core_table_open(&scan, &state_table, GetTransactionSnapshot(), lengthof(table->keys));
	find(&scan, table->keys, &seen);
	eduai_core_scan_close(&scan);
	if (!seen.found || (row->found && ItemPointerEquals(&seen.tid, (ItemPointer) &row->tid)))
		return;
	projection = eduai_projections_by_id(table->projection);
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access to key \"%s\" of projection \"%s\"", key,
						   projection ? projection->name : ""),
					errdetail("It changed after this transaction's snapshot was taken."),
					errhint("The transaction might succeed if retried.")));
}

void
eduai_projections_states_read(EduaiStateTable *table, const char *key, EduaiStateRow *row)
{
	Datum value = CStringGetTextDatum(key);

	eduai_core_key_text(&table->keys[3], 4, value);
	if (!table->writing || !find_by_hint(table, hint_of(table, key), value, row))
		find(&table->scan, table->keys, row);
	if (table->writing && IsolationUsesXactSnapshot())
		check_snapshot(table, key, row);
	pfree(DatumGetPointer(value));
}

void
eduai_projections_states_write(EduaiStateTable *table, const char *key, const EduaiStateRow *row)
{
	bool nulls[STATE_COLUMNS] = {false};
	Datum values[STATE_COLUMNS] = {
		[STATE_VERSION] = Int64GetDatum(row->version),
		[STATE_LAST_AT] = TimestampTzGetDatum(row->last_at),
		[STATE_PROJECTION] = Int32GetDatum(table->projection),
		[STATE_GENERATION] = Int32GetDatum(table->generation),
		[STATE_PARKED] = BoolGetDatum(row->parked),
		[STATE_TENANT] = table->tenant,
		[STATE_KEY] = CStringGetTextDatum(key),
		[STATE_STATE] = JsonbPGetDatum(row->state),
	};
	HeapTuple tuple = heap_form_tuple(RelationGetDescr(table->rel), values, nulls);
	ItemPointerData tid = row->tid;
	bool entry = true;

	if (row->found)
		entry = eduai_simple_heap_update(table->rel, &tid, tuple);
	else
		heap_insert(table->rel, tuple, GetCurrentCommandId(true), 0, NULL);
	if (entry)
	{
		if (table->info == NULL)
			table->info = BuildIndexInfo(table->index);
		(row->found ? eduai_core_index_reinsert : eduai_core_index_insert)(
			table->rel, table->index, table->info, &tuple->t_self, values, nulls);
	}
	eduai_projections_hint_put(hint_of(table, key), &tuple->t_self);
	heap_freetuple(tuple);
	pfree(DatumGetPointer(values[STATE_KEY]));
}

void
eduai_projections_states_close(EduaiStateTable *table)
{
	LOCKMODE release = table->writing ? NoLock : AccessShareLock;

	eduai_core_scan_close(&table->scan);
	index_close(table->index, release);
	table_close(table->rel, release);
	if (table->writing)
		CommandCounterIncrement();
	pfree(DatumGetPointer(table->tenant));
	pfree(table);
}

int64
eduai_projections_states_clear(int projection, int generation, int64 limit)
{
	static EduaiPlan clear = {
		"DELETE FROM eduai.projection_state WHERE ctid = ANY (ARRAY(SELECT ctid"
		" FROM eduai.projection_state WHERE projection = $1 AND generation = $2 LIMIT $3))",
		3,
		{INT4OID, INT4OID, INT8OID}};
	Datum args[3] = {Int32GetDatum(projection), Int32GetDatum(generation), Int64GetDatum(limit)};

	return (int64) eduai_core_run_latest(&clear, args, NULL);
}
