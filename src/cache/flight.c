/*
 * flight.c: one computation for many who want the same.  See flight.h.
 *
 * A place's lock guards its key and owner; it is held for a few instructions.
 */
#include "postgres.h"

#include "cache/flight.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "utils/wait_event.h"

#define FLIGHTS    512
#define MAX_MINE   8     /* computations within computations */
#define LOOK_MS    20    /* how often a waiter looks whether the other waits for a lock */
#define IN_LOCK_US 10000 /* waiting longer for a lock than it takes to get a free one */

typedef struct Flight
{
	slock_t lock;
	uint64 key;            /* 0: free */
	int owner;             /* process number */
	pg_atomic_uint32 ends; /* how often one ended here; read without the lock */
	ConditionVariable ended;
} Flight;

static Flight *flights = NULL;
static Flight *mine[MAX_MINE];
static int nmine = 0;

static uint64
key_of(uint64 key)
{
	return key == 0 ? 1 : key;
}

/* Takes the place when it is free; the key that has it, and whose it is. */
static uint64
try_take(Flight *f, uint64 key, int *owner)
{
	uint64 has;

	SpinLockAcquire(&f->lock);
	if (f->key == 0)
	{
		f->key = key;
		f->owner = eduai_my_proc_number();
		has = 0;
	}
	else
		has = f->key;
	*owner = f->owner;
	SpinLockRelease(&f->lock);
	return has;
}

static bool
waits_for_lock(int process)
{
	return ((volatile PGPROC *) &ProcGlobal->allProcs[process])->waitLock != NULL;
}

FlightTurn
eduai_cache_flight_begin(uint64 key, int64 until_us)
{
	Flight *f = &flights[key_of(key) % FLIGHTS];
	int64 in_lock_since = 0;
	bool waited = false;

	key = key_of(key);
	for (;;)
	{
		int owner;
		int64 now_us = eduai_core_mono_us();
		uint64 has;

		/* once waited, the other's result is looked for first */
		if (nmine == MAX_MINE)
			return FLIGHT_ALONE;
		if (waited)
		{
			SpinLockAcquire(&f->lock);
			has = f->key;
			owner = f->owner;
			SpinLockRelease(&f->lock);
			if (has != key)
				break;
		}
		else
		{
			has = try_take(f, key, &owner);
			if (has == 0)
			{
				mine[nmine++] = f;
				return FLIGHT_MINE;
			}
			if (has != key || nmine > 0)
				return FLIGHT_ALONE;
			ConditionVariablePrepareToSleep(&f->ended);
			waited = true;
			continue;
		}
		if (!waits_for_lock(owner))
			in_lock_since = 0;
		else if (in_lock_since == 0)
			in_lock_since = now_us;
		if (now_us >= until_us || (in_lock_since != 0 && now_us - in_lock_since > IN_LOCK_US))
		{
			ConditionVariableCancelSleep();
			return FLIGHT_ALONE;
		}
		ConditionVariableTimedSleep(&f->ended, LOOK_MS, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return FLIGHT_ENDED;
}

uint32
eduai_cache_flight_ends(uint64 key)
{
	return pg_atomic_read_u32(&flights[key_of(key) % FLIGHTS].ends);
}

static void
end_flight(Flight *f)
{
	pg_atomic_fetch_add_u32(&f->ends, 1);
	SpinLockAcquire(&f->lock);
	f->key = 0;
	SpinLockRelease(&f->lock);
	ConditionVariableBroadcast(&f->ended);
}

void
eduai_cache_flight_end(uint64 key)
{
	Flight *f = &flights[key_of(key) % FLIGHTS];

	for (int i = nmine - 1; i >= 0; i--)
		if (mine[i] == f)
		{
			mine[i] = mine[--nmine];
			end_flight(f);
			return;
		}
}

/* A process that ends amid a computation comes here, too. */
static void
on_abort(void)
{
	while (nmine > 0)
		end_flight(mine[--nmine]);
}

static Size
flight_size(void)
{
	return sizeof(Flight) * FLIGHTS;
}

static void
flight_shmem_init(void *ptr)
{
	Flight *all = ptr;

	for (int i = 0; i < FLIGHTS; i++)
	{
		SpinLockInit(&all[i].lock);
		all[i].key = 0;
		pg_atomic_init_u32(&all[i].ends, 0);
		ConditionVariableInit(&all[i].ended);
	}
}

void
eduai_cache_flight_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_cache_flights",
										.size = flight_size,
										.init = flight_shmem_init,
										.address = (void **) &flights};
	static const EduaiXactHooks hooks = {
		.name = "cache flights", .rank = EDUAI_RANK_CACHE, .abort = on_abort};

	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
}
