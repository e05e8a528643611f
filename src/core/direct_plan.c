/*
 * direct_plan.c: see direct_plan.h.
 *
 * What is known of functions is kept by their oid and forgotten with any change of
 * pg_proc; what a plan looks like is looked at each time, which costs less than to
 * be sure that it is the plan of last time.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "core/direct.h"
#include "core/direct_plan.h"
#include "core/privilege.h"
#include "core/row_write.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define KNOWN          64 /* functions remembered, in places by oid */
#define MOST_FUNCTIONS 16

typedef struct KnownFunction
{
	Oid oid;
	bool fit;
	const DirectRows *rows;
	FmgrInfo function;
	TupleDesc desc; /* of the answer it last made; in TopMemoryContext */
} KnownFunction;

static DirectRows registered[MOST_FUNCTIONS];
static int nregistered = 0;

static KnownFunction known[KNOWN];
static bool outdated = true;

/* ---- functions ---- */

void
eduai_core_direct_register(PGFunction function, int ncolumns, const Oid *types)
{
	if (nregistered == MOST_FUNCTIONS)
		elog(ERROR, "too many functions that hand over rows");
	registered[nregistered++] = (DirectRows){function, ncolumns, types};
}

static const DirectRows *
find_registered(PGFunction function)
{
	for (int i = 0; i < nregistered; i++)
	{
		if (registered[i].function == function)
			return &registered[i];
	}
	return NULL;
}

static void
on_proc(Datum arg, int cache, uint32 hash)
{
	outdated = true;
}

/* A C function in the extension's schema that is called as it is. */
static bool
is_ours(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool ours;

	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	ours = proc->pronamespace == get_namespace_oid("eduai", true) && proc->prolang == ClanguageId &&
		   proc->prokind == PROKIND_FUNCTION && !proc->prosecdef &&
		   heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL);
	ReleaseSysCache(tuple);
	return ours;
}

static void
learn(KnownFunction *place, Oid function)
{
	place->oid = InvalidOid;
	place->fit = is_ours(function);
	if (place->fit)
	{
		fmgr_info_cxt(function, &place->function, TopMemoryContext);
		place->rows = find_registered(place->function.fn_addr);
	}
	place->oid = function;
}

static KnownFunction *
find_function(Oid function)
{
	KnownFunction *place = &known[function % KNOWN];

	if (unlikely(outdated))
	{
		for (int i = 0; i < KNOWN; i++)
			known[i].oid = InvalidOid;
		outdated = false;
	}
	if (unlikely(place->oid != function))
		learn(place, function);
	return place->fit ? place : NULL;
}

/* ---- the answer's descriptor ---- */

static bool
same_column(const FormData_pg_attribute *column, const TargetEntry *entry)
{
	const Var *var = (const Var *) entry->expr;
	const char *name = entry->resname != NULL ? entry->resname : "";

	if (strcmp(NameStr(column->attname), name) != 0)
		return false;
	if (IsA(var, Var))
		return column->atttypid == var->vartype && column->atttypmod == var->vartypmod &&
			   column->attcollation == var->varcollid;
	return column->atttypid == exprType((const Node *) var) &&
		   column->atttypmod == exprTypmod((const Node *) var) &&
		   column->attcollation == exprCollation((const Node *) var);
}

static bool
same_columns(TupleDesc desc, const List *targets)
{
	if (desc == NULL || desc->natts != list_length(targets))
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		if (!same_column(TupleDescAttr(desc, i), list_nth_node(TargetEntry, targets, i)))
			return false;
	}
	return true;
}

/* A look-up of each column's type costs more than the comparison with those of last time. */
static TupleDesc
make_desc(KnownFunction *function, List *targets)
{
	if (!same_columns(function->desc, targets))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		TupleDesc before = function->desc;

		function->desc = NULL;
		if (before != NULL)
			FreeTupleDesc(before);
		function->desc = ExecTypeFromTL(targets);
		MemoryContextSwitchTo(old);
	}
	return CreateTupleDescCopy(function->desc);
}

/* ---- plans ---- */

static bool
reads_no_table(const PlannedStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->rtable)
	{
		RTEKind kind = lfirst_node(RangeTblEntry, cell)->rtekind;

		if (kind != RTE_FUNCTION && kind != RTE_RESULT)
			return false;
	}
	return true;
}

static bool
is_plain(const PlannedStmt *statement)
{
	const Plan *plan = statement->planTree;

	return statement->commandType == CMD_SELECT && !statement->hasModifyingCTE &&
		   !statement->hasReturning && !statement->parallelModeNeeded &&
		   statement->subplans == NIL && statement->rowMarks == NIL &&
		   statement->paramExecTypes == NIL && plan->qual == NIL && plan->initPlan == NIL &&
		   outerPlan(plan) == NULL && innerPlan(plan) == NULL && reads_no_table(statement);
}

