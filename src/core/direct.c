/*
 * direct.c: see direct.h.
 *
 * Of what a SELECT of a cached value costs beside its look-up, a third is the
 * executor: expressions compiled, slots made and rows carried from one to the next,
 * for a call whose arguments are constants or parameters.  Here the function is called
 * with them and its rows are written into messages.
 *
 * A statement is started before it is known who gets its rows, how many at a time and
 * in which format.  So a start makes what is needed in any case, and a run that is not
 * for a client that wants all rows as text in the database's encoding starts the
 * statement again, in the usual way.
 *
 * Others' hooks see a statement like any other: an EState, a plan state that
 * can be explained, totaltime, es_processed.  Nothing is direct where a library that
 * was loaded before this one has hooks of the executor's, since it would not be called.
 *
 * Caveats.  A function's rows are sent while it runs, as those of a plan are, so that an
 * error may come after rows.  The function's memory is the statement's.
 */
#include "postgres.h"

#include "access/printtup.h"
#include "catalog/objectaccess.h"
#include "core/compat.h"
#include "core/direct.h"
#include "core/direct_plan.h"
#include "core/row_write.h"
#include "core/send.h"
#include "executor/executor.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "pgstat.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"

/* Where the function finds it: nobody else allows this mode. */
#define DIRECT_MODE 0x40000000

/* A column of the answer. */
typedef struct Column
{
	EduaiColumnWriter write;
	int source; /* of what the function puts */
} Column;

struct EduaiRows
{
	ReturnSetInfo info; /* the function's */
	StringInfoData message;
	uint64 put;
	size_t sent;
	int ncolumns;
	Column columns[FLEXIBLE_ARRAY_MEMBER];
};

/* What hooks may look at comes first. */
typedef struct DirectState
{
	union
	{
		PlanState any;
		ResultState result;
		FunctionScanState scan;
	} node;
	DirectPlan plan;
	bool done;
} DirectState;

/* ---- rows ---- */

EduaiRows *
eduai_core_direct_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;

	if (info == NULL || !IsA(info, ReturnSetInfo) || (info->allowedModes & DIRECT_MODE) == 0)
		return NULL;
	return (EduaiRows *) info;
}

void
eduai_core_direct_put(EduaiRows *rows, const Datum *values, const bool *nulls)
{
	StringInfo message = &rows->message;

	pq_beginmessage_reuse(message, 'D');
	pq_sendint16(message, (uint16) rows->ncolumns);
	for (int i = 0; i < rows->ncolumns; i++)
	{
		const Column *column = &rows->columns[i];

		if (nulls[column->source])
			pq_sendint32(message, (uint32) -1);
		else
			column->write(message, values[column->source]);
	}
	eduai_core_send_row(message, rows->sent);
	rows->sent += message->len;
	rows->put++;
}

static EduaiRows *
make_rows(const QueryDesc *query, const DirectPlan *plan)
{
	int n = plan->desc->natts;
	EduaiRows *rows = palloc0(offsetof(EduaiRows, columns) + sizeof(Column) * n);

	rows->info.type = T_ReturnSetInfo;
	rows->info.allowedModes = DIRECT_MODE;
	initStringInfo(&rows->message);
	rows->ncolumns = n;
	for (int i = 0; i < n; i++)
	{
		Oid type = TupleDescAttr(plan->desc, i)->atttypid;
		int source = eduai_core_direct_column(query->plannedstmt, plan, i);

		rows->columns[i] = (Column){eduai_core_column_writer(type), source};
	}
	return rows;
}

static void
put_nulls(EduaiRows *rows, const DirectRows *shape)
{
	bool *nulls = palloc(shape->ncolumns);

	memset(nulls, true, shape->ncolumns);
	eduai_core_direct_put(rows, NULL, nulls);
}

/* ---- the call ---- */

