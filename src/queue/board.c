/*
 * board.c: waiters and news in shared memory.  See board.h.
 *
 * The news of all databases share their places; each database has a list.  A
 * database takes a place only while it has no more than are free, so that one
 * whose dispatcher is slow or gone leaves room to the others.
 *
 * The lists are guarded by a spinlock, held for a few places at a time: they
 * are written from commit callbacks, where nothing may raise, allocate or wait.
 * What a transaction will tell is collected in an array of its own, allocated
 * while it still may fail, in the order of the calls.  So what a savepoint told
 * is at the array's end when it ends.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "queue/board.h"
#include "queue/output.h"
#include "queue/queue.h"
#include "storage/proclist.h"
#include "storage/spin.h"
#include "utils/memutils.h"

#define WAITER_BUCKETS 1024
#define PLACES         32768 /* 0.4 s of 40,000 completions a second for half of them */
#define DATABASES      64
#define AT_A_TIME      16 /* places written or read under the spinlock */
#define NO_PLACE       (-1)
#define MARK_UNKNOWN   UINT64CONST(1) /* after a server start: older than any transaction */

typedef struct News
{
	int32 next;
	EndedTask task;
} News;

typedef struct DatabaseNews
{
	Oid database; /* InvalidOid: free */
	int32 first;
	int32 last;
	int32 count;
	bool overflow;
	bool watched;          /* the dispatcher comes by itself in a moment */
	pg_atomic_uint64 mark; /* 0: none; else the next transaction id when it was set last */
} DatabaseNews;

typedef struct Board
{
	slock_t mutex; /* guards what follows but for the marks, up to waiters */
	int32 free;    /* list */
	int32 nfree;
	DatabaseNews databases[DATABASES];
	News places[PLACES];
	ConditionVariable waiters[WAITER_BUCKETS];
} Board;

typedef struct Announcement
{
	EndedTask task;
	SubTransactionId subxact;
	bool here; /* outside the dispatcher */
	bool lived;
} Announcement;

static Board *board = NULL;
static DatabaseNews *mine = NULL; /* this database's, once it was asked for */
static bool taken = false;        /* this transaction took news */

/* of this transaction; in TopTransactionContext */
static Announcement *announcements = NULL;
static int nannouncements = 0;
static int room = 0;

static const char *const ended_names[] = {
	[ENDED_COMPLETED] = "completed", [ENDED_DEAD] = "dead",       [ENDED_CANCELLED] = "cancelled",
	[ENDED_UNCERTAIN] = "uncertain", [ENDED_EXPIRED] = "expired", [BEGAN_WAITING] = "waiting"};

const char *
eduai_queue_ended_name(EndedHow how)
{
	return ended_names[how];
}

EndedHow
eduai_queue_ended_how(const char *state)
{
	for (int how = ENDED_COMPLETED; how <= ENDED_EXPIRED; how++)
		if (strcmp(ended_names[how], state) == 0)
			return how;
	elog(ERROR, "state \"%s\" is not final", state);
	return ENDED_DEAD; /* not reached */
}

static Size
board_size(void)
{
	return sizeof(Board);
}

static void
board_shmem_init(void *ptr)
{
	Board *b = ptr;

	memset(b, 0, sizeof(Board));
	SpinLockInit(&b->mutex);
	for (int i = 0; i < DATABASES; i++)
	{
		b->databases[i].first = b->databases[i].last = NO_PLACE;
		pg_atomic_init_u64(&b->databases[i].mark, MARK_UNKNOWN);
	}
	for (int i = 0; i < PLACES; i++)
		b->places[i].next = i + 1 < PLACES ? i + 1 : NO_PLACE;
	b->nfree = PLACES;
	for (int i = 0; i < WAITER_BUCKETS; i++)
		ConditionVariableInit(&b->waiters[i]);
}

