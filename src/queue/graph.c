/*
 * graph.c: add_dependency(): a task that has not started waits for more.
 *
 * Only here can a cycle be made: a task that is being enqueued has no children
 * yet.  Whoever adds edges takes the lock of the tenant's graph, to the end of
 * the transaction, and then sees all that others added before.  Edges of
 * uncommitted new tasks are not seen, but nor can those tasks be named.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/errors.h"
#include "core/lock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "queue/fresh.h"
#include "queue/board.h"
#include "queue/dependency.h"
#include "queue/edge.h"
#include "queue/quota.h"
#include "queue/store.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

PG_FUNCTION_INFO_V1(eduai_add_dependency);

typedef struct Adding
{
	const char *tenant;
	int64 task_id;
	ArrayType *parents;
	EduaiTasks *tasks;
	LiveTask task;
	bool failed; /* a parent has failed it */
	int64 *awaited;
	int nawaited;
} Adding;

/* ---- cycles ---- */

static void
raise_cycle(const Adding *a)
{
	ereport(ERROR, (errcode(EDUAI_DEPENDENCY_CYCLE),
					errmsg("task %lld would depend on itself", (long long) a->task_id),
					errdetail("One of the tasks that it is to depend on is it, or depends on it."),
					errhint("Dependencies must not form a circle.")));
}

/* whether "id" is new; it is remembered */
static bool
is_new(HTAB *seen, int64 id)
{
	bool found;

	(void) hash_search(seen, &id, HASH_ENTER, &found);
	return !found;
}

/* goes up from the awaited tasks over all edges */
static void
check_cycle(const Adding *a)
{
	HASHCTL ctl = {
		.keysize = sizeof(int64), .entrysize = sizeof(int64), .hcxt = CurrentMemoryContext};
	HTAB *seen = hash_create("eduai graph", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	EduaiEdges *edges = eduai_queue_edges_open();
	List *to_visit = NIL;

	for (int i = 0; i < a->nawaited; i++)
		if (is_new(seen, a->awaited[i]))
			to_visit = lappend(to_visit, &a->awaited[i]);
	while (to_visit != NIL)
	{
		int64 id = *(int64 *) llast(to_visit);
		Edge *list;
		int n;

		CHECK_FOR_INTERRUPTS();
		to_visit = list_delete_last(to_visit);
		if (id == a->task_id)
			raise_cycle(a);
		n = eduai_queue_edges_of(edges, a->tenant, id, &list);
		for (int i = 0; i < n; i++)
			if (is_new(seen, list[i].parent_id))
				to_visit = lappend(to_visit, &list[i].parent_id);
	}
	eduai_queue_edges_close(edges);
	hash_destroy(seen);
}

/* ---- the task ---- */

static void
find_task(Adding *a)
{
	if (!eduai_queue_live_take(a->tasks, a->tenant, a->task_id, &a->task))
	{
		char *state = eduai_queue_end_state(a->tasks, a->tenant, a->task_id);

		if (state == NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("task %lld does not exist", (long long) a->task_id)));
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("task %lld is %s", (long long) a->task_id, state),
						errhint("Only a task that has not started can depend on another.")));
	}
	if (strcmp(a->task.state, "running") == 0 || a->task.attempt > a->task.attempt_base)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("task %lld has started", (long long) a->task_id),
						errhint("Only a task that has not started can depend on another.")));
}

static void
look_at_parents(Adding *a)
{
	AskedTask asked;

	if (!eduai_queue_request_find(a->tasks, a->tenant, a->task_id, &a->task.request, false, &asked))
		elog(ERROR, "the request of task %lld is gone", (long long) a->task_id);
	a->failed = eduai_queue_parents_failed(a->tasks, a->tenant, a->parents,
										   eduai_queue_parent_failure(asked.metadata), &a->awaited,
										   &a->nawaited);
	check_cycle(a);
}

