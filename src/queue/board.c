/*
 * board.c: waiters and tasks ended by sessions in shared memory.  See board.h.
 *
 * The ring is guarded by a spinlock: it is written from commit callbacks,
 * where nothing may raise or wait.  What a transaction will announce is
 * collected in an array of its own, allocated while it still may fail.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "miscadmin.h"
#include "queue/board.h"
#include "queue/queue.h"
#include "storage/spin.h"
#include "utils/memutils.h"

#define WAITER_BUCKETS 1024
#define RING_SIZE      1024

typedef struct Board
{
	slock_t mutex; /* guards what follows, up to waiters */
	uint32 count;
	struct
	{
		Oid database;
		EndedTask task;
	} ring[RING_SIZE];
	bool overflow;
	ConditionVariable waiters[WAITER_BUCKETS];
} Board;

typedef struct Announcement
{
	int64 task_id;
	SubTransactionId subxact; /* InvalidSubTransactionId: taken back */
	bool here;                /* outside the dispatcher */
	char tenant[NAMEDATALEN]; /* of a task ended here */
} Announcement;

static Board *board = NULL;

/* of this transaction; in TopTransactionContext */
static Announcement *announcements = NULL;
static int nannouncements = 0;
static int room = 0;

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
	for (int i = 0; i < WAITER_BUCKETS; i++)
		ConditionVariableInit(&b->waiters[i]);
}

static void
push(const Announcement *a)
{
	SpinLockAcquire(&board->mutex);
	if (board->count < RING_SIZE)
	{
		board->ring[board->count].database = MyDatabaseId;
		board->ring[board->count].task.task_id = a->task_id;
		strlcpy(board->ring[board->count].task.tenant, a->tenant, NAMEDATALEN);
		board->count++;
	}
	else
		board->overflow = true;
	SpinLockRelease(&board->mutex);
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
	for (int i = 0; i < nannouncements; i++)
	{
		if (announcements[i].subxact == InvalidSubTransactionId)
			continue;
		if (announcements[i].here)
			push(&announcements[i]);
		ConditionVariableBroadcast(eduai_queue_board_waiters(announcements[i].task_id));
	}
	forget();
}

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (int i = 0; i < nannouncements; i++)
		if (announcements[i].subxact == mine)
			announcements[i].subxact =
				event == SUBXACT_EVENT_COMMIT_SUB ? parent : InvalidSubTransactionId;
}

void
eduai_queue_board_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_board",
										.size = board_size,
										.init = board_shmem_init,
										.address = (void **) &board};
	/* before the worker hook, which wakes the dispatcher that reads the ring */
	static const EduaiXactHooks hooks = {.name = "board",
										 .rank = EDUAI_RANK_QUEUE,
										 .commit = on_commit,
										 .abort = forget,
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

static void
announce(int64 task_id, const char *here_tenant)
{
	if (board == NULL)
		return;
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
	announcements[nannouncements].task_id = task_id;
	announcements[nannouncements].subxact = GetCurrentSubTransactionId();
	announcements[nannouncements].here = here_tenant != NULL;
	strlcpy(announcements[nannouncements].tenant, here_tenant ? here_tenant : "", NAMEDATALEN);
	nannouncements++;
}

void
eduai_queue_board_ended(int64 task_id)
{
	announce(task_id, NULL);
}

void
eduai_queue_board_ended_here(const char *tenant, int64 task_id)
{
	announce(task_id, tenant);
	eduai_queue_wake_at_commit();
}

int
eduai_queue_board_take(EndedTask *tasks, int most, bool *overflow)
{
	int taken = 0;
	uint32 kept = 0;

	SpinLockAcquire(&board->mutex);
	for (uint32 i = 0; i < board->count; i++)
	{
		if (board->ring[i].database == MyDatabaseId && taken < most)
			tasks[taken++] = board->ring[i].task;
		else
			board->ring[kept++] = board->ring[i];
	}
	board->count = kept;
	*overflow = board->overflow;
	/* another database's dispatcher may have lost some too: its sweep looks */
	board->overflow = false;
	SpinLockRelease(&board->mutex);
	return taken;
}
