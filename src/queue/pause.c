/*
 * pause.c: pause_queue() and resume_queue().
 *
 * A claim that begins after the pause was committed starts nothing of the type;
 * what runs goes on.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "fmgr.h"
#include "queue/catalog.h"
#include "queue/lane_wait.h"
#include "queue/queue.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(eduai_pause_queue);
PG_FUNCTION_INFO_V1(eduai_resume_queue);

static void
change(FunctionCallInfo fcinfo, EduaiPlan *plan)
{
	EduaiPrivilege saved;
	Datum args[1];
	char *name;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("task_type must not be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	args[0] = PG_GETARG_DATUM(0);
	eduai_core_enter(&saved);
	SPI_connect();
	(void) eduai_queue_require_type(name);
	eduai_core_run(plan, args, NULL);
	CacheInvalidateRelcacheByRelid(get_relname_relid("paused_type", eduai_core_schema()));
	eduai_queue_reload_at_commit();
	eduai_queue_lane_wake_all_at_commit(name);
	SPI_finish();
	eduai_core_leave(&saved);
}

Datum
eduai_pause_queue(PG_FUNCTION_ARGS)
{
	static EduaiPlan pause = {
		"INSERT INTO eduai.paused_type (task_type) VALUES ($1) ON CONFLICT DO NOTHING",
		1,
		{TEXTOID}};

	change(fcinfo, &pause);
	PG_RETURN_VOID();
}

Datum
eduai_resume_queue(PG_FUNCTION_ARGS)
{
	static EduaiPlan resume = {"DELETE FROM eduai.paused_type WHERE task_type = $1", 1, {TEXTOID}};

	change(fcinfo, &resume);
	PG_RETURN_VOID();
}
