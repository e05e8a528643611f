/*
 * history.c: finished tasks are forgotten.  See history.h.
 *
 * The index task_end_state (ended_key, finished_at) puts what may go at the near
 * end of each group, a tenant's tasks that ended in one state.  A pass
 * goes from group to group; in a group it takes the oldest in batches, from
 * where the last one ended, so that those that are kept are passed over once
 * in a pass.
 *
 * A batch locks the rows of the end and of the request, and leaves those that
 * somebody holds: retry_task(), which deletes the end, has the task or leaves
 * it to us.  Children look for their parents without a lock: one that is
 * enqueued while its parent, older than the retention, is forgotten may keep an
 * edge to nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/guard.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/retention.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "queue/attachment.h"
#include "queue/history.h"
#include "queue/status.h"
#include "queue/store.h"
#include "queue/task.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_forget_tasks);

#define DAY_S           86400
#define MOST_IN_BATCH   1000
#define LEAST_IN_BATCH  16
#define FROM_ALL        DT_NOBEGIN
#define REST_FACTOR     4 /* a step of 10 ms is followed by 40 ms of other work */
#define LONGEST_REST_MS 60000
#define HELD_REST_MS    2000 /* somebody changes a table */
#define MOST_EXAMINED   (1 << 20)

static int task_retention = 7 * DAY_S;
static int dead_task_retention = 30 * DAY_S;

/* A tenant's tasks that ended in one state, and how far we are with them. */
typedef struct TaskGroup
{
	char tenant[NAMEDATALEN];
	char state[16];
	int64 key;        /* ended_key of these */
	TimestampTz from; /* those that finished earlier are gone, or kept */
	int examine;      /* how many to look at at once */
	bool moved;       /* the last batch was not at the same moment all along */
	bool over;
} TaskGroup;

/* of the dispatcher: the group it is at; no tenant: before the first */
static TaskGroup at;
static int batch_size = 128;
static bool pass_forgot; /* this pass forgot something */

static void retention_init(void);