/* The row says what the parents ask for; waits for whoever holds it. */
static WriteResult
write_task(Adding *a)
{
	LiveChange change = {0};

	if (a->failed)
		return eduai_queue_live_delete(a->tasks, &a->task, true);
	if (a->nawaited == 0)
		return WRITE_DONE;
	eduai_queue_change_text(&change, LIVE_STATE, "waiting");
	eduai_queue_change_null(&change, LIVE_LANE);
	eduai_queue_change_null(&change, LIVE_READY_KEY);
	eduai_queue_change_null(&change, LIVE_DUE_AT);
	eduai_queue_change_to(&change, LIVE_BACKOFF, BoolGetDatum(false));
	eduai_queue_change_to(&change, LIVE_HELD, BoolGetDatum(false));
	eduai_queue_change_to(&change, LIVE_UNPLACED, BoolGetDatum(false));
	eduai_queue_change_null(&change, LIVE_HELD_KEY);
	return eduai_queue_live_update(a->tasks, &a->task, &change, true);
}

static void
end_dead(Adding *a)
{
	EndedRow end;

	eduai_queue_end_of_live(&a->task, &end);
	end.state = "dead";
	end.finished_at = eduai_core_now();
	end.error = eduai_queue_parent_failed();
	eduai_queue_end_insert(a->tasks, &end);
	eduai_queue_quota_release(a->tenant, 1);
	eduai_queue_board_ended_here(a->tenant, a->task_id, ENDED_DEAD, false, true);
}

static void
insert_edges(Adding *a)
{
	EduaiEdges *edges = eduai_queue_edges_open();
	Edge *list;
	int n = eduai_queue_edges_of(edges, a->tenant, a->task_id, &list);

	for (int i = 0; i < a->nawaited; i++)
	{
		bool there = false;

		for (int k = 0; k < n && !there; k++)
			there = list[k].parent_id == a->awaited[i];
		if (!there)
			eduai_queue_edge_insert(edges, a->tenant, a->awaited[i], a->task_id);
	}
	eduai_queue_edges_close(edges);
	eduai_queue_board_waits(a->tenant, a->task_id);
}

/* so that the task sees their results, too */
static void
note_parents(const Adding *a)
{
	static EduaiPlan note = {
		"UPDATE eduai.task_request SET depends_on = coalesce(depends_on, '{}') || ARRAY("
		"SELECT p FROM unnest($3) WITH ORDINALITY u (p, ord) "
		"WHERE p <> ALL (coalesce(depends_on, '{}')) GROUP BY p ORDER BY min(ord)) "
		"WHERE tenant_id = $1 AND task_id = $2",
		3,
		{TEXTOID, INT8OID, INT8ARRAYOID}};
	Datum args[3] = {CStringGetTextDatum(a->tenant), Int64GetDatum(a->task_id),
					 PointerGetDatum(a->parents)};

	eduai_core_run_latest(&note, args, NULL);
}

static void
add_dependency(Adding *a)
{
	WriteResult result;

	(void) eduai_core_lock(EDUAI_LOCK_GRAPH, eduai_core_lock_key(a->tenant, "graph"), false);
	a->tasks = eduai_queue_tasks_open();
	do
	{
		find_task(a);
		look_at_parents(a);
		result = write_task(a);
	} while (result == WRITE_MOVED);
	if (a->failed || a->nawaited > 0)
		eduai_queue_live_left(&a->task);
	if (a->failed)
		end_dead(a);
	else if (a->nawaited > 0)
		insert_edges(a);
	eduai_queue_tasks_close(a->tasks);
	CommandCounterIncrement();
	note_parents(a);
}

Datum
eduai_add_dependency(PG_FUNCTION_ARGS)
{
	Adding a = {.tenant = eduai_core_tenant(),
				.task_id = PG_GETARG_INT64(0),
				.parents = PG_GETARG_ARRAYTYPE_P(1)};
	EduaiPrivilege saved;

	eduai_core_require_preload("the queue");
	if (ARR_NDIM(a.parents) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("arrays must have one dimension")));
	eduai_core_enter(&saved);
	SPI_connect();
	add_dependency(&a);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}
