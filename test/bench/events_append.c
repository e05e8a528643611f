/*
 * events_append.c: what an append costs beside a plain INSERT, and a batch
 * beside COPY.
 *
 * One event: 1, 8, 16 and 32 clients append to 10,000 streams of one category
 * in random order, the same order on every side:
 *   INSERT    a prepared INSERT into the floor's table (floor.h);
 *   FROM      SELECT * FROM eduai.append_event($1, $2, $3), prepared;
 *   SELECT    SELECT eduai.append_event($1, $2, $3), prepared;
 *   PgQ       pgq.insert_event(), where scripts/bench.sh found PgQ: no streams,
 *             no versions, no unique ids, a queue table without an index on
 *             the events, a ticker ten times a second.
 *
 * Batches: append_batch() of 1,000 events over 100 streams beside COPY of as
 * many rows, each a commit of its own, by one client and by four, and one COPY
 * of 300,000 rows of one stream.  The arguments and the rows are made before
 * the clock starts.  Each client has streams of its own there, on both sides.
 *
 * All cells of a round run one after the other, in the opposite order in
 * every second round; ratios are of the same round.
 */
#include "bench.h"
#include "floor.h"
#include "load.h"
#include "pgq.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define STREAMS       10000
#define BATCH         1000
#define BATCH_STREAMS 100
#define LONG_ROWS     300000
/* argument sets that a client of append_batch() goes round in */
#define ARGUMENT_SETS 32
/* rows a second for which COPY's text is made ahead; a faster server stops early */
#define COPY_RATE 250000

static PGconn *db;
static Versions *versions;
static int rounds;
static double seconds;

/* ---- one event ---- */

static void
open_insert(LoadClient *client)
{
	uint64_t *random = malloc(sizeof(uint64_t));

	/* ids come from randomness of their own: the streams' order is the other sides' */
	*random = client->random + 77777777;
	client->state = random;
	prepare(client->db, "one", FLOOR_INSERT);
}

static int
insert_one(LoadClient *client)
{
	floor_insert(client->db, "one", versions, next_random(&client->random) % STREAMS,
				 client->state);
	return 1;
}

static void
open_append(LoadClient *client)
{
	prepare(client->db, "one", load_arg());
}

static int
append_one(LoadClient *client)
{
	append_to(client->db, "one", next_random(&client->random) % STREAMS);
	return 1;
}

static const char *const pgq_values[3] = {"bench", EVENT_TYPE, EVENT_DATA};

static int
pgq_one(LoadClient *client)
{
	PQclear(execute(client->db, "one", 3, pgq_values));
	return 1;
}

enum
{
	WAY_INSERT,
	WAY_FROM,
	WAY_SELECT,
	WAY_PGQ,
	WAYS
};

static const Load ways[WAYS] = {
	[WAY_INSERT] = {.open = open_insert, .step = insert_one, .warm_steps = 20},
	[WAY_FROM] = {.open = open_append, .step = append_one, .warm_steps = 20, .arg = APPEND_FROM},
	[WAY_SELECT] = {.open = open_append,
					.step = append_one,
					.warm_steps = 20,
					.arg = "SELECT eduai.append_event($1, $2, $3)"},
	[WAY_PGQ] = {.open = open_append,
				 .step = pgq_one,
				 .warm_steps = 20,
				 .arg = "SELECT pgq.insert_event($1, $2, $3)"},
};
static const char *const way_names[WAYS] = {"INSERT into the floor", "append_event, FROM",
											"append_event, SELECT", "pgq.insert_event"};

typedef struct WayFigures
{
	Series rate[WAYS];
	Series cpu[WAYS];
} WayFigures;