/* this database's list, made if need be; NULL when there are too many: its sweep finds all */
static DatabaseNews *
my_news(void)
{
	if (mine != NULL || board == NULL)
		return mine;
	SpinLockAcquire(&board->mutex);
	for (int i = 0; i < DATABASES; i++)
	{
		DatabaseNews *d = &board->databases[i];

		if (d->database != MyDatabaseId && OidIsValid(d->database))
			continue;
		d->database = MyDatabaseId;
		mine = d;
		break;
	}
	SpinLockRelease(&board->mutex);
	return mine;
}

/* ---- telling ---- */

/* under the spinlock */
static void
append(const EndedTask *task, bool matters)
{
	int32 at = board->free;

	if (mine->count >= board->nfree)
	{
		mine->overflow |= matters;
		return;
	}
	board->free = board->places[at].next;
	board->nfree--;
	board->places[at].task = *task;
	board->places[at].next = NO_PLACE;
	if (mine->last != NO_PLACE)
		board->places[mine->last].next = at;
	else
		mine->first = at;
	mine->last = at;
	mine->count++;
}

/* whether more than a notification follows from it */
static bool
matters(const Announcement *a, bool marked)
{
	return marked || a->task.called || a->task.how == BEGAN_WAITING;
}

static void
tell(void)
{
	bool marked = pg_atomic_read_u64(&mine->mark) != 0;
	bool wake = false;

	for (int from = 0; from < nannouncements; from += AT_A_TIME)
	{
		int to = Min(from + AT_A_TIME, nannouncements);

		SpinLockAcquire(&board->mutex);
		for (int i = from; i < to; i++)
		{
			const Announcement *a = &announcements[i];

			if (!a->here || (!matters(a, marked) && !eduai_queue_notify_results))
				continue;
			append(&a->task, matters(a, marked));
			wake |= !mine->watched || matters(a, marked);
		}
		SpinLockRelease(&board->mutex);
	}
	/* the workers' hooks come after this one */
	if (wake)
		eduai_queue_wake_at_commit();
}

static void
forget(void)
{
	announcements = NULL;
	nannouncements = 0;
	room = 0;
	taken = false;
}

static void
on_commit(void)
{
	if (nannouncements > 0)
	{
		/* the end is visible; now who sleeps, or is about to and looks after this, is seen */
		pg_memory_barrier();
		for (int i = 0; i < nannouncements; i++)
		{
			ConditionVariable *cv = eduai_queue_board_waiters(announcements[i].task.task_id);

			eduai_queue_output_end(announcements[i].task.task_id);
			if (!proclist_is_empty(&cv->wakeup))
				ConditionVariableBroadcast(cv);
		}
		if (mine != NULL)
			tell();
	}
	forget();
}

static void
on_abort(void)
{
	if (taken && mine != NULL)
	{
		SpinLockAcquire(&board->mutex);
		mine->overflow = true;
		SpinLockRelease(&board->mutex);
	}
	forget();
}

static void
pre_prepare(void)
{
	for (int i = 0; i < nannouncements; i++)
		if (announcements[i].lived)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("cannot prepare a transaction that ended a task"),
							errdetail("Whoever waits for task %lld would not learn of its end.",
									  (long long) announcements[i].task.task_id)));
}

static void
on_subxact(SubXactEvent event, SubTransactionId ending, SubTransactionId parent)
{
	int first = nannouncements;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	while (first > 0 && announcements[first - 1].subxact >= ending)
		first--;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		nannouncements = first;
	for (int i = first; i < nannouncements; i++)
		announcements[i].subxact = parent;
}

void
eduai_queue_board_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_board",
										.size = board_size,
										.init = board_shmem_init,
										.address = (void **) &board};
	/* before the worker hook, which wakes the dispatcher that reads the news */
	static const EduaiXactHooks hooks = {.name = "board",
										 .rank = EDUAI_RANK_QUEUE,
										 .pre_prepare = pre_prepare,
										 .commit = on_commit,
										 .abort = on_abort,
										 .prepare = forget,
										 .subxact = on_subxact};

	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
}