static const Node *
strip(const Node *expression)
{
	while (IsA(expression, RelabelType))
		expression = (const Node *) ((const RelabelType *) expression)->arg;
	return expression;
}

static bool
has_simple_arguments(const FuncExpr *call)
{
	ListCell *cell;

	foreach (cell, call->args)
	{
		const Node *argument = strip(lfirst(cell));

		if (!IsA(argument, Const) &&
			!(IsA(argument, Param) && ((const Param *) argument)->paramkind == PARAM_EXTERN))
			return false;
	}
	return list_length(call->args) <= FUNC_MAX_ARGS;
}

/* A value: a call of a function that is no set, of a type that is known how to write. */
static const FuncExpr *
value_call(const Plan *plan)
{
	const TargetEntry *entry;

	if (!IsA(plan, Result) || ((const Result *) plan)->resconstantqual != NULL ||
		list_length(plan->targetlist) != 1)
		return NULL;
	entry = linitial_node(TargetEntry, plan->targetlist);
	if (entry->resjunk || !IsA(entry->expr, FuncExpr) ||
		eduai_core_column_writer(((const FuncExpr *) entry->expr)->funcresulttype) == NULL)
		return NULL;
	return (const FuncExpr *) entry->expr;
}

static const FuncExpr *
rows_call(const Plan *plan)
{
	const FunctionScan *scan = (const FunctionScan *) plan;
	const RangeTblFunction *function;

	if (!IsA(plan, FunctionScan) || list_length(scan->functions) != 1)
		return NULL;
	function = linitial_node(RangeTblFunction, scan->functions);
	if (function->funccolnames != NIL || !IsA(function->funcexpr, FuncExpr))
		return NULL;
	return (const FuncExpr *) function->funcexpr;
}

/* A number of the row, if it has one, is no column of the function's. */
static bool
shows_columns(const FunctionScan *scan, const DirectRows *rows)
{
	ListCell *cell;

	if (rows == NULL ||
		linitial_node(RangeTblFunction, scan->functions)->funccolcount != rows->ncolumns)
		return false;
	foreach (cell, scan->scan.plan.targetlist)
	{
		const TargetEntry *entry = lfirst_node(TargetEntry, cell);
		const Var *var = (const Var *) entry->expr;

		if (entry->resjunk || !IsA(var, Var) || var->varattno < 1 ||
			var->varattno > rows->ncolumns || var->vartype != rows->types[var->varattno - 1])
			return false;
	}
	return scan->scan.plan.targetlist != NIL;
}

bool
eduai_core_direct_plan(const PlannedStmt *statement, DirectPlan *direct)
{
	Plan *plan = statement->planTree;
	const FuncExpr *value = value_call(plan);
	const FuncExpr *call = value != NULL ? value : rows_call(plan);
	KnownFunction *function;

	if (call == NULL || !is_plain(statement) || !has_simple_arguments(call))
		return false;
	function = find_function(call->funcid);
	if (function == NULL || call->funcretset != function->function.fn_retset)
		return false;
	if (value != NULL ? call->funcretset : !shows_columns((FunctionScan *) plan, function->rows))
		return false;
	direct->call = call;
	direct->rows = value != NULL ? NULL : function->rows;
	direct->function = function->function;
	direct->desc = make_desc(function, plan->targetlist);
	return true;
}

int
eduai_core_direct_column(const PlannedStmt *statement, const DirectPlan *direct, int n)
{
	const TargetEntry *entry = list_nth_node(TargetEntry, statement->planTree->targetlist, n);

	return direct->rows == NULL ? 0 : castNode(Var, entry->expr)->varattno - 1;
}

bool
eduai_core_direct_argument(const Node *argument, ParamListInfo params, NullableDatum *value)
{
	const Node *node = strip(argument);
	const Param *param = (const Param *) node;
	ParamExternData room;
	const ParamExternData *given;

	if (IsA(node, Const))
	{
		value->value = ((const Const *) node)->constvalue;
		value->isnull = ((const Const *) node)->constisnull;
		return true;
	}
	if (params == NULL || param->paramid <= 0 || param->paramid > params->numParams)
		return false;
	if (params->paramFetch != NULL)
		given = params->paramFetch(params, param->paramid, false, &room);
	else
		given = &params->params[param->paramid - 1];
	value->value = given->value;
	value->isnull = given->isnull;
	return given->ptype == param->paramtype;
}

void
eduai_core_direct_plan_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, on_proc, (Datum) 0);
}
