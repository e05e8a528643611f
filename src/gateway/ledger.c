/*
 * ledger.c: writing the ledger.  See ledger.h.
 *
 * A row per call goes to eduai.provider_call whatever became of the task: an
 * answer that came too late was paid for all the same.  The rows of a turn go
 * into the heap by the page and into the indexes one by one, without SQL.  Where
 * something is to be looked up, or the table has what only the executor heeds (an
 * administrator's trigger, an index with a predicate), all are one statement, each
 * column an array.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "core/heap.h"
#include "core/plan.h"
#include "executor/tuptable.h"
#include "gateway/ledger.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#define MOST_INDEXES 8

typedef enum ColumnKind
{
	COLUMN_TEXT,
	COLUMN_INT4,
	COLUMN_INT8, /* below 0: null */
	COLUMN_NUMERIC,
	COLUMN_TIME,
	COLUMN_BOOL
} ColumnKind;

/* what becomes of a value on its way into the table */
typedef enum ColumnChange
{
	CHANGE_NONE,
	CHANGE_ZERO_NULL,
	CHANGE_TO_INT4,
	CHANGE_TO_MS /* of microseconds, a double precision */
} ColumnChange;

typedef struct Column
{
	const char *name;
	ColumnKind kind;
	size_t offset;
	ColumnChange change; /* the statement says the same */
} Column;

/* in the order of the statement's parameters */
static const Column columns[] = {
	{"tenant_id", COLUMN_TEXT, offsetof(LedgerRow, tenant), CHANGE_NONE},
	{"task_id", COLUMN_INT8, offsetof(LedgerRow, task_id), CHANGE_NONE},
	{"attempt", COLUMN_INT4, offsetof(LedgerRow, attempt), CHANGE_NONE},
	{"instance", COLUMN_TEXT, offsetof(LedgerRow, instance), CHANGE_NONE},
	{"provider", COLUMN_TEXT, offsetof(LedgerRow, provider), CHANGE_NONE},
	{"task_type", COLUMN_TEXT, offsetof(LedgerRow, task_type), CHANGE_NONE},
	{"user_id", COLUMN_TEXT, offsetof(LedgerRow, user_id), CHANGE_NONE},
	{"model", COLUMN_TEXT, offsetof(LedgerRow, model), CHANGE_NONE},
	{"tokens_in", COLUMN_INT8, offsetof(LedgerRow, tokens_in), CHANGE_NONE},
	{"tokens_cached", COLUMN_INT8, offsetof(LedgerRow, tokens_cached), CHANGE_NONE},
	{"tokens_cache_write", COLUMN_INT8, offsetof(LedgerRow, tokens_cache_write), CHANGE_NONE},
	{"tokens_out", COLUMN_INT8, offsetof(LedgerRow, tokens_out), CHANGE_NONE},
	{"tokens_reasoning", COLUMN_INT8, offsetof(LedgerRow, tokens_reasoning), CHANGE_NONE},
	{"images", COLUMN_INT8, offsetof(LedgerRow, images), CHANGE_TO_INT4},
	{"audio_ms", COLUMN_INT8, offsetof(LedgerRow, audio_ms), CHANGE_NONE},
	{"cost_usd", COLUMN_NUMERIC, offsetof(LedgerRow, cost_usd), CHANGE_NONE},
	{"bound_usd", COLUMN_NUMERIC, offsetof(LedgerRow, bound_usd), CHANGE_NONE},
	{"counted_usd", COLUMN_NUMERIC, offsetof(LedgerRow, counted_usd), CHANGE_NONE},
	{"outcome", COLUMN_TEXT, offsetof(LedgerRow, outcome), CHANGE_NONE},
	{"code", COLUMN_TEXT, offsetof(LedgerRow, code), CHANGE_NONE},
	{"http_status", COLUMN_INT4, offsetof(LedgerRow, http_status), CHANGE_ZERO_NULL},
	{"request_id", COLUMN_TEXT, offsetof(LedgerRow, request_id), CHANGE_NONE},
	{"started_at", COLUMN_TIME, offsetof(LedgerRow, started_at), CHANGE_NONE},
	{"ms", COLUMN_INT8, offsetof(LedgerRow, duration_us), CHANGE_TO_MS},
	{"first_byte_ms", COLUMN_INT8, offsetof(LedgerRow, first_byte_us), CHANGE_TO_MS},
	{"hedge", COLUMN_BOOL, offsetof(LedgerRow, hedge), CHANGE_NONE},
};

