/*
 * writes.c: what the running transaction wrote.  See writes.h.
 *
 * PostgreSQL counts rows per table, transaction and savepoint where they are
 * written (heapam.c), so COPY, cascades, partitions written directly, logical
 * replication and functions in C are all counted, catalogs too.  While
 * track_counts is off nothing is counted: a transaction that ran a statement
 * or command then has written anything.
 *
 * Rows that no snapshot chooses between (a truncated or rewritten table) and
 * everything that changes what statements mean (definitions, rights, policies,
 * memberships) are rows written in catalogs, which concern the whole database:
 * such transactions are rare.  Statistics for the planner, dependencies and
 * comments change no result.
 *
 * Caveat: a library that writes tables in its own PRE_COMMIT callback has to
 * be loaded after eduai, for callbacks run in the opposite order.
 */
#include "postgres.h"

#include "access/xact.h"
#include "cache/steady.h"
#include "cache/validity.h"
#include "cache/watch.h"
#include "cache/writes.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_description.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_largeobject.h"
#include "catalog/pg_largeobject_metadata.h"
#include "catalog/pg_shdepend.h"
#include "catalog/pg_shdescription.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_statistic_ext_data.h"
#include "core/compat.h"
#include "core/relcache.h"
#include "core/shmem.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/utility.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/pgstat_internal.h"
#include "utils/syscache.h"

#define MAX_TAGS      256 /* of one transaction; more: their families */
#define MAX_ANCESTORS 8

/* What is known of a table of user data; forgotten when any relation changes. */
typedef struct Family
{
	Oid relid; /* key */
	bool none; /* no entry depends on it: temporary, or a table of long values */
	int n;     /* ancestors, of a partition */
	Oid ancestors[MAX_ANCESTORS];
} Family;

typedef struct Written
{
	uint64 dep;
	SubTransactionId by;
} Written;

static HTAB *families = NULL;
static bool families_stand = false;

static Written *tags = NULL; /* MAX_TAGS places, once used */
static int ntags = 0;
static bool uncounted = false; /* something ran while track_counts was off */

static ExecutorStart_hook_type prev_executor_start = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

/* ---- ancestors ---- */

static void
on_relcache(Datum arg, Oid relid)
{
	families_stand = false;
}

static void
start_families(void)
{
	HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Family), .hcxt = TopMemoryContext};

	if (families_stand)
		return;
	if (families != NULL)
		hash_destroy(families);
	families = hash_create("eduai written tables", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	families_stand = true;
}

/* False when the relation is gone. */
static bool
look_up_family(Family *family)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(family->relid));
	Form_pg_class class;
	List *ancestors;
	ListCell *cell;
	bool partition;

	family->n = 0;
	family->none = false;
	if (!HeapTupleIsValid(tuple))
		return false;
	class = (Form_pg_class) GETSTRUCT(tuple);
	family->none =
		class->relpersistence == RELPERSISTENCE_TEMP || class->relkind == RELKIND_TOASTVALUE;
	partition = class->relispartition;
	ReleaseSysCache(tuple);
	if (!partition)
		return true;
	ancestors = get_partition_ancestors(family->relid);
	foreach (cell, ancestors)
	{
		if (family->n == MAX_ANCESTORS)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("partitions are nested more than %d levels deep", MAX_ANCESTORS),
							errdetail("The cache cannot tell what a write to them changes.")));
		family->ancestors[family->n++] = lfirst_oid(cell);
	}
	list_free(ancestors);
	return true;
}

static Family
family_of_table(Oid relid)
{
	Family family = {.relid = relid};
	Family *known;

	start_families();
	known = hash_search(families, &relid, HASH_FIND, NULL);
	if (known != NULL)
		return *known;
	/* a look-up may forget all the others */
	if (look_up_family(&family))
	{
		start_families();
		*(Family *) hash_search(families, &relid, HASH_ENTER, NULL) = family;
	}
	return family;
}

/* ---- tables ---- */

