/*
 * events_read.c: reading streams and the feed, beside SELECTs of the floor.
 *
 * EVENTS (1,000,000) events: half in streams of 10, half in streams of 1,000,
 * appended a few at a time, so that a stream's events lie far apart, as they
 * do in life.  The floor (floor.h, with a bigserial column for the order) was
 * filled with the same rows in the same order.  One client, prepared
 * statements, the tables in the server's memory; cells are interleaved.
 *
 *   stream    SELECT * FROM eduai.read_stream($1, 1, $2) of a random stream, beside
 *             SELECT of the floor's rows by its primary key, same columns;
 *   feed      SELECT * FROM eduai.read_all($1, 1000), page after page, from the start
 *             again at the end, beside SELECT ... WHERE position > $1 ORDER BY
 *             position LIMIT 1000.
 */
#include "bench.h"
#include "floor.h"
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHORT 10
#define LONG  1000
#define BATCH 1000
#define PAGE  1000

#define ROW_COLUMNS \
	"event_id, stream, version, event_type, user_id, session_id, data, metadata, occurred_at, recorded_at"

static PGconn *db;
static int rounds;
static double seconds;
static int events;
static int short_streams; /* the streams 0 .. */
static int long_streams;  /* and those after them */

/* ---- filling ---- */

/* As many batches as events, each of one event of BATCH (or fewer) streams. */
static void
fill_range(int first, int streams, int length, Versions *versions)
{
	static uint64_t random = 42;

	for (int version = 1; version <= length; version++)
		for (int at = 0; at < streams; at += BATCH)
		{
			int n = streams - at < BATCH ? streams - at : BATCH;
			BatchArgs args = batch_args(first + at, n, n);
			CopyText text = copy_text_begin(n);

			for (int i = 0; i < n; i++)
				copy_text_add(&text, first + at + i, next_version(versions, first + at + i),
							  &random);
			PQclear(execute(db, "batch", 3, (const char *const *) args.values));
			copy_in(db, "plain_log", &text);
			free_batch_args(&args);
			free(text.text);
		}
}

static void
set_up(void)
{
	Versions *versions;

	long_streams = events / 2 / LONG;
	short_streams = events / 2 / SHORT;
	versions = new_versions(short_streams + long_streams);
	floor_create_log(db);
	prepare(db, "batch", APPEND_BATCH);
	fill_range(0, short_streams, SHORT, versions);
	fill_range(short_streams, long_streams, LONG, versions);
	run(db, "VACUUM ANALYZE plain_log");
	run(db, "VACUUM ANALYZE eduai.event");
	printf("%lld rows in plain_log, %lld in eduai.event\n",
		   (long long) ask_int(db, "SELECT count(*) FROM plain_log"),
		   (long long) ask_int(db, "SELECT count(*) FROM eduai.event"));
}

/* ---- streams ---- */

static const char stream_of_log[] = "SELECT * FROM eduai.read_stream($1, 1, $2)";
static const char stream_of_floor[] =
	"SELECT NULL::bigint AS \"position\", " ROW_COLUMNS " FROM plain_log WHERE tenant_id = '" TENANT
	"' AND stream = $1 AND version >= 1 ORDER BY version LIMIT $2::int";

static void
open_query(LoadClient *client)
{
	client->state = calloc(1, 32);
	strcpy(client->state, "0");
	prepare(client->db, "read", load_arg());
}

static int
read_one(LoadClient *client, int first, int streams, int length)
{
	char name[NAME_SIZE];
	char count[16];
	const char *values[2] = {name, count};
	PGresult *result;

	stream_name(name, first + next_random(&client->random) % streams);
	snprintf(count, sizeof(count), "%d", length);
	result = execute(client->db, "read", 2, values);
	if (PQntuples(result) != length)
		fail("%s: %d events instead of %d", name, PQntuples(result), length);
	PQclear(result);
	return 1;
}

static int
read_short(LoadClient *client)
{
	return read_one(client, 0, short_streams, SHORT);
}

static int
read_long(LoadClient *client)
{
	return read_one(client, short_streams, long_streams, LONG);
}

/* ---- the feed ---- */

