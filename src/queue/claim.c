/*
 * claim.c: choosing the lanes to take tasks from.  See claim.h.
 *
 * The pools whose types the order asks for take turns of a few tasks.  In each
 * turn the schedule chooses lanes in memory, a task at a time; then each chosen
 * lane is read once for all the tasks that it gives.  A lane that gives less is
 * left alone for the rest of the claim.
 *
 * What is chosen from is what stood in shared memory when the claim began: lanes
 * that get their first task meanwhile are the next claim's.
 */
#include "postgres.h"

#include "core/clock.h"
#include "queue/claim_internal.h"
#include "queue/lane_wait.h"
#include "queue/running.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define TURN 16 /* tasks chosen at once between classes: the oldest of each is known only after */

/* ---- what is asked for ---- */

static bool
wanted(const ClaimOrder *order, const TaskType *type)
{
	if (type->by_gateway != order->by_gateway)
		return false;
	for (int i = 0; i < order->ntypes; i++)
		if (strcmp(order->task_types[i], type->name) == 0)
			return true;
	return order->ntypes == 0;
}

/* the index of the pool, added when it is new; -1: there is no such pool */
static int
add_pool(Claim *c, const char *name)
{
	const Pool *pool;
	ClaimPool *p;

	for (int i = 0; i < c->npools; i++)
		if (strcmp(c->pools[i].pool.name, name) == 0)
			return i;
	pool = eduai_queue_pool(name);
	if (pool == NULL)
		return -1;
	p = &c->pools[c->npools];
	memset(p, 0, sizeof(*p));
	p->pool = *pool;
	p->pool.name = pstrdup(pool->name);
	return c->npools++;
}

/* copies: what the catalog gives is valid until it is asked again */
static void
find_types(Claim *c)
{
	int n;
	const TaskType *all = eduai_queue_types(&n);
	char **pools = palloc(sizeof(char *) * Max(n, 1));

	c->types = palloc(sizeof(ClaimType) * Max(n, 1));
	c->pools = palloc(sizeof(ClaimPool) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (!wanted(c->order, &all[i]) || all[i].paused)
			continue;
		c->types[c->ntypes].name = pstrdup(all[i].name);
		pools[c->ntypes++] = pstrdup(all[i].pool);
	}
	n = c->ntypes;
	c->ntypes = 0;
	for (int i = 0; i < n; i++)
	{
		ClaimType *type = &c->types[c->ntypes];

		type->name = c->types[i].name;
		type->word = eduai_queue_lane_word(type->name);
		type->pool = add_pool(c, pools[i]);
		c->ntypes += type->pool >= 0;
	}
}

static ClaimPool *
pool_of_lane(Claim *c, const LaneView *view, uint64 tenant)
{
	if (c->order->tenant != NULL && view->tenant != tenant)
		return NULL;
	for (int i = 0; i < c->ntypes; i++)
		if (c->types[i].word == view->task_type)
			return &c->pools[c->types[i].pool];
	return NULL;
}

static void
share_out_lanes(Claim *c)
{
	uint64 tenant = c->order->tenant ? eduai_queue_lane_word(c->order->tenant) : 0;
	LaneView *views;
	int n = eduai_queue_lane_open(&views);

	for (int i = 0; i < n; i++)
	{
		ClaimPool *p = pool_of_lane(c, &views[i], tenant);

		if (p != NULL)
			p->nlanes++;
	}
	for (int i = 0; i < c->npools; i++)
	{
		ClaimPool *p = &c->pools[i];

		p->lanes = palloc_extended(sizeof(ScheduleLane) * Max(p->nlanes, 1), MCXT_ALLOC_HUGE);
		p->views = palloc_extended(sizeof(LaneView) * Max(p->nlanes, 1), MCXT_ALLOC_HUGE);
		p->planned = palloc_extended(sizeof(int) * Max(p->nlanes, 1), MCXT_ALLOC_HUGE);
		memset(p->planned, 0, sizeof(int) * p->nlanes);
		p->closed = p->nlanes == 0;
		p->nlanes = 0;
	}
	for (int i = 0; i < n; i++)
	{
		ClaimPool *p = pool_of_lane(c, &views[i], tenant);

		if (p == NULL)
			continue;
		p->views[p->nlanes] = views[i];
		p->lanes[p->nlanes++] =
			(ScheduleLane){views[i].priority, views[i].ready_us, views[i].served, true};
	}
}

static void
look_at_pool(ClaimPool *p)
{
	PoolStand stand;

	eduai_queue_pool_stand(&p->pool, &stand);
	p->slots = Max(0, stand.size - stand.running);
	p->reserved = Max(0, stand.reserved - stand.critical);
}

/* ---- a turn ---- */

