/*
 * stamp.c: stamps of deletions, held against snapshots.  See stamp.h.
 */
#include "postgres.h"

#include "cache/stamp.h"

static bool
among(const uint64 *ids, int n, uint64 id)
{
	int low = 0;
	int high = n;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (ids[middle] < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && ids[low] == id;
}

bool
eduai_cache_snapshot_sees(const CacheSnapshot *snapshot, uint64 xid)
{
	if (xid < snapshot->xmin)
		return true;
	return !snapshot->vague && xid < snapshot->xmax && !among(snapshot->xip, snapshot->n, xid);
}

/*
 * Below "xmax" all but the n ids were over.  The id before xmax was the last
 * that ended, so a snapshot with a smaller xmax misses at least that one.
 */
static bool
sees_all_but(const CacheSnapshot *snapshot, uint64 xmax, const uint64 *ids, int n)
{
	if (snapshot->xmin >= xmax)
		return true;
	if (snapshot->xmax < xmax)
		return false;
	for (int i = 0; i < snapshot->n && snapshot->xip[i] < xmax; i++)
		if (!among(ids, n, snapshot->xip[i]))
			return false;
	return true;
}

bool
eduai_cache_snapshot_covers(const CacheSnapshot *a, const CacheSnapshot *b)
{
	return sees_all_but(a, b->xmax, b->xip, b->n);
}

CacheStamp
eduai_cache_stamp_of(const CacheSnapshot *latest)
{
	CacheStamp stamp = {.xmax = latest->xmax, .n = latest->n};

	if (latest->n > STAMP_XIDS)
		stamp.n = -1;
	else
		memcpy(stamp.xip, latest->xip, latest->n * sizeof(uint64));
	return stamp;
}

CacheStamp
eduai_cache_stamp_of_writer(uint64 xid)
{
	return (CacheStamp){.writer = xid};
}

bool
eduai_cache_stamp_passed(const CacheStamp *stamp, const CacheSnapshot *built)
{
	if (stamp->writer != 0 && !eduai_cache_snapshot_sees(built, stamp->writer))
		return false;
	/* a vague one may miss whatever is not over in any case */
	if (built->vague)
		return built->xmin >= stamp->xmax;
	return sees_all_but(built, stamp->xmax, stamp->xip, Max(stamp->n, 0));
}

bool
eduai_cache_stamp_implies(const CacheStamp *stamp, const CacheStamp *other)
{
	if (other->writer != 0 && other->writer != stamp->writer)
		return false;
	if (other->xmax == 0)
		return true;
	if (stamp->n < 0 || stamp->xmax < other->xmax)
		return false;
	for (int i = 0; i < stamp->n && stamp->xip[i] < other->xmax; i++)
		if (!among(other->xip, Max(other->n, 0), stamp->xip[i]))
			return false;
	return true;
}

uint64
eduai_cache_stamp_horizon(const CacheStamp *stamp)
{
	return Max(stamp->xmax, stamp->writer + 1);
}
