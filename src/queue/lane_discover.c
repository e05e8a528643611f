/*
 * lane_discover.c: filling the directory from the table after a server start,
 * and the steady clock that starts then.  See lane.h.
 *
 * The index is read a lane at a time: its first entry is where the mark goes,
 * its last one tells the newest key.  Any version of a row does, a dead one too:
 * what is read of it never changes, and the first scan passes what is dead.
 *
 * Whoever makes a task ready has discovered the lanes before he takes its key,
 * under the session lock; what he announces meanwhile only lowers marks further.
 */
#include "postgres.h"

#include "access/multixact.h"
#include "access/stratnum.h"
#include "access/transam.h"
#include "core/clock.h"
#include "core/lock.h"
#include "miscadmin.h"
#include "queue/fresh_internal.h"
#include "queue/lane_internal.h"
#include "queue/lane_wait.h"
#include "queue/store.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

EduaiTable eduai_queue_lane_table = {.name = "task_live", .index_name = "task_live_lane"};

bool
eduai_queue_lane_row_free(HeapTuple tuple)
{
	HeapTupleHeader header = tuple->t_data;
	TransactionId xmax = HeapTupleHeaderGetRawXmax(header);

	if ((header->t_infomask & HEAP_XMAX_INVALID) != 0)
		return true;
	if ((header->t_infomask & HEAP_XMAX_IS_MULTI) != 0)
		return !MultiXactIdIsRunning(xmax, HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask));
	return !TransactionIdIsInProgress(xmax);
}

/* the lane of the row that the scan is at */
static void
identity_of(const TupleTableSlot *slot, LaneIdentity *identity)
{
	char *tenant = TextDatumGetCString(slot->tts_values[LIVE_TENANT_ID]);
	char *task_type = TextDatumGetCString(slot->tts_values[LIVE_TASK_TYPE]);

	identity->hash = DatumGetInt64(slot->tts_values[LIVE_LANE]);
	identity->tenant = eduai_queue_lane_word(tenant);
	identity->task_type = eduai_queue_lane_word(task_type);
	identity->priority = DatumGetInt16(slot->tts_values[LIVE_PRIORITY]);
	pfree(tenant);
	pfree(task_type);
}

static int64
newest_key(EduaiScan *scan, int64 hash)
{
	ScanKeyData key;

	eduai_core_key_int8(&key, 1, BTEqualStrategyNumber, hash);
	eduai_core_scan_seek(scan, &key);
	return eduai_core_scan_next(scan, BackwardScanDirection)
			   ? DatumGetInt64(scan->slot->tts_values[LIVE_READY_KEY])
			   : 0;
}

bool
eduai_queue_lane_place(const TupleTableSlot *first)
{
	LaneIdentity identity;
	int lane;

	identity_of(first, &identity);
	lane = eduai_queue_lane_pin(&identity);
	if (lane == LANE_NONE)
	{
		eduai_queue_lane_missed();
		return false;
	}
	eduai_queue_lane_lower(lane, DatumGetInt64(first->tts_values[LIVE_READY_KEY]));
	eduai_queue_lane_unpin(lane);
	eduai_queue_lane_wake(identity.tenant, identity.task_type);
	return true;
}

/* goes through the lanes of the index; returns the greatest key */
static int64
read_lanes(void)
{
	EduaiScan lanes;
	EduaiScan ends;
	ScanKeyData key;
	int64 newest = 0;

	eduai_core_table_open(&lanes, &eduai_queue_lane_table, SnapshotAny, 1);
	eduai_core_table_open(&ends, &eduai_queue_lane_table, SnapshotAny, 1);
	eduai_core_key_int8(&key, 1, BTGreaterEqualStrategyNumber, PG_INT64_MIN);
	for (;;)
	{
		int64 hash;

		eduai_core_scan_seek(&lanes, &key);
		if (!eduai_core_scan_next(&lanes, ForwardScanDirection))
			break;
		hash = DatumGetInt64(lanes.slot->tts_values[LIVE_LANE]);
		newest = Max(newest, newest_key(&ends, hash));
		(void) eduai_queue_lane_place(lanes.slot);
		eduai_core_key_int8(&key, 1, BTGreaterStrategyNumber, hash);
	}
	eduai_core_scan_close(&ends);
	eduai_core_scan_close(&lanes);
	return newest;
}

void
eduai_queue_lane_clock_past(LaneDatabase *db, int64 key)
{
	int64 base_us = key / EDUAI_LANE_KEY_STEP + 1 - eduai_core_mono_us();

	/* two at once set much the same */
	if (db->base_us < base_us)
		db->base_us = base_us;
}

static void
discover(LaneDatabase *db, Oid relation)
{
	int64 newest = read_lanes();

	if (db->base_us == 0)
		db->base_us = eduai_core_now() - eduai_core_mono_us();
	eduai_queue_lane_clock_past(db, newest);
	/* of an extension that was dropped */
	eduai_queue_fresh_drop(MyDatabaseId, PG_UINT32_MAX);
	eduai_queue_fresh_load(db);
	/* the first sweep looks at what was prepared before the server start */
	db->unsure = true;
	pg_write_barrier();
	db->relation = relation;
}

LaneDatabase *
eduai_queue_lane_discover(void)
{
	LaneDatabase *db = eduai_queue_lane_database();
	uint64 key;

	eduai_core_table_find(&eduai_queue_lane_table);
	if (db->relation == eduai_queue_lane_table.relid && !db->moved)
	{
		pg_read_barrier();
		return db;
	}
	key = eduai_core_lock_key("", "lanes");
	(void) eduai_core_lock_session(EDUAI_LOCK_LANES, key, false);
	PG_TRY();
	{
		if (db->relation != eduai_queue_lane_table.relid)
			discover(db, eduai_queue_lane_table.relid);
		else if (db->moved)
			eduai_queue_fresh_load(db);
	}
	PG_FINALLY();
	{
		eduai_core_unlock_session(EDUAI_LOCK_LANES, key);
	}
	PG_END_TRY();
	return db;
}
