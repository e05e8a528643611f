/*
 * answer.c: the rows of statements that only call eduai's functions, on their
 * way to the client.
 *
 * A third of what a SELECT of a cached value costs is the server's output
 * function for jsonb.  Such a statement's rows are therefore written here, into
 * the same bytes, if the client wants text in the database's encoding and each
 * column is a text or a jsonb.  All others go the server's way.
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
	StringInfoData message; /* of a row; in the statement's memory */
} Writer;

static ExecutorRun_hook_type prev_executor_run = NULL;

/* ---- writing ---- */

static void
begin(DestReceiver *self, int operation, TupleDesc desc)
{
	Writer *writer = (Writer *) self;

	initStringInfo(&writer->message);
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

static bool
put_row(TupleTableSlot *slot, DestReceiver *self)
{
	StringInfo message = &((Writer *) self)->message;
	TupleDesc desc = slot->tts_tupleDescriptor;

	slot_getallattrs(slot);
	pq_beginmessage_reuse(message, 'D');
	pq_sendint16(message, (uint16) desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		if (slot->tts_isnull[i])
			pq_sendint32(message, (uint32) -1);
		else if (TupleDescAttr(desc, i)->atttypid == JSONBOID)
			put_jsonb(message, slot->tts_values[i]);
		else
			put_text(message, slot->tts_values[i]);
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
writes_as(TupleDesc desc, const int16 *formats)
{
	bool jsonb = false;

	for (int i = 0; i < desc->natts; i++)
	{
		Oid type = TupleDescAttr(desc, i)->atttypid;

		if ((type != JSONBOID && type != TEXTOID) || (formats != NULL && formats[i] != 0))
			return false;
		jsonb = jsonb || type == JSONBOID;
	}
	return jsonb;
}

static bool
is_for_us(const QueryDesc *query)
{
	CommandDest kind = query->dest->mydest;

	return query->operation == CMD_SELECT && (kind == DestRemote || kind == DestRemoteExecute) &&
		   ActivePortal != NULL && ActivePortal->queryDesc == query &&
		   writes_as(query->tupDesc, ActivePortal->formats) &&
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
