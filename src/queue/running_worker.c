/*
 * running_worker.c: which workers of applications there are.  See running.h.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/clock.h"
#include "core/shmem.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "queue/running_internal.h"

/* A worker's name is cut as an identifier is. */
static int
name_length(const char *name)
{
	return pg_mbcliplen(name, (int) strlen(name), NAMEDATALEN - 1);
}

static uint64
worker_hash(const char *tenant, const char *name, int length)
{
	uint64 seed =
		hash_bytes_extended((const unsigned char *) tenant, (int) strlen(tenant), MyDatabaseId);

	return Max(hash_bytes_extended((const unsigned char *) name, length, seed), 1);
}

static bool
is_worker(const WorkerPlace *place, uint64 hash, const char *tenant, const char *name, int length)
{
	return place->hash == hash && place->database == MyDatabaseId &&
		   strcmp(place->tenant, tenant) == 0 && strncmp(place->name, name, length) == 0 &&
		   place->name[length] == '\0';
}

/* A free place, or that of the worker not seen for longest, one without tasks if there is one. */
static int
make_room(void)
{
	WorkerPlace *all = eduai_queue_running->workers;
	int best = 0;

	for (int i = 0; i < RUNNING_WORKERS; i++)
	{
		if (all[i].hash == 0)
			return i;
		if ((all[i].leases == 0) != (all[best].leases == 0))
			best = all[i].leases == 0 ? i : best;
		else if (all[i].last_seen_us < all[best].last_seen_us)
			best = i;
	}
	eduai_queue_running_forget_worker(best);
	return best;
}

int
eduai_queue_worker_place(const char *tenant, const char *name, const char *task_types)
{
	static int last = 0; /* this session's, most likely */
	WorkerPlace *all = eduai_queue_running->workers;
	int length = name_length(name);
	uint64 hash = worker_hash(tenant, name, length);
	int index = last;

	if (!is_worker(&all[index], hash, tenant, name, length))
		for (index = 0; index < RUNNING_WORKERS; index++)
			if (is_worker(&all[index], hash, tenant, name, length))
				break;
	if (index == RUNNING_WORKERS)
	{
		index = make_room();
		all[index] = (WorkerPlace){.hash = hash, .database = MyDatabaseId};
		strlcpy(all[index].tenant, tenant, NAMEDATALEN);
		memcpy(all[index].name, name, length);
	}
	all[index].last_seen_us = eduai_core_mono_us();
	if (task_types != NULL)
	{
		int types_length =
			pg_mbcliplen(task_types, (int) strlen(task_types), sizeof(all[index].task_types) - 1);

		memcpy(all[index].task_types, task_types, types_length);
		all[index].task_types[types_length] = '\0';
	}
	last = index;
	return index;
}

void
eduai_queue_workers_forget(Oid database)
{
	for (int i = 0; i < RUNNING_WORKERS; i++)
		if (eduai_queue_running->workers[i].database == database)
			eduai_queue_running->workers[i].hash = 0;
}

int
eduai_queue_worker_seen(const char *tenant, const char *name, const char *task_types)
{
	int index;

	(void) eduai_queue_running_database();
	running_lock();
	index = eduai_queue_worker_place(tenant, name, task_types);
	running_unlock();
	return index;
}

int
eduai_queue_workers(const char *tenant, WorkerStand **workers)
{
	WorkerStand *found = palloc(sizeof(WorkerStand) * RUNNING_WORKERS);
	int n = 0;

	*workers = found;
	if (!eduai_core_preloaded())
		return 0;
	running_lock();
	for (int i = 0; i < RUNNING_WORKERS; i++)
	{
		const WorkerPlace *place = &eduai_queue_running->workers[i];

		if (place->hash == 0 || place->database != MyDatabaseId ||
			strcmp(place->tenant, tenant) != 0)
			continue;
		memcpy(found[n].name, place->name, NAMEDATALEN);
		memcpy(found[n].task_types, place->task_types, sizeof(found[n].task_types));
		found[n].leases = place->leases;
		found[n].last_seen_us = place->last_seen_us;
		n++;
	}
	running_unlock();
	return n;
}
