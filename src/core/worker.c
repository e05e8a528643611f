/*
 * worker.c: workers seen from outside: registration, wake-ups, stop and start.
 *
 * The launcher is in launcher.c, a worker's own life in worker_main.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "core/compat.h"
#include "core/pause.h"
#include "core/privilege.h"
#include "core/worker_shared.h"
#include "core/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/varlena.h"
#include "utils/wait_event.h"

WorkerShared *eduai_core_worker_shared = NULL;
LWLockPadded *eduai_core_worker_lock = NULL;

static char *databases_setting = NULL;
static const EduaiWorkerKind *kinds[EDUAI_WORKER_KINDS];
static int nkinds = 0;

/* of this transaction: kinds to wake, the launcher to wake, the extension dropped */
static uint32 pending_kinds = 0;
static bool pending_change = false;
static bool pending_launcher = false;
static bool pending_drop = false;
static SubTransactionId drop_subxact;

static void (*forgetters[4])(void);
static int nforgetters = 0;

static object_access_hook_type prev_object_access = NULL;

PG_FUNCTION_INFO_V1(eduai_stop_workers);
PG_FUNCTION_INFO_V1(eduai_start_workers);
PG_FUNCTION_INFO_V1(eduai_preloaded);

static Size
worker_size(void)
{
	return sizeof(WorkerShared);
}

static void
worker_shmem_init(void *ptr)
{
	WorkerShared *shared = ptr;

	memset(shared, 0, sizeof(*shared));
	shared->launcher_proc = EDUAI_NO_PROC;
	for (int d = 0; d < EDUAI_MAX_DATABASES; d++)
	{
		DatabaseSlot *db = &shared->databases[d];

		ConditionVariableInit(&db->left);
		pg_atomic_init_u32(&db->installs, 0);
		pg_atomic_init_u32(&db->absent_mark, 0);
		pg_atomic_init_u32(&db->changes, 0);
		for (int k = 0; k < EDUAI_WORKER_KINDS; k++)
		{
			db->workers[k].proc = EDUAI_NO_PROC;
			pg_atomic_init_u32(&db->workers[k].requests, 0);
			pg_atomic_init_u64(&db->workers[k].latch_wakes, 0);
			pg_atomic_init_u64(&db->workers[k].fd_wakes, 0);
			pg_atomic_init_u64(&db->workers[k].timeout_wakes, 0);
		}
	}
}

int
eduai_core_worker_register(const EduaiWorkerKind *kind)
{
	if (nkinds >= EDUAI_WORKER_KINDS)
		elog(FATAL, "too many kinds of workers");
	kinds[nkinds] = kind;
	return nkinds++;
}

const EduaiWorkerKind *
eduai_core_worker_kind(int index)
{
	return kinds[index];
}

int
eduai_core_worker_kinds(void)
{
	return nkinds;
}

char *
eduai_core_worker_databases(void)
{
	return databases_setting;
}

bool
eduai_core_worker_serves(const char *database)
{
	char *list = pstrdup(databases_setting);
	List *names = NIL;
	ListCell *cell;
	bool found = false;

	if (SplitGUCList(list, ',', &names))
		foreach (cell, names)
			found |= strcmp(lfirst(cell), database) == 0;
	list_free(names);
	pfree(list);
	return found;
}

DatabaseSlot *
eduai_core_worker_database(Oid oid)
{
	if (eduai_core_worker_shared == NULL)
		return NULL;
	for (int i = 0; i < EDUAI_MAX_DATABASES; i++)
		if (eduai_core_worker_shared->databases[i].oid == oid)
			return &eduai_core_worker_shared->databases[i];
	return NULL;
}

void
eduai_core_worker_set_latch(int proc)
{
	if (proc != EDUAI_NO_PROC)
		SetLatch(&ProcGlobal->allProcs[proc].procLatch);
}

static void
wake(DatabaseSlot *db, int kind)
{
	pg_atomic_fetch_add_u32(&db->workers[kind].requests, 1);
	eduai_core_worker_set_latch(db->workers[kind].proc);
}

void
eduai_core_worker_wake_now(int kind)
{
	DatabaseSlot *db = eduai_core_worker_database(MyDatabaseId);

	if (db != NULL)
		wake(db, kind);
}

void
eduai_core_worker_wake_at_commit(int kind)
{
	pending_kinds |= (uint32) 1 << kind;
}

void
eduai_core_worker_reconfigure_at_commit(int kind)
{
	pending_change = true;
	eduai_core_worker_wake_at_commit(kind);
}

static void
forget_pending(void)
{
	pending_kinds = 0;
	pending_change = false;
	pending_launcher = false;
	pending_drop = false;
}

void
eduai_core_worker_at_drop(void (*forget)(void))
{
	if (nforgetters == lengthof(forgetters))
		elog(FATAL, "too many forget what was dropped");
	forgetters[nforgetters++] = forget;
}

