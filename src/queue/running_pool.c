/*
 * running_pool.c: how many slots each pool has.  See running.h.
 *
 * Who changes a pool's numbers has the pool's transaction lock, so at most one
 * transaction is changing a place.  What it lowers holds at once, what it
 * raises from its commit on: so no moment of any order of commits has more
 * running tasks than the pool's row allows, but those that ran before.
 *
 * Places are made when a pool is first used and kept.  When all are taken, one
 * of a pool in which nothing runs makes room; its scaled size is forgotten then,
 * and a session that has not heard of a change of its numbers yet may make it
 * anew with the old ones, until eduai_queue_pools_check().
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/lock.h"
#include "core/shmem.h"
#include "miscadmin.h"
#include "queue/running_internal.h"
#include "utils/memutils.h"

/* A pool_set() of this transaction, newest first; in TopTransactionContext. */
typedef struct Change
{
	struct Change *next;
	SubTransactionId subxact;
	PoolNumbers numbers;
	char name[NAMEDATALEN];
} Change;

static Change *changes = NULL;

PoolNumbers
eduai_queue_pool_numbers(const Pool *pool)
{
	return (PoolNumbers){
		.least = pool->max_concurrent, .most = pool->scale_to, .reserved = pool->reserved_critical};
}

static PoolNumbers
lower_of(PoolNumbers a, PoolNumbers b)
{
	return (PoolNumbers){.least = Min(a.least, b.least),
						 .most = Min(a.most, b.most),
						 .reserved = Max(a.reserved, b.reserved)};
}

/* ---- places; all under the lock ---- */

int
eduai_queue_pool_find(const char *name)
{
	for (int i = 0; i < eduai_queue_running->npools; i++)
	{
		const PoolPlace *place = &eduai_queue_running->pools[i];

		if (place->database == MyDatabaseId && strcmp(place->name, name) == 0)
			return i;
	}
	return RUNNING_NONE;
}

static int
free_place(void)
{
	Running *r = eduai_queue_running;

	for (int i = 0; i < r->npools; i++)
		if (!OidIsValid(r->pools[i].database))
			return i;
	if (r->npools < RUNNING_POOLS)
		return r->npools++;
	for (int i = 0; i < RUNNING_POOLS; i++)
		if (r->pools[i].running == 0 && !r->pools[i].changing)
			return i;
	return RUNNING_NONE;
}

static int
make_place(const char *name, PoolNumbers numbers)
{
	int index = free_place();

	if (index != RUNNING_NONE)
	{
		PoolPlace *place = &eduai_queue_running->pools[index];

		*place = (PoolPlace){.database = MyDatabaseId, .numbers = numbers};
		place->scale.size = numbers.least;
		strlcpy(place->name, name, NAMEDATALEN);
	}
	return index;
}

int
eduai_queue_pool_place(const Pool *pool)
{
	static int last = 0; /* most calls are for the pool of the one before */
	const PoolPlace *place = &eduai_queue_running->pools[last];

	if (place->database == MyDatabaseId && strcmp(place->name, pool->name) == 0)
		return last;
	last = eduai_queue_pool_find(pool->name);
	if (last == RUNNING_NONE)
		last = make_place(pool->name, eduai_queue_pool_numbers(pool));
	if (last != RUNNING_NONE)
		return last;
	last = 0;
	return RUNNING_NONE;
}

void
eduai_queue_pools_forget(Oid database)
{
	for (int i = 0; i < eduai_queue_running->npools; i++)
		if (eduai_queue_running->pools[i].database == database)
			eduai_queue_running->pools[i].database = InvalidOid;
}

static PoolNumbers
numbers_now(const PoolPlace *place)
{
	return place->changing ? lower_of(place->numbers, place->lowered) : place->numbers;
}

void
eduai_queue_pool_stand_of(const PoolPlace *place, PoolStand *stand)
{
	PoolNumbers numbers = numbers_now(place);
	int own;
	int own_critical;

	eduai_queue_running_own_slots((int) (place - eduai_queue_running->pools), &own, &own_critical);
	stand->size = Min(Max(place->scale.size, numbers.least), numbers.most);
	stand->running = place->running - own;
	stand->critical = place->critical - own_critical;
	stand->reserved = numbers.reserved;
}

/* ---- changes of a transaction ---- */

