/*
 * finish_write.c: writing endings, and what follows from them.
 */
#include "postgres.h"

#include "commands/async.h"
#include "queue/board.h"
#include "queue/dependency.h"
#include "queue/finish_internal.h"
#include "queue/lane.h"
#include "queue/queue.h"
#include "queue/quota.h"
#include "queue/running.h"
#include "queue/sensitive.h"
#include "queue/sweep.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#define NOTIFY_FULL 0.9 /* beyond this share of its queue, a notification could fail the commit */

bool eduai_queue_notify_results = true;

void
eduai_queue_finish_init(void)
{
	DefineCustomBoolVariable("eduai.notify_results", "Send NOTIFY eduai_task when a task ends.",
							 "The dispatcher sends; other sessions never do.",
							 &eduai_queue_notify_results, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	eduai_queue_handler_init();
}

/* Is there room for notifications?  Looked at now and then. */
static bool
queue_has_room(void)
{
	static int until_look = 0;
	static bool room = true;

	if (until_look-- > 0)
		return room;
	until_look = 100;
	room = DatumGetFloat8(OidFunctionCall0(F_PG_NOTIFICATION_QUEUE_USAGE)) <= NOTIFY_FULL;
	return room;
}

void
eduai_queue_notify(const char *tenant, int64 task_id, const char *state)
{
	StringInfoData words;
	char number[MAXINT8LEN + 1];

	if (!eduai_queue_notify_results || !queue_has_room())
		return;
	/* for each task that ends: put together without a format to read */
	number[pg_lltoa(task_id, number)] = '\0';
	initStringInfo(&words);
	appendStringInfoString(&words, "{\"state\": \"");
	appendStringInfoString(&words, state);
	appendStringInfoString(&words, "\", \"tenant\": ");
	escape_json(&words, tenant);
	appendStringInfoString(&words, ", \"task_id\": ");
	appendStringInfoString(&words, number);
	appendStringInfoChar(&words, '}');
	Async_Notify("eduai_task", words.data);
	pfree(words.data);
}

static Numeric
sum(Numeric a, Numeric b)
{
	if (a == NULL || b == NULL)
		return a ? a : b;
	return numeric_add_opt_error(a, b, NULL);
}

/* another attempt: at once, at the end of its lane, or after a while */
static WriteResult
write_again(EduaiTasks *tasks, Ending *e, TimestampTz now)
{
	LiveChange change = {0};
	Numeric cost = sum(e->live.cost_usd, e->outcome->cost_usd);
	bool wait = !e->by_dispatcher;

	eduai_queue_change_to(&change, LIVE_ERROR, JsonbPGetDatum(e->error));
	eduai_queue_change_null(&change, LIVE_PROGRESS);
	eduai_queue_change_null(&change, LIVE_WORKER);
	eduai_queue_change_null(&change, LIVE_WORKER_NAME);
	eduai_queue_change_null(&change, LIVE_LEASE_MS);
	if (cost != NULL)
		eduai_queue_change_to(&change, LIVE_COST_USD, NumericGetDatum(cost));
	eduai_queue_change_to(&change, LIVE_RUN_AT, TimestampTzGetDatum(now + e->wait_ms * 1000));
	if (e->wait_ms == 0)
		return eduai_queue_try_ready(tasks, &e->live, now, &change, wait);
	eduai_queue_change_text(&change, LIVE_STATE, "scheduled");
	eduai_queue_change_null(&change, LIVE_LANE);
	eduai_queue_change_null(&change, LIVE_READY_KEY);
	eduai_queue_change_to(&change, LIVE_DUE_AT,
						  TimestampTzGetDatum(eduai_queue_steady_us() + e->wait_ms * 1000));
	eduai_queue_change_to(&change, LIVE_BACKOFF, BoolGetDatum(true));
	return eduai_queue_live_update(tasks, &e->live, &change, wait);
}

static WriteResult
write_end(EduaiTasks *tasks, Ending *e, TimestampTz now)
{
	TaskSubject of = {e->result.tenant, e->result.user_id, e->result.task_type, e->asked.metadata};
	EndedRow end;
	WriteResult result = eduai_queue_live_delete(tasks, &e->live, !e->by_dispatcher);

	if (result != WRITE_DONE)
		return result;
	eduai_queue_end_of_live(&e->live, &end);
	end.state = e->state;
	end.finished_at = now;
	end.instance = e->outcome->instance ? e->outcome->instance : e->live.worker_name;
	end.cost_usd = sum(e->live.cost_usd, e->outcome->cost_usd);
	end.result = eduai_queue_guard_json(&of, e->result.result, "result");
	end.error = e->error;
	eduai_queue_end_collect(tasks, &end);
	return WRITE_DONE;
}

WriteResult
eduai_queue_write_ending(EduaiTasks *tasks, Ending *e, TimestampTz now)
{
	WriteResult result = e->again ? write_again(tasks, e, now) : write_end(tasks, e, now);

	if (result != WRITE_DONE)
		return result;
	eduai_queue_running_end(e->outcome->task_id, e->outcome->attempt);
	/* it wakes when its time comes, which the dispatcher does not know yet */
	if (e->again && e->wait_ms > 0 && !e->by_dispatcher)
		eduai_queue_wake_at_commit();
	return WRITE_DONE;
}

void
eduai_queue_follow_endings(Ending *const *endings, int n)
{
	EduaiTaskResult *results = palloc(sizeof(EduaiTaskResult) * n);
	EndedParent *ended = palloc(sizeof(EndedParent) * n);
	bool by_dispatcher = endings[0]->by_dispatcher;

	for (int i = 0; i < n; i++)
	{
		const EduaiTaskResult *r = &endings[i]->result;
		EndedHow how = eduai_queue_ended_how(r->state);

		results[i] = *r;
		ended[i] = (EndedParent){r->tenant, r->task_id, how == ENDED_COMPLETED};
		eduai_queue_quota_release(r->tenant, 1);
		if (!by_dispatcher)
		{
			eduai_queue_board_ended_here(r->tenant, r->task_id, how, false, true);
			continue;
		}
		eduai_queue_board_ended(r->task_id);
		eduai_queue_notify(r->tenant, r->task_id, r->state);
	}
	eduai_core_result_record(results, n);
	if (by_dispatcher)
		eduai_queue_release_children(ended, n);
}