void
eduai_queue_history_init(void)
{
	DefineCustomIntVariable("eduai.task_retention", "How long finished tasks are kept.",
							"Of completed, cancelled and expired tasks; -1 keeps them for ever.",
							&task_retention, 7 * DAY_S, -1, PG_INT32_MAX, PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("eduai.dead_task_retention", "How long failed tasks are kept.",
							"Of dead and uncertain tasks; -1 keeps them for ever.",
							&dead_task_retention, 30 * DAY_S, -1, PG_INT32_MAX, PGC_SIGHUP,
							GUC_UNIT_S, NULL, NULL, NULL);
	retention_init();
}

/* ---- a batch ---- */

/* tasks that may go, and where the rows of their ends are */
typedef struct Candidates
{
	int64 *ids;
	Datum *places;
	int n;
} Candidates;

/*
 * Those of a group that may go, oldest first, of the next that are old enough;
 * moves on in the group.  At one moment of finished_at there may be more tasks
 * that are kept than are looked at: then more are, until the moment is passed.
 */
static Candidates *
find_old(TaskGroup *g, TimestampTz before)
{
	static EduaiPlan find = {
		"SELECT e.task_id, e.finished_at, EXISTS (SELECT FROM eduai.task_dependency d "
		"WHERE d.tenant_id = e.tenant_id AND d.parent_id = e.task_id) "
		"OR EXISTS (SELECT FROM (SELECT r.idempotency_key, r.enqueued_at FROM eduai.task_request r "
		"WHERE r.tenant_id = e.tenant_id AND r.task_id = e.task_id OFFSET 0) r "
		"WHERE r.idempotency_key IS NOT NULL AND r.enqueued_at > $5), e.ctid "
		"FROM (SELECT tenant_id, task_id, finished_at, ctid FROM eduai.task_end WHERE tenant_id = $1 "
		"AND state = $2 AND ended_key = $7 AND finished_at >= $3 AND finished_at < $4 "
		"ORDER BY finished_at LIMIT $6) e ORDER BY e.finished_at",
		7,
		{TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT8OID}};
	Datum args[7] = {CStringGetTextDatum(g->tenant),
					 CStringGetTextDatum(g->state),
					 TimestampTzGetDatum(g->from),
					 TimestampTzGetDatum(before),
					 TimestampTzGetDatum(eduai_core_now() - USECS_PER_DAY),
					 Int32GetDatum(g->examine),
					 Int64GetDatum(g->key)};
	int examined = (int) eduai_core_run_latest(&find, args, NULL);
	Candidates *c = palloc(sizeof(Candidates));
	TimestampTz last = g->from;
	bool isnull;

	c->ids = palloc(sizeof(int64) * Max(examined, 1));
	c->places = palloc(sizeof(Datum) * Max(examined, 1));
	c->n = 0;
	for (int i = 0; i < examined; i++)
	{
		last = DatumGetTimestampTz(eduai_core_value(i, 2, &isnull));
		if (DatumGetBool(eduai_core_value(i, 3, &isnull)))
			continue;
		c->ids[c->n] = eduai_core_int64(i, 1, 0);
		c->places[c->n++] = eduai_core_value(i, 4, &isnull);
	}
	g->over = examined < g->examine;
	g->moved = last != g->from;
	g->from = last;
	return c;
}

/* Those of them whose rows nobody holds are deleted; how many. */
static int64
delete_tasks(const TaskGroup *g, const Candidates *c)
{
	/*
	 * By their places: rows that are locked stay there, and no plan made before
	 * the tables had rows can take a slow way.  One that moved meanwhile is left
	 * for the next pass.
	 */
	static EduaiPlan delete = {
		"WITH locked AS MATERIALIZED (SELECT e.ctid AS e, r.ctid AS r, r.task_id, "
		"r.depends_on IS NOT NULL AS child FROM unnest($2, $3) i (task_id, place) "
		"CROSS JOIN LATERAL (SELECT t.ctid FROM eduai.task_end t WHERE t.ctid = i.place "
		"AND t.tenant_id = $1 AND t.task_id = i.task_id OFFSET 0 "
		"FOR UPDATE OF t SKIP LOCKED) e "
		"CROSS JOIN LATERAL (SELECT t.ctid, t.task_id, t.depends_on FROM eduai.task_request t "
		"WHERE t.tenant_id = $1 AND t.task_id = i.task_id OFFSET 0 "
		"FOR UPDATE OF t SKIP LOCKED) r), "
		"ends AS (DELETE FROM eduai.task_end WHERE ctid = ANY (ARRAY(SELECT e FROM locked))), "
		"edges AS (DELETE FROM eduai.task_dependency WHERE tenant_id = $1 "
		"AND task_id = ANY (ARRAY(SELECT task_id FROM locked WHERE child))) "
		"DELETE FROM eduai.task_request WHERE ctid = ANY (ARRAY(SELECT r FROM locked)) "
		"RETURNING task_id",
		3,
		{TEXTOID, INT8ARRAYOID, TIDARRAYOID}};
	Datum args[3] = {CStringGetTextDatum(g->tenant), eduai_core_int8_array(c->ids, NULL, c->n),
					 eduai_core_datum_array(c->places, NULL, c->n, TIDOID)};
	int64 deleted = (int64) eduai_core_run_latest(&delete, args, NULL);
	char **tenants = palloc(sizeof(char *) * Max(deleted, 1));
	int64 *gone = palloc(sizeof(int64) * Max(deleted, 1));

	for (int64 i = 0; i < deleted; i++)
	{
		tenants[i] = (char *) g->tenant;
		gone[i] = eduai_core_int64(i, 1, 0);
	}
	eduai_queue_drop_attachments(tenants, gone, (int) deleted);
	return deleted;
}

static void
begin_group(TaskGroup *g, const char *tenant, const char *state, int size)
{
	strlcpy(g->tenant, tenant, sizeof(g->tenant));
	strlcpy(g->state, state, sizeof(g->state));
	g->key = eduai_queue_ended_key(state, tenant);
	g->from = FROM_ALL;
	g->examine = size;
	g->over = false;
}

/* As the owner; what it allocates goes with its connection to SPI. */
static int64
forget_batch(TaskGroup *g, TimestampTz before)
{
	int64 deleted = 0;
	const Candidates *candidates;

	SPI_connect();
	candidates = find_old(g, before);
	if (candidates->n > 0)
		deleted = delete_tasks(g, candidates);
	if (deleted == 0 && !g->moved)
	{
		g->over = g->over || g->examine >= MOST_EXAMINED;
		g->examine = Min(g->examine * 2, MOST_EXAMINED);
	}
	SPI_finish();
	return deleted;
}

/* ---- by itself ---- */

/* the group after the one we are at; false when there is none, and the pass is over */
static bool
next_group(void)
{
	static EduaiPlan next = {"SELECT tenant_id, state FROM eduai.task_end WHERE ended_key >= $1 "
							 "ORDER BY ended_key LIMIT 1",
							 1,
							 {INT8OID}};
	Datum args[1] = {
		Int64GetDatum(at.tenant[0] == '\0' || at.key == PG_INT64_MAX ? PG_INT64_MIN : at.key + 1)};

	if (eduai_core_run_latest(&next, args, NULL) == 0)
	{
		memset(&at, 0, sizeof(at));
		return false;
	}
	begin_group(&at, eduai_core_text(0, 1), eduai_core_text(0, 2), batch_size);
	return true;
}

static int
retention_of(const char *state)
{
	bool failed = strcmp(state, "dead") == 0 || strcmp(state, "uncertain") == 0;

	return failed ? dead_task_retention : task_retention;
}

/* Goes on with the pass until something was forgotten or the time is over; true at its end. */
static bool
go_on(int64 until_us, int64 *forgot)
{
	*forgot = 0;
	while (*forgot == 0 && eduai_core_mono_us() < until_us)
	{
		int retention;

		if ((at.tenant[0] == '\0' || at.over) && !next_group())
			return true;
		retention = retention_of(at.state);
		if (retention < 0)
			at.over = true;
		else
		{
			at.examine = Max(at.examine, batch_size);
			*forgot = forget_batch(&at, eduai_core_now() - retention * USECS_PER_SEC);
		}
	}
	return false;
}

/* One transaction; true at the end of the pass. */
static bool
step(int64 until_us, int64 *forgot)
{
	EduaiPrivilege saved;
	bool over;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	eduai_core_enter(&saved);
	/* somebody who changes a table must not stop the dispatcher */
	eduai_core_set_local("lock_timeout", "20ms");
	over = go_on(until_us, forgot);
	eduai_core_leave(&saved);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return over;
}

/* after an error: it goes to the log, no transaction stays, and the pass begins anew; how long to rest */
static long
give_up(MemoryContext context)
{
	ErrorData *error;
	bool held;

	error = eduai_core_catch(context);
	held = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	ereport(held ? DEBUG1 : LOG,
			(errcode(error->sqlerrcode),
			 errmsg("eduai dispatcher could not forget finished tasks: %s", error->message)));
	FreeErrorData(error);
	memset(&at, 0, sizeof(at));
	return held ? HELD_REST_MS : LONGEST_REST_MS;
}

/* the shorter a time is, the more often it is looked at */
static long
rest_between_passes(void)
{
	int shortest = INT_MAX;

	if (task_retention >= 0)
		shortest = task_retention;
	if (dead_task_retention >= 0)
		shortest = Min(shortest, dead_task_retention);
	return Min(LONGEST_REST_MS, 1000 * (long) Max(1, Min(shortest / 10, 60)));
}

static void
adapt_batch(int64 took_us)
{
	if (took_us > 12000)
		batch_size = Max(batch_size / 2, LEAST_IN_BATCH);
	else if (took_us < 5000)
		batch_size = Min(batch_size * 2, MOST_IN_BATCH);
}

long
eduai_queue_forget_step(void)
{
	int64 start = eduai_core_mono_us();
	MemoryContext context = CurrentMemoryContext;
	volatile bool over = false;
	volatile long rest = 0;
	int64 forgot = 0;
	int64 took;

	PG_TRY();
	{
		over = step(start + 10000, &forgot);
	}
	PG_CATCH();
	{
		rest = give_up(context);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	took = eduai_core_mono_us() - start;
	if (rest > 0)
		return rest;
	if (forgot > 0)
	{
		pass_forgot = true;
		adapt_batch(took);
	}
	if (over && !pass_forgot)
		return rest_between_passes();
	if (over)
		pass_forgot = false;
	return Max(1, (long) (took * REST_FACTOR / 1000));
}

/* ---- by hand ---- */

static const char *const finals[] = {"cancelled", "completed", "dead", "expired", "uncertain"};

/* which of the final states are named; NULL: all */
static void
read_states(ArrayType *array, bool *wanted)
{
	Datum *values;
	bool *nulls;
	int n;

	for (size_t i = 0; i < lengthof(finals); i++)
		wanted[i] = array == NULL;
	if (array == NULL)
		return;
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int k = 0; k < n; k++)
	{
		char *state = nulls[k] ? NULL : TextDatumGetCString(values[k]);
		bool known = false;

		for (size_t i = 0; state != NULL && i < lengthof(finals); i++)
			if (strcmp(state, finals[i]) == 0)
				wanted[i] = known = true;
		if (!known)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("\"%s\" is not a final state", state ? state : "null"),
							errhint("Use completed, dead, cancelled, uncertain or expired.")));
	}
}

