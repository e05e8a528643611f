/*
 * fresh.c: what transactions do with fresh tasks.  See fresh.h.
 *
 * A record for each place that this transaction has reserved or taken, in
 * TopTransactionContext, the lane pinned; those of a subtransaction are at the
 * array's end while it runs.  The callbacks have nothing to allocate or to look up.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "core/privilege.h"
#include "core/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "queue/event.h"
#include "queue/fresh_internal.h"
#include "queue/lane_wait.h"
#include "queue/queue.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

typedef enum FreshDeed
{
	DEED_ENQUEUED,
	DEED_WRITTEN, /* the row of a task that it enqueued itself */
	DEED_TAKEN
} FreshDeed;

typedef struct FreshRecord
{
	int place; /* FRESH_NONE: given back */
	FreshDeed deed;
	SubTransactionId subxact;
} FreshRecord;

/* of this transaction */
static FreshRecord *records = NULL;
static int nrecords = 0;
static int room = 0;
static LaneDatabase *database = NULL;

static FreshPlace *
place_of(const FreshRecord *r)
{
	return &eduai_queue_fresh->tasks[r->place];
}

static void
make_room(int n)
{
	int more = Max(32, room);
	FreshRecord *grown;

	if (nrecords + n <= room)
		return;
	while (more < nrecords + n)
		more *= 2;
	grown = MemoryContextAllocHuge(TopTransactionContext, sizeof(FreshRecord) * more);
	if (nrecords > 0)
		memcpy(grown, records, sizeof(FreshRecord) * nrecords);
	records = grown;
	room = more;
}

static void
record(int place, FreshDeed deed)
{
	records[nrecords++] = (FreshRecord){place, deed, GetCurrentSubTransactionId()};
}

/* ---- enqueuing ---- */

static bool
may_be_fresh(const TaskRequest *task)
{
	return eduai_queue_fresh != NULL && eduai_queue_fresh_most > 0 &&
		   strcmp(task->state, "ready") == 0 && task->unique_key == NULL &&
		   task->concurrency_key == NULL && task->expires_at == 0 &&
		   (task->depends_on == NULL || ARR_NDIM(task->depends_on) == 0) && !task->of_many &&
		   !eduai_queue_event_of_enqueue();
}

int
eduai_queue_fresh_reserve(const TaskRequest *task, const LaneName *name, int64 key)
{
	LaneIdentity identity;
	int lane;
	int place;

	if (!may_be_fresh(task))
		return FRESH_NONE;
	database = eduai_queue_lane_discover();
	make_room(1);
	eduai_queue_lane_identity(name, &identity);
	lane = eduai_queue_lane_pin(&identity);
	if (lane == LANE_NONE)
		return FRESH_NONE;
	place = eduai_queue_fresh_place(lane, key, (int64) pg_atomic_read_u64(&database->last_id) + 1);
	if (place == FRESH_NONE)
		eduai_queue_lane_unpin(lane);
	else
		record(place, DEED_ENQUEUED);
	return place;
}

void
eduai_queue_fresh_born(int place, int64 task_id, const ItemPointerData *request)
{
	FreshPlace *t = &eduai_queue_fresh->tasks[place];

	t->owner = GetCurrentTransactionId();
	t->state = FRESH_BORN;
	eduai_queue_fresh_name(place, task_id, request);
}

void
eduai_queue_fresh_write_own(int place)
{
	make_room(1);
	record(place, DEED_WRITTEN);
	eduai_queue_fresh->tasks[place].state = FRESH_WRITTEN;
}

/* ---- taking ---- */

int
eduai_queue_fresh_take(int lane, int64 hash, int64 before, FreshTask *tasks, int most)
{
	TransactionId owner = GetCurrentTransactionId();
	int n;

	database = eduai_queue_lane_discover();
	make_room(most);
	n = eduai_queue_fresh_pop(lane, hash, before, owner, tasks, most);
	for (int i = 0; i < n; i++)
		record(tasks[i].place, DEED_TAKEN);
	return n;
}

bool
eduai_queue_fresh_try(int place, int64 task_id, TransactionId *owner, FreshState *state)
{
	TransactionId mine = GetCurrentTransactionId();

	database = eduai_queue_lane_discover();
	make_room(1);
	*owner = mine;
	if (!eduai_queue_fresh_seize(place, task_id, owner, state))
		return false;
	record(place, DEED_TAKEN);
	return true;
}

void
eduai_queue_fresh_moved(void)
{
	database->moved = true;
}

/* into its lane again; its lane has one pin fewer */
static void
put_back(int place)
{
	int lane = eduai_queue_fresh->tasks[place].lane;

	eduai_queue_fresh_ready(place);
	eduai_queue_lane_unpin(lane);
}

void
eduai_queue_fresh_give_back(int place)
{
	for (int i = nrecords - 1; i >= 0; i--)
		if (records[i].place == place)
		{
			records[i].place = FRESH_NONE;
			break;
		}
	put_back(place);
}

/* ---- what became of them ---- */

/* whose tasks of a lane wait; read while it is pinned */
typedef struct Waking
{
	uint64 tenant;
	uint64 task_type;
} Waking;

static Waking
waking_of(int lane)
{
	const Lane *l = &eduai_queue_lanes->lanes[lane];

	return (Waking){l->tenant, l->task_type};
}

static void
free_place(int place)
{
	int lane = eduai_queue_fresh->tasks[place].lane;

	eduai_queue_fresh_free(place);
	eduai_queue_lane_unpin(lane);
}

