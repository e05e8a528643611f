/*
 * handler.c: the application's on_result function.
 *
 * It runs in the commit that records the result, as the role that enqueued,
 * under SECURITY_RESTRICTED_OPERATION, with eduai.tenant set to the task's
 * tenant, guarded (core/guard.h).  Its time is bounded.  In the dispatcher a
 * lock timeout of a few milliseconds keeps an application's open transaction
 * from holding it up; in the session of an application's worker, who waits for
 * nobody but itself, the session's own lock timeout holds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/guard.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "queue/finish_internal.h"
#include "queue/sensitive.h"
#include "queue/status.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define HANDLER_LOCK_TIMEOUT "2ms"

static int handler_timeout_ms = 1000;

void
eduai_queue_handler_init(void)
{
	DefineCustomIntVariable(
		"eduai.on_result_timeout", "The longest that an on_result handler may run.",
		"The dispatcher records other results only after it.", &handler_timeout_ms, 1000, 10, 60000,
		PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

static void
call(void *arg)
{
	const Ending *e = arg;
	EduaiPrivilege saved;
	Oid owner = get_role_oid(e->asked.owner, false);
	Oid types[2] = {TEXTOID, INT8OID};
	Datum args[2] = {CStringGetTextDatum(e->outcome->tenant), Int64GetDatum(e->outcome->task_id)};
	Datum status;
	Oid status_type;
	bool isnull;
	char *sql = psprintf("SELECT %s($1)", e->asked.on_result);
	int code;

	/* the row is read as the owner of the table, the handler runs as its own */
	code = SPI_execute_with_args("SELECT " EDUAI_TASK_STATUS " FROM eduai.task t "
								 "WHERE tenant_id = $1 AND task_id = $2",
								 2, types, args, NULL, false, 1);
	if (code != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "the task of a handler is gone");
	status = eduai_core_value(0, 1, &isnull);
	status_type = SPI_gettypeid(SPI_tuptable->tupdesc, 1);
	status = eduai_queue_open_status(e->outcome->tenant, status, owner);

	eduai_core_enter_role(owner, &saved);
	if (e->by_dispatcher)
		eduai_core_set_local("lock_timeout", HANDLER_LOCK_TIMEOUT);
	eduai_core_set_local("eduai.tenant", e->outcome->tenant);
	code = SPI_execute_with_args(sql, 1, &status_type, &status, NULL, false, 0);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "could not call a handler: %s", SPI_result_code_string(code));
	eduai_core_leave(&saved);
}

static bool
is_busy(int sqlstate)
{
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED;
}

static void
record_error(const Ending *e, const ErrorData *error)
{
	static EduaiPlan record = {"UPDATE eduai.task_end SET error = coalesce(error, '{}') || $3 "
							   "WHERE tenant_id = $1 AND task_id = $2",
							   3,
							   {TEXTOID, INT8OID, JSONBOID}};
	TaskSubject of = {e->outcome->tenant, e->asked.user_id, e->live.task_type, e->asked.metadata};
	EduaiJson j;
	Datum args[3];

	eduai_core_json_begin(&j);
	if (e->outcome->end == ATTEMPT_COMPLETED)
		eduai_core_json_put_text(&j, "code", "on_result_failed");
	if (e->outcome->end == ATTEMPT_COMPLETED)
		eduai_queue_put_words(&j, "message", &of, error->message);
	eduai_core_json_open_object(&j, "on_result");
	eduai_core_json_put_text(&j, "function", e->asked.on_result);
	eduai_core_json_put_text(&j, "sqlstate", unpack_sql_state(error->sqlerrcode));
	eduai_queue_put_words(&j, "message", &of, error->message);
	eduai_core_json_close_object(&j);
	args[0] = CStringGetTextDatum(e->outcome->tenant);
	args[1] = Int64GetDatum(e->outcome->task_id);
	args[2] = JsonbPGetDatum(eduai_core_json_end(&j));
	eduai_core_run(&record, args, NULL);
}

bool
eduai_queue_run_handler(Ending *e)
{
	ErrorData *error = eduai_core_guard(call, e, handler_timeout_ms);

	if (error == NULL)
		return true;
	if (e->by_dispatcher && is_busy(error->sqlerrcode) && !e->outcome->patience_over)
		return false;
	/* the session itself was told to stop: that is no error of the handler */
	if (!e->by_dispatcher && error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		!eduai_core_guard_ran_out())
		ReThrowError(error);
	record_error(e, error);
	return true;
}
