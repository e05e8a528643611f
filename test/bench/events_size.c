/*
 * events_size.c: what an append costs when the log is long.
 *
 * Two databases of one cluster: bench_few has FEW events (100,000) and is made
 * anew before every round, since the appends measured make it grow; bench_many
 * has EVENTS (10,000,000).  Both have 100,000 streams, were filled by
 * append_batch(), 1,000 events a call, four clients, and each holds a floor
 * (floor.h) filled with as many rows of the same streams by COPY.
 *
 * A round is eight cells: 1 and 16 clients, append_event() and INSERT, few
 * and many.  The quotient of many and few, for eduai and for the floor, tells
 * what the length costs; so does the processor time of the backends, which
 * other work on the machine disturbs less.
 */
#include "bench.h"
#include "floor.h"
#include "load.h"

#include <stdio.h>
#include <stdlib.h>

#define STREAMS 100000
#define FEW     100000
#define BATCH   1000

static PGconn *db;
static int rounds;
static double seconds;

typedef struct Side
{
	const char *dbname;
	int events;
	Versions *versions; /* of the floor */
} Side;

static Side few = {.dbname = "bench_few", .events = FEW};
static Side many = {.dbname = "bench_many"};

/* ---- filling ---- */

typedef struct FillState
{
	int next; /* batch of this client */
} FillState;

/* the first stream of a client's batch; batches go round all streams, BATCH of them each */
static int
fill_stream(const LoadClient *client, const FillState *state)
{
	return (state->next * client->clients + client->number) % (STREAMS / BATCH) * BATCH;
}

static int
has_more(const LoadClient *client, const FillState *state)
{
	const Side *side = load_arg();

	return (state->next * client->clients + client->number) < side->events / BATCH;
}

static void
open_fill(LoadClient *client)
{
	client->state = calloc(1, sizeof(FillState));
	prepare(client->db, "batch", APPEND_BATCH);
}

static int
fill_log(LoadClient *client)
{
	FillState *state = client->state;
	BatchArgs args;

	if (!has_more(client, state))
		return 0;
	args = batch_args(fill_stream(client, state), BATCH, BATCH);
	PQclear(execute(client->db, "batch", 3, (const char *const *) args.values));
	free_batch_args(&args);
	state->next++;
	return BATCH;
}

static int
fill_floor(LoadClient *client)
{
	FillState *state = client->state;
	const Side *side = load_arg();
	CopyText text;
	int first;

	if (!has_more(client, state))
		return 0;
	first = fill_stream(client, state);
	text = copy_text_begin(BATCH);
	for (int i = 0; i < BATCH; i++)
		copy_text_add(&text, first + i, next_version(side->versions, first + i), &client->random);
	copy_in(client->db, "plain_event", &text);
	free(text.text);
	state->next++;
	return BATCH;
}

static void
check_count(PGconn *own, const char *table, int events)
{
	char sql[128];
	int64_t count;

	snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
	count = ask_int(own, sql);
	if (count != events)
		fail("%s has %lld rows instead of %d", table, (long long) count, events);
}

/* say: whether to print how fast */
static void
make_side(Side *side, int say)
{
	Load log = {.dbname = side->dbname, .open = open_fill, .step = fill_log, .arg = side};
	Load floor = {.dbname = side->dbname, .open = open_fill, .step = fill_floor, .arg = side};
	char sql[128];
	PGconn *own;
	LoadResult result;

	snprintf(sql, sizeof(sql), "DROP DATABASE IF EXISTS %s WITH (FORCE)", side->dbname);
	run(db, sql);
	snprintf(sql, sizeof(sql), "CREATE DATABASE %s", side->dbname);
	run(db, sql);
	own = connect_to(side->dbname);
	run(own, "CREATE EXTENSION eduai");
	floor_create(own);
	side->versions = new_versions(STREAMS);
	result = run_load(&log, 4, 1e6, 1);
	if (say)
		printf("%s: append_batch filled %d events at %.0f /s, ", side->dbname, side->events,
			   result.per_second);
	result = run_load(&floor, 4, 1e6, 1);
	if (say)
		printf("COPY its floor at %.0f /s\n", result.per_second);
	check_count(own, "eduai.event", side->events);
	check_count(own, "plain_event", side->events);
	run(own, "VACUUM ANALYZE plain_event");
	run(own, "VACUUM ANALYZE eduai.event");
	PQfinish(own);
}

/* ---- one event ---- */

static void
open_insert(LoadClient *client)
{
	uint64_t *ids = malloc(sizeof(uint64_t));

	*ids = client->random + 77777777;
	client->state = ids;
	prepare(client->db, "one", FLOOR_INSERT);
}

