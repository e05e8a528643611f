/*
 * failing.h: which projections cannot be followed or rebuilt, and why, in
 * shared memory: for eduai.projection_status and health().
 *
 * What one reducer cannot fold is parked and no failure: these are errors that
 * stop a follower, such as a role or an upcaster that is gone.
 */
#ifndef EDUAI_PROJECTIONS_FAILING_H
#define EDUAI_PROJECTIONS_FAILING_H

#include "postgres.h"
#include "core/health.h"
#include "datatype/timestamp.h"

#define EDUAI_FAILING_MESSAGE 240

typedef struct EduaiFailing
{
	Oid database; /* InvalidOid: free */
	int projection;
	TimestampTz since;
	TimestampTz last_at;
	int sqlstate;
	char tenant[64]; /* the one it failed for last */
	char message[EDUAI_FAILING_MESSAGE];
} EduaiFailing;

extern void eduai_projections_failing_init(void);

extern void
eduai_projections_failing_note(int projection, const char *tenant, const ErrorData *error);

/* Its followers go on again. */
extern void eduai_projections_failing_over(int projection);

/* A projector starts, and finds out by itself. */
extern void eduai_projections_failing_forget(void);

/* False when it does not fail. */
extern bool eduai_projections_failing_get(int projection, EduaiFailing *failing);

#endif