bool
eduai_queue_pools_changed(void)
{
	return changes != NULL;
}

/* What is left of the transaction's changes of a pool is what its place is to lower. */
static void
lower_place(PoolPlace *place)
{
	place->changing = false;
	for (const Change *c = changes; c != NULL; c = c->next)
	{
		if (strcmp(c->name, place->name) != 0)
			continue;
		place->lowered = place->changing ? lower_of(place->lowered, c->numbers) : c->numbers;
		place->changing = true;
	}
	if (!place->changing && place->numbers.least == 0)
		place->database = InvalidOid; /* the pool was never made */
}

static void
want_wake_if_raised(const PoolStand *before, const PoolPlace *place)
{
	PoolStand after;

	eduai_queue_pool_stand_of(place, &after);
	if (after.size > before->size || after.reserved < before->reserved)
		eduai_queue_running_want_slot_wake(place);
}

/* The newest change of each pool is what its row says now. */
static void
commit_changes(void)
{
	eduai_queue_running->pool_changes++;
	while (changes != NULL)
	{
		const Change *change = changes;
		int index = eduai_queue_pool_find(change->name);

		changes = change->next;
		if (index != RUNNING_NONE && eduai_queue_running->pools[index].changing)
		{
			PoolPlace *place = &eduai_queue_running->pools[index];
			PoolStand before;

			eduai_queue_pool_stand_of(place, &before);
			place->changing = false;
			place->numbers = change->numbers;
			place->scale.size =
				Min(Max(place->scale.size, change->numbers.least), change->numbers.most);
			want_wake_if_raised(&before, place);
		}
	}
}

/* Takes back the changes at the front that are of a subtransaction; of all when it is invalid. */
static void
abort_changes(SubTransactionId mine)
{
	while (changes != NULL && (mine == InvalidSubTransactionId || changes->subxact == mine))
	{
		int index = eduai_queue_pool_find(changes->name);

		changes = changes->next;
		if (index != RUNNING_NONE)
		{
			PoolPlace *place = &eduai_queue_running->pools[index];
			PoolStand before;

			eduai_queue_pool_stand_of(place, &before);
			lower_place(place);
			want_wake_if_raised(&before, place);
		}
	}
}

void
eduai_queue_pools_end(bool commit)
{
	if (changes == NULL)
		return;
	if (commit)
		commit_changes();
	else
		abort_changes(InvalidSubTransactionId);
}

void
eduai_queue_pools_subxact(SubTransactionId mine, SubTransactionId parent, bool commit)
{
	if (changes == NULL || changes->subxact != mine)
		return;
	if (commit)
	{
		for (Change *c = changes; c != NULL && c->subxact == mine; c = c->next)
			c->subxact = parent;
		return;
	}
	running_lock();
	abort_changes(mine);
	running_unlock();
	eduai_queue_running_wake();
}

/* The lock of a pool's numbers. */
static bool
lock_pool(const char *name, bool nowait)
{
	return eduai_core_lock(EDUAI_LOCK_POOL, eduai_core_lock_key("", name), nowait);
}

static int
place_to_change(const char *name, const Pool *old)
{
	PoolNumbers none = {0};
	int index = eduai_queue_pool_find(name);

	if (index == RUNNING_NONE)
		index = make_place(name, old == NULL ? none : eduai_queue_pool_numbers(old));
	return index;
}

void
eduai_queue_pool_set(const Pool *pool)
{
	Change *change;
	const Pool *old;
	int index;

	if (!eduai_core_preloaded())
		return;
	eduai_queue_running_load();
	(void) lock_pool(pool->name, false);
	old = eduai_queue_pool(pool->name);
	change = MemoryContextAlloc(TopTransactionContext, sizeof(Change));
	*change = (Change){.subxact = GetCurrentSubTransactionId(),
					   .numbers = eduai_queue_pool_numbers(pool)};
	strlcpy(change->name, pool->name, NAMEDATALEN);

	running_lock();
	eduai_queue_running->pool_changes++;
	index = place_to_change(pool->name, old);
	if (index != RUNNING_NONE)
	{
		change->next = changes;
		changes = change;
		lower_place(&eduai_queue_running->pools[index]);
	}
	running_unlock();
	if (index == RUNNING_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("too many pools are in use"),
				 errdetail("A server has room for %d, of all databases.", RUNNING_POOLS)));
}