static void
on_commit(void)
{
	DatabaseSlot *db;

	if (pending_kinds == 0 && !pending_launcher && !pending_drop)
		return;
	for (int i = 0; pending_drop && i < nforgetters; i++)
		forgetters[i]();
	EDUAI_PAUSE("commit-before-wake");
	db = eduai_core_worker_database(MyDatabaseId);
	if (db != NULL)
	{
		if (pending_launcher)
			pg_atomic_fetch_add_u32(&db->installs, 1);
		else if (pending_drop)
			pg_atomic_write_u32(&db->absent_mark, pg_atomic_read_u32(&db->installs) + 1);
		if (pending_change)
			pg_atomic_fetch_add_u32(&db->changes, 1);
		for (int k = 0; k < nkinds; k++)
			if (pending_drop || (pending_kinds & ((uint32) 1 << k)))
				wake(db, k);
	}
	if (pending_launcher && eduai_core_worker_shared != NULL)
		eduai_core_worker_set_latch(eduai_core_worker_shared->launcher_proc);
	forget_pending();
	EDUAI_PAUSE("commit-after-wake");
	EDUAI_PAUSE("commit-after-wake");
}

/* DROP EXTENSION eduai sends the workers home when it commits */
static void
on_object_access(ObjectAccessType access, Oid classid, Oid objectid, int subid, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classid, objectid, subid, arg);
	if (access == OAT_DROP && classid == ExtensionRelationId)
	{
		char *name = get_extension_name(objectid);

		if (name != NULL && strcmp(name, "eduai") == 0)
		{
			pending_drop = true;
			drop_subxact = GetCurrentSubTransactionId();
		}
	}
}

/* DROP EXTENSION in a savepoint that is rolled back has not happened */
static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	if (!pending_drop || mine != drop_subxact)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		pending_drop = false;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		drop_subxact = parent;
}

void
eduai_core_worker_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_worker",
										.size = worker_size,
										.init = worker_shmem_init,
										.nlocks = 1,
										.address = (void **) &eduai_core_worker_shared,
										.locks = &eduai_core_worker_lock};
	static const EduaiXactHooks hooks = {.name = "worker",
										 .rank = EDUAI_RANK_WORKER,
										 .commit = on_commit,
										 .abort = forget_pending,
										 .prepare = forget_pending,
										 .subxact = on_subxact};
	BackgroundWorker launcher = {0};

	DefineCustomStringVariable(
		"eduai.database", "The databases that eduai's workers serve, separated by commas.", NULL,
		&databases_setting, "postgres", PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
	prev_object_access = object_access_hook;
	object_access_hook = on_object_access;

	if (!process_shared_preload_libraries_in_progress)
		return;
	snprintf(launcher.bgw_name, BGW_MAXLEN, "eduai launcher");
	snprintf(launcher.bgw_type, BGW_MAXLEN, "eduai launcher");
	snprintf(launcher.bgw_library_name, BGW_MAXLEN, "eduai");
	snprintf(launcher.bgw_function_name, BGW_MAXLEN, "eduai_core_launcher_main");
	launcher.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	launcher.bgw_start_time = BgWorkerStart_RecoveryFinished;
	launcher.bgw_restart_time = 1;
	RegisterBackgroundWorker(&launcher);
}

static bool
any_worker(DatabaseSlot *db)
{
	bool any;

	LWLockAcquire(&eduai_core_worker_lock->lock, LW_SHARED);
	any = db->helpers > 0;
	for (int k = 0; k < nkinds; k++)
		any |= db->workers[k].state != WORKER_NONE;
	LWLockRelease(&eduai_core_worker_lock->lock);
	return any;
}

/* stop_workers(): at once, not at commit; returns when they are gone */
Datum
eduai_stop_workers(PG_FUNCTION_ARGS)
{
	DatabaseSlot *db;

	eduai_core_require_preload("stop_workers()");
	db = eduai_core_worker_database(MyDatabaseId);
	if (db == NULL)
		PG_RETURN_VOID();
	LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
	db->stopped = true;
	LWLockRelease(&eduai_core_worker_lock->lock);

	ConditionVariablePrepareToSleep(&db->left);
	while (any_worker(db))
	{
		for (int k = 0; k < nkinds; k++)
			wake(db, k);
		/* repeated: a worker that was just starting had no latch to set */
		(void) ConditionVariableTimedSleep(&db->left, 200, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_VOID();
}

/* start_workers(): undoes stop_workers(); CREATE EXTENSION ends with it */
Datum
eduai_start_workers(PG_FUNCTION_ARGS)
{
	DatabaseSlot *db;

	eduai_core_require_preload("start_workers()");
	LWLockAcquire(&eduai_core_worker_lock->lock, LW_EXCLUSIVE);
	db = eduai_core_worker_database(MyDatabaseId);
	if (db != NULL)
		db->stopped = false;
	LWLockRelease(&eduai_core_worker_lock->lock);
	pending_launcher = true;
	PG_RETURN_VOID();
}

Datum
eduai_preloaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(eduai_core_preloaded());
}
