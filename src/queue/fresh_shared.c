/*
 * fresh_shared.c: places and lists of fresh tasks.  See fresh_internal.h.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/shmem.h"
#include "miscadmin.h"
#include "queue/fresh_internal.h"
#include "utils/guc.h"

/* how far a list is looked through for its order: a mutex is held */
#define SORTED 64

FreshShared *eduai_queue_fresh = NULL;
int eduai_queue_fresh_most = 131072;

static Size
fresh_size(void)
{
	Size size = MAXALIGN(sizeof(FreshShared));

	size = add_size(size, MAXALIGN(mul_size(sizeof(int), eduai_queue_fresh_most)));
	return add_size(size, MAXALIGN(mul_size(sizeof(FreshPlace), eduai_queue_fresh_most)));
}

static void
fresh_shmem_init(void *ptr)
{
	FreshShared *s = ptr;
	char *at = (char *) ptr + MAXALIGN(sizeof(FreshShared));

	memset(ptr, 0, fresh_size());
	SpinLockInit(&s->mutex);
	pg_atomic_init_u32(&s->prepared, 0);
	s->buckets = (int *) at;
	s->tasks = (FreshPlace *) (at + MAXALIGN(sizeof(int) * eduai_queue_fresh_most));
	s->free = eduai_queue_fresh_most > 0 ? 0 : FRESH_NONE;
	for (int i = 0; i < eduai_queue_fresh_most; i++)
	{
		s->buckets[i] = FRESH_NONE;
		s->tasks[i].next = i + 1 < eduai_queue_fresh_most ? i + 1 : FRESH_NONE;
	}
}

void
eduai_queue_fresh_shared_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_fresh",
										.size = fresh_size,
										.init = fresh_shmem_init,
										.address = (void **) &eduai_queue_fresh};

	DefineCustomIntVariable(
		"eduai.queue_fresh",
		"Ready tasks that are kept in shared memory until they start, 52 bytes each.",
		"Those that find no place are enqueued with a row of eduai.task_live, which takes longer.",
		&eduai_queue_fresh_most, 131072, 0, 1 << 24,
		process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	eduai_core_shmem_register(&part);
}

/* ---- places ---- */

static int *
bucket_of(int64 task_id)
{
	uint32 hash = murmurhash32((uint32) task_id ^ (uint32) (task_id >> 32));

	return &eduai_queue_fresh->buckets[hash % eduai_queue_fresh_most];
}

int
eduai_queue_fresh_place(int lane, int64 key, int64 least_id)
{
	FreshShared *s = eduai_queue_fresh;
	int place;

	SpinLockAcquire(&s->mutex);
	place = s->free;
	if (place != FRESH_NONE)
	{
		FreshPlace *t = &s->tasks[place];

		s->free = t->next;
		s->used++;
		t->task_id = -least_id;
		t->key = key;
		t->lane = lane;
		t->chain = FRESH_NONE;
		t->state = FRESH_RESERVED;
	}
	SpinLockRelease(&s->mutex);
	return place;
}

void
eduai_queue_fresh_name(int place, int64 task_id, const ItemPointerData *request)
{
	FreshShared *s = eduai_queue_fresh;
	FreshPlace *t = &s->tasks[place];
	int *bucket = bucket_of(task_id);

	t->request = *request;
	SpinLockAcquire(&s->mutex);
	t->task_id = task_id;
	t->chain = *bucket;
	*bucket = place;
	SpinLockRelease(&s->mutex);
}

void
eduai_queue_fresh_free(int place)
{
	FreshShared *s = eduai_queue_fresh;
	FreshPlace *t = &s->tasks[place];
	int *link = bucket_of(t->task_id);

	SpinLockAcquire(&s->mutex);
	if (t->task_id > 0)
	{
		while (*link != place)
			link = &s->tasks[*link].chain;
		*link = t->chain;
	}
	t->task_id = 0;
	t->state = FRESH_FREE;
	t->next = s->free;
	s->free = place;
	s->used--;
	SpinLockRelease(&s->mutex);
}

int
eduai_queue_fresh_find(int64 task_id)
{
	FreshShared *s = eduai_queue_fresh;
	int place;

	if (eduai_queue_fresh_most == 0)
		return FRESH_NONE;
	SpinLockAcquire(&s->mutex);
	for (place = *bucket_of(task_id); place != FRESH_NONE; place = s->tasks[place].chain)
		if (s->tasks[place].task_id == task_id &&
			eduai_queue_lanes->lanes[s->tasks[place].lane].database == MyDatabaseId)
			break;
	SpinLockRelease(&s->mutex);
	return place;
}

/* ---- lists; with the lane's mutex ---- */

/* the place after which a key belongs, seen from the end of a list; false: too far */
static bool
find_after(int end, int64 key, int *after)
{
	const FreshPlace *tasks = eduai_queue_fresh->tasks;

	*after = end;
	for (int i = 0; *after != FRESH_NONE && tasks[*after].key > key; i++)
	{
		if (i == SORTED)
			return false;
		*after = tasks[*after].prev;
	}
	return true;
}

static void
insert_after(int *first, int *end, int after, int place)
{
	FreshPlace *tasks = eduai_queue_fresh->tasks;
	int next = after == FRESH_NONE ? *first : tasks[after].next;

	tasks[place].prev = after;
	tasks[place].next = next;
	*(after == FRESH_NONE ? first : &tasks[after].next) = place;
	*(next == FRESH_NONE ? end : &tasks[next].prev) = place;
}

