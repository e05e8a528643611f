/*
 * insert.c: a checked request becomes a row of eduai.task.  See enqueue.h.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "queue/enqueue.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* the columns that all tasks of one call share, as $1 ... $18 */
#define SHARED_COLUMNS                                                                    \
	"tenant_id, task_type, pool, by_gateway, priority, state, max_attempts, timeout_ms, " \
	"on_uncertain, owner, on_result, unique_key, idempotency_key, enqueued_at, run_at, "  \
	"deadline, expires_at, metadata"
#define SHARED_VALUES \
	"$1, $2, $3, $4, $5::smallint, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18"
#define SHARED_TYPES                                                                               \
	TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT4OID, TEXTOID, INT4OID, INT8OID, TEXTOID, NAMEOID,      \
		TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, \
		JSONBOID
#define NSHARED 18

int64
eduai_queue_next_id(void)
{
	Oid sequence = get_relname_relid("task_id_seq", eduai_core_schema());

	return nextval_internal(sequence, false);
}

static void
put_text(Datum *arg, char *null, const char *text)
{
	*null = text ? ' ' : 'n';
	*arg = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
put_shared(const TaskRequest *t, Datum *args, char *nulls)
{
	memset(nulls, ' ', NSHARED);
	args[0] = CStringGetTextDatum(t->tenant);
	args[1] = CStringGetTextDatum(t->type.name);
	args[2] = CStringGetTextDatum(t->type.pool);
	args[3] = BoolGetDatum(t->type.by_gateway);
	args[4] = Int32GetDatum(t->priority);
	args[5] = CStringGetTextDatum(t->state);
	args[6] = Int32GetDatum(t->max_attempts);
	args[7] = Int64GetDatum(t->timeout_ms);
	args[8] = CStringGetTextDatum(t->type.on_uncertain);
	args[9] = DirectFunctionCall1(namein, CStringGetDatum(t->owner));
	put_text(&args[10], &nulls[10], t->on_result);
	put_text(&args[11], &nulls[11], t->unique_key);
	put_text(&args[12], &nulls[12], t->idempotency_key);
	args[13] = TimestampTzGetDatum(t->now);
	args[14] = TimestampTzGetDatum(t->run_at);
	args[15] = TimestampTzGetDatum(t->run_at + eduai_queue_patience_us(t->priority));
	args[16] = TimestampTzGetDatum(t->expires_at);
	nulls[16] = t->expires_at != 0 ? ' ' : 'n';
	args[17] = JsonbPGetDatum(t->metadata);
}

int64
eduai_queue_insert(const TaskRequest *task)
{
	static EduaiPlan insert = {"INSERT INTO eduai.task (" SHARED_COLUMNS
							   ", task_id, payload, user_id, model) "
							   "VALUES (" SHARED_VALUES ", $19, $20, $21, $22)",
							   22,
							   {SHARED_TYPES, INT8OID, JSONBOID, TEXTOID, TEXTOID}};
	Datum args[22];
	char nulls[22];
	int64 id = eduai_queue_next_id();

	put_shared(task, args, nulls);
	args[18] = Int64GetDatum(id);
	args[19] = JsonbPGetDatum(task->payload);
	nulls[18] = nulls[19] = ' ';
	put_text(&args[20], &nulls[20], task->user_id);
	put_text(&args[21], &nulls[21], eduai_core_json_text(task->payload, "model"));
	eduai_core_run(&insert, args, nulls);
	return id;
}

void
eduai_queue_insert_many(const TaskRequest *task, const int64 *ids, Jsonb *const *payloads,
						char *const *user_ids, int n)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.task (" SHARED_COLUMNS ", task_id, payload, user_id, model) "
		"SELECT " SHARED_VALUES ", r.task_id, r.payload, r.user_id, r.payload->>'model' "
		"FROM unnest($19, $20, $21) r (task_id, payload, user_id)",
		21,
		{SHARED_TYPES, INT8ARRAYOID, JSONBARRAYOID, TEXTARRAYOID}};
	Datum args[21];
	char nulls[21];
	Datum *documents = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		documents[i] = JsonbPGetDatum(payloads[i]);
	put_shared(task, args, nulls);
	args[18] = eduai_core_int8_array(ids, NULL, n);
	args[19] = eduai_core_datum_array(documents, NULL, n, JSONBOID);
	args[20] = eduai_core_text_array(user_ids, n);
	nulls[18] = nulls[19] = nulls[20] = ' ';
	eduai_core_run(&insert, args, nulls);
}
