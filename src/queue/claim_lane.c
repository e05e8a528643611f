/*
 * claim_lane.c: taking tasks from one lane.  See claim.h, lane.h.
 *
 * Rows are read as they are now, not by a snapshot, and written without waiting.
 * What cannot be had is passed over: somebody will announce it again.  Only a row
 * that is locked, not written, has nobody to do that (SELECT ... FOR UPDATE by a
 * superuser): it becomes a stray, and is looked at again by the next claim.
 *
 * A task starts in shared memory first (slot, key), then the router places it,
 * then its row is written; each step is taken back when a later one fails.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/pause.h"
#include "core/worker.h"
#include "miscadmin.h"
#include "queue/claim_internal.h"
#include "queue/dependency.h"
#include "queue/event.h"
#include "queue/fresh.h"
#include "queue/running.h"
#include "queue/sensitive.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static uint32 scans = 0; /* numbers this backend's scans */

/* ---- one row ---- */

static bool
is_ready(const TupleTableSlot *slot)
{
	text *state = DatumGetTextPP(slot->tts_values[LIVE_STATE]);

	return VARSIZE_ANY_EXHDR(state) == 5 && memcmp(VARDATA_ANY(state), "ready", 5) == 0;
}

static bool
is_expired(const Claim *c, const TupleTableSlot *slot)
{
	return !slot->tts_isnull[LIVE_EXPIRES_AT] &&
		   DatumGetTimestampTz(slot->tts_values[LIVE_EXPIRES_AT]) <= c->now;
}

/* what this transaction made ready is announced at its commit; what it claimed may come again */
static bool
is_own(TupleTableSlot *slot)
{
	HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, NULL);

	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
}

/* the row's own columns rule: a lane is but a number */
static bool
is_asked_for(const Claim *c, const ClaimPool *pool, const LiveTask *live)
{
	if (c->order->tenant != NULL && strcmp(c->order->tenant, live->tenant) != 0)
		return false;
	for (int i = 0; i < c->ntypes; i++)
		if (strcmp(c->types[i].name, live->task_type) == 0)
			return &c->pools[c->types[i].pool] == pool;
	return false;
}

/*
 * What it was asked to do; false when somebody has deleted that.  The
 * dispatcher's calls end one by one, so each has a context of its own.
 */
static bool
read_request(Claim *c, const LiveTask *live)
{
	ClaimedTask *t = &c->claimed[c->got];
	AskedTask asked;
	MemoryContext old;
	bool found;

	t->context = c->order->by_gateway
					 ? AllocSetContextCreate(c->parent, "eduai call", ALLOCSET_DEFAULT_SIZES)
					 : c->parent;
	old = MemoryContextSwitchTo(t->context);
	found = eduai_queue_request_find(c->tasks, live->tenant, live->task_id, &live->request, true,
									 &asked);
	t->parents =
		found && asked.has_parents ? eduai_queue_parents(live->tenant, live->task_id) : NULL;
	MemoryContextSwitchTo(old);
	if (!found)
	{
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("task %lld has no request and is not started", (long long) live->task_id),
				 errdetail("eduai.task_live has its row, eduai.task_request has not.")));
		return false;
	}
	t->user_id = asked.user_id;
	t->timeout_ms = asked.timeout_ms;
	t->payload = asked.payload;
	t->metadata = asked.metadata;
	return true;
}

/* what is sealed in it, for whoever runs it */
static bool
open_request(Claim *c, const LiveTask *live, Routing *routing)
{
	ClaimedTask *t = &c->claimed[c->got];
	MemoryContext old = MemoryContextSwitchTo(t->context);

	t->payload = eduai_queue_open_json(live->tenant, t->user_id, live->task_type, t->payload,
									   c->order->role);
	if (t->parents != NULL)
		t->parents = eduai_queue_open_parents(live->tenant, t->parents, c->order->role);
	MemoryContextSwitchTo(old);
	if (eduai_core_json_is_object(t->payload) || OidIsValid(c->order->role))
		return true;
	routing->code = "payload_sealed";
	routing->message = "the payload is sealed and the learner has no key any more";
	return false;
}

