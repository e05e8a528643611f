/*
 * finish.c: from attempts' outcomes to their tasks' next states.
 *
 * First all rows are locked, passing over those that somebody holds.  Tasks
 * without a handler are then written together.  A task with one is written in
 * a subtransaction of its own, so that a handler that would have to wait takes
 * only that task back.  See finish.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/plan.h"
#include "queue/finish.h"
#include "queue/finish_internal.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/resowner.h"

/* ---- locking ---- */

static void
read_ending(uint64 row, TaskOutcome *outcomes, Ending *e)
{
	bool isnull;
	Datum value;

	memset(e, 0, sizeof(*e));
	e->outcome = &outcomes[eduai_core_int64(row, 1, 1) - 1];
	e->tid = *(ItemPointer) DatumGetPointer(eduai_core_value(row, 2, &isnull));
	e->task_type = eduai_core_text(row, 3);
	e->user_id = eduai_core_text(row, 4);
	e->owner = eduai_core_text(row, 5);
	e->on_result = eduai_core_text(row, 6);
	e->on_uncertain = eduai_core_text(row, 7);
	e->priority = (int) eduai_core_int64(row, 8, 0);
	e->used = (int) eduai_core_int64(row, 9, 1);
	e->max_attempts = (int) eduai_core_int64(row, 10, 1);
	value = eduai_core_value(row, 11, &isnull);
	e->metadata = isnull ? NULL : DatumGetJsonbPCopy(value);
	value = eduai_core_value(row, 12, &isnull);
	e->old_error = isnull ? NULL : DatumGetJsonbPCopy(value);
}

static void
id_arrays(TaskOutcome *outcomes, int n, Datum *ids, Datum *attempts)
{
	int64 *all_ids = palloc(sizeof(int64) * n);
	int32 *all_attempts = palloc(sizeof(int32) * n);

	for (int i = 0; i < n; i++)
	{
		all_ids[i] = outcomes[i].task_id;
		all_attempts[i] = outcomes[i].attempt;
	}
	*ids = eduai_core_int8_array(all_ids, NULL, n);
	*attempts = eduai_core_int4_array(all_attempts, NULL, n);
}

/*
 * By ctid: only a task that somebody else wrote meanwhile is elsewhere.  For
 * LATERAL and "state || ''" see claim.c.
 */
static int
lock_rows(TaskOutcome *outcomes, int n, Ending *endings)
{
	static EduaiPlan lock = {
		"SELECT o.ord, t.tid, t.task_type, t.user_id, t.owner, t.on_result, t.on_uncertain, "
		"t.priority, t.attempt - t.attempt_base, t.max_attempts, t.metadata, t.error "
		"FROM unnest($1, $2, $3) WITH ORDINALITY o (tid, task_id, attempt, ord) "
		"CROSS JOIN LATERAL (SELECT ctid AS tid, * FROM eduai.task t WHERE t.ctid = o.tid "
		"AND t.task_id = o.task_id AND t.attempt = o.attempt AND t.state || '' = 'running' "
		"FOR UPDATE SKIP LOCKED) t",
		3,
		{TIDARRAYOID, INT8ARRAYOID, INT4ARRAYOID}};
	Datum *tids = palloc(sizeof(Datum) * n);
	Datum args[3];
	uint64 got;

	for (int i = 0; i < n; i++)
		tids[i] = PointerGetDatum(&outcomes[i].tid);
	args[0] = eduai_core_datum_array(tids, NULL, n, TIDOID);
	id_arrays(outcomes, n, &args[1], &args[2]);
	got = eduai_core_run(&lock, args, NULL);
	for (uint64 i = 0; i < got; i++)
		read_ending(i, outcomes, &endings[i]);
	return (int) got;
}

/*
 * Those that could not be locked: superseded, or still running and held by
 * somebody, or moved by somebody's write; the last two are tried again, and
 * found where they are now.
 */
static void
sort_out_missing(TaskOutcome *outcomes, int n)
{
	static EduaiPlan still = {
		"SELECT o.ord, t.ctid FROM unnest($1, $2) WITH ORDINALITY o (task_id, attempt, ord) "
		"CROSS JOIN LATERAL (SELECT ctid FROM eduai.task t WHERE t.task_id = o.task_id "
		"AND t.attempt = o.attempt AND t.state = 'running' OFFSET 0) t",
		2,
		{INT8ARRAYOID, INT4ARRAYOID}};
	Datum args[2];
	uint64 got;

	id_arrays(outcomes, n, &args[0], &args[1]);
	got = eduai_core_run(&still, args, NULL);
	for (uint64 i = 0; i < got; i++)
	{
		TaskOutcome *o = &outcomes[eduai_core_int64(i, 1, 1) - 1];
		bool isnull;

		if (o->status != FINISH_STALE)
			continue;
		o->status = FINISH_BUSY;
		o->tid = *(ItemPointer) DatumGetPointer(eduai_core_value(i, 2, &isnull));
	}
}