static bool
is_without_meaning(Oid catalog)
{
	switch (catalog)
	{
		case StatisticRelationId:
		case StatisticExtDataRelationId:
		case DependRelationId:
		case SharedDependRelationId:
		case DescriptionRelationId:
		case SharedDescriptionRelationId:
		case LargeObjectRelationId:
		case LargeObjectMetadataRelationId:
			return true;
		default:
			/* the tables for long values of statistics and comments, too, change nothing */
			return catalog == 2840 || catalog == 2834 || catalog == 2846 || catalog == 3439;
	}
}

static bool
has_written(const PgStat_TableXactStatus *t)
{
	return t->truncdropped || t->tuples_inserted > 0 || t->tuples_updated > 0 ||
		   t->tuples_deleted > 0;
}

/* Calls each() for the tables written at this and all outer levels. */
static void
each_table(void (*each)(const PgStat_TableXactStatus *table, void *arg), void *arg)
{
	PgStat_SubXactStatus *level;

	for (level = pgstat_get_xact_stack_level(GetCurrentTransactionNestLevel()); level != NULL;
		 level = level->prev)
		for (PgStat_TableXactStatus *t = level->first; t != NULL; t = t->next)
			if (has_written(t))
				each(t, arg);
}

static bool
is_catalog(const PgStat_TableXactStatus *table)
{
	return IsCatalogRelationOid(eduai_table_stats_relid(table->parent)) &&
		   !is_without_meaning(eduai_table_stats_relid(table->parent));
}

typedef struct Found
{
	void (*found)(uint64 dep, void *arg);
	void *arg;
} Found;

static void
found_table(const PgStat_TableXactStatus *table, void *arg)
{
	Found *to = arg;
	Oid relid = eduai_table_stats_relid(table->parent);
	Family family;

	if (IsCatalogRelationOid(relid))
	{
		if (is_catalog(table))
			to->found(eduai_cache_dep_catalog(
						  eduai_table_stats_shared(table->parent) ? InvalidOid : MyDatabaseId),
					  to->arg);
		return;
	}
	family = family_of_table(relid);
	if (family.none)
		return;
	to->found(eduai_cache_dep_table(MyDatabaseId, relid), to->arg);
	for (int i = 0; i < family.n; i++)
		to->found(eduai_cache_dep_table(MyDatabaseId, family.ancestors[i]), to->arg);
	if (table->truncdropped)
		eduai_cache_watch_truncated(relid, to->found, to->arg);
}

static bool
is_uncounted(void)
{
	return uncounted || !pgstat_track_counts;
}

void
eduai_cache_writes_each(void (*found)(uint64 dep, void *arg), void *arg)
{
	Found to = {found, arg};

	if (is_uncounted())
	{
		found(eduai_cache_dep_anything(MyDatabaseId), arg);
		found(eduai_cache_dep_uncounted(MyDatabaseId), arg);
		found(eduai_cache_dep_catalog(MyDatabaseId), arg);
		found(eduai_cache_dep_catalog(InvalidOid), arg);
	}
	each_table(found_table, &to);
	for (int i = 0; i < ntags; i++)
		found(tags[i].dep, arg);
}

typedef struct Own
{
	CacheDeps *deps;
	bool fits;
} Own;

static void
add_own(uint64 dep, void *arg)
{
	Own *own = arg;

	own->fits = eduai_cache_deps_add(own->deps, dep) && own->fits;
}

bool
eduai_cache_writes_own(CacheDeps *deps)
{
	Own own = {deps, true};

	deps->n = 0;
	eduai_cache_writes_each(add_own, &own);
	return own.fits;
}

static void
note_catalog(const PgStat_TableXactStatus *table, void *arg)
{
	if (is_catalog(table))
		*(bool *) arg = true;
}

bool
eduai_cache_writes_catalog(void)
{
	bool changed = is_uncounted();

	for (int i = 0; i < ntags; i++)
		changed = changed || tags[i].dep == eduai_cache_dep_catalog(MyDatabaseId);
	each_table(note_catalog, &changed);
	return changed;
}

