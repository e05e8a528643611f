/*
 * tenants.h: the tenants that have events.
 */
#ifndef EDUAI_PROJECTIONS_TENANTS_H
#define EDUAI_PROJECTIONS_TENANTS_H

#include "postgres.h"

/*
 * Those that the latest snapshot shows, in the current context, a few index
 * probes for each.  In a transaction; switches to the owner by itself.
 */
extern char **eduai_projections_tenants(int *n);

#endif
