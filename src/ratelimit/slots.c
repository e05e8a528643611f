/*
 * slots.c: who holds what.  See slots.h.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "core/shmem.h"
#include "miscadmin.h"
#include "ratelimit/slots.h"
#include "storage/ipc.h"
#include "utils/guc.h"

typedef struct RateSlot
{
	int32 next;     /* of the entry's, or of the free ones; -1: none */
	int32 entry;    /* its index in the table */
	uint32 count;   /* held */
	uint64 session; /* 0: free */
} RateSlot;

typedef struct RateSlots
{
	int32 free;
	int32 used;
	int64 refused;
	RateSlot slots[FLEXIBLE_ARRAY_MEMBER];
} RateSlots;

static int rate_slots = 8192;
static RateSlots *shared = NULL;
static LWLockPadded *lock = NULL;
static uint64 my_session = 0; /* 0: never held a slot */

static Size
slots_size(void)
{
	return offsetof(RateSlots, slots) + (Size) rate_slots * sizeof(RateSlot);
}

static void
slots_shmem_init(void *ptr)
{
	RateSlots *s = ptr;

	memset(s, 0, slots_size());
	s->free = -1;
	for (int i = rate_slots - 1; i >= 0; i--)
	{
		s->slots[i].next = s->free;
		s->free = i;
	}
}

void
eduai_ratelimit_slots_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_ratelimit_slots",
										.size = slots_size,
										.init = slots_shmem_init,
										.nlocks = 1,
										.address = (void **) &shared,
										.locks = &lock};

	DefineCustomIntVariable(
		"eduai.rate_slots", "The most holders of slots of concurrency limits at once.",
		"One for each session and key; when all are taken, slots are refused.", &rate_slots, 8192,
		16, 1024 * 1024, process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP,
		0, NULL, NULL, NULL);
	eduai_core_shmem_register(&part);
}

/* ---- records ---- */

static int32
new_slot(void)
{
	int32 index;

	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	index = shared->free;
	if (index >= 0)
	{
		shared->free = shared->slots[index].next;
		shared->used++;
	}
	else
		shared->refused++;
	LWLockRelease(&lock->lock);
	return index;
}

static void
free_slot(int32 index)
{
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	shared->slots[index].session = 0;
	shared->slots[index].next = shared->free;
	shared->free = index;
	shared->used--;
	LWLockRelease(&lock->lock);
}

bool
eduai_ratelimit_slots_take(RateEntry *entry, uint32 n)
{
	int32 i = entry->slot;

	while (i >= 0 && shared->slots[i].session != my_session)
		i = shared->slots[i].next;
	if (i < 0)
	{
		i = new_slot();
		if (i < 0)
			return false;
		shared->slots[i].entry = eduai_ratelimit_index(entry);
		shared->slots[i].session = my_session;
		shared->slots[i].count = 0;
		shared->slots[i].next = entry->slot;
		entry->slot = i;
	}
	shared->slots[i].count += n;
	return true;
}

/* Of one session's, or, with 0, of anybody's. */
static uint32
give(RateEntry *entry, uint64 session, uint32 n)
{
	int32 *link = &entry->slot;
	uint32 given = 0;

	while (*link >= 0 && given < n)
	{
		RateSlot *slot = &shared->slots[*link];
		uint32 some = session == 0 || slot->session == session ? Min(n - given, slot->count) : 0;
		int32 index = *link;

		slot->count -= some;
		given += some;
		if (slot->count > 0)
			link = &slot->next;
		else
		{
			*link = slot->next;
			free_slot(index);
		}
	}
	return given;
}

uint32
eduai_ratelimit_slots_give(RateEntry *entry, uint32 n)
{
	uint32 given = my_session != 0 ? give(entry, my_session, n) : 0;

	return given + give(entry, 0, n - given);
}

void
eduai_ratelimit_slots_room(int *slots, int *used, int64 *refused)
{
	LWLockAcquire(&lock->lock, LW_SHARED);
	*slots = rate_slots;
	*used = shared->used;
	*refused = shared->refused;
	LWLockRelease(&lock->lock);
}

/* ---- the end of a session ---- */

/*
 * A record of this session's may be given back by another meanwhile, and be
 * somebody else's: its entry is locked, then it is looked at again.
 */
static void
give_back(int code, Datum arg)
{
	for (int i = 0; i < rate_slots; i++)
	{
		RateSlot *slot = &shared->slots[i];
		RateEntry *entry;
		int shard;

		if (slot->session != my_session)
			continue;
		entry = eduai_ratelimit_entry(slot->entry, &shard);
		eduai_ratelimit_shard_lock(shard, LW_EXCLUSIVE);
		if (slot->session == my_session)
		{
			uint32 given = give(entry, my_session, slot->count);

			entry->counter.held -= Min(given, entry->counter.held);
			eduai_ratelimit_changed(entry);
		}
		eduai_ratelimit_shard_unlock(shard);
	}
}

void
eduai_ratelimit_slots_ready(void)
{
	if (likely(my_session != 0))
		return;
	before_shmem_exit(give_back, (Datum) 0);
	my_session = pg_atomic_add_fetch_u64(&eduai_ratelimit_table()->sessions, 1);
}
