/*
 * cache_query.c: a hit of cached_query() beside cache_get() of the same value
 * and beside the query that it saves.
 *
 * Two queries of a pupil's page over a table of answers, 100,000 rows of 1,000
 * pupils, each result kept under 1,000 sets of parameters, drawn at random:
 *   narrow   the pupil's latest three answers: about 250 bytes;
 *   wide     the pupil's figures by skill: about 1.1 kB.
 * Over loopback TCP, with 8 clients, each a prepared statement a call:
 *   cache_get      SELECT eduai.cache_get($1), of values that are those results;
 *   cached_query   SELECT eduai.cached_query('...', ARRAY[$1]);
 *   query          the query itself, as cached_query() would run it: its rows
 *                  as one jsonb.
 * All of a round run one after the other, beginning with another each round;
 * ratios are of the same round.  Then the same inside SQL: the backend's
 * processor time of a call, by a statement over many rows less the same
 * statement without the call.
 *
 * Every answer of the cached sides is a hit: the entries are made before, and
 * nobody writes.  At the end the program looks that it was so.
 */
#include "bench.h"
#include "floor.h"
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DATABASE "bench_cache_query"
#define CLIENTS  8
#define PUPILS   1000
#define CALLS    100000

#define NARROW                                                         \
	"SELECT skill, correct, answered_at FROM answer WHERE pupil = $1 " \
	"ORDER BY answered_at DESC LIMIT 3"
#define WIDE                                                                        \
	"SELECT skill, count(*) AS answers, avg(correct::int)::numeric(4,3) AS share, " \
	"max(answered_at) AS latest FROM answer WHERE pupil = $1 GROUP BY skill ORDER BY skill"
#define CACHED(query) "eduai.cached_query('" query "', ARRAY[%s], '1 day', kind => 'bench')"
#define GET(name)     "eduai.cache_get('" name ":' || %s)"
#define PLAIN(query)  "SELECT jsonb_agg(to_jsonb(r)) FROM (" query ") r"

enum
{
	GET_SIDE,
	CACHED_SIDE,
	QUERY_SIDE,
	SIDES
};

typedef struct Subject
{
	const char *what;
	const char *get;    /* %s: the pupil, a text */
	const char *cached; /* likewise */
	const char *query;  /* $1: the pupil */
} Subject;

static const Subject subjects[] = {
	{"narrow", GET("narrow"), CACHED(NARROW), PLAIN(NARROW)},
	{"wide", GET("wide"), CACHED(WIDE), PLAIN(WIDE)},
};
#define SUBJECTS ((int) (sizeof(subjects) / sizeof(subjects[0])))

static const char *const names[SIDES] = {"cache_get", "cached_query, a hit", "the query"};

static PGconn *db;

/* The expression of a side for the pupil. */
static char *
expression(const Subject *subject, int side, const char *pupil)
{
	static char text[1024];

	snprintf(text, sizeof(text), side == GET_SIDE ? subject->get : subject->cached, pupil);
	return text;
}

/* ---- the data ---- */

static void
make_data(void)
{
	run(db, "CREATE TABLE answer (id bigint PRIMARY KEY, pupil int NOT NULL, skill text NOT NULL,"
			" correct boolean NOT NULL, answered_at timestamptz NOT NULL)");
	run(db, "INSERT INTO answer SELECT g, (g * 7919) % 1000, 'skill-' || g / 1000 % 12,"
			" (g * 31) % 10 < 7, '2026-01-05 08:00+00'::timestamptz + g * interval '7 s'"
			" FROM generate_series(1, 100000) g");
	run(db, "CREATE INDEX ON answer (pupil, answered_at)");
	run(db, "VACUUM ANALYZE answer");
	run(db, "SELECT eduai.define_cache_kind('bench', '1 day', 10000)");
}

/* Both caches have each pupil's result. */
static void
fill(const Subject *subject)
{
	char sql[2048];

	snprintf(sql, sizeof(sql),
			 "SELECT count(eduai.cache_set('%s:' || g, %s, '1 day', kind => 'bench'))"
			 " FROM generate_series(0, %d) g",
			 subject->what, expression(subject, CACHED_SIDE, "g::text"), PUPILS - 1);
	run(db, sql);
	snprintf(sql, sizeof(sql),
			 "SELECT sum(length(eduai.cache_get('%s:' || g)::text)) / %d"
			 " FROM generate_series(0, %d) g",
			 subject->what, PUPILS, PUPILS - 1);
	printf("%s: %" PRId64 " bytes on average\n", subject->what, ask_int(db, sql));
}

static int64_t
computations(void)
{
	return ask_int(db, "SELECT coalesce(sum(computations), 0)::bigint FROM eduai.cache_stats");
}

