/*
 * factor.h: the factors of adaptive tiers, in shared memory.
 *
 * A place for each (database, tenant or none, tier, request type) that is
 * adaptive; 256 of them, kept until the server stops.  A tier that finds none
 * has its configured limit, and health() says so.  What decides reads the
 * factor without a lock, and looks for the end of the period under it.
 */
#ifndef EDUAI_RATELIMIT_FACTOR_H
#define EDUAI_RATELIMIT_FACTOR_H

#include "ratelimit/adaptive.h"

extern void eduai_ratelimit_factor_init(void);

/* The place of a tier, made at need; -1: there is none left, or no preload. */
extern int eduai_ratelimit_factor_place(const char *tenant, const char *tier, const char *type);

/* Between the floor and 1; 1 for place -1.  Takes the factors' lock now and then. */
extern double eduai_ratelimit_factor(int place);

/* An outcome for the tier of that place; latency_us < 0: unknown. */
extern void eduai_ratelimit_factor_report(int place, bool ok, int64 latency_us);

/*
 * The same for the tier of that name by which the tenant's calls of the type
 * are limited: its own or the common one, of the type or "*".  Nothing where
 * there is none, where it is not adaptive, or where no session of the server
 * has used the limiter since the tier was defined.
 */
extern void
eduai_ratelimit_factor_outcome(const char *tenant, const char *tier, const char *type, bool ok);

/* How many tiers have found no place since the start. */
extern int64 eduai_ratelimit_factor_refused(void);

#endif