/* ---- deciding ---- */

static void
put_attempts(EduaiJson *j, const Ending *e, TimestampTz now)
{
	Jsonb *earlier = e->old_error ? eduai_core_json_child(e->old_error, "attempts") : NULL;
	int n = eduai_core_json_length(earlier);

	eduai_core_json_open_array(j, "attempts");
	/* the latest 20: retried by hand for weeks, a task must not grow for ever */
	for (int i = Max(0, n - 19); i < n; i++)
		eduai_core_json_put_json(j, NULL, eduai_core_json_element(earlier, i));
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_int(j, "attempt", e->outcome->attempt);
	eduai_core_json_put_text(j, "code", e->outcome->code);
	eduai_core_json_put_text(j, "message", e->outcome->message);
	eduai_core_json_put_text(j, "instance", e->outcome->instance);
	eduai_core_json_put_time(j, "at", now);
	eduai_core_json_close_object(j);
	eduai_core_json_close_array(j);
}

static Jsonb *
describe_failure(const Ending *e, TimestampTz now)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "code", e->outcome->code);
	eduai_core_json_put_text(&j, "message", e->outcome->message);
	eduai_core_json_put_text(&j, "instance", e->outcome->instance);
	if (e->outcome->http_status > 0)
		eduai_core_json_put_int(&j, "http_status", e->outcome->http_status);
	put_attempts(&j, e, now);
	return eduai_core_json_end(&j);
}

void
eduai_queue_decide(Ending *e, TimestampTz now, double random)
{
	const TaskOutcome *o = e->outcome;
	bool again = e->used < e->max_attempts;

	if (o->end == ATTEMPT_COMPLETED)
	{
		e->state = "completed";
		return;
	}
	e->error = describe_failure(e, now);
	if (o->end == ATTEMPT_UNCERTAIN)
		again = again && strcmp(e->on_uncertain, "retry") == 0;
	else
		again = again && o->retry;
	if (again)
	{
		int64 wait_ms = o->at_once && o->retry_after_ms < 0
							? 0
							: eduai_queue_backoff_ms(e->used, o->retry_after_ms, random);

		e->state = wait_ms > 0 ? "scheduled" : "ready";
		e->run_at = now + wait_ms * 1000;
		return;
	}
	e->state = o->end == ATTEMPT_UNCERTAIN ? "uncertain" : "dead";
}

static void
fill_result(Ending *e)
{
	EduaiTaskResult *r = &e->result;
	bool follow_up = true;

	(void) eduai_core_json_bool(e->metadata, "follow_up", &follow_up);
	r->task_id = e->outcome->task_id;
	r->attempt = e->outcome->attempt;
	r->tenant = e->outcome->tenant;
	r->task_type = e->task_type;
	r->user_id = e->user_id;
	r->state = e->state;
	r->instance = e->outcome->instance;
	r->follow_up = follow_up;
	r->result = e->outcome->end == ATTEMPT_COMPLETED ? e->outcome->result : NULL;
	r->metadata = e->metadata;
}

/* decides, and takes the learner's locks; false when they are not free */
static bool
prepare(Ending *e, TimestampTz now)
{
	eduai_queue_decide(e, now, eduai_core_random_unit());
	fill_result(e);
	return eduai_core_result_try_lock(&e->result);
}

/* ---- writing ---- */

static void
write_with_handler(Ending *e, TimestampTz now)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ran = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		eduai_queue_write_endings(e, 1, now);
		ran = e->run_at != 0 || eduai_queue_run_handler(e);
		if (ran)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		PG_RE_THROW();
	}
	PG_END_TRY();
	e->outcome->status = ran ? FINISH_RECORDED : FINISH_BUSY;
	e->outcome->final = ran && e->run_at == 0;
}

void
eduai_queue_finish(TaskOutcome *outcomes, int n)
{
	TimestampTz now = eduai_core_now();
	Ending *endings = palloc(sizeof(Ending) * Max(n, 1));
	int plain = 0;
	int locked;

	for (int i = 0; i < n; i++)
	{
		outcomes[i].status = FINISH_STALE;
		outcomes[i].final = false;
	}
	locked = lock_rows(outcomes, n, endings);
	for (int i = 0; i < locked; i++)
		endings[i].outcome->status = FINISH_RECORDED;
	if (locked < n)
		sort_out_missing(outcomes, n);
	for (int i = 0; i < locked; i++)
	{
		Ending e = endings[i];

		if (!prepare(&e, now))
		{
			e.outcome->status = FINISH_BUSY;
			continue;
		}
		if (e.on_result != NULL)
		{
			write_with_handler(&e, now);
			continue;
		}
		e.outcome->status = FINISH_RECORDED;
		e.outcome->final = e.run_at == 0;
		endings[plain++] = e; /* plain <= i: what it overwrites has been read */
	}
	if (plain > 0)
		eduai_queue_write_endings(endings, plain, now);
}
