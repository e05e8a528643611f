/*
 * ratelimit_calls.c: what a decision of the rate limiter costs.
 *
 * Over loopback TCP, with 8 clients, each a prepared statement a call:
 *   - SELECT $1::text, the floor: what any statement costs here;
 *   - eight columns of the types of a decision, of no function: the floor of
 *     whoever asks for all of them;
 *   - the limiter as an application calls it: require_rate and rate_ok in the
 *     select list, rate_limit there (one column, a record) and in FROM (its
 *     eight columns, or one of them);
 *   - an upsert-based limiter, a row for each key, as it is commonly written
 *     and deployed: a logged table, each commit on disk before it is answered;
 *     and the same unlogged and without waiting for the disk, the best it can
 *     be, which forgets everything in a crash;
 * in interleaved rounds, with 10,000 keys drawn at random, and with one key for
 * all.  The upsert counts in fixed hours, so that it admits up to twice the
 * limit across an edge; the limiter here does not.
 *
 * (rate_limit(...)).* is not among them: the server calls the function once for
 * each of its columns, and consumes as often.
 *
 * Inside SQL: the processor time of a call, by a statement over a million rows
 * less the same statement without the call.
 */
#include "bench.h"
#include "floor.h"
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS 8
#define KEYS    10000
#define CALLS   "1000000"

enum
{
	SIDE_FLOOR,
	SIDE_COLUMNS,
	SIDE_REQUIRE,
	SIDE_OK,
	SIDE_RECORD,
	SIDE_LIMIT,
	SIDE_ALLOWED,
	SIDE_UPSERT,
	SIDE_UNLOGGED,
	SIDES
};

static const char *const names[SIDES] = {"SELECT $1::text",
										 "SELECT eight columns",
										 "SELECT require_rate()",
										 "SELECT rate_ok()",
										 "SELECT rate_limit()",
										 "SELECT * FROM rate_limit()",
										 "SELECT allowed FROM rate_limit()",
										 "upsert limiter",
										 "upsert unlogged"};
#define UPSERT(table)                                                                               \
	"INSERT INTO " table " AS p VALUES ($1, date_trunc('hour', now()), 1)"                          \
	" ON CONFLICT (key) DO UPDATE SET"                                                              \
	" used = CASE WHEN p.since = excluded.since THEN p.used + 1 ELSE 1 END, since = excluded.since" \
	" WHERE p.since <> excluded.since OR p.used < 2000000000 RETURNING used"

static const char *const statements[SIDES] = {
	"SELECT $1::text",
	"SELECT true, 5::bigint, 5::bigint, '1 s'::interval, '1 h'::interval, $1::text, 'bench'::text,"
	" '1 h'::interval",
	"SELECT eduai.require_rate($1, 'bench')",
	"SELECT eduai.rate_ok($1, 'bench')",
	"SELECT eduai.rate_limit($1, 'bench')",
	"SELECT * FROM eduai.rate_limit($1, 'bench')",
	"SELECT allowed FROM eduai.rate_limit($1, 'bench')",
	UPSERT("plain_limit"),
	UPSERT("unlogged_limit"),
};

static const int goals[][2] = {
	{SIDE_REQUIRE, SIDE_FLOOR}, {SIDE_OK, SIDE_FLOOR},         {SIDE_RECORD, SIDE_FLOOR},
	{SIDE_LIMIT, SIDE_FLOOR},   {SIDE_LIMIT, SIDE_COLUMNS},    {SIDE_REQUIRE, SIDE_UPSERT},
	{SIDE_LIMIT, SIDE_UPSERT},  {SIDE_REQUIRE, SIDE_UNLOGGED}, {SIDE_LIMIT, SIDE_UNLOGGED},
};

/* What a run does. */
typedef struct Calls
{
	int side;
	int keys;
} Calls;

static PGconn *db;

static void
open_client(LoadClient *client)
{
	const Calls *calls = load_arg();

	if (calls->side == SIDE_UNLOGGED)
		run(client->db, "SET synchronous_commit = off");
	prepare(client->db, "call", statements[calls->side]);
}

static int
call(LoadClient *client)
{
	const Calls *calls = load_arg();
	char key[32];

	snprintf(key, sizeof(key), "user:%" PRIu64, next_random(&client->random) % calls->keys);
	PQclear(execute(client->db, "call", 1, (const char *const[]){key}));
	return 1;
}

