/*
 * shared.c: the slots of the databases.  See shared.h.
 */
#include "postgres.h"

#include "core/shmem.h"
#include "events/shared.h"
#include "miscadmin.h"
#include "utils/syscache.h"

typedef struct Shared
{
	EduaiEventsSlot slots[EDUAI_EVENTS_DATABASES];
	EduaiEventsFlight flights[FLEXIBLE_ARRAY_MEMBER];
} Shared;

static Shared *shared = NULL;
static LWLockPadded *locks = NULL; /* 0: the slots' owners, 1: making positions durable */
static EduaiEventsSlot *mine = NULL;

static Size
shared_size(void)
{
	return offsetof(Shared, flights) + sizeof(EduaiEventsFlight) * MaxBackends;
}

static void
shared_shmem_init(void *ptr)
{
	Shared *all = ptr;

	memset(all, 0, shared_size());
	for (int i = 0; i < EDUAI_EVENTS_DATABASES; i++)
	{
		EduaiEventsSlot *slot = &all->slots[i];

		SpinLockInit(&slot->mutex);
		slot->oldest = slot->youngest = EDUAI_EVENTS_NOBODY;
		ConditionVariableInit(&slot->moved);
		pg_atomic_init_u64(&slot->newest_started, 0);
		pg_atomic_init_u32(&slot->standby_due, 0);
		pg_atomic_init_u32(&slot->generation, 0);
	}
}

void
eduai_events_shared_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_events",
										.size = shared_size,
										.init = shared_shmem_init,
										.nlocks = 2,
										.address = (void **) &shared,
										.locks = &locks};

	eduai_core_shmem_register(&part);
}

LWLock *
eduai_events_reserve_lock(void)
{
	return &locks[1].lock;
}

EduaiEventsFlight *
eduai_events_flight(int proc)
{
	return &shared->flights[proc];
}

EduaiEventsSlot *
eduai_events_slot_if_any(void)
{
	if (mine == NULL && shared != NULL)
		for (int i = 0; i < EDUAI_EVENTS_DATABASES; i++)
			if (shared->slots[i].database == MyDatabaseId)
				mine = &shared->slots[i];
	return mine;
}

/* Frees the places of databases that are gone; the lookups hold no lock. */
static void
free_dropped(void)
{
	for (int i = 0; i < EDUAI_EVENTS_DATABASES; i++)
	{
		EduaiEventsSlot *slot = &shared->slots[i];
		Oid database = slot->database;

		if (!OidIsValid(database) || SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)))
			continue;
		LWLockAcquire(&locks[0].lock, LW_EXCLUSIVE);
		if (slot->database == database)
		{
			slot->database = InvalidOid;
			slot->installation = InvalidOid;
			slot->started = false;
			slot->drawn = false;
			slot->next = 0;
			pg_atomic_write_u64(&slot->newest_started, 0);
			pg_atomic_write_u32(&slot->standby_due, 0);
		}
		LWLockRelease(&locks[0].lock);
	}
}

static EduaiEventsSlot *
claim_slot(void)
{
	EduaiEventsSlot *claimed = NULL;

	LWLockAcquire(&locks[0].lock, LW_EXCLUSIVE);
	claimed = eduai_events_slot_if_any();
	for (int i = 0; i < EDUAI_EVENTS_DATABASES && claimed == NULL; i++)
		if (!OidIsValid(shared->slots[i].database))
		{
			claimed = &shared->slots[i];
			claimed->database = MyDatabaseId;
		}
	LWLockRelease(&locks[0].lock);
	return claimed;
}

EduaiEventsSlot *
eduai_events_slot(void)
{
	if (mine != NULL)
		return mine;
	eduai_core_require_preload("the log of events");
	mine = claim_slot();
	if (mine == NULL)
	{
		free_dropped();
		mine = claim_slot();
	}
	if (mine == NULL)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("too many databases have a log of events"),
						errdetail("A server has places for %d.", EDUAI_EVENTS_DATABASES),
						errhint("Drop the extension's databases that are not used, or restart.")));
	return mine;
}
