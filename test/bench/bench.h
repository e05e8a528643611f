/*
 * bench.h: what the benchmarks share: a connection, a clock, HTTP requests to
 * the simulator, medians and percentiles.
 */
#ifndef BENCH_H
#define BENCH_H

#include <libpq-fe.h>
#include <stddef.h>
#include <stdint.h>

/* Prints to stderr and exits with 1. */
extern void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

extern const char *required_env(const char *name);
extern int env_int(const char *name, int otherwise);

extern int64_t wall_us(void);

extern PGconn *connect_db(void);
extern void run(PGconn *db, const char *sql);
/* The first column of the first row; malloc'd. */
extern char *ask(PGconn *db, const char *sql);
extern int64_t ask_int(PGconn *db, const char *sql);

/* POST (body) or GET (NULL) on a kept connection; the answer's body, malloc'd. */
extern char *http(const char *url, const char *body);

extern double percentile(double *values, int n, double share); /* sorts */
extern double median(double *values, int n);

#endif