static const Oid element_types[] = {TEXTOID, INT4OID, INT8OID, NUMERICOID, TIMESTAMPTZOID, BOOLOID};

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
		case COLUMN_BOOL:
			return BoolGetDatum(*(const bool *) at);
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

static void
insert_by_sql(const LedgerRow *rows, int n)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.provider_call (tenant_id, task_id, attempt, instance, provider, "
		"task_type, user_id, model, tokens_in, tokens_cached, tokens_cache_write, tokens_out, "
		"tokens_reasoning, images, audio_ms, cost_usd, bound_usd, counted_usd, outcome, code, "
		"http_status, request_id, started_at, ms, first_byte_ms, hedge) "
		"SELECT l.tenant_id, l.task_id, l.attempt, l.instance, "
		"coalesce(l.provider, (SELECT i.provider FROM eduai.instance i WHERE i.name = l.instance)), "
		"coalesce(l.task_type, (SELECT r.task_type FROM eduai.task_request r "
		"WHERE r.tenant_id = l.tenant_id AND r.task_id = l.task_id)), "
		"CASE WHEN l.task_type IS NULL THEN (SELECT r.user_id FROM eduai.task_request r "
		"WHERE r.tenant_id = l.tenant_id AND r.task_id = l.task_id) ELSE l.user_id END, "
		"l.model, l.tokens_in, l.tokens_cached, l.tokens_cache_write, l.tokens_out, "
		"l.tokens_reasoning, l.images, l.audio_ms, l.cost_usd, l.bound_usd, l.counted_usd, "
		"l.outcome, l.code, nullif(l.http_status, 0), l.request_id, l.started_at, "
		"l.duration_us / 1000.0, l.first_byte_us / 1000.0, l.hedge "
		"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, "
		"$18, $19, $20, $21, $22, $23, $24, $25, $26) "
		"l (tenant_id, task_id, attempt, instance, provider, task_type, user_id, model, "
		"tokens_in, tokens_cached, tokens_cache_write, tokens_out, tokens_reasoning, images, "
		"audio_ms, cost_usd, bound_usd, counted_usd, outcome, code, http_status, request_id, "
		"started_at, duration_us, first_byte_us, hedge)",
		lengthof(columns),
		{TEXTARRAYOID,    INT8ARRAYOID,    INT4ARRAYOID,        TEXTARRAYOID, TEXTARRAYOID,
		 TEXTARRAYOID,    TEXTARRAYOID,    TEXTARRAYOID,        INT8ARRAYOID, INT8ARRAYOID,
		 INT8ARRAYOID,    INT8ARRAYOID,    INT8ARRAYOID,        INT8ARRAYOID, INT8ARRAYOID,
		 NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID,     TEXTARRAYOID, TEXTARRAYOID,
		 INT4ARRAYOID,    TEXTARRAYOID,    TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
		 BOOLARRAYOID}};
	Datum args[lengthof(columns)];

	for (size_t i = 0; i < lengthof(columns); i++)
		args[i] = array_of(rows, n, &columns[i]);
	eduai_core_run(&insert, args, NULL);
}

/* ---- without SQL ---- */

/* Is all that an insertion must know in the rows, and within the columns' bounds? */
static bool
are_whole(const LedgerRow *rows, int n)
{
	for (int i = 0; i < n; i++)
		if (rows[i].provider == NULL || rows[i].task_type == NULL || rows[i].cost_usd == NULL ||
			rows[i].images > PG_INT32_MAX)
			return false;
	return true;
}

typedef struct Ledger
{
	Relation rel;
	int attributes[lengthof(columns)]; /* where each of the columns is */
	int nindexes;
	Relation indexes[MOST_INDEXES];
	IndexInfo *infos[MOST_INDEXES];
} Ledger;

