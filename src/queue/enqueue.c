/*
 * enqueue.c: enqueue() and enqueue_batch().
 *
 * Order of things: every argument is checked, then the keys are locked and
 * looked up, then the task is admitted (gateway, quota), then inserted.  The
 * dispatcher is woken when the transaction commits.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/lock.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "queue/attachment.h"
#include "queue/dependency.h"
#include "queue/enqueue.h"
#include "queue/event.h"
#include "queue/queue.h"
#include "queue/sensitive.h"
#include "queue/store.h"
#include "queue/task.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_ATTEMPTS 100
#define MAX_BATCH    100000
#define MANY         100 /* tasks of a batch that is large */

PG_FUNCTION_INFO_V1(eduai_enqueue);
PG_FUNCTION_INFO_V1(eduai_enqueue_batch);

static char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static char *
required_text(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static Jsonb *
empty_object(void)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	return eduai_core_json_end(&j);
}

static void
read_metadata(TaskRequest *task, FunctionCallInfo fcinfo, int n)
{
	task->metadata = PG_ARGISNULL(n) ? empty_object() : PG_GETARG_JSONB_P(n);
	eduai_queue_check_metadata(task->metadata);
	task->concurrency_key = eduai_core_json_text(task->metadata, "concurrency_key");
	eduai_queue_check_label("concurrency_key", task->concurrency_key);
}

/* what both functions have in common; before eduai_core_enter() */
static void
begin_request(TaskRequest *task)
{
	eduai_core_require_preload("the queue");
	memset(task, 0, sizeof(*task));
	task->tenant = eduai_core_tenant();
	task->owner = GetUserNameFromId(GetUserId(), false);
	task->now = eduai_core_now();
	task->run_at = task->now;
	task->state = "ready";
}

static void
read_limits(TaskRequest *task, FunctionCallInfo fcinfo)
{
	task->max_attempts = PG_ARGISNULL(6) ? 0 : PG_GETARG_INT32(6);
	if (!PG_ARGISNULL(6) && (task->max_attempts < 1 || task->max_attempts > MAX_ATTEMPTS))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid max_attempts \"%d\"", task->max_attempts),
						errhint("Use 1 to %d.", MAX_ATTEMPTS)));
	if (!PG_ARGISNULL(7))
		task->timeout_ms =
			eduai_queue_interval_ms(PG_GETARG_INTERVAL_P(7), "timeout", 1, EDUAI_DAY_MS);
}

static void
read_times(TaskRequest *task, FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(3) && PG_GETARG_TIMESTAMPTZ(3) > task->now)
	{
		task->run_at = PG_GETARG_TIMESTAMPTZ(3);
		if (TIMESTAMP_NOT_FINITE(task->run_at))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("invalid run_at \"infinity\""),
							errhint("Give a time, or leave it out.")));
		task->state = "scheduled";
	}
	if (PG_ARGISNULL(13))
		return;
	task->expires_at = PG_GETARG_TIMESTAMPTZ(13);
	if (TIMESTAMP_NOT_FINITE(task->expires_at) || task->expires_at <= task->now)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid expires_at \"%s\"", timestamptz_to_str(task->expires_at)),
						errhint("Give a time to come.")));
}

static void
read_request(TaskRequest *task, FunctionCallInfo fcinfo)
{
	char *handler = text_argument(fcinfo, 11);
	char *on_refusal = text_argument(fcinfo, 10);

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("payload must not be null")));
	task->payload = PG_GETARG_JSONB_P(1);
	eduai_queue_check_payload(task->payload);
	task->model = eduai_core_json_text(task->payload, "model");
	task->priority = eduai_queue_priority(required_text(fcinfo, 2, "priority"));
	read_times(task, fcinfo);
	task->depends_on = PG_ARGISNULL(4) ? NULL : PG_GETARG_ARRAYTYPE_P(4);
	task->unique_key = text_argument(fcinfo, 5);
	eduai_queue_check_label("unique_key", task->unique_key);
	read_limits(task, fcinfo);
	task->user_id = text_argument(fcinfo, 8);
	eduai_queue_check_label("user_id", task->user_id);
	read_metadata(task, fcinfo, 9);
	task->on_refusal = eduai_queue_on_refusal(on_refusal ? on_refusal : "error");
	if (handler != NULL)
		task->on_result = eduai_queue_resolve_handler(handler);
	task->idempotency_key = text_argument(fcinfo, 12);
	eduai_queue_check_label("idempotency_key", task->idempotency_key);
}

/* whoever runs it has to know that it waits where others are refused */
static Jsonb *
with_patience(const Jsonb *metadata)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "on_refusal", "defer");
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(metadata),
											  JsonbPGetDatum(eduai_core_json_end(&j))));
}

/* the type's defaults where the call was silent; SPI connected */
static void
apply_type(TaskRequest *task, const char *name)
{
	task->type = *eduai_queue_require_type(name);
	if (task->type.by_gateway && task->on_refusal == REFUSAL_DEFER)
		task->metadata = with_patience(task->metadata);
	if (task->max_attempts == 0)
		task->max_attempts = task->type.max_attempts;
	if (task->timeout_ms == 0)
		task->timeout_ms = task->type.timeout_ms;
}

