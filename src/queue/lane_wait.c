/*
 * lane_wait.c: sessions that wait for tasks.  See lane_wait.h.
 *
 * A place for each backend, by its number, and a list of those that wait in the
 * order in which they began.  The mutex guards all of it; the list is as long as
 * sessions wait, and nobody takes the mutex while none does.
 *
 * Types are kept as a filter of 64 bits: a session may be woken for a type that
 * it does not want, and passes that on.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "queue/catalog.h"
#include "queue/lane_internal.h"
#include "queue/lane_wait.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* What may have become possible, and for whom. */
typedef struct Wake
{
	uint64 event;  /* events are numbered */
	uint64 tenant; /* 0: any */
	uint64 types;
	uint64 type;  /* the hash of the one; 0: none */
	uint64 pools; /* slots: who leaves one passes it on */
} Wake;

typedef struct Waiter
{
	int previous;
	int next;
	Oid database;
	bool waiting;
	bool woken;
	uint64 tenant;
	uint64 types;  /* a bit for each, by its hash */
	uint64 pools;  /* of these types */
	uint64 looked; /* the last event that its last look saw */
	Wake wake;     /* what it was woken for */
	bool reload;   /* the catalog changed, and its invalidation may be on its way */
} Waiter;

typedef struct Waiters
{
	pg_atomic_uint32 count;
	slock_t mutex; /* guards the rest */
	uint64 events;
	int first;
	int last;
	Waiter places[FLEXIBLE_ARRAY_MEMBER];
} Waiters;

static Waiters *waiters = NULL;
static int me = LANE_NONE;      /* this backend's place while it waits */
static Wake current;            /* what the look in progress was woken for */
static uint64 *my_types = NULL; /* hashes; in TopMemoryContext */
static int nmy_types = 0;
static uint64 wake_at_commit = 0; /* types */

