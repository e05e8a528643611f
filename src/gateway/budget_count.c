/*
 * budget_count.c: when a budget is new, changed or gone.  See budget_book.h.
 *
 * The dispatcher alone writes the ledger and the sums, so what it adds up of the
 * ledger in its own transaction is exact; only the calls in flight are missing,
 * and get reservations.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/worker.h"
#include "gateway/budget_book.h"
#include "gateway/parents.h"
#include "queue/dependency.h"
#include "queue/due.h"
#include "queue/orphan.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define WAKE_BATCH 1000 /* so that no transaction grows long */

/* ---- sums ---- */

/*
 * The ledger's index is by instance and time: an index by time alone would
 * cost each call, and this is asked once for a budget.
 */
static void
add_up_ledger(const Budget *b)
{
	static EduaiPlan add_up = {
		"WITH RECURSIVE i (name) AS ("
		"(SELECT c.instance FROM eduai.provider_call c WHERE c.instance IS NOT NULL "
		"ORDER BY c.instance LIMIT 1) "
		"UNION ALL SELECT (SELECT c.instance FROM eduai.provider_call c "
		"WHERE c.instance > i.name ORDER BY c.instance LIMIT 1) FROM i WHERE i.name IS NOT NULL) "
		"INSERT INTO eduai.budget_spent (tenant_id, budget_id, user_id, starts_at, usd) "
		"SELECT $1, $2, CASE WHEN $7 THEN c.user_id ELSE '' END, $3, "
		"sum(coalesce(c.counted_usd, c.cost_usd)) "
		"FROM i JOIN eduai.provider_call c ON c.instance = i.name "
		"WHERE c.started_at >= $3 AND c.started_at < $4 AND ($1 = '' OR c.tenant_id = $1) "
		"AND ($5 IS NULL OR c.task_type = $5) "
		"AND CASE WHEN $1 = '' THEN c.provider = $6 WHEN $7 THEN c.user_id <> '' "
		"ELSE $6 IS NULL OR c.user_id = $6 END "
		"GROUP BY 3 HAVING sum(coalesce(c.counted_usd, c.cost_usd)) > 0 "
		"ON CONFLICT (tenant_id, budget_id, user_id, starts_at) DO UPDATE SET usd = excluded.usd",
		7,
		{TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, BOOLOID}};
	Datum args[7];
	char nulls[8] = "       ";

	args[0] = CStringGetTextDatum(b->tenant);
	args[1] = Int64GetDatum(b->budget_id);
	args[2] = TimestampTzGetDatum(b->now.starts_at);
	args[3] = TimestampTzGetDatum(b->now.ends_at);
	args[4] = b->task_type ? CStringGetTextDatum(b->task_type) : (Datum) 0;
	nulls[4] = b->task_type ? ' ' : 'n';
	args[5] = b->name ? CStringGetTextDatum(b->name) : (Datum) 0;
	nulls[5] = b->name ? ' ' : 'n';
	args[6] = BoolGetDatum(b->kind == SCOPE_EACH_USER);
	eduai_core_run(&add_up, args, nulls);
}

void
eduai_gateway_budget_count(const Budget *b, bool anew)
{
	static EduaiPlan upsert = {
		"INSERT INTO eduai.budget_counted (tenant_id, budget_id, revision, per, timezone) "
		"VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, budget_id) DO UPDATE "
		"SET revision = excluded.revision, timezone = excluded.timezone",
		5,
		{TEXTOID, INT8OID, INT8OID, INTERVALOID, TEXTOID}};
	Datum args[5];

	if (anew)
		add_up_ledger(b);
	args[0] = CStringGetTextDatum(b->tenant);
	args[1] = Int64GetDatum(b->budget_id);
	args[2] = Int64GetDatum(b->revision);
	args[3] = IntervalPGetDatum(&b->per);
	args[4] = CStringGetTextDatum(eduai_gateway_budget_timezone_name());
	eduai_core_run(&upsert, args, NULL);
}