/* unique and idempotency keys share a class of locks; a byte tells them apart */
static uint64
idempotency_lock(const TaskRequest *task)
{
	return eduai_core_lock_key(task->tenant, psprintf("\x01%s", task->idempotency_key));
}

/*
 * Locks all the keys of a call, in one order, before anything is looked up:
 * two calls cannot deadlock over them.
 */
static void
lock_keys(const TaskRequest *task, char *const *unique_keys, int n)
{
	uint64 *keys = palloc(sizeof(uint64) * (n + 1));
	int nkeys = 0;

	if (task->idempotency_key != NULL)
		keys[nkeys++] = idempotency_lock(task);
	for (int i = 0; i < n; i++)
		if (unique_keys[i] != NULL)
			keys[nkeys++] = eduai_core_lock_key(task->tenant, unique_keys[i]);
	if (nkeys == 0)
		return;
	/* with events also their streams: whoever has keys may not wait for the turn of bulks */
	(void) eduai_core_lock_expect(nkeys + (eduai_queue_event_of_enqueue() ? n : 0), false);
	(void) eduai_core_lock_all(EDUAI_LOCK_UNIQUE_KEY, keys, nkeys, false);
}

/* the living task with this unique_key, 0 for none; the key is locked */
static int64
find_unique(const TaskRequest *task)
{
	static EduaiPlan find = {
		"SELECT task_id FROM eduai.task_live WHERE tenant_id = $1 AND unique_key = $2",
		2,
		{TEXTOID, TEXTOID}};
	Datum args[2];

	args[0] = CStringGetTextDatum(task->tenant);
	args[1] = CStringGetTextDatum(task->unique_key);
	return eduai_core_run_latest(&find, args, NULL) > 0 ? eduai_core_int64(0, 1, 0) : 0;
}

/* the task that this idempotency_key made in the last 24 h, 0 for none */
static int64
find_idempotent(const TaskRequest *task)
{
	static EduaiPlan find = {
		"SELECT task_id, task_type = $3 AND payload = $4 AND priority = $5 "
		"AND user_id IS NOT DISTINCT FROM $6 AS same FROM eduai.task_request "
		"WHERE tenant_id = $1 AND idempotency_key = $2 AND enqueued_at > $7 "
		"ORDER BY enqueued_at DESC LIMIT 1",
		7,
		{TEXTOID, TEXTOID, TEXTOID, JSONBOID, INT4OID, TEXTOID, TIMESTAMPTZOID}};
	Datum args[7];
	char nulls[8] = "       ";
	bool isnull;

	args[0] = CStringGetTextDatum(task->tenant);
	args[1] = CStringGetTextDatum(task->idempotency_key);
	args[2] = CStringGetTextDatum(task->type.name);
	args[3] = JsonbPGetDatum(task->kept);
	args[4] = Int32GetDatum(task->priority);
	args[5] = task->user_id ? CStringGetTextDatum(task->user_id) : (Datum) 0;
	nulls[5] = task->user_id ? ' ' : 'n';
	args[6] = TimestampTzGetDatum(task->now - USECS_PER_DAY);
	if (eduai_core_run_latest(&find, args, nulls) == 0)
		return 0;
	if (!DatumGetBool(eduai_core_value(0, 2, &isnull)))
		ereport(ERROR,
				(errcode(EDUAI_IDEMPOTENCY_CONFLICT),
				 errmsg("idempotency key \"%s\" was used for another task", task->idempotency_key),
				 errdetail("Task %lld has another type, payload, priority or user_id.",
						   (long long) eduai_core_int64(0, 1, 0)),
				 errhint("Use a new key for new content.")));
	return eduai_core_int64(0, 1, 0);
}

static int64
find_existing(const TaskRequest *task)
{
	int64 id = 0;

	if (task->idempotency_key != NULL)
		id = find_idempotent(task);
	if (id == 0 && task->unique_key != NULL)
		id = find_unique(task);
	return id;
}

/* the nth task of a call, with what may be kept of it; 0 when it was skipped */
static int64
enqueue_guarded(EduaiTasks *tasks, TaskRequest *task, int nth)
{
	int64 id;

	eduai_core_personal_check(task->tenant, task->user_id);
	id = find_existing(task);
	if (id != 0)
	{
		eduai_queue_check_own_parent(task, id);
		return id;
	}
	if (task->depends_on != NULL)
		eduai_queue_look_at_parents(tasks, task);
	if (!eduai_queue_admit(task))
		return 0;
	id = eduai_queue_insert(tasks, task, nth);
	eduai_queue_link_attachments(task->tenant, id, task->payload);
	if (task->depends_on != NULL && strcmp(task->state, "waiting") == 0)
		eduai_queue_insert_edges(task, id);
	/* later looks of this transaction, for keys and parents, see it */
	CommandCounterIncrement();
	/* it starts what is ready and wakes what is scheduled, an application's too */
	if (strcmp(task->state, "scheduled") == 0 ||
		(task->type.by_gateway && strcmp(task->state, "ready") == 0))
		eduai_queue_wake_at_commit();
	return id;
}