static void
link_place(Lane *l, int place)
{
	FreshPlace *t = &eduai_queue_fresh->tasks[place];
	int after = FRESH_NONE;

	/* what is given back was the first */
	t->late = !(l->fresh == FRESH_NONE || t->key <= eduai_queue_fresh->tasks[l->fresh].key ||
				find_after(l->fresh_end, t->key, &after));
	if (!t->late)
		insert_after(&l->fresh, &l->fresh_end, after, place);
	else
	{
		/* very many came late: roughly in order */
		if (l->late == FRESH_NONE || t->key <= eduai_queue_fresh->tasks[l->late].key)
			after = FRESH_NONE;
		else
			(void) find_after(l->late_end, t->key, &after);
		insert_after(&l->late, &l->late_end, after, place);
	}
}

static void
unlink_place(Lane *l, int place)
{
	FreshPlace *tasks = eduai_queue_fresh->tasks;
	FreshPlace *t = &tasks[place];

	*(t->prev == FRESH_NONE ? (t->late ? &l->late : &l->fresh) : &tasks[t->prev].next) = t->next;
	*(t->next == FRESH_NONE ? (t->late ? &l->late_end : &l->fresh_end) : &tasks[t->next].prev) =
		t->prev;
}

static int
oldest(const Lane *l)
{
	const FreshPlace *tasks = eduai_queue_fresh->tasks;

	if (l->late == FRESH_NONE)
		return l->fresh;
	if (l->fresh == FRESH_NONE)
		return l->late;
	return tasks[l->late].key < tasks[l->fresh].key ? l->late : l->fresh;
}

/* ---- lists ---- */

void
eduai_queue_fresh_ready(int place)
{
	FreshPlace *t = &eduai_queue_fresh->tasks[place];
	Lane *l = &eduai_queue_lanes->lanes[t->lane];

	SpinLockAcquire(&l->mutex);
	t->state = FRESH_READY;
	link_place(l, place);
	eduai_queue_lane_refresh(l);
	SpinLockRelease(&l->mutex);
}

bool
eduai_queue_fresh_seize(int place, int64 task_id, TransactionId *owner, FreshState *state)
{
	FreshPlace *t = &eduai_queue_fresh->tasks[place];
	Lane *l = &eduai_queue_lanes->lanes[t->lane];
	bool mine;

	SpinLockAcquire(&l->mutex);
	*state =
		t->task_id == task_id && l == &eduai_queue_lanes->lanes[t->lane] ? t->state : FRESH_FREE;
	mine = *state == FRESH_READY;
	if (mine)
	{
		unlink_place(l, place);
		t->state = FRESH_TAKEN;
		t->owner = *owner;
		l->pins++;
		eduai_queue_lane_refresh(l);
	}
	else
		*owner = t->owner;
	SpinLockRelease(&l->mutex);
	return mine;
}

/* Takes the lane's oldest into "tasks"; pins it for each. */
int
eduai_queue_fresh_pop(int lane, int64 hash, int64 before, TransactionId owner, FreshTask *tasks,
					  int most)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];
	int n = 0;

	SpinLockAcquire(&l->mutex);
	if (l->database == MyDatabaseId && l->hash == hash)
		for (int place; n < most && (place = oldest(l)) != FRESH_NONE; n++)
		{
			FreshPlace *t = &eduai_queue_fresh->tasks[place];

			if (t->key >= before)
				break;
			unlink_place(l, place);
			t->state = FRESH_TAKEN;
			t->owner = owner;
			tasks[n] = (FreshTask){place, t->task_id, t->key, t->request};
		}
	l->pins += n;
	eduai_queue_lane_refresh(l);
	SpinLockRelease(&l->mutex);
	return n;
}

/* out of its list, if it is to be dropped */
static bool
unlink_old(int place, Oid database, uint32 load)
{
	FreshPlace *t = &eduai_queue_fresh->tasks[place];
	Lane *l = &eduai_queue_lanes->lanes[t->lane];
	bool old;

	if (t->state != FRESH_READY)
		return false;
	SpinLockAcquire(&l->mutex);
	old = t->state == FRESH_READY && l == &eduai_queue_lanes->lanes[t->lane] &&
		  l->database == database && t->load < load;
	if (old)
	{
		unlink_place(l, place);
		t->state = FRESH_TAKEN;
		eduai_queue_lane_refresh(l);
	}
	SpinLockRelease(&l->mutex);
	return old;
}

void
eduai_queue_fresh_drop(Oid database, uint32 load)
{
	for (int place = 0; place < eduai_queue_fresh_most; place++)
		if (unlink_old(place, database, load))
			eduai_queue_fresh_free(place);
}

bool
eduai_queue_fresh_seen(int64 task_id, const ItemPointerData *request, uint32 load)
{
	int place = eduai_queue_fresh_find(task_id);
	FreshPlace *t;
	Lane *l;

	if (place == FRESH_NONE)
		return false;
	t = &eduai_queue_fresh->tasks[place];
	l = &eduai_queue_lanes->lanes[t->lane];
	SpinLockAcquire(&l->mutex);
	if (t->task_id == task_id && l == &eduai_queue_lanes->lanes[t->lane] &&
		(t->state == FRESH_READY || t->state == FRESH_TAKEN))
	{
		t->request = *request;
		t->load = load;
	}
	SpinLockRelease(&l->mutex);
	return true;
}