void
eduai_gateway_budget_uncount(const BudgetCounted *counted)
{
	static EduaiPlan delete_sums = {
		"DELETE FROM eduai.budget_spent WHERE tenant_id = $1 AND budget_id = $2",
		2,
		{TEXTOID, INT8OID}};
	static EduaiPlan delete_counted = {
		"DELETE FROM eduai.budget_counted WHERE tenant_id = $1 AND budget_id = $2",
		2,
		{TEXTOID, INT8OID}};
	Datum args[2];

	args[0] = CStringGetTextDatum(counted->tenant);
	args[1] = Int64GetDatum(counted->budget_id);
	eduai_core_run(&delete_sums, args, NULL);
	eduai_core_run(&delete_counted, args, NULL);
}

/* The last period stays: the clock may be set back over its end. */
void
eduai_gateway_budget_forget_old(const Budget *budgets, int n)
{
	static EduaiPlan delete = {
		"DELETE FROM eduai.budget_spent s USING unnest($1, $2, $3) o (tenant_id, budget_id, since) "
		"WHERE s.tenant_id = o.tenant_id AND s.budget_id = o.budget_id AND s.starts_at < o.since",
		3,
		{TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID}};
	char **tenants = palloc(sizeof(char *) * Max(n, 1));
	int64 *ids = palloc(sizeof(int64) * Max(n, 1));
	Datum *since = palloc(sizeof(Datum) * Max(n, 1));
	Datum args[3];

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
	{
		tenants[i] = budgets[i].tenant;
		ids[i] = budgets[i].budget_id;
		since[i] = TimestampTzGetDatum(eduai_gateway_budget_period(&budgets[i].per,
																   budgets[i].now.starts_at - 1,
																   eduai_gateway_budget_timezone())
										   .starts_at);
	}
	args[0] = eduai_core_text_array(tenants, n);
	args[1] = eduai_core_int8_array(ids, NULL, n);
	args[2] = eduai_core_datum_array(since, NULL, n, TIMESTAMPTZOID);
	eduai_core_run(&delete, args, NULL);
}

/* ---- tasks that wait ---- */

bool
eduai_gateway_budget_wake(TimestampTz ends_at)
{
	static EduaiPlan wake = {
		"WITH woken AS (SELECT tenant_id, task_id FROM eduai.task_live "
		"WHERE NOT backoff AND due_at = $1 AND state = 'scheduled' "
		"AND error->>'code' = 'budget_exceeded' LIMIT " CppAsString2(
			WAKE_BATCH) " FOR UPDATE SKIP LOCKED) "
						"UPDATE eduai.task_live l SET due_at = $2, run_at = $2 FROM woken w "
						"WHERE l.tenant_id = w.tenant_id AND l.task_id = w.task_id",
		2,
		{TIMESTAMPTZOID, TIMESTAMPTZOID}};
	TimestampTz now = eduai_core_now();
	Datum args[2] = {TimestampTzGetDatum(ends_at), TimestampTzGetDatum(now)};
	uint64 n = eduai_core_run(&wake, args, NULL);

	if (n > 0)
		eduai_queue_due_at(now, false);
	return n == WAKE_BATCH;
}

/* ---- calls in flight ---- */

typedef struct RunningCall
{
	BudgetReservation reservation;
	Jsonb *payload;
	Jsonb *metadata;
	bool has_parents;
} RunningCall;

static const Instance *
find_instance(const Fleet *fleet, const char *name)
{
	for (int i = 0; fleet != NULL && name != NULL && i < fleet->ninstances; i++)
		if (strcmp(fleet->instances[i].name, name) == 0)
			return &fleet->instances[i];
	return NULL;
}

/* What cannot be bounded any more is nothing: only what it reports will count. */
static Numeric
bound_of(const RunningCall *call, const Instance *instance)
{
	const BudgetReservation *r = &call->reservation;
	Jsonb *payload = call->payload;
	Numeric bound = NULL;
	BudgetAudio audio;
	CallOutcome ignored;

	if (call->has_parents)
		payload = eduai_gateway_render_parents(payload,
											   eduai_queue_parents(r->subject.tenant, r->task_id),
											   call->metadata, MaxAllocSize / 2, &ignored);
	if (instance != NULL && payload != NULL)
		bound = eduai_gateway_cost_bound(
			instance, r->subject.task_type, payload,
			eduai_gateway_budget_audio(r->subject.tenant, payload, &audio) ? &audio : NULL, NULL);
	return bound != NULL ? bound : int64_to_numeric(0);
}

