/*
 * pause.c: named pause points.  See pause.h.
 *
 * Sixteen slots in shared memory; a slot's name is written under the lock
 * before armed is set, and never changes while it is armed.
 */
#include "postgres.h"

#include "core/pause.h"
#include "core/shmem.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/pmsignal.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define PAUSE_POINTS 16
#define PAUSE_NAP_US 500

typedef struct PausePoint
{
	char name[NAMEDATALEN];
	pg_atomic_uint32 armed;
	pg_atomic_uint32 waiting;
	pg_atomic_uint32 reached; /* how often, since it was armed */
} PausePoint;

bool eduai_core_test_mode = false;

static PausePoint *points = NULL;
static LWLockPadded *pause_lock = NULL;

PG_FUNCTION_INFO_V1(eduai_test_pause);
PG_FUNCTION_INFO_V1(eduai_test_paused);

static Size
pause_size(void)
{
	return sizeof(PausePoint) * PAUSE_POINTS;
}

static void
pause_shmem_init(void *ptr)
{
	PausePoint *all = ptr;

	memset(all, 0, pause_size());
	for (int i = 0; i < PAUSE_POINTS; i++)
	{
		pg_atomic_init_u32(&all[i].armed, 0);
		pg_atomic_init_u32(&all[i].waiting, 0);
		pg_atomic_init_u32(&all[i].reached, 0);
	}
}

void
eduai_core_pause_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_pause",
										.size = pause_size,
										.init = pause_shmem_init,
										.nlocks = 1,
										.address = (void **) &points,
										.locks = &pause_lock};

	DefineCustomBoolVariable(
		"eduai.test_mode", "Enables pause points, the test clock and other hands for tests.",
		"Never set it on a server that people use.", &eduai_core_test_mode, false,
		/* a library that is not preloaded may define nothing for the start */
		process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	eduai_core_shmem_register(&part);
}

void
eduai_core_require_test_mode(void)
{
	if (!eduai_core_test_mode)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this function is for tests"),
						errhint("Start the server with eduai.test_mode = on.")));
}

void
eduai_core_pause(const char *name)
{
	if (points == NULL)
		return;
	for (int i = 0; i < PAUSE_POINTS; i++)
	{
		PausePoint *p = &points[i];

		if (pg_atomic_read_u32(&p->armed) == 0 || strcmp(p->name, name) != 0)
			continue;
		pg_atomic_fetch_add_u32(&p->reached, 1);
		pg_atomic_fetch_add_u32(&p->waiting, 1);
		/* napping: a point inside commit can use neither latches nor interrupts */
		while (pg_atomic_read_u32(&p->armed) != 0 && PostmasterIsAlive())
			pg_usleep(PAUSE_NAP_US);
		pg_atomic_fetch_sub_u32(&p->waiting, 1);
		return;
	}
}

static PausePoint *
find_point(const char *name, bool make)
{
	PausePoint *empty = NULL;

	for (int i = 0; i < PAUSE_POINTS; i++)
	{
		if (strcmp(points[i].name, name) == 0)
			return &points[i];
		if (empty == NULL && points[i].name[0] == '\0')
			empty = &points[i];
	}
	if (make && empty == NULL)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("no pause point is left for \"%s\"", name)));
	return make ? empty : NULL;
}

/* test_pause(name, armed) */
Datum
eduai_test_pause(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool arm = PG_GETARG_BOOL(1);
	PausePoint *point;

	eduai_core_require_test_mode();
	eduai_core_require_preload("a pause point");
	LWLockAcquire(&pause_lock->lock, LW_EXCLUSIVE);
	point = find_point(name, arm);
	if (point != NULL)
	{
		strlcpy(point->name, name, NAMEDATALEN);
		if (arm)
			pg_atomic_write_u32(&point->reached, 0);
		pg_write_barrier();
		pg_atomic_write_u32(&point->armed, arm ? 1 : 0);
	}
	LWLockRelease(&pause_lock->lock);
	PG_RETURN_VOID();
}

/* test_paused(name): how many processes wait there now */
Datum
eduai_test_paused(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PausePoint *point;
	uint32 waiting;

	eduai_core_require_test_mode();
	eduai_core_require_preload("a pause point");
	LWLockAcquire(&pause_lock->lock, LW_SHARED);
	point = find_point(name, false);
	waiting = point ? pg_atomic_read_u32(&point->waiting) : 0;
	LWLockRelease(&pause_lock->lock);
	PG_RETURN_INT32((int32) waiting);
}
