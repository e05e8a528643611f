/*
 * running_load.c: the attempts that ran when the server went down.  See
 * running.h.
 *
 * One session makes the entries, others wait for it: whoever starts or ends an
 * attempt comes through here first, so the rows that are read cannot change
 * before their entries are there.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "miscadmin.h"
#include "queue/running_internal.h"
#include "utils/lsyscache.h"

typedef struct RunningRow
{
	Attempt attempt;
	char *task_type;
	char *worker_name;
	ItemPointerData place;
	int64 timeout_ms;
} RunningRow;

static RunningRow *
read_rows(int *n)
{
	static EduaiPlan running = {
		"SELECT tenant_id, task_id, attempt, task_type, priority, concurrency_key, lease_ms, worker_name, ctid, "
		"(SELECT r.timeout_ms FROM eduai.task_request r WHERE r.tenant_id = l.tenant_id AND r.task_id = l.task_id) "
		"FROM eduai.task_live l WHERE state = 'running'",
		0};
	RunningRow *rows;
	bool isnull;

	*n = (int) eduai_core_run_latest(&running, NULL, NULL);
	rows = palloc0(sizeof(RunningRow) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		rows[i].attempt.tenant = eduai_core_text(i, 1);
		rows[i].attempt.task_id = eduai_core_int64(i, 2, 0);
		rows[i].attempt.attempt = (int) eduai_core_int64(i, 3, 0);
		rows[i].task_type = eduai_core_text(i, 4);
		rows[i].attempt.priority = (int) eduai_core_int64(i, 5, 0);
		rows[i].attempt.concurrency_key = eduai_core_text(i, 6);
		rows[i].attempt.lease_ms = eduai_core_int64(i, 7, 0);
		rows[i].attempt.worker = RUNNING_NONE;
		rows[i].worker_name = eduai_core_text(i, 8);
		rows[i].place = *(ItemPointer) DatumGetPointer(eduai_core_value(i, 9, &isnull));
		rows[i].timeout_ms = eduai_core_int64(i, 10, EDUAI_DAY_MS);
	}
	return rows;
}

/* NULL when the type is gone: such an attempt counts nowhere. */
static const Pool *
pool_of_type(const char *task_type)
{
	const TaskType *type = eduai_queue_type(task_type);

	/* a copy: looking for the pool may read the catalog anew */
	return type == NULL ? NULL : eduai_queue_pool(pstrdup(type->pool));
}

/* Under the lock; false when the table is full. */
static bool
put_row(DatabasePlace *database, RunningRow *row)
{
	Attempt *attempt = &row->attempt;
	int pool = attempt->pool == NULL ? RUNNING_NONE : eduai_queue_pool_place(attempt->pool);
	RunningEntry *entry;

	if (row->worker_name != NULL && attempt->lease_ms > 0)
		attempt->worker = eduai_queue_worker_place(attempt->tenant, row->worker_name, NULL);
	entry = eduai_queue_running_insert(attempt, pool);
	if (entry == NULL)
		return false;
	entry->committed = true;
	entry->place = row->place;
	if (attempt->lease_ms > 0)
	{
		int64 now_us = eduai_core_mono_us();

		entry->lease_until_us = now_us + attempt->lease_ms * 1000;
		eduai_queue_lease_limit(entry, now_us + row->timeout_ms * 1000);
		eduai_queue_lease_noted(database, entry->lease_until_us);
	}
	return true;
}

static void
load(DatabasePlace *database, Oid relation)
{
	int n;
	RunningRow *rows;
	bool fits = true;

	/* of an extension that was dropped, or of a loading that failed */
	running_lock();
	eduai_queue_running_forget(MyDatabaseId);
	pg_atomic_write_u64(&database->next_lapse_us, 0);
	database->relation = InvalidOid;
	running_unlock();

	rows = read_rows(&n);
	for (int i = 0; i < n && fits; i++)
	{
		rows[i].attempt.pool = pool_of_type(rows[i].task_type);
		running_lock();
		fits = put_row(database, &rows[i]);
		running_unlock();
	}
	if (!fits)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("more tasks are running than eduai.max_running allows"),
						errdetail("There are %d in this database.", n),
						errhint("Raise eduai.max_running and restart the server.")));
	running_lock();
	database->relation = relation;
	running_unlock();
	eduai_queue_running_wake();
}

void
eduai_queue_running_load(void)
{
	DatabasePlace *database;
	Oid relation;
	uint64 key;

	if (RecoveryInProgress())
		return;
	database = eduai_queue_running_database();
	relation = get_relname_relid("task_live", eduai_core_schema());
	if (database->relation == relation)
		return;
	key = eduai_core_lock_key("", "running");
	(void) eduai_core_lock_session(EDUAI_LOCK_RUNNING, key, false);
	PG_TRY();
	{
		if (database->relation != relation)
			load(database, relation);
	}
	PG_FINALLY();
	{
		eduai_core_unlock_session(EDUAI_LOCK_RUNNING, key);
	}
	PG_END_TRY();
}
