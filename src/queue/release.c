/*
 * release.c: the dispatcher lets children go.  See dependency.h.
 *
 * A parent that ended gives a list of edges.  Those that no longer keep their
 * child are deleted; a child that has none left becomes ready, one that fails
 * with its parent ends, and is a parent that ended for its own children.  A
 * row that somebody holds keeps what it has: the sweep comes to every waiting
 * task again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "miscadmin.h"
#include "queue/board.h"
#include "queue/dependency.h"
#include "queue/edge.h"
#include "queue/finish_internal.h"
#include "queue/quota.h"
#include "queue/sweep.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* waiting tasks looked at in one sweep, a few microseconds each */
#define ORPHAN_BATCH 10000

/* a growing list of tasks */
typedef struct TaskList
{
	EndedParent *at;
	int n;
	int room;
} TaskList;

typedef struct Release
{
	EduaiTasks *tasks;
	EduaiEdges *edges;
	TaskList ended;    /* parents, of which "done" are dealt with */
	TaskList children; /* that may have no edge left; some twice */
	int done;
	int let_go;
} Release;

static void
add(TaskList *list, const char *tenant, int64 task_id, bool completed)
{
	if (list->n == list->room)
	{
		list->room = list->room ? list->room * 2 : 32;
		list->at = list->at ? repalloc_huge(list->at, sizeof(EndedParent) * list->room)
							: palloc(sizeof(EndedParent) * list->room);
	}
	list->at[list->n].tenant = tenant;
	list->at[list->n].task_id = task_id;
	list->at[list->n++].completed = completed;
}

static void
begin(Release *r)
{
	memset(r, 0, sizeof(*r));
	r->tasks = eduai_queue_tasks_open();
	r->edges = eduai_queue_edges_open();
}

static void
delete_all(Release *r, const char *tenant, int64 task_id)
{
	Edge *list;
	int n = eduai_queue_edges_of(r->edges, tenant, task_id, &list);

	for (int i = 0; i < n; i++)
		eduai_queue_edge_delete(r->edges, &list[i]);
	pfree(list);
}

static bool
find_waiting(Release *r, const char *tenant, int64 task_id, LiveTask *task)
{
	return eduai_queue_live_find(r->tasks, tenant, task_id, task) &&
		   strcmp(task->state, "waiting") == 0;
}

/* a parent failed it: it ends, too */
static void
fail(Release *r, const char *tenant, int64 task_id)
{
	LiveTask task;
	EndedRow end;

	if (!find_waiting(r, tenant, task_id, &task) ||
		eduai_queue_live_delete(r->tasks, &task, false) != WRITE_DONE)
		return;
	eduai_queue_end_of_live(&task, &end);
	end.state = "dead";
	end.finished_at = eduai_core_now();
	end.error = eduai_queue_parent_failed();
	eduai_queue_end_insert(r->tasks, &end);
	eduai_queue_quota_release(tenant, 1);
	eduai_queue_board_ended(task_id);
	eduai_queue_notify(tenant, task_id, "dead");
	add(&r->ended, tenant, task_id, false);
	r->let_go++;
}

static ParentFailure
policy_of(Release *r, const char *tenant, int64 task_id)
{
	AskedTask asked;

	if (!eduai_queue_request_find(r->tasks, tenant, task_id, NULL, false, &asked))
		return PARENT_FAILURE_RUN; /* nothing but the edge is left of it */
	return eduai_queue_parent_failure(asked.metadata);
}

/* The parent of an edge does not live any more.  "forgotten": nor can it come back. */
static void
settle(Release *r, const char *tenant, const Edge *edge, bool completed, bool forgotten)
{
	ParentFailure policy = PARENT_FAILURE_RUN;

	if (!completed)
		policy = policy_of(r, tenant, edge->task_id);
	if (policy == PARENT_FAILURE_WAIT && !forgotten)
		return;
	if (policy != PARENT_FAILURE_RUN)
	{
		fail(r, tenant, edge->task_id);
		return;
	}
	eduai_queue_edge_delete(r->edges, edge);
	add(&r->children, tenant, edge->task_id, false);
}

static int
compare_tasks(const void *a, const void *b)
{
	const EndedParent *x = a;
	const EndedParent *y = b;

	return (x->task_id > y->task_id) - (x->task_id < y->task_id);
}

