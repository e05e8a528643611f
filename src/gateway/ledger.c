/*
 * ledger.c: writing the ledger.  See ledger.h.
 *
 * A row per call goes to eduai.provider_call whatever became of the task: an
 * answer that came too late was paid for all the same.  All rows of a turn are
 * one statement, each column an array.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "gateway/ledger.h"
#include "utils/timestamp.h"

typedef enum ColumnKind
{
	COLUMN_TEXT,
	COLUMN_INT4,
	COLUMN_INT8, /* below 0: null */
	COLUMN_NUMERIC,
	COLUMN_TIME
} ColumnKind;

typedef struct Column
{
	ColumnKind kind;
	size_t offset;
} Column;

/* in the order of the statement's parameters */
static const Column columns[] = {
	{COLUMN_TEXT, offsetof(LedgerRow, tenant)},
	{COLUMN_INT8, offsetof(LedgerRow, task_id)},
	{COLUMN_INT4, offsetof(LedgerRow, attempt)},
	{COLUMN_TEXT, offsetof(LedgerRow, instance)},
	{COLUMN_TEXT, offsetof(LedgerRow, provider)},
	{COLUMN_TEXT, offsetof(LedgerRow, task_type)},
	{COLUMN_TEXT, offsetof(LedgerRow, user_id)},
	{COLUMN_TEXT, offsetof(LedgerRow, model)},
	{COLUMN_INT8, offsetof(LedgerRow, tokens_in)},
	{COLUMN_INT8, offsetof(LedgerRow, tokens_cached)},
	{COLUMN_INT8, offsetof(LedgerRow, tokens_cache_write)},
	{COLUMN_INT8, offsetof(LedgerRow, tokens_out)},
	{COLUMN_INT8, offsetof(LedgerRow, tokens_reasoning)},
	{COLUMN_INT8, offsetof(LedgerRow, images)},
	{COLUMN_INT8, offsetof(LedgerRow, audio_ms)},
	{COLUMN_NUMERIC, offsetof(LedgerRow, cost_usd)},
	{COLUMN_NUMERIC, offsetof(LedgerRow, bound_usd)},
	{COLUMN_NUMERIC, offsetof(LedgerRow, counted_usd)},
	{COLUMN_TEXT, offsetof(LedgerRow, outcome)},
	{COLUMN_TEXT, offsetof(LedgerRow, code)},
	{COLUMN_INT4, offsetof(LedgerRow, http_status)},
	{COLUMN_TEXT, offsetof(LedgerRow, request_id)},
	{COLUMN_TIME, offsetof(LedgerRow, started_at)},
	{COLUMN_INT8, offsetof(LedgerRow, duration_us)},
	{COLUMN_INT8, offsetof(LedgerRow, first_byte_us)},
};

static const Oid element_types[] = {TEXTOID, INT4OID, INT8OID, NUMERICOID, TIMESTAMPTZOID};

static Datum
element(const LedgerRow *row, const Column *column, bool *isnull)
{
	const char *at = (const char *) row + column->offset;

	*isnull = false;
	switch (column->kind)
	{
		case COLUMN_INT4:
			return Int32GetDatum(*(const int *) at);
		case COLUMN_INT8:
			*isnull = *(const int64 *) at < 0;
			return Int64GetDatum(*(const int64 *) at);
		case COLUMN_NUMERIC:
			*isnull = *(const Numeric *) at == NULL;
			return NumericGetDatum(*(const Numeric *) at);
		case COLUMN_TIME:
			return TimestampTzGetDatum(*(const TimestampTz *) at);
		case COLUMN_TEXT:
			break;
	}
	elog(ERROR, "a text column of the ledger is no element");
}

static Datum
array_of(const LedgerRow *rows, int n, const Column *column)
{
	char **texts;
	Datum *values;
	bool *nulls;

	if (column->kind == COLUMN_TEXT)
	{
		texts = palloc(sizeof(char *) * n);
		for (int i = 0; i < n; i++)
			texts[i] = *(char *const *) ((const char *) &rows[i] + column->offset);
		return eduai_core_text_array(texts, n);
	}
	values = palloc(sizeof(Datum) * n);
	nulls = palloc(sizeof(bool) * n);
	for (int i = 0; i < n; i++)
		values[i] = element(&rows[i], column, &nulls[i]);
	return eduai_core_datum_array(values, nulls, n, element_types[column->kind]);
}

void
eduai_gateway_ledger_insert(const LedgerRow *rows, int n)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.provider_call (tenant_id, task_id, attempt, instance, provider, "
		"task_type, user_id, model, tokens_in, tokens_cached, tokens_cache_write, tokens_out, "
		"tokens_reasoning, images, audio_ms, cost_usd, bound_usd, counted_usd, outcome, code, "
		"http_status, request_id, started_at, ms, first_byte_ms) "
		"SELECT l.tenant_id, l.task_id, l.attempt, l.instance, "
		"coalesce(l.provider, (SELECT i.provider FROM eduai.instance i WHERE i.name = l.instance)), "
		"coalesce(l.task_type, (SELECT r.task_type FROM eduai.task_request r "
		"WHERE r.tenant_id = l.tenant_id AND r.task_id = l.task_id)), "
		"CASE WHEN l.task_type IS NULL THEN (SELECT r.user_id FROM eduai.task_request r "
		"WHERE r.tenant_id = l.tenant_id AND r.task_id = l.task_id) ELSE l.user_id END, "
		"l.model, l.tokens_in, l.tokens_cached, l.tokens_cache_write, l.tokens_out, "
		"l.tokens_reasoning, l.images, l.audio_ms, l.cost_usd, l.bound_usd, l.counted_usd, "
		"l.outcome, l.code, nullif(l.http_status, 0), l.request_id, l.started_at, "
		"l.duration_us / 1000.0, l.first_byte_us / 1000.0 "
		"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, "
		"$18, $19, $20, $21, $22, $23, $24, $25) "
		"l (tenant_id, task_id, attempt, instance, provider, task_type, user_id, model, "
		"tokens_in, tokens_cached, tokens_cache_write, tokens_out, tokens_reasoning, images, "
		"audio_ms, cost_usd, bound_usd, counted_usd, outcome, code, http_status, request_id, "
		"started_at, duration_us, first_byte_us)",
		lengthof(columns),
		{TEXTARRAYOID,    INT8ARRAYOID,    INT4ARRAYOID,        TEXTARRAYOID, TEXTARRAYOID,
		 TEXTARRAYOID,    TEXTARRAYOID,    TEXTARRAYOID,        INT8ARRAYOID, INT8ARRAYOID,
		 INT8ARRAYOID,    INT8ARRAYOID,    INT8ARRAYOID,        INT8ARRAYOID, INT8ARRAYOID,
		 NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID,     TEXTARRAYOID, TEXTARRAYOID,
		 INT4ARRAYOID,    TEXTARRAYOID,    TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID}};
	Datum args[lengthof(columns)];

	for (size_t i = 0; i < lengthof(columns); i++)
		args[i] = array_of(rows, n, &columns[i]);
	eduai_core_run(&insert, args, NULL);
}
