/*
 * partition.c: the partitions of eduai.event.  See partition.h.
 *
 * The list is a cache of the backend, thrown away by a relcache invalidation
 * of the parent, which every attach and detach sends.  A list that lacks a
 * partition because its indexes are still to come, from the dump that is being
 * restored, is read again each time: they are made without a word to the parent.
 *
 * Invariant: a stream never continues in an older partition than the one that
 * holds its last version, so that readers may go through the partitions in
 * order and an append may stop at the first hit from the newest.  The newest
 * partition in use is therefore kept in shared memory, and found again after
 * a restart by looking which partitions have pages; a clock that went back
 * does not lead to an older one.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "catalog/index.h"
#include "core/clock.h"
#include "core/heap.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "events/partition.h"
#include "events/partition_period.h"
#include "events/projector.h"
#include "events/shared.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static MemoryContext list_context = NULL;
static EduaiPartitionList list;
static Oid list_parent = InvalidOid; /* InvalidOid: the list is to be read */
static bool list_lacks = false;      /* a partition without indexes was passed over */

static void
forget_list(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == list_parent)
		list_parent = InvalidOid;
}

static Oid
parent_oid(void)
{
	Oid parent = get_relname_relid("event", eduai_core_schema());

	if (!OidIsValid(parent))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table \"eduai.event\" does not exist")));
	return parent;
}

static void
read_index(EduaiPartition *part, Oid oid)
{
	Relation index = index_open(oid, AccessShareLock);
	MemoryContext old;
	IndexInfo *info;

	old = MemoryContextSwitchTo(list_context);
	info = BuildIndexInfo(index);
	MemoryContextSwitchTo(old);
	if (index->rd_index->indisprimary)
	{
		part->key_index = oid;
		part->key_info = info;
	}
	else if (index->rd_index->indisunique)
	{
		part->id_index = oid;
		part->id_info = info;
	}
	index_close(index, NoLock);
}

/*
 * Fills in a partition; false when it was dropped or has no indexes yet (a
 * restore is going on).
 */
static bool
read_partition(EduaiPartition *part, Oid relid)
{
	Relation rel = try_table_open(relid, AccessShareLock);
	List *indexes;
	ListCell *lc;

	if (rel == NULL)
		return false;
	memset(part, 0, sizeof(*part));
	part->relid = relid;
	indexes = RelationGetIndexList(rel);
	foreach (lc, indexes)
		read_index(part, lfirst_oid(lc));
	list_free(indexes);
	table_close(rel, NoLock);
	if (OidIsValid(part->key_index) && OidIsValid(part->id_index))
		return true;
	list_lacks = true;
	return false;
}

static TimestampTz
bound_value(PartitionBoundInfo bounds, int i)
{
	if (bounds->kind[i][0] == PARTITION_RANGE_DATUM_MINVALUE)
		return DT_NOBEGIN;
	if (bounds->kind[i][0] == PARTITION_RANGE_DATUM_MAXVALUE)
		return DT_NOEND;
	return DatumGetTimestampTz(bounds->datums[i][0]);
}

static void
read_list(Oid parent)
{
	Relation rel = table_open(parent, AccessShareLock);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true);
	PartitionBoundInfo bounds = desc->boundinfo;

	if (list_context == NULL)
		list_context =
			AllocSetContextCreate(CacheMemoryContext, "eduai partitions", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(list_context);
	list.n = 0;
	list.parts = MemoryContextAlloc(list_context, sizeof(EduaiPartition) * Max(desc->nparts, 1));
	/* valid before it is filled: an invalidation on the way must not be lost */
	list_parent = parent;
	list_lacks = false;
	for (int i = 1; bounds != NULL && i < bounds->ndatums; i++)
	{
		EduaiPartition *part = &list.parts[list.n];
		TimestampTz lower = bound_value(bounds, i - 1);
		TimestampTz upper = bound_value(bounds, i);

		/* indexes[i]: the partition whose upper bound is datums[i] */
		if (bounds->indexes[i] < 0 || !read_partition(part, desc->oids[bounds->indexes[i]]))
			continue;
		part->lower = lower;
		part->upper = upper;
		list.n++;
	}
	table_close(rel, NoLock);
}

const EduaiPartitionList *
eduai_events_partitions(void)
{
	static Oid known_installation = InvalidOid;
	static Oid known_parent = InvalidOid;
	Oid installation = eduai_core_installation();

	if (installation != known_installation)
	{
		known_parent = parent_oid();
		known_installation = installation;
		list_parent = InvalidOid;
	}
	if (list_lacks)
		list_parent = InvalidOid;
	for (int tries = 0; list_parent != known_parent && tries < 10; tries++)
		read_list(known_parent);
	return &list;
}

