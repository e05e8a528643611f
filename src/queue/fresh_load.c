/*
 * fresh_load.c: fresh tasks as the tables tell them.  See fresh.h.
 *
 * A load goes through the requests from fresh_from on, tenant by tenant, and lists
 * those that have no row of task_live and none of task_end: after a server start,
 * after a rewrite of task_request, after ids were drawn elsewhere (a restore).  What
 * is listed already is told where its request lies now; what is listed and was not
 * found is forgotten.  Each look is at the rows as they are then.  A task whose row
 * is not committed, of a prepared transaction, is looked at again later.
 *
 * Whoever gives a task its row that is not listed holds the listing's lock to the end
 * of his transaction; a load does without those tasks that it cannot exclude.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/privilege.h"
#include "miscadmin.h"
#include "queue/fresh_internal.h"
#include "queue/lane_wait.h"
#include "queue/queue.h"
#include "queue/store_internal.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Reads the rows of a table that a tenant has, in the order of their ids. */
typedef struct Reader
{
	EduaiScan scan;
	int id_column;
	int64 task_id;       /* of the row that it is at; PG_INT64_MAX: at the end */
	SnapshotData *dirty; /* reads rows that are not committed, too; or NULL */
	bool undecided;      /* such a one */
} Reader;

/* The requests of a tenant, and which of them have another row. */
typedef struct Readers
{
	EduaiTasks *tasks;
	SnapshotData dirty;
	Reader requests;
	Reader live;
	Reader ends;
} Readers;

typedef struct Load
{
	LaneDatabase *db;
	Readers r;
	bool first;        /* nobody can have started or ended a task meanwhile */
	MemoryContext row; /* reset after each */
	int64 from;
	int64 now_us;   /* of the steady clock */
	int64 last_key; /* of the tenant */
	bool may_list;
	bool found;
} Load;

/* ---- fresh_from ---- */

int64
eduai_queue_fresh_from(void)
{
	Oid relid = get_relname_relid("fresh_from", eduai_core_schema());
	Relation rel;
	TableScanDesc scan;
	TupleTableSlot *slot;
	int64 from = PG_INT64_MAX;

	if (!OidIsValid(relid))
		return 0;
	rel = table_open(relid, AccessShareLock);
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, SnapshotSelf, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		slot_getallattrs(slot);
		/* of several, one came with a restore */
		from = Min(from, DatumGetInt64(slot->tts_values[0]));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return from == PG_INT64_MAX ? 0 : from;
}

/* ---- reading side by side ---- */

static void
open_reader(Readers *r, Reader *reader, TaskTable table, TaskIndex pkey, Snapshot snapshot)
{
	eduai_core_scan_begin(&reader->scan, eduai_queue_tasks_table(r->tasks, table),
						  eduai_queue_tasks_index(r->tasks, pkey), snapshot, 2);
	reader->id_column = table == TABLE_LIVE ? LIVE_TASK_ID : 1;
}

static void
open_readers(Readers *r)
{
	r->tasks = eduai_queue_tasks_open();
	InitDirtySnapshot(r->dirty);
	open_reader(r, &r->requests, TABLE_REQUEST, REQUEST_PKEY, SnapshotSelf);
	open_reader(r, &r->live, TABLE_LIVE, LIVE_PKEY, &r->dirty);
	open_reader(r, &r->ends, TABLE_END, END_PKEY, SnapshotSelf);
	r->live.dirty = &r->dirty;
}

static void
close_readers(Readers *r)
{
	eduai_core_scan_close(&r->requests.scan);
	eduai_core_scan_close(&r->live.scan);
	eduai_core_scan_close(&r->ends.scan);
	eduai_queue_tasks_close(r->tasks);
}

static void
advance(Reader *reader)
{
	reader->task_id = eduai_core_scan_next(&reader->scan, ForwardScanDirection)
						  ? DatumGetInt64(reader->scan.slot->tts_values[reader->id_column])
						  : PG_INT64_MAX;
	reader->undecided = reader->dirty != NULL && TransactionIdIsValid(reader->dirty->xmin);
}

static void
seek(Reader *reader, StrategyNumber strategy, Oid function, const char *tenant, int64 from)
{
	ScanKeyData keys[2];

	ScanKeyEntryInitialize(&keys[0], 0, 1, strategy, TEXTOID, C_COLLATION_OID, function,
						   CStringGetTextDatum(tenant));
	eduai_core_key_int8(&keys[1], 2, BTGreaterEqualStrategyNumber, from);
	eduai_core_scan_seek(&reader->scan, keys);
	advance(reader);
}

static void
seek_tenant(Readers *r, const char *tenant, int64 from)
{
	seek(&r->requests, BTEqualStrategyNumber, F_TEXTEQ, tenant, from);
	seek(&r->live, BTEqualStrategyNumber, F_TEXTEQ, tenant, from);
	seek(&r->ends, BTEqualStrategyNumber, F_TEXTEQ, tenant, from);
}

/* Has the request that "requests" is at another row? */
static bool
has_row(Readers *r)
{
	int64 task_id = r->requests.task_id;

	while (r->live.task_id < task_id)
		advance(&r->live);
	while (r->ends.task_id < task_id)
		advance(&r->ends);
	return r->live.task_id == task_id || r->ends.task_id == task_id;
}

/* ---- one request ---- */

/*
 * Each look is at another moment: a task that ends after the first look has its end
 * at the second; one that is taken back after that has its row at the third.
 */
