/*
 * scale.c: when pools are asked to grow or shrink.  See scale.h.
 *
 * A task is late when it waited for a tenth of its class's patience, and for
 * 200 ms.  Lanes say since when their oldest task has been ready, or that it is
 * not older; claims keep that right.  A paused type's tasks are not late.
 */
#include "postgres.h"

#include "core/clock.h"
#include "queue/catalog.h"
#include "queue/lane.h"
#include "queue/lane_internal.h"
#include "queue/running.h"
#include "queue/scale.h"
#include "queue/task.h"

#define LOOK_EVERY_US  100000
#define LEAST_LATE_US  200000
#define PATIENCE_SHARE 10

static int64 next_look_us = 0;

/* monotonic, when the last look wanted the next; PG_INT64_MAX: never */
static int64 wanted_us = PG_INT64_MAX;

static int64
late_after_us(int priority)
{
	return Max(eduai_queue_patience_us(priority) / PATIENCE_SHARE, LEAST_LATE_US);
}

/* the types of a pool that are not paused, as hashes */
static int
types_of(const char *pool, uint64 *words)
{
	int n;
	int found = 0;
	const TaskType *types = eduai_queue_types(&n);

	for (int i = 0; i < n; i++)
		if (!types[i].paused && strcmp(types[i].pool, pool) == 0)
			words[found++] = eduai_queue_lane_word(types[i].name);
	return found;
}

/* microseconds until a task of these types is late, at most 0 when one is; PG_INT64_MAX: none waits */
static int64
until_late_us(const uint64 *words, int nwords, const LaneView *views, int nviews)
{
	int64 now = eduai_queue_steady_us();
	int64 left = PG_INT64_MAX;

	for (int v = 0; v < nviews; v++)
		for (int w = 0; w < nwords; w++)
			if (views[v].task_type == words[w])
				left = Min(left, views[v].ready_us + late_after_us(views[v].priority) - now);
	return left;
}

static void
want_in_us(int64 us)
{
	wanted_us = Min(wanted_us, eduai_core_mono_us() + us);
}

static void
look(const Pool *pool, const LaneView *views, int nviews)
{
	int ntypes;
	uint64 *words;
	int64 left;
	long again_ms;

	(void) eduai_queue_types(&ntypes);
	words = palloc(sizeof(uint64) * Max(ntypes, 1));
	left = until_late_us(words, types_of(pool->name, words), views, nviews);
	again_ms = eduai_queue_pool_scale(pool, left <= 0);
	if (again_ms >= 0)
		want_in_us(again_ms * INT64CONST(1000));
	if (left > 0 && left != PG_INT64_MAX)
		want_in_us(left);
	pfree(words);
}

static void
look_at_all(void)
{
	int n;
	const Pool *all = eduai_queue_pools(&n);
	Pool *pools = palloc(sizeof(Pool) * Max(n, 1));
	LaneView *views;
	int nviews;
	int scaling = 0;

	/* copies: what the catalog gives is valid until it is asked again */
	for (int i = 0; i < n; i++)
		if (all[i].scale_to > all[i].max_concurrent)
		{
			pools[scaling] = all[i];
			pools[scaling++].name = pstrdup(all[i].name);
		}
	if (scaling == 0)
		return;
	nviews = eduai_queue_lane_open(&views);
	for (int i = 0; i < scaling; i++)
		look(&pools[i], views, nviews);
}

int64
eduai_queue_scale_pools(void)
{
	int64 now = eduai_core_mono_us();

	if (now >= next_look_us)
	{
		wanted_us = PG_INT64_MAX;
		look_at_all();
		next_look_us = now + LOOK_EVERY_US;
		if (wanted_us != PG_INT64_MAX)
			wanted_us = Max(wanted_us, next_look_us);
	}
	return wanted_us == PG_INT64_MAX ? -1 : Max(wanted_us - now + 999, 0) / 1000;
}