static void
fill_claimed(Claim *c, const ClaimPool *pool, const LiveTask *live, const char *instance)
{
	ClaimedTask *t = &c->claimed[c->got];
	MemoryContext old = MemoryContextSwitchTo(t->context);

	t->task_id = live->task_id;
	t->tid = live->tuple->t_self;
	t->attempt = live->attempt + 1;
	t->tenant = pstrdup(live->tenant);
	t->task_type = pstrdup(live->task_type);
	t->pool = pstrdup(pool->pool.name);
	t->instance = instance ? pstrdup(instance) : NULL;
	t->model = live->model ? pstrdup(live->model) : NULL;
	t->priority = live->priority;
	MemoryContextSwitchTo(old);
}

/* a fresh task's row comes as that of its first attempt */
static void
insert_attempt(Claim *c, LiveTask *live, const char *instance)
{
	const ClaimOrder *order = c->order;

	live->state = "running";
	live->attempt++;
	live->started_at = c->now;
	live->instance = (char *) instance;
	live->worker_name = (char *) order->worker_name;
	live->worker = order->by_gateway ? eduai_core_worker_epoch() : 0;
	live->lease_ms = order->by_gateway ? 0 : order->lease_ms;
	live->unplaced = true;
	eduai_queue_live_write(c->tasks, live);
	live->attempt--;
}

/* writes the attempt; false when the row was not to be had */
static bool
write_attempt(Claim *c, LiveTask *live, const char *instance)
{
	const ClaimOrder *order = c->order;
	LiveChange change = {0};

	/* an update makes an event of its own */
	if (live->tuple == NULL && eduai_queue_event_of_enqueue())
		eduai_queue_claim_write_fresh(c, live);
	if (live->tuple == NULL)
	{
		insert_attempt(c, live, instance);
		return true;
	}

	eduai_queue_change_text(&change, LIVE_STATE, "running");
	eduai_queue_change_to(&change, LIVE_ATTEMPT, Int32GetDatum(live->attempt + 1));
	eduai_queue_change_to(&change, LIVE_STARTED_AT, TimestampTzGetDatum(c->now));
	eduai_queue_change_text(&change, LIVE_INSTANCE, instance);
	eduai_queue_change_text(&change, LIVE_WORKER_NAME, order->worker_name);
	if (order->by_gateway)
	{
		eduai_queue_change_to(&change, LIVE_WORKER, Int64GetDatum(eduai_core_worker_epoch()));
		eduai_queue_change_null(&change, LIVE_LEASE_MS);
	}
	else
	{
		eduai_queue_change_null(&change, LIVE_WORKER);
		eduai_queue_change_to(&change, LIVE_LEASE_MS, Int64GetDatum(order->lease_ms));
	}
	return eduai_queue_live_update(c->tasks, live, &change, false) == WRITE_DONE;
}

/* what was fresh goes back to its place by itself */
static void
say_taken(const LiveTask *live)
{
	LaneName name = {live->tenant, live->task_type, live->model, live->priority};

	if (live->fresh)
		return;
	eduai_queue_lane_taken_by_scan(&name, live->ready_key, scans);
	CommandCounterIncrement();
}

/* out of the lane until the key is free; the dispatcher puts it back */
static RowEnd
hold_back(Claim *c, LiveTask *live)
{
	LiveChange change = {0};
	uint64 hash = eduai_queue_key_hash(live->tenant, live->concurrency_key);

	if (c->held >= CLAIM_MOST_HELD)
		return ROW_BLOCKS;
	eduai_queue_claim_write_fresh(c, live);
	eduai_queue_key_held(live->tenant, live->concurrency_key);
	eduai_queue_change_to(&change, LIVE_HELD, BoolGetDatum(true));
	eduai_queue_change_to(&change, LIVE_HELD_KEY, Int64GetDatum((int64) hash));
	eduai_queue_change_null(&change, LIVE_LANE);
	if (eduai_queue_live_update(c->tasks, live, &change, false) != WRITE_DONE)
		return ROW_PASSED;
	say_taken(live);
	c->held++;
	return ROW_PASSED;
}

/* the router does not start it */
static RowEnd
leave_out(Claim *c, LiveTask *live, RouteVerdict verdict, const Routing *routing)
{
	bool written = false;

	if (verdict == ROUTE_FULL || c->held >= CLAIM_MOST_HELD)
		return ROW_BLOCKS;
	eduai_queue_claim_write_fresh(c, live);
	if (verdict == ROUTE_DEFER)
		written = eduai_queue_claim_defer(c, live, routing);
	else
		written = eduai_queue_claim_refuse(c, live, routing);
	if (written)
		say_taken(live);
	return ROW_PASSED;
}

