/*
 * running_table.c: the table of running attempts in shared memory.  See
 * running.h and running_internal.h.
 *
 * A chained hash by (database, task, attempt), and a second one over the same
 * entries by concurrency key.  Two keys with the same 64-bit hash count as one:
 * their tasks then wait for each other, no more.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/shmem.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "queue/running_internal.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#define LEAST_RUNNING   16
#define MOST_RUNNING    1048576
#define DEFAULT_RUNNING 16384

Running *eduai_queue_running = NULL;
LWLockPadded *eduai_queue_running_locks = NULL;

static int max_running = DEFAULT_RUNNING;

/* The two arrays of chains and the entries lie behind the struct Running. */

static uint32
bucket_count(void)
{
	return pg_nextpower2_32((uint32) max_running);
}

static int32 *
buckets(void)
{
	return (int32 *) ((char *) eduai_queue_running + MAXALIGN(sizeof(Running)));
}

static int32 *
key_buckets(void)
{
	return buckets() + bucket_count();
}

static RunningEntry *
entries(void)
{
	return (RunningEntry *) ((char *) buckets() +
							 MAXALIGN(sizeof(int32) * 2 * (Size) bucket_count()));
}

static Size
running_size(void)
{
	return MAXALIGN(sizeof(Running)) + MAXALIGN(sizeof(int32) * 2 * (Size) bucket_count()) +
		   sizeof(RunningEntry) * (Size) max_running;
}

static void
running_shmem_init(void *ptr)
{
	Running *r = ptr;
	int32 *chains = (int32 *) ((char *) ptr + MAXALIGN(sizeof(Running)));

	memset(r, 0, running_size());
	for (int i = 0; i < RUNNING_DATABASES; i++)
		pg_atomic_init_u64(&r->databases[i].next_lapse_us, 0);
	for (uint32 i = 0; i < 2 * bucket_count(); i++)
		chains[i] = RUNNING_NONE;
	r->free = RUNNING_NONE;
}

void
eduai_queue_running_table_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_running",
										.size = running_size,
										.init = running_shmem_init,
										.nlocks = 1,
										.address = (void **) &eduai_queue_running,
										.locks = &eduai_queue_running_locks};

	DefineCustomIntVariable(
		"eduai.max_running", "The most tasks that may run at once on this server.",
		"Each takes about 150 bytes of shared memory. When as many run, nothing more is started.",
		&max_running, DEFAULT_RUNNING, LEAST_RUNNING, MOST_RUNNING,
		/* a library that is not preloaded may define nothing for the start */
		process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	eduai_core_shmem_register(&part);
}

/* ---- databases ---- */

static DatabasePlace *my_place = NULL; /* kept as long as the database is there */

static DatabasePlace *
find_place(void)
{
	DatabasePlace *unused = NULL;

	for (int i = 0; i < RUNNING_DATABASES; i++)
	{
		DatabasePlace *place = &eduai_queue_running->databases[i];

		if (place->database == MyDatabaseId)
			return place;
		if (unused == NULL && !OidIsValid(place->database))
			unused = place;
	}
	if (unused != NULL)
	{
		unused->database = MyDatabaseId;
		unused->relation = InvalidOid;
		unused->ring_read = eduai_queue_running->ring_written;
		pg_atomic_write_u64(&unused->next_lapse_us, 0);
	}
	return unused;
}

/* Gives up the places of databases that were dropped. */
static void
drop_places(void)
{
	for (int i = 0; i < RUNNING_DATABASES; i++)
	{
		DatabasePlace *place = &eduai_queue_running->databases[i];
		Oid database = place->database;

		if (!OidIsValid(database) || SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)))
			continue;
		running_lock();
		if (place->database == database)
		{
			eduai_queue_running_forget(database);
			eduai_queue_workers_forget(database);
			place->database = InvalidOid;
		}
		running_unlock();
	}
}

DatabasePlace *
eduai_queue_running_database(void)
{
	eduai_core_require_preload("starting tasks");
	for (int try = 0; my_place == NULL && try < 2; try++)
	{
		if (try > 0)
			drop_places();
		running_lock();
		my_place = find_place();
		running_unlock();
	}
	if (my_place == NULL)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("too many databases use the queue"),
						errdetail("A server has room for %d.", RUNNING_DATABASES)));
	return my_place;
}

DatabasePlace *
eduai_queue_running_database_known(void)
{
	return my_place;
}

/* ---- entries ---- */

static int32 *
chain_of(Oid database, int64 task_id, int attempt)
{
	uint64 hash = hash_combine64((uint64) task_id, ((uint64) database << 32) | (uint32) attempt);

	/* the upper bits of a product depend on all of the factor's */
	return &buckets()[(hash * UINT64CONST(0x9E3779B97F4A7C15) >> 32) & (bucket_count() - 1)];
}

static int32 *
key_chain_of(uint64 key_hash)
{
	return &key_buckets()[key_hash & (bucket_count() - 1)];
}