/* false when the table has other columns than those */
static bool
find_columns(Ledger *ledger)
{
	TupleDesc row = RelationGetDescr(ledger->rel);

	if (row->natts != (int) lengthof(columns))
		return false;
	for (size_t i = 0; i < lengthof(columns); i++)
	{
		int at = 0;

		while (at < row->natts &&
			   (TupleDescAttr(row, at)->attisdropped ||
				strcmp(NameStr(TupleDescAttr(row, at)->attname), columns[i].name) != 0))
			at++;
		if (at == row->natts)
			return false;
		ledger->attributes[i] = at;
	}
	return true;
}

/* false when one of them needs the executor */
static bool
open_indexes(Ledger *ledger)
{
	List *oids = RelationGetIndexList(ledger->rel);
	bool plain = list_length(oids) <= MOST_INDEXES;
	ListCell *cell;

	if (!plain)
		return false;
	foreach (cell, oids)
	{
		Relation index = index_open(lfirst_oid(cell), RowExclusiveLock);
		IndexInfo *info = BuildIndexInfo(index);

		ledger->indexes[ledger->nindexes] = index;
		ledger->infos[ledger->nindexes++] = info;
		plain = plain && info->ii_Expressions == NIL && info->ii_Predicate == NIL &&
				info->ii_ExclusionOps == NULL && info->ii_ReadyForInserts &&
				index->rd_index->indimmediate;
	}
	return plain;
}

/* The table and its indexes; false when it has more than plain columns and indexes. */
static bool
open_ledger(Ledger *ledger)
{
	static EduaiTable table = {"provider_call", "provider_call_pkey"};

	eduai_core_table_find(&table);
	ledger->rel = table_open(table.relid, RowExclusiveLock);
	ledger->nindexes = 0;
	return ledger->rel->trigdesc == NULL && ledger->rel->rd_rel->relkind == RELKIND_RELATION &&
		   find_columns(ledger) && open_indexes(ledger);
}

/* locks are kept to the end of the transaction */
static void
close_ledger(Ledger *ledger)
{
	for (int i = 0; i < ledger->nindexes; i++)
		index_close(ledger->indexes[i], NoLock);
	table_close(ledger->rel, NoLock);
}

static Datum
value_of(const LedgerRow *row, const Column *column, bool *isnull)
{
	const char *text;
	Datum value;

	if (column->kind == COLUMN_TEXT)
	{
		text = *(const char *const *) ((const char *) row + column->offset);
		*isnull = text == NULL;
		return text != NULL ? CStringGetTextDatum(text) : (Datum) 0;
	}
	value = element(row, column, isnull);
	switch (column->change)
	{
		case CHANGE_NONE:
			break;
		case CHANGE_ZERO_NULL:
			*isnull = DatumGetInt32(value) == 0;
			break;
		case CHANGE_TO_INT4:
			return Int32GetDatum((int32) DatumGetInt64(value));
		case CHANGE_TO_MS:
			return Float8GetDatum((double) DatumGetInt64(value) / 1000.0);
	}
	return value;
}

static TupleTableSlot *
make_slot(const Ledger *ledger, const LedgerRow *row)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(ledger->rel), &TTSOpsVirtual);

	for (size_t i = 0; i < lengthof(columns); i++)
	{
		int at = ledger->attributes[i];

		slot->tts_values[at] = value_of(row, &columns[i], &slot->tts_isnull[at]);
	}
	return ExecStoreVirtualTuple(slot);
}

static void
insert_directly(Ledger *ledger, const LedgerRow *rows, int n)
{
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * n);

	for (int i = 0; i < n; i++)
		slots[i] = make_slot(ledger, &rows[i]);
	heap_multi_insert(ledger->rel, slots, n, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < ledger->nindexes; i++)
		for (int k = 0; k < n; k++)
			eduai_core_index_insert(ledger->rel, ledger->indexes[i], ledger->infos[i],
									&slots[k]->tts_tid, slots[k]->tts_values, slots[k]->tts_isnull);
	for (int i = 0; i < n; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	CommandCounterIncrement();
}

void
eduai_gateway_ledger_insert(const LedgerRow *rows, int n)
{
	Ledger ledger;
	bool direct;

	if (n == 0)
		return;
	direct = open_ledger(&ledger) && are_whole(rows, n);
	if (direct)
		insert_directly(&ledger, rows, n);
	close_ledger(&ledger);
	if (!direct)
		insert_by_sql(rows, n);
}
