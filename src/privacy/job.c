/*
 * job.c: long work in short transactions.  See job.h.
 *
 * A place in shared memory carries the call to the process and its result back.
 * The caller owns the place from the call to the result; who is interrupted
 * while he waits tells the process to leave after its step, and it frees the
 * place then.  A process that ends by itself leaves the place to the caller.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/pace.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/worker.h"
#include "executor/spi.h"
#include "events/projector.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "privacy/erase.h"
#include "privacy/job.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define PLACES 32
#define JOBS   24

#define GIVE_WAY_US 10000000 /* before a step */
#define NAP_MS      50

typedef struct JobPlace
{
	Oid database; /* InvalidOid: free */
	uint32 serial;
	bool abandoned; /* the caller is gone */
	bool taken;     /* by the process */
	EduaiJobCall call;
	EduaiJobResult result;
} JobPlace;

static const EduaiJob *jobs[JOBS];
static int njobs = 0;

static JobPlace *places = NULL;
static LWLockPadded *lock = NULL; /* guards the places but for what the process alone writes */
static JobPlace *mine = NULL;     /* of a process */

void
eduai_privacy_job_register(const EduaiJob *job)
{
	if (njobs == JOBS)
		elog(FATAL, "too many jobs");
	jobs[njobs++] = job;
}

static const EduaiJob *
job_named(const char *name)
{
	for (int i = 0; i < njobs; i++)
		if (strcmp(jobs[i]->name, name) == 0)
			return jobs[i];
	elog(ERROR, "unknown job \"%s\"", name);
	return NULL;
}

/* ---- steps ---- */

static bool
one_step(const EduaiJob *job, const EduaiJobCall *call, int64 *rows)
{
	MemoryContext old = CurrentMemoryContext;
	EduaiPrivilege saved;
	bool more;

	eduai_core_enter(&saved);
	SPI_connect();
	more = job->step(call, rows);
	SPI_finish();
	eduai_core_leave(&saved);
	MemoryContextSwitchTo(old);
	return more;
}

static uint64
lock_key(const EduaiJobCall *call)
{
	return eduai_core_lock_key(call->tenant, psprintf("%s %s", call->job, call->argument));
}

static bool
is_over(const EduaiJobCall *call, int64 began_us)
{
	return call->limit_ms > 0 && eduai_core_mono_us() - began_us >= call->limit_ms * 1000;
}

/* In the caller's own transaction. */
static void
run_here(const EduaiJobCall *call, EduaiJobResult *result)
{
	const EduaiJob *job = job_named(call->job);
	int64 began_us = eduai_core_mono_us();

	result->busy = !eduai_core_lock(EDUAI_LOCK_MAINTENANCE, lock_key(call), true);
	if (result->busy)
		return;
	while (one_step(job, call, &result->rows))
	{
		CHECK_FOR_INTERRUPTS();
		CommandCounterIncrement();
		if (is_over(call, began_us))
			return;
	}
	result->complete = true;
	if (job->end)
		job->end(call);
}

/* ---- the process ---- */

static bool
is_stopped(void)
{
	return mine->abandoned || eduai_core_worker_should_stop();
}

