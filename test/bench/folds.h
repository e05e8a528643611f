/*
 * folds.h: what the benchmarks of projections share: a log about learners,
 * reducers that count, how far they have come, and who paid for it.
 */
#ifndef BENCH_FOLDS_H
#define BENCH_FOLDS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#define FOLD_TYPE "bench_answer"

/*
 * Three reducers that do the same: count events by type.  They raise on no event.
 */
typedef struct Reducer
{
	const char *name;
	const char *function; /* for create_projection */
	const char *define;   /* NULL: eduai has it, in test mode */
} Reducer;

#define REDUCERS 3
extern const Reducer fold_reducers[REDUCERS]; /* C, PL/pgSQL, SQL */

/* Defines the functions of fold_reducers. */
extern void fold_define_reducers(PGconn *db);

/*
 * Events number "first" to first + n - 1 of the log: append_batch, 1,000 a
 * call; event i is about learner (i * 7919) % learners, so that every learner
 * gets the same number and a batch meets as many learners as it can.  Its data
 * has i % 10 in "field".
 */
extern void
fold_fill(PGconn *db, const char *type, const char *field, int64_t first, int64_t n, int learners);

/* A test-only setting needs a restart of the server; reconnects. */
extern PGconn *fold_test_mode(PGconn *db, bool on);

extern int fold_postmaster(PGconn *db);
/* SIGKILL to the postmaster, a start, a new connection. */
extern PGconn *fold_kill_server(PGconn *db, int postmaster);

/* ---- how far a projection is ---- */

extern int fold_projection_id(PGconn *db, const char *name);
/* Events that the newest generation has folded, and its number. */
extern int64_t fold_events(PGconn *db, int projection, int *generation);
/* Events in the states of the live generation: those that were folded, ever. */
extern int64_t fold_total(PGconn *db, int projection);
extern int fold_live(PGconn *db, int projection);
/* Returns once the projection has nothing left to fold and nothing is being built. */
extern void fold_await(PGconn *db, const char *name);
/* Every projection, eduai's own too. */
extern void fold_await_all(PGconn *db);
/* md5 of all states of the live generation whose key is LIKE keys; malloc'd. */
extern char *fold_digest(PGconn *db, int projection, const char *keys);

/* ---- what it cost ---- */

/*
 * The processor time of the processes that fold: the projector and its
 * helpers, as /proc/PID/schedstat says.  A helper that ends between two looks
 * loses what it used since the first of them: look often.
 */
typedef struct CpuWatch
{
	struct
	{
		int pid;
		int64_t first_ns;
		int64_t last_ns;
	} seen[256];
	int n;
	bool begun;
} CpuWatch;

extern void cpu_watch_look(CpuWatch *watch, PGconn *db);
extern double cpu_watch_seconds(const CpuWatch *watch);
/* How many of them used any. */
extern int cpu_watch_processes(const CpuWatch *watch);
extern int64_t cpu_ns_of(int pid);

#endif
