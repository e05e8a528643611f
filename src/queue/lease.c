/*
 * lease.c: leases that are over, and extend_lease().
 *
 * Extending is a store in shared memory: no row, no transaction.  With progress
 * the row is written, in the caller's transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/clock.h"
#include "core/guard.h"
#include "core/json.h"
#include "core/pause.h"
#include "core/personal.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "queue/attempt.h"
#include "queue/finish.h"
#include "queue/lease.h"
#include "queue/running.h"
#include "queue/sensitive.h"
#include "queue/store.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define REAP_BATCH        200
#define REAP_LIMIT_MS     1000
#define REAP_LOCK_TIMEOUT "50"
#define MOST_PROGRESS     8192 /* bytes: it lies in the row of the task that runs */

PG_FUNCTION_INFO_V1(eduai_extend_lease);

/* ---- reaping ---- */

typedef struct Reap
{
	const Lapsed *lapsed;
	TaskOutcome *outcomes;
	int n;
	bool by_dispatcher;
} Reap;

static void
fail_lapsed(void *arg)
{
	Reap *reap = arg;

	for (int i = 0; i < reap->n; i++)
	{
		const Lapsed *lapsed = &reap->lapsed[i];

		reap->outcomes[i] = (TaskOutcome){
			.tenant = lapsed->tenant,
			.task_id = lapsed->task_id,
			.attempt = lapsed->attempt,
			.end = ATTEMPT_FAILED,
			.retry = true,
			.at_once = true,
			.retry_after_ms = -1,
			.code = lapsed->timed_out ? "timeout_total" : "lease_lapsed",
			.message = lapsed->timed_out
						   ? "the attempt took longer than its timeout"
						   : "the lease was over before the worker said what became of the task"};
	}
	/* what a session would wait for is tried again later */
	if (!reap->by_dispatcher)
		eduai_core_set_local("lock_timeout", REAP_LOCK_TIMEOUT);
	eduai_queue_finish(reap->outcomes, reap->n, reap->by_dispatcher);
}

static int
settle(const Reap *reap, bool failed)
{
	int written = 0;

	for (int i = 0; i < reap->n; i++)
	{
		const Lapsed *lapsed = &reap->lapsed[i];

		if (failed || reap->outcomes[i].status == FINISH_BUSY)
			eduai_queue_lease_unlapse(lapsed->task_id, lapsed->attempt);
		else if (reap->outcomes[i].status == FINISH_RECORDED)
			written++;
		else
			/* its row does not run: nobody else would end it */
			eduai_queue_running_end(lapsed->task_id, lapsed->attempt);
	}
	return written;
}

/* all at once; when one of them cannot be written, each by itself */
static int
reap(const Lapsed *lapsed, int n, bool by_dispatcher)
{
	Reap all = {.lapsed = lapsed, .n = n, .by_dispatcher = by_dispatcher};
	ErrorData *error;
	int written = 0;

	all.outcomes = palloc(sizeof(TaskOutcome) * n);
	error = eduai_core_guard(fail_lapsed, &all, REAP_LIMIT_MS);
	if (error == NULL || n == 1)
		written = settle(&all, error != NULL);
	if (error != NULL && n == 1 && by_dispatcher)
		ereport(WARNING, (errcode(error->sqlerrcode),
						  errmsg("could not end attempt %d of task %lld, whose lease is over: %s",
								 lapsed->attempt, (long long) lapsed->task_id, error->message)));
	if (error != NULL)
		FreeErrorData(error);
	pfree(all.outcomes);
	if (error != NULL && n > 1)
		for (int i = 0; i < n; i++)
			written += reap(&lapsed[i], 1, by_dispatcher);
	return written;
}

static int
by_task(const void *a, const void *b)
{
	int64 left = ((const Lapsed *) a)->task_id;
	int64 right = ((const Lapsed *) b)->task_id;

	return left < right ? -1 : left > right;
}

int
eduai_queue_reap_leases(int64 late_ms, bool by_dispatcher)
{
	Lapsed *lapsed;
	int n;
	int written = 0;

	if (eduai_queue_next_lapse_ms() != 0)
		return 0;
	lapsed = palloc(sizeof(Lapsed) * REAP_BATCH);
	n = eduai_queue_leases_lapsed(lapsed, REAP_BATCH, late_ms);
	/* they come back in the order in which they were enqueued, as far as that goes */
	qsort(lapsed, n, sizeof(Lapsed), by_task);
	if (n > 0)
		written = reap(lapsed, n, by_dispatcher);
	pfree(lapsed);
	return written;
}

