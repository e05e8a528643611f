/*
 * projector.c: the worker that keeps the log in order.
 *
 * Its work is chores (core/chores.h).
 *
 * In shared memory each running projector has a place: its database, its
 * latch, and how its chores fare, for health().  The lock guards all of it but
 * two things that commit callbacks read without: database and latch.  A place
 * given back meanwhile costs a wake-up for nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/chores.h"
#include "core/health.h"
#include "core/json.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/worker.h"
#include "events/compact.h"
#include "events/partition.h"
#include "events/projector.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* one for each database that core serves */
#define MAX_PLACES  64
#define MAX_MESSAGE 200
#define HOUR_MS     3600000

/* how a chore fares */
typedef struct ChoreShared
{
	uint64 runs; /* that succeeded */
	TimestampTz last_run_at;
	TimestampTz failing_since; /* 0: it does not */
	int sqlstate;              /* of the last failure */
	char message[MAX_MESSAGE];
} ChoreShared;

typedef struct Place
{
	Oid database; /* InvalidOid: free */
	Latch *latch;
	ChoreShared chores[EDUAI_CHORES];
} Place;

static int kind = -1;

static Place *places = NULL;
static LWLockPadded *places_lock = NULL;

/* in a projector */
static Place *mine = NULL;

/* ---- places ---- */

static Size
places_size(void)
{
	return sizeof(Place) * MAX_PLACES;
}

static void
places_init(void *ptr)
{
	memset(ptr, 0, places_size());
}

/* of this database; the caller holds the lock, or takes the answer for a hint */
static int
find_place(void)
{
	/* where it was last time */
	static int known = 0;

	if (places == NULL || !OidIsValid(MyDatabaseId))
		return -1;
	if (places[known].database == MyDatabaseId)
		return known;
	for (int i = 0; i < MAX_PLACES; i++)
		if (places[i].database == MyDatabaseId)
			return known = i;
	return -1;
}

void
eduai_events_projector_nudge(void)
{
	int place = find_place();
	Latch *latch = place >= 0 ? places[place].latch : NULL;

	if (latch != NULL)
		SetLatch(latch);
}

static void
give_place_back(int code, Datum arg)
{
	LWLockAcquire(&places_lock->lock, LW_EXCLUSIVE);
	mine->database = InvalidOid;
	mine->latch = NULL;
	LWLockRelease(&places_lock->lock);
}

static void
take_place(void)
{
	LWLockAcquire(&places_lock->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_PLACES && mine == NULL; i++)
		if (!OidIsValid(places[i].database))
			mine = &places[i];
	if (mine != NULL)
	{
		memset(mine, 0, sizeof(*mine));
		mine->latch = MyLatch;
		mine->database = MyDatabaseId;
	}
	LWLockRelease(&places_lock->lock);
	if (mine == NULL)
		elog(FATAL, "no place is left for the projector");
	before_shmem_exit(give_place_back, (Datum) 0);
}

/* ---- running chores ---- */

/* for health() */
static void
chore_fared(int i, const ErrorData *error)
{
	ChoreShared *shared = &mine->chores[i];
	TimestampTz now = GetCurrentTimestamp();
	int length =
		error ? pg_mbcliplen(error->message, (int) strlen(error->message), MAX_MESSAGE - 1) : 0;

	LWLockAcquire(&places_lock->lock, LW_EXCLUSIVE);
	if (error == NULL)
	{
		shared->runs++;
		shared->last_run_at = now;
		shared->failing_since = 0;
	}
	else
	{
		if (shared->failing_since == 0)
			shared->failing_since = now;
		shared->sqlstate = error->sqlerrcode;
		memcpy(shared->message, error->message, length);
		shared->message[length] = '\0';
	}
	LWLockRelease(&places_lock->lock);
}

static EduaiChores chores = {"projector", take_place, chore_fared};

static void
run(void)
{
	eduai_core_chores_run(&chores);
}

void
eduai_events_chore_register(const EduaiChore *chore)
{
	eduai_core_chores_add(&chores, chore);
}

