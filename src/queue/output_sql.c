/*
 * output_sql.c: task_output() and append_output().  See output.h.
 *
 * A reader looks at shared memory, and at the tables only when nothing new is
 * there: once, and again each time a task of its bucket has ended.  That a task
 * is final, and with which attempt, only the tables say.  Waiting is on the
 * task's condition variable, with every look at the tables through a fresh
 * snapshot whatever the isolation level.
 *
 * What the end looks like:
 *   - the place has all that is to come: its last delta is "done"; a reader who
 *     had it all gets a row without text, with the number he gave;
 *   - the reader has read nothing of the last attempt, and the place is gone,
 *     was never there or has lost its beginning: the result's text at once;
 *   - he has read some, and the place is gone: a row without text, with the
 *     number after his, where what he lacks began. The text is not sent again:
 *     he could not tell what of it he has.
 *
 * Of a sensitive task who may not see its words gets the rows without them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/clock.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "queue/output.h"
#include "queue/sensitive.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define MOST_APPENDED (1024 * 1024)

PG_FUNCTION_INFO_V1(eduai_forget_output);
PG_FUNCTION_INFO_V1(eduai_task_output);
PG_FUNCTION_INFO_V1(eduai_append_output);

/* A call at work. */
typedef struct Reader
{
	const char *tenant;
	int64 task_id;
	int after_seq;
	ReturnSetInfo *result;
	bool masked; /* he may not see it */
	OutputLook look;
} Reader;

/* How the tables know the task. */
typedef struct Ending
{
	bool known;
	bool final;
	int attempt;
	char *text; /* of its result; NULL: none */
} Ending;

static void
put_row(Reader *reader, int seq, const char *delta, int length, bool done, int attempt)
{
	Datum values[4] = {Int32GetDatum(seq), (Datum) 0, BoolGetDatum(done), Int32GetDatum(attempt)};
	bool hidden = delta == NULL || reader->masked;
	bool nulls[4] = {false, hidden, false, false};
	text *copy = hidden ? NULL : cstring_to_text_with_len(delta, length);

	if (copy != NULL)
		values[1] = PointerGetDatum(copy);
	tuplestore_putvalues(reader->result->setResult, reader->result->setDesc, values, nulls);
	if (copy != NULL)
		pfree(copy);
}

/* The text of a result as the reader sees it; NULL: none. */
static char *
text_of(const Reader *reader, Jsonb *result, const char *user_id, const char *task_type, Oid role)
{
	JsonbValue value;

	result = eduai_queue_open_json(reader->tenant, user_id, task_type, result, role);
	return eduai_core_json_get(result, "text", &value) && value.type == jbvString
			   ? pnstrdup(value.val.string.val, value.val.string.len)
			   : NULL;
}

static void
find_ending(const Reader *reader, Ending *ending)
{
	static EduaiPlan find = {
		"SELECT e.attempt, e.result, r.user_id, r.task_type FROM eduai.task_request r "
		"LEFT JOIN eduai.task_end e ON e.tenant_id = r.tenant_id AND e.task_id = r.task_id "
		"WHERE r.tenant_id = $1 AND r.task_id = $2",
		2,
		{TEXTOID, INT8OID}};
	Datum args[2] = {CStringGetTextDatum(reader->tenant), Int64GetDatum(reader->task_id)};
	MemoryContext caller = CurrentMemoryContext;
	EduaiPrivilege saved;
	bool isnull;

	memset(ending, 0, sizeof(*ending));
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_run_latest(&find, args, NULL) > 0)
	{
		Datum result = eduai_core_value(0, 2, &isnull);

		ending->known = true;
		ending->attempt = (int) eduai_core_int64(0, 1, -1);
		ending->final = ending->attempt >= 0;
		if (!isnull)
			ending->text = text_of(reader, DatumGetJsonbP(result), eduai_core_text(0, 3),
								   eduai_core_text(0, 4), saved.caller);
		if (ending->text != NULL)
			ending->text = MemoryContextStrdup(caller, ending->text);
	}
	SPI_finish();
	eduai_core_leave(&saved);
}

