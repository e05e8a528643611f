/*
 * lane_sweep.c: ready tasks that no callback announced.  See lane.h.
 *
 * The sweep reads each lane of the index from its beginning to its mark, for
 * rows that are ready and in nobody's hands and yet no stray.  It goes on where
 * it stopped the last time, for at most SLICE_US, and rests a hundred times as
 * long as it took.
 *
 * A transaction that announced something and was prepared is remembered; once it
 * has ended, the sweep reads everything at once: only then can its tasks be had,
 * or again.  So it does after a server start, for those prepared before.
 *
 * Lanes that found no room in the directory do not let it rest: a slice at each
 * call, until all have their place.
 *
 * Caveat: with many prepared transactions that end one by one, each costs a look
 * at all entries below the marks.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "core/clock.h"
#include "core/plan.h"
#include "miscadmin.h"
#include "queue/lane_internal.h"
#include "queue/lane_wait.h"
#include "queue/store.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#define SLICE_US      20000
#define REST          100 /* times as long as it worked */
#define LOOK_AT_CLOCK 256 /* rows between two looks at the clock */

/* where the next slice begins */
static int64 next_lane = PG_INT64_MIN;
static int64 next_key = PG_INT64_MIN;
static int64 rest_until_us = 0;

typedef struct Sweep
{
	LaneDatabase *db;
	EduaiScan scan;
	int64 until_us; /* PG_INT64_MAX: to the end */
	int64 rows;
	bool found;
} Sweep;

/* ---- prepared transactions ---- */

static int
mine_prepared(TransactionId *xids)
{
	LaneShared *s = eduai_queue_lanes;
	int n = 0;

	SpinLockAcquire(&s->mutex);
	for (int i = 0; i < s->nprepared; i++)
		if (s->prepared[i].database == MyDatabaseId)
			xids[n++] = s->prepared[i].xid;
	SpinLockRelease(&s->mutex);
	return n;
}

static void
forget_prepared(TransactionId xid)
{
	LaneShared *s = eduai_queue_lanes;

	SpinLockAcquire(&s->mutex);
	for (int i = 0; i < s->nprepared; i++)
		if (s->prepared[i].database == MyDatabaseId && s->prepared[i].xid == xid)
			s->prepared[i].database = InvalidOid;
	SpinLockRelease(&s->mutex);
}

/* remembers those that are there now, when some may not have been */
static bool
remember_prepared(LaneDatabase *db)
{
	static EduaiPlan prepared = {
		"SELECT x.transaction::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_prepared_xacts x "
		"WHERE x.database = pg_catalog.current_database()",
		0};
	TransactionId *known = palloc(sizeof(TransactionId) * eduai_queue_lanes->nprepared);
	int nknown = mine_prepared(known);
	uint64 n;

	if (!db->unsure)
		return false;
	/* set again when there is no room */
	db->unsure = false;
	n = eduai_core_run(&prepared, NULL, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		TransactionId xid = (TransactionId) eduai_core_int64(i, 1, 0);
		int at = 0;

		while (at < nknown && known[at] != xid)
			at++;
		if (at == nknown)
			eduai_queue_lane_prepared(xid);
	}
	return true;
}

/* forgets those that have ended; true when one had */
static bool
some_ended(void)
{
	TransactionId *xids = palloc(sizeof(TransactionId) * eduai_queue_lanes->nprepared);
	int n = mine_prepared(xids);
	bool ended = false;

	for (int i = 0; i < n; i++)
		if (!TransactionIdIsInProgress(xids[i]))
		{
			forget_prepared(xids[i]);
			ended = true;
		}
	pfree(xids);
	return ended;
}

/* ---- reading ---- */

static bool
is_ready(EduaiScan *scan)
{
	text *state = DatumGetTextPP(scan->slot->tts_values[LIVE_STATE]);

	if (VARSIZE_ANY_EXHDR(state) != 5 || memcmp(VARDATA_ANY(state), "ready", 5) != 0)
		return false;
	return table_tuple_satisfies_snapshot(scan->rel, scan->slot, SnapshotSelf) &&
		   eduai_queue_lane_row_free(ExecFetchSlotHeapTuple(scan->slot, false, NULL));
}

static void
found_row(Sweep *s, int lane, int64 key)
{
	const Lane *l = &eduai_queue_lanes->lanes[lane];

	if (eduai_queue_lane_knows(lane, key) || !is_ready(&s->scan))
		return;
	eduai_queue_lane_add(lane, key, key);
	eduai_queue_lane_wake(l->tenant, l->task_type);
	eduai_queue_lane_clock_past(s->db, key);
	s->found = true;
}

