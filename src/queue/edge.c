/*
 * edge.c: the rows of task_dependency.  See edge.h.
 *
 * A child of a thousand parents is asked a thousand times whether an edge is
 * left.  Deleted edges stay in the index until vacuum may remove them, so a
 * process remembers the parent at which it found the last one alive: those
 * before it were gone then, and if none is left from it on, it looks at all.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "core/heap.h"
#include "core/privilege.h"
#include "nodes/makefuncs.h"
#include "queue/edge.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define HINTS 1024

enum
{
	EDGE_TENANT_ID,
	EDGE_PARENT_ID,
	EDGE_TASK_ID,
	EDGE_COLUMNS
};

struct EduaiEdges
{
	Relation rel;
	Relation by_parent; /* the primary key */
	Relation by_child;
	EduaiScan to;   /* by_parent, of one parent */
	EduaiScan of;   /* by_child, of one child */
	EduaiScan from; /* by_child, from one parent on */
};

static Oid known_installation = InvalidOid;
static Oid table_oid;
static Oid parent_index_oid;
static Oid child_index_oid;

/* by child: the parent whose edge was the first one alive */
static struct
{
	int64 task_id;
	int64 parent_id;
} hints[HINTS];

EduaiEdges *
eduai_queue_edges_open(void)
{
	EduaiEdges *edges = palloc0(sizeof(EduaiEdges));
	Oid installation = eduai_core_installation();

	if (installation != known_installation)
	{
		Oid schema = eduai_core_schema();

		table_oid = get_relname_relid("task_dependency", schema);
		parent_index_oid = get_relname_relid("task_dependency_pkey", schema);
		child_index_oid = get_relname_relid("task_dependency_child", schema);
		if (!OidIsValid(table_oid) || !OidIsValid(parent_index_oid) || !OidIsValid(child_index_oid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("table \"eduai.task_dependency\" or an index of it does not exist")));
		memset(hints, 0, sizeof(hints));
		known_installation = installation;
	}
	edges->rel = table_open(table_oid, RowExclusiveLock);
	edges->by_parent = index_open(parent_index_oid, RowExclusiveLock);
	edges->by_child = index_open(child_index_oid, RowExclusiveLock);
	return edges;
}

void
eduai_queue_edges_close(EduaiEdges *edges)
{
	eduai_core_scan_close(&edges->to);
	eduai_core_scan_close(&edges->of);
	eduai_core_scan_close(&edges->from);
	/* locks are kept to the end of the transaction, as a statement's would be */
	index_close(edges->by_child, NoLock);
	index_close(edges->by_parent, NoLock);
	table_close(edges->rel, NoLock);
	pfree(edges);
}

static void
enter(Relation rel, Relation index, ItemPointer tid, const Datum *values, const bool *nulls)
{
	IndexInfo *info = makeNode(IndexInfo);

	info->ii_NumIndexAttrs = index->rd_index->indnatts;
	info->ii_NumIndexKeyAttrs = index->rd_index->indnkeyatts;
	for (int i = 0; i < info->ii_NumIndexAttrs; i++)
		info->ii_IndexAttrNumbers[i] = index->rd_index->indkey.values[i];
	info->ii_Unique = index->rd_index->indisunique;
	info->ii_ReadyForInserts = index->rd_index->indisready;
	eduai_core_index_insert(rel, index, info, tid, values, nulls);
}

void
eduai_queue_edge_insert(EduaiEdges *edges, const char *tenant, int64 parent_id, int64 task_id)
{
	Datum values[EDGE_COLUMNS] = {CStringGetTextDatum(tenant), Int64GetDatum(parent_id),
								  Int64GetDatum(task_id)};
	bool nulls[EDGE_COLUMNS] = {false};
	HeapTuple tuple = heap_form_tuple(RelationGetDescr(edges->rel), values, nulls);

	heap_insert(edges->rel, tuple, GetCurrentCommandId(true), 0, NULL);
	enter(edges->rel, edges->by_parent, &tuple->t_self, values, nulls);
	enter(edges->rel, edges->by_child, &tuple->t_self, values, nulls);
	heap_freetuple(tuple);
}

/* ---- reading ---- */

static void
seek(EduaiEdges *edges, EduaiScan *scan, Relation index, const char *tenant, int64 id,
	 const int64 *from)
{
	ScanKeyData keys[3];
	int nkeys = from ? 3 : 2;

	if (scan->rel == NULL)
		eduai_core_scan_begin(scan, edges->rel, index, SnapshotSelf, nkeys);
	eduai_core_key_text(&keys[0], 1, CStringGetTextDatum(tenant));
	eduai_core_key_int8(&keys[1], 2, BTEqualStrategyNumber, id);
	if (from)
		eduai_core_key_int8(&keys[2], 3, BTGreaterEqualStrategyNumber, *from);
	eduai_core_scan_seek(scan, keys);
}

static int
collect(EduaiScan *scan, Edge **list)
{
	int room = 16;
	int n = 0;

	*list = palloc(sizeof(Edge) * room);
	while (eduai_core_scan_next(scan, ForwardScanDirection))
	{
		Edge *e;

		if (n == room)
			*list = repalloc_huge(*list, sizeof(Edge) * (room *= 2));
		e = &(*list)[n++];
		e->parent_id = DatumGetInt64(scan->slot->tts_values[EDGE_PARENT_ID]);
		e->task_id = DatumGetInt64(scan->slot->tts_values[EDGE_TASK_ID]);
		e->tid = scan->slot->tts_tid;
	}
	return n;
}

int
eduai_queue_edges_to(EduaiEdges *edges, const char *tenant, int64 parent_id, Edge **list)
{
	seek(edges, &edges->to, edges->by_parent, tenant, parent_id, NULL);
	return collect(&edges->to, list);
}

int
eduai_queue_edges_of(EduaiEdges *edges, const char *tenant, int64 task_id, Edge **list)
{
	seek(edges, &edges->of, edges->by_child, tenant, task_id, NULL);
	return collect(&edges->of, list);
}

bool
eduai_queue_edge_left(EduaiEdges *edges, const char *tenant, int64 task_id)
{
	int slot = (int) ((uint64) task_id % HINTS);
	int64 from = hints[slot].task_id == task_id ? hints[slot].parent_id : PG_INT64_MIN;

	for (;;)
	{
		seek(edges, &edges->from, edges->by_child, tenant, task_id, &from);
		if (eduai_core_scan_next(&edges->from, ForwardScanDirection))
		{
			hints[slot].task_id = task_id;
			hints[slot].parent_id = DatumGetInt64(edges->from.slot->tts_values[EDGE_PARENT_ID]);
			return true;
		}
		hints[slot].task_id = 0;
		if (from == PG_INT64_MIN)
			return false;
		/* add_dependency() may have added one before */
		from = PG_INT64_MIN;
	}
}

void
eduai_queue_edge_delete(EduaiEdges *edges, const Edge *edge)
{
	TM_FailureData failure;
	ItemPointerData tid = edge->tid;

	(void) heap_delete(edges->rel, &tid, GetCurrentCommandId(true), InvalidSnapshot, false,
					   &failure, false);
}