RunningEntry *
eduai_queue_running_find(int64 task_id, int attempt)
{
	RunningEntry *all = entries();

	for (int32 i = *chain_of(MyDatabaseId, task_id, attempt); i != RUNNING_NONE; i = all[i].next)
		if (all[i].task_id == task_id && all[i].attempt == attempt &&
			all[i].database == MyDatabaseId)
			return &all[i];
	return NULL;
}

RunningEntry *
eduai_queue_running_find_key(uint64 hash)
{
	RunningEntry *all = entries();

	for (int32 i = *key_chain_of(hash); i != RUNNING_NONE; i = all[i].key_next)
		if (all[i].key_hash == hash && all[i].database == MyDatabaseId)
			return &all[i];
	return NULL;
}

RunningEntry *
eduai_queue_running_next(int *at)
{
	while (*at < eduai_queue_running->high)
	{
		RunningEntry *entry = &entries()[(*at)++];

		if (entry->database == MyDatabaseId)
			return entry;
	}
	return NULL;
}

int
eduai_queue_running_used(int *most)
{
	int used = 0;

	*most = eduai_queue_running == NULL ? 0 : max_running;
	if (*most == 0)
		return 0;
	running_lock();
	for (int i = 0; i < eduai_queue_running->high; i++)
		used += OidIsValid(entries()[i].database);
	running_unlock();
	return used;
}

static RunningEntry *
unused_entry(void)
{
	Running *r = eduai_queue_running;
	RunningEntry *entry;

	if (r->free != RUNNING_NONE)
	{
		entry = &entries()[r->free];
		r->free = entry->next;
		return entry;
	}
	return r->high < max_running ? &entries()[r->high++] : NULL;
}

static void
count(const RunningEntry *entry, int n)
{
	if (entry->pool != RUNNING_NONE)
	{
		PoolPlace *pool = &eduai_queue_running->pools[entry->pool];

		pool->running += n;
		pool->critical += entry->critical ? n : 0;
	}
	if (entry->worker != RUNNING_NONE)
		eduai_queue_running->workers[entry->worker].leases += n;
}

RunningEntry *
eduai_queue_running_insert(const Attempt *attempt, int pool)
{
	int32 *chain = chain_of(MyDatabaseId, attempt->task_id, attempt->attempt);
	RunningEntry *entry = unused_entry();
	int32 index;

	if (entry == NULL)
		return NULL;
	index = (int32) (entry - entries());
	*entry = (RunningEntry){.database = MyDatabaseId,
							.task_id = attempt->task_id,
							.attempt = attempt->attempt,
							.next = *chain,
							.key_next = RUNNING_NONE,
							.pool = pool,
							.worker = attempt->worker,
							.critical = attempt->priority == 0};
	strlcpy(entry->tenant, attempt->tenant, NAMEDATALEN);
	*chain = index;
	if (attempt->concurrency_key != NULL)
	{
		entry->key_hash = eduai_queue_key_hash(attempt->tenant, attempt->concurrency_key);
		entry->key_next = *key_chain_of(entry->key_hash);
		*key_chain_of(entry->key_hash) = index;
	}
	count(entry, 1);
	return entry;
}

static void
unlink_entry(const RunningEntry *entry)
{
	RunningEntry *all = entries();
	int32 index = (int32) (entry - all);
	int32 *link = chain_of(entry->database, entry->task_id, entry->attempt);

	while (*link != index)
		link = &all[*link].next;
	*link = entry->next;
	if (entry->key_hash == 0)
		return;
	link = key_chain_of(entry->key_hash);
	while (*link != index)
		link = &all[*link].key_next;
	*link = entry->key_next;
}

/* Whoever found no room is to look again. */
static void
room_made(const RunningEntry *entry)
{
	Running *r = eduai_queue_running;
	PoolPlace *pool = entry->pool == RUNNING_NONE ? NULL : &r->pools[entry->pool];

	if (entry->database == MyDatabaseId && r->refused)
		eduai_queue_running_want_slot_wake(NULL);
	else if (entry->database == MyDatabaseId && pool != NULL && pool->refused)
		eduai_queue_running_want_slot_wake(pool);
	r->refused = false;
	if (pool != NULL)
		pool->refused = false;
}

void
eduai_queue_running_remove(RunningEntry *entry)
{
	Running *r = eduai_queue_running;

	unlink_entry(entry);
	count(entry, -1);
	room_made(entry);
	if (entry->key_hash != 0)
		eduai_queue_key_freed(entry->database, entry->key_hash);
	entry->database = InvalidOid;
	entry->next = r->free;
	r->free = (int32) (entry - entries());
}

void
eduai_queue_running_forget(Oid database)
{
	for (int i = 0; i < eduai_queue_running->high; i++)
		if (entries()[i].database == database)
			eduai_queue_running_remove(&entries()[i]);
	eduai_queue_pools_forget(database);
}

void
eduai_queue_running_forget_worker(int worker)
{
	for (int i = 0; i < eduai_queue_running->high; i++)
		if (entries()[i].worker == worker)
			entries()[i].worker = RUNNING_NONE;
	eduai_queue_running->workers[worker].leases = 0;
}