/* ---- tags ---- */

/* Families in place of tags: fewer, and never forgotten by a savepoint. */
static void
widen_tags(void)
{
	int n = 0;

	for (int i = 0; i < ntags; i++)
	{
		uint64 dep = eduai_cache_dep_widen(tags[i].dep);
		int j = 0;

		while (j < n && tags[j].dep != dep)
			j++;
		if (j == n)
			n++;
		tags[j].dep = dep;
		tags[j].by = TopSubTransactionId;
	}
	ntags = n;
}

void
eduai_cache_wrote(uint64 dep)
{
	uint64 wide = eduai_cache_dep_widen(dep);

	if (!eduai_core_preloaded())
		return;
	if (tags == NULL)
		tags = MemoryContextAlloc(TopMemoryContext, sizeof(Written) * MAX_TAGS);
	GetTopTransactionId();
	for (int i = ntags - 1; i >= 0; i--)
		if ((tags[i].dep == dep || tags[i].dep == wide) &&
			tags[i].by <= GetCurrentSubTransactionId())
			return;
	if (ntags == MAX_TAGS)
	{
		widen_tags();
		dep = wide;
	}
	if (ntags == MAX_TAGS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a transaction wrote more than %d families of tags", MAX_TAGS)));
	tags[ntags].dep = dep;
	tags[ntags++].by = GetCurrentSubTransactionId();
}

void
eduai_cache_writes_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	int n = 0;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (int i = 0; i < ntags; i++)
	{
		if (tags[i].by == mine)
		{
			if (event == SUBXACT_EVENT_ABORT_SUB)
				continue;
			tags[i].by = parent;
		}
		tags[n++] = tags[i];
	}
	ntags = n;
}

void
eduai_cache_writes_forget(void)
{
	ntags = 0;
	uncounted = false;
}

/* ---- what runs while nothing is counted ---- */

static void
on_executor_start(QueryDesc *query, int flags)
{
	if (unlikely(!pgstat_track_counts))
		uncounted = true;
	if (prev_executor_start)
		prev_executor_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static void
next_process_utility(PlannedStmt *statement, const char *text, bool read_only,
					 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
					 DestReceiver *dest, QueryCompletion *completion)
{
	if (prev_process_utility)
		prev_process_utility(statement, text, read_only, context, params, env, dest, completion);
	else
		standard_ProcessUtility(statement, text, read_only, context, params, env, dest, completion);
}

/* What it makes visible may be definitions, and nobody else says so. */
static bool
is_commit_prepared(Node *statement)
{
	return IsA(statement, TransactionStmt) &&
		   ((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED;
}

/* Of a table that is watched it may have changed any row; so of those that inherit from it. */
static void
note_altered(const AlterTableStmt *statement)
{
	Oid relid = RangeVarGetRelid(statement->relation, NoLock, true);
	ListCell *cell;

	if (!OidIsValid(relid))
		return;
	foreach (cell, find_all_inheritors(relid, NoLock, NULL))
		eduai_cache_watch_changed(lfirst_oid(cell));
}

static void
on_process_utility(PlannedStmt *statement, const char *text, bool read_only,
				   ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
				   DestReceiver *dest, QueryCompletion *completion)
{
	if (unlikely(!pgstat_track_counts))
		uncounted = true;
	if (!is_commit_prepared(statement->utilityStmt))
	{
		next_process_utility(statement, text, read_only, context, params, env, dest, completion);
		if (IsA(statement->utilityStmt, AlterTableStmt))
			note_altered((AlterTableStmt *) statement->utilityStmt);
		return;
	}
	eduai_cache_catalog_change_begins();
	PG_TRY();
	{
		next_process_utility(statement, text, read_only, context, params, env, dest, completion);
	}
	PG_FINALLY();
	{
		eduai_cache_catalog_change_ends();
	}
	PG_END_TRY();
}

void
eduai_cache_writes_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	eduai_core_relcache_register(on_relcache);
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = on_executor_start;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = on_process_utility;
	eduai_cache_watch_init();
}
