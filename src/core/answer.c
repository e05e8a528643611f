/*
 * answer.c: the rows of statements that only call eduai's functions, on their
 * way to the client.
 *
 * A third of what a SELECT of a cached value costs is the server's output
 * function for jsonb, and a fifth of what a claimed task of 1 KiB costs.  Such a
 * statement's rows are therefore written here, into the same bytes, if there is
 * jsonb in them and the client wants text in the database's encoding.  All
 * others go the server's way.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/answer.h"
#include "core/compat.h"
#include "core/json_write.h"
#include "core/privilege.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"

typedef struct Writer
{
	DestReceiver receiver;
	DestReceiver *to;       /* what the rows were for: it begins and ends the answer */
	StringInfoData message; /* of a row; in the statement's memory, as all of it */
	FmgrInfo *output;       /* of columns that are neither text nor jsonb, */
	MemoryContext scratch;  /* and what these functions leave behind */
} Writer;

static ExecutorRun_hook_type prev_executor_run = NULL;

/* ---- writing ---- */

static void
begin(DestReceiver *self, int operation, TupleDesc desc)
{
	Writer *writer = (Writer *) self;

	initStringInfo(&writer->message);
	writer->output = palloc(sizeof(FmgrInfo) * desc->natts);
	writer->scratch = NULL;
	for (int i = 0; i < desc->natts; i++)
	{
		Oid type = TupleDescAttr(desc, i)->atttypid;
		Oid function;
		bool varlena;

		if (type == TEXTOID || type == JSONBOID)
			continue;
		getTypeOutputInfo(type, &function, &varlena);
		fmgr_info(function, &writer->output[i]);
		if (writer->scratch == NULL)
			writer->scratch =
				AllocSetContextCreate(CurrentMemoryContext, "eduai answer", ALLOCSET_DEFAULT_SIZES);
	}
	writer->to->rStartup(writer->to, operation, desc);
}

static void
put_text(StringInfo message, Datum value)
{
	text *t = DatumGetTextPP(value);

	pq_sendint32(message, VARSIZE_ANY_EXHDR(t));
	appendBinaryStringInfo(message, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
	if ((Pointer) t != DatumGetPointer(value))
		pfree(t);
}

static void
put_jsonb(StringInfo message, Datum value)
{
	Jsonb *json = DatumGetJsonbP(value);
	int at = message->len;
	uint32 length;

	pq_sendint32(message, 0); /* its place: the length is not known yet */
	eduai_core_json_write(message, &json->root);
	length = pg_hton32((uint32) (message->len - at - 4));
	memcpy(message->data + at, &length, 4);
	if ((Pointer) json != DatumGetPointer(value))
		pfree(json);
}

static void
put_other(const Writer *writer, StringInfo message, int column, Datum value)
{
	MemoryContext old = MemoryContextSwitchTo(writer->scratch);
	char *text = OutputFunctionCall(&writer->output[column], value);
	int length = (int) strlen(text);

	MemoryContextSwitchTo(old);
	pq_sendint32(message, (uint32) length);
	appendBinaryStringInfo(message, text, length);
	MemoryContextReset(writer->scratch);
}

static bool
put_row(TupleTableSlot *slot, DestReceiver *self)
{
	Writer *writer = (Writer *) self;
	StringInfo message = &writer->message;
	TupleDesc desc = slot->tts_tupleDescriptor;

	slot_getallattrs(slot);
	pq_beginmessage_reuse(message, 'D');
	pq_sendint16(message, (uint16) desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		Oid type = TupleDescAttr(desc, i)->atttypid;

		if (slot->tts_isnull[i])
			pq_sendint32(message, (uint32) -1);
		else if (type == JSONBOID)
			put_jsonb(message, slot->tts_values[i]);
		else if (type == TEXTOID)
			put_text(message, slot->tts_values[i]);
		else
			put_other(writer, message, i, slot->tts_values[i]);
	}
	pq_endmessage_reuse(message);
	return true;
}

static void
end(DestReceiver *self)
{
	DestReceiver *to = ((Writer *) self)->to;

	to->rShutdown(to);
}

/* It lies in the statement's memory, and "to" belongs to the portal. */
static void
destroy(DestReceiver *self)
{
}

/* ---- for whom ---- */

/* The function that makes the rows; NULL where there is more to the plan. */
static const FuncExpr *
only_call(const Plan *plan)
{
	const Node *call = NULL;

	if (IsA(plan, Result) && outerPlan(plan) == NULL && list_length(plan->targetlist) == 1)
		call = (Node *) linitial_node(TargetEntry, plan->targetlist)->expr;
	else if (IsA(plan, FunctionScan) && list_length(((FunctionScan *) plan)->functions) == 1)
		call = linitial_node(RangeTblFunction, ((FunctionScan *) plan)->functions)->funcexpr;
	return call != NULL && IsA(call, FuncExpr) ? (const FuncExpr *) call : NULL;
}

static bool
is_ours(const FuncExpr *call)
{
	return call != NULL && get_func_namespace(call->funcid) == get_namespace_oid("eduai", true);
}

static bool
has_jsonb_as_text(TupleDesc desc, const int16 *formats)
{
	bool jsonb = false;

	for (int i = 0; i < desc->natts; i++)
	{
		if (formats != NULL && formats[i] != 0)
			return false;
		jsonb = jsonb || TupleDescAttr(desc, i)->atttypid == JSONBOID;
	}
	return jsonb;
}

static bool
is_for_us(const QueryDesc *query)
{
	CommandDest kind = query->dest->mydest;

	return query->operation == CMD_SELECT && (kind == DestRemote || kind == DestRemoteExecute) &&
		   ActivePortal != NULL && ActivePortal->queryDesc == query &&
		   has_jsonb_as_text(query->tupDesc, ActivePortal->formats) &&
		   pg_get_client_encoding() == GetDatabaseEncoding() &&
		   is_ours(only_call(query->plannedstmt->planTree));
}

static void
run(QueryDesc *query, ScanDirection direction, uint64 count EDUAI_RUN_ONCE_PARAM)
{
	if (prev_executor_run != NULL)
		prev_executor_run(query, direction, count EDUAI_RUN_ONCE);
	else
		standard_ExecutorRun(query, direction, count EDUAI_RUN_ONCE);
}

/* The portal gives each run its receiver: after an error there is nothing to put back. */
static void
on_executor_run(QueryDesc *query, ScanDirection direction, uint64 count EDUAI_RUN_ONCE_PARAM)
{
	DestReceiver *to = query->dest;
	Writer *writer;

	if (!is_for_us(query))
	{
		run(query, direction, count EDUAI_RUN_ONCE);
		return;
	}
	writer = MemoryContextAllocZero(query->estate->es_query_cxt, sizeof(Writer));
	writer->receiver = (DestReceiver){put_row, begin, end, destroy, to->mydest};
	writer->to = to;
	query->dest = &writer->receiver;
	run(query, direction, count EDUAI_RUN_ONCE);
	query->dest = to;
}

void
eduai_core_answer_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = on_executor_run;
}
