/*
 * finish.c: from attempts' outcomes to their tasks' next states.
 *
 * In the dispatcher a task with a handler is written in a subtransaction of its
 * own, so that a handler that would have to wait takes only that task back.
 * What follows from the others (events, dependants) is done for all at once.
 * See finish.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/shmem.h"
#include "queue/catalog.h"
#include "queue/finish.h"
#include "queue/finish_internal.h"
#include "queue/running.h"
#include "queue/sensitive.h"
#include "queue/task.h"
#include "utils/resowner.h"

/* The task as it runs; false when it does not run this attempt any more. */
static bool
find_running(EduaiTasks *tasks, TaskOutcome *o, Ending *e)
{
	const TaskType *type;

	memset(e, 0, sizeof(*e));
	e->outcome = o;
	if (!eduai_queue_live_at(tasks, &o->tid, o->tenant, o->task_id, &e->live) &&
		!eduai_queue_live_find(tasks, o->tenant, o->task_id, &e->live))
		return false;
	if (e->live.attempt != o->attempt || strcmp(e->live.state, "running") != 0)
		return false;
	if (o->by_worker && e->live.lease_ms == 0)
		return false;
	if (o->by_worker && e->live.worker_name != NULL)
		(void) eduai_queue_worker_seen(o->tenant, e->live.worker_name, NULL);
	/* of a plain task's completion nothing that its request says matters */
	if (!(e->live.plain && o->end == ATTEMPT_COMPLETED) &&
		!eduai_queue_request_find(tasks, o->tenant, o->task_id, &e->live.request, false, &e->asked))
		elog(ERROR, "the request of task %lld is gone", (long long) o->task_id);
	o->tid = e->live.tuple->t_self;
	e->used = e->live.attempt - e->live.attempt_base;
	if (o->end == ATTEMPT_UNCERTAIN)
	{
		type = eduai_queue_type(e->live.task_type);
		e->hold_uncertain = type != NULL && strcmp(type->on_uncertain, "hold") == 0;
	}
	return true;
}

/* ---- deciding ---- */

/* the provider's instance, or the application's worker */
static const char *
who_failed(const Ending *e)
{
	return e->outcome->instance ? e->outcome->instance : e->live.worker_name;
}

static TaskSubject
subject_of(const Ending *e)
{
	return (TaskSubject){e->outcome->tenant, e->asked.user_id, e->live.task_type,
						 e->asked.metadata};
}

static void
put_attempt(EduaiJson *j, const Ending *e, const char *code, const char *message,
			const char *instance, TimestampTz now)
{
	TaskSubject of = subject_of(e);

	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_int(j, "attempt", e->outcome->attempt);
	eduai_core_json_put_text(j, "code", code);
	eduai_queue_put_words(j, "message", &of, message);
	eduai_core_json_put_text(j, "instance", instance);
	eduai_core_json_put_time(j, "at", now);
	eduai_core_json_close_object(j);
}

static void
put_attempts(EduaiJson *j, const Ending *e, TimestampTz now)
{
	const TaskOutcome *o = e->outcome;
	Jsonb *earlier = e->live.error ? eduai_core_json_child(e->live.error, "attempts") : NULL;
	int n = eduai_core_json_length(earlier);

	eduai_core_json_open_array(j, "attempts");
	/* the latest 20: retried by hand for weeks, a task must not grow for ever */
	for (int i = Max(0, n - 19); i < n; i++)
		eduai_core_json_put_json(j, NULL, eduai_core_json_element(earlier, i));
	if (o->also_code != NULL)
		put_attempt(j, e, o->also_code, o->also_message, o->also_instance, now);
	put_attempt(j, e, o->code, o->message, who_failed(e), now);
	eduai_core_json_close_array(j);
}

static Jsonb *
describe_failure(const Ending *e, TimestampTz now)
{
	TaskSubject of = subject_of(e);
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "code", e->outcome->code);
	eduai_queue_put_words(&j, "message", &of, e->outcome->message);
	eduai_core_json_put_text(&j, "instance", who_failed(e));
	if (e->outcome->http_status > 0)
		eduai_core_json_put_int(&j, "http_status", e->outcome->http_status);
	put_attempts(&j, e, now);
	return eduai_core_json_end(&j);
}

void
eduai_queue_decide(Ending *e, TimestampTz now, double random)
{
	const TaskOutcome *o = e->outcome;
	bool again = e->used < e->asked.max_attempts;

	if (o->end == ATTEMPT_COMPLETED)
	{
		e->state = "completed";
		return;
	}
	e->error = describe_failure(e, now);
	e->again = again && (o->end == ATTEMPT_UNCERTAIN ? !e->hold_uncertain : o->retry);
	if (e->again)
	{
		if (!o->at_once || o->retry_after_ms >= 0)
			e->wait_ms = eduai_queue_backoff_ms(e->used, o->retry_after_ms, random);
		e->state = e->wait_ms > 0 ? "scheduled" : "ready";
		return;
	}
	e->state = o->end == ATTEMPT_UNCERTAIN ? "uncertain" : "dead";
}

