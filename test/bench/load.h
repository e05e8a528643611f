/*
 * load.h: clients that do one thing for a while, and what it cost the server.
 *
 * A client is a process with a connection of its own.  All of one run open
 * their connections and warm up, start together, and stop after the given
 * time; a client counts what it finished, and its backend's processor time.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <libpq-fe.h>
#include <stdint.h>

typedef struct LoadClient
{
	int number; /* 0 .. clients - 1 */
	int clients;
	PGconn *db;
	uint64_t random; /* see next_random(): the same in every run with the same seed */
	void *state;     /* what open() made */
} LoadClient;

typedef struct Load
{
	const char *dbname; /* NULL: PGDATABASE */
	void (*open)(LoadClient *client);
	/* does one thing and returns what it counts for; 0 when there is nothing left to do */
	int (*step)(LoadClient *client);
	void (*close)(LoadClient *client); /* after the clock has stopped; may be NULL */
	int warm_steps;
	const void *arg;
} Load;

typedef struct LoadResult
{
	double per_second;
	double cpu_us; /* of the backends, per thing counted */
} LoadResult;

/* The load of the client that runs: what open() and step() are told by arg. */
extern const void *load_arg(void);

/* Fails when a client fails. */
extern LoadResult run_load(const Load *load, int clients, double seconds, uint64_t seed);

extern uint64_t next_random(uint64_t *state);
extern void *shared_memory(size_t size);

extern PGconn *connect_to(const char *dbname);
extern void prepare(PGconn *db, const char *name, const char *sql);
/* Runs a prepared statement with text parameters; the caller clears the result. */
extern PGresult *execute(PGconn *db, const char *name, int n, const char *const *values);
extern int has_function(PGconn *db, const char *name);

/* Figures of one kind, one for each round. */
typedef struct Series
{
	const char *what;
	const char *format; /* of one figure, such as "%.0f /s" */
	double *values;
	int n;
} Series;

extern Series new_series(const char *what, const char *format, int rounds);
extern void add_figure(Series *series, double value);
/* Median, least and most on one line. */
extern void print_series(Series *series);
/* The round's quotient of two series that have one figure for each round. */
extern Series quotient(const char *what, const Series *a, const Series *b);

#endif
