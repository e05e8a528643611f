/*
 * launcher.c: keeps the workers of each served database alive.
 *
 * It is connected to no database and reads only the shared catalog
 * pg_database.  It wakes when a worker it started ends (the postmaster signals
 * it), when start_workers() or CREATE EXTENSION commits, on SIGHUP, and for a
 * slow sweep that finds databases copied from a template.  It also runs what
 * rooms have registered as its tasks.
 *
 * A worker that fails is started again after a second.  A database that has
 * no extension is looked at again every minute.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "core/compat.h"
#include "core/worker_shared.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "utils/wait_event.h"

#define RETRY_FAILED_MS   1000
#define RETRY_ABSENT_MS   60000
#define COMPLAIN_EVERY_MS 60000

#define MAX_TASKS 8

static const EduaiLauncherTask *tasks[MAX_TASKS];
static int ntasks = 0;

static BackgroundWorkerHandle *handles[EDUAI_MAX_DATABASES][EDUAI_WORKER_KINDS];

/* when a worker of the database last ended, or could not start; and whether it found it absent */
static TimestampTz ended_at[EDUAI_MAX_DATABASES];
static bool ended_absent[EDUAI_MAX_DATABASES];

/*
 * The oid of the database of that name, if it accepts connections, or, without
 * a name, of that oid; else InvalidOid.  Read by a plain scan: a process bound
 * to no database has none of the indexes.
 */
static Oid
find_database(const char *name, Oid oid)
{
	Relation rel = table_open(DatabaseRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(rel, 0, NULL);
	HeapTuple tuple;
	Oid found = InvalidOid;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		if (name != NULL ? strcmp(NameStr(row->datname), name) == 0 && row->datallowconn
						 : row->oid == oid)
			found = row->oid;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* tried again every second, told once a minute */
static void
complain_of_places(const char *kind, const char *database)
{
	static TimestampTz told = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (told != 0 && !TimestampDifferenceExceeds(told, now, COMPLAIN_EVERY_MS))
		return;
	told = now;
	ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				  errmsg("no background worker is left for \"eduai %s\" of database \"%s\"", kind,
						 database),
				  errhint("Raise max_worker_processes.")));
}

static void
start_worker(int d, int k, const char *database)
{
	DatabaseSlot *db = &eduai_core_worker_shared->databases[d];
	BackgroundWorker worker = {0};
	MemoryContext old;
	bool registered;

	snprintf(worker.bgw_name, BGW_MAXLEN, "eduai %s %s", eduai_core_worker_kind(k)->name, database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "eduai %s", eduai_core_worker_kind(k)->name);
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "eduai");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "eduai_core_worker_main");
	strlcpy(worker.bgw_extra, database, BGW_EXTRALEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(d * EDUAI_WORKER_KINDS + k);
	worker.bgw_notify_pid = MyProcPid;

	LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
	db->workers[k].state = WORKER_STARTING;
	LWLockRelease(&eduai_core_worker_lock->lock);

	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &handles[d][k]);
	MemoryContextSwitchTo(old);
	if (registered)
		return;

	handles[d][k] = NULL;
	ended_at[d] = GetCurrentTimestamp();
	ended_absent[d] = false;
	LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
	db->workers[k].state = WORKER_NONE;
	LWLockRelease(&eduai_core_worker_lock->lock);
	complain_of_places(eduai_core_worker_kind(k)->name, database);
}

/* forgets workers that ended, and says when to try again */
static void
reap(int d, TimestampTz now)
{
	DatabaseSlot *db = &eduai_core_worker_shared->databases[d];

	for (int k = 0; k < eduai_core_worker_kinds(); k++)
	{
		pid_t pid;

		if (handles[d][k] == NULL || GetBackgroundWorkerPid(handles[d][k], &pid) != BGWH_STOPPED)
			continue;
		pfree(handles[d][k]);
		handles[d][k] = NULL;
		LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
		/* a worker that could not even attach leaves its state behind */
		db->workers[k].state = WORKER_NONE;
		LWLockRelease(&eduai_core_worker_lock->lock);
		ConditionVariableBroadcast(&db->left);
		ended_at[d] = now;
		ended_absent[d] = eduai_core_worker_absent(db);
	}
}

static int
slot_with(Oid oid)
{
	for (int d = 0; d < EDUAI_MAX_DATABASES; d++)
		if (eduai_core_worker_shared->databases[d].oid == oid)
			return d;
	return -1;
}