void
eduai_events_as_owner(void (*work)(void))
{
	EduaiPrivilege saved;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter(&saved);
	SPI_connect();
	work();
	SPI_finish();
	eduai_core_leave(&saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

void
eduai_events_projector_wake_at_commit(void)
{
	eduai_core_worker_wake_at_commit(kind);
}

void
eduai_events_projector_reconfigure_at_commit(void)
{
	eduai_core_worker_reconfigure_at_commit(kind);
}

void
eduai_events_projector_wake_now(void)
{
	eduai_core_worker_wake_now(kind);
}

/* ---- health ---- */

static void
put_chore(EduaiJson *j, const EduaiChore *chore, const ChoreShared *shared)
{
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_text(j, "chore", chore->name);
	eduai_core_json_put_int(j, "runs", (int64) shared->runs);
	if (shared->last_run_at != 0)
		eduai_core_json_put_time(j, "last_run_at", shared->last_run_at);
	if (shared->failing_since != 0)
	{
		eduai_core_json_put_time(j, "failing_since", shared->failing_since);
		eduai_core_json_put_text(j, "error", shared->message);
	}
	eduai_core_json_close_object(j);
}

/* without a projector, core says that it is not running */
static void
report(EduaiHealth *health)
{
	Place copy = {0};
	EduaiJson j;
	int place;

	if (places == NULL)
		return;
	LWLockAcquire(&places_lock->lock, LW_SHARED);
	place = find_place();
	if (place >= 0)
		copy = places[place];
	LWLockRelease(&places_lock->lock);

	eduai_core_json_begin(&j);
	eduai_core_json_open_array(&j, "chores");
	for (int i = 0; i < chores.n && place >= 0; i++)
	{
		const ChoreShared *shared = &copy.chores[i];

		put_chore(&j, chores.chores[i], shared);
		if (shared->failing_since != 0)
			eduai_core_health_problem(
				health, "projector_chore_failing", "warning", shared->failing_since,
				psprintf("The projector's chore \"%s\" fails: %s (SQLSTATE %s).",
						 chores.chores[i]->name, shared->message,
						 unpack_sql_state(shared->sqlstate)),
				"It is tried again at least once a minute. The server log has the details.");
	}
	eduai_core_json_close_array(&j);
	eduai_core_health_section(health, "events", eduai_core_json_end(&j));
}

/* ---- a process apart ---- */

/* what a worker is told, by way of bgw_extra */
typedef struct ApartCall
{
	char function[64];
	char argument[EDUAI_APART_ARGUMENT + 1];
} ApartCall;

StaticAssertDecl(sizeof(ApartCall) <= BGW_EXTRALEN, "a call fits the worker's extra bytes");

void
eduai_events_apart_main(Datum arg)
{
	void (*function)(Datum);
	ApartCall call;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	memcpy(&call, MyBgworkerEntry->bgw_extra, sizeof(call));
	function = (void (*)(Datum)) load_external_function("eduai", call.function, true, NULL);
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	eduai_core_worker_pin_settings();
	SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
	/* whoever waits for this process may hold what it waits for, which no deadlock check sees */
	SetConfigOption("lock_timeout", "10s", PGC_SUSET, PGC_S_OVERRIDE);
	function(CStringGetDatum(call.argument));
}

BackgroundWorkerHandle *
eduai_events_start_apart(const char *function, const char *argument)
{
	MemoryContext old;
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;
	ApartCall call = {0};
	bool started;

	strlcpy(call.function, function, sizeof(call.function));
	strlcpy(call.argument, argument, sizeof(call.argument));
	snprintf(worker.bgw_name, BGW_MAXLEN, "eduai helper %u", MyDatabaseId);
	snprintf(worker.bgw_type, BGW_MAXLEN, "eduai helper");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "eduai");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "eduai_events_apart_main");
	memcpy(worker.bgw_extra, &call, sizeof(call));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	worker.bgw_notify_pid = MyProcPid;
	old = MemoryContextSwitchTo(TopMemoryContext);
	started = RegisterDynamicBackgroundWorker(&worker, &handle);
	MemoryContextSwitchTo(old);
	return started ? handle : NULL;
}

bool
eduai_events_run_apart(const char *function)
{
	BackgroundWorkerHandle *handle = eduai_events_start_apart(function, "");

	if (handle == NULL)
		return false;
	/* raises when the postmaster died, or when this backend is interrupted */
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN),
						errmsg("the postmaster ended while a background worker ran")));
	pfree(handle);
	return true;
}

/* ---- the room's own chores ---- */

static long
keep_partitions(void)
{
	eduai_events_as_owner(eduai_events_partition_upkeep);
	return HOUR_MS;
}

void
eduai_events_projector_init(void)
{
	static const EduaiWorkerKind projector = {"projector", run};
	static const EduaiChore partitions = {"partitions", keep_partitions, NULL};
	static const EduaiChore compaction = {"compaction", eduai_events_compact_due, NULL};
	static const EduaiShmemPart part = {.name = "eduai_events_projector",
										.size = places_size,
										.init = places_init,
										.nlocks = 1,
										.address = (void **) &places,
										.locks = &places_lock};

	kind = eduai_core_worker_register(&projector);
	eduai_core_shmem_register(&part);
	eduai_core_health_register(report);
	eduai_events_chore_register(&partitions);
	eduai_events_chore_register(&compaction);
}
