/*
 * cohort.h: groups of learners.
 */
#ifndef EDUAI_PROJECTIONS_COHORT_H
#define EDUAI_PROJECTIONS_COHORT_H

#include "postgres.h"
#include "fmgr.h"
#include "utils/array.h"

/* As many learners one call is given, and so one cohort has. */
#define EDUAI_PROJECTIONS_MAX_LEARNERS 10000

/*
 * Raises 2202E unless an array of learners' ids has one dimension, 22023 when
 * it is too long or an id cannot exist, 22004 when one is NULL.
 */
extern void eduai_projections_check_user_ids(ArrayType *user_ids);

/* The first argument, the name of a cohort; raises 22004 or 22023. */
extern char *eduai_projections_cohort_arg(FunctionCallInfo fcinfo);

#endif