static const char feed_of_log[] = "SELECT * FROM eduai.read_all($1, $2)";
static const char feed_of_floor[] =
	"SELECT \"position\", " ROW_COLUMNS " FROM plain_log WHERE tenant_id = '" TENANT
	"' AND \"position\" > $1 ORDER BY \"position\" LIMIT $2::int";

static int
read_page(LoadClient *client)
{
	char *after = client->state;
	char count[16];
	const char *values[2] = {after, count};
	PGresult *result;
	int rows;

	snprintf(count, sizeof(count), "%d", PAGE);
	result = execute(client->db, "read", 2, values);
	rows = PQntuples(result);
	if (rows == 0 && strcmp(after, "0") == 0)
		fail("the feed is empty");
	snprintf(after, 32, "%s", rows > 0 ? PQgetvalue(result, rows - 1, 0) : "0");
	PQclear(result);
	return rows > 0 ? rows : read_page(client);
}

/* ---- the cells ---- */

typedef struct Pair
{
	const char *what;
	const char *unit;
	int (*step)(LoadClient *client);
	const char *log;
	const char *floor;
	const char *needs;
	int skipped;
	Series rate[2]; /* of the log, of the floor */
	Series cpu[2];
} Pair;

static Pair pairs[] = {
	{.what = "streams of 10 events",
	 .unit = "%.0f streams/s",
	 .step = read_short,
	 .log = stream_of_log,
	 .floor = stream_of_floor,
	 .needs = "eduai.read_stream"},
	{.what = "streams of 1,000 events",
	 .unit = "%.0f streams/s",
	 .step = read_long,
	 .log = stream_of_log,
	 .floor = stream_of_floor,
	 .needs = "eduai.read_stream"},
	{.what = "the feed, pages of 1,000",
	 .unit = "%.0f events/s",
	 .step = read_page,
	 .log = feed_of_log,
	 .floor = feed_of_floor,
	 .needs = "eduai.read_all"},
};
#define PAIRS ((int) (sizeof(pairs) / sizeof(pairs[0])))

static void
measure_pair(Pair *pair, int round)
{
	for (int i = 0; i < 2; i++)
	{
		int side = (i + round) % 2;
		Load load = {.open = open_query,
					 .step = pair->step,
					 .warm_steps = 100,
					 .arg = side ? pair->floor : pair->log};
		LoadResult result = run_load(&load, 1, seconds, round + 1);

		add_figure(&pair->rate[side], result.per_second);
		add_figure(&pair->cpu[side], result.cpu_us);
	}
}

static void
report(Pair *pair)
{
	Series ratio = quotient("eduai / floor", &pair->rate[0], &pair->rate[1]);
	Series cpu = quotient("eduai / floor, processor time", &pair->cpu[0], &pair->cpu[1]);

	printf("\n%s\n", pair->what);
	for (int side = 0; side < 2; side++)
	{
		print_series(&pair->rate[side]);
		print_series(&pair->cpu[side]);
	}
	print_series(&ratio);
	print_series(&cpu);
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	rounds = env_int("ROUNDS", 7);
	seconds = env_int("SECONDS", 5);
	events = env_int("READ_EVENTS", 1000000);
	if (events / 2 / LONG < 1)
		fail("READ_EVENTS must be at least %d", 2 * LONG);
	db = new_database("bench_read");
	printf("command: make bench BENCH=events_read ROUNDS=%d SECONDS=%.0f READ_EVENTS=%d\n", rounds,
		   seconds, events);
	set_up();
	for (int i = 0; i < PAIRS; i++)
	{
		pairs[i].skipped = !has_function(db, pairs[i].needs);
		if (pairs[i].skipped)
			printf("%s: skipped: there is no %s()\n", pairs[i].what, pairs[i].needs);
		for (int side = 0; side < 2; side++)
		{
			pairs[i].rate[side] =
				new_series(side ? "SELECT of the floor" : "eduai", pairs[i].unit, rounds);
			pairs[i].cpu[side] = new_series("  its backend's processor time", "%.2f us", rounds);
		}
	}
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < PAIRS; i++)
			if (!pairs[i].skipped)
				measure_pair(&pairs[i], round);
	for (int i = 0; i < PAIRS; i++)
		if (!pairs[i].skipped)
			report(&pairs[i]);
	drop_database(db);
	return 0;
}
