/*
 * finish_write.c: writing endings, all rows of a batch in one statement each.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "core/json.h"
#include "core/plan.h"
#include "queue/board.h"
#include "queue/dependency.h"
#include "queue/finish_internal.h"
#include "queue/quota.h"
#include "queue/status.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define NOTIFY_FULL 0.9 /* beyond this share of its queue, a notification could fail the commit */

static bool notify_results = true;

void
eduai_queue_finish_init(void)
{
	DefineCustomBoolVariable("eduai.notify_results", "Send NOTIFY eduai_task when a task ends.",
							 "The dispatcher sends; enqueuing sessions never do.", &notify_results,
							 true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	eduai_queue_handler_init();
}

void
eduai_queue_notify(const char *tenant, int64 task_id, const char *state)
{
	EduaiJson j;

	if (!notify_results)
		return;
	if (DatumGetFloat8(OidFunctionCall0(F_PG_NOTIFICATION_QUEUE_USAGE)) > NOTIFY_FULL)
		return;
	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "task_id", task_id);
	eduai_core_json_put_text(&j, "state", state);
	eduai_core_json_put_text(&j, "tenant", tenant);
	Async_Notify("eduai_task", eduai_core_json_cstring(eduai_core_json_end(&j)));
}

/* parallel arrays for the one UPDATE */
typedef struct Columns
{
	Datum *tids;
	char **states;
	Datum *results;
	bool *no_result;
	Datum *errors;
	bool *no_error;
	Datum *run_at;
	bool *no_run_at;
	int64 *patience;
	Datum *costs;
	bool *final;
} Columns;

static void
make_columns(Columns *c, Ending *endings, int n)
{
	c->tids = palloc(sizeof(Datum) * n);
	c->states = palloc(sizeof(char *) * n);
	c->results = palloc(sizeof(Datum) * n);
	c->no_result = palloc(sizeof(bool) * n);
	c->errors = palloc(sizeof(Datum) * n);
	c->no_error = palloc(sizeof(bool) * n);
	c->run_at = palloc(sizeof(Datum) * n);
	c->no_run_at = palloc(sizeof(bool) * n);
	c->patience = palloc(sizeof(int64) * n);
	c->costs = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		Ending *e = &endings[i];

		c->tids[i] = PointerGetDatum(&e->tid);
		c->states[i] = (char *) e->state;
		c->no_result[i] = e->result.result == NULL;
		c->results[i] = JsonbPGetDatum(e->result.result);
		c->no_error[i] = e->error == NULL;
		c->errors[i] = JsonbPGetDatum(e->error);
		c->no_run_at[i] = e->run_at == 0;
		c->run_at[i] = TimestampTzGetDatum(e->run_at);
		c->patience[i] = eduai_queue_patience_us(e->priority);
		c->costs[i] = NumericGetDatum(e->outcome->cost_usd);
	}
}

static void
update_rows(Ending *endings, int n, TimestampTz now)
{
	static EduaiPlan update = {
		"UPDATE eduai.task t SET state = e.state, result = e.result, error = e.error, "
		"run_at = coalesce(e.run_at, t.run_at), "
		"deadline = coalesce(e.run_at + e.patience * interval '1 microsecond', t.deadline), "
		"finished_at = CASE WHEN e.run_at IS NULL THEN $8 END, "
		"cost_usd = coalesce(t.cost_usd, 0) + e.cost_usd "
		"FROM unnest($1, $2, $3, $4, $5, $6, $7) "
		"e (tid, state, result, error, run_at, patience, cost_usd) WHERE t.ctid = e.tid",
		8,
		{TIDARRAYOID, TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
		 NUMERICARRAYOID, TIMESTAMPTZOID}};
	Columns c;
	Datum args[8];

	make_columns(&c, endings, n);
	args[0] = eduai_core_datum_array(c.tids, NULL, n, TIDOID);
	args[1] = eduai_core_text_array(c.states, n);
	args[2] = eduai_core_datum_array(c.results, c.no_result, n, JSONBOID);
	args[3] = eduai_core_datum_array(c.errors, c.no_error, n, JSONBOID);
	args[4] = eduai_core_datum_array(c.run_at, c.no_run_at, n, TIMESTAMPTZOID);
	args[5] = eduai_core_int8_array(c.patience, NULL, n);
	args[6] = eduai_core_datum_array(c.costs, NULL, n, NUMERICOID);
	args[7] = TimestampTzGetDatum(now);
	if (eduai_core_run(&update, args, NULL) != (uint64) n)
		elog(ERROR, "locked tasks have moved");
}

void
eduai_queue_write_endings(Ending *endings, int n, TimestampTz now)
{
	EduaiTaskResult *results = palloc(sizeof(EduaiTaskResult) * n);
	char **tenants = palloc(sizeof(char *) * n);
	int64 *ids = palloc(sizeof(int64) * n);
	int ended = 0;

	update_rows(endings, n, now);
	for (int i = 0; i < n; i++)
	{
		EduaiTaskResult *r = &endings[i].result;

		if (endings[i].run_at != 0)
			continue;
		results[ended] = *r;
		tenants[ended] = (char *) r->tenant;
		ids[ended++] = r->task_id;
		eduai_queue_quota_release(r->tenant, 1);
		eduai_queue_board_ended(r->task_id);
		eduai_queue_notify(r->tenant, r->task_id, r->state);
	}
	if (ended == 0)
		return;
	eduai_core_result_record(results, ended);
	eduai_queue_release_children(tenants, ids, ended);
}
