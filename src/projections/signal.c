/*
 * signal.c: how commits tell the projector which tenants have something new.
 * See signal.h.
 *
 * A board's places are atomics: only its projector fills them, appenders look
 * them up in commit callbacks, without a lock.  "any" is written after a mark
 * and taken before the marks are, so that a mark that was missed leaves "any"
 * behind it.
 */
#include "postgres.h"

#include "core/lock.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "events/projector.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "projections/signal.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"

#define BOARDS 64   /* databases with a projector */
#define PLACES 2048 /* of tenants, on a board; a power of two */
#define USED   1536 /* of them, so that a search is short */
#define NOTED  16   /* tenants that a transaction tells one by one */

typedef struct SignalPlace
{
	pg_atomic_uint64 hash; /* of the tenant; 0: free */
	pg_atomic_uint32 marked;
} SignalPlace;

typedef struct Board
{
	Oid database; /* InvalidOid: free; changes under the lock */
	pg_atomic_uint32 armed;
	pg_atomic_uint32 any;     /* something is marked */
	pg_atomic_uint32 unknown; /* for a tenant without a place */
	int used;                 /* only its projector looks */
	SignalPlace places[PLACES];
} Board;

static Board *boards = NULL;
static LWLockPadded *boards_lock = NULL;
static Board *mine = NULL; /* this projector's */

/* of this transaction */
static uint64 noted[NOTED];
static int nnoted = 0;
static bool noted_more = false;

static Size
boards_size(void)
{
	return sizeof(Board) * BOARDS;
}

static void
clear(Board *board)
{
	pg_atomic_write_u32(&board->armed, 0);
	pg_atomic_write_u32(&board->any, 0);
	pg_atomic_write_u32(&board->unknown, 0);
	board->used = 0;
	for (int i = 0; i < PLACES; i++)
	{
		pg_atomic_write_u64(&board->places[i].hash, 0);
		pg_atomic_write_u32(&board->places[i].marked, 0);
	}
}

static void
boards_init(void *ptr)
{
	Board *all = ptr;

	memset(all, 0, boards_size());
	for (int b = 0; b < BOARDS; b++)
	{
		pg_atomic_init_u32(&all[b].armed, 0);
		pg_atomic_init_u32(&all[b].any, 0);
		pg_atomic_init_u32(&all[b].unknown, 0);
		for (int i = 0; i < PLACES; i++)
		{
			pg_atomic_init_u64(&all[b].places[i].hash, 0);
			pg_atomic_init_u32(&all[b].places[i].marked, 0);
		}
	}
}

/* Of this database, or NULL; without the lock the answer is a hint, which is enough for a mark. */
static Board *
find_board(void)
{
	static int known = 0; /* where it was last time */

	if (boards == NULL || !OidIsValid(MyDatabaseId))
		return NULL;
	if (boards[known].database == MyDatabaseId)
		return &boards[known];
	for (int i = 0; i < BOARDS; i++)
		if (boards[i].database == MyDatabaseId)
			return &boards[known = i];
	return NULL;
}

static uint64
hash_of(const char *tenant)
{
	return eduai_core_lock_key(tenant, "") | 1; /* never 0 */
}

/* The tenant's place, or the free one where it belongs; NULL when all are taken. */
static SignalPlace *
find_place(Board *board, uint64 hash)
{
	for (int probe = 0; probe < PLACES; probe++)
	{
		SignalPlace *place = &board->places[((hash >> 1) + probe) & (PLACES - 1)];
		uint64 there = pg_atomic_read_u64(&place->hash);

		if (there == hash || there == 0)
			return place;
	}
	return NULL;
}

/* ---- the appenders' side ---- */

void
eduai_projections_signal_append(const EduaiAppendBatch *batch)
{
	uint64 hash = hash_of(batch->tenant);

	for (int i = 0; i < nnoted; i++)
		if (noted[i] == hash)
			return;
	if (nnoted < NOTED)
		noted[nnoted++] = hash;
	else
		noted_more = true;
}

static void
mark(Board *board, uint64 hash)
{
	SignalPlace *place = find_place(board, hash);

	if (place != NULL && pg_atomic_read_u64(&place->hash) == hash)
		pg_atomic_write_u32(&place->marked, 1);
	else
		pg_atomic_write_u32(&board->unknown, 1);
}

