/*
 * direct_plan.h: which plans direct.c runs.
 */
#ifndef EDUAI_CORE_DIRECT_PLAN_H
#define EDUAI_CORE_DIRECT_PLAN_H

#include "postgres.h"
#include "access/tupdesc.h"
#include "fmgr.h"
#include "nodes/plannodes.h"

/* What a function that hands over its rows said of them (direct.h). */
typedef struct DirectRows
{
	PGFunction function;
	int ncolumns;
	const Oid *types;
} DirectRows;

/* A plan that is one call. */
typedef struct DirectPlan
{
	const FuncExpr *call;
	const DirectRows *rows; /* NULL: it returns a value */
	FmgrInfo function;      /* without memory of its own and expression */
	TupleDesc desc;         /* a copy, in the caller's context */
} DirectPlan;

/* Fills "direct"; false for all other plans. */
extern bool eduai_core_direct_plan(const PlannedStmt *statement, DirectPlan *direct);

/* The number of the function's column, from 0, that is the answer's "n"th. */
extern int eduai_core_direct_column(const PlannedStmt *statement, const DirectPlan *direct, int n);

/*
 * The value of an argument of such a call; false: the executor knows what is wrong
 * with it.
 */
extern bool
eduai_core_direct_argument(const Node *argument, ParamListInfo params, NullableDatum *value);

extern void eduai_core_direct_plan_init(void);

#endif