/* ---- extending ---- */

int64
eduai_queue_lease_ms(const Interval *lease)
{
	return eduai_queue_interval_ms(lease, "lease", eduai_core_test_mode ? 1 : 1000, EDUAI_DAY_MS);
}

static void
refuse_progress(const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid progress"),
					errdetail("%s", detail),
					errhint("Give an object such as {\"current\": 3, \"total\": 10, \"message\": "
							"\"page 3\", \"text\": \"so far\"}.")));
}

static void
check_progress(const Jsonb *progress)
{
	static const struct
	{
		const char *name;
		enum jbvType type;
	} known[] = {{"current", jbvNumeric},
				 {"total", jbvNumeric},
				 {"message", jbvString},
				 {"text", jbvString}};
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	if (!eduai_core_json_is_object(progress))
		refuse_progress("It is not an object.");
	if (VARSIZE(progress) > MOST_PROGRESS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the progress has %u bytes", (unsigned) VARSIZE(progress)),
						errdetail("The limit is %d.", MOST_PROGRESS),
						errhint("Say what is new; the result comes with eduai.complete_task().")));
	it = JsonbIteratorInit((JsonbContainer *) &progress->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		size_t i;
		char *name;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		name = pnstrdup(key.val.string.val, key.val.string.len);
		for (i = 0; i < lengthof(known) && strcmp(known[i].name, name) != 0; i++)
			;
		if (i == lengthof(known))
			refuse_progress(psprintf("\"%s\" is no part of it.", name));
		if (value.type != known[i].type && value.type != jbvNull)
			refuse_progress(psprintf("\"%s\" must be a %s.", name,
									 known[i].type == jbvString ? "string" : "number"));
	}
}

/* As it is stored. */
static const Jsonb *
guard_progress(EduaiTasks *tasks, const LiveTask *live, const Jsonb *progress)
{
	AskedTask asked = {0};
	TaskSubject of = {.tenant = live->tenant, .task_type = live->task_type};

	if (live->plain || !eduai_core_personal_sealing() ||
		!eduai_queue_request_find(tasks, live->tenant, live->task_id, &live->request, false,
								  &asked))
		return progress;
	of.user_id = asked.user_id;
	of.metadata = asked.metadata;
	return eduai_queue_guard_json(&of, progress, "progress");
}

static void
write_progress(const NamedAttempt *attempt, const Jsonb *progress)
{
	EduaiTasks *tasks = eduai_queue_tasks_open();
	LiveTask live;
	LiveChange change = {0};
	WriteResult result = WRITE_MOVED;

	while (result != WRITE_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (!eduai_queue_attempt_find(tasks, attempt, &live))
			eduai_queue_attempt_refuse(attempt);
		eduai_queue_change_to(&change, LIVE_PROGRESS,
							  JsonbPGetDatum(guard_progress(tasks, &live, progress)));
		result = eduai_queue_live_update(tasks, &live, &change, true);
	}
	eduai_queue_tasks_close(tasks);
	CommandCounterIncrement();
}

/* Milliseconds that were granted. */
static int64
extend(const NamedAttempt *attempt, int64 lease_ms, const Jsonb *progress)
{
	int64 granted_ms = 0;

	eduai_queue_running_load();
	if (progress != NULL)
		write_progress(attempt, progress);
	if (eduai_queue_attempt_runs(attempt->tenant, attempt->task_id, attempt->attempt))
		granted_ms = eduai_queue_lease_extend(attempt->task_id, attempt->attempt, lease_ms);
	if (granted_ms == 0)
		eduai_queue_attempt_refuse(attempt);
	return granted_ms;
}

Datum
eduai_extend_lease(PG_FUNCTION_ARGS)
{
	NamedAttempt attempt;
	EduaiPrivilege saved;
	Jsonb *progress = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	int64 lease_ms;

	eduai_core_require_preload("a lease");
	eduai_queue_attempt_read(fcinfo, &attempt);
	eduai_queue_require_argument(fcinfo, 2, "lease");
	lease_ms = eduai_queue_lease_ms(PG_GETARG_INTERVAL_P(2));
	if (progress != NULL)
		check_progress(progress);
	eduai_core_enter(&saved);
	SPI_connect();
	lease_ms = extend(&attempt, lease_ms, progress);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_TIMESTAMPTZ(eduai_core_now() + lease_ms * 1000);
}
