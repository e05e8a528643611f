/*
 * running_lease.c: leases that are over, and keys that became free.  See
 * running.h.
 */
#include "postgres.h"

#include "core/clock.h"
#include "miscadmin.h"
#include "queue/running_internal.h"

/* who took a lapsed attempt and did nothing with it is given so long */
#define LAPSED_AGAIN_US (5 * USECS_PER_SEC)
#define UNLAPSED_US     (100 * INT64CONST(1000))
#define LOOK_EVERY_US   (50 * INT64CONST(1000))

/* ---- leases ---- */

void
eduai_queue_lease_noted(DatabasePlace *database, int64 until_us)
{
	uint64 bound;

	if (database == NULL)
		return;
	bound = pg_atomic_read_u64(&database->next_lapse_us);
	if (bound != 0 && bound <= (uint64) until_us)
		return;
	/* written under the lock only */
	pg_atomic_write_u64(&database->next_lapse_us, (uint64) until_us);
	/* the dispatcher sleeps until the lease that it knew of */
	eduai_queue_running_want_wake();
}

void
eduai_queue_lease_limit(RunningEntry *entry, int64 limit_us)
{
	entry->limit_us = limit_us;
	if (limit_us != 0)
		entry->lease_until_us = Min(entry->lease_until_us, limit_us);
}

int64
eduai_queue_lease_extend(int64 task_id, int attempt, int64 lease_ms)
{
	DatabasePlace *database = eduai_queue_running_database();
	int64 now_us = eduai_core_mono_us();
	int64 until_us = now_us + lease_ms * 1000;
	RunningEntry *entry;

	running_lock();
	entry = eduai_queue_running_find(task_id, attempt);
	if (entry == NULL || entry->lease_until_us == 0 || entry->lapsed)
		until_us = 0;
	else if (entry->limit_us != 0)
		until_us = Min(until_us, entry->limit_us);
	if (until_us > now_us)
	{
		entry->lease_until_us = until_us;
		eduai_queue_lease_noted(database, until_us);
		if (entry->worker != RUNNING_NONE)
			eduai_queue_running->workers[entry->worker].last_seen_us = now_us;
	}
	running_unlock();
	eduai_queue_running_wake();
	return Max(until_us - now_us, 0) / 1000;
}

/* Takes what is over; the earliest end of the others is the new bound. */
static int
take_lapsed(DatabasePlace *database, Lapsed *lapsed, int most, int64 now, int64 late_us)
{
	int64 next = PG_INT64_MAX;
	int n = 0;
	int at = 0;
	RunningEntry *entry;

	while ((entry = eduai_queue_running_next(&at)) != NULL)
	{
		/* claims and ends in progress say when they are over */
		if (entry->lease_until_us == 0 || !entry->committed || entry->enders > 0)
			continue;
		if (entry->lease_until_us <= now - late_us && n < most)
		{
			lapsed[n].task_id = entry->task_id;
			lapsed[n].attempt = entry->attempt;
			lapsed[n].timed_out = entry->limit_us != 0 && entry->limit_us <= now;
			strlcpy(lapsed[n].tenant, entry->tenant, NAMEDATALEN);
			n++;
			entry->lapsed = true;
			entry->lease_until_us = now + LAPSED_AGAIN_US;
		}
		next = Min(next, entry->lease_until_us);
	}
	if (next == PG_INT64_MAX)
		next = 0;
	else if (n < most)
		next = Max(next, now + LOOK_EVERY_US);
	pg_atomic_write_u64(&database->next_lapse_us, (uint64) next);
	return n;
}

int
eduai_queue_leases_lapsed(Lapsed *lapsed, int most, int64 late_ms)
{
	DatabasePlace *database = eduai_queue_running_database();
	int64 now = eduai_core_mono_us();
	uint64 bound = pg_atomic_read_u64(&database->next_lapse_us);
	int n;

	if (bound == 0 || (int64) bound > now - late_ms * 1000)
		return 0;
	running_lock();
	n = take_lapsed(database, lapsed, most, now, late_ms * 1000);
	running_unlock();
	return n;
}

void
eduai_queue_lease_unlapse(int64 task_id, int attempt)
{
	DatabasePlace *database = eduai_queue_running_database();
	RunningEntry *entry;

	running_lock();
	entry = eduai_queue_running_find(task_id, attempt);
	if (entry != NULL && entry->lapsed)
	{
		entry->lapsed = false;
		entry->lease_until_us = eduai_core_mono_us() + UNLAPSED_US;
		eduai_queue_lease_noted(database, entry->lease_until_us);
	}
	running_unlock();
	eduai_queue_running_wake();
}

int64
eduai_queue_next_lapse_ms(void)
{
	uint64 bound = pg_atomic_read_u64(&eduai_queue_running_database()->next_lapse_us);

	if (bound == 0)
		return -1;
	/* rounded up: who sleeps so long finds it lapsed */
	return Max(((int64) bound - eduai_core_mono_us() + 999) / 1000, 0);
}

/* ---- keys that became free ---- */

void
eduai_queue_key_freed(Oid database, uint64 hash)
{
	Running *r = eduai_queue_running;

	r->ring[r->ring_written % RUNNING_RING] = (FreedKey){.database = database, .hash = hash};
	r->ring_written++;
	if (database == MyDatabaseId)
		eduai_queue_running_want_wake();
}

int
eduai_queue_keys_freed(uint64 *hashes, int most, bool *overflow)
{
	DatabasePlace *database = eduai_queue_running_database();
	Running *r = eduai_queue_running;
	int n = 0;

	*overflow = false;
	running_lock();
	if (r->ring_written - database->ring_read > RUNNING_RING)
	{
		*overflow = true;
		database->ring_read = r->ring_written - RUNNING_RING;
	}
	for (; database->ring_read < r->ring_written && n < most; database->ring_read++)
	{
		const FreedKey *key = &r->ring[database->ring_read % RUNNING_RING];

		if (key->database == MyDatabaseId)
			hashes[n++] = key->hash;
	}
	running_unlock();
	return n;
}
