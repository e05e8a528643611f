/*
 * dependency.c: what a task that is being enqueued, or started, knows of its
 * parents.  See dependency.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/plan.h"
#include "queue/board.h"
#include "queue/dependency.h"
#include "queue/edge.h"
#include "queue/queue.h"
#include "utils/builtins.h"

ParentFailure
eduai_queue_parent_failure(const Jsonb *metadata)
{
	char *policy = eduai_core_json_text(metadata, "on_parent_failure");

	if (policy == NULL || strcmp(policy, "fail") == 0)
		return PARENT_FAILURE_FAIL;
	return strcmp(policy, "run") == 0 ? PARENT_FAILURE_RUN : PARENT_FAILURE_WAIT;
}

ParentStand
eduai_queue_parent_stand(EduaiTasks *tasks, const char *tenant, int64 task_id)
{
	ItemPointerData place;
	char *state;

	if (eduai_queue_lives(tasks, tenant, task_id))
		return PARENT_LIVES;
	state = eduai_queue_end_state(tasks, tenant, task_id);
	if (state != NULL)
		return strcmp(state, "completed") == 0 ? PARENT_COMPLETED : PARENT_FAILED;
	/* fresh, or taken back by retry_task() between the two looks */
	return eduai_queue_requested(tasks, tenant, task_id, &place) ? PARENT_LIVES : PARENT_UNKNOWN;
}

static void
raise_unknown(const char *id)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("task %s does not exist", id),
					errhint("depends_on takes ids of this tenant's tasks that are still kept.")));
}

static int
compare_ids(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return (x > y) - (x < y);
}

/* the ids of an array, each once, in order */
static int
read_ids(const ArrayType *array, int64 **ids)
{
	Datum *values;
	bool *nulls;
	int n;
	int distinct = 0;

	deconstruct_array((ArrayType *) array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &values, &nulls, &n);
	*ids = palloc(sizeof(int64) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			raise_unknown("null");
		(*ids)[i] = DatumGetInt64(values[i]);
	}
	qsort(*ids, n, sizeof(int64), compare_ids);
	for (int i = 0; i < n; i++)
		if (distinct == 0 || (*ids)[distinct - 1] != (*ids)[i])
			(*ids)[distinct++] = (*ids)[i];
	return distinct;
}

bool
eduai_queue_parents_failed(EduaiTasks *tasks, const char *tenant, const ArrayType *parents,
						   ParentFailure policy, int64 **awaited, int *nawaited)
{
	int64 *ids;
	int n = read_ids(parents, &ids);
	bool failed = false;

	*awaited = palloc(sizeof(int64) * Max(n, 1));
	*nawaited = 0;
	if (n == 0)
		return false;
	/* before the look: see board.h */
	eduai_queue_board_mark();
	for (int i = 0; i < n; i++)
	{
		ParentStand stand = eduai_queue_parent_stand(tasks, tenant, ids[i]);

		if (stand == PARENT_UNKNOWN)
			raise_unknown(psprintf(INT64_FORMAT, ids[i]));
		failed |= stand == PARENT_FAILED && policy == PARENT_FAILURE_FAIL;
		if (stand == PARENT_LIVES || (stand == PARENT_FAILED && policy == PARENT_FAILURE_WAIT))
			(*awaited)[(*nawaited)++] = ids[i];
	}
	return failed;
}

void
eduai_queue_look_at_parents(EduaiTasks *tasks, TaskRequest *task)
{
	/* if it failed: as if it had a moment later, enqueuing must not depend on that */
	if (eduai_queue_parents_failed(tasks, task->tenant, task->depends_on,
								   eduai_queue_parent_failure(task->metadata), &task->awaited,
								   &task->nawaited))
		task->state = "dead";
	else if (task->nawaited > 0)
		task->state = "waiting";
}

void
eduai_queue_check_own_parent(const TaskRequest *task, int64 existing)
{
	int64 *ids;
	int n;

	if (task->depends_on == NULL)
		return;
	n = read_ids(task->depends_on, &ids);
	if (bsearch(&existing, ids, n, sizeof(int64), compare_ids) != NULL)
		ereport(ERROR, (errcode(EDUAI_DEPENDENCY_CYCLE), errmsg("a task cannot depend on itself"),
						errdetail("Task %lld, which has the same key and is not final, is in "
								  "depends_on.",
								  (long long) existing)));
}

void
eduai_queue_insert_edges(const TaskRequest *task, int64 task_id)
{
	EduaiEdges *edges = eduai_queue_edges_open();

	for (int i = 0; i < task->nawaited; i++)
		eduai_queue_edge_insert(edges, task->tenant, task->awaited[i], task_id);
	eduai_queue_edges_close(edges);
	eduai_queue_board_waits(task->tenant, task_id);
}

Jsonb *
eduai_queue_parent_failed(void)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "code", "parent_failed");
	eduai_core_json_put_text(&j, "message", "a task that it depends on did not complete");
	eduai_core_json_open_array(&j, "attempts");
	eduai_core_json_close_array(&j);
	return eduai_core_json_end(&j);
}

Jsonb *
eduai_queue_parents(const char *tenant, int64 task_id)
{
	/* the subqueries keep it from joining whole tables */
	static EduaiPlan parents = {
		"SELECT jsonb_agg(jsonb_build_object('task_id', p.id, 'task_type', r.task_type, "
		"'state', coalesce(e.state, l.state, r.fresh), 'result', e.result, 'error', e.error) ORDER BY p.ord) "
		"FROM eduai.task_request c CROSS JOIN LATERAL unnest(c.depends_on) WITH ORDINALITY p (id, ord) "
		"LEFT JOIN LATERAL (SELECT r.task_type, 'ready' AS fresh FROM eduai.task_request r "
		"WHERE r.tenant_id = $1 AND r.task_id = p.id OFFSET 0) r ON true "
		"LEFT JOIN LATERAL (SELECT e.state, e.result, e.error FROM eduai.task_end e "
		"WHERE e.tenant_id = $1 AND e.task_id = p.id OFFSET 0) e ON true "
		"LEFT JOIN LATERAL (SELECT l.state FROM eduai.task_live l "
		"WHERE l.tenant_id = $1 AND l.task_id = p.id OFFSET 0) l ON true "
		"WHERE c.tenant_id = $1 AND c.task_id = $2",
		2,
		{TEXTOID, INT8OID}};
	Datum args[2] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id)};
	MemoryContext caller = CurrentMemoryContext;
	Datum value;
	Jsonb *json;
	bool isnull;

	if (eduai_core_run_latest(&parents, args, NULL) == 0)
		return NULL;
	value = eduai_core_value(0, 1, &isnull);
	if (isnull)
		return NULL;
	MemoryContextSwitchTo(caller);
	json = DatumGetJsonbPCopy(value);
	SPI_freetuptable(SPI_tuptable);
	return json;
}
