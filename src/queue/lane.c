/*
 * lane.c: what transactions say about lanes.  See lane.h.
 *
 * Announcements are collected in an array in TopTransactionContext, each with
 * its lane pinned, so that the callbacks have nothing to allocate or to look
 * up.  Those of a subtransaction are at the array's end while it runs: what its
 * end means for them costs no more than they are.
 *
 * A claim's tasks are given back as one range a scan: the range has been looked
 * at by this very scan, so that looking at it again costs no more.
 *
 * Without preload nothing is announced, and keys are the wall clock's.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "core/clock.h"
#include "core/xact.h"
#include "queue/catalog.h"
#include "queue/lane_internal.h"
#include "queue/lane_wait.h"
#include "queue/queue.h"
#include "utils/memutils.h"

typedef struct Announcement
{
	int lane;   /* pinned, or LANE_NONE: it found no room */
	bool taken; /* else made ready */
	bool by_gateway;
	uint32 scan; /* of a taken one: 0, or the scan that took it */
	SubTransactionId subxact;
	int64 first;
	int64 last;
} Announcement;

/* of this transaction; in TopTransactionContext */
static Announcement *announcements = NULL;
static int nannouncements = 0;
static int room = 0;

static int64 next_key = 0; /* greater than all that this backend has given */
static int64 first_key = 0;

/* ---- collecting ---- */

static Announcement *
announce(const LaneName *name)
{
	const TaskType *type = eduai_queue_type(name->task_type);
	LaneIdentity identity;
	Announcement *a;

	(void) eduai_queue_lane_discover();
	if (nannouncements == room)
	{
		int more = room ? room * 2 : 32;
		Announcement *grown =
			MemoryContextAllocHuge(TopTransactionContext, sizeof(Announcement) * more);

		if (nannouncements > 0)
			memcpy(grown, announcements, sizeof(Announcement) * nannouncements);
		announcements = grown;
		room = more;
	}
	eduai_queue_lane_identity(name, &identity);
	a = &announcements[nannouncements];
	a->lane = eduai_queue_lane_pin(&identity);
	a->by_gateway = type == NULL || type->by_gateway;
	a->scan = 0;
	a->subxact = GetCurrentSubTransactionId();
	nannouncements++;
	return a;
}

/* Does the key follow what was announced last, of the same lane? */
static bool
extends_last(const LaneName *name, int64 key, bool with_gaps)
{
	const Announcement *a = nannouncements > 0 ? &announcements[nannouncements - 1] : NULL;

	return a != NULL && !a->taken && (with_gaps ? a->last < key : a->last + 1 == key) &&
		   a->lane != LANE_NONE && a->subxact == GetCurrentSubTransactionId() &&
		   eduai_queue_lanes->lanes[a->lane].hash ==
			   eduai_queue_lane_hash(name->tenant, name->task_type, name->model, name->priority);
}

static void
ready(const LaneName *name, int64 key, bool with_gaps)
{
	Announcement *a;

	if (eduai_queue_lanes == NULL)
		return;
	if (extends_last(name, key, with_gaps))
	{
		announcements[nannouncements - 1].last = key;
		return;
	}
	a = announce(name);
	a->taken = false;
	a->first = a->last = key;
	if (a->by_gateway)
		eduai_queue_wake_at_commit();
}

void
eduai_queue_lane_ready(const LaneName *name, int64 key)
{
	ready(name, key, false);
}

void
eduai_queue_lane_ready_among(const LaneName *name, int64 key)
{
	ready(name, key, true);
}

void
eduai_queue_lane_taken(const LaneName *name, int64 key)
{
	Announcement *a;

	if (eduai_queue_lanes == NULL)
		return;
	a = announce(name);
	a->taken = true;
	a->first = a->last = key;
}

void
eduai_queue_lane_taken_by_scan(const LaneName *name, int64 key, uint32 scan)
{
	Announcement *last = nannouncements > 0 ? &announcements[nannouncements - 1] : NULL;

	if (last != NULL && last->taken && last->scan == scan &&
		last->subxact == GetCurrentSubTransactionId())
	{
		last->last = Max(last->last, key);
		return;
	}
	eduai_queue_lane_taken(name, key);
	announcements[nannouncements - 1].scan = scan;
}

/* ---- what became of them ---- */

/* the tasks can be had: wakes who may wait for them */
static void
publish(const Announcement *a)
{
	const Lane *lane;

	if (a->lane == LANE_NONE)
	{
		eduai_queue_lane_missed();
		return;
	}
	eduai_queue_lane_add(a->lane, a->first, a->last);
	/* pinned: it is still the same lane */
	lane = &eduai_queue_lanes->lanes[a->lane];
	if (!a->by_gateway)
		eduai_queue_lane_wake(lane->tenant, lane->task_type);
	else if (a->taken)
		eduai_queue_wake_now();
}

static void
finish(int from, bool ready)
{
	for (int i = from; i < nannouncements; i++)
	{
		Announcement *a = &announcements[i];

		if (a->taken != ready)
			publish(a);
		if (a->lane != LANE_NONE)
			eduai_queue_lane_unpin(a->lane);
	}
	nannouncements = from;
}

static void
forget(void)
{
	announcements = NULL;
	nannouncements = 0;
	room = 0;
}

static void
on_commit(void)
{
	finish(0, true);
	forget();
}

static void
on_abort(void)
{
	if (eduai_queue_lanes != NULL)
		eduai_queue_lane_let_go(InvalidSubTransactionId);
	finish(0, false);
	forget();
}

/* the session that ends it may be another: the sweep looks for what it did */
static void
on_prepare(void)
{
	if (nannouncements > 0)
		eduai_queue_lane_prepared(GetTopTransactionIdIfAny());
	for (int i = 0; i < nannouncements; i++)
		if (announcements[i].lane != LANE_NONE)
			eduai_queue_lane_unpin(announcements[i].lane);
	forget();
}

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	int from = nannouncements;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	while (from > 0 && announcements[from - 1].subxact == mine)
	{
		from--;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			announcements[from].subxact = parent;
	}
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		return;
	if (eduai_queue_lanes != NULL)
		eduai_queue_lane_let_go(mine);
	finish(from, false);
}

void
eduai_queue_lane_init(void)
{
	/* before the worker hook, which wakes the dispatcher that looks at the lanes */
	static const EduaiXactHooks hooks = {.name = "lanes",
										 .rank = EDUAI_RANK_QUEUE,
										 .commit = on_commit,
										 .abort = on_abort,
										 .prepare = on_prepare,
										 .subxact = on_subxact};

	eduai_queue_lane_shared_init();
	eduai_queue_lane_wait_init();
	eduai_core_xact_register(&hooks);
}

/* ---- keys ---- */

int64
eduai_queue_steady_us(void)
{
	/* what a standby finds out would be wrong once it is promoted */
	if (eduai_queue_lanes == NULL || RecoveryInProgress())
		return eduai_core_now();
	return eduai_queue_lane_discover()->base_us + eduai_core_mono_us();
}

int64
eduai_queue_lane_key(int nth)
{
	if (nth == 0)
		first_key = Max(eduai_queue_steady_us() * EDUAI_LANE_KEY_STEP, next_key);
	next_key = first_key + nth + 1;
	return first_key + nth;
}
