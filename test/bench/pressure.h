/*
 * pressure.h: writers and readers that keep to a timetable beside something
 * else, and how long each of them had to wait.
 *
 * A wait counts from the moment when the call was due, so that one that comes
 * late because the one before took long has waited, too.
 */
#ifndef BENCH_PRESSURE_H
#define BENCH_PRESSURE_H

#include <libpq-fe.h>
#include <stdint.h>

typedef struct PressureClient
{
	const char *statement; /* prepared; its one parameter is a key */
	const char *keys;      /* printf format of a key with its number */
	int nkeys;
	double per_second;
} PressureClient;

typedef struct Pressure Pressure;

/* Starts a process for each client. */
extern Pressure *pressure_start(const PressureClient *clients, int n);
/* Ends them; fails when one of them has failed. */
extern void pressure_stop(Pressure *pressure);
extern void pressure_free(Pressure *pressure);

typedef struct Waits
{
	int n;
	double p50_ms;
	double p99_ms;
	double longest_ms;
} Waits;

/* Of the calls of clients first to first + n - 1 that were under way in the time. */
extern Waits
pressure_waits(const Pressure *pressure, int first, int n, int64_t from_us, int64_t until_us);

#endif
