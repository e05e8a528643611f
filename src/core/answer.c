/*
 * answer.c: the rows of statements that only call eduai's functions, on their
 * way to the client.
 *
 * A third of what a SELECT of a cached value costs is the server's output
 * function for jsonb, and a fifth of what a claimed task of 1 KiB costs.  Such a
 * statement's rows are therefore written here, into the same bytes, if there is
 * jsonb in them and the client wants text in the database's encoding.  All
 * others go the server's way.
 *
 * Those that are nothing but a call of a function that is known to be fit do not
 * even meet the executor (core/direct.h).
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/answer.h"
#include "core/compat.h"
#include "core/direct.h"
#include "core/direct_plan.h"
#include "core/row_write.h"
#include "core/send.h"
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
	DestReceiver *to;         /* what the rows were for: it begins and ends the answer */
	StringInfoData message;   /* of a row; in the statement's memory, as all of it */
	size_t sent;              /* bytes of rows */
	EduaiColumnWriter *write; /* of each column; for those that have none */
	FmgrInfo *output;         /* the output function, */
	MemoryContext scratch;    /* and what these functions leave behind */
} Writer;

static ExecutorStart_hook_type prev_executor_start = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;
static ExecutorEnd_hook_type prev_executor_end = NULL;
static bool alone = false; /* no hooks that would have to be called */

/* ---- writing ---- */

static void
begin(DestReceiver *self, int operation, TupleDesc desc)
{
	Writer *writer = (Writer *) self;

	initStringInfo(&writer->message);
	writer->write = palloc(sizeof(EduaiColumnWriter) * desc->natts);
	writer->output = palloc(sizeof(FmgrInfo) * desc->natts);
	writer->scratch = NULL;
	for (int i = 0; i < desc->natts; i++)
	{
		Oid type = TupleDescAttr(desc, i)->atttypid;
		Oid function;
		bool varlena;

		writer->write[i] = eduai_core_column_writer(type);
		if (writer->write[i] != NULL)
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
		if (slot->tts_isnull[i])
			pq_sendint32(message, (uint32) -1);
		else if (writer->write[i] != NULL)
			writer->write[i](message, slot->tts_values[i]);
		else
			put_other(writer, message, i, slot->tts_values[i]);
	}
	eduai_core_send_row(message, writer->sent);
	writer->sent += message->len;
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
	return query->operation == CMD_SELECT && eduai_core_is_clients(query->dest) &&
		   ActivePortal != NULL && ActivePortal->queryDesc == query &&
		   has_jsonb_as_text(query->tupDesc, ActivePortal->formats) &&
		   is_ours(only_call(query->plannedstmt->planTree));
}

/* ---- hooks ---- */

static void
on_executor_start(QueryDesc *query, int flags)
{
	if (alone && eduai_core_direct_start(query, flags))
		return;
	if (prev_executor_start != NULL)
		prev_executor_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static void
on_executor_end(QueryDesc *query)
{
	eduai_core_direct_end(query);
	if (prev_executor_end != NULL)
		prev_executor_end(query);
	else
		standard_ExecutorEnd(query);
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

	if (eduai_core_direct_run(query, direction, count))
		return;
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
	eduai_core_direct_plan_init();
	alone = ExecutorStart_hook == NULL && ExecutorRun_hook == NULL && ExecutorFinish_hook == NULL &&
			ExecutorEnd_hook == NULL;
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = on_executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = on_executor_run;
	prev_executor_end = ExecutorEnd_hook;
	ExecutorEnd_hook = on_executor_end;
}
