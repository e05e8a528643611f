/*
 * claim.c: choosing ready tasks and making them running.  See claim.h.
 *
 * Looking takes no lock: each lane (pool, priority) is read in the order of
 * its index, and the lanes are merged by deadline in memory.  Only what the
 * router could place is then locked and updated.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/worker.h"
#include "queue/claim.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static int
by_deadline(const void *a, const void *b)
{
	const Candidate *x = a;
	const Candidate *y = b;

	if (x->deadline != y->deadline)
		return x->deadline < y->deadline ? -1 : 1;
	return x->task_id < y->task_id ? -1 : x->task_id > y->task_id ? 1 : 0;
}

static uint64
read_lanes(const PoolRoom *rooms, int nrooms, char *const *classes, int nclasses,
		   char *const *tenants, int ntenants)
{
	static EduaiPlan lanes = {
		"SELECT t.task_id, t.tenant_id, t.task_type, t.model, t.user_id, p.ord::int - 1, "
		"t.priority, t.deadline, t.instance "
		"FROM unnest($1, $2) WITH ORDINALITY AS p (pool, slots, ord), "
		"generate_series(0, 3) AS l (priority), "
		"LATERAL (SELECT * FROM eduai.task t WHERE t.state = 'ready' AND t.pool = p.pool "
		"AND t.priority = l.priority AND t.by_gateway "
		"AND (t.expires_at IS NULL OR t.expires_at > $5) "
		"AND t.task_type || E'\\x01' || coalesce(t.model, '') <> ALL ($3) "
		"AND t.tenant_id || E'\\x01' || t.task_type || E'\\x01' || coalesce(t.model, '') <> ALL ($4) "
		"ORDER BY t.task_id LIMIT p.slots) t",
		5, {TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID}
	};
	Datum		args[5];
	char	  **names = palloc(sizeof(char *) * Max(nrooms, 1));
	int32	   *slots = palloc(sizeof(int32) * Max(nrooms, 1));

	for (int i = 0; i < nrooms; i++)
	{
		names[i] = (char *) rooms[i].pool;
		slots[i] = rooms[i].slots;
	}
	args[0] = eduai_core_text_array(names, nrooms);
	args[1] = eduai_core_int4_array(slots, NULL, nrooms);
	args[2] = eduai_core_text_array(classes, nclasses);
	args[3] = eduai_core_text_array(tenants, ntenants);
	args[4] = TimestampTzGetDatum(eduai_core_now());
	return eduai_core_run(&lanes, args, NULL);
}

static void
read_candidate(uint64 row, Candidate *c)
{
	bool		isnull;

	c->task_id = eduai_core_int64(row, 1, 0);
	c->tenant = eduai_core_text(row, 2);
	c->task_type = eduai_core_text(row, 3);
	c->model = eduai_core_text(row, 4);
	c->user_id = eduai_core_text(row, 5);
	c->pool = (int) eduai_core_int64(row, 6, 0);
	c->priority = (int) eduai_core_int64(row, 7, 0);
	c->deadline = DatumGetTimestampTz(eduai_core_value(row, 8, &isnull));
	c->failed_last = eduai_core_text(row, 9);
	c->instance = NULL;
}

int
eduai_queue_candidates(const PoolRoom *rooms, int nrooms, char *const *blocked_classes, int nclasses,
					   char *const *blocked_tenants, int ntenants, Candidate **candidates)
{
	uint64		n = read_lanes(rooms, nrooms, blocked_classes, nclasses, blocked_tenants, ntenants);
	Candidate  *all = palloc(sizeof(Candidate) * Max(n, 1));
	int		   *slots = palloc(sizeof(int) * Max(nrooms, 1));
	int			kept = 0;

	for (uint64 i = 0; i < n; i++)
		read_candidate(i, &all[i]);
	qsort(all, n, sizeof(Candidate), by_deadline);
	for (int i = 0; i < nrooms; i++)
		slots[i] = rooms[i].slots;
	for (uint64 i = 0; i < n; i++)
	{
		int			pool = all[i].pool;
		int			least = all[i].priority == 0 ? 0 : rooms[pool].reserved;

		if (slots[pool] <= least)
			continue;
		slots[pool]--;
		all[kept++] = all[i];
	}
	*candidates = all;
	return kept;
}

static void
read_claimed(uint64 row, MemoryContext parent, ClaimedTask *t)
{
	MemoryContext old;
	bool		isnull;

	t->context = AllocSetContextCreate(parent, "eduai call", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(t->context);
	t->task_id = eduai_core_int64(row, 1, 0);
	t->tenant = eduai_core_text(row, 2);
	t->attempt = (int) eduai_core_int64(row, 3, 0);
	t->task_type = eduai_core_text(row, 4);
	t->pool = eduai_core_text(row, 5);
	t->user_id = eduai_core_text(row, 6);
	t->instance = eduai_core_text(row, 7);
	t->timeout_ms = eduai_core_int64(row, 8, 0);
	t->payload = DatumGetJsonbPCopy(eduai_core_value(row, 9, &isnull));
	t->metadata = DatumGetJsonbPCopy(eduai_core_value(row, 10, &isnull));
	t->priority = (int) eduai_core_int64(row, 11, 0);
	t->model = eduai_core_text(row, 12);
	MemoryContextSwitchTo(old);
}

int
eduai_queue_claim(const Candidate *candidates, int n, MemoryContext parent, ClaimedTask *claimed)
{
	static EduaiPlan claim = {
		"UPDATE eduai.task t SET state = 'running', attempt = t.attempt + 1, worker = $4, "
		"instance = m.instance, started_at = $5 "
		"FROM (SELECT r.ctid AS row, c.instance FROM unnest($1, $2, $3) c (tenant_id, task_id, instance) "
		"JOIN eduai.task r ON r.tenant_id = c.tenant_id AND r.task_id = c.task_id "
		"WHERE r.state = 'ready' FOR UPDATE OF r SKIP LOCKED) m "
		"WHERE t.ctid = m.row "
		"RETURNING t.task_id, t.tenant_id, t.attempt, t.task_type, t.pool, t.user_id, t.instance, "
		"t.timeout_ms, t.payload, t.metadata, t.priority, t.model",
		5, {TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, INT8OID, TIMESTAMPTZOID}
	};
	char	  **tenants = palloc(sizeof(char *) * Max(n, 1));
	char	  **instances = palloc(sizeof(char *) * Max(n, 1));
	int64	   *ids = palloc(sizeof(int64) * Max(n, 1));
	Datum		args[5];
	uint64		got;

	for (int i = 0; i < n; i++)
	{
		tenants[i] = candidates[i].tenant;
		instances[i] = candidates[i].instance;
		ids[i] = candidates[i].task_id;
	}
	args[0] = eduai_core_text_array(tenants, n);
	args[1] = eduai_core_int8_array(ids, NULL, n);
	args[2] = eduai_core_text_array(instances, n);
	args[3] = Int64GetDatum(eduai_core_worker_epoch());
	args[4] = TimestampTzGetDatum(eduai_core_now());
	got = eduai_core_run(&claim, args, NULL);
	for (uint64 i = 0; i < got; i++)
		read_claimed(i, parent, &claimed[i]);
	return (int) got;
}