static Datum
invoke(FunctionCallInfo fcinfo)
{
	PgStat_FunctionCallUsage usage;
	Datum value;

	pgstat_init_function_usage(fcinfo, &usage);
	value = FunctionCallInvoke(fcinfo);
	pgstat_end_function_usage(&usage, true);
	return value;
}

static bool
has_null(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < fcinfo->nargs; i++)
	{
		if (fcinfo->args[i].isnull)
			return true;
	}
	return false;
}

static void
call(FunctionCallInfo fcinfo, EduaiRows *rows, const DirectRows *shape)
{
	bool skip = fcinfo->flinfo->fn_strict && has_null(fcinfo);
	Datum value = (Datum) 0;

	CHECK_FOR_INTERRUPTS();
	if (!skip)
		value = invoke(fcinfo);
	if (shape == NULL)
	{
		bool null = skip || fcinfo->isnull;

		eduai_core_direct_put(rows, &value, &null);
	}
	else if (skip && !fcinfo->flinfo->fn_retset)
		put_nulls(rows, shape);
}

/* NULL: the executor knows what is wrong with the arguments. */
static FunctionCallInfo
prepare_call(DirectPlan *plan, ParamListInfo params)
{
	const List *arguments = plan->call->args;
	FunctionCallInfo fcinfo = palloc(SizeForFunctionCallInfo(list_length(arguments)));

	plan->function.fn_mcxt = CurrentMemoryContext;
	fmgr_info_set_expr((Node *) plan->call, &plan->function);
	InitFunctionCallInfoData(*fcinfo, &plan->function, (short) list_length(arguments),
							 plan->call->inputcollid, NULL, NULL);
	for (int i = 0; i < fcinfo->nargs; i++)
	{
		if (!eduai_core_direct_argument(list_nth(arguments, i), params, &fcinfo->args[i]))
			return NULL;
	}
	return fcinfo;
}

/* ---- start ---- */

/* Nobody runs it but eduai_core_direct_run(). */
static TupleTableSlot *
refuse(PlanState *state)
{
	elog(ERROR, "a direct call has no plan to execute");
	return NULL;
}

static DirectState *
direct_state(const QueryDesc *query)
{
	PlanState *state = query->planstate;

	return state != NULL && state->ExecProcNode == refuse ? (DirectState *) state : NULL;
}

/* In PortalStart(), for a portal that only goes forward and that nobody measures. */
static bool
is_starting_portal(const QueryDesc *query, int flags)
{
	Portal portal = ActivePortal;

	return flags == 0 && query->instrument_options == 0 && portal != NULL &&
		   portal->status == PORTAL_DEFINED && portal->strategy == PORTAL_ONE_SELECT &&
		   linitial(portal->stmts) == query->plannedstmt &&
		   (portal->cursorOptions & (CURSOR_OPT_SCROLL | CURSOR_OPT_HOLD)) == 0 &&
		   ExecutorCheckPerms_hook == NULL && needs_fmgr_hook == NULL;
}

static void
check_may_execute(Oid function)
{
	AclResult result = eduai_proc_aclcheck(function, GetUserId());

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(function));
	InvokeFunctionExecuteHook(function);
}

static EState *
make_estate(const QueryDesc *query)
{
	EState *estate = CreateExecutorState();

	estate->es_plannedstmt = query->plannedstmt;
	estate->es_range_table = query->plannedstmt->rtable;
	estate->es_param_list_info = query->params;
	estate->es_sourceText = query->sourceText;
	estate->es_queryEnv = query->queryEnv;
	estate->es_top_eflags = EXEC_FLAG_SKIP_TRIGGERS;
	return estate;
}

bool
eduai_core_direct_start(QueryDesc *query, int flags)
{
	const PlannedStmt *statement = query->plannedstmt;
	DirectPlan plan;
	DirectState *state;

	if (!is_starting_portal(query, flags) || !eduai_core_direct_plan(statement, &plan))
		return false;
	check_may_execute(plan.call->funcid);
	query->estate = make_estate(query);
	query->tupDesc = plan.desc;
	state = MemoryContextAllocZero(query->estate->es_query_cxt, sizeof(DirectState));
	state->node.any.type = plan.rows == NULL ? T_ResultState : T_FunctionScanState;
	state->node.any.plan = statement->planTree;
	state->node.any.state = query->estate;
	state->node.any.ExecProcNode = refuse;
	state->plan = plan;
	query->planstate = &state->node.any;
	return true;
}