/* frees the slots of databases that are no more and whose workers have gone */
static void
free_dropped(TimestampTz now)
{
	for (int d = 0; d < EDUAI_MAX_DATABASES; d++)
	{
		DatabaseSlot *db = &eduai_core_worker_shared->databases[d];
		bool any = false;

		if (!OidIsValid(db->oid) || OidIsValid(find_database(NULL, db->oid)))
			continue;
		reap(d, now);
		for (int k = 0; k < eduai_core_worker_kinds(); k++)
			any |= handles[d][k] != NULL;
		if (any)
			continue;
		ended_at[d] = 0;
		ended_absent[d] = false;
		pg_atomic_write_u32(&db->absent_mark, 0);
		LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
		db->stopped = false;
		db->oid = InvalidOid;
		LWLockRelease(&eduai_core_worker_lock->lock);
	}
}

/* the slot of a database, made if need be; -1 when all are taken.  Only the launcher writes oids. */
static int
slot_of(Oid oid, TimestampTz now)
{
	int d = slot_with(oid);

	if (d >= 0)
		return d;
	if (slot_with(InvalidOid) < 0)
		free_dropped(now);
	d = slot_with(InvalidOid);
	if (d < 0)
	{
		ereport(LOG, (errmsg("eduai serves at most %d databases", EDUAI_MAX_DATABASES)));
		return -1;
	}
	LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
	eduai_core_worker_shared->databases[d].oid = oid;
	LWLockRelease(&eduai_core_worker_lock->lock);
	return d;
}

/* ms until the workers of a database may be started, 0 for now */
static long
patience(int d, TimestampTz now)
{
	bool absent = eduai_core_worker_absent(&eduai_core_worker_shared->databases[d]);
	long passed = (long) ((now - ended_at[d]) / 1000);

	if (ended_absent[d] && !absent)
		return 0; /* the extension was created since */
	return Max(0, (absent ? RETRY_ABSENT_MS : RETRY_FAILED_MS) - Max(0, passed));
}

/* starts what should run in one database; returns ms until it wants to be seen again */
static long
serve(const char *name, TimestampTz now)
{
	Oid oid = find_database(name, InvalidOid);
	int d = OidIsValid(oid) ? slot_of(oid, now) : -1;
	DatabaseSlot *db;
	long wait;

	if (d < 0)
		return RETRY_ABSENT_MS;
	db = &eduai_core_worker_shared->databases[d];
	reap(d, now);
	if (db->stopped)
		return RETRY_ABSENT_MS;
	wait = patience(d, now);
	if (wait > 0)
		return wait;
	for (int k = 0; k < eduai_core_worker_kinds(); k++)
		if (handles[d][k] == NULL)
			start_worker(d, k, name);
	return RETRY_ABSENT_MS;
}

static long
serve_all(void)
{
	char *list = pstrdup(eduai_core_worker_databases());
	List *names;
	ListCell *cell;
	long next = RETRY_ABSENT_MS;
	TimestampTz now = GetCurrentTimestamp();

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	if (!SplitGUCList(list, ',', &names))
		ereport(LOG, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					  errmsg("invalid list syntax in parameter \"%s\"", "eduai.database")));
	foreach (cell, names)
		next = Min(next, serve(lfirst(cell), now));
	CommitTransactionCommand();
	return next;
}

void
eduai_core_launcher_task_register(const EduaiLauncherTask *task)
{
	if (ntasks == MAX_TASKS)
		elog(FATAL, "too many tasks for the launcher");
	tasks[ntasks++] = task;
}

void
eduai_core_launcher_wake(void)
{
	if (eduai_core_worker_shared != NULL)
		eduai_core_worker_set_latch(eduai_core_worker_shared->launcher_proc);
}

/* returns ms until one of them wants to be called again, at most "next" */
static long
run_tasks(long next)
{
	for (int i = 0; i < ntasks; i++)
	{
		long wish = tasks[i]->run();

		if (wish >= 0)
			next = Min(next, wish);
	}
	return next;
}

static void
launcher_exit(int code, Datum arg)
{
	eduai_core_worker_shared->launcher_proc = EDUAI_NO_PROC;
}

/* a launcher that died leaves workers it has no handle of: end them, and start anew */
static void
end_orphans(void)
{
	for (int d = 0; d < EDUAI_MAX_DATABASES; d++)
		for (int k = 0; k < EDUAI_WORKER_KINDS; k++)
		{
			WorkerSlot *slot = &eduai_core_worker_shared->databases[d].workers[k];

			LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
			if (slot->pid != 0)
				kill(slot->pid, SIGTERM);
			else
				slot->state = WORKER_NONE;
			LWLockRelease(&eduai_core_worker_lock->lock);
		}
}

void
eduai_core_launcher_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	on_shmem_exit(launcher_exit, (Datum) 0);
	eduai_core_worker_shared->launcher_proc = eduai_my_proc_number();
	end_orphans();
	context = AllocSetContextCreate(TopMemoryContext, "eduai launcher", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		long next;

		MemoryContextSwitchTo(context);
		next = serve_all();
		MemoryContextSwitchTo(context);
		next = run_tasks(next);
		MemoryContextReset(context);
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, next,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
