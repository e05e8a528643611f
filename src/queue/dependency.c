/*
 * dependency.c: edges between tasks.  See dependency.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/plan.h"
#include "queue/board.h"
#include "queue/dependency.h"
#include "queue/finish_internal.h"
#include "queue/quota.h"
#include "queue/status.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *
failure_policy(const Jsonb *metadata)
{
	char *policy = eduai_core_json_text(metadata, "on_parent_failure");

	return policy ? policy : "fail";
}

void
eduai_queue_look_at_parents(TaskRequest *task)
{
	/* FOR SHARE: a parent cannot end before this transaction does */
	static EduaiPlan look = {
		"SELECT t.task_id, t.state FROM eduai.task t "
		"WHERE t.tenant_id = $1 AND t.task_id = ANY ($2) ORDER BY t.task_id FOR SHARE",
		2,
		{TEXTOID, INT8ARRAYOID}};
	static EduaiPlan unknown = {
		"SELECT p FROM unnest($2) p WHERE p IS NULL OR NOT EXISTS "
		"(SELECT FROM eduai.task t WHERE t.tenant_id = $1 AND t.task_id = p)",
		2,
		{TEXTOID, INT8ARRAYOID}};
	Datum args[2] = {CStringGetTextDatum(task->tenant), PointerGetDatum(task->depends_on)};
	const char *policy = failure_policy(task->metadata);
	uint64 n;

	if (ARR_NDIM(task->depends_on) == 0)
		return;
	if (eduai_core_run_latest(&unknown, args, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("task %s does not exist",
						eduai_core_text(0, 1) ? eduai_core_text(0, 1) : "null"),
				 errhint("depends_on takes ids of this tenant's tasks that are still kept.")));
	n = eduai_core_run_latest(&look, args, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		char *state = eduai_core_text(i, 2);
		bool failed = eduai_queue_is_final(state) && strcmp(state, "completed") != 0;

		if (failed && strcmp(policy, "fail") == 0)
		{
			/* as if it had failed a moment later: enqueuing must not depend on that */
			task->state = "dead";
			return;
		}
		if (!eduai_queue_is_final(state) || (failed && strcmp(policy, "wait") == 0))
			task->state = "waiting";
	}
}

void
eduai_queue_insert_edges(const TaskRequest *task, int64 task_id)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.task_dependency (tenant_id, parent_id, task_id) "
		"SELECT $1, t.task_id, $3 FROM eduai.task t WHERE t.tenant_id = $1 AND t.task_id = ANY ($2) "
		"AND t.state <> 'completed'",
		3,
		{TEXTOID, INT8ARRAYOID, INT8OID}};
	Datum args[3] = {CStringGetTextDatum(task->tenant), PointerGetDatum(task->depends_on),
					 Int64GetDatum(task_id)};

	eduai_core_run_latest(&insert, args, NULL);
}

#define PARENT_FAILED                              \
	"jsonb_build_object('code', 'parent_failed', " \
	"'message', 'a task that it depends on did not complete', 'attempts', '[]'::jsonb)"

void
eduai_queue_bury_newborn(const TaskRequest *task, int64 task_id)
{
	static EduaiPlan bury = {"UPDATE eduai.task SET finished_at = $3, error = " PARENT_FAILED
							 " WHERE tenant_id = $1 AND task_id = $2",
							 3,
							 {TEXTOID, INT8OID, TIMESTAMPTZOID}};
	Datum args[3] = {CStringGetTextDatum(task->tenant), Int64GetDatum(task_id),
					 TimestampTzGetDatum(task->now)};

	eduai_core_run_latest(&bury, args, NULL);
	eduai_queue_quota_release(task->tenant, 1);
	eduai_queue_board_ended_here(task->tenant, task_id);
}

/*
 * The statements below differ only in which children they look at: those of
 * tasks that just ended, or, in the sweep, any waiting one.
 */
#define PARENT_OF_C(condition)                                       \
	"EXISTS (SELECT FROM eduai.task_dependency d JOIN eduai.task p " \
	"ON p.tenant_id = d.tenant_id AND p.task_id = d.parent_id "      \
	"WHERE d.tenant_id = c.tenant_id AND d.task_id = c.task_id AND " condition ")"
#define POLICY "coalesce(c.metadata->>'on_parent_failure', 'fail')"
#define FAILED "p.state IN ('dead', 'cancelled', 'uncertain', 'expired')"
#define LIVING "p.state IN ('waiting', 'scheduled', 'ready', 'running')"