static void
let_run(Release *r)
{
	qsort(r->children.at, r->children.n, sizeof(EndedParent), compare_tasks);
	for (int i = 0; i < r->children.n; i++)
	{
		const EndedParent *c = &r->children.at[i];
		LiveTask task;
		LiveChange change = {0};

		/* ids are the database's: no two tenants share one */
		if (i > 0 && c[-1].task_id == c->task_id)
			continue;
		if (!eduai_queue_edge_left(r->edges, c->tenant, c->task_id) &&
			find_waiting(r, c->tenant, c->task_id, &task) &&
			eduai_queue_make_ready(r->tasks, &task, task.run_at, &change))
			r->let_go++;
	}
}

/* everything that follows from r->ended; then the end of it */
static int
finish(Release *r)
{
	for (; r->done < r->ended.n; r->done++)
	{
		EndedParent p = r->ended.at[r->done];
		Edge *list;
		int n = eduai_queue_edges_to(r->edges, p.tenant, p.task_id, &list);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
			settle(r, p.tenant, &list[i], p.completed, false);
		pfree(list);
		/* one that waited itself */
		if (!p.completed)
			delete_all(r, p.tenant, p.task_id);
	}
	if (r->children.n > 0)
		let_run(r);
	eduai_queue_edges_close(r->edges);
	eduai_queue_tasks_close(r->tasks);
	CommandCounterIncrement();
	return r->let_go;
}

void
eduai_queue_release_children(const EndedParent *parents, int n)
{
	Release r;

	if (n == 0 || !eduai_queue_board_marked())
		return;
	begin(&r);
	for (int i = 0; i < n; i++)
		add(&r.ended, parents[i].tenant, parents[i].task_id, parents[i].completed);
	(void) finish(&r);
}

static void
look_again(Release *r, const char *tenant, int64 task_id)
{
	Edge *list;
	int n = eduai_queue_edges_of(r->edges, tenant, task_id, &list);

	for (int i = 0; i < n; i++)
	{
		ParentStand stand = eduai_queue_parent_stand(r->tasks, tenant, list[i].parent_id);

		if (stand != PARENT_LIVES)
			settle(r, tenant, &list[i], stand == PARENT_COMPLETED, stand == PARENT_UNKNOWN);
	}
	pfree(list);
	/* even if there was none: it may have been held when the last was deleted */
	add(&r->children, tenant, task_id, false);
}

int
eduai_queue_look_again(const char *const *tenants, const int64 *task_ids, int n)
{
	Release r;

	if (n == 0)
		return 0;
	begin(&r);
	for (int i = 0; i < n; i++)
		look_again(&r, tenants[i], task_ids[i]);
	return finish(&r);
}

/* ---- the sweep ---- */

/* waiting tasks after "last" */
static int
find_some(int64 last, const char ***tenants, int64 **ids)
{
	static EduaiPlan waiting = {
		"SELECT tenant_id, task_id FROM eduai.task_live WHERE lane IS NULL AND due_at IS NULL "
		"AND NOT held AND NOT unplaced AND task_id > $1 ORDER BY task_id LIMIT $2",
		2,
		{INT8OID, INT8OID}};
	Datum args[2] = {Int64GetDatum(last), Int64GetDatum(ORPHAN_BATCH)};
	uint64 n = eduai_core_run(&waiting, args, NULL);

	*tenants = palloc(sizeof(char *) * Max(n, 1));
	*ids = palloc(sizeof(int64) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		(*tenants)[i] = eduai_core_text(i, 1);
		(*ids)[i] = eduai_core_int64(i, 2, 0);
	}
	return (int) n;
}

int
eduai_queue_release_orphans(bool anew, bool *all)
{
	static int64 last = 0;
	uint64 seen = eduai_queue_board_seen();
	TransactionId oldest_running = GetLatestSnapshot()->xmin;
	const char **tenants;
	int64 *ids;
	bool from_start;
	int n;

	if (anew)
		last = 0;
	from_start = last == 0;
	n = find_some(last, &tenants, &ids);

	*all = n < ORPHAN_BATCH;
	last = *all ? 0 : ids[n - 1];
	/* not on the word of a transaction that may have let them go and still roll back */
	if (n == 0 && from_start && !TransactionIdIsValid(GetTopTransactionIdIfAny()))
		eduai_queue_board_unmark(seen, oldest_running);
	/* whatever wrote them did not set it: a restore, a superuser's hand */
	if (n > 0 && !eduai_queue_board_marked())
		eduai_queue_board_mark();
	return eduai_queue_look_again(tenants, ids, n);
}