Datum
eduai_forget_tasks(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	bool wanted[lengthof(finals)];
	int64 older_ms;
	TimestampTz before;
	EduaiPrivilege saved;
	int64 forgot = 0;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("older_than must not be null")));
	older_ms =
		eduai_queue_interval_ms(PG_GETARG_INTERVAL_P(0), "older_than", 0, 36500 * EDUAI_DAY_MS);
	before = eduai_core_now() - 1000 * older_ms;
	read_states(PG_ARGISNULL(1) ? NULL : PG_GETARG_ARRAYTYPE_P(1), wanted);
	eduai_core_enter(&saved);
	for (size_t i = 0; i < lengthof(finals); i++)
	{
		TaskGroup g;

		begin_group(&g, tenant, finals[i], MOST_IN_BATCH);
		g.over = !wanted[i];
		while (!g.over)
		{
			CHECK_FOR_INTERRUPTS();
			forgot += forget_batch(&g, before);
		}
	}
	/* a fresh one may be waiting for its task to be enqueued */
	SPI_connect();
	if (PG_ARGISNULL(1))
		while (eduai_queue_drop_unlinked_attachments(tenant, 1000 * Max(older_ms, EDUAI_DAY_MS),
													 MOST_IN_BATCH) > 0)
			CHECK_FOR_INTERRUPTS();
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT64(forgot);
}

