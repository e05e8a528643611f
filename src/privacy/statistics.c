/*
 * statistics.c: the planner's statistics forget what was removed.  See
 * statistics.h.
 *
 * ANALYZE alone does not do: of a table or a partition that has become empty it
 * keeps the statistics of before, values included.  So they are removed first.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "catalog/pg_inherits.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "privacy/statistics.h"
#include "utils/rel.h"
#include "utils/relcache.h"

static void
forget(Oid relid)
{
	Relation rel = try_relation_open(relid, ShareUpdateExclusiveLock);
	ListCell *cell;

	if (rel == NULL)
		return;
	RemoveStatistics(relid, 0);
	foreach (cell, RelationGetIndexList(rel))
		RemoveStatistics(lfirst_oid(cell), 0);
	foreach (cell, RelationGetStatExtList(rel))
	{
		RemoveStatisticsDataById(lfirst_oid(cell), false);
		RemoveStatisticsDataById(lfirst_oid(cell), true);
	}
	relation_close(rel, NoLock);
}

void
eduai_privacy_statistics_renew(Oid relid, const char *name)
{
	ListCell *cell;

	foreach (cell, find_all_inheritors(relid, ShareUpdateExclusiveLock, NULL))
		forget(lfirst_oid(cell));
	CommandCounterIncrement();
	if (SPI_execute(psprintf("ANALYZE %s", name), false, 0) < 0)
		elog(ERROR, "could not analyze a registered table");
}