static int
insert_one(LoadClient *client)
{
	const Side *side = load_arg();

	floor_insert(client->db, "one", side->versions, next_random(&client->random) % STREAMS,
				 client->state);
	return 1;
}

static void
open_append(LoadClient *client)
{
	prepare(client->db, "one", APPEND_FROM);
}

static int
append_one(LoadClient *client)
{
	append_to(client->db, "one", next_random(&client->random) % STREAMS);
	return 1;
}

/* Cells of one client count, in the order of an even round. */
enum
{
	FLOOR_FEW,
	LOG_FEW,
	FLOOR_MANY,
	LOG_MANY,
	CELLS
};

static const char *const cell_names[CELLS] = {"INSERT, few", "append_event, few", "INSERT, many",
											  "append_event, many"};

typedef struct Figures
{
	Series rate[CELLS];
	Series cpu[CELLS];
} Figures;

static void
measure_cells(int clients, int round, Figures *figures)
{
	printf("  round %d, %2d clients:", round + 1, clients);
	for (int i = 0; i < CELLS; i++)
	{
		int cell = round % 2 == 0 ? i : CELLS - 1 - i;
		Side *side = cell == FLOOR_FEW || cell == LOG_FEW ? &few : &many;
		Load insert = {.dbname = side->dbname,
					   .open = open_insert,
					   .step = insert_one,
					   .warm_steps = 50,
					   .arg = side};
		Load append = {.dbname = side->dbname,
					   .open = open_append,
					   .step = append_one,
					   .warm_steps = 50,
					   .arg = side};
		LoadResult result = run_load(cell == LOG_FEW || cell == LOG_MANY ? &append : &insert,
									 clients, seconds, round + 1);

		add_figure(&figures->rate[cell], result.per_second);
		add_figure(&figures->cpu[cell], result.cpu_us);
		printf("  %s %.0f /s %.1f us", cell_names[cell], result.per_second, result.cpu_us);
	}
	printf("\n");
}

static void
report(int clients, Figures *figures)
{
	Series q[4] = {
		quotient("append_event, many / few, rate", &figures->rate[LOG_MANY],
				 &figures->rate[LOG_FEW]),
		quotient("append_event, many / few, processor time", &figures->cpu[LOG_MANY],
				 &figures->cpu[LOG_FEW]),
		quotient("INSERT, many / few, rate", &figures->rate[FLOOR_MANY], &figures->rate[FLOOR_FEW]),
		quotient("INSERT, many / few, processor time", &figures->cpu[FLOOR_MANY],
				 &figures->cpu[FLOOR_FEW]),
	};

	printf("\n%d client%s, few = %d events, many = %d\n", clients, clients > 1 ? "s" : "",
		   few.events, many.events);
	for (int cell = 0; cell < CELLS; cell++)
	{
		print_series(&figures->rate[cell]);
		print_series(&figures->cpu[cell]);
	}
	for (int i = 0; i < 4; i++)
		print_series(&q[i]);
}

int
main(void)
{
	static const int counts[] = {1, 16};
	Figures figures[2];

	setvbuf(stdout, NULL, _IOLBF, 0);
	rounds = env_int("ROUNDS", 7);
	seconds = env_int("SECONDS", 5);
	many.events = env_int("EVENTS", 10000000) / BATCH * BATCH;
	db = connect_db();
	printf("command: make bench BENCH=events_size ROUNDS=%d SECONDS=%.0f EVENTS=%d\n", rounds,
		   seconds, many.events);
	run(db, "SET client_min_messages = warning");
	run(db, "ALTER SYSTEM SET eduai.database = bench, bench_few, bench_many");
	make_side(&many, 1);
	make_side(&few, 1);
	run(db, "SELECT pg_reload_conf()");
	for (int c = 0; c < 2; c++)
		for (int cell = 0; cell < CELLS; cell++)
		{
			figures[c].rate[cell] = new_series(cell_names[cell], "%.0f /s", rounds);
			figures[c].cpu[cell] = new_series("  its backends' processor time", "%.1f us", rounds);
		}
	run(db, "CHECKPOINT");
	for (int round = 0; round < rounds; round++)
	{
		if (round > 0)
			make_side(&few, 0);
		for (int c = 0; c < 2; c++)
			measure_cells(counts[c], round, &figures[c]);
	}
	for (int c = 0; c < 2; c++)
		report(counts[c], &figures[c]);
	run(db, "DROP DATABASE bench_few WITH (FORCE)");
	run(db, "DROP DATABASE bench_many WITH (FORCE)");
	run(db, "ALTER SYSTEM RESET eduai.database");
	PQfinish(db);
	return 0;
}