/* ---- which one to insert into ---- */

static TimestampTz
find_newest_used(void)
{
	const EduaiPartitionList *all = eduai_events_partitions();

	for (int i = all->n - 1; i >= 0; i--)
	{
		TimestampTz lower = all->parts[i].lower;
		Relation rel = try_table_open(all->parts[i].relid, AccessShareLock);
		BlockNumber pages = rel ? RelationGetNumberOfBlocks(rel) : 0;

		if (rel)
			table_close(rel, AccessShareLock);
		if (pages > 0)
			return lower;
	}
	return 0;
}

/* Never goes back: the lower bound of the newest partition in use, or now when none is. */
static TimestampTz
not_before(EduaiEventsSlot *slot, TimestampTz at)
{
	uint64 newest = pg_atomic_read_u64(&slot->newest_started);

	if (newest == 0)
	{
		uint64 found = (uint64) find_newest_used();

		if (found != 0)
			(void) pg_atomic_compare_exchange_u64(&slot->newest_started, &newest, found);
		newest = Max((TimestampTz) pg_atomic_read_u64(&slot->newest_started), (TimestampTz) found);
	}
	return Max(at, (TimestampTz) newest);
}

static void
raise_newest(EduaiEventsSlot *slot, TimestampTz lower)
{
	uint64 newest = pg_atomic_read_u64(&slot->newest_started);

	while ((TimestampTz) newest < lower || newest == 0)
		if (pg_atomic_compare_exchange_u64(&slot->newest_started, &newest, (uint64) lower))
			break;
}

static const EduaiPartition *
find_partition(TimestampTz at)
{
	const EduaiPartitionList *all = eduai_events_partitions();

	for (int i = all->n - 1; i >= 0; i--)
		if (at >= all->parts[i].lower)
			return at < all->parts[i].upper ? &all->parts[i] : NULL;
	return NULL;
}

/* The extension was created in this very transaction: nobody else can see its tables. */
static bool
is_private(void)
{
	Relation rel = table_open(parent_oid(), AccessShareLock);
	bool private = rel->rd_createSubid != InvalidSubTransactionId;

	table_close(rel, AccessShareLock);
	return private;
}

static void
make_here(TimestampTz at)
{
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	(void) eduai_events_partition_make(at);
	SPI_finish();
	eduai_core_leave(&saved);
}

/*
 * In another process: made in this transaction, the partition would be seen by
 * nobody else, who all would wait for it, until this transaction ends.
 */
static void
make_partition(TimestampTz at)
{
	if (!is_private() && eduai_events_run_apart("eduai_events_partition_maker"))
	{
		AcceptInvalidationMessages();
		/* once something is in it, the next one is due */
		eduai_events_projector_wake_at_commit();
	}
	if (find_partition(at) == NULL)
		make_here(at);
}

/* A partition whose indexes are still to come must not get one beside it, nor rows. */
static void
refuse_during_restore(void)
{
	if (list_lacks)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("a partition of the log of events has no indexes yet"),
						errhint("A dump is being restored: append when that has ended.")));
}

EduaiPartition
eduai_events_partition_for(TimestampTz *recorded_at)
{
	EduaiEventsSlot *slot = eduai_events_slot();
	const EduaiPartition *part;

	*recorded_at = not_before(slot, *recorded_at);
	part = find_partition(*recorded_at);
	if (part == NULL)
	{
		refuse_during_restore();
		make_partition(*recorded_at);
		part = find_partition(*recorded_at);
	}
	if (part == NULL)
		elog(ERROR, "could not make a partition of eduai.event");
	raise_newest(slot, part->lower);
	return *part;
}

/* ---- making and dropping ---- */

/* Cuts a period to the gap that the existing partitions leave around a time. */
static void
cut_to_gap(TimestampTz at, TimestampTz *lower, TimestampTz *upper)
{
	const EduaiPartitionList *all = eduai_events_partitions();

	for (int i = 0; i < all->n; i++)
	{
		if (all->parts[i].upper <= at)
			*lower = Max(*lower, all->parts[i].upper);
		if (all->parts[i].lower > at)
			*upper = Min(*upper, all->parts[i].lower);
	}
}

static void
run_utility(const char *sql)
{
	int code = SPI_execute(sql, false, 0);

	if (code != SPI_OK_UTILITY)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(code));
}

