/*
 * quota.c: tenants' task counts.  See quota.h.
 *
 * An open-addressed table in shared memory; a tenant's place is taken under
 * the lock and kept until the server stops, its count is an atomic.  When the
 * table is full, further tenants share the last place: their limit is then
 * common, never silently off.
 *
 * What a prepared transaction did is settled when it has ended
 * (quota_prepared.h): by the dispatcher's sweep, or before a refusal.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "core/heap.h"
#include "core/lock.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "queue/quota.h"
#include "queue/quota_prepared.h"
#include "utils/memutils.h"

#define PLACES       4096
#define SHARED_PLACE (PLACES - 1)

typedef struct TenantCount
{
	Oid database; /* InvalidOid: free */
	Oid relation; /* eduai.task_live when its rows were counted; InvalidOid: not yet */
	char tenant[NAMEDATALEN];
	pg_atomic_uint64 count; /* as int64 */
} TenantCount;

/* what this transaction did to one place, in one subtransaction */
typedef struct Change
{
	struct Change *next;
	TenantCount *place;
	SubTransactionId subxact;
	int64 reserved;
	int64 released;
} Change;

static TenantCount *table = NULL;
static LWLockPadded *table_lock = NULL;
static Change *changes = NULL; /* in TopTransactionContext */
static TransactionId preparing = InvalidTransactionId;

static Size
quota_size(void)
{
	return sizeof(TenantCount) * PLACES;
}

static void
quota_shmem_init(void *ptr)
{
	TenantCount *all = ptr;

	memset(all, 0, quota_size());
	for (int i = 0; i < PLACES; i++)
		pg_atomic_init_u64(&all[i].count, 0);
}

static void
add(TenantCount *place, int64 n)
{
	pg_atomic_fetch_add_u64(&place->count, n);
}

static void
on_commit(void)
{
	for (Change *c = changes; c != NULL; c = c->next)
		add(c->place, -c->released);
	changes = NULL;
}

static void
on_abort(void)
{
	for (Change *c = changes; c != NULL; c = c->next)
		add(c->place, -c->reserved);
	changes = NULL;
}

static void
before_prepare(void)
{
	preparing = GetTopTransactionIdIfAny();
}

static void
on_prepare(void)
{
	for (Change *c = changes; c != NULL; c = c->next)
		if ((c->reserved > 0 || c->released > 0) &&
			!eduai_queue_prepared_note(preparing, (int) (c->place - table), c->reserved,
									   c->released))
			add(c->place, -(c->reserved + c->released));
	changes = NULL;
}

static void
settle(int place, int64 change)
{
	add(&table[place], change);
}

void
eduai_queue_quota_settle(void)
{
	eduai_queue_prepared_settle(settle);
}

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (Change *c = changes; c != NULL; c = c->next)
	{
		if (c->subxact != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			c->subxact = parent;
		else
		{
			add(c->place, -c->reserved);
			c->reserved = 0;
			c->released = 0;
		}
	}
}

void
eduai_queue_quota_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_quota",
										.size = quota_size,
										.init = quota_shmem_init,
										.nlocks = 1,
										.address = (void **) &table,
										.locks = &table_lock};
	static const EduaiXactHooks hooks = {.name = "quota",
										 .rank = EDUAI_RANK_QUEUE,
										 .commit = on_commit,
										 .abort = on_abort,
										 .pre_prepare = before_prepare,
										 .prepare = on_prepare,
										 .subxact = on_subxact};

	eduai_core_shmem_register(&part);
	eduai_queue_prepared_init();
	eduai_core_xact_register(&hooks);
}

/* finds a tenant's place, or takes a free one */
static TenantCount *
find_place(const char *tenant)
{
	uint32 hash = hash_bytes((const unsigned char *) tenant, strlen(tenant)) ^ MyDatabaseId;
	TenantCount *free_place = NULL;

	for (int probe = 0; probe < PLACES; probe++)
	{
		TenantCount *place = &table[(hash + probe) % PLACES];

		if (place == &table[SHARED_PLACE])
			continue;
		if (place->database == MyDatabaseId && strcmp(place->tenant, tenant) == 0)
			return place;
		if (!OidIsValid(place->database))
		{
			free_place = place;
			break;
		}
	}
	return free_place ? free_place : &table[SHARED_PLACE];
}

/*
 * The first use of a tenant since the server started, or since the extension
 * was created anew.  Everybody who enqueues or finishes for it comes through
 * here, so under the session lock no other transaction can have uncounted
 * tasks, but prepared ones.
 */
static void
start_counting(TenantCount *place, const char *tenant, Oid relation)
{
	uint64 key = eduai_core_lock_key(tenant, "quota");

	(void) eduai_core_lock_session(EDUAI_LOCK_QUOTA, key, false);
	PG_TRY();
	{
		if (place->relation != relation)
		{
			int64 rows = eduai_queue_prepared_count(tenant, (int) (place - table));

			pg_atomic_write_u64(&place->count, rows);
			LWLockAcquire(&table_lock->lock, LW_EXCLUSIVE);
			place->relation = relation;
			LWLockRelease(&table_lock->lock);
		}
	}
	PG_FINALLY();
	{
		eduai_core_unlock_session(EDUAI_LOCK_QUOTA, key);
	}
	PG_END_TRY();
}

static TenantCount *
place_of(const char *tenant)
{
	static TenantCount *last = NULL; /* places are never given up */
	static EduaiTable live = {"task_live", "task_live_pkey"};
	Oid relation;
	TenantCount *place;

	eduai_core_table_find(&live);
	relation = live.relid;
	if (last != NULL && last->relation == relation && strcmp(last->tenant, tenant) == 0)
		return last;
	LWLockAcquire(&table_lock->lock, LW_EXCLUSIVE);
	place = find_place(tenant);
	if (!OidIsValid(place->database))
	{
		strlcpy(place->tenant, tenant, NAMEDATALEN);
		place->database = MyDatabaseId;
	}
	LWLockRelease(&table_lock->lock);
	if (place->relation != relation)
		start_counting(place, tenant, relation);
	last = place;
	return place;
}

static Change *
change_of(TenantCount *place)
{
	SubTransactionId mine = GetCurrentSubTransactionId();
	Change *c;

	for (c = changes; c != NULL; c = c->next)
		if (c->place == place && c->subxact == mine)
			return c;
	c = MemoryContextAllocZero(TopTransactionContext, sizeof(Change));
	c->place = place;
	c->subxact = mine;
	c->next = changes;
	changes = c;
	return c;
}

static bool
add_within(TenantCount *place, int n, int limit)
{
	uint64 old = pg_atomic_read_u64(&place->count);

	do
	{
		if (limit > 0 && (int64) old + n > limit)
			return false;
	} while (!pg_atomic_compare_exchange_u64(&place->count, &old, old + n));
	return true;
}

bool
eduai_queue_quota_reserve(const char *tenant, int n, int limit)
{
	TenantCount *place = place_of(tenant);
	Change *change = change_of(place);

	if (!add_within(place, n, limit))
	{
		eduai_queue_quota_settle();
		if (!add_within(place, n, limit))
			return false;
	}
	change->reserved += n;
	return true;
}

void
eduai_queue_quota_know(const char *tenant)
{
	if (table != NULL)
		(void) place_of(tenant);
}

void
eduai_queue_quota_release(const char *tenant, int n)
{
	change_of(place_of(tenant))->released += n;
}
