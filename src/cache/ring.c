/*
 * ring.c: the transactions that wrote a dependency lately.  See ring.h.
 */
#include "postgres.h"

#include "cache/ring.h"

void
eduai_cache_ring_init(CacheRing *ring)
{
	SpinLockInit(&ring->lock);
	pg_atomic_init_u64(&ring->lost, 0);
	for (int i = 0; i < CACHE_RING_IDS; i++)
		pg_atomic_init_u64(&ring->ids[i], 0);
}

void
eduai_cache_ring_add(CacheRing *ring, uint64 id)
{
	uint64 least = PG_UINT64_MAX;
	int at = 0;

	for (int i = 0; i < CACHE_RING_IDS; i++)
	{
		uint64 other = pg_atomic_read_u64(&ring->ids[i]);

		if (other == id)
			return;
		if (other < least)
		{
			least = other;
			at = i;
		}
	}
	if (Min(least, id) > pg_atomic_read_u64(&ring->lost))
		pg_atomic_write_u64(&ring->lost, Min(least, id));
	if (id < least)
		return;
	pg_write_barrier();
	pg_atomic_write_u64(&ring->ids[at], id);
}

CacheVisibility
eduai_cache_visible(const CacheSnapshot *snapshot, uint64 id)
{
	int low = 0;
	int high = snapshot->n;

	if (id < snapshot->xmin)
		return CACHE_VISIBLE;
	if (id >= snapshot->xmax)
		return CACHE_INVISIBLE;
	while (low < high)
	{
		int middle = (low + high) / 2;

		if (snapshot->xip[middle] == id)
			return CACHE_INVISIBLE;
		if (snapshot->xip[middle] < id)
			low = middle + 1;
		else
			high = middle;
	}
	return snapshot->vague ? CACHE_VAGUE : CACHE_VISIBLE;
}

/* Has the ring one from this on? */
static inline bool
has_from(CacheRing *ring, uint64 old)
{
	uint64 newest = 0;

	for (int i = 0; i < CACHE_RING_IDS; i++)
	{
		uint64 id = pg_atomic_read_u64(&ring->ids[i]);

		newest = Max(newest, id);
	}
	return newest >= old;
}

bool
eduai_cache_ring_agrees(CacheRing *ring, const CacheSnapshot *a, const CacheSnapshot *b, bool both)
{
	uint64 old = Min(a->xmin, b->xmin); /* both see what is below */
	bool look = has_from(ring, old);    /* most often not */
	uint64 lost;

	for (int i = 0; look && i < CACHE_RING_IDS; i++)
	{
		uint64 id = pg_atomic_read_u64(&ring->ids[i]);
		CacheVisibility in_a;

		if (id == 0 || id < old)
			continue;
		in_a = eduai_cache_visible(a, id);
		if (in_a == CACHE_VAGUE || in_a != eduai_cache_visible(b, id))
			return false;
		if (both && in_a == CACHE_INVISIBLE)
			return false;
	}
	pg_read_barrier();
	lost = pg_atomic_read_u64(&ring->lost);
	return lost == 0 || lost < old;
}