static LoadResult
measure(int side, int keys, double seconds, uint64_t seed)
{
	Calls calls = {.side = side, .keys = keys};
	Load load = {.dbname = "bench_ratelimit",
				 .open = open_client,
				 .step = call,
				 .warm_steps = 500,
				 .arg = &calls};

	return run_load(&load, CLIENTS, seconds, seed);
}

static void
print_calls(Series *rate, Series *cpu, int keys)
{
	printf("%d clients over TCP, %d key%s\n", CLIENTS, keys, keys == 1 ? " for all" : "s");
	for (int s = 0; s < SIDES; s++)
	{
		print_series(&rate[s]);
		print_series(&cpu[s]);
	}
	for (size_t g = 0; g < sizeof(goals) / sizeof(goals[0]); g++)
	{
		char what[80];
		Series ratio;

		snprintf(what, sizeof(what), "%s / %s", names[goals[g][0]], names[goals[g][1]]);
		ratio = quotient(what, &rate[goals[g][0]], &rate[goals[g][1]]);
		print_series(&ratio);
	}
}

static void
measure_calls(int keys, int rounds, double seconds)
{
	Series rate[SIDES];
	Series cpu[SIDES];

	for (int s = 0; s < SIDES; s++)
	{
		rate[s] = new_series(names[s], "%.0f /s", rounds);
		cpu[s] = new_series("  its backends' processor time", "%.2f us", rounds);
	}
	for (int round = 0; round < rounds; round++)
	{
		printf("  round %d:", round + 1);
		for (int k = 0; k < SIDES; k++)
		{
			int s = (round + k) % SIDES;
			LoadResult result = measure(s, keys, seconds, 1 + round);

			add_figure(&rate[s], result.per_second);
			add_figure(&cpu[s], result.cpu_us);
			printf("  %s %.0f /s", names[s], result.per_second);
		}
		printf("\n");
	}
	print_calls(rate, cpu, keys);
}

/* ---- inside SQL ---- */

/* Nanoseconds of the backend's processor time that a row of the statement takes. */
static double
row_ns(const char *expression)
{
	char path[64];
	char sql[256];
	long long ns[2] = {0, 0};

	snprintf(path, sizeof(path), "/proc/%d/schedstat", PQbackendPID(db));
	snprintf(sql, sizeof(sql), "SELECT count(%s) FROM generate_series(1, " CALLS ") g", expression);
	for (int i = 0; i < 2; i++)
	{
		FILE *file = fopen(path, "r");

		if (file == NULL || fscanf(file, "%lld", &ns[i]) != 1)
			fail("no processor time in %s", path);
		fclose(file);
		if (i == 0)
			run(db, sql);
	}
	return (double) (ns[1] - ns[0]) / atof(CALLS);
}

static void
measure_inside(int rounds)
{
	static const char *const calls[][2] = {
		{"g", "eduai.rate_ok('user:1', 'bench')"},
		{"g", "eduai.rate_limit('user:1', 'bench')"},
		{"'user:' || g % 10000", "eduai.rate_limit('user:' || g % 10000, 'bench')"},
		{"'{}'::text[]", "eduai.rate_limit_all('{user:1,school:1,whole}', '{bench,bench,bench}')"},
	};
	static const char *const what[] = {"rate_ok, one key", "rate_limit, one key",
									   "rate_limit, 10,000 keys", "rate_limit_all of three"};

	printf("inside SQL, processor time of a call\n");
	for (int c = 0; c < 4; c++)
	{
		Series ns = new_series(what[c], "%.0f ns", rounds);

		for (int round = 0; round < rounds; round++)
			add_figure(&ns, row_ns(calls[c][1]) - row_ns(calls[c][0]));
		print_series(&ns);
	}
}

int
main(void)
{
	int rounds = env_int("ROUNDS", 7);
	int seconds = env_int("SECONDS", 3);

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("command: make bench BENCH=ratelimit_calls ROUNDS=%d SECONDS=%d\n", rounds, seconds);
	setenv("PGHOST", "127.0.0.1", 1);
	db = new_database("bench_ratelimit");
	run(db, "SELECT eduai.define_tier('bench', 2000000000, '1 hour')");
	run(db, "CREATE TABLE plain_limit (key text PRIMARY KEY, since timestamptz NOT NULL,"
			" used bigint NOT NULL) WITH (fillfactor = 50)");
	run(db, "CREATE UNLOGGED TABLE unlogged_limit (LIKE plain_limit INCLUDING ALL)");
	measure_inside(rounds);
	measure_calls(KEYS, rounds, seconds);
	measure_calls(1, rounds, seconds);
	drop_database(db);
	return 0;
}