/* routes and writes a task that has started in shared memory and was read */
static RowEnd
place(Claim *c, const ClaimPool *pool, LiveTask *live)
{
	const ClaimedTask *read = &c->claimed[c->got];
	Candidate candidate = {.task_id = live->task_id,
						   .tenant = live->tenant,
						   .task_type = live->task_type,
						   .model = live->model,
						   .failed_last = live->instance,
						   .priority = live->priority,
						   .attempt = live->attempt + 1,
						   .attempt_base = live->attempt_base,
						   .timeout_ms = read->timeout_ms,
						   .run_at = live->run_at,
						   .expires_at = live->expires_at,
						   .user_id = read->user_id,
						   .payload = read->payload,
						   .metadata = read->metadata,
						   .parents = read->parents,
						   .error = live->error};
	Routing routing = {0};
	const char *instance;
	RouteVerdict verdict = ROUTE_TO;

	verdict = eduai_queue_may_start(&candidate, &routing, c->now);
	if (verdict == ROUTE_TO && !open_request(c, live, &routing))
		verdict = ROUTE_REFUSE;
	if (verdict != ROUTE_TO)
		return leave_out(c, live, verdict, &routing);
	candidate.payload = read->payload;
	candidate.parents = read->parents;
	if (c->order->route != NULL)
		verdict = c->order->route(c->order->arg, &candidate, &routing);
	if (verdict != ROUTE_TO)
		return leave_out(c, live, verdict, &routing);
	instance = routing.instance;
	if (!write_attempt(c, live, instance))
	{
		if (c->order->unroute != NULL)
			c->order->unroute(c->order->arg, &candidate, instance);
		return ROW_PASSED;
	}
	eduai_queue_running_placed(&live->tuple->t_self, c->claimed[c->got].timeout_ms);
	say_taken(live);
	fill_claimed(c, pool, live, instance);
	c->got++;
	return ROW_TAKEN;
}

static RowEnd
place_or_take_back(Claim *c, const ClaimPool *pool, LiveTask *live)
{
	const ClaimedTask *t = &c->claimed[c->got];
	RowEnd end = ROW_PASSED;

	EDUAI_PAUSE("claim-started");
	CHECK_FOR_INTERRUPTS();
	if (read_request(c, live))
		end = place(c, pool, live);
	if (end == ROW_TAKEN)
		return end;
	if (t->context != c->parent)
		MemoryContextDelete(t->context);
	eduai_queue_running_take_back(live->task_id, live->attempt + 1);
	return end;
}

RowEnd
eduai_queue_claim_start(Claim *c, const ClaimPool *pool, LiveTask *live)
{
	Attempt attempt = {.task_id = live->task_id,
					   .attempt = live->attempt + 1,
					   .pool = &pool->pool,
					   .tenant = live->tenant,
					   .priority = live->priority,
					   .concurrency_key = live->concurrency_key,
					   .worker = c->order->by_gateway ? -1 : c->order->worker,
					   .lease_ms = c->order->by_gateway ? 0 : c->order->lease_ms};

	if (!is_asked_for(c, pool, live))
		return ROW_PASSED;
	switch (eduai_queue_running_start(&attempt))
	{
		case START_OK:
			return place_or_take_back(c, pool, live);
		case START_NO_SLOT:
			return ROW_NO_SLOT;
		case START_KEY_BUSY:
			return hold_back(c, live);
		case START_TAKEN:
			return ROW_PASSED;
		case START_FULL:
			break;
	}
	return ROW_FULL;
}

/* the row that the scan is at */
static RowEnd
try_row(Claim *c, const ClaimPool *pool)
{
	HeapTuple tuple = ExecFetchSlotHeapTuple(c->scan.slot, false, NULL);
	LiveTask live;

	if (!is_ready(c->scan.slot) || is_expired(c, c->scan.slot) || is_own(c->scan.slot))
		return ROW_PASSED;
	if (!eduai_queue_lane_row_free(tuple))
		return HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_data->t_infomask) ? ROW_LOCKED : ROW_PASSED;
	eduai_queue_live_read(c->scan.slot, &live);
	live.slot = c->scan.slot;
	return eduai_queue_claim_start(c, pool, &live);
}