/* Of a task that is final, and whose last attempt has no place. */
static void
put_ending(Reader *reader, const Ending *ending)
{
	int base = eduai_queue_output_base(ending->attempt);

	if (reader->after_seq > base)
		put_row(reader, reader->after_seq + 1, NULL, 0, true, ending->attempt);
	else if (ending->text == NULL)
		put_row(reader, reader->after_seq, NULL, 0, true, ending->attempt);
	else
		put_row(reader, base + 1, ending->text, (int) strlen(ending->text), true, ending->attempt);
}

/* The deltas of the look and of those after it; the number of the last, or after_seq. */
static int
put_deltas(Reader *reader, bool final)
{
	OutputLook *look = &reader->look;
	int after = reader->after_seq;
	const char *text;
	int seq;
	int length;

	for (;;)
	{
		while (eduai_queue_output_next(look, &seq, &text, &length))
		{
			put_row(reader, seq, text, length, final && seq == look->last_seq, look->attempt);
			after = seq;
		}
		if (look->whole)
			return after;
		eduai_queue_output_look(reader->tenant, reader->task_id, after, look);
	}
}

/* Of a task that is final, whose last attempt has a place. */
static void
put_rest(Reader *reader, const Ending *ending)
{
	OutputLook *look = &reader->look;
	int base = eduai_queue_output_base(look->attempt);
	int after;
	/* it has lost its beginning, or never had one: the attempt gave no text before its end */
	bool headless = look->first_seq > base + 1 || look->last_seq == base;

	if (ending->text != NULL && reader->after_seq <= base && headless)
	{
		put_row(reader, Max(look->last_seq, base + 1), ending->text, (int) strlen(ending->text),
				true, look->attempt);
		return;
	}
	after = put_deltas(reader, true);
	if (after == reader->after_seq || after < look->last_seq)
		/* what he lacks, if he lacks any, had to give room */
		put_row(reader, after + (look->last_seq > after ? 1 : 0), NULL, 0, true, look->attempt);
}

/* True: the call has its answer, which may be no row. */
static bool
answer_from_tables(Reader *reader)
{
	OutputLook *look = &reader->look;
	Ending ending;

	find_ending(reader, &ending);
	if (!ending.known)
		return true;
	/* the last words may have come since memory was looked at; retry_task() takes an end back */
	eduai_queue_output_look(reader->tenant, reader->task_id, reader->after_seq, look);
	if (!ending.final)
		return put_deltas(reader, false) > reader->after_seq;
	if (look->found && look->attempt == ending.attempt)
		put_rest(reader, &ending);
	else
		put_ending(reader, &ending);
	return true;
}

