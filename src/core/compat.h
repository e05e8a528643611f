/*
 * compat.h: the only place that tests PG_VERSION_NUM.
 *
 * Static inline functions, named after what changed upstream.
 */
#ifndef EDUAI_CORE_COMPAT_H
#define EDUAI_CORE_COMPAT_H

#include "postgres.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "utils/acl.h"
#include "utils/regproc.h"
#include "utils/memutils.h"

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/* PG17 renamed PGPROC numbers and took the field out of PGPROC. */
static inline int
eduai_my_proc_number(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

/* PG17 renamed it: the search path is looked at with what else names depend on. */
#if PG_VERSION_NUM >= 170000
static inline bool
eduai_search_path_matches(SearchPathMatcher *path)
{
	return path != NULL && SearchPathMatchesCurrentEnvironment(path);
}
#else
static inline bool
eduai_search_path_matches(OverrideSearchPath *path)
{
	return path != NULL && OverrideSearchPathMatchesCurrent(path);
}
#endif

/* PG17 put the virtual transaction id together. */
static inline LocalTransactionId
eduai_my_lxid(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* PG16: the fields of table statistics lost their prefix. */
static inline Oid
eduai_table_stats_relid(const PgStat_TableStatus *stats)
{
#if PG_VERSION_NUM >= 160000
	return stats->id;
#else
	return stats->t_id;
#endif
}

static inline bool
eduai_table_stats_shared(const PgStat_TableStatus *stats)
{
#if PG_VERSION_NUM >= 160000
	return stats->shared;
#else
	return stats->t_shared;
#endif
}

/* PG17: a wait event set belongs to a resource owner, not a memory context. */
static inline WaitEventSet *
eduai_create_wait_event_set(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

/* PG16: one object_aclcheck() for all kinds of objects. */
static inline AclResult
eduai_proc_aclcheck(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE);
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE);
#endif
}

static inline bool
eduai_owns_table(Oid relid, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, role);
#else
	return pg_class_ownercheck(relid, role);
#endif
}

/* PG16: takes a soft error context. */
static inline List *
eduai_string_to_qualified_name_list(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return stringToQualifiedNameList(name, NULL);
#else
	return stringToQualifiedNameList(name);
#endif
}

/* PG16: simple_heap_update() says which indexes need an entry: of b-trees all or none. */
static inline bool
eduai_simple_heap_update(Relation rel, ItemPointer tid, HeapTuple tuple)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes update;

	simple_heap_update(rel, tid, tuple, &update);
	return update == TU_All;
#else
	simple_heap_update(rel, tid, tuple);
	return !HeapTupleIsHeapOnly(tuple);
#endif
}

/* PG16: heap_update() says which indexes need an entry: of b-trees all or none. */
static inline TM_Result
eduai_heap_update(Relation rel, ItemPointer tid, HeapTuple tuple, bool wait, bool *entries)
{
	TM_FailureData failure;
	LockTupleMode mode;
	TM_Result result;
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes update;

	result = heap_update(rel, tid, tuple, GetCurrentCommandId(true), InvalidSnapshot, wait,
						 &failure, &mode, &update);
	*entries = update == TU_All;
#else
	result = heap_update(rel, tid, tuple, GetCurrentCommandId(true), InvalidSnapshot, wait,
						 &failure, &mode);
	*entries = !HeapTupleIsHeapOnly(tuple);
#endif
	return result;
}

/* PG17: utils/pg_locale.h wants ICU's headers, which servers' packages do not bring. */
extern PGDLLIMPORT char *locale_monetary;
extern PGDLLIMPORT char *locale_numeric;
extern PGDLLIMPORT char *locale_time;

/* PG18: the portal alone knows whether its plan is run once. */
#if PG_VERSION_NUM >= 180000
#define EDUAI_RUN_ONCE_PARAM
#define EDUAI_RUN_ONCE
#else
#define EDUAI_RUN_ONCE_PARAM , bool execute_once
#define EDUAI_RUN_ONCE       , execute_once
#endif

/* PG16: the rows of all of a statement's runs are counted, too. */
static inline void
eduai_count_processed(EState *estate, uint64 rows)
{
	estate->es_processed = rows;
#if PG_VERSION_NUM >= 160000
	estate->es_total_processed += rows;
#endif
}

/* PG18: an index scan may be instrumented. */
static inline IndexScanDesc
eduai_index_beginscan(Relation rel, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(rel, index, snapshot, nkeys, 0);
#endif
}

#endif
