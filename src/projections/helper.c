/*
 * helper.c: processes that catch followers up.  See helper.h.
 *
 * A place in shared memory says for whom a helper works.  Who starts one fills
 * a place; the process takes it over by the place's serial number and frees it
 * when it ends, however that is.  A process that cannot start frees nothing:
 * the starter's handle tells.
 */
#include "postgres.h"

#include "core/shmem.h"
#include "core/worker.h"
#include "events/projector.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "projections/follow.h"
#include "projections/helper.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#define PLACES   64
#define MOST     8   /* of a database */
#define BUSY_MS  10  /* between looks at a follower that somebody else steps for */
#define BUSY_MAX 500 /* looks */

typedef struct HelperPlace
{
	Oid database; /* InvalidOid: free */
	uint32 serial;
	bool running;
	EduaiFollower follower; /* whose tenant is the name below */
	char tenant[64];
} HelperPlace;

static int most_helpers = 1;

static HelperPlace *places = NULL;
static LWLockPadded *lock = NULL;

/* of the projector: those that it started */
static BackgroundWorkerHandle *handles[PLACES];
static uint32 serials[PLACES];

static HelperPlace *mine = NULL; /* of a helper */

static Size
places_size(void)
{
	return sizeof(HelperPlace) * PLACES;
}

static void
places_init(void *ptr)
{
	memset(ptr, 0, places_size());
}

static bool
same_follower(const HelperPlace *place, const EduaiFollower *f)
{
	return place->database == MyDatabaseId && place->follower.projection == f->projection &&
		   place->follower.generation == f->generation && place->follower.lane == f->lane &&
		   strcmp(place->tenant, f->tenant) == 0;
}

bool
eduai_projections_is_helped(const EduaiFollower *follower)
{
	bool helped = false;

	if (places == NULL)
		return false;
	LWLockAcquire(&lock->lock, LW_SHARED);
	for (int i = 0; i < PLACES && !helped; i++)
		helped = same_follower(&places[i], follower);
	LWLockRelease(&lock->lock);
	return helped;
}

/* A place for a new helper, or -1 when there may be no more. */
static int
take_place(const EduaiFollower *f)
{
	int taken = -1;
	int n = 0;

	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PLACES; i++)
	{
		n += places[i].database == MyDatabaseId ? 1 : 0;
		if (!OidIsValid(places[i].database))
			taken = i;
	}
	if (n >= most_helpers)
		taken = -1;
	if (taken >= 0)
	{
		HelperPlace *place = &places[taken];

		place->database = MyDatabaseId;
		place->serial++;
		place->running = false;
		place->follower = *f;
		place->follower.tenant = NULL;
		strlcpy(place->tenant, f->tenant, sizeof(place->tenant));
	}
	LWLockRelease(&lock->lock);
	return taken;
}

static void
free_place(int i)
{
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	places[i].database = InvalidOid;
	places[i].running = false;
	LWLockRelease(&lock->lock);
}

bool
eduai_projections_help(const EduaiFollower *follower)
{
	char argument[32];
	int i;

	if (eduai_projections_is_helped(follower))
		return true;
	i = take_place(follower);
	if (i < 0)
		return false;
	serials[i] = places[i].serial;
	snprintf(argument, sizeof(argument), "%d %u", i, serials[i]);
	if (handles[i] != NULL)
		pfree(handles[i]);
	handles[i] = eduai_events_start_apart("eduai_projections_catch_up", argument);
	if (handles[i] == NULL)
		free_place(i);
	return handles[i] != NULL;
}

void
eduai_projections_helpers_forget(void)
{
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PLACES; i++)
		if (places[i].database == MyDatabaseId && !places[i].running)
			places[i].database = InvalidOid;
	LWLockRelease(&lock->lock);
}

bool
eduai_projections_helpers_check(void)
{
	bool any = false;

	for (int i = 0; i < PLACES; i++)
	{
		pid_t pid;

		if (handles[i] == NULL)
			continue;
		if (GetBackgroundWorkerPid(handles[i], &pid) != BGWH_STOPPED)
		{
			any = true;
			continue;
		}
		pfree(handles[i]);
		handles[i] = NULL;
		LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
		if (places[i].database == MyDatabaseId && places[i].serial == serials[i])
			places[i].database = InvalidOid;
		LWLockRelease(&lock->lock);
	}
	return any;
}

/* ---- in the helper ---- */

static void
release_place(int code, Datum arg)
{
	free_place((int) (mine - places));
	/* the projector goes on for the follower */
	eduai_events_projector_wake_now();
}

/* The follower of the place, as long as it is meant for this process. */
static bool
take_over(const char *argument, EduaiFollower *follower)
{
	int i;
	uint32 serial;
	bool taken;

	if (places == NULL || sscanf(argument, "%d %u", &i, &serial) != 2 || i < 0 || i >= PLACES)
		return false;
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	taken = places[i].database == MyDatabaseId && places[i].serial == serial && !places[i].running;
	if (taken)
	{
		places[i].running = true;
		*follower = places[i].follower;
	}
	LWLockRelease(&lock->lock);
	if (!taken)
		return false;
	mine = &places[i];
	follower->tenant = mine->tenant;
	before_shmem_exit(release_place, (Datum) 0);
	return true;
}

void
eduai_projections_nap(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

void
eduai_projections_catch_up(Datum argument)
{
	EduaiFollower follower;
	EduaiStepOutcome outcome = EDUAI_STEP_MORE;
	int busy = 0;

	eduai_core_worker_helper_attach();
	if (!take_over(DatumGetCString(argument), &follower))
		return;
	follower.alone = true;
	pgstat_report_activity(STATE_RUNNING, "follows the feed");
	while (!eduai_core_worker_should_stop() && busy < BUSY_MAX &&
		   (outcome == EDUAI_STEP_MORE || outcome == EDUAI_STEP_BUSY))
	{
		CHECK_FOR_INTERRUPTS();
		outcome = eduai_projections_step(&follower).outcome;
		if (outcome == EDUAI_STEP_BUSY)
		{
			busy++;
			eduai_projections_nap(BUSY_MS);
		}
	}
	(void) pgstat_report_stat(true);
}

void
eduai_projections_helper_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_projections_helpers",
										.size = places_size,
										.init = places_init,
										.nlocks = 1,
										.address = (void **) &places,
										.locks = &lock};

	DefineCustomIntVariable(
		"eduai.projection_helpers",
		"How many processes may help the projector of a database with projections that are far "
		"behind.",
		"0 leaves all to the projector itself.", &most_helpers, 1, 0, MOST, PGC_SIGHUP, 0, NULL,
		NULL, NULL);
	eduai_core_shmem_register(&part);
}
