/*
 * cache.c: looks for stale values.
 *
 * Sessions write, read and cache at random, under the three isolation levels,
 * with savepoints, rollbacks, TRUNCATE, COPY, rows written to partitions,
 * cascades, prepared transactions and statistics switched off; somebody ends
 * sessions and holds others between the steps of a commit or of a computation.
 * Every read compares, in one statement, what the cache says with what the
 * table says.  One difference ends the run with 1.
 *
 *   SOAK_SECONDS=20 CLIENTS=8 SEED=7 bin/cache
 *   READS=10000000    stop after so many checked reads instead
 *   CACHE_KILL=1      also kills (SIGKILL) a session now and then: the server restarts
 *   CACHE_ASIDE=PORT  reads and invalidates through a Redis there, as applications
 *                     do, instead of eduai: the same checks, which then find stale values
 *
 * It prints the reads, how many were hits, and what it did.
 */
#include "cache.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHAOS 64 /* the number of the session that disturbs the others */

atomic_bool stopping;
Counts counts;
int aside_port;
static uint64_t seed;
static bool kills;
static bool pauses;

static const char *const schema[] = {
	"DROP SCHEMA IF EXISTS stale CASCADE",
	"CREATE SCHEMA stale",
	"CREATE TABLE stale.plain (id bigserial PRIMARY KEY, s int, v int)",
	"CREATE TABLE stale.loose (id bigserial PRIMARY KEY, s int, v int)",
	"CREATE TABLE stale.part (id bigserial, s int, v int) PARTITION BY RANGE (s)",
	"CREATE TABLE stale.part_a PARTITION OF stale.part FOR VALUES FROM (0) TO (8)",
	"CREATE TABLE stale.part_b PARTITION OF stale.part FOR VALUES FROM (8) TO (16)",
	"CREATE TABLE stale.parent (s int PRIMARY KEY, v int)",
	"CREATE TABLE stale.child (s int REFERENCES stale.parent ON DELETE CASCADE, v int)",
	"CREATE VIEW stale.both AS SELECT p.s, p.v, c.v AS w FROM stale.parent p LEFT JOIN stale.child c USING (s)",
	"CREATE INDEX ON stale.plain (s)",
	"INSERT INTO stale.plain (s, v) SELECT i % 16, i FROM generate_series(0, 63) i",
	"INSERT INTO stale.loose (s, v) SELECT i % 16, i FROM generate_series(0, 63) i",
	"INSERT INTO stale.part (s, v) SELECT i % 16, i FROM generate_series(0, 63) i",
	"INSERT INTO stale.parent SELECT i, i FROM generate_series(0, 15) i",
	"INSERT INTO stale.child SELECT i % 16, i FROM generate_series(0, 31) i",
	"SELECT eduai.cache_watch('stale.plain', ARRAY['plain:{s}'])",
	"SELECT eduai.cache_watch('stale.part', ARRAY['part:{s}'])",
	NULL};

static double
now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

void
nap_ms(int ms)
{
	usleep(ms * 1000);
}

uint32_t
random_below(Session *s, uint32_t n)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return (s->random >> 16) % n;
}

bool
random_chance(Session *s, int percent)
{
	return (int) random_below(s, 100) < percent;
}

void
fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nseed %llu\n", (unsigned long long) seed);
	_exit(1);
}

