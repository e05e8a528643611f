/*
 * running_stand.c: what claims and the dispatcher ask of pools, and tell them.
 * See running.h.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/shmem.h"
#include "queue/lane.h"
#include "queue/running_internal.h"

#define CALL_EVERY_MS 1000

void
eduai_queue_pool_stand(const Pool *pool, PoolStand *stand)
{
	int index;

	*stand = (PoolStand){.size = pool->max_concurrent, .reserved = pool->reserved_critical};
	if (!eduai_core_preloaded())
		return;
	(void) eduai_queue_running_database();
	running_lock();
	index = eduai_queue_pool_place(pool);
	if (index != RUNNING_NONE)
	{
		PoolPlace *place = &eduai_queue_running->pools[index];

		eduai_queue_pool_stand_of(place, stand);
		if (stand->size - stand->running <= Max(stand->reserved - stand->critical, 0))
			place->refused = true;
	}
	running_unlock();
}

void
eduai_queue_pool_choices(const Pool *pool, ScheduleState *state)
{
	int index;

	memset(state, 0, sizeof(*state));
	(void) eduai_queue_running_database();
	running_lock();
	index = eduai_queue_pool_place(pool);
	if (index != RUNNING_NONE)
		*state = eduai_queue_running->pools[index].choices;
	running_unlock();
	state->now_us = eduai_queue_steady_us();
}

void
eduai_queue_pool_chosen(const Pool *pool, const ScheduleState *state)
{
	int index;

	(void) eduai_queue_running_database();
	running_lock();
	index = eduai_queue_pool_place(pool);
	if (index != RUNNING_NONE)
		eduai_queue_running->pools[index].choices = *state;
	running_unlock();
}

void
eduai_queue_pool_pushback(const char *pool)
{
	int index;

	(void) eduai_queue_running_database();
	running_lock();
	index = eduai_queue_pool_find(pool);
	if (index != RUNNING_NONE)
		eduai_queue_running->pools[index].pushback = true;
	running_unlock();
}

static void
scale_place(PoolPlace *place, bool waiting)
{
	ScaleInput input = {.now_us = eduai_core_mono_us() + eduai_core_test_offset_us(),
						.least = place->numbers.least,
						.most = place->numbers.most,
						.running = place->running,
						.waiting = waiting,
						.pushback = place->pushback};

	place->pushback = false;
	eduai_queue_scale(&place->scale, &input);
}

long
eduai_queue_pool_scale(const Pool *pool, bool waiting)
{
	int index;
	long again_ms = -1;

	(void) eduai_queue_running_database();
	running_lock();
	index = eduai_queue_pool_place(pool);
	if (index != RUNNING_NONE)
	{
		PoolPlace *place = &eduai_queue_running->pools[index];

		/* while it is being changed its size stays, so that a rollback changes nothing */
		if (!place->changing)
			scale_place(place, waiting);
		if (place->scale.size > place->numbers.least ||
			(waiting && place->scale.size < place->numbers.most))
			again_ms = CALL_EVERY_MS;
	}
	running_unlock();
	return again_ms;
}

/* ---- numbers that no configure_pool() said ---- */

static void
check_pool(const Pool *pool)
{
	PoolNumbers numbers = eduai_queue_pool_numbers(pool);
	int index = eduai_queue_pool_find(pool->name);
	PoolPlace *place;

	if (index == RUNNING_NONE)
		return;
	place = &eduai_queue_running->pools[index];
	if (place->changing || memcmp(&place->numbers, &numbers, sizeof(numbers)) == 0)
		return;
	place->numbers = numbers;
	eduai_queue_running_want_slot_wake(place);
}

void
eduai_queue_pools_check(void)
{
	uint64 before;
	const Pool *pools;
	int n;

	(void) eduai_queue_running_database();
	running_lock();
	before = eduai_queue_running->pool_changes;
	running_unlock();
	eduai_queue_catalog_mark_stale();
	pools = eduai_queue_pools(&n);
	running_lock();
	/* what was read is older than a change that came meanwhile: the next time then */
	if (before == eduai_queue_running->pool_changes)
		for (int i = 0; i < n; i++)
			check_pool(&pools[i]);
	running_unlock();
	eduai_queue_running_wake();
}