ConditionVariable *
eduai_queue_board_waiters(int64 task_id)
{
	return &board->waiters[(uint64) task_id % WAITER_BUCKETS];
}

static Announcement *
announce(int64 task_id)
{
	Announcement *a;

	if (nannouncements == room)
	{
		int more = room ? room * 2 : 64;
		Announcement *grown =
			MemoryContextAllocHuge(TopTransactionContext, sizeof(Announcement) * more);

		if (nannouncements > 0)
			memcpy(grown, announcements, sizeof(Announcement) * nannouncements);
		announcements = grown;
		room = more;
	}
	(void) my_news();
	a = &announcements[nannouncements++];
	a->task.task_id = task_id;
	a->task.how = ENDED_COMPLETED;
	a->task.called = false;
	a->task.tenant[0] = '\0';
	a->subxact = GetCurrentSubTransactionId();
	a->here = a->lived = false;
	return a;
}

void
eduai_queue_board_ended(int64 task_id)
{
	if (board != NULL)
		(void) announce(task_id);
}

void
eduai_queue_board_ended_here(const char *tenant, int64 task_id, EndedHow how, bool called,
							 bool lived)
{
	Announcement *a;

	if (board == NULL)
		return;
	a = announce(task_id);
	a->task.how = how;
	a->task.called = called;
	strlcpy(a->task.tenant, tenant, NAMEDATALEN);
	a->here = true;
	a->lived = lived;
}

void
eduai_queue_board_waits(const char *tenant, int64 task_id)
{
	eduai_queue_board_ended_here(tenant, task_id, BEGAN_WAITING, false, false);
}

/* ---- the mark ---- */

void
eduai_queue_board_mark(void)
{
	DatabaseNews *news = my_news();
	uint64 old;
	uint64 now;

	if (news == NULL)
		return;
	/* with an id below the mark, this transaction keeps it until it has ended */
	(void) GetTopTransactionId();
	now = U64FromFullTransactionId(ReadNextFullTransactionId());
	old = pg_atomic_read_u64(&news->mark);
	while (old < now && !pg_atomic_compare_exchange_u64(&news->mark, &old, now))
		;
	pg_memory_barrier();
}

bool
eduai_queue_board_marked(void)
{
	return my_news() == NULL || pg_atomic_read_u64(&mine->mark) != 0;
}

uint64
eduai_queue_board_seen(void)
{
	return my_news() == NULL ? 0 : pg_atomic_read_u64(&mine->mark);
}

void
eduai_queue_board_unmark(uint64 seen, TransactionId oldest_running)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint64 oldest = U64FromFullTransactionId(next) -
					(TransactionId) (XidFromFullTransactionId(next) - oldest_running);

	if (my_news() == NULL || seen > oldest)
		return;
	(void) pg_atomic_compare_exchange_u64(&mine->mark, &seen, 0);
}

/* ---- taking ---- */

int
eduai_queue_board_take(EndedTask *tasks, int most, bool *overflow)
{
	int got = 0;
	int before;

	*overflow = false;
	if (my_news() == NULL)
		return 0;
	do
	{
		before = got;
		SpinLockAcquire(&board->mutex);
		while (mine->first != NO_PLACE && got < most && got - before < AT_A_TIME)
		{
			int32 at = mine->first;
			News *n = &board->places[at];

			tasks[got++] = n->task;
			mine->first = n->next;
			n->next = board->free;
			board->free = at;
			board->nfree++;
			mine->count--;
		}
		if (mine->first == NO_PLACE)
		{
			mine->last = NO_PLACE;
			mine->watched = got > 0;
		}
		*overflow |= mine->overflow;
		mine->overflow = false;
		SpinLockRelease(&board->mutex);
	} while (got - before == AT_A_TIME && got < most);
	if (got > 0 || *overflow)
		taken = true;
	return got;
}