static void
read_call(uint64 row, RunningCall *call)
{
	BudgetReservation *r = &call->reservation;
	bool isnull;

	r->subject.tenant = eduai_core_text(row, 1);
	r->task_id = eduai_core_int64(row, 2, 0);
	r->attempt = (int) eduai_core_int64(row, 3, 0);
	r->subject.task_type = eduai_core_text(row, 4);
	r->subject.user_id = eduai_core_text(row, 5);
	r->instance = eduai_core_text(row, 6);
	r->reserved_at = DatumGetTimestampTz(eduai_core_value(row, 7, &isnull));
	call->payload = DatumGetJsonbPCopy(eduai_core_value(row, 8, &isnull));
	call->metadata = DatumGetJsonbPCopy(eduai_core_value(row, 9, &isnull));
	call->has_parents = eduai_core_int64(row, 10, 0) > 0;
	r->hedge = DatumGetBool(eduai_core_value(row, 11, &isnull));
}

static int
read_running(RunningCall **calls)
{
	static EduaiPlan select = {
		"SELECT l.tenant_id, l.task_id, l.attempt, l.task_type, r.user_id, c.instance, "
		"c.started_at, r.payload, r.metadata, coalesce(cardinality(r.depends_on), 0), c.hedge "
		"FROM unnest($1, $2, $3) a (tenant_id, task_id, attempt) "
		"JOIN eduai.task_live l ON l.tenant_id = a.tenant_id AND l.task_id = a.task_id "
		"AND l.attempt = a.attempt "
		"JOIN eduai.task_request r ON r.tenant_id = l.tenant_id AND r.task_id = l.task_id "
		"CROSS JOIN LATERAL (SELECT l.instance, l.started_at, false AS hedge UNION ALL "
		"SELECT h.instance, h.started_at, true FROM eduai.provider_hedge h "
		"WHERE h.tenant_id = l.tenant_id AND h.task_id = l.task_id AND h.attempt = l.attempt) c "
		"WHERE l.state = 'running' AND l.worker = $4 AND NOT EXISTS (SELECT "
		"FROM eduai.budget_reservation b WHERE b.tenant_id = l.tenant_id "
		"AND b.task_id = l.task_id AND b.attempt = l.attempt AND b.hedge = c.hedge)",
		4,
		{TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT8OID}};
	Unleased *running;
	int nrunning = eduai_queue_unleased(&running);
	char **tenants = palloc(sizeof(char *) * Max(nrunning, 1));
	int64 *ids = palloc(sizeof(int64) * Max(nrunning, 1));
	int32 *attempts = palloc(sizeof(int32) * Max(nrunning, 1));
	Datum args[4];
	uint64 n;

	for (int i = 0; i < nrunning; i++)
	{
		tenants[i] = running[i].tenant;
		ids[i] = running[i].task_id;
		attempts[i] = running[i].attempt;
	}
	args[0] = eduai_core_text_array(tenants, nrunning);
	args[1] = eduai_core_int8_array(ids, NULL, nrunning);
	args[2] = eduai_core_int4_array(attempts, NULL, nrunning);
	args[3] = Int64GetDatum(eduai_core_worker_epoch());
	n = eduai_core_run(&select, args, NULL);
	*calls = palloc0(sizeof(RunningCall) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
		read_call(i, &(*calls)[i]);
	return (int) n;
}

void
eduai_gateway_budget_reserve_running(const Fleet *fleet)
{
	RunningCall *calls;
	int n = read_running(&calls);
	BudgetReservation *rows = palloc(sizeof(BudgetReservation) * Max(n, 1));
	int nrows = 0;

	for (int i = 0; i < n; i++)
	{
		BudgetReservation *r = &calls[i].reservation;
		const Instance *instance = find_instance(fleet, r->instance);

		r->subject.provider = instance != NULL ? instance->provider->name : "";
		r->model = instance != NULL ? instance->model : "";
		if (r->instance == NULL)
			r->instance = "";
		if (eduai_gateway_budget_next(&r->subject, false, 0) == 0)
			continue;
		r->bound_usd = bound_of(&calls[i], instance);
		rows[nrows++] = *r;
	}
	if (nrows > 0)
		eduai_gateway_budget_insert(rows, nrows);
}