static void
mark_all(Board *board)
{
	for (int i = 0; i < PLACES; i++)
		if (pg_atomic_read_u64(&board->places[i].hash) != 0)
			pg_atomic_write_u32(&board->places[i].marked, 1);
	pg_atomic_write_u32(&board->unknown, 1);
}

/* Something is marked: the projector is to know. */
static void
tell(Board *board)
{
	pg_write_barrier();
	pg_atomic_write_u32(&board->any, 1);
	/* the marks before the look whether it sleeps: it arms first and looks at them then */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&board->armed) != 0 && pg_atomic_exchange_u32(&board->armed, 0) != 0)
		eduai_events_projector_nudge();
}

/*
 * At an abort, too: what others committed meanwhile may have waited for this
 * transaction's positions.
 */
static void
on_end(void)
{
	Board *board;

	if (nnoted == 0)
		return;
	board = find_board();
	if (board != NULL)
	{
		for (int i = 0; i < nnoted; i++)
			mark(board, noted[i]);
		if (noted_more)
			mark_all(board);
		tell(board);
	}
	nnoted = 0;
	noted_more = false;
}

/* ---- the projector's side ---- */

static void
detach(int code, Datum arg)
{
	LWLockAcquire(&boards_lock->lock, LW_EXCLUSIVE);
	mine->database = InvalidOid;
	LWLockRelease(&boards_lock->lock);
	mine = NULL;
}

void
eduai_projections_signal_attach(void)
{
	if (mine != NULL)
		return;
	LWLockAcquire(&boards_lock->lock, LW_EXCLUSIVE);
	for (int i = 0; i < BOARDS && mine == NULL; i++)
		if (!OidIsValid(boards[i].database))
			mine = &boards[i];
	if (mine != NULL)
	{
		clear(mine);
		pg_write_barrier();
		mine->database = MyDatabaseId;
	}
	LWLockRelease(&boards_lock->lock);
	if (mine == NULL)
		elog(FATAL, "no board is left for the projector");
	before_shmem_exit(detach, (Datum) 0);
}

int
eduai_projections_signal_place(const char *tenant)
{
	uint64 hash = hash_of(tenant);
	SignalPlace *place = find_place(mine, hash);

	if (place == NULL)
		return -1;
	if (pg_atomic_read_u64(&place->hash) == 0)
	{
		if (mine->used >= USED)
			return -1;
		mine->used++;
		pg_atomic_write_u32(&place->marked, 1);
		pg_atomic_write_u64(&place->hash, hash);
	}
	return (int) (place - mine->places);
}

bool
eduai_projections_signal_taken(int place)
{
	pg_atomic_uint32 *marked;

	if (place < 0)
		return true;
	marked = &mine->places[place].marked;
	return pg_atomic_read_u32(marked) != 0 && pg_atomic_exchange_u32(marked, 0) != 0;
}

bool
eduai_projections_signal_unknown(void)
{
	/* before all marks are taken: see the top of the file */
	pg_atomic_exchange_u32(&mine->any, 0);
	return pg_atomic_exchange_u32(&mine->unknown, 0) != 0;
}

bool
eduai_projections_signal_any(void)
{
	return mine != NULL && pg_atomic_read_u32(&mine->any) != 0;
}

void
eduai_projections_signal_arm(void)
{
	pg_atomic_write_u32(&mine->armed, 1);
	pg_memory_barrier();
}

void
eduai_projections_signal_disarm(void)
{
	pg_atomic_write_u32(&mine->armed, 0);
}

void
eduai_projections_signal_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_projections_signal",
										.size = boards_size,
										.init = boards_init,
										.nlocks = 1,
										.address = (void **) &boards,
										.locks = &boards_lock};
	/* after the positions are settled, at EDUAI_RANK_EVENTS */
	static const EduaiXactHooks hooks = {.name = "projections' signal",
										 .rank = EDUAI_RANK_PROJECTIONS,
										 .commit = on_end,
										 .abort = on_end,
										 .prepare = on_end};

	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
}
