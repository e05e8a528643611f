/*
 * place.c: how far a follower of the feed has come.  See place.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "common/hashfn.h"
#include "core/heap.h"
#include "core/lock.h"
#include "events/passed.h"
#include "miscadmin.h"
#include "projections/place.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

enum
{
	PLACE_POSITION,
	PLACE_EVENTS,
	PLACE_PROJECTION,
	PLACE_GENERATION,
	PLACE_LANE,
	PLACE_TENANT,
	PLACE_COLUMNS,
};

static EduaiTable position_table = {"projection_position", "projection_position_pkey"};

int
eduai_projections_lane(const char *key, int lanes)
{
	if (lanes <= 1)
		return 0;
	return (int) (hash_bytes_extended((const unsigned char *) key, strlen(key), 0) %
				  (uint64) lanes);
}

void
eduai_projections_place_read(const EduaiFollower *follower, EduaiPlace *place)
{
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData keys[4];
	EduaiScan scan;

	*place = (EduaiPlace){0};
	eduai_core_table_open(&scan, &position_table, latest, lengthof(keys));
	eduai_core_key_text(&keys[0], 1, CStringGetTextDatum(follower->tenant));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(follower->projection));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(follower->generation));
	ScanKeyInit(&keys[3], 4, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(follower->lane));
	eduai_core_scan_seek(&scan, keys);
	if (eduai_core_scan_next(&scan, ForwardScanDirection))
		*place = (EduaiPlace){true, scan.slot->tts_tid,
							  DatumGetInt64(scan.slot->tts_values[PLACE_POSITION]),
							  DatumGetInt64(scan.slot->tts_values[PLACE_EVENTS])};
	eduai_core_scan_close(&scan);
	UnregisterSnapshot(latest);
}

void
eduai_projections_place_write(const EduaiFollower *follower, const EduaiPlace *place)
{
	bool nulls[PLACE_COLUMNS] = {false};
	Datum values[PLACE_COLUMNS] = {
		[PLACE_POSITION] = Int64GetDatum(place->position),
		[PLACE_EVENTS] = Int64GetDatum(place->events),
		[PLACE_PROJECTION] = Int32GetDatum(follower->projection),
		[PLACE_GENERATION] = Int32GetDatum(follower->generation),
		[PLACE_LANE] = Int32GetDatum(follower->lane),
		[PLACE_TENANT] = CStringGetTextDatum(follower->tenant),
	};
	Relation rel = table_open(position_table.relid, RowExclusiveLock);
	Relation index = index_open(position_table.index, RowExclusiveLock);
	IndexInfo *info = BuildIndexInfo(index);
	HeapTuple tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	ItemPointerData tid = place->tid;

	if (place->found)
		eduai_core_heap_update(rel, &tid, tuple, &index, &info, 1, values, nulls);
	else
		eduai_core_heap_insert(rel, tuple, &index, &info, 1, values, nulls);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* Numbers of projections and generations are not used again, nor is the table's oid. */
static EduaiPassedKey
passed_key(const EduaiFollower *follower)
{
	int32 numbers[3] = {follower->projection, follower->generation, follower->lanes};
	uint64 hash = hash_bytes_extended((const unsigned char *) numbers, sizeof(numbers), 0);

	eduai_core_table_find(&position_table);
	hash = hash_bytes_extended((const unsigned char *) follower->tenant, strlen(follower->tenant),
							   hash);
	return (EduaiPassedKey){MyDatabaseId, position_table.relid, (int64) hash, follower->lane};
}

int64
eduai_projections_place_passed(const EduaiFollower *follower, int64 position)
{
	EduaiPassedKey key = passed_key(follower);
	EduaiPassed passed = eduai_events_passed_get(&key);

	return eduai_events_passed_from(&passed, position);
}

void
eduai_projections_place_pass(const EduaiFollower *follower, int64 position, int64 through)
{
	EduaiPassedKey key = passed_key(follower);
	EduaiPassed passed = {.lead = {position, through}};

	eduai_events_passed_put(&key, &passed);
}