static void
report_one(int clients, WayFigures *figures)
{
	printf("\none event a commit, %d client%s\n", clients, clients > 1 ? "s" : "");
	for (int way = 0; way < WAYS; way++)
	{
		print_series(&figures->rate[way]);
		print_series(&figures->cpu[way]);
	}
	for (int way = WAY_FROM; way < WAYS; way++)
	{
		char what[64];
		Series rate;
		Series cpu;

		snprintf(what, sizeof(what), "%s / INSERT", way_names[way]);
		rate = quotient(what, &figures->rate[way], &figures->rate[WAY_INSERT]);
		print_series(&rate);
		cpu = quotient("  in processor time", &figures->cpu[way], &figures->cpu[WAY_INSERT]);
		print_series(&cpu);
	}
}

static void
measure_one(void)
{
	static const int counts[] = {1, 8, 16, 32};
	WayFigures figures[4];
	pid_t ticker = start_pgq(db);

	for (int c = 0; c < 4; c++)
		for (int way = 0; way < WAYS; way++)
		{
			figures[c].rate[way] = new_series(way_names[way], "%.0f /s", rounds);
			figures[c].cpu[way] = new_series("  its backends' processor time", "%.1f us", rounds);
		}
	for (int i = 0; i < WAYS; i++)
		if (i != WAY_PGQ || ticker != 0)
			(void) run_load(&ways[i], 4, 0.5, 999);
	for (int round = 0; round < rounds; round++)
		for (int c = 0; c < 4; c++)
		{
			printf("  round %d, %2d clients:", round + 1, counts[c]);
			for (int i = 0; i < WAYS; i++)
			{
				int way = round % 2 == 0 ? i : WAYS - 1 - i;
				LoadResult result;

				if (way == WAY_PGQ && (ticker == 0 || counts[c] != 16))
					continue;
				result = run_load(&ways[way], counts[c], seconds, round + 1);
				add_figure(&figures[c].rate[way], result.per_second);
				add_figure(&figures[c].cpu[way], result.cpu_us);
				printf("  %s %.0f /s", way_names[way], result.per_second);
			}
			printf("\n");
		}
	if (ticker != 0)
	{
		kill(ticker, SIGTERM);
		waitpid(ticker, NULL, 0);
	}
	for (int c = 0; c < 4; c++)
		report_one(counts[c], &figures[c]);
}

/* ---- batches ---- */

/* the first of BATCH_STREAMS streams, among the client's own */
static int
first_stream(LoadClient *client)
{
	int own = STREAMS / client->clients;

	return client->number * own + next_random(&client->random) % (own - BATCH_STREAMS + 1);
}

typedef struct BatchState
{
	BatchArgs args[ARGUMENT_SETS];
	int next;
} BatchState;

static void
open_batch(LoadClient *client)
{
	BatchState *state = calloc(1, sizeof(BatchState));

	for (int i = 0; i < ARGUMENT_SETS; i++)
		state->args[i] = batch_args(first_stream(client), BATCH_STREAMS, BATCH);
	client->state = state;
	prepare(client->db, "batch", APPEND_BATCH);
}

static int
append_batch(LoadClient *client)
{
	BatchState *state = client->state;
	const BatchArgs *args = &state->args[state->next++ % ARGUMENT_SETS];

	PQclear(execute(client->db, "batch", 3, (const char *const *) args->values));
	return BATCH;
}

typedef struct CopyState
{
	CopyText *texts;
	int n;
	int next;
} CopyState;

static void
open_copy(LoadClient *client)
{
	CopyState *state = calloc(1, sizeof(CopyState));

	state->n = 2 + COPY_RATE * seconds / client->clients / BATCH;
	state->texts = malloc(sizeof(CopyText) * state->n);
	for (int i = 0; i < state->n; i++)
	{
		int first = first_stream(client);

		state->texts[i] = copy_text_begin(BATCH);
		for (int row = 0; row < BATCH; row++)
		{
			int stream = first + row % BATCH_STREAMS;

			copy_text_add(&state->texts[i], stream, next_version(versions, stream),
						  &client->random);
		}
	}
	client->state = state;
}

static int
copy_batch(LoadClient *client)
{
	CopyState *state = client->state;

	if (state->next == state->n)
		return 0;
	copy_in(client->db, "plain_event", &state->texts[state->next++]);
	return BATCH;
}

