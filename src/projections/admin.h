/*
 * admin.h: arguments that several of the administrator's functions take.
 */
#ifndef EDUAI_PROJECTIONS_ADMIN_H
#define EDUAI_PROJECTIONS_ADMIN_H

#include "fmgr.h"
#include "projections/catalog.h"

/*
 * The projection that an argument names; of users' ones only, unless "own" is
 * allowed.  Raises 22004, 22023, 42704, 42809.
 */
extern const EduaiProjection *eduai_projections_named(FunctionCallInfo fcinfo, int arg, bool own);

#endif