static void
notice(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

bool
session_open(Session *s)
{
	for (double until = now_s() + 60; now_s() < until; nap_ms(20))
	{
		if (s->conn != NULL)
			PQfinish(s->conn);
		s->conn = PQconnectdb("");
		if (PQstatus(s->conn) == CONNECTION_OK)
		{
			PQsetNoticeReceiver(s->conn, notice, NULL);
			PQclear(PQexec(s->conn, s->number < CHAOS ? "SET application_name = 'stale'"
													  : "SET application_name = 'stale_chaos'"));
			return true;
		}
	}
	fail("no connection: %s", PQerrorMessage(s->conn));
	return false;
}

/* What may happen to a session that is not alone: it starts again. */
static bool
is_expected(const PGresult *result)
{
	static const char *const states[] = {"40001", "40P01", "57P01", "57P02", "57P03", "25P02",
										 "08006", "08003", "23503", "23505", "55P03", NULL};
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (state == NULL)
		return true; /* the connection is gone */
	for (int i = 0; states[i] != NULL; i++)
		if (strcmp(states[i], state) == 0)
			return true;
	return false;
}

/* NULL: the transaction failed as it may. */
PGresult *
session_ask(Session *s, const char *format, ...)
{
	char sql[4096];
	va_list args;
	PGresult *result;

	va_start(args, format);
	vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	result = PQexec(s->conn, sql);
	switch (PQresultStatus(result))
	{
		case PGRES_TUPLES_OK:
		case PGRES_COMMAND_OK:
		case PGRES_COPY_IN:
			return result;
		default:
			if (!is_expected(result))
				fail("%s%s", PQerrorMessage(s->conn), sql);
			PQclear(result);
			return NULL;
	}
}

bool
session_do(Session *s, const char *format, ...)
{
	char sql[4096];
	va_list args;
	PGresult *result;

	va_start(args, format);
	vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	result = session_ask(s, "%s", sql);
	PQclear(result);
	return result != NULL;
}

static void *
work(void *arg)
{
	Session *s = arg;

	session_open(s);
	while (!atomic_load(&stopping))
	{
		if (!work_transaction(s))
		{
			work_settle(s, false);
		}
		atomic_fetch_add(&counts.transactions, 1);
	}
	work_settle(s, false);
	PQfinish(s->conn);
	return NULL;
}

/* ---- the chaos ---- */

static void
end_somebody(Session *s)
{
	PGresult *result = session_ask(
		s, "SELECT pid FROM pg_stat_activity WHERE application_name = 'stale' AND pid <> "
		   "pg_backend_pid() ORDER BY random() LIMIT 1");

	if (result == NULL || PQntuples(result) == 0)
	{
		PQclear(result);
		return;
	}
	if (kills && random_chance(s, 2))
	{
		kill(atoi(PQgetvalue(result, 0, 0)), SIGKILL);
		atomic_fetch_add(&counts.kills, 1);
	}
	else
		session_do(s, "SELECT pg_terminate_backend(%s)", PQgetvalue(result, 0, 0));
	atomic_fetch_add(&counts.terminated, 1);
	PQclear(result);
}

static void
hold_some(Session *s)
{
	static const char *const points[] = {"cache_before_publish", "cache_after_publish",
										 "cache_compute", "cache_store"};
	const char *point = points[random_below(s, 4)];

	if (!session_do(s, "SELECT eduai.test_pause('%s', true)", point))
		return;
	nap_ms(1 + random_below(s, 15));
	/* whatever happens to this session: the point must not stay */
	while (!session_do(s, "SELECT eduai.test_pause('%s', false)", point))
		session_open(s);
	atomic_fetch_add(&counts.pauses, 1);
}

static void *
chaos(void *arg)
{
	Session *s = arg;

	session_open(s);
	while (!atomic_load(&stopping))
	{
		if (PQstatus(s->conn) != CONNECTION_OK)
			session_open(s);
		if (random_chance(s, 10))
			end_somebody(s);
		else if (pauses)
			hold_some(s);
		nap_ms(10 + random_below(s, 40));
	}
	PQfinish(s->conn);
	return NULL;
}

/* ---- the run ---- */

static int64_t
env_number(const char *name, int64_t otherwise)
{
	const char *value = getenv(name);

	return value != NULL && *value != '\0' ? atoll(value) : otherwise;
}

static void
set_up(Session *s)
{
	PGresult *result;

	session_open(s);
	for (s->number = 0; s->number < CHAOS; s->number++)
		work_settle(s, false);
	for (int i = 0; schema[i] != NULL; i++)
		if (!session_do(s, "%s", schema[i]))
			fail("could not set up: %s", PQerrorMessage(s->conn));
	result = session_ask(s, "SELECT current_setting('eduai.test_mode')");
	pauses = result != NULL && strcmp(PQgetvalue(result, 0, 0), "on") == 0;
	PQclear(result);
}

static int
report(double seconds)
{
	long reads = atomic_load(&counts.reads), hits = atomic_load(&counts.hits);

	printf("seed %llu, %.0f s: %ld checked reads, %ld hits (%.1f %%), %ld stale; %ld transactions, "
		   "%ld writes, %ld prepared, %ld sessions ended, %ld killed, %ld pauses\n",
		   (unsigned long long) seed, seconds, reads, hits, reads > 0 ? 100.0 * hits / reads : 0,
		   atomic_load(&counts.stale), atomic_load(&counts.transactions),
		   atomic_load(&counts.writes), atomic_load(&counts.prepared),
		   atomic_load(&counts.terminated), atomic_load(&counts.kills),
		   atomic_load(&counts.pauses));
	return atomic_load(&counts.stale) > 0 ? 1 : 0;
}

int
main(void)
{
	int clients = (int) env_number("CLIENTS", 8);
	double seconds = (double) env_number("SOAK_SECONDS", 20), start;
	int64_t reads = env_number("READS", 0);
	pthread_t threads[CHAOS + 1];
	static Session sessions[CHAOS + 1];

	setvbuf(stdout, NULL, _IOLBF, 0);
	seed = (uint64_t) env_number("SEED", (int64_t) time(NULL));
	kills = env_number("CACHE_KILL", 0) != 0;
	/* what is prepared or held must not stop a run */
	setenv("PGOPTIONS", "-c lock_timeout=1s", 1);
	aside_port = (int) env_number("CACHE_ASIDE", 0);
	if (clients > CHAOS)
		clients = CHAOS;
	sessions[CHAOS].random = seed * 2654435761u + 99;
	set_up(&sessions[CHAOS]);
	start = now_s();
	for (int i = 0; i < clients; i++)
	{
		sessions[i].number = i;
		sessions[i].random =
			(seed + 1) * 0x9E3779B97F4A7C15u + (uint64_t) i * 0xBF58476D1CE4E5B9u + 1;
		pthread_create(&threads[i], NULL, work, &sessions[i]);
	}
	pthread_create(&threads[CHAOS], NULL, chaos, &sessions[CHAOS]);
	while ((reads > 0 ? atomic_load(&counts.reads) < reads : now_s() < start + seconds) &&
		   (aside_port > 0 || atomic_load(&counts.stale) == 0))
		nap_ms(50);
	atomic_store(&stopping, true);
	pthread_join(threads[CHAOS], NULL);
	for (int i = 0; i < clients; i++)
		pthread_join(threads[i], NULL);
	return report(now_s() - start);
}
