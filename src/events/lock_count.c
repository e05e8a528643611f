/*
 * lock_count.c: how many locks an append will take.  See lock_count.h.
 *
 * Few events have four locks each at most, which is near enough.  Of many
 * the distinct ones are counted: a thousand events of one stream and learner
 * take two locks, and must not make their transaction a bulk.
 */
#include "postgres.h"

#include "core/lock.h"
#include "events/lock_count.h"

#define FEW_EVENTS 4

static int
compare_keys(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a;
	uint64 y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* Sorts the keys and counts the distinct ones. */
static int
count_distinct(uint64 *keys, int n)
{
	int distinct = 0;

	qsort(keys, n, sizeof(uint64), compare_keys);
	for (int i = 0; i < n; i++)
		if (i == 0 || keys[i] != keys[i - 1])
			distinct++;
	return distinct;
}

static int
count_locks(const EduaiAppendBatch *batch)
{
	uint64 *keys = palloc(sizeof(uint64) * batch->nevents);
	int streams;
	int learners = 0;
	int sessions = 0;
	int ids = 0;

	for (int i = 0; i < batch->nevents; i++)
		keys[i] = eduai_core_lock_key(batch->tenant, batch->events[i].stream);
	streams = count_distinct(keys, batch->nevents);
	for (int i = 0; i < batch->nevents; i++)
	{
		const EduaiEvent *event = &batch->events[i];

		if (event->user_id)
			keys[learners++] = eduai_core_lock_key(batch->tenant, event->user_id);
		ids += event->own_id ? 0 : 1;
	}
	learners = count_distinct(keys, learners);
	/* their locks are taken only where an inline projection is keyed by them */
	for (int i = 0; i < batch->nevents; i++)
		if (batch->events[i].session_id)
			keys[sessions++] = eduai_core_lock_key(batch->tenant, batch->events[i].session_id);
	sessions = count_distinct(keys, sessions);
	pfree(keys);
	return streams + learners + sessions + ids;
}

bool
eduai_events_expect_locks(const EduaiAppendBatch *batch)
{
	int n = batch->nevents <= FEW_EVENTS ? batch->nevents * 4 : count_locks(batch);

	return eduai_core_lock_expect(n, batch->nowait);
}
