/*
 * sweep.c: due, expired, orphaned and superseded tasks.  See sweep.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/worker.h"
#include "queue/dependency.h"
#include "queue/finish_internal.h"
#include "queue/quota.h"
#include "queue/status.h"
#include "queue/sweep.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* so many at a time that no transaction grows long; the rest comes next turn */
#define SWEEP_BATCH "1000"

int
eduai_queue_wake_due(void)
{
	static EduaiPlan wake = {
		"UPDATE eduai.task SET state = 'ready' WHERE ctid = ANY (ARRAY("
		"SELECT ctid FROM eduai.task WHERE state = 'scheduled' AND run_at <= $1 "
		"ORDER BY run_at LIMIT " SWEEP_BATCH " FOR UPDATE SKIP LOCKED))",
		1,
		{TIMESTAMPTZOID}};
	Datum args[1] = {TimestampTzGetDatum(eduai_core_now())};

	return (int) eduai_core_run(&wake, args, NULL);
}

int64
eduai_queue_next_due_ms(void)
{
	static EduaiPlan next = {
		"SELECT run_at FROM eduai.task WHERE state = 'scheduled' ORDER BY run_at LIMIT 1", 0};
	bool isnull;
	int64 us;

	if (eduai_core_run(&next, NULL, NULL) == 0)
		return -1;
	us = DatumGetTimestampTz(eduai_core_value(0, 1, &isnull)) - eduai_core_now();
	/* a due task that somebody holds must not make a busy loop */
	return us <= 0 ? 50 : us / 1000 + 1;
}

int
eduai_queue_expire(void)
{
	static EduaiPlan expire = {
		"UPDATE eduai.task SET state = 'expired', finished_at = $1 WHERE ctid = ANY (ARRAY("
		"SELECT ctid FROM eduai.task WHERE expires_at <= $1 AND expires_at IS NOT NULL "
		"AND state IN ('waiting', 'scheduled', 'ready') "
		"ORDER BY expires_at LIMIT " SWEEP_BATCH " FOR UPDATE SKIP LOCKED)) "
		"RETURNING tenant_id, task_id",
		1,
		{TIMESTAMPTZOID}};
	Datum args[1] = {TimestampTzGetDatum(eduai_core_now())};
	uint64 n = eduai_core_run(&expire, args, NULL);
	char **tenants = palloc(sizeof(char *) * Max(n, 1));
	int64 *ids = palloc(sizeof(int64) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
	{
		tenants[i] = eduai_core_text(i, 1);
		ids[i] = eduai_core_int64(i, 2, 0);
	}
	for (uint64 i = 0; i < n; i++)
	{
		eduai_queue_quota_release(tenants[i], 1);
		eduai_queue_board_ended(ids[i]);
		eduai_queue_notify(tenants[i], ids[i], "expired");
	}
	eduai_queue_release_children(tenants, ids, (int) n);
	return (int) n;
}

int
eduai_queue_orphans(int most, Orphan **orphans)
{
	static EduaiPlan find = {
		"SELECT task_id, attempt, tenant_id, instance, model, started_at, ctid FROM eduai.task "
		"WHERE state = 'running' AND by_gateway AND worker <> $1 ORDER BY task_id LIMIT $2",
		2,
		{INT8OID, INT8OID}};
	Datum args[2] = {Int64GetDatum(eduai_core_worker_epoch()), Int64GetDatum(most)};
	uint64 n = eduai_core_run(&find, args, NULL);

	*orphans = palloc(sizeof(Orphan) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		Orphan *o = &(*orphans)[i];
		bool isnull;

		o->task_id = eduai_core_int64(i, 1, 0);
		o->attempt = (int) eduai_core_int64(i, 2, 0);
		o->tenant = eduai_core_text(i, 3);
		o->instance = eduai_core_text(i, 4);
		o->model = eduai_core_text(i, 5);
		o->started_at = DatumGetTimestampTz(eduai_core_value(i, 6, &isnull));
		o->tid = *(ItemPointer) DatumGetPointer(eduai_core_value(i, 7, &isnull));
	}
	return (int) n;
}

void
eduai_queue_follow_ended(const EndedTask *tasks, int n)
{
	/* one that was taken back by retry_task() since then is not told of */
	static EduaiPlan ended = {
		"SELECT t.tenant_id, t.task_id, t.state FROM unnest($1, $2) e (tenant_id, task_id) "
		"CROSS JOIN LATERAL (SELECT * FROM eduai.task t WHERE t.tenant_id = e.tenant_id "
		"AND t.task_id = e.task_id OFFSET 0) t",
		2,
		{TEXTARRAYOID, INT8ARRAYOID}};
	char **tenants = palloc(sizeof(char *) * Max(n, 1));
	char **states = palloc(sizeof(char *) * Max(n, 1));
	int64 *ids = palloc(sizeof(int64) * Max(n, 1));
	Datum args[2];
	uint64 found;

	for (int i = 0; i < n; i++)
	{
		tenants[i] = pstrdup(tasks[i].tenant);
		ids[i] = tasks[i].task_id;
	}
	args[0] = eduai_core_text_array(tenants, n);
	args[1] = eduai_core_int8_array(ids, NULL, n);
	found = eduai_core_run(&ended, args, NULL);
	for (uint64 i = 0; i < found; i++)
	{
		tenants[i] = eduai_core_text(i, 1);
		ids[i] = eduai_core_int64(i, 2, 0);
		states[i] = eduai_core_text(i, 3);
	}
	for (uint64 i = 0; i < found; i++)
		if (eduai_queue_is_final(states[i]))
			eduai_queue_notify(tenants[i], ids[i], states[i]);
	eduai_queue_release_children(tenants, ids, (int) found);
}

int
eduai_queue_superseded(const int64 *task_ids, const int *attempts, int n, int *indexes)
{
	/* by the index of running tasks: what is not there is superseded */
	static EduaiPlan running = {
		"SELECT o.ord FROM unnest($1, $2) WITH ORDINALITY o (task_id, attempt, ord) "
		"CROSS JOIN LATERAL (SELECT FROM eduai.task t WHERE t.task_id = o.task_id "
		"AND t.attempt = o.attempt AND t.state = 'running' OFFSET 0) t",
		2,
		{INT8ARRAYOID, INT4ARRAYOID}};
	Datum args[2] = {eduai_core_int8_array(task_ids, NULL, n),
					 eduai_core_int4_array(attempts, NULL, n)};
	bool *alive = palloc0(sizeof(bool) * Max(n, 1));
	uint64 got = eduai_core_run(&running, args, NULL);
	int gone = 0;

	for (uint64 i = 0; i < got; i++)
		alive[eduai_core_int64(i, 1, 1) - 1] = true;
	for (int i = 0; i < n; i++)
		if (!alive[i])
			indexes[gone++] = i;
	return gone;
}
