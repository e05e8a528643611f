/*
 * quota_prepared.c: prepared transactions and the quota.  See quota_prepared.h.
 *
 * A list in shared memory under a spinlock.  Caveat: when it is full, what
 * further prepared transactions reserve is given back at PREPARE, and such
 * tasks are not counted until the next restart.
 */
#include "postgres.h"

#include "access/relscan.h"
#include "access/transam.h"
#include "core/shmem.h"
#include "miscadmin.h"
#include "queue/fresh.h"
#include "queue/quota_prepared.h"
#include "queue/store_internal.h"
#include "storage/procarray.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#define MAX_PREPARED 1024

typedef struct Prepared
{
	TransactionId xid; /* InvalidTransactionId: free */
	Oid database;
	int place;
	int64 reserved;
	int64 released;
} Prepared;

typedef struct PreparedList
{
	slock_t mutex; /* guards all that follows */
	int n;
	Prepared entries[MAX_PREPARED];
} PreparedList;

static PreparedList *list = NULL;

static Size
list_size(void)
{
	return sizeof(PreparedList);
}

static void
list_shmem_init(void *ptr)
{
	memset(ptr, 0, sizeof(PreparedList));
	SpinLockInit(&((PreparedList *) ptr)->mutex);
}

void
eduai_queue_prepared_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_prepared",
										.size = list_size,
										.init = list_shmem_init,
										.address = (void **) &list};

	eduai_core_shmem_register(&part);
}

bool
eduai_queue_prepared_note(TransactionId xid, int place, int64 reserved, int64 released)
{
	Prepared *entry = NULL;

	SpinLockAcquire(&list->mutex);
	for (int i = 0; i < MAX_PREPARED; i++)
	{
		Prepared *p = &list->entries[i];

		/* a count after a restart notes a transaction row by row */
		if (p->xid == xid && p->database == MyDatabaseId && p->place == place)
		{
			entry = p;
			break;
		}
		if (entry == NULL && !TransactionIdIsValid(p->xid))
			entry = p;
	}
	if (entry != NULL && entry->xid != xid)
	{
		*entry = (Prepared){.xid = xid, .database = MyDatabaseId, .place = place};
		list->n++;
	}
	if (entry != NULL)
	{
		entry->reserved += reserved;
		entry->released += released;
	}
	SpinLockRelease(&list->mutex);
	return entry != NULL;
}

/* takes an entry out if it is still that transaction's, as it is by now */
static bool
take(int i, Prepared *seen)
{
	Prepared *p = &list->entries[i];
	bool same;

	SpinLockAcquire(&list->mutex);
	same = p->xid == seen->xid && p->database == seen->database && p->place == seen->place;
	if (same)
	{
		*seen = *p;
		p->xid = InvalidTransactionId;
		list->n--;
	}
	SpinLockRelease(&list->mutex);
	return same;
}

void
eduai_queue_prepared_settle(void (*apply)(int place, int64 change))
{
	/* without the lock: what comes at this moment is seen the next time */
	if (list == NULL || list->n == 0)
		return;
	for (int i = 0; i < MAX_PREPARED; i++)
	{
		Prepared seen;

		SpinLockAcquire(&list->mutex);
		seen = list->entries[i];
		SpinLockRelease(&list->mutex);
		if (!TransactionIdIsValid(seen.xid) || seen.database != MyDatabaseId ||
			TransactionIdIsInProgress(seen.xid) || !take(i, &seen))
			continue;
		apply(seen.place, TransactionIdDidCommit(seen.xid) ? -seen.released : -seen.reserved);
	}
}

int64
eduai_queue_prepared_count(const char *tenant, int place)
{
	EduaiTasks *tasks = eduai_queue_tasks_open();
	EduaiScan scan = {0};
	SnapshotData dirty;
	ScanKeyData key;
	int64 n = 0;

	InitDirtySnapshot(dirty);
	eduai_core_scan_begin(&scan, eduai_queue_tasks_table(tasks, TABLE_LIVE),
						  eduai_queue_tasks_index(tasks, LIVE_PKEY), &dirty, 1);
	eduai_core_key_text(&key, 1, CStringGetTextDatum(tenant));
	eduai_core_scan_seek(&scan, &key);
	while (eduai_core_scan_next(&scan, ForwardScanDirection))
	{
		bool kept = true;

		if (TransactionIdIsValid(dirty.xmin))
			kept = eduai_queue_prepared_note(dirty.xmin, place, 1, 0);
		else if (TransactionIdIsValid(dirty.xmax))
			(void) eduai_queue_prepared_note(dirty.xmax, place, 0, 1);
		n += kept ? 1 : 0;
	}
	eduai_core_scan_close(&scan);
	eduai_queue_tasks_close(tasks);
	n += eduai_queue_fresh_count(tenant);
	return n;
}