bool
eduai_events_partition_make(TimestampTz at)
{
	char name[NAMEDATALEN];
	TimestampTz lower;
	TimestampTz upper;

	run_utility("LOCK TABLE ONLY eduai.event IN SHARE UPDATE EXCLUSIVE MODE");
	AcceptInvalidationMessages();
	if (find_partition(at) != NULL)
		return false;
	eduai_events_period(at, &lower, &upper);
	cut_to_gap(at, &lower, &upper);
	eduai_events_period_name(lower, name, sizeof(name));
	run_utility(psprintf("CREATE TABLE eduai.%s (LIKE eduai.event INCLUDING DEFAULTS)", name));
	run_utility(
		psprintf("ALTER TABLE eduai.%s ADD PRIMARY KEY (tenant_id, stream, version)", name));
	run_utility(
		psprintf("CREATE UNIQUE INDEX %s_event_id ON eduai.%s (event_id, tenant_id)", name, name));
	/* as the parent's: LIKE does not say it (sql/privacy/schema.sql) */
	run_utility(psprintf("ALTER TABLE eduai.%s ALTER COLUMN stream SET STATISTICS 0,"
						 " ALTER COLUMN user_id SET STATISTICS 0,"
						 " ALTER COLUMN session_id SET STATISTICS 0,"
						 " ALTER COLUMN data SET STATISTICS 0,"
						 " ALTER COLUMN metadata SET STATISTICS 0",
						 name));
	/* without a policy: it is read through the parent, whose policy counts */
	run_utility(psprintf("ALTER TABLE eduai.%s ENABLE ROW LEVEL SECURITY", name));
	run_utility(psprintf("ALTER TABLE eduai.event ATTACH PARTITION eduai.%s FOR VALUES FROM ('%s')"
						 " TO ('%s')",
						 name, eduai_events_period_text(lower), eduai_events_period_text(upper)));
	ereport(DEBUG1, (errmsg("made partition \"eduai.%s\"", name)));
	return true;
}

/* What the maker process runs: the partition of now, or of the newest in use. */
void
eduai_events_partition_maker(Datum arg)
{
	TimestampTz at;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	at = not_before(eduai_events_slot(), eduai_core_now());
	make_here(at);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* Whether nobody can see anything in a partition any more, in any snapshot. */
static bool
is_empty_for_all(Relation rel)
{
	SnapshotData snapshot;
	TableScanDesc scan;
	bool empty;

	InitNonVacuumableSnapshot(snapshot, GlobalVisTestFor(rel));
	scan = heap_beginscan(rel, &snapshot, 0, NULL, NULL, SO_TYPE_SEQSCAN | SO_ALLOW_STRAT);
	empty = heap_getnext(scan, ForwardScanDirection) == NULL;
	heap_endscan(scan);
	return empty;
}

/*
 * Drops the partitions before the newest in use that are empty.  The parent is
 * locked for a moment, so only when that is free at once; an append looks for
 * its stream in the partitions it has listed and passes over one that is gone.
 * A partition gets its row security last: without it a restore, which would
 * fail without the table, has still to come back to it.
 */
static void
drop_empty(TimestampTz newest)
{
	Oid *old;
	int n = 0;
	const EduaiPartitionList *all = eduai_events_partitions();

	old = palloc(sizeof(Oid) * Max(all->n, 1));
	for (int i = 0; i < all->n && all->parts[i].upper <= newest; i++)
		old[n++] = all->parts[i].relid;
	for (int i = 0; i < n; i++)
	{
		Relation rel = try_table_open(old[i], AccessShareLock);
		char *name;
		bool empty;

		if (rel == NULL)
			continue;
		name = pstrdup(RelationGetRelationName(rel));
		empty = rel->rd_rel->relrowsecurity && is_empty_for_all(rel);
		table_close(rel, AccessShareLock);
		if (!empty || !ConditionalLockRelationOid(parent_oid(), AccessExclusiveLock))
			continue;
		if (!ConditionalLockRelationOid(old[i], AccessExclusiveLock))
			continue;
		run_utility(psprintf("DROP TABLE eduai.%s", quote_identifier(name)));
		ereport(LOG, (errmsg("dropped the empty partition \"eduai.%s\"", name)));
	}
}

void
eduai_events_partition_upkeep(void)
{
	const EduaiPartitionList *all = eduai_events_partitions();
	TimestampTz newest = find_newest_used();
	TimestampTz upper = DT_NOBEGIN;

	/* a restore may be going on: what it has not filled is none of our business */
	if (newest == 0 || list_lacks)
		return;
	for (int i = 0; i < all->n; i++)
		upper = Max(upper, all->parts[i].upper);
	if (upper != DT_NOEND && Max(newest, eduai_core_now()) >= eduai_events_period_before(upper))
		(void) eduai_events_partition_make(Max(upper, eduai_core_now()));
	drop_empty(newest);
}

void
eduai_events_partition_init(void)
{
	eduai_events_period_init();
	eduai_core_relcache_register(forget_list);
}
