/*
 * direct.h: statements that are one call of an eduai function, without the
 * executor.
 *
 * A function that returns rows takes part by registering what they look like and
 * by handing them to eduai_core_direct_put() where eduai_core_direct_rows() says so.
 */
#ifndef EDUAI_CORE_DIRECT_H
#define EDUAI_CORE_DIRECT_H

#include "postgres.h"
#include "executor/execdesc.h"
#include "fmgr.h"

/* Where a call's rows go: to the client, as they are put. */
typedef struct EduaiRows EduaiRows;

/*
 * A function whose rows have "ncolumns" columns of "types", which must stay where
 * they are.  At most 16 functions, from _PG_init().
 */
extern void eduai_core_direct_register(PGFunction function, int ncolumns, const Oid *types);

/* NULL: the function was called in the usual way and returns what it returns. */
extern EduaiRows *eduai_core_direct_rows(FunctionCallInfo fcinfo);

/*
 * A row; nothing of it is needed afterwards.  May send and so wait: hold no lock.
 * A function that is no set puts exactly one.  What a function returns that has put
 * its rows does not matter.
 */
extern void eduai_core_direct_put(EduaiRows *rows, const Datum *values, const bool *nulls);

/* ---- for answer.c, whose hooks these are parts of ---- */

/*
 * Starts the statement if it is such a call: its descriptor, and a state that holds
 * what portals and others' hooks look at.  Raises 42501 as the executor does.
 */
extern bool eduai_core_direct_start(QueryDesc *query, int flags);

/*
 * Runs what was so started, if the client wants all of it as text.  Otherwise starts it
 * again in the usual way; false, then and for all others.
 */
extern bool eduai_core_direct_run(QueryDesc *query, ScanDirection direction, uint64 count);

/* Before the executor's own end, which finds nothing but memory then. */
extern void eduai_core_direct_end(QueryDesc *query);

/* Are this receiver's rows written as text to this process's client? */
extern bool eduai_core_is_clients(const DestReceiver *receiver);

#endif