/* ---- policies of retention ---- */

/* A batch of the first state that has tasks to forget. */
static int64
retain_tasks(const char *tenant, const char *action, TimestampTz before, bool *more)
{
	static const char *const finals[] = {"completed", "dead", "cancelled", "uncertain", "expired"};
	int64 deleted = 0;

	for (size_t i = 0; i < lengthof(finals) && deleted == 0; i++)
	{
		TaskGroup g;

		begin_group(&g, tenant, finals[i], MOST_IN_BATCH);
		while (!g.over && deleted == 0)
			deleted = forget_batch(&g, before);
	}
	*more = deleted > 0;
	return deleted;
}

static int64
retain_attachments(const char *tenant, const char *action, TimestampTz before, bool *more)
{
	int64 age_us = Max(eduai_core_now() - before, USECS_PER_DAY);
	int64 deleted = eduai_queue_drop_unlinked_attachments(tenant, age_us, MOST_IN_BATCH);

	*more = deleted == MOST_IN_BATCH;
	return deleted;
}

static void
retention_init(void)
{
	static const EduaiRetentionSubject tasks = {"tasks", "delete", retain_tasks};
	static const EduaiRetentionSubject attachments = {"attachments", "delete", retain_attachments};

	eduai_core_retention_register(&tasks);
	eduai_core_retention_register(&attachments);
}
