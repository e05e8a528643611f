/*
 * simulator.h: the provider that the benchmarks' tasks go to (test/provider).
 */
#ifndef BENCH_SIMULATOR_H
#define BENCH_SIMULATOR_H

#include <libpq-fe.h>
#include <stdint.h>

/* SIMULATOR_URL with the path behind it, in a buffer that the next call reuses. */
extern const char *simulator_url(const char *path);

/* Forgets its journal and defaults. */
extern void simulator_reset(void);
/* How it behaves from now on to requests for the model, such as "latency=1". */
extern void simulator_behave(const char *model, const char *behaviour);

/*
 * The arrival, by the wall clock in microseconds, of the first request after
 * journal entry *after; with a nonce, of the first that has it as its user.
 * 0 when there is none yet; else *after becomes its entry.
 */
extern int64_t simulator_arrival(const char *nonce, int64_t *after);
/* Waits for it; fails after so many milliseconds. */
extern int64_t simulator_await(const char *nonce, int64_t *after, int timeout_ms);
/* The latest entry of the journal. */
extern int64_t simulator_last(void);

/* An instance that serves chat with the model, slow answers allowed. */
extern void add_simulated_instance(PGconn *db, const char *name, const char *model, int at_once);

#endif
