/*
 * pages.c: looking through a table a few pages at a time.  See pages.h.
 */
#include "postgres.h"

#include "access/relation.h"
#include "core/pages.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "utils/rel.h"

int64
eduai_core_pages_of(Oid relid)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	int64 pages;

	if (rel == NULL)
		return 0;
	pages = RelationGetNumberOfBlocks(rel);
	relation_close(rel, AccessShareLock);
	return pages;
}

Datum
eduai_core_page_start(int64 page)
{
	ItemPointer tid = palloc(sizeof(ItemPointerData));

	ItemPointerSet(tid, (BlockNumber) Min(page, MaxBlockNumber), InvalidOffsetNumber);
	return PointerGetDatum(tid);
}
