/*
 * lane_range.c: the marks and strays of lanes.  See lane_internal.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "queue/fresh_internal.h"
#include "queue/lane_internal.h"

static LaneHold held = {.lane = LANE_NONE};

/* ---- strays ---- */

static int
take_place(void)
{
	LaneShared *s = eduai_queue_lanes;
	int place;

	SpinLockAcquire(&s->strays_mutex);
	place = s->free_stray;
	if (place != LANE_NONE)
		s->free_stray = s->strays[place].next;
	SpinLockRelease(&s->strays_mutex);
	return place;
}

static void
free_place(int place)
{
	LaneShared *s = eduai_queue_lanes;

	SpinLockAcquire(&s->strays_mutex);
	s->strays[place].next = s->free_stray;
	s->free_stray = place;
	SpinLockRelease(&s->strays_mutex);
}

/* how far the list is looked through for its order: a mutex is held */
#define SORTED_STRAYS 64

static void
link_stray(Lane *l, int place, int64 first, int64 last)
{
	Stray *strays = eduai_queue_lanes->strays;
	int *link = &l->stray;

	for (int i = 0; i < SORTED_STRAYS && *link != LANE_NONE && strays[*link].first < first; i++)
		link = &strays[*link].next;
	strays[place].first = first;
	strays[place].last = last;
	strays[place].next = *link;
	*link = place;
}

/* ---- what is open ---- */

void
eduai_queue_lane_refresh(Lane *l)
{
	int lane = (int) (l - eduai_queue_lanes->lanes);
	pg_atomic_uint64 *word = &eduai_queue_lanes->open[lane / 64];
	uint64 bit = UINT64CONST(1) << (lane % 64);
	bool open = l->mark != LANE_NO_KEY || l->stray != LANE_NONE || l->takers > 0 ||
				l->fresh != LANE_NONE || l->late != LANE_NONE;

	if (open == l->open)
		return;
	l->open = open;
	if (open)
		pg_atomic_fetch_or_u64(word, bit);
	else
		pg_atomic_fetch_and_u64(word, ~bit);
}

void
eduai_queue_lane_lower(int lane, int64 first)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];

	SpinLockAcquire(&l->mutex);
	l->mark = Min(l->mark, first);
	eduai_queue_lane_refresh(l);
	SpinLockRelease(&l->mutex);
}

/*
 * Above the frontier no entry has been passed, so the mark may go down to the
 * key; below, a stray keeps scans from passing everything between again.
 */
void
eduai_queue_lane_add(int lane, int64 first, int64 last)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];
	bool late;
	int place;

	SpinLockAcquire(&l->mutex);
	late = first < l->mark && first <= l->frontier;
	if (!late)
		l->mark = Min(l->mark, first);
	eduai_queue_lane_refresh(l);
	SpinLockRelease(&l->mutex);
	if (!late)
		return;
	place = take_place();
	if (place == LANE_NONE)
	{
		eduai_queue_lane_lower(lane, first);
		return;
	}
	SpinLockAcquire(&l->mutex);
	link_stray(l, place, first, last);
	eduai_queue_lane_refresh(l);
	SpinLockRelease(&l->mutex);
}

void
eduai_queue_lane_empty(int lane)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];
	int place;

	do
	{
		SpinLockAcquire(&l->mutex);
		l->mark = LANE_NO_KEY;
		place = l->stray;
		if (place != LANE_NONE)
			l->stray = eduai_queue_lanes->strays[place].next;
		eduai_queue_lane_refresh(l);
		SpinLockRelease(&l->mutex);
		if (place != LANE_NONE)
			free_place(place);
	} while (place != LANE_NONE);
}

bool
eduai_queue_lane_knows(int lane, int64 key)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];
	const Stray *strays = eduai_queue_lanes->strays;
	bool known;
	int looked = 0;

	SpinLockAcquire(&l->mutex);
	known = key >= l->mark || (l->takers > 0 && key > l->reach);
	for (int at = l->stray; at != LANE_NONE && !known; at = strays[at].next)
		/* of a long list the rest is another time's */
		known = (key >= strays[at].first && key <= strays[at].last) || ++looked > 4 * SORTED_STRAYS;
	SpinLockRelease(&l->mutex);
	return known;
}

/* ---- holding ---- */

/* with the lane's mutex: what is to be held, false for nothing */
static bool
take_range(Lane *l)
{
	held.duty = true;
	held.stray = l->stray;
	held.last = LANE_NO_KEY - 1;
	if (l->stray != LANE_NONE)
	{
		Stray *stray = &eduai_queue_lanes->strays[l->stray];

		held.first = stray->first;
		held.last = stray->last;
		l->stray = stray->next;
	}
	else if (l->mark != LANE_NO_KEY)
	{
		held.first = l->mark;
		l->mark = LANE_NO_KEY;
		l->reach = l->takers == 0 ? held.first - 1 : Min(l->reach, held.first - 1);
		l->takers++;
	}
	else if (l->takers > 0)
	{
		held.duty = false;
		held.first = l->reach + 1;
	}
	else
		return false;
	return true;
}