static void
follow(Reader *reader, int64 deadline_us)
{
	ConditionVariable *waiters = eduai_queue_output_waiters(reader->task_id);
	OutputLook *look = &reader->look;
	uint64 looked_at = 0;
	bool looked = false;

	ConditionVariablePrepareToSleep(waiters);
	for (;;)
	{
		uint64 ends = eduai_queue_output_ends(reader->task_id);
		int64 left_ms;

		eduai_queue_output_look(reader->tenant, reader->task_id, reader->after_seq, look);
		if (look->found && !look->done && put_deltas(reader, false) > reader->after_seq)
			break;
		if ((!looked || ends != looked_at) && answer_from_tables(reader))
			break;
		looked = true;
		looked_at = ends;
		left_ms = (deadline_us - eduai_core_mono_us() + 999) / 1000;
		if (left_ms <= 0)
			break;
		(void) ConditionVariableTimedSleep(waiters, (long) Min(left_ms, INT_MAX),
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

/* Where nothing is sealed it costs nothing. */
static bool
is_masked(const char *tenant, int64 task_id)
{
	static EduaiPlan whose = {"SELECT user_id, task_type, metadata FROM eduai.task_request "
							  "WHERE tenant_id = $1 AND task_id = $2 AND user_id IS NOT NULL",
							  2,
							  {TEXTOID, INT8OID}};
	Datum args[2] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id)};
	bool masked = false;
	bool isnull;
	EduaiPrivilege saved;

	if (!eduai_core_personal_sealing())
		return false;
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_run_latest(&whose, args, NULL) > 0)
	{
		TaskSubject of = {tenant, eduai_core_text(0, 1), eduai_core_text(0, 2),
						  DatumGetJsonbP(eduai_core_value(0, 3, &isnull))};

		masked = !eduai_queue_may_read(&of, saved.caller);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	return masked;
}

Datum
eduai_task_output(PG_FUNCTION_ARGS)
{
	Reader reader = {.tenant = eduai_core_tenant(),
					 .task_id = PG_GETARG_INT64(0),
					 .after_seq = PG_GETARG_INT32(1)};
	int64 wait_ms;

	eduai_core_require_preload("reading what a task gives");
	if (reader.after_seq < 0 || reader.after_seq == PG_INT32_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid after_seq %d", reader.after_seq),
						errhint("Give the last seq that you have, or 0.")));
	wait_ms = eduai_queue_interval_ms(PG_GETARG_INTERVAL_P(2), "wait", 0, EDUAI_DAY_MS);
	InitMaterializedSRF(fcinfo, 0);
	reader.result = (ReturnSetInfo *) fcinfo->resultinfo;
	reader.masked = is_masked(reader.tenant, reader.task_id);
	follow(&reader, eduai_core_mono_us() + 1000 * wait_ms);
	eduai_core_personal_note(reader.tenant, NULL, "task_output",
							 tuplestore_tuple_count(reader.result->setResult), GetUserId());
	return (Datum) 0;
}

static void
check_running(const char *tenant, int64 task_id, int attempt)
{
	static EduaiPlan find = {"SELECT true FROM eduai.task_live WHERE tenant_id = $1 AND "
							 "task_id = $2 AND attempt = $3 AND state = 'running'",
							 3,
							 {TEXTOID, INT8OID, INT4OID}};
	Datum args[3] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id), Int32GetDatum(attempt)};
	EduaiPrivilege saved;
	bool runs;

	eduai_core_enter(&saved);
	SPI_connect();
	runs = eduai_core_run_latest(&find, args, NULL) > 0;
	SPI_finish();
	eduai_core_leave(&saved);
	if (!runs)
		ereport(ERROR,
				(errcode(EDUAI_STALE_ATTEMPT),
				 errmsg("attempt %d of task %lld was superseded", attempt, (long long) task_id),
				 errdetail("It does not run: its lease was lost, or the task was cancelled "
						   "or has ended."),
				 errhint("Stop working on it: its result is not wanted any more.")));
}

Datum
eduai_append_output(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	int64 task_id = PG_GETARG_INT64(0);
	int attempt = PG_GETARG_INT32(1);
	text *delta = PG_GETARG_TEXT_PP(2);

	eduai_core_require_preload("giving a task's text as it comes");
	if (VARSIZE_ANY_EXHDR(delta) > MOST_APPENDED)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the text has %zu bytes, more than one call may give",
							   (Size) VARSIZE_ANY_EXHDR(delta)),
						errdetail("The limit is %d bytes.", MOST_APPENDED),
						errhint("Give it in parts, or as the task's result.")));
	check_running(tenant, task_id, attempt);
	eduai_queue_output_append(tenant, task_id, attempt, VARDATA_ANY(delta),
							  VARSIZE_ANY_EXHDR(delta));
	PG_RETURN_VOID();
}

/* forget_output(after_task) */
Datum
eduai_forget_output(PG_FUNCTION_ARGS)
{
	if (PG_GETARG_INT64(0) < PG_INT64_MAX)
		eduai_queue_output_forget(PG_GETARG_INT64(0) + 1, PG_INT64_MAX);
	PG_RETURN_VOID();
}
