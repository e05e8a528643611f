/*
 * record.c: the ledger, and the queue told of results.  See record.h.
 *
 * A row per call goes to eduai.provider_call whatever became of the task: an
 * answer that came too late was paid for all the same.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "gateway/record.h"
#include "gateway/route.h"
#include "queue/orphan.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define ORPHAN_BATCH        500
#define HANDLER_PATIENCE_US (60 * INT64CONST(1000000))

/* one row of the ledger */
typedef struct LedgerRow
{
	const char *tenant;
	int64 task_id;
	int attempt;
	const char *instance;
	const char *provider; /* NULL when unknown */
	const char *model;
	int64 tokens_in;
	int64 tokens_cached;
	int64 tokens_out;
	Numeric cost_usd;
	const char *outcome;
	const char *code; /* NULL on success */
	int http_status;
	const char *request_id;
	TimestampTz started_at;
	int64 duration_us;   /* -1: unknown */
	int64 first_byte_us; /* -1: none came */
} LedgerRow;

static Datum
text_column(const LedgerRow *rows, int n, size_t offset)
{
	char **values = palloc(sizeof(char *) * n);

	for (int i = 0; i < n; i++)
		values[i] = *(char **) ((char *) &rows[i] + offset);
	return eduai_core_text_array(values, n);
}

static Datum
int8_column(const LedgerRow *rows, int n, size_t offset)
{
	int64 *values = palloc(sizeof(int64) * n);
	bool *nulls = palloc(sizeof(bool) * n);

	for (int i = 0; i < n; i++)
	{
		values[i] = *(int64 *) ((char *) &rows[i] + offset);
		nulls[i] = values[i] < 0;
	}
	return eduai_core_int8_array(values, nulls, n);
}

static Datum
int4_column(const LedgerRow *rows, int n, size_t offset)
{
	int32 *values = palloc(sizeof(int32) * n);

	for (int i = 0; i < n; i++)
		values[i] = *(int *) ((char *) &rows[i] + offset);
	return eduai_core_int4_array(values, NULL, n);
}

static void
insert_ledger(const LedgerRow *rows, int n)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.provider_call (tenant_id, task_id, attempt, instance, provider, model, "
		"tokens_in, tokens_cached, tokens_out, cost_usd, outcome, code, http_status, request_id, "
		"started_at, ms, first_byte_ms) "
		"SELECT l.tenant_id, l.task_id, l.attempt, l.instance, l.provider, l.model, l.tokens_in, "
		"l.tokens_cached, l.tokens_out, l.cost_usd, l.outcome, l.code, nullif(l.http_status, 0), "
		"l.request_id, l.started_at, l.duration_us / 1000.0, l.first_byte_us / 1000.0 "
		"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) "
		"l (tenant_id, task_id, attempt, instance, provider, model, tokens_in, tokens_cached, "
		"tokens_out, cost_usd, outcome, code, http_status, request_id, started_at, duration_us, "
		"first_byte_us)",
		17,
		{TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
		 INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, NUMERICARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
		 INT4ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID}};
	Datum *costs = palloc(sizeof(Datum) * n);
	Datum *times = palloc(sizeof(Datum) * n);
	Datum args[17];

	for (int i = 0; i < n; i++)
	{
		costs[i] = NumericGetDatum(rows[i].cost_usd);
		times[i] = TimestampTzGetDatum(rows[i].started_at);
	}
	args[0] = text_column(rows, n, offsetof(LedgerRow, tenant));
	args[1] = int8_column(rows, n, offsetof(LedgerRow, task_id));
	args[2] = int4_column(rows, n, offsetof(LedgerRow, attempt));
	args[3] = text_column(rows, n, offsetof(LedgerRow, instance));
	args[4] = text_column(rows, n, offsetof(LedgerRow, provider));
	args[5] = text_column(rows, n, offsetof(LedgerRow, model));
	args[6] = int8_column(rows, n, offsetof(LedgerRow, tokens_in));
	args[7] = int8_column(rows, n, offsetof(LedgerRow, tokens_cached));
	args[8] = int8_column(rows, n, offsetof(LedgerRow, tokens_out));
	args[9] = eduai_core_datum_array(costs, NULL, n, NUMERICOID);
	args[10] = text_column(rows, n, offsetof(LedgerRow, outcome));
	args[11] = text_column(rows, n, offsetof(LedgerRow, code));
	args[12] = int4_column(rows, n, offsetof(LedgerRow, http_status));
	args[13] = text_column(rows, n, offsetof(LedgerRow, request_id));
	args[14] = eduai_core_datum_array(times, NULL, n, TIMESTAMPTZOID);
	args[15] = int8_column(rows, n, offsetof(LedgerRow, duration_us));
	args[16] = int8_column(rows, n, offsetof(LedgerRow, first_byte_us));
	eduai_core_run(&insert, args, NULL);
}