static void
fill_result(Ending *e)
{
	EduaiTaskResult *r = &e->result;
	bool follow_up = true;

	if (e->asked.metadata != NULL)
		(void) eduai_core_json_bool(e->asked.metadata, "follow_up", &follow_up);
	r->task_id = e->outcome->task_id;
	r->attempt = e->outcome->attempt;
	r->tenant = e->outcome->tenant;
	r->task_type = e->live.task_type;
	r->user_id = e->asked.user_id;
	r->state = e->state;
	r->instance = e->outcome->instance;
	r->follow_up = follow_up;
	r->result = e->outcome->end == ATTEMPT_COMPLETED ? e->outcome->result : NULL;
	r->metadata = e->asked.metadata;
	r->may_wait = !e->by_dispatcher;
}

/* decides, and takes the learner's locks; false when they are not free */
static bool
prepare(Ending *e, TimestampTz now)
{
	eduai_queue_decide(e, now, eduai_core_random_unit());
	fill_result(e);
	/* a session waits for them when it writes */
	return !e->by_dispatcher || e->again || eduai_core_result_try_lock(&e->result);
}

static bool
has_handler(const Ending *e)
{
	return e->asked.on_result != NULL && !e->again;
}

/* ---- the dispatcher's endings with a handler ---- */

/* the row and what follows, with the handler, all or nothing */
static WriteResult
write_and_handle(EduaiTasks *tasks, Ending *e, TimestampTz now)
{
	WriteResult result = eduai_queue_write_ending(tasks, e, now);

	if (result != WRITE_DONE)
		return result;
	eduai_queue_ends_insert(tasks);
	CommandCounterIncrement();
	eduai_queue_follow_endings(&e, 1);
	return eduai_queue_run_handler(e) ? WRITE_DONE : WRITE_HELD;
}

static WriteResult
write_with_handler(Ending *e, TimestampTz now)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile WriteResult result = WRITE_HELD;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		EduaiTasks *own = eduai_queue_tasks_open();

		result = write_and_handle(own, e, now);
		eduai_queue_tasks_close(own);
		if (result == WRITE_DONE)
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
	return result;
}

/* ---- all of a call ---- */

/*
 * Records one outcome and sets its status.  A session that had to wait finds
 * the row moved, and looks again: the attempt was superseded, or it still runs
 * (a heartbeat, or whoever changed it rolled back).
 */
static void
record(EduaiTasks *tasks, TaskOutcome *o, Ending *e, bool by_dispatcher, TimestampTz now)
{
	WriteResult result;

	o->final = false;
	do
	{
		o->status = FINISH_STALE;
		if (!find_running(tasks, o, e))
			return;
		e->by_dispatcher = by_dispatcher;
		o->status = FINISH_BUSY;
		if (!prepare(e, now))
			return;
		if (by_dispatcher && has_handler(e))
			result = write_with_handler(e, now);
		else
			result = eduai_queue_write_ending(tasks, e, now);
	} while (result == WRITE_MOVED && !by_dispatcher);
	if (result != WRITE_DONE)
		return;
	o->status = FINISH_RECORDED;
	o->final = !e->again;
}

void
eduai_queue_finish(TaskOutcome *outcomes, int n, bool by_dispatcher)
{
	TimestampTz now = eduai_core_now();
	EduaiTasks *tasks;
	Ending *endings = palloc(sizeof(Ending) * Max(n, 1));
	Ending **final = palloc(sizeof(Ending *) * Max(n, 1));
	int nfinal = 0;

	/* before a row is written: afterwards its attempt could not be loaded */
	if (eduai_core_preloaded())
		eduai_queue_running_load();
	tasks = eduai_queue_tasks_open();
	for (int i = 0; i < n; i++)
	{
		Ending *e = &endings[i];

		record(tasks, &outcomes[i], e, by_dispatcher, now);
		if (outcomes[i].final && !(by_dispatcher && has_handler(e)))
			final[nfinal++] = e;
	}
	eduai_queue_ends_insert(tasks);
	eduai_queue_tasks_close(tasks);
	CommandCounterIncrement();
	if (nfinal > 0)
		eduai_queue_follow_endings(final, nfinal);
	for (int i = 0; i < nfinal; i++)
		if (has_handler(final[i]))
			(void) eduai_queue_run_handler(final[i]);
}
