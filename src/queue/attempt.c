/*
 * attempt.c: the attempt that an application's worker names.  See attempt.h.
 *
 * What fences a worker that was thought dead is the number of the attempt and
 * the state of the row, not the lease: a late worker whose task nobody took
 * meanwhile has done the work and may say so.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/errors.h"
#include "core/plan.h"
#include "core/tenant.h"
#include "queue/attempt.h"
#include "queue/running.h"
#include "utils/builtins.h"

void
eduai_queue_require_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name)));
}

void
eduai_queue_attempt_read(FunctionCallInfo fcinfo, NamedAttempt *attempt)
{
	eduai_queue_require_argument(fcinfo, 0, "task_id");
	eduai_queue_require_argument(fcinfo, 1, "attempt");
	attempt->tenant = eduai_core_tenant();
	attempt->task_id = PG_GETARG_INT64(0);
	attempt->attempt = PG_GETARG_INT32(1);
}

static bool
is_running(const LiveTask *live)
{
	return strcmp(live->state, "running") == 0;
}

bool
eduai_queue_attempt_find(EduaiTasks *tasks, const NamedAttempt *attempt, LiveTask *live)
{
	if (!eduai_queue_live_find(tasks, attempt->tenant, attempt->task_id, live) ||
		live->attempt != attempt->attempt || live->lease_ms == 0 || !is_running(live))
		return false;
	if (live->worker_name != NULL)
		(void) eduai_queue_worker_seen(attempt->tenant, live->worker_name, NULL);
	return true;
}

static char *
why_not_alive(const NamedAttempt *attempt)
{
	static EduaiPlan ended = {
		"SELECT e.state FROM eduai.task_request r LEFT JOIN eduai.task_end e USING (tenant_id, task_id) "
		"WHERE r.tenant_id = $1 AND r.task_id = $2",
		2,
		{TEXTOID, INT8OID}};
	Datum args[2] = {CStringGetTextDatum(attempt->tenant), Int64GetDatum(attempt->task_id)};

	if (eduai_core_run_latest(&ended, args, NULL) > 0)
	{
		const char *state = eduai_core_text(0, 1);

		/* neither living row nor end: it has not been started */
		return state ? psprintf("The task is %s.", state) : pstrdup("The task has had 0 attempts.");
	}
	return pstrdup("There is no such task, or it was forgotten.");
}

static char *
why(const NamedAttempt *attempt)
{
	EduaiTasks *tasks = eduai_queue_tasks_open();
	LiveTask live;
	bool found = eduai_queue_live_find(tasks, attempt->tenant, attempt->task_id, &live);

	eduai_queue_tasks_close(tasks);
	if (!found)
		return why_not_alive(attempt);
	if (live.attempt < attempt->attempt || attempt->attempt < 1)
		return psprintf("The task has had %d attempts.", live.attempt);
	if (live.attempt > attempt->attempt)
		return psprintf("Attempt %d has taken its place.", live.attempt);
	if (!is_running(&live))
		return psprintf("It failed or its lease was over; the task is %s.", live.state);
	if (live.lease_ms == 0)
		return pstrdup("The gateway runs it, not an application.");
	return pstrdup("Its lease is over.");
}

void
eduai_queue_attempt_refuse(const NamedAttempt *attempt)
{
	ereport(ERROR, (errcode(EDUAI_STALE_ATTEMPT),
					errmsg("attempt %d of task %lld was superseded", attempt->attempt,
						   (long long) attempt->task_id),
					errdetail("%s", why(attempt)),
					errhint("Stop working on it: its result is not wanted any more.")));
	pg_unreachable();
}
