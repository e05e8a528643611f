/*
 * event.c: the queue's changes as events of the log.  See event.h.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/hooks.h"
#include "core/json.h"
#include "queue/event.h"
#include "queue/store_internal.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

typedef enum QueueEvents
{
	EVENTS_OFF,
	EVENTS_FINAL,
	EVENTS_ALL
} QueueEvents;

static const struct config_enum_entry choices[] = {
	{"off", EVENTS_OFF, false}, {"final", EVENTS_FINAL, false}, {"all", EVENTS_ALL, false}, {0}};

static int queue_events = EVENTS_OFF;

/* in the context of the call */
typedef struct TaskNotes
{
	EduaiTaskEvent *events;
	int nevents;
	int room;
	int64 requested; /* the task whose request was written last */
	bool nowait;     /* something was written by somebody who may not wait */
} TaskNotes;

/* What an event says. */
typedef struct Said
{
	const char *event_type;
	const char *tenant;
	int64 task_id;
	const char *task_type;
	int priority;
	const char *state;
	int attempt;
	const char *instance; /* NULL: none */
	TimestampTz run_at;
	TimestampTz started_at;  /* 0: never */
	TimestampTz finished_at; /* of the task or attempt; 0: it goes on */
	Numeric cost_usd;        /* NULL: none */
	const Jsonb *error;      /* NULL: none */
} Said;

void
eduai_queue_event_init(void)
{
	DefineCustomEnumVariable(
		"eduai.queue_events", "Which changes of tasks are appended to the event log.",
		"off: none; final: how tasks end; all: also that they are enqueued, started and retried.",
		&queue_events, EVENTS_OFF, choices, PGC_SUSET, 0, NULL, NULL, NULL);
}

bool
eduai_queue_event_of_enqueue(void)
{
	return queue_events == EVENTS_ALL;
}

static TaskNotes *
notes_of(EduaiTasks *tasks)
{
	if (tasks->notes == NULL)
		tasks->notes = MemoryContextAllocZero(tasks->context, sizeof(TaskNotes));
	return tasks->notes;
}

static Jsonb *
describe(const Said *s)
{
	char *code = s->error ? eduai_core_json_text(s->error, "code") : NULL;
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "task_id", s->task_id);
	eduai_core_json_put_text(&j, "task_type", s->task_type);
	eduai_core_json_put_text(&j, "priority", eduai_queue_priority_name(s->priority));
	eduai_core_json_put_text(&j, "state", s->state);
	eduai_core_json_put_int(&j, "attempt", s->attempt);
	if (s->instance != NULL)
		eduai_core_json_put_text(&j, "instance", s->instance);
	if (s->started_at != 0)
		eduai_core_json_put_int(&j, "wait_ms", Max(0, s->started_at - s->run_at) / 1000);
	if (s->started_at != 0 && s->finished_at != 0)
		eduai_core_json_put_int(&j, "run_ms", Max(0, s->finished_at - s->started_at) / 1000);
	if (s->cost_usd != NULL)
		eduai_core_json_put_numeric(&j, "cost_usd", s->cost_usd);
	if (code != NULL)
		eduai_core_json_put_text(&j, "error_code", code);
	return eduai_core_json_end(&j);
}

static void
note(EduaiTasks *tasks, const Said *s)
{
	TaskNotes *notes = notes_of(tasks);
	MemoryContext old = MemoryContextSwitchTo(tasks->context);

	if (notes->nevents == notes->room)
	{
		notes->room = Max(8, notes->room * 2);
		notes->events = notes->events
							? repalloc(notes->events, sizeof(EduaiTaskEvent) * notes->room)
							: palloc(sizeof(EduaiTaskEvent) * notes->room);
	}
	notes->events[notes->nevents++] = (EduaiTaskEvent){
		.tenant = pstrdup(s->tenant),
		.task_id = s->task_id,
		.event_type = pstrdup(s->event_type),
		.data = describe(s),
	};
	MemoryContextSwitchTo(old);
}

static const char *
event_of_end(const char *state)
{
	return psprintf("task_%s", state);
}

