/*
 * task_event.c: the queue's changes of tasks, as events.
 *
 * Each task has a stream of its own, task-<id>, of category task.  What the
 * queue may not wait for (whoever appends to that stream by hand, an inline
 * projection of these events) is locked in try_lock; record() finds it locked.
 */
#include "postgres.h"

#include "core/hooks.h"
#include "core/json.h"
#include "core/lock.h"
#include "events/append.h"
#include "events/task_event.h"

static EduaiEvent
event_of(const EduaiTaskEvent *task)
{
	return (EduaiEvent){
		.stream = psprintf("task-%lld", (long long) task->task_id),
		.event_type = (char *) task->event_type,
		.data = (Jsonb *) task->data,
		.own_id = true,
		.occurred_at = EDUAI_EVENTS_NOW,
	};
}

static bool
try_lock(const EduaiTaskEvent *task)
{
	EduaiEvent event = event_of(task);
	EduaiAppendBatch batch = {task->tenant, &event, 1, true, true};

	return eduai_core_lock(EDUAI_LOCK_STREAM, eduai_core_lock_key(batch.tenant, event.stream),
						   true) &&
		   eduai_core_append_lock(&batch);
}

static Jsonb *
source(void)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "source", "eduai");
	return eduai_core_json_end(&j);
}

/* Appends the events of all tasks of one tenant, from the first of them on. */
static void
record_tenant(const EduaiTaskEvent *events, int first, int n, bool nowait)
{
	EduaiAppendBatch batch = {.tenant = events[first].tenant, .nowait = nowait, .own = true};
	Jsonb *metadata = source();

	batch.events = palloc(sizeof(EduaiEvent) * (n - first));
	for (int i = first; i < n; i++)
	{
		if (strcmp(events[i].tenant, batch.tenant) != 0)
			continue;
		batch.events[batch.nevents] = event_of(&events[i]);
		batch.events[batch.nevents++].metadata = metadata;
	}
	if (!eduai_events_append(&batch, NULL, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not lock the streams of tasks of tenant \"%s\"", batch.tenant)));
}

static bool
seen_before(const EduaiTaskEvent *events, int index)
{
	for (int i = 0; i < index; i++)
		if (strcmp(events[i].tenant, events[index].tenant) == 0)
			return true;
	return false;
}

static void
record(const EduaiTaskEvent *events, int n, bool nowait)
{
	for (int i = 0; i < n; i++)
		if (!seen_before(events, i))
			record_tenant(events, i, n, nowait);
}

static const EduaiTaskEventHooks hooks = {"events", try_lock, record};

void
eduai_events_task_event_init(void)
{
	eduai_core_task_event_hooks_register(&hooks);
}