static int
places(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

static Size
waiters_size(void)
{
	return add_size(offsetof(Waiters, places), mul_size(sizeof(Waiter), places()));
}

static void
waiters_shmem_init(void *ptr)
{
	Waiters *w = ptr;

	memset(w, 0, waiters_size());
	pg_atomic_init_u32(&w->count, 0);
	SpinLockInit(&w->mutex);
	w->first = w->last = LANE_NONE;
}

static uint64
bit_of(uint64 word)
{
	return UINT64CONST(1) << (word % 64);
}

/* with the mutex */
static void
unlink_waiter(int place)
{
	Waiter *w = &waiters->places[place];

	*(w->previous == LANE_NONE ? &waiters->first : &waiters->places[w->previous].next) = w->next;
	*(w->next == LANE_NONE ? &waiters->last : &waiters->places[w->next].previous) = w->previous;
	w->waiting = false;
	pg_atomic_fetch_sub_u32(&waiters->count, 1);
}

/* with the mutex */
static void
link_last(int place)
{
	Waiter *w = &waiters->places[place];

	w->previous = waiters->last;
	w->next = LANE_NONE;
	*(w->previous == LANE_NONE ? &waiters->first : &waiters->places[w->previous].next) = place;
	waiters->last = place;
	w->waiting = true;
	pg_atomic_fetch_add_u32(&waiters->count, 1);
}

static bool
wants(const Waiter *w, const Wake *wake)
{
	return w->database == MyDatabaseId && !w->woken && w->looked < wake->event &&
		   ((w->types & wake->types) != 0 || (w->pools & wake->pools) != 0) &&
		   (wake->tenant == 0 || w->tenant == wake->tenant);
}

/*
 * The announcement is in the lane before this looks, and a session is in the
 * list before it looks at the lanes: one of the two sees the other.  A wake that
 * is passed on keeps its number, and so comes to an end: nobody gets it who has
 * looked since.
 */
static void
wake_one(const Wake *wake)
{
	Wake mine = *wake;
	int found;

	if (waiters == NULL)
		return;
	pg_memory_barrier();
	if (pg_atomic_read_u32(&waiters->count) == 0)
		return;
	SpinLockAcquire(&waiters->mutex);
	if (mine.event == 0)
		mine.event = ++waiters->events;
	found = waiters->first;
	while (found != LANE_NONE && !wants(&waiters->places[found], &mine))
		found = waiters->places[found].next;
	if (found != LANE_NONE)
	{
		waiters->places[found].woken = true;
		waiters->places[found].wake = mine;
	}
	SpinLockRelease(&waiters->mutex);
	if (found != LANE_NONE)
		SetLatch(&ProcGlobal->allProcs[found].procLatch);
}

void
eduai_queue_lane_wake(uint64 tenant, uint64 task_type)
{
	wake_one(&(Wake){.tenant = tenant, .types = bit_of(task_type), .type = task_type});
}

uint64
eduai_queue_lane_pool_bit(const char *pool)
{
	return bit_of(eduai_queue_lane_word(pool));
}

void
eduai_queue_lane_wake_pools(uint64 pools)
{
	for (; pools != 0; pools &= pools - 1)
		wake_one(&(Wake){.pools = pools & -pools});
}

uint64
eduai_queue_lane_woken_pools(void)
{
	return me == LANE_NONE ? 0 : current.pools;
}

void
eduai_queue_lane_wake_next(void)
{
	if (eduai_queue_lane_woken_pools() != 0)
		wake_one(&current);
	current.pools = 0;
}

/* the places, not the list, so that no latch is set with the mutex held */
static void
wake_all(uint64 types)
{
	for (int place = 0; place < places(); place++)
	{
		Waiter *w = &waiters->places[place];
		bool wake = false;

		SpinLockAcquire(&waiters->mutex);
		if (w->waiting && w->database == MyDatabaseId && (w->types & types) != 0)
		{
			/* if it was woken for something else, that stays */
			if (!w->woken)
				w->wake = (Wake){0};
			wake = w->woken = w->reload = true;
		}
		SpinLockRelease(&waiters->mutex);
		if (wake)
			SetLatch(&ProcGlobal->allProcs[place].procLatch);
	}
}

void
eduai_queue_lane_wake_all_at_commit(const char *task_type)
{
	wake_at_commit |= bit_of(eduai_queue_lane_word(task_type));
}

void
eduai_queue_lane_wait_begin(const char *tenant, char *const *task_types, int n)
{
	uint64 types = 0;
	uint64 pools = 0;
	Waiter *w;

	eduai_core_require_preload("waiting for tasks");
	eduai_queue_lane_wait_end(true);
	if (my_types != NULL)
		pfree(my_types);
	my_types = NULL;
	nmy_types = 0;
	my_types = MemoryContextAlloc(TopMemoryContext, sizeof(uint64) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		const TaskType *type = eduai_queue_type(task_types[i]);

		my_types[nmy_types++] = eduai_queue_lane_word(task_types[i]);
		types |= bit_of(my_types[i]);
		if (type != NULL)
			pools |= bit_of(eduai_queue_lane_word(type->pool));
	}
	current = (Wake){0};
	me = eduai_my_proc_number();
	w = &waiters->places[me];
	SpinLockAcquire(&waiters->mutex);
	w->database = MyDatabaseId;
	w->woken = false;
	w->wake = (Wake){0};
	w->tenant = eduai_queue_lane_word(tenant);
	w->types = types;
	w->pools = pools;
	w->reload = false;
	w->looked = waiters->events;
	link_last(me);
	SpinLockRelease(&waiters->mutex);
	pg_memory_barrier();
}

static bool
is_mine(uint64 type)
{
	for (int i = 0; i < nmy_types; i++)
		if (my_types[i] == type)
			return true;
	return false;
}

/* takes the wake; a session that got one goes to the end of the list */
static bool
take_wake(void)
{
	Waiter *w = &waiters->places[me];
	bool woken;
	bool reload;

	SpinLockAcquire(&waiters->mutex);
	woken = w->woken;
	reload = w->reload;
	current = (Wake){0};
	w->looked = waiters->events;
	if (woken)
	{
		current = w->wake;
		w->woken = w->reload = false;
		unlink_waiter(me);
		link_last(me);
	}
	SpinLockRelease(&waiters->mutex);
	if (reload)
		eduai_queue_catalog_mark_stale();
	/* of another type with the same bit */
	if (current.type != 0 && !is_mine(current.type))
		wake_one(&current);
	return woken;
}

bool
eduai_queue_lane_waits(void)
{
	return me != LANE_NONE;
}

bool
eduai_queue_lane_wait(long timeout_ms)
{
	Assert(me != LANE_NONE);
	if (take_wake())
		return true;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return take_wake();
}

void
eduai_queue_lane_wait_end(bool satisfied)
{
	Waiter *w;
	Wake unused;
	bool woken;

	if (me == LANE_NONE)
		return;
	w = &waiters->places[me];
	SpinLockAcquire(&waiters->mutex);
	unlink_waiter(me);
	woken = w->woken && w->wake.event != 0;
	unused = w->wake;
	SpinLockRelease(&waiters->mutex);
	/* a slot is another's as well, whoever claimed what */
	if (woken && (!satisfied || unused.pools != 0))
		wake_one(&unused);
	if (!satisfied)
		eduai_queue_lane_wake_next();
	me = LANE_NONE;
}

static void
on_commit(void)
{
	eduai_queue_lane_wait_end(false);
	if (wake_at_commit != 0 && waiters != NULL)
		wake_all(wake_at_commit);
	wake_at_commit = 0;
}

static void
on_abort(void)
{
	eduai_queue_lane_wait_end(false);
	wake_at_commit = 0;
}

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		eduai_queue_lane_wait_end(false);
}

void
eduai_queue_lane_wait_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_lane_waiters",
										.size = waiters_size,
										.init = waiters_shmem_init,
										.address = (void **) &waiters};
	static const EduaiXactHooks hooks = {.name = "lane waiters",
										 .rank = EDUAI_RANK_QUEUE,
										 .commit = on_commit,
										 .abort = on_abort,
										 .subxact = on_subxact};

	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
}
