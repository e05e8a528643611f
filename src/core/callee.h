/*
 * callee.h: functions that users give eduai to call later: reducers,
 * upcasters.
 *
 * They are kept by name, not by oid, because of pg_upgrade and dumps, beside
 * the role that gave them, whose rights they run with (eduai_core_enter_role).
 */
#ifndef EDUAI_CORE_CALLEE_H
#define EDUAI_CORE_CALLEE_H

#include "postgres.h"

/*
 * The qualified name of a function that the calling role (GetUserId()) gives:
 * a plain function with these arguments and this result, not in a temporary
 * schema, which no other session sees, that the role may execute.  "what" and
 * "shape" say in the error what it should be: "a reducer", "(jsonb) returns
 * jsonb".  Raises 42883, 42P13, 42501.
 */
extern char *eduai_core_callee_name(Oid function, const Oid *arguments, int n, Oid result,
									const char *what, const char *shape);

#endif
