/*
 * rebuild_state.c: how the rebuilds of projections fare.  See rebuild_state.h.
 *
 * One lock guards all places; nothing raises, allocates or waits under it.  A
 * place stays with its projection until another one needs it.
 */
#include "postgres.h"

#include "core/chores.h"
#include "core/clock.h"
#include "core/shmem.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "projections/rebuild_state.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/wait_event.h"

#define PLACES   64
#define WAIT_MS  500
#define START_US (30 * 1000 * 1000) /* a process that has not come by then never will */

typedef struct Place
{
	Oid database; /* InvalidOid: free */
	int projection;
	EduaiRebuild state;
	ConditionVariable changed;
} Place;

static Place *places = NULL;
static LWLockPadded *lock = NULL;

static Size
places_size(void)
{
	return sizeof(Place) * PLACES;
}

static void
places_init(void *ptr)
{
	Place *all = ptr;

	memset(all, 0, places_size());
	for (int i = 0; i < PLACES; i++)
		ConditionVariableInit(&all[i].changed);
}

void
eduai_projections_rebuild_state_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_projections_rebuild",
										.size = places_size,
										.init = places_init,
										.nlocks = 1,
										.address = (void **) &places,
										.locks = &lock};

	eduai_core_shmem_register(&part);
}

/* The caller holds the lock. */
static Place *
find(int projection)
{
	for (int i = 0; i < PLACES; i++)
		if (places[i].database == MyDatabaseId && places[i].projection == projection)
			return &places[i];
	return NULL;
}

/* The projection's place, or one that nobody uses; the caller holds the lock. */
static Place *
find_or_make(int projection)
{
	Place *place = find(projection);

	for (int i = 0; i < PLACES && place == NULL; i++)
		if (!OidIsValid(places[i].database))
			place = &places[i];
	for (int i = 0; i < PLACES && place == NULL; i++)
		if (places[i].state.phase == EDUAI_REBUILD_NONE)
			place = &places[i];
	if (place != NULL && (place->database != MyDatabaseId || place->projection != projection))
	{
		place->database = MyDatabaseId;
		place->projection = projection;
		memset(&place->state, 0, sizeof(EduaiRebuild));
	}
	return place;
}

EduaiRebuild
eduai_projections_rebuild_get(int projection)
{
	EduaiRebuild state = {0};
	Place *place;

	if (places == NULL)
		return state;
	LWLockAcquire(&lock->lock, LW_SHARED);
	place = find(projection);
	if (place != NULL)
		state = place->state;
	LWLockRelease(&lock->lock);
	return state;
}

bool
eduai_projections_rebuild_ask(int projection, EduaiRebuild *before)
{
	Place *place;
	bool start = false;

	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	place = find_or_make(projection);
	if (place != NULL)
	{
		*before = place->state;
		start = place->state.phase == EDUAI_REBUILD_NONE ||
				(place->state.phase == EDUAI_REBUILD_STARTS &&
				 eduai_core_mono_us() - place->state.asked_us > START_US);
		if (start)
		{
			place->state.phase = EDUAI_REBUILD_STARTS;
			place->state.asked_us = eduai_core_mono_us();
		}
	}
	LWLockRelease(&lock->lock);
	if (place == NULL)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("too many projections are being rebuilt"),
						errdetail("A server has places for %d.", PLACES)));
	return start;
}

/* Changes a projection's state under the lock; wakes who waits. */
static void
set_phase(int projection, EduaiRebuildPhase phase)
{
	Place *place;

	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	place = find_or_make(projection);
	if (place != NULL)
	{
		place->state.phase = phase;
		if (phase == EDUAI_REBUILD_NONE)
			place->state.pid = 0;
	}
	LWLockRelease(&lock->lock);
	if (place != NULL)
		ConditionVariableBroadcast(&place->changed);
}

void
eduai_projections_rebuild_never_came(int projection, int64 asked_us)
{
	Place *place;

	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	place = find(projection);
	if (place != NULL && place->state.phase == EDUAI_REBUILD_STARTS && place->state.pid == 0 &&
		place->state.asked_us == asked_us)
		place->state.phase = EDUAI_REBUILD_NONE;
	LWLockRelease(&lock->lock);
	if (place != NULL)
		ConditionVariableBroadcast(&place->changed);
}

bool
eduai_projections_rebuild_claim(int projection)
{
	Place *place;
	bool claimed;

	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	place = find_or_make(projection);
	claimed = place != NULL && place->state.pid == 0;
	if (claimed)
		place->state.pid = MyProcPid;
	LWLockRelease(&lock->lock);
	return claimed;
}

void
eduai_projections_rebuild_phase(int projection, EduaiRebuildPhase phase)
{
	set_phase(projection, phase);
}

void
eduai_projections_rebuild_lost(int projection)
{
	set_phase(projection, EDUAI_REBUILD_NONE);
}

void
eduai_projections_rebuild_end(int projection, int64 events, const ErrorData *error)
{
	Place *place;
	int64 now_us = eduai_core_mono_us();
	int length = error ? pg_mbcliplen(error->message, (int) strlen(error->message),
									  EDUAI_REBUILD_MESSAGE - 1)
					   : 0;

	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	place = find_or_make(projection);
	if (place != NULL)
	{
		EduaiRebuild *state = &place->state;

		state->phase = EDUAI_REBUILD_NONE;
		state->pid = 0;
		state->ended++;
		state->events = events;
		state->sqlstate = error ? error->sqlerrcode : 0;
		memcpy(state->message, error ? error->message : "", length);
		state->message[length] = '\0';
		state->failures = error ? state->failures + 1 : 0;
		state->retry_us = error ? now_us + eduai_core_chores_backoff_ms(state->failures) * 1000 : 0;
	}
	LWLockRelease(&lock->lock);
	if (place != NULL)
		ConditionVariableBroadcast(&place->changed);
}

void
eduai_projections_rebuild_wait(int projection, const EduaiRebuild *seen)
{
	EduaiRebuild now;
	Place *place;

	LWLockAcquire(&lock->lock, LW_SHARED);
	place = find(projection);
	LWLockRelease(&lock->lock);
	if (place == NULL)
		return;
	ConditionVariablePrepareToSleep(&place->changed);
	now = eduai_projections_rebuild_get(projection);
	if (now.phase == seen->phase && now.ended == seen->ended)
		(void) ConditionVariableTimedSleep(&place->changed, WAIT_MS, PG_WAIT_EXTENSION);
	ConditionVariableCancelSleep();
}
