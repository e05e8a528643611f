/*
 * heap.h: reading and writing eduai's own tables without SQL, for the paths
 * where a statement would cost more than the work.
 *
 * The tables have plain columns and plain b-tree indexes: no triggers, no
 * expressions, no generated columns; check constraints are the caller's.
 */
#ifndef EDUAI_CORE_HEAP_H
#define EDUAI_CORE_HEAP_H

#include "postgres.h"
#include "access/genam.h"
#include "access/htup.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/sdir.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

/*
 * A table of the schema eduai with one unique index: static, found by name
 * once, and again when the extension was created anew.
 */
typedef struct EduaiTable
{
	const char *name;
	const char *index_name;
	Oid installation; /* when the oids were found */
	Oid relid;
	Oid index;
} EduaiTable;

/* The table's and the index's oids; raises 42P01 when they are not there. */
extern void eduai_core_table_find(EduaiTable *table);

/*
 * Inserts a tuple and its entries in the indexes, which are open, as are
 * their IndexInfos; values and nulls are the tuple's, by attribute.  Raises
 * 23505.  The caller counts commands: CommandCounterIncrement() after the
 * last insert of a call.
 */
extern void
eduai_core_heap_insert(Relation rel, HeapTuple tuple, Relation *indexes, IndexInfo **infos,
					   int nindexes, const Datum *values, const bool *nulls);

/*
 * Replaces the row at tid, which nobody else changes meanwhile and which this
 * command has not written, by one with the same unique keys; index entries are
 * made unless the update is heap-only.  Uniqueness is not checked: that would
 * look at every version of the row that a snapshot somewhere still keeps.  The
 * caller counts commands.
 */
extern void
eduai_core_heap_update(Relation rel, ItemPointer tid, HeapTuple tuple, Relation *indexes,
					   IndexInfo **infos, int nindexes, const Datum *values, const bool *nulls);

/* The entry of one tuple that is in the heap already. */
extern void eduai_core_index_insert(Relation rel, Relation index, IndexInfo *info, ItemPointer tid,
									const Datum *values, const bool *nulls);

/* The same for a new version of a row, whose unique keys stay: not checked. */
extern void eduai_core_index_reinsert(Relation rel, Relation index, IndexInfo *info,
									  ItemPointer tid, const Datum *values, const bool *nulls);

/*
 * A scan of one index of a table that is kept open and started again and
 * again.  All it holds lives in the memory context that was current when it
 * was opened, whatever is current later: b-tree scans allocate between rows,
 * too.  The rows are in slot, deformed.
 */
typedef struct EduaiScan
{
	Relation rel; /* NULL: not open */
	Relation index;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	MemoryContext context;
	int nkeys;
	bool borrowed; /* rel and index are the caller's */
} EduaiScan;

/* Opens it, for keys of nkeys columns; false when the table is gone.  The snapshot stays registered. */
extern bool
eduai_core_scan_open(EduaiScan *scan, Oid relid, Oid index, Snapshot snapshot, int nkeys);

/* The same for a table known by name, which is there. */
extern void eduai_core_table_open(EduaiScan *scan, EduaiTable *table, Snapshot snapshot, int nkeys);

/* The same over relations that the caller has opened and closes after the scan. */
extern void
eduai_core_scan_begin(EduaiScan *scan, Relation rel, Relation index, Snapshot snapshot, int nkeys);

/* Goes to before the first row, in either direction, that has the keys. */
extern void eduai_core_scan_seek(EduaiScan *scan, ScanKey keys);

/* The next row; false when there is none.  Interruptible. */
extern bool eduai_core_scan_next(EduaiScan *scan, ScanDirection direction);

/* Does nothing when it is not open. */
extern void eduai_core_scan_close(EduaiScan *scan);

/* An equality or range key of an index column. */
extern void eduai_core_key_text(ScanKey key, AttrNumber column, Datum value);
extern void
eduai_core_key_int8(ScanKey key, AttrNumber column, StrategyNumber strategy, int64 value);
extern void eduai_core_key_uuid(ScanKey key, AttrNumber column, Datum value);

#endif