/* what an update of a living task means; NULL: nothing that is told */
static const char *
event_of_update(const LiveTask *task, const LiveChange *change)
{
	char *state;

	if (queue_events != EVENTS_ALL || !change->replace[LIVE_STATE])
		return NULL;
	state = TextDatumGetCString(change->values[LIVE_STATE]);
	if (strcmp(state, "running") == 0)
		return "task_started";
	/* from waiting or scheduled to ready is no news: it was enqueued */
	return strcmp(task->state, "running") == 0 ? "task_retried" : NULL;
}

static bool
may_append(EduaiTasks *tasks, const LiveTask *task, const char *event_type, bool wait)
{
	EduaiTaskEvent event = {task->tenant, task->task_id, event_type, NULL};

	if (wait)
		return true;
	notes_of(tasks)->nowait = true;
	return eduai_core_task_event_try_lock(&event);
}

bool
eduai_queue_event_may_update(EduaiTasks *tasks, const LiveTask *task, const LiveChange *change,
							 bool wait)
{
	const char *event_type = event_of_update(task, change);

	return event_type == NULL || may_append(tasks, task, event_type, wait);
}

bool
eduai_queue_event_may_end(EduaiTasks *tasks, const LiveTask *task, bool wait)
{
	/* how it ends makes no difference to who wants to know, but for an inline projection's filter */
	return queue_events == EVENTS_OFF || may_append(tasks, task, "task_completed", wait);
}

void
eduai_queue_event_enqueued(EduaiTasks *tasks, const TaskRequest *r, int64 task_id)
{
	Said s = {.event_type = "task_enqueued",
			  .tenant = r->tenant,
			  .task_id = task_id,
			  .task_type = r->type.name,
			  .priority = r->priority,
			  .state = r->state};

	if (queue_events != EVENTS_ALL)
		return;
	note(tasks, &s);
	tasks->notes->requested = task_id;
}

/* a row of a task that lives, with its columns as they are */
static Said
say_live(const LiveTask *t, const char *event_type)
{
	return (Said){.event_type = event_type,
				  .tenant = t->tenant,
				  .task_id = t->task_id,
				  .task_type = t->task_type,
				  .priority = t->priority,
				  .state = t->state,
				  .attempt = t->attempt,
				  .run_at = t->run_at,
				  .cost_usd = t->cost_usd,
				  .error = t->error};
}

/* A new row: enqueued, which is said already, or taken back by retry_task(). */
void
eduai_queue_event_live(EduaiTasks *tasks, const LiveTask *task)
{
	Said s;

	if (queue_events != EVENTS_ALL ||
		(tasks->notes != NULL && tasks->notes->requested == task->task_id))
		return;
	s = say_live(task, "task_retried");
	note(tasks, &s);
}

void
eduai_queue_event_updated(EduaiTasks *tasks, const LiveTask *task, const LiveChange *change)
{
	const char *event_type = event_of_update(task, change);
	LiveTask now;
	Said s;

	if (event_type == NULL)
		return;
	eduai_queue_live_read_tuple(tasks, task->tuple, &now);
	s = say_live(&now, event_type);
	s.instance = now.instance ? now.instance : now.worker_name;
	if (strcmp(now.state, "running") == 0)
	{
		s.started_at = now.started_at;
		s.error = NULL; /* of the attempt before */
	}
	else
	{
		s.instance = task->instance ? task->instance : task->worker_name;
		s.run_at = task->run_at;
		s.started_at = task->started_at;
		s.finished_at = eduai_core_now();
	}
	note(tasks, &s);
}

void
eduai_queue_event_ended(EduaiTasks *tasks, const EndedRow *e)
{
	Said s = {.tenant = e->tenant,
			  .task_id = e->task_id,
			  .task_type = e->task_type,
			  .priority = e->priority,
			  .state = e->state,
			  .attempt = e->attempt,
			  .instance = e->instance,
			  .run_at = e->run_at,
			  .started_at = e->started_at,
			  .finished_at = e->finished_at,
			  .cost_usd = e->cost_usd,
			  .error = e->error};

	if (queue_events == EVENTS_OFF)
		return;
	s.event_type = event_of_end(e->state);
	note(tasks, &s);
}

void
eduai_queue_event_flush(EduaiTasks *tasks)
{
	TaskNotes *notes = tasks->notes;

	if (notes == NULL || notes->nevents == 0)
		return;
	eduai_core_task_event_record(notes->events, notes->nevents, notes->nowait);
	notes->nevents = 0;
}