/* ---- run ---- */

bool
eduai_core_is_clients(const DestReceiver *receiver)
{
	static bool (*to_client)(TupleTableSlot *, DestReceiver *) = NULL;

	if (unlikely(to_client == NULL))
	{
		DestReceiver *one = CreateDestReceiver(DestRemote);

		to_client = one->receiveSlot;
		one->rDestroy(one);
	}
	return (receiver->mydest == DestRemote || receiver->mydest == DestRemoteExecute) &&
		   receiver->receiveSlot == to_client && pg_get_client_encoding() == GetDatabaseEncoding();
}

static bool
is_text(const QueryDesc *query)
{
	const int16 *formats = ActivePortal->formats;

	for (int i = 0; formats != NULL && i < query->tupDesc->natts; i++)
	{
		if (formats[i] != 0)
			return false;
	}
	return true;
}

static void
run_call(QueryDesc *query, FunctionCallInfo fcinfo, const DirectPlan *plan)
{
	EduaiRows *rows = make_rows(query, plan);

	ereport(DEBUG3, (errmsg_internal("function %u is called directly", plan->call->funcid)));
	/* otherwise the client has the description, and the receiver is not needed */
	if (query->dest->mydest == DestRemote)
		query->dest->rStartup(query->dest, query->operation, query->tupDesc);
	if (plan->rows != NULL)
		fcinfo->resultinfo = (Node *) &rows->info;
	call(fcinfo, rows, plan->rows);
	if (query->dest->mydest == DestRemote)
		query->dest->rShutdown(query->dest);
	eduai_count_processed(query->estate, rows->put);
}

static void
start_again(QueryDesc *query)
{
	/* its memory goes with the portal; whoever measures the statement may have some there */
	query->estate = NULL;
	query->planstate = NULL;
	standard_ExecutorStart(query, 0);
}

static bool
is_direct(const QueryDesc *query, ScanDirection direction, uint64 count)
{
	return ScanDirectionIsForward(direction) && count == 0 && ActivePortal != NULL &&
		   ActivePortal->queryDesc == query && eduai_core_is_clients(query->dest) && is_text(query);
}

/* fcinfo NULL: for a portal that is at its end and asked again. */
static void
run_measured(QueryDesc *query, FunctionCallInfo fcinfo, DirectState *state)
{
	if (query->totaltime)
		InstrStartNode(query->totaltime);
	query->estate->es_processed = 0;
	if (fcinfo != NULL)
	{
		state->done = true;
		run_call(query, fcinfo, &state->plan);
	}
	else
	{
		query->dest->rStartup(query->dest, query->operation, query->tupDesc);
		query->dest->rShutdown(query->dest);
	}
	if (query->totaltime)
		InstrStopNode(query->totaltime, (double) query->estate->es_processed);
}

bool
eduai_core_direct_run(QueryDesc *query, ScanDirection direction, uint64 count)
{
	DirectState *state = direct_state(query);
	FunctionCallInfo fcinfo = NULL;
	MemoryContext old;

	if (state == NULL)
		return false;
	old = MemoryContextSwitchTo(query->estate->es_query_cxt);
	if (!state->done && is_direct(query, direction, count))
		fcinfo = prepare_call(&state->plan, query->params);
	if (fcinfo != NULL || state->done)
		run_measured(query, fcinfo, state);
	MemoryContextSwitchTo(old);
	if (!state->done)
		start_again(query);
	return state->done;
}

void
eduai_core_direct_end(QueryDesc *query)
{
	if (direct_state(query) != NULL)
		query->planstate = NULL;
}
