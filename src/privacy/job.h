/*
 * job.h: long work in short transactions, done by a process of its own while
 * the caller waits.
 *
 * A job is a step that is called again and again, each time in a transaction of
 * its own: what a step did is done, whatever becomes of the caller, of the
 * process or of the server.  The same job of the same tenant runs once at a
 * time.  Where no process can be started (no preload, no free slot) the steps
 * run in the caller's transaction.
 *
 * A step is called as the extension's owner inside SPI, with a snapshot.
 */
#ifndef EDUAI_PRIVACY_JOB_H
#define EDUAI_PRIVACY_JOB_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "fmgr.h"

typedef struct EduaiJobCall
{
	char job[32];
	char tenant[64];    /* empty: of no tenant */
	char argument[32];  /* the job's own */
	TimestampTz before; /* what is older */
	int64 limit_ms;     /* no further step begins later; 0: until the work is done */
} EduaiJobCall;

typedef struct EduaiJobResult
{
	int64 rows;
	bool complete; /* there was no more to do */
	bool busy;     /* it runs already */
	int sqlstate;  /* of the error that ended it, else 0 */
	char error[200];
} EduaiJobResult;

typedef struct EduaiJob
{
	const char *name;
	/* does some of it, adds to *rows; false when there is no more */
	bool (*step)(const EduaiJobCall *call, int64 *rows);
	/* NULL or what follows once there is no more, outside of the last step's transaction */
	void (*end)(const EduaiJobCall *call);
} EduaiJob;

/* "job" is static; from the init functions only. */
extern void eduai_privacy_job_register(const EduaiJob *job);

/*
 * Runs it and waits for its end; does not raise for the job's own errors.  With
 * "commits" the caller's transaction is committed first, and no snapshot is held
 * meanwhile, which would keep dead rows from being pruned all the time.
 */
extern void eduai_privacy_job_run(const EduaiJobCall *call, bool commits, EduaiJobResult *result);

/* Whether a function may commit: it is a procedure, called outside of a transaction block. */
extern bool eduai_privacy_job_may_commit(FunctionCallInfo fcinfo);

/* Raises the error that ended a job. */
extern void eduai_privacy_job_raise(const EduaiJobResult *result);

extern void eduai_privacy_job_init(void);

/* The process; the postmaster calls it by its name. */
extern PGDLLEXPORT void eduai_privacy_job_main(Datum argument);

#endif