/* the time is over: the next slice goes on with this row */
static bool
is_late(Sweep *s, int64 hash)
{
	if (++s->rows % LOOK_AT_CLOCK != 0 || eduai_core_mono_us() < s->until_us)
		return false;
	next_lane = hash;
	next_key = DatumGetInt64(s->scan.slot->tts_values[LIVE_READY_KEY]);
	return true;
}

/*
 * Reads on in the lane that the scan is at; false when the time is over.  The
 * lane is pinned.
 */
static bool
read_lane(Sweep *s, int lane, int64 hash)
{
	int64 mark = eduai_queue_lanes->lanes[lane].mark;

	do
	{
		int64 key = DatumGetInt64(s->scan.slot->tts_values[LIVE_READY_KEY]);

		if (DatumGetInt64(s->scan.slot->tts_values[LIVE_LANE]) != hash || key >= mark)
			break;
		if (is_late(s, hash))
			return false;
		found_row(s, lane, key);
	} while (eduai_core_scan_next(&s->scan, ForwardScanDirection));
	return true;
}

/*
 * The same for a lane that has no place: it gets one for its first task that can
 * be claimed, if there is one.  Others, of running tasks only, want none.
 */
static bool
read_unplaced(Sweep *s, int64 hash)
{
	do
	{
		if (DatumGetInt64(s->scan.slot->tts_values[LIVE_LANE]) != hash)
			break;
		if (is_late(s, hash))
			return false;
		if (is_ready(&s->scan))
		{
			s->found = eduai_queue_lane_place(s->scan.slot) || s->found;
			break;
		}
	} while (eduai_core_scan_next(&s->scan, ForwardScanDirection));
	return true;
}

/* goes to the next lane, or on in the one where it stopped; false at the end */
static bool
seek_lane(Sweep *s)
{
	ScanKeyData keys[2];

	eduai_core_key_int8(&keys[0], 1, BTEqualStrategyNumber, next_lane);
	eduai_core_key_int8(&keys[1], 2, BTGreaterEqualStrategyNumber, next_key);
	eduai_core_scan_seek(&s->scan, keys);
	if (eduai_core_scan_next(&s->scan, ForwardScanDirection))
		return true;
	if (next_lane == PG_INT64_MAX)
		return false;
	eduai_core_key_int8(&keys[0], 1, BTGreaterStrategyNumber, next_lane);
	eduai_core_key_int8(&keys[1], 2, BTGreaterEqualStrategyNumber, PG_INT64_MIN);
	eduai_core_scan_seek(&s->scan, keys);
	return eduai_core_scan_next(&s->scan, ForwardScanDirection);
}

static void
read_lanes(Sweep *s)
{
	bool in_time = true;

	while (in_time && seek_lane(s))
	{
		int64 hash = DatumGetInt64(s->scan.slot->tts_values[LIVE_LANE]);
		int lane = eduai_queue_lane_find(hash);

		if (lane != LANE_NONE)
		{
			in_time = read_lane(s, lane, hash);
			eduai_queue_lane_unpin(lane);
		}
		else
			in_time = read_unplaced(s, hash);
		if (!in_time)
			return;
		if (hash == PG_INT64_MAX)
			break;
		next_lane = hash + 1;
		next_key = PG_INT64_MIN;
		in_time = eduai_core_mono_us() < s->until_us;
		if (!in_time)
			return;
	}
	next_lane = next_key = PG_INT64_MIN;
}

bool
eduai_queue_lane_sweep(void)
{
	Sweep s = {.until_us = PG_INT64_MAX};
	int64 began_us = eduai_core_mono_us();

	s.db = eduai_queue_lane_discover();
	if (remember_prepared(s.db) || some_ended())
		s.db->all = true;
	if (!s.db->all && !s.db->missed && began_us < rest_until_us)
		return false;
	/* set again when there still is no room */
	s.db->missed = false;
	if (s.db->all)
		next_lane = next_key = PG_INT64_MIN;
	else
		s.until_us = began_us + SLICE_US;
	/* each version of each row, so that the clock is looked at among dead ones, too */
	eduai_core_table_open(&s.scan, &eduai_queue_lane_table, SnapshotAny, 2);
	read_lanes(&s);
	eduai_core_scan_close(&s.scan);
	s.db->all = false;
	rest_until_us = began_us + REST * (eduai_core_mono_us() - began_us);
	return s.found;
}