/* chooses up to "most" tasks' lanes; the lanes in the order of their first choice */
static int
choose(ClaimPool *p, int most, int *chosen)
{
	uint64 stamp = PG_UINT64_MAX / 2; /* later than any that a lane has */
	int slots = p->slots;
	int reserved = p->reserved;
	int n = 0;

	for (int i = 0; i < most && slots > 0; i++)
	{
		int lane = eduai_queue_schedule_next(&p->choices, p->lanes, p->nlanes, slots, reserved);

		if (lane < 0)
			break;
		if (p->planned[lane]++ == 0)
			chosen[n++] = lane;
		p->lanes[lane].served = stamp + i;
		slots--;
		reserved -= p->lanes[lane].priority == 0 && reserved > 0;
	}
	return n;
}

static void
take_from(Claim *c, ClaimPool *p, int lane)
{
	ScheduleLane *l = &p->lanes[lane];
	int most = p->planned[lane];
	int took = 0;
	LaneEnd end = LANE_END_SPENT;

	p->planned[lane] = 0;
	if (!c->full)
		end = eduai_queue_claim_lane(c, p, &p->views[lane], most, &took);
	p->slots -= took;
	p->reserved -= l->priority == 0 ? Min(took, p->reserved) : 0;
	if (end == LANE_END_NO_SLOT)
		look_at_pool(p);
	if (end != LANE_END_MOST)
		l->open = false;
	else
	{
		l->open = eduai_queue_lane_look(&p->views[lane]);
		l->ready_us = p->views[lane].ready_us;
	}
}

static bool
of_one_class(const ClaimPool *p)
{
	int class = -1;

	for (int i = 0; i < p->nlanes; i++)
	{
		if (!p->lanes[i].open)
			continue;
		if (class >= 0 && class != p->lanes[i].priority)
			return false;
		class = p->lanes[i].priority;
	}
	return true;
}

/* within a class lanes take turns, whatever waits in them: all are chosen at once */
static void
take_turn(Claim *c, ClaimPool *p)
{
	int most = c->order->most - c->got;
	int n;

	if (c->npools > 1 || !of_one_class(p))
		most = Min(most, TURN);
	n = choose(p, most, c->chosen);
	p->closed = n == 0;
	for (int i = 0; i < n; i++)
		take_from(c, p, c->chosen[i]);
}

static void
claim_all(Claim *c)
{
	bool more = true;

	while (more && !c->full && c->got < c->order->most)
	{
		more = false;
		for (int i = 0; i < c->npools && c->got < c->order->most; i++)
			if (!c->pools[i].closed)
			{
				take_turn(c, &c->pools[i]);
				more = true;
			}
	}
}

/* who claimed as many as he may wakes another for what is left */
static void
wake_next(const Claim *c)
{
	for (int i = 0; i < c->npools; i++)
	{
		const ClaimPool *p = &c->pools[i];

		for (int l = 0; l < p->nlanes && p->slots > 0; l++)
			if (p->lanes[l].open)
			{
				eduai_queue_lane_wake(p->views[l].tenant, p->views[l].task_type);
				return;
			}
	}
}

/* false when nothing can be claimed: no table is opened then */
static bool
begin(Claim *c)
{
	bool any = false;

	/* what was committed before, a paused type above all, is known from here on */
	AcceptInvalidationMessages();
	c->now = eduai_core_now();
	c->row = AllocSetContextCreate(CurrentMemoryContext, "eduai claim row", ALLOCSET_DEFAULT_SIZES);
	find_types(c);
	share_out_lanes(c);
	for (int i = 0; i < c->npools; i++)
	{
		ClaimPool *p = &c->pools[i];

		if (p->closed)
			continue;
		look_at_pool(p);
		eduai_queue_pool_choices(&p->pool, &p->choices);
		any = any || p->slots > 0;
	}
	if (!any)
		return false;
	c->chosen = palloc(sizeof(int) * Max(c->order->most, 1));
	c->tasks = eduai_queue_tasks_open();
	return true;
}

static void
end(Claim *c)
{
	eduai_core_scan_close(&c->scan);
	eduai_queue_tasks_close(c->tasks);
	for (int i = 0; i < c->npools; i++)
		if (c->pools[i].nlanes > 0)
			eduai_queue_pool_chosen(&c->pools[i].pool, &c->pools[i].choices);
	if (!c->order->by_gateway && c->got == c->order->most)
		wake_next(c);
}

int
eduai_queue_claim(const ClaimOrder *order, MemoryContext parent, ClaimedTask *claimed,
				  ClaimLeft *left)
{
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "eduai claim", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	Claim c = {.order = order, .parent = parent, .claimed = claimed};
	int got;

	eduai_queue_running_load();
	c.database = eduai_queue_lane_discover();
	if (begin(&c))
	{
		claim_all(&c);
		end(&c);
		eduai_queue_claim_follow_refused(&c);
	}
	if (c.got == order->most || c.held >= CLAIM_MOST_HELD)
		*left = CLAIM_MORE;
	else
		*left = c.locked ? CLAIM_HELD : CLAIM_ALL;
	got = c.got;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return got;
}