/* One COPY of one long stream, which no other cell writes. */
static double
copy_long(void)
{
	static int version;
	static uint64_t random = 4711;
	CopyText text = copy_text_begin(LONG_ROWS);
	int64_t start;
	double rate;

	for (int i = 0; i < LONG_ROWS; i++)
		copy_text_add(&text, STREAMS, ++version, &random);
	start = wall_us();
	copy_in(db, "plain_event", &text);
	rate = LONG_ROWS / ((wall_us() - start) / 1e6);
	free(text.text);
	return rate;
}

static const Load batch_load = {.open = open_batch, .step = append_batch, .warm_steps = 1};
static const Load copy_load = {.open = open_copy, .step = copy_batch, .warm_steps = 1};

enum
{
	BATCH_1,
	COPY_1,
	BATCH_4,
	COPY_4,
	COPY_LONG,
	BATCH_CELLS
};

static void
report_batches(Series *rate, Series *cpu)
{
	Series ratio[3] = {
		quotient("append_batch / COPY, 1 client", &rate[BATCH_1], &rate[COPY_1]),
		quotient("append_batch / COPY, 4 clients", &rate[BATCH_4], &rate[COPY_4]),
		quotient("append_batch, 1 client / COPY of 300,000", &rate[BATCH_1], &rate[COPY_LONG])};

	printf("\n%d events of %d streams a commit\n", BATCH, BATCH_STREAMS);
	for (int i = 0; i < BATCH_CELLS; i++)
		print_series(&rate[i]);
	for (int i = 0; i < COPY_LONG; i++)
		print_series(&cpu[i]);
	for (int i = 0; i < 3; i++)
		print_series(&ratio[i]);
}

static void
measure_batches(void)
{
	static const char *const names[BATCH_CELLS] = {
		"append_batch, 1 client", "COPY, 1 client (floor)", "append_batch, 4 clients",
		"COPY, 4 clients (floor)", "one COPY of 300,000 rows (floor)"};
	static const char *const cpu_names[COPY_LONG] = {
		"append_batch, 1 client: processor time", "COPY, 1 client: processor time",
		"append_batch, 4 clients: processor time", "COPY, 4 clients: processor time"};
	Series rate[BATCH_CELLS];
	Series cpu[BATCH_CELLS];

	for (int i = 0; i < BATCH_CELLS; i++)
	{
		rate[i] = new_series(names[i], "%.0f /s", rounds);
		if (i < COPY_LONG)
			cpu[i] = new_series(cpu_names[i], "%.2f us", rounds);
	}
	printf("\n");
	for (int round = 0; round < rounds; round++)
	{
		printf("  round %d:", round + 1);
		for (int i = 0; i < BATCH_CELLS; i++)
		{
			int cell = round % 2 == 0 ? i : BATCH_CELLS - 1 - i;
			const Load *load = cell == BATCH_1 || cell == BATCH_4 ? &batch_load : &copy_load;
			int clients = cell == BATCH_4 || cell == COPY_4 ? 4 : 1;
			LoadResult result = {0, 0};

			if (cell == COPY_LONG)
				result.per_second = copy_long();
			else
			{
				result = run_load(load, clients, seconds, 1000 + round);
				add_figure(&cpu[cell], result.cpu_us);
			}
			add_figure(&rate[cell], result.per_second);
			printf("  %s %.0f /s", names[cell], result.per_second);
		}
		printf("\n");
	}
	report_batches(rate, cpu);
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	rounds = env_int("ROUNDS", 7);
	seconds = env_int("SECONDS", 5);
	db = new_database("bench_append");
	printf("command: make bench BENCH=events_append ROUNDS=%d SECONDS=%.0f\n", rounds, seconds);
	floor_create(db);
	versions = new_versions(STREAMS);
	run(db,
		"SELECT eduai.append_event('bench-0000000', '" EVENT_TYPE "')"); /* makes the partition */
	run(db, "CHECKPOINT");
	floor_print(db);
	measure_one();
	measure_batches();
	drop_database(db);
	return 0;
}