const LaneHold *
eduai_queue_lane_hold(int lane, int64 hash)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];

	Assert(held.lane == LANE_NONE);
	SpinLockAcquire(&l->mutex);
	if (l->database == MyDatabaseId && l->hash == hash && take_range(l))
	{
		held.lane = lane;
		l->scans++;
	}
	SpinLockRelease(&l->mutex);
	held.subxact = held.lane != LANE_NONE ? GetCurrentSubTransactionId() : 0;
	return held.lane != LANE_NONE ? &held : NULL;
}

bool
eduai_queue_lane_pass(int64 key)
{
	Lane *l = &eduai_queue_lanes->lanes[held.lane];
	bool mine = true;

	SpinLockAcquire(&l->mutex);
	l->frontier = Max(l->frontier, key);
	if (!held.duty)
		mine = key > l->reach;
	if (held.stray == LANE_NONE)
		l->reach = Max(l->reach, key);
	SpinLockRelease(&l->mutex);
	return mine;
}

void
eduai_queue_lane_leave(int64 next)
{
	Lane *l = &eduai_queue_lanes->lanes[held.lane];
	int place = held.stray;

	SpinLockAcquire(&l->mutex);
	if (place != LANE_NONE && next <= held.last)
	{
		link_stray(l, place, next, held.last);
		place = LANE_NONE;
	}
	else if (held.stray == LANE_NONE)
	{
		/* of a helper, too: who owes it may have passed what the helper was about to start */
		l->mark = Min(l->mark, next);
		l->takers -= held.duty;
	}
	l->scans--;
	eduai_queue_lane_refresh(l);
	SpinLockRelease(&l->mutex);
	held.lane = LANE_NONE;
	if (place != LANE_NONE)
		free_place(place);
}

void
eduai_queue_lane_served(int lane, int64 hash)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];
	uint64 stamp = pg_atomic_add_fetch_u64(&eduai_queue_lanes->served, 1);

	SpinLockAcquire(&l->mutex);
	if (l->database == MyDatabaseId && l->hash == hash)
		l->served = stamp;
	SpinLockRelease(&l->mutex);
}

void
eduai_queue_lane_let_go(SubTransactionId subxact)
{
	if (held.lane == LANE_NONE || (subxact != InvalidSubTransactionId && held.subxact != subxact))
		return;
	eduai_queue_lane_leave(held.first);
}

/* ---- looking ---- */

/* with the lane's mutex */
static int64
oldest_fresh(const Lane *l)
{
	int64 key = LANE_NO_KEY;

	if (l->fresh != LANE_NONE)
		key = eduai_queue_fresh->tasks[l->fresh].key;
	if (l->late != LANE_NONE)
		key = Min(key, eduai_queue_fresh->tasks[l->late].key);
	return key;
}

/* with the lane's mutex: no later than the readiness of the oldest task in its ranges */
static int64
oldest_indexed(const Lane *l)
{
	int64 key = l->mark;

	if (l->takers > 0)
		key = Min(key, l->reach);
	if (l->stray != LANE_NONE)
		key = Min(key, eduai_queue_lanes->strays[l->stray].first);
	return key;
}

static bool
view(int lane, LaneView *v)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];
	bool mine;

	SpinLockAcquire(&l->mutex);
	mine = l->open && l->database == MyDatabaseId;
	v->lane = lane;
	v->hash = l->hash;
	v->tenant = l->tenant;
	v->task_type = l->task_type;
	v->priority = l->priority;
	v->served = l->served;
	v->ready_us = Min(oldest_indexed(l), oldest_fresh(l));
	SpinLockRelease(&l->mutex);
	if (v->ready_us != LANE_NO_KEY)
		v->ready_us /= EDUAI_LANE_KEY_STEP;
	return mine;
}

void
eduai_queue_lane_heads(int lane, int64 hash, int64 *indexed, int64 *fresh)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];

	*indexed = *fresh = LANE_NO_KEY;
	SpinLockAcquire(&l->mutex);
	if (l->database == MyDatabaseId && l->hash == hash)
	{
		*indexed = oldest_indexed(l);
		*fresh = oldest_fresh(l);
	}
	SpinLockRelease(&l->mutex);
}

int
eduai_queue_lane_open(LaneView **views)
{
	int words = (eduai_queue_lane_count + 63) / 64;
	int room = 64;
	int n = 0;

	*views = palloc(sizeof(LaneView) * room);
	for (int w = 0; w < words; w++)
	{
		uint64 bits = pg_atomic_read_u64(&eduai_queue_lanes->open[w]);

		for (; bits != 0; bits &= bits - 1)
		{
			if (n == room)
			{
				room *= 2;
				*views = repalloc_huge(*views, sizeof(LaneView) * room);
			}
			if (view(w * 64 + pg_rightmost_one_pos64(bits), &(*views)[n]))
				n++;
		}
	}
	return n;
}

bool
eduai_queue_lane_look(LaneView *v)
{
	int64 hash = v->hash;

	/* its place may be another lane's by now */
	return view(v->lane, v) && v->hash == hash;
}