/* what was enqueued can be had; "woken" is the lane for which somebody was woken last */
static void
committed(const FreshRecord *r, int *woken)
{
	int lane = place_of(r)->lane;
	Waking waking = waking_of(lane);

	if (r->deed == DEED_TAKEN || place_of(r)->state == FRESH_WRITTEN)
	{
		free_place(r->place);
		return;
	}
	place_of(r)->load = database->loads;
	put_back(r->place);
	/* who claims as many as he may wakes the next; the dispatcher is woken anyway */
	if (lane != *woken)
		eduai_queue_lane_wake(waking.tenant, waking.task_type);
	*woken = lane;
}

static void
forget(void)
{
	records = NULL;
	nrecords = room = 0;
}

static void
on_commit(void)
{
	int woken = LANE_NONE;

	for (int i = 0; i < nrecords; i++)
		if (records[i].place != FRESH_NONE && records[i].deed != DEED_WRITTEN)
			committed(&records[i], &woken);
	forget();
}

static void
aborted(const FreshRecord *r)
{
	Waking waking;

	if (r->place == FRESH_NONE)
		return;
	switch (r->deed)
	{
		case DEED_ENQUEUED:
			free_place(r->place);
			break;
		case DEED_WRITTEN:
			place_of(r)->state = FRESH_BORN;
			break;
		case DEED_TAKEN:
			waking = waking_of(place_of(r)->lane);
			put_back(r->place);
			/* whoever serves it: the other has nobody */
			eduai_queue_lane_wake(waking.tenant, waking.task_type);
			eduai_queue_wake_now();
			break;
	}
}

/* the last first, so that what one claim took is put back in order */
static void
undo(int from)
{
	while (nrecords > from)
		aborted(&records[--nrecords]);
}

static void
on_abort(void)
{
	undo(0);
	forget();
}

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	int from = nrecords;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	while (from > 0 && records[from - 1].subxact == mine)
	{
		from--;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			records[from].subxact = parent;
	}
	if (event == SUBXACT_EVENT_ABORT_SUB)
		undo(from);
}

/* ---- PREPARE TRANSACTION ---- */

static void
write_enqueued(EduaiTasks *tasks, int place)
{
	const FreshPlace *t = &eduai_queue_fresh->tasks[place];
	LiveTask task;

	/* else this very transaction has deleted it, too */
	if (!eduai_queue_request_live(tasks, &t->request, t->task_id, &task))
		return;
	eduai_queue_fresh_write(tasks, &task, t->key);
	eduai_queue_fresh_write_own(place);
}

/* whoever ends it, in whatever session: the rows say what it enqueued */
static void
before_prepare(void)
{
	EduaiPrivilege saved;
	EduaiTasks *tasks;
	int n = nrecords;

	if (n == 0)
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter(&saved);
	SPI_connect();
	tasks = eduai_queue_tasks_open();
	for (int i = 0; i < n; i++)
		if (records[i].place != FRESH_NONE && records[i].deed == DEED_ENQUEUED &&
			place_of(&records[i])->state == FRESH_BORN)
			write_enqueued(tasks, records[i].place);
	eduai_queue_tasks_close(tasks);
	SPI_finish();
	eduai_core_leave(&saved);
	PopActiveSnapshot();
	CommandCounterIncrement();
}

static void
on_prepare(void)
{
	TransactionId xid = GetTopTransactionIdIfAny();

	for (int i = 0; i < nrecords; i++)
	{
		FreshRecord *r = &records[i];

		if (r->place == FRESH_NONE || r->deed == DEED_WRITTEN)
			continue;
		if (r->deed == DEED_ENQUEUED)
			free_place(r->place);
		else
		{
			/* its lane stays pinned */
			place_of(r)->owner = xid;
			pg_write_barrier();
			place_of(r)->state = FRESH_PREPARED;
			pg_atomic_fetch_add_u32(&eduai_queue_fresh->prepared, 1);
		}
	}
	forget();
}

static void
settle_prepared(int place, TransactionId owner)
{
	FreshPlace *t = &eduai_queue_fresh->tasks[place];
	uint8 expected = FRESH_PREPARED;

	/* one of those who see that it has ended */
	if (!__atomic_compare_exchange_n(&t->state, &expected, FRESH_TAKEN, false, __ATOMIC_SEQ_CST,
									 __ATOMIC_SEQ_CST))
		return;
	pg_atomic_fetch_sub_u32(&eduai_queue_fresh->prepared, 1);
	if (TransactionIdDidCommit(owner))
		free_place(place);
	else
		put_back(place);
}

void
eduai_queue_fresh_settle_prepared(void)
{
	if (eduai_queue_fresh == NULL || pg_atomic_read_u32(&eduai_queue_fresh->prepared) == 0)
		return;
	for (int place = 0; place < eduai_queue_fresh_most; place++)
	{
		const FreshPlace *t = &eduai_queue_fresh->tasks[place];
		TransactionId owner = t->owner;

		if (t->state == FRESH_PREPARED &&
			eduai_queue_lanes->lanes[t->lane].database == MyDatabaseId &&
			!TransactionIdIsInProgress(owner))
			settle_prepared(place, owner);
	}
}

void
eduai_queue_fresh_init(void)
{
	/* after the attempts that a rollback takes back, before the worker hook that wakes the dispatcher */
	static const EduaiXactHooks hooks = {.name = "fresh tasks",
										 .rank = EDUAI_RANK_QUEUE,
										 .commit = on_commit,
										 .abort = on_abort,
										 .pre_prepare = before_prepare,
										 .prepare = on_prepare,
										 .subxact = on_subxact};

	eduai_queue_fresh_shared_init();
	eduai_core_xact_register(&hooks);
}
