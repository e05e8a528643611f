/*
 * lock_room.c: room for fine locks, and the marks of bulks.  See lock_room.h.
 *
 * Room.  The lock table has max_locks_per_transaction entries for each of
 * MaxBackends + max_prepared_transactions.  Half of them are eduai's: a quarter
 * of its share is every transaction's own, which costs nothing to count, and
 * as much again is a budget that larger transactions draw on.  One transaction
 * may have half of what the others leave of the budget, so that somebody small
 * always finds some, and 16 times max_locks_per_transaction at most.
 *
 * Marks.  A ground is what the bulk of a database marks: a bit per group.  Its
 * one writer is who has the ground's turn and door, which is also the only one
 * to set its database and to clean it, before the locks are released: the
 * transaction hooks run earlier than that, and after the transaction's end has
 * become visible.  Databases share a ground by chance; their bulks then take
 * turns, and nothing else of theirs waits.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "core/lock_room.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/lock.h"

#define GROUP_BITS 14
#define GROUP(key) ((uint32) ((key) >> (64 - GROUP_BITS)))
#define WORDS      ((1 << GROUP_BITS) / 32)
#define GROUNDS    8

/* What a transaction draws from the budget at a time, so that few atomics are needed. */
#define DRAW 32

typedef struct Ground
{
	volatile Oid database; /* of the bulk; InvalidOid when there is none */
	volatile uint32 closed[EDUAI_LOCK_ROOM_CLASSES][WORDS];
} Ground;

typedef struct LockRoom
{
	Ground grounds[GROUNDS];
	pg_atomic_uint32 drawn; /* of the budget, by all; away from what everybody reads */
} LockRoom;

static LockRoom *shared = NULL;

/* of the current transaction */
static uint32 used = 0;  /* fine locks taken */
static uint32 drawn = 0; /* from the budget */
static SubTransactionId bulk_since = InvalidSubTransactionId;

static Ground *
my_ground(void)
{
	return &shared->grounds[eduai_core_lock_room_ground()];
}

uint64
eduai_core_lock_room_ground(void)
{
	return MyDatabaseId % GROUNDS;
}

static uint32
own_room(void)
{
	return Max(max_locks_per_xact / 4, 1);
}

static uint32
budget(void)
{
	return own_room() * (MaxBackends + max_prepared_xacts);
}

static bool
draw(uint32 n)
{
	uint32 before = pg_atomic_fetch_add_u32(&shared->drawn, n);
	uint32 others = before - drawn;

	if (others < budget() && drawn + n <= (budget() - others) / 2 &&
		own_room() + drawn + n <= (uint32) max_locks_per_xact * 16)
	{
		drawn += n;
		return true;
	}
	pg_atomic_fetch_sub_u32(&shared->drawn, n);
	return false;
}

bool
eduai_core_lock_room_has(int n)
{
	uint32 room = own_room() + drawn;
	uint32 lacking;

	if (used + n <= room || shared == NULL)
		return true;
	lacking = used + n - room;
	return draw(Max(lacking, DRAW)) || draw(lacking);
}

void
eduai_core_lock_room_use(int n)
{
	used += n;
}

void
eduai_core_lock_room_begin_bulk(void)
{
	my_ground()->database = MyDatabaseId;
	bulk_since = GetCurrentSubTransactionId();
}

bool
eduai_core_lock_room_is_bulk(void)
{
	return bulk_since != InvalidSubTransactionId;
}

void
eduai_core_lock_room_close(int class_index, uint64 key)
{
	volatile uint32 *word = &my_ground()->closed[class_index][GROUP(key) / 32];

	*word |= (uint32) 1 << (GROUP(key) % 32);
	pg_memory_barrier();
}

bool
eduai_core_lock_room_is_closed(int class_index, uint64 key)
{
	const Ground *ground;

	if (shared == NULL)
		return false;
	ground = my_ground();
	pg_memory_barrier();
	return ground->database == MyDatabaseId &&
		   (ground->closed[class_index][GROUP(key) / 32] >> (GROUP(key) % 32) & 1) != 0;
}

bool
eduai_core_lock_room_same_group(uint64 a, uint64 b)
{
	return GROUP(a) == GROUP(b);
}

/* Opens all groups; the turn and the door are still held, and go next. */
static void
end_bulk(void)
{
	if (bulk_since == InvalidSubTransactionId)
		return;
	bulk_since = InvalidSubTransactionId;
	my_ground()->database = InvalidOid;
	for (int class = 0; class < EDUAI_LOCK_ROOM_CLASSES; class ++)
		for (int i = 0; i < WORDS; i++)
			my_ground()->closed[class][i] = 0;
}

static void
end_transaction(void)
{
	end_bulk();
	if (drawn > 0)
		pg_atomic_fetch_sub_u32(&shared->drawn, drawn);
	drawn = 0;
	used = 0;
}

static void
end_savepoint(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	if (bulk_since != mine)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		bulk_since = parent;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		end_bulk();
}

static void
refuse_prepare(void)
{
	if (bulk_since != InvalidSubTransactionId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that locks many streams, learners or keys"),
				 errhint("Use COMMIT, or several smaller transactions.")));
}

static Size
shmem_size(void)
{
	return sizeof(LockRoom);
}

static void
shmem_start(void *ptr)
{
	LockRoom *room = ptr;

	memset(room, 0, sizeof(LockRoom));
	pg_atomic_init_u32(&room->drawn, 0);
}

static const EduaiXactHooks hooks = {
	.name = "locks",
	.rank = EDUAI_RANK_LOCKS,
	.pre_prepare = refuse_prepare,
	.commit = end_transaction,
	.abort = end_transaction,
	.prepare = end_transaction,
	.subxact = end_savepoint,
};

void
eduai_core_lock_room_init(void)
{
	static const EduaiShmemPart part = {"eduai_core_locks", shmem_size, shmem_start, 0,
										(void **) &shared,  NULL};

	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
}