#define OF_ENDED                                                               \
	"(c.tenant_id, c.task_id) IN (SELECT d.tenant_id, d.task_id "              \
	"FROM unnest($2, $3) e (tenant_id, task_id) JOIN eduai.task_dependency d " \
	"ON d.tenant_id = e.tenant_id AND d.parent_id = e.task_id)"
#define ANY_WAITING "true"

#define READY_CHILDREN(which)                                                                        \
	"UPDATE eduai.task c SET state = CASE WHEN c.run_at > $1 THEN 'scheduled' ELSE 'ready' END, "    \
	"run_at = greatest(c.run_at, $1), "                                                              \
	"deadline = greatest(c.run_at, $1) + (ARRAY[1, 5, 30, 300])[c.priority + 1] * interval '1 s' "   \
	"WHERE c.ctid = ANY (ARRAY(SELECT c.ctid FROM eduai.task c WHERE c.state = 'waiting' AND " which \
	" AND NOT " PARENT_OF_C("(" LIVING " OR " FAILED " AND " POLICY                                  \
							" <> 'run')") " FOR UPDATE OF c SKIP LOCKED)) RETURNING c.by_gateway"
#define DEAD_CHILDREN(which)                                                                          \
	"UPDATE eduai.task c SET state = 'dead', finished_at = $1, error = " PARENT_FAILED                \
	" WHERE c.ctid = ANY (ARRAY(SELECT c.ctid FROM eduai.task c WHERE c.state = 'waiting' AND " which \
	" AND " POLICY " = 'fail' AND " PARENT_OF_C(                                                      \
		FAILED) " FOR UPDATE OF c SKIP LOCKED)) RETURNING c.tenant_id, c.task_id"

/* tells about the dead ones of the last statement, and returns their keys */
static int
bury(uint64 n, char ***tenants, int64 **ids)
{
	*tenants = palloc(sizeof(char *) * Max(n, 1));
	*ids = palloc(sizeof(int64) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		(*tenants)[i] = eduai_core_text(i, 1);
		(*ids)[i] = eduai_core_int64(i, 2, 0);
	}
	for (uint64 i = 0; i < n; i++)
	{
		eduai_queue_quota_release((*tenants)[i], 1);
		eduai_queue_board_ended((*ids)[i]);
		eduai_queue_notify((*tenants)[i], (*ids)[i], "dead");
	}
	return (int) n;
}

void
eduai_queue_release_children(char *const *tenants, const int64 *ids, int n)
{
	static EduaiPlan any = {"SELECT FROM unnest($1, $2) e (tenant_id, task_id) CROSS JOIN LATERAL "
							"(SELECT FROM eduai.task_dependency d WHERE d.tenant_id = e.tenant_id "
							"AND d.parent_id = e.task_id OFFSET 0) d LIMIT 1",
							2,
							{TEXTARRAYOID, INT8ARRAYOID}};
	static EduaiPlan ready = {
		READY_CHILDREN(OF_ENDED), 3, {TIMESTAMPTZOID, TEXTARRAYOID, INT8ARRAYOID}};
	static EduaiPlan dead = {
		DEAD_CHILDREN(OF_ENDED), 3, {TIMESTAMPTZOID, TEXTARRAYOID, INT8ARRAYOID}};
	char **level_tenants = (char **) tenants;
	int64 *level_ids = (int64 *) ids;

	/* the dead of one level may have children that die with them */
	while (n > 0)
	{
		Datum args[3] = {TimestampTzGetDatum(eduai_core_now()),
						 eduai_core_text_array(level_tenants, n),
						 eduai_core_int8_array(level_ids, NULL, n)};

		if (eduai_core_run(&any, args + 1, NULL) == 0)
			return;
		eduai_core_run(&ready, args, NULL);
		n = bury(eduai_core_run(&dead, args, NULL), &level_tenants, &level_ids);
	}
}

int
eduai_queue_release_orphans(void)
{
	static EduaiPlan any = {"SELECT FROM eduai.task WHERE state = 'waiting' LIMIT 1", 0};
	static EduaiPlan ready = {READY_CHILDREN(ANY_WAITING), 1, {TIMESTAMPTZOID}};
	static EduaiPlan dead = {DEAD_CHILDREN(ANY_WAITING), 1, {TIMESTAMPTZOID}};
	Datum args[1] = {TimestampTzGetDatum(eduai_core_now())};
	char **tenants;
	int64 *ids;
	int released;

	if (eduai_core_run(&any, NULL, NULL) == 0)
		return 0;
	released = (int) eduai_core_run(&ready, args, NULL);
	return released + bury(eduai_core_run(&dead, args, NULL), &tenants, &ids);
}