static void
nap(int64 us)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min((long) (us / 1000) + 1, NAP_MS), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static bool
erasure_wants_blocks(const char *tenant)
{
	EduaiPrivilege saved;
	bool wants;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter(&saved);
	SPI_connect();
	wants = eduai_privacy_erase_wants_blocks(tenant);
	SPI_finish();
	eduai_core_leave(&saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return wants;
}

/*
 * Steps may hold the tenant's blocks for seconds, one after the other, and an
 * erasure needs them for each of its many short ones: it goes first.  At most
 * for a while, so that a job ends however many learners are erased.
 */
static void
give_way(const EduaiJobCall *call)
{
	int64 until = eduai_core_mono_us() + GIVE_WAY_US;

	while (call->tenant[0] != '\0' && !is_stopped() && eduai_core_mono_us() < until &&
		   erasure_wants_blocks(call->tenant))
		nap(GIVE_WAY_US);
}

/* After a step, as long as the processors are wanted by others; see core/pace.h. */
static void
rest(const EduaiJobCall *call, int64 began_us)
{
	int64 rest_us = eduai_core_pace_rest_us();
	int64 until = eduai_core_mono_us() + rest_us;
	int64 left;

	if (rest_us == 0)
		return;
	pgstat_report_activity(STATE_IDLE, NULL);
	while (!is_stopped() && !is_over(call, began_us) && (left = until - eduai_core_mono_us()) > 0)
		nap(left);
	pgstat_report_activity(STATE_RUNNING, call->job);
	eduai_core_pace_begin();
}

static void
run_steps(const EduaiJobCall *call, EduaiJobResult *result)
{
	const EduaiJob *job = job_named(call->job);
	int64 began_us = eduai_core_mono_us();
	bool more = true;

	StartTransactionCommand();
	result->busy = !eduai_core_lock_session(EDUAI_LOCK_MAINTENANCE, lock_key(call), true);
	CommitTransactionCommand();
	if (result->busy)
		return;
	while (more && !is_over(call, began_us) && !is_stopped())
	{
		int64 rows = 0;

		CHECK_FOR_INTERRUPTS();
		give_way(call);
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		more = one_step(job, call, &rows);
		PopActiveSnapshot();
		CommitTransactionCommand();
		result->rows += rows;
		(void) pgstat_report_stat(false);
		if (more)
			rest(call, began_us);
	}
	result->complete = !more;
	if (!more && job->end)
		job->end(call);
}

static void
leave_place(int code, Datum arg)
{
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	if (mine->abandoned)
		mine->database = InvalidOid;
	LWLockRelease(&lock->lock);
}

static bool
take_over(const char *argument)
{
	int i;
	uint32 serial;

	if (places == NULL || sscanf(argument, "%d %u", &i, &serial) != 2 || i < 0 || i >= PLACES)
		return false;
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	if (places[i].database == MyDatabaseId && places[i].serial == serial && !places[i].taken)
	{
		places[i].taken = true;
		mine = &places[i];
	}
	LWLockRelease(&lock->lock);
	if (mine != NULL)
		before_shmem_exit(leave_place, (Datum) 0);
	return mine != NULL;
}

void
eduai_privacy_job_main(Datum argument)
{
	MemoryContext context = CurrentMemoryContext;

	eduai_core_worker_helper_attach();
	if (!take_over(DatumGetCString(argument)))
		return;
	pgstat_report_activity(STATE_RUNNING, mine->call.job);
	eduai_core_pace_begin();
	PG_TRY();
	{
		run_steps(&mine->call, &mine->result);
		mine->result.sqlstate = 0;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		mine->result.sqlstate = error->sqlerrcode;
		strlcpy(mine->result.error, error->message, sizeof(mine->result.error));
		FlushErrorState();
		AbortOutOfAnyTransaction();
		ereport(LOG, (errcode(error->sqlerrcode),
					  errmsg("job \"%s\" failed: %s", mine->call.job, error->message)));
	}
	PG_END_TRY();
}

/* ---- the caller ---- */

static JobPlace *
take_place(const EduaiJobCall *call)
{
	JobPlace *place = NULL;

	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PLACES && place == NULL; i++)
		if (!OidIsValid(places[i].database))
			place = &places[i];
	if (place != NULL)
	{
		place->database = MyDatabaseId;
		place->serial++;
		place->abandoned = place->taken = false;
		place->call = *call;
		memset(&place->result, 0, sizeof(place->result));
		/* for a process that dies without a word */
		place->result.sqlstate = ERRCODE_CRASH_SHUTDOWN;
		strlcpy(place->result.error, "the process ended early", sizeof(place->result.error));
	}
	LWLockRelease(&lock->lock);
	return place;
}

/* The process has ended, or (interrupted) has not: it frees the place itself then. */
static void
give_place_back(JobPlace *place, bool ended)
{
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	if (ended || !place->taken)
		place->database = InvalidOid;
	else
		place->abandoned = true;
	LWLockRelease(&lock->lock);
}

static void
wait_for_end(BackgroundWorkerHandle *handle, bool commits)
{
	if (commits)
	{
		SPI_connect_ext(SPI_OPT_NONATOMIC);
		SPI_commit();
	}
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN),
						errmsg("the postmaster ended while a background worker ran")));
	if (commits)
	{
		EnsurePortalSnapshotExists();
		SPI_finish();
	}
}

static bool
run_apart(const EduaiJobCall *call, bool commits, EduaiJobResult *result)
{
	JobPlace *place = places ? take_place(call) : NULL;
	char argument[EDUAI_APART_ARGUMENT];
	BackgroundWorkerHandle *handle;

	if (place == NULL)
		return false;
	snprintf(argument, sizeof(argument), "%d %u", (int) (place - places), place->serial);
	handle = eduai_events_start_apart("eduai_privacy_job_main", argument);
	if (handle == NULL)
	{
		give_place_back(place, true);
		return false;
	}
	PG_TRY();
	{
		wait_for_end(handle, commits);
	}
	PG_CATCH();
	{
		give_place_back(place, false);
		PG_RE_THROW();
	}
	PG_END_TRY();
	*result = place->result;
	give_place_back(place, true);
	pfree(handle);
	return true;
}

void
eduai_privacy_job_run(const EduaiJobCall *call, bool commits, EduaiJobResult *result)
{
	memset(result, 0, sizeof(*result));
	if (!run_apart(call, commits, result))
	{
		memset(result, 0, sizeof(*result));
		run_here(call, result);
	}
}

bool
eduai_privacy_job_may_commit(FunctionCallInfo fcinfo)
{
	return fcinfo->context && IsA(fcinfo->context, CallContext) &&
		   !((CallContext *) fcinfo->context)->atomic;
}

void
eduai_privacy_job_raise(const EduaiJobResult *result)
{
	if (result->busy)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("this runs already"),
						errhint("Wait for its end.")));
	if (result->sqlstate != 0)
		ereport(ERROR,
				(errcode(result->sqlstate), errmsg("%s", result->error),
				 errdetail("What was done before stays done: " INT64_FORMAT " rows.", result->rows),
				 errhint("The server log has more; the call can be repeated.")));
}

static Size
places_size(void)
{
	return sizeof(JobPlace) * PLACES;
}

static void
places_init(void *ptr)
{
	memset(ptr, 0, places_size());
}

void
eduai_privacy_job_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_privacy_jobs",
										.size = places_size,
										.init = places_init,
										.nlocks = 1,
										.address = (void **) &places,
										.locks = &lock};

	eduai_core_shmem_register(&part);
}
