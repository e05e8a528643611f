/*
 * claim.c: choosing ready tasks and making them running.  See claim.h.
 *
 * Looking takes no lock: each lane (pool, priority) is read in the order of
 * its index, and the lanes are merged by deadline in memory.  Only what the
 * router could place is then locked and updated, found again by its ctid: a
 * row that has changed since is left for the next look.
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
		"t.priority, t.deadline, t.instance, t.tid "
		"FROM unnest($1, $2) WITH ORDINALITY AS p (pool, slots, ord), "
		"generate_series(0, 3) AS l (priority), "
		"LATERAL (SELECT t.*, t.ctid AS tid FROM eduai.task t WHERE t.state = 'ready' AND t.pool = p.pool "
		"AND t.priority = l.priority AND t.by_gateway "
		"AND (t.expires_at IS NULL OR t.expires_at > $5) "
		"AND t.task_type || E'\\x01' || coalesce(t.model, '') <> ALL ($3) "
		"AND t.tenant_id || E'\\x01' || t.task_type || E'\\x01' || coalesce(t.model, '') <> ALL ($4) "
		"ORDER BY t.task_id LIMIT p.slots) t",
		5,
		{TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID}};
	Datum args[5];
	char **names = palloc(sizeof(char *) * Max(nrooms, 1));
	int32 *slots = palloc(sizeof(int32) * Max(nrooms, 1));

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
	bool isnull;

	c->task_id = eduai_core_int64(row, 1, 0);
	c->tenant = eduai_core_text(row, 2);
	c->task_type = eduai_core_text(row, 3);
	c->model = eduai_core_text(row, 4);
	c->user_id = eduai_core_text(row, 5);
	c->pool = (int) eduai_core_int64(row, 6, 0);
	c->priority = (int) eduai_core_int64(row, 7, 0);
	c->deadline = DatumGetTimestampTz(eduai_core_value(row, 8, &isnull));
	c->failed_last = eduai_core_text(row, 9);
	c->tid = *(ItemPointer) DatumGetPointer(eduai_core_value(row, 10, &isnull));
	c->instance = NULL;
}

int
eduai_queue_candidates(const PoolRoom *rooms, int nrooms, char *const *blocked_classes,
					   int nclasses, char *const *blocked_tenants, int ntenants,
					   Candidate **candidates)
{
	uint64 n = read_lanes(rooms, nrooms, blocked_classes, nclasses, blocked_tenants, ntenants);
	Candidate *all = palloc(sizeof(Candidate) * Max(n, 1));
	int *slots = palloc(sizeof(int) * Max(nrooms, 1));
	int kept = 0;

	for (uint64 i = 0; i < n; i++)
		read_candidate(i, &all[i]);
	qsort(all, n, sizeof(Candidate), by_deadline);
	for (int i = 0; i < nrooms; i++)
		slots[i] = rooms[i].slots;
	for (uint64 i = 0; i < n; i++)
	{
		int pool = all[i].pool;
		int least = all[i].priority == 0 ? 0 : rooms[pool].reserved;

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
	bool isnull;

	t->context = AllocSetContextCreate(parent, "eduai call", ALLOCSET_DEFAULT_SIZES);
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
	t->tid = *(ItemPointer) DatumGetPointer(eduai_core_value(row, 13, &isnull));
	MemoryContextSwitchTo(old);
}

/*
 * LATERAL fixes the order of the join, and "state || ''" keeps the planner from
 * walking the whole index of ready tasks, which it takes to be empty.
 */
int
eduai_queue_claim(const Candidate *candidates, int n, MemoryContext parent, ClaimedTask *claimed)
{
	static EduaiPlan claim = {
		"UPDATE eduai.task t SET state = 'running', attempt = t.attempt + 1, worker = $4, "
		"instance = m.instance, started_at = $5 "
		"FROM (SELECT r.ctid AS tid, c.instance FROM unnest($1, $2, $3) c (tid, task_id, instance) "
		"CROSS JOIN LATERAL (SELECT ctid FROM eduai.task r WHERE r.ctid = c.tid "
		"AND r.task_id = c.task_id AND r.state || '' = 'ready' FOR UPDATE SKIP LOCKED) r) m "
		"WHERE t.ctid = m.tid "
		"RETURNING t.task_id, t.tenant_id, t.attempt, t.task_type, t.pool, t.user_id, t.instance, "
		"t.timeout_ms, t.payload, t.metadata, t.priority, t.model, t.ctid",
		5,
		{TIDARRAYOID, INT8ARRAYOID, TEXTARRAYOID, INT8OID, TIMESTAMPTZOID}};
	Datum *tids = palloc(sizeof(Datum) * Max(n, 1));
	char **instances = palloc(sizeof(char *) * Max(n, 1));
	int64 *ids = palloc(sizeof(int64) * Max(n, 1));
	Datum args[5];
	uint64 got;

	for (int i = 0; i < n; i++)
	{
		tids[i] = PointerGetDatum(&candidates[i].tid);
		instances[i] = candidates[i].instance;
		ids[i] = candidates[i].task_id;
	}
	args[0] = eduai_core_datum_array(tids, NULL, n, TIDOID);
	args[1] = eduai_core_int8_array(ids, NULL, n);
	args[2] = eduai_core_text_array(instances, n);
	args[3] = Int64GetDatum(eduai_core_worker_epoch());
	args[4] = TimestampTzGetDatum(eduai_core_now());
	got = eduai_core_run(&claim, args, NULL);
	for (uint64 i = 0; i < got; i++)
		read_claimed(i, parent, &claimed[i]);
	return (int) got;
}
