/*
 * worker_main.c: a worker's own life, from its start to its exit.
 *
 * The session lock of its kind makes it the only one in its database, whatever
 * the launcher believes.  SIGTERM is handled as in any backend (die), so that
 * DROP DATABASE ... FORCE, fast shutdown and pg_terminate_backend() work, and
 * process barriers are answered in CHECK_FOR_INTERRUPTS().
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "commands/extension.h"
#include "core/compat.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/worker_shared.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

static DatabaseSlot *my_database = NULL;
static WorkerSlot *my_slot = NULL;
static WaitEventSet *wait_set = NULL;
static uint32 seen_requests = 0;
static uint32 seen_changes = 0;
static bool reloaded = false;
static bool unserved = false; /* eduai.database names this database no more */

static void
detach(int code, Datum arg)
{
	LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
	my_slot->state = WORKER_NONE;
	my_slot->proc = EDUAI_NO_PROC;
	my_slot->pid = 0;
	LWLockRelease(&eduai_core_worker_lock->lock);
	LockReleaseAll(DEFAULT_LOCKMETHOD, true);
	ConditionVariableBroadcast(&my_database->left);
}

static void
attach(int64 epoch)
{
	LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
	my_slot->state = WORKER_RUNNING;
	my_slot->pid = MyProcPid;
	my_slot->proc = eduai_my_proc_number();
	my_slot->epoch = epoch;
	my_slot->started_at = GetCurrentTimestamp();
	LWLockRelease(&eduai_core_worker_lock->lock);
}

void
eduai_core_worker_pin_settings(void)
{
	static const char *const pins[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"session_replication_role", "origin"},
		{"jit", "off"},
		{"max_parallel_workers_per_gather", "0"},
		{"DateStyle", "ISO"},
		{"TimeZone", "UTC"},
	};

	for (size_t i = 0; i < lengthof(pins); i++)
		SetConfigOption(pins[i][0], pins[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	/* an attempt is on disk before its bytes leave; "off" would lose that order */
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
}

/* the version of the installed SQL, or NULL without the extension */
static char *
installed_version(void)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	char *version = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("eduai"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		Datum value =
			heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		version = isnull ? NULL : TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

static bool
extension_matches(void)
{
	char *version;
	bool matches;

	StartTransactionCommand();
	version = installed_version();
	matches = version != NULL && strcmp(version, EDUAI_VERSION) == 0;
	if (version != NULL && !matches)
		ereport(
			LOG,
			(errmsg("eduai's library is version %s, but database \"%s\" has version %s installed",
					EDUAI_VERSION, MyBgworkerEntry->bgw_extra, version),
			 errhint("Run ALTER EXTENSION eduai UPDATE.")));
	CommitTransactionCommand();
	return matches;
}

/*
 * No advisory lock: those are all released after each handler.  In a
 * transaction, whose abort takes a waiter out of the lock's queue; detach()
 * gives the lock back, which no end of a process does by itself.
 */
static void
be_the_only_one(int kind)
{
	StartTransactionCommand();
	LockSharedObjectForSession(DatabaseRelationId, MyDatabaseId, EDUAI_LOCK_WORKER + kind,
							   ExclusiveLock);
	CommitTransactionCommand();
}

void
eduai_core_worker_main(Datum arg)
{
	int index = DatumGetInt32(arg);
	int kind = index % EDUAI_WORKER_KINDS;
	int64 epoch = (int64) (eduai_core_random() >> 1);
	uint32 installs;

	my_database = &eduai_core_worker_shared->databases[index / EDUAI_WORKER_KINDS];
	my_slot = &my_database->workers[kind];

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(detach, (Datum) 0);
	BackgroundWorkerInitializeConnectionByOid(my_database->oid, InvalidOid, 0);
	eduai_core_worker_pin_settings();

	be_the_only_one(kind);
	installs = pg_atomic_read_u32(&my_database->installs);
	if (!extension_matches())
	{
		pg_atomic_write_u32(&my_database->absent_mark, installs + 1);
		proc_exit(0);
	}
	/* a database copied from a template was absent without any CREATE EXTENSION */
	pg_atomic_write_u32(&my_database->absent_mark, 0);
	attach(epoch);
	pgstat_report_activity(STATE_IDLE, NULL);
	eduai_core_worker_kind(kind)->run();
	proc_exit(0);
}

static void
helper_detach(int code, Datum arg)
{
	LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
	my_database->helpers--;
	LWLockRelease(&eduai_core_worker_lock->lock);
	ConditionVariableBroadcast(&my_database->left);
}

void
eduai_core_worker_helper_attach(void)
{
	LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
	my_database = eduai_core_worker_database(MyDatabaseId);
	if (my_database != NULL)
		my_database->helpers++;
	LWLockRelease(&eduai_core_worker_lock->lock);
	if (my_database != NULL)
		before_shmem_exit(helper_detach, (Datum) 0);
}

void
eduai_core_worker_watch(int fd)
{
	if (wait_set != NULL)
		FreeWaitEventSet(wait_set);
	wait_set = eduai_create_wait_event_set(3);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (fd >= 0)
		AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, fd, NULL, NULL);
}

static void
count_wakes(int wakes)
{
	if (wakes & EDUAI_WAKE_LATCH)
		pg_atomic_fetch_add_u64(&my_slot->latch_wakes, 1);
	if (wakes & EDUAI_WAKE_FD)
		pg_atomic_fetch_add_u64(&my_slot->fd_wakes, 1);
	if (wakes & EDUAI_WAKE_TIMEOUT)
		pg_atomic_fetch_add_u64(&my_slot->timeout_wakes, 1);
}

int
eduai_core_worker_wait(long timeout_ms)
{
	WaitEvent events[3];
	int n;
	int wakes = 0;

	if (wait_set == NULL)
		eduai_core_worker_watch(-1);
	n = WaitEventSetWait(wait_set, timeout_ms, events, lengthof(events), PG_WAIT_EXTENSION);
	if (n == 0)
		wakes = EDUAI_WAKE_TIMEOUT;
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			wakes |= EDUAI_WAKE_LATCH;
		}
		if (events[i].events & WL_SOCKET_READABLE)
			wakes |= EDUAI_WAKE_FD;
	}
	count_wakes(wakes);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		eduai_core_worker_pin_settings();
		reloaded = true;
		unserved = !eduai_core_worker_serves(MyBgworkerEntry->bgw_extra);
	}
	return wakes;
}

bool
eduai_core_worker_requested(void)
{
	uint32 now = pg_atomic_read_u32(&my_slot->requests);
	bool requested = now != seen_requests;

	seen_requests = now;
	return requested;
}

bool
eduai_core_worker_reconfigured(void)
{
	uint32 now = pg_atomic_read_u32(&my_database->changes);
	bool changed = now != seen_changes;

	seen_changes = now;
	return changed;
}

bool
eduai_core_worker_should_stop(void)
{
	/* a helper in a database that is not served */
	if (my_database == NULL)
		return false;
	return unserved || my_database->stopped || eduai_core_worker_absent(my_database);
}

int64
eduai_core_worker_epoch(void)
{
	return my_slot->epoch;
}

bool
eduai_core_worker_reloaded(void)
{
	bool was = reloaded;

	reloaded = false;
	return was;
}