/* ---- one lane ---- */

bool
eduai_queue_claim_look(LaneScan *s, RowEnd end, int64 key)
{
	Claim *c = s->claim;

	switch (end)
	{
		case ROW_TAKEN:
			s->took++;
			eduai_queue_lane_clock_past(c->database, key);
			return true;
		case ROW_PASSED:
			return true;
		case ROW_LOCKED:
			c->locked = true;
			if (s->nlocked == CLAIM_MOST_LOCKED)
				break;
			s->locked[s->nlocked++] = key;
			return true;
		case ROW_FULL:
			c->full = true;
			break;
		case ROW_NO_SLOT:
			s->end = LANE_END_NO_SLOT;
			break;
		case ROW_BLOCKS:
			break;
	}
	s->over = true;
	return false;
}

/* what is to be done with the row's key: false when the scan ends before it */
static bool
look_at(LaneScan *s, int64 key)
{
	Claim *c = s->claim;
	MemoryContext old = MemoryContextSwitchTo(c->row);
	RowEnd end = try_row(c, s->pool);

	MemoryContextSwitchTo(old);
	MemoryContextReset(c->row);
	return eduai_queue_claim_look(s, end, key);
}

/* looks at a range of the lane, to "until"; returns the first key that it did not look at */
static int64
scan_range(LaneScan *s, int64 hash, const LaneHold *hold, int64 until)
{
	EduaiScan *scan = &s->claim->scan;
	ScanKeyData keys[3];

	if (scan->rel == NULL)
		eduai_core_table_open(scan, &eduai_queue_lane_table, SnapshotSelf, 3);
	scans++;
	eduai_core_key_int8(&keys[0], 1, BTEqualStrategyNumber, hash);
	eduai_core_key_int8(&keys[1], 2, BTGreaterEqualStrategyNumber, hold->first);
	eduai_core_key_int8(&keys[2], 2, BTLessEqualStrategyNumber, hold->last);
	eduai_core_scan_seek(scan, keys);
	while (eduai_core_scan_next(scan, ForwardScanDirection))
	{
		int64 key = DatumGetInt64(scan->slot->tts_values[LIVE_READY_KEY]);

		if (key > until)
			return key;
		/* the row after the last one taken tells whether there is more, and since when */
		if (s->took == s->most && !is_own(scan->slot))
			return key;
		if (s->took == s->most)
			continue;
		if (eduai_queue_lane_pass(key) && !look_at(s, key))
			return key;
	}
	return LANE_NO_KEY;
}

/* after the scan: it would find them again */
static void
add_locked(const LaneScan *s, int64 hash)
{
	int lane = s->nlocked > 0 ? eduai_queue_lane_find(hash) : LANE_NONE;

	/* a lane that made room since is found again by the sweep */
	if (lane == LANE_NONE)
		return;
	for (int i = 0; i < s->nlocked; i++)
		eduai_queue_lane_add(lane, s->locked[i], s->locked[i]);
	eduai_queue_lane_unpin(lane);
}

LaneEnd
eduai_queue_claim_lane(Claim *claim, const ClaimPool *pool, const LaneView *view, int most,
					   int *took)
{
	LaneScan s = {.claim = claim, .pool = pool, .most = most, .end = LANE_END_SPENT};
	bool helped = false;

	while (!s.over && s.took < most)
	{
		const LaneHold *hold = NULL;
		int64 indexed;
		int64 fresh;

		eduai_queue_lane_heads(view->lane, view->hash, &indexed, &fresh);
		if (!helped && indexed <= fresh)
			hold = eduai_queue_lane_hold(view->lane, view->hash);
		if (hold != NULL)
		{
			helped = !hold->duty;
			eduai_queue_lane_leave(scan_range(&s, view->hash, hold, fresh));
		}
		else if (fresh != LANE_NO_KEY)
			eduai_queue_claim_fresh(&s, view, helped || indexed <= fresh ? LANE_NO_KEY : indexed);
		else
			break;
	}
	add_locked(&s, view->hash);
	if (s.took > 0)
		eduai_queue_lane_served(view->lane, view->hash);
	*took = s.took;
	return s.took == most ? LANE_END_MOST : s.end;
}