static bool
has_row_now(EduaiTasks *tasks, const char *tenant, int64 task_id)
{
	return eduai_queue_lives(tasks, tenant, task_id) ||
		   eduai_queue_end_state(tasks, tenant, task_id) != NULL ||
		   eduai_queue_lives(tasks, tenant, task_id);
}

static int64
next_key(Load *w, TimestampTz enqueued_at)
{
	int64 key = Min(enqueued_at, w->now_us) * EDUAI_LANE_KEY_STEP;

	w->last_key = Max(key, w->last_key + 1);
	return w->last_key;
}

/* false when there is no room */
static bool
list(Load *w, const LiveTask *task)
{
	LaneName name = {task->tenant, task->task_type, task->model, task->priority};
	int64 key = next_key(w, task->run_at);
	LaneIdentity identity;
	int lane;
	int place;

	eduai_queue_lane_identity(&name, &identity);
	lane = eduai_queue_lane_pin(&identity);
	if (lane == LANE_NONE)
		return false;
	place = eduai_queue_fresh_place(lane, key, task->task_id);
	if (place != FRESH_NONE)
	{
		eduai_queue_fresh->tasks[place].load = w->db->loads;
		eduai_queue_fresh_name(place, task->task_id, &task->request);
		eduai_queue_fresh_ready(place);
	}
	eduai_queue_lane_unpin(lane);
	if (place != FRESH_NONE)
		eduai_queue_lane_wake(identity.tenant, identity.task_type);
	w->found |= place != FRESH_NONE;
	return place != FRESH_NONE;
}

/* the request that is read; false when the load is to end */
static bool
look_at(Load *w, const char *tenant)
{
	int64 task_id = w->r.requests.task_id;
	ItemPointerData request = w->r.requests.scan.slot->tts_tid;
	LiveTask task;

	if (!w->first && eduai_queue_fresh_seen(task_id, &request, w->db->loads))
		return true;
	if (has_row(&w->r))
	{
		w->db->unlisted |= w->r.live.task_id == task_id && w->r.live.undecided;
		return true;
	}
	if (!w->first && has_row_now(w->r.tasks, tenant, task_id))
		return true;
	eduai_queue_request_live_of(w->r.requests.scan.slot, &task);
	if (w->may_list && list(w, &task))
		return true;
	w->db->unlisted = true;
	return false;
}

/* ---- all of them ---- */

/* false when the load is to end */
static bool
load_tenant(Load *w, const char *tenant)
{
	bool more = true;

	w->last_key = PG_INT64_MIN;
	for (seek_tenant(&w->r, tenant, w->from); more && w->r.requests.task_id != PG_INT64_MAX;
		 advance(&w->r.requests))
	{
		MemoryContext old = MemoryContextSwitchTo(w->row);

		more = look_at(w, tenant);
		MemoryContextSwitchTo(old);
		MemoryContextReset(w->row);
	}
	return more;
}

static bool
load_all(Load *w)
{
	Reader *requests = &w->r.requests;
	char *tenant = pstrdup("");
	bool more = true;

	while (more)
	{
		seek(requests, BTGreaterStrategyNumber, F_TEXT_GT, tenant, PG_INT64_MIN);
		if (requests->task_id == PG_INT64_MAX)
			break;
		tenant = TextDatumGetCString(requests->scan.slot->tts_values[0]);
		more = load_tenant(w, tenant);
	}
	return more;
}

static void
run_load(LaneDatabase *db, bool may_list)
{
	Load w = {.db = db, .may_list = may_list, .first = !OidIsValid(db->relation)};

	db->loads++;
	db->moved = db->unlisted = false;
	w.from = eduai_queue_fresh_from();
	w.now_us = db->base_us + eduai_core_mono_us();
	w.row = AllocSetContextCreate(CurrentMemoryContext, "eduai fresh row", ALLOCSET_DEFAULT_SIZES);
	open_readers(&w.r);
	/* what was not looked at may be there */
	if (load_all(&w))
		eduai_queue_fresh_drop(MyDatabaseId, db->loads);
	close_readers(&w.r);
	MemoryContextDelete(w.row);
	if (w.found)
		eduai_queue_wake_now();
}

void
eduai_queue_fresh_lock_listing(void)
{
	(void) eduai_core_lock(EDUAI_LOCK_LISTING, eduai_core_lock_key("", "fresh"), false);
}

void
eduai_queue_fresh_load(LaneDatabase *db)
{
	uint64 key = eduai_core_lock_key("", "fresh");
	bool may_list;

	if (eduai_queue_fresh == NULL)
		return;
	may_list = eduai_core_lock_session(EDUAI_LOCK_LISTING, key, true);
	PG_TRY();
	{
		eduai_queue_fresh_count_drawn(db);
		run_load(db, may_list);
	}
	PG_FINALLY();
	{
		if (may_list)
			eduai_core_unlock_session(EDUAI_LOCK_LISTING, key);
	}
	PG_END_TRY();
}

/* ---- counting ---- */

int64
eduai_queue_fresh_count(const char *tenant)
{
	Readers r = {0};
	int64 n = 0;

	open_readers(&r);
	for (seek_tenant(&r, tenant, eduai_queue_fresh_from()); r.requests.task_id != PG_INT64_MAX;
		 advance(&r.requests))
		n += has_row(&r) ? 0 : 1;
	close_readers(&r);
	return n;
}