/* what the queue is told; which failures another attempt may mend is decided here */
static void
fill_outcome(const Fleet *fleet, const Flight *f, TaskOutcome *o)
{
	const GatewayCall *call = &f->call;
	const CallOutcome *r = f->outcome;
	bool elsewhere;

	memset(o, 0, sizeof(*o));
	o->tenant = call->tenant;
	o->task_id = call->task_id;
	o->attempt = call->attempt;
	o->tid = f->tid;
	o->instance = call->instance->name;
	o->end = r->verdict == CALL_COMPLETED ? ATTEMPT_COMPLETED : ATTEMPT_FAILED;
	o->code = r->code;
	o->message = r->message;
	o->http_status = r->http_status;
	o->cost_usd = r->cost_usd;
	o->result = r->result;
	o->retry_after_ms = r->retry_after_ms;
	o->patience_over = f->tries > 0 && eduai_core_mono_us() - f->ended_us > HANDLER_PATIENCE_US;
	if (o->end == ATTEMPT_COMPLETED || r->verdict == CALL_FATAL)
		return;
	elsewhere = fleet != NULL && eduai_gateway_route_elsewhere(fleet, call->task_type, f->model,
															   call->tenant, call->instance->name);
	o->retry = r->verdict == CALL_RETRY || elsewhere;
	/* another instance need not wait for what this one wishes */
	o->at_once = elsewhere;
	if (elsewhere)
		o->retry_after_ms = -1;
}

static const char *
ledger_outcome(const Flight *f, FinishStatus status)
{
	if (f->outcome->verdict == CALL_CANCELLED)
		return "cancelled";
	if (status == FINISH_STALE)
		return "refused";
	return f->outcome->verdict == CALL_COMPLETED ? "completed" : "failed";
}

static void
fill_ledger(const Flight *f, FinishStatus status, LedgerRow *row)
{
	const CallOutcome *r = f->outcome;

	row->tenant = f->call.tenant;
	row->task_id = f->call.task_id;
	row->attempt = f->call.attempt;
	row->instance = f->call.instance->name;
	row->provider = f->call.instance->provider->name;
	row->model = r->model ? r->model : f->call.instance->model;
	row->tokens_in = r->tokens_in;
	row->tokens_cached = r->tokens_cached;
	row->tokens_out = r->tokens_out;
	row->cost_usd = r->cost_usd;
	row->outcome = ledger_outcome(f, status);
	row->code = r->verdict == CALL_COMPLETED ? NULL : r->code;
	row->http_status = r->http_status;
	row->request_id = r->request_id;
	row->started_at = f->started_at;
	row->duration_us = r->duration_us;
	row->first_byte_us = r->first_byte_us;
}

void
eduai_gateway_record(const Fleet *fleet, Flight **flights, int n, bool *done)
{
	TaskOutcome *outcomes = palloc(sizeof(TaskOutcome) * n);
	LedgerRow *rows = palloc(sizeof(LedgerRow) * n);
	int nrows = 0;

	for (int i = 0; i < n; i++)
		fill_outcome(fleet, flights[i], &outcomes[i]);
	eduai_queue_finish(outcomes, n, true);
	for (int i = 0; i < n; i++)
	{
		done[i] = outcomes[i].status != FINISH_BUSY;
		flights[i]->tid = outcomes[i].tid; /* it may have moved */
		if (done[i])
			fill_ledger(flights[i], outcomes[i].status, &rows[nrows++]);
	}
	if (nrows > 0)
		insert_ledger(rows, nrows);
}

static void
fill_orphan(const Orphan *orphan, TaskOutcome *o)
{
	memset(o, 0, sizeof(*o));
	o->tenant = orphan->tenant;
	o->task_id = orphan->task_id;
	o->attempt = orphan->attempt;
	o->tid = orphan->tid;
	o->instance = orphan->instance;
	o->at_once = true;
	o->retry_after_ms = -1;
	o->cost_usd = int64_to_numeric(0);
	if (orphan->leased)
	{
		o->end = ATTEMPT_FAILED;
		o->retry = true;
		o->code = "lease_lapsed";
		o->message = "the task was restored while a worker had it";
		return;
	}
	o->end = ATTEMPT_UNCERTAIN;
	o->code = "uncertain";
	o->message = "the dispatcher ended while the provider was being called";
}

static void
fill_orphan_ledger(const Orphan *orphan, LedgerRow *row)
{
	memset(row, 0, sizeof(*row));
	row->tenant = orphan->tenant;
	row->task_id = orphan->task_id;
	row->attempt = orphan->attempt;
	row->instance = orphan->instance;
	row->model = orphan->model;
	row->tokens_in = row->tokens_cached = row->tokens_out = -1;
	row->cost_usd = int64_to_numeric(0);
	row->outcome = "uncertain";
	row->code = "uncertain";
	row->started_at = orphan->started_at;
	row->duration_us = row->first_byte_us = -1;
}

static void
record_all(const Orphan *orphans, int n)
{
	TaskOutcome *outcomes = palloc(sizeof(TaskOutcome) * Max(n, 1));
	LedgerRow *rows = palloc(sizeof(LedgerRow) * Max(n, 1));
	int nrows = 0;

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		fill_orphan(&orphans[i], &outcomes[i]);
	eduai_queue_finish(outcomes, n, true);
	for (int i = 0; i < n; i++)
		if (outcomes[i].status == FINISH_RECORDED && !orphans[i].leased)
			fill_orphan_ledger(&orphans[i], &rows[nrows++]);
	if (nrows > 0)
		insert_ledger(rows, nrows);
}

int
eduai_gateway_record_orphans(void)
{
	Orphan *orphans;
	int n = eduai_queue_orphans(ORPHAN_BATCH, &orphans);

	record_all(orphans, n);
	return n;
}

int
eduai_gateway_record_forgotten(void)
{
	Orphan *orphans;
	int n = eduai_queue_forgotten(ORPHAN_BATCH, &orphans);

	record_all(orphans, n);
	return n;
}