/* others of the call begin with what was asked for */
static int64
enqueue_one(EduaiTasks *tasks, TaskRequest *task, int nth)
{
	Jsonb *metadata = task->metadata;
	int64 id;

	eduai_queue_guard_payload(task);
	id = enqueue_guarded(tasks, task, nth);
	task->metadata = metadata;
	return id;
}

Datum
eduai_enqueue(PG_FUNCTION_ARGS)
{
	TaskRequest task;
	EduaiPrivilege saved;
	char *type = required_text(fcinfo, 0, "task_type");
	volatile int64 id = 0;

	begin_request(&task);
	read_request(&task, fcinfo);
	eduai_core_enter_direct(&saved);
	PG_TRY();
	{
		EduaiTasks *tasks;

		apply_type(&task, type);
		tasks = eduai_queue_tasks_open();
		lock_keys(&task, &task.unique_key, 1);
		id = enqueue_one(tasks, &task, 0);
		eduai_queue_tasks_close(tasks);
	}
	PG_CATCH();
	{
		eduai_core_leave_direct(&saved, true);
		PG_RE_THROW();
	}
	PG_END_TRY();
	eduai_core_leave_direct(&saved, false);
	if (id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(id);
}

/* ---- many ---- */

static Datum *
elements(FunctionCallInfo fcinfo, int n, Oid type, bool **nulls, int *count)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(n);
	Datum *values;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("arrays must have one dimension")));
	deconstruct_array(array, type, -1, false, TYPALIGN_INT, &values, nulls, count);
	return values;
}

static Jsonb **
read_payloads(FunctionCallInfo fcinfo, int *n)
{
	bool *nulls;
	Datum *values;
	Jsonb **payloads;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("payloads must not be null")));
	values = elements(fcinfo, 1, JSONBOID, &nulls, n);
	if (*n > MAX_BATCH)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a batch of %d tasks is too large", *n),
						errhint("Enqueue at most %d at once.", MAX_BATCH)));
	payloads = palloc(sizeof(Jsonb *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("payload %d is null", i + 1)));
		payloads[i] = DatumGetJsonbP(values[i]);
		eduai_queue_check_payload(payloads[i]);
	}
	return payloads;
}

/* an optional array of texts, one per payload; NULL entries stay NULL */
static char **
read_labels(FunctionCallInfo fcinfo, int arg, const char *what, int n)
{
	char **labels = palloc0(sizeof(char *) * Max(n, 1));
	bool *nulls;
	Datum *values;
	int count;

	if (PG_ARGISNULL(arg))
		return labels;
	values = elements(fcinfo, arg, TEXTOID, &nulls, &count);
	if (count != n)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("%s has %d elements for %d payloads", what, count, n),
						errhint("Give one for each payload, null where there is none.")));
	for (int i = 0; i < n; i++)
	{
		labels[i] = nulls[i] ? NULL : TextDatumGetCString(values[i]);
		eduai_queue_check_label(what, labels[i]);
	}
	return labels;
}

static void
enqueue_many(TaskRequest *task, Jsonb **payloads, char **user_ids, char **keys, int n, int64 *ids)
{
	EduaiTasks *tasks = eduai_queue_tasks_open();

	lock_keys(task, keys, n);
	task->of_many = n > MANY;
	for (int i = 0; i < n; i++)
	{
		task->payload = payloads[i];
		task->model = eduai_core_json_text(payloads[i], "model");
		task->user_id = user_ids[i];
		task->unique_key = keys[i];
		ids[i] = enqueue_one(tasks, task, i);
	}
	eduai_queue_tasks_close(tasks);
}

Datum
eduai_enqueue_batch(PG_FUNCTION_ARGS)
{
	TaskRequest task;
	EduaiPrivilege saved;
	char *type = required_text(fcinfo, 0, "task_type");
	char *on_refusal = text_argument(fcinfo, 6);
	int n;
	Jsonb **payloads;
	char **user_ids;
	char **keys;
	int64 *ids;
	bool *nulls;

	begin_request(&task);
	payloads = read_payloads(fcinfo, &n);
	task.priority = eduai_queue_priority(required_text(fcinfo, 2, "priority"));
	user_ids = read_labels(fcinfo, 3, "user_ids", n);
	keys = read_labels(fcinfo, 4, "unique_keys", n);
	read_metadata(&task, fcinfo, 5);
	task.on_refusal = eduai_queue_on_refusal(on_refusal ? on_refusal : "error");

	ids = palloc0(sizeof(int64) * Max(n, 1));
	nulls = palloc0(sizeof(bool) * Max(n, 1));
	eduai_core_enter(&saved);
	SPI_connect();
	apply_type(&task, type);
	enqueue_many(&task, payloads, user_ids, keys, n, ids);
	SPI_finish();
	eduai_core_leave(&saved);
	for (int i = 0; i < n; i++)
		nulls[i] = ids[i] == 0;
	PG_RETURN_DATUM(eduai_core_int8_array(ids, nulls, n));
}