/* ---- over connections ---- */

static void
open_client(LoadClient *client)
{
	prepare(client->db, "call", load_arg());
}

static int
call(LoadClient *client)
{
	char pupil[32];
	PGresult *result;

	snprintf(pupil, sizeof(pupil), "%" PRIu64, next_random(&client->random) % PUPILS);
	result = execute(client->db, "call", 1, (const char *const[]){pupil});
	if (PQgetisnull(result, 0, 0))
		fail("no value for pupil %s", pupil);
	PQclear(result);
	return 1;
}

static LoadResult
measure(const Subject *subject, int side, double seconds, uint64_t seed)
{
	char sql[2048];
	Load load = {
		.dbname = DATABASE, .open = open_client, .step = call, .warm_steps = 200, .arg = sql};

	if (side == QUERY_SIDE)
		snprintf(sql, sizeof(sql), "%s", subject->query);
	else
		snprintf(sql, sizeof(sql), "SELECT %s", expression(subject, side, "$1::text"));
	return run_load(&load, CLIENTS, seconds, seed);
}

static void
measure_connections(const Subject *subject, int rounds, double seconds)
{
	Series rate[SIDES];
	Series cpu[SIDES];
	Series beside_get;
	Series beside_query;

	for (int s = 0; s < SIDES; s++)
	{
		rate[s] = new_series(names[s], "%.0f /s", rounds);
		cpu[s] = new_series("  its backends' processor time", "%.2f us", rounds);
	}
	for (int round = 0; round < rounds; round++)
		for (int k = 0; k < SIDES; k++)
		{
			int s = (round + k) % SIDES;
			LoadResult result = measure(subject, s, seconds, 1 + round);

			add_figure(&rate[s], result.per_second);
			add_figure(&cpu[s], result.cpu_us);
		}
	printf("%s, %d clients over TCP\n", subject->what, CLIENTS);
	for (int s = 0; s < SIDES; s++)
	{
		print_series(&rate[s]);
		print_series(&cpu[s]);
	}
	/* of the time: the other way round than of rates */
	beside_get = quotient("time of a hit / of cache_get", &rate[GET_SIDE], &rate[CACHED_SIDE]);
	beside_query = quotient("time of the query / of a hit", &rate[CACHED_SIDE], &rate[QUERY_SIDE]);
	print_series(&beside_get);
	print_series(&beside_query);
}

/* ---- inside SQL ---- */

/* Microseconds of the backend's processor time that a row of the statement takes. */
static double
row_us(const char *value)
{
	char path[64];
	char sql[2048];
	long long ns[2] = {0, 0};

	snprintf(path, sizeof(path), "/proc/%d/schedstat", PQbackendPID(db));
	snprintf(sql, sizeof(sql), "SELECT count(%s) FROM generate_series(1, %d) g", value, CALLS);
	for (int i = 0; i < 2; i++)
	{
		FILE *file = fopen(path, "r");

		if (file == NULL || fscanf(file, "%lld", &ns[i]) != 1)
			fail("no processor time in %s", path);
		fclose(file);
		if (i == 0)
			run(db, sql);
	}
	return (double) (ns[1] - ns[0]) / 1000 / CALLS;
}

static void
measure_inside(const Subject *subject, int rounds)
{
	Series get = new_series("cache_get", "%.3f us", rounds);
	Series cached = new_series("cached_query, a hit", "%.3f us", rounds);
	Series ratio;

	for (int round = 0; round < rounds; round++)
	{
		double without = row_us("(g % 1000)::text");

		add_figure(&get, row_us(expression(subject, GET_SIDE, "(g % 1000)")) - without);
		add_figure(&cached, row_us(expression(subject, CACHED_SIDE, "(g % 1000)::text")) - without);
	}
	printf("%s, inside SQL, processor time of a call\n", subject->what);
	print_series(&get);
	print_series(&cached);
	ratio = quotient("a hit / cache_get", &cached, &get);
	print_series(&ratio);
}

int
main(void)
{
	int rounds = env_int("ROUNDS", 7);
	int seconds = env_int("SECONDS", 3);
	int64_t computed;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("command: make bench BENCH=cache_query ROUNDS=%d SECONDS=%d\n", rounds, seconds);
	setenv("PGHOST", "127.0.0.1", 1);
	db = new_database(DATABASE);
	make_data();
	for (int i = 0; i < SUBJECTS; i++)
		fill(&subjects[i]);
	computed = computations();
	for (int i = 0; i < SUBJECTS; i++)
	{
		measure_inside(&subjects[i], rounds);
		measure_connections(&subjects[i], rounds, seconds);
	}
	if (computations() != computed)
		fail("%" PRId64 " answers were not hits", computations() - computed);
	drop_database(db);
	return 0;
}
