/*
 * events.c: the room's start, and the event that follows a task's result.
 *
 * A completed task about a learner leaves ai_feedback_given in the learner's
 * stream, in the transaction that records the result.  Whoever records may
 * never wait for a lock that an application holds, so every lock is taken in
 * try_lock, without waiting; record() finds them held.
 */
#include "postgres.h"

#include "core/hooks.h"
#include "core/json.h"
#include "core/lock.h"
#include "core/personal.h"
#include "events/personal.h"
#include "events/append.h"
#include "events/compact.h"
#include "events/event_type.h"
#include "events/events.h"
#include "events/heads.h"
#include "events/order.h"
#include "events/partition.h"
#include "events/passed.h"
#include "events/projector.h"
#include "events/shared.h"
#include "events/snapshot.h"
#include "events/standby.h"
#include "events/task_event.h"
#include "events/validate.h"

static char *
learner_stream(const EduaiTaskResult *result)
{
	return psprintf("learner-%s", result->user_id);
}

/*
 * A task may name a learner that no event could: the result must be recorded
 * all the same, and there is no stream to put its event into.
 */
static bool
is_followed_up(const EduaiTaskResult *result)
{
	return result->follow_up && strcmp(result->state, "completed") == 0 &&
		   !eduai_core_personal_erased(result->tenant, result->user_id) &&
		   eduai_events_legal_name(result->user_id) &&
		   eduai_events_legal_name(learner_stream(result));
}

static Jsonb *
feedback_data(const EduaiTaskResult *result)
{
	char *finish_reason = eduai_core_json_text(result->result, "finish_reason");
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "task_id", result->task_id);
	eduai_core_json_put_text(&j, "task_type", result->task_type);
	eduai_core_json_put_text(&j, "state", result->state);
	eduai_core_json_put_text(&j, "instance", result->instance);
	if (finish_reason)
		eduai_core_json_put_text(&j, "finish_reason", finish_reason);
	return eduai_core_json_end(&j);
}

static Jsonb *
feedback_metadata(void)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "source", "eduai");
	return eduai_core_json_end(&j);
}

static EduaiEvent
feedback_event(const EduaiTaskResult *result)
{
	return (EduaiEvent){
		.stream = learner_stream(result),
		.event_type = "ai_feedback_given",
		.user_id = pstrdup(result->user_id),
		.data = feedback_data(result),
		.metadata = feedback_metadata(),
		.own_id = true,
		.occurred_at = EDUAI_EVENTS_NOW,
	};
}

static bool
try_lock(const EduaiTaskResult *result)
{
	EduaiEvent event;
	EduaiAppendBatch batch = {result->tenant, &event, 1, true};

	if (!is_followed_up(result))
		return true;
	event = feedback_event(result);
	return eduai_core_lock(EDUAI_LOCK_STREAM, eduai_core_lock_key(batch.tenant, event.stream),
						   true) &&
		   eduai_core_append_lock(&batch);
}

/* Appends the events of all results of one tenant, from the first of them on. */
static void
record_tenant(const EduaiTaskResult *results, int first, int n)
{
	EduaiAppendBatch batch = {
		.tenant = results[first].tenant, .nowait = !results[first].may_wait, .own = true};

	batch.events = palloc(sizeof(EduaiEvent) * (n - first));
	for (int i = first; i < n; i++)
		if (is_followed_up(&results[i]) && strcmp(results[i].tenant, batch.tenant) == 0)
			batch.events[batch.nevents++] = feedback_event(&results[i]);
	if (!eduai_events_append(&batch, NULL, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not lock the learners' streams of tenant \"%s\"", batch.tenant)));
}

static bool
seen_before(const EduaiTaskResult *results, int index)
{
	for (int i = 0; i < index; i++)
		if (is_followed_up(&results[i]) && strcmp(results[i].tenant, results[index].tenant) == 0)
			return true;
	return false;
}

static void
record(const EduaiTaskResult *results, int n)
{
	for (int i = 0; i < n; i++)
		if (is_followed_up(&results[i]) && !seen_before(results, i))
			record_tenant(results, i, n);
}

static const EduaiResultHooks result_hooks = {"events", try_lock, record};

void
eduai_events_init(void)
{
	eduai_events_shared_init();
	eduai_events_order_init();
	eduai_events_heads_init();
	eduai_events_partition_init();
	eduai_events_projector_init();
	eduai_events_standby_init();
	eduai_events_compact_init();
	eduai_core_result_hooks_register(&result_hooks);
	eduai_events_task_event_init();
	eduai_events_type_init();
	eduai_events_passed_init();
	eduai_events_snapshot_init();
	eduai_events_personal_init();
}
