/*
 * worker_shared.h: what the launcher, the workers and their callers share.
 * Private to core/worker*.c and core/launcher.c.
 *
 * A database keeps its slot until it is dropped and the slot is wanted by
 * another; only the launcher makes and frees slots.  The lock guards name, oid, state, pid, proc, stopped, helpers and the
 * like; the counters and requests are atomics.  proc is read without the lock
 * in commit callbacks: a latch set for nothing is harmless.
 */
#ifndef EDUAI_CORE_WORKER_SHARED_H
#define EDUAI_CORE_WORKER_SHARED_H

#include "core/shmem.h"
#include "core/worker.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"

#define EDUAI_MAX_DATABASES 64
#define EDUAI_NO_PROC       (-1)

typedef enum WorkerState
{
	WORKER_NONE,
	WORKER_STARTING, /* the launcher registered it */
	WORKER_RUNNING
} WorkerState;

typedef struct WorkerSlot
{
	WorkerState state;
	pid_t pid;
	volatile int proc; /* of allProcs, or EDUAI_NO_PROC */
	int64 epoch;
	TimestampTz started_at;
	pg_atomic_uint32 requests; /* wake requests so far */
	pg_atomic_uint64 latch_wakes;
	pg_atomic_uint64 fd_wakes;
	pg_atomic_uint64 timeout_wakes;
} WorkerSlot;

typedef struct DatabaseSlot
{
	Oid oid;      /* InvalidOid: free */
	bool stopped; /* by stop_workers() */
	int helpers;  /* processes that help the workers */
	/*
	 * A database without the extension (or with another version) is absent:
	 * absent_mark is then installs + 1.  CREATE EXTENSION raises installs, so
	 * a worker that looked too early cannot undo it.
	 */
	pg_atomic_uint32 installs;
	pg_atomic_uint32 absent_mark;
	pg_atomic_uint32 changes; /* of the configuration, so far */
	ConditionVariable left;   /* a worker ended */
	WorkerSlot workers[EDUAI_WORKER_KINDS];
} DatabaseSlot;

typedef struct WorkerShared
{
	volatile int launcher_proc;
	DatabaseSlot databases[EDUAI_MAX_DATABASES];
} WorkerShared;

extern WorkerShared *eduai_core_worker_shared;
extern LWLockPadded *eduai_core_worker_lock;

extern const EduaiWorkerKind *eduai_core_worker_kind(int index);
extern int eduai_core_worker_kinds(void);
extern char *eduai_core_worker_databases(void);

/* Does eduai.database name it? */
extern bool eduai_core_worker_serves(const char *database);

/* The slot of a database; NULL when it has none.  The caller holds the lock, or needs no more than a hint. */
extern DatabaseSlot *eduai_core_worker_database(Oid oid);

static inline bool
eduai_core_worker_absent(DatabaseSlot *db)
{
	return pg_atomic_read_u32(&db->absent_mark) == pg_atomic_read_u32(&db->installs) + 1;
}

/* Sets the latch of a process found in allProcs; safe in commit callbacks. */
extern void eduai_core_worker_set_latch(int proc);

extern PGDLLEXPORT void eduai_core_launcher_main(Datum arg);
extern PGDLLEXPORT void eduai_core_worker_main(Datum arg);

#endif
