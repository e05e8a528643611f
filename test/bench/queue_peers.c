/*
 * queue_peers.c: what a task costs beside a plain INSERT and beside other
 * queues that keep their tasks in PostgreSQL: PgQ, graphile-worker, pg-boss.
 *
 * Enqueues, one a commit, 1 KiB of payload, 8 and 32 clients:
 *   INSERT    the payload into a table with a bigint identity as its key;
 *   enqueue   eduai.enqueue() of a type that applications serve, whose tasks are
 *             worked off between the cells;
 *   PgQ       pgq.insert_event(), with its ticker, where scripts/bench.sh found it;
 *   graphile  graphile_worker.add_job(), by SQL;
 *   pg-boss   send() of its own client, in Node.
 *
 * Claims and completions by applications' workers, of tasks that are there
 * before the clock starts.  With batches every queue is tried in several
 * settings first, and its best one goes into the rounds: eduai with 2, 4 and 8
 * connections, with a commit for the claim and one for the completion, and
 * with one for both (a batch is completed and the next one claimed);
 * graphile-worker with its local queue of 500 and batched completions, pg-boss
 * with fetches of 50 and 100, both in one process and in two.  One at a time:
 * a claim and a completion of one task, each a commit, by as many clients;
 * graphile-worker without its local queue.  eduai's tasks go on to its history
 * and pg-boss's stay in its table; graphile-worker deletes its jobs.
 *
 * Afterwards the tables must say what the clients have counted.  All cells of
 * a round run one after the other, in the opposite order in every second
 * round; ratios are of the same round.
 */
#include "bench.h"
#include "floor.h"
#include "peers.h"
#include "pgq.h"
#include "tasks.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static PGconn *db;
static int rounds;
static double seconds;
static int64_t tasks; /* that wait when a cell's clock starts, at least */

enum
{
	SIDE_EDUAI,
	SIDE_GRAPHILE,
	SIDE_BOSS,
	SIDES
};

static bool here[SIDES] = {true};

/* ---- enqueues ---- */

static void
open_enqueue(LoadClient *client)
{
	prepare(client->db, "one", load_arg());
}

static int
enqueue_one(LoadClient *client)
{
	char payload[PAYLOAD_SIZE];

	make_payload(payload, NULL, &client->random);
	PQclear(execute(client->db, "one", 1, (const char *const[]){payload}));
	return 1;
}

enum
{
	WAY_INSERT,
	WAY_EDUAI,
	WAY_PGQ,
	WAY_GRAPHILE,
	WAY_BOSS,
	WAYS
};

#define ENQUEUE_LOAD(statement)                                                       \
	{                                                                                 \
		.open = open_enqueue, .step = enqueue_one, .warm_steps = 20, .arg = statement \
	}

/* pg-boss has no statement: its own program sends. */
static const Load ways[WAYS] = {
	[WAY_INSERT] = ENQUEUE_LOAD("INSERT INTO plain_task (payload) VALUES ($1)"),
	[WAY_EDUAI] = ENQUEUE_LOAD("SELECT eduai.enqueue('bench', $1)"),
	[WAY_PGQ] = ENQUEUE_LOAD("SELECT pgq.insert_event('bench', 'task', $1)"),
	[WAY_GRAPHILE] = ENQUEUE_LOAD("SELECT graphile_worker.add_job('bench', $1::json)"),
};
static const char *const way_names[WAYS] = {"INSERT (floor)", "eduai.enqueue", "pgq.insert_event",
											"graphile add_job", "pg-boss send"};

/* without a clock: a queue whose tasks nobody starts is what queue_million measures */
static void
work_off(void)
{
	static const Work work = {"bench", 50, true, "0", NULL, NULL, NULL};
	Load load = {.open = work_open, .step = work_step, .close = work_close, .arg = &work};

	(void) run_load(&load, 2, 120, 1);
	if (ask_int(db, TASKS_READY) > 0)
		fail("the tasks that were enqueued are not worked off");
}

static LoadResult
enqueue_cell(int way, int clients, int round)
{
	LoadResult result = {0, 0};
	char arguments[64];

	if (way != WAY_BOSS)
		return run_load(&ways[way], clients, seconds, round + 1);
	snprintf(arguments, sizeof(arguments), "send clients=%d seconds=%.1f", clients, seconds);
	result.per_second = peer_load("pgboss", arguments, 1).per_second;
	return result;
}

typedef struct WayFigures
{
	Series rate[WAYS];
	Series cpu[WAYS];
} WayFigures;

static void
report_enqueues(int clients, WayFigures *figures)
{
	printf("\none enqueue a commit, %d clients\n", clients);
	for (int way = 0; way < WAYS; way++)
	{
		print_series(&figures->rate[way]);
		if (way != WAY_BOSS)
			print_series(&figures->cpu[way]);
	}
	for (int way = WAY_EDUAI; way < WAYS; way++)
	{
		char what[64];
		Series ratio;

		snprintf(what, sizeof(what), "%s / INSERT", way_names[way]);
		ratio = quotient(what, &figures->rate[way], &figures->rate[WAY_INSERT]);
		print_series(&ratio);
		if (way == WAY_BOSS)
			continue;
		ratio = quotient("  in processor time", &figures->cpu[way], &figures->cpu[WAY_INSERT]);
		print_series(&ratio);
	}
}

static void
enqueue_round(int round, int clients, WayFigures *figures, const bool *there)
{
	printf("  round %d, %2d clients:", round + 1, clients);
	for (int i = 0; i < WAYS; i++)
	{
		int way = round % 2 == 0 ? i : WAYS - 1 - i;
		LoadResult result;

		if (!there[way])
			continue;
		result = enqueue_cell(way, clients, round);
		add_figure(&figures->rate[way], result.per_second);
		add_figure(&figures->cpu[way], result.cpu_us);
		if (way == WAY_EDUAI)
			work_off();
		printf("  %s %.0f /s", way_names[way], result.per_second);
	}
	printf("\n");
}

static void
measure_enqueues(void)
{
	static const int counts[] = {8, 32};
	WayFigures figures[2];
	pid_t ticker = start_pgq(db);
	bool there[WAYS] = {true, true, ticker != 0, here[SIDE_GRAPHILE], here[SIDE_BOSS]};

	run(db, "CREATE TABLE plain_task"
			" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL)");
	for (int c = 0; c < 2; c++)
		for (int way = 0; way < WAYS; way++)
		{
			figures[c].rate[way] = new_series(way_names[way], "%.0f /s", rounds);
			figures[c].cpu[way] = new_series("  its backends' processor time", "%.1f us", rounds);
		}
	for (int way = 0; way < WAY_BOSS; way++)
		if (there[way])
			(void) run_load(&ways[way], 4, 0.5, 999);
	work_off();
	for (int round = 0; round < rounds; round++)
		for (int c = 0; c < 2; c++)
			enqueue_round(round, counts[c], &figures[c], there);
	if (ticker != 0)
	{
		kill(ticker, SIGTERM);
		waitpid(ticker, NULL, 0);
	}
	for (int c = 0; c < 2; c++)
		report_enqueues(counts[c], &figures[c]);
}

/* ---- tasks to claim ---- */

static const struct
{
	const char *name;
	const char *waiting;   /* tasks that may be claimed */
	const char *completed; /* a number that grows with each completed task */
	const char *tables;    /* to vacuum */
} sides[SIDES] = {
	[SIDE_EDUAI] = {"eduai", TASKS_READY,
					"SELECT count(*) FROM eduai.task_end WHERE state = 'completed'",
					"eduai.task_live, eduai.task_request, eduai.task_end"},
	[SIDE_GRAPHILE] = {"graphile-worker", "SELECT count(*) FROM graphile_worker._private_jobs",
					   "SELECT -count(*) FROM graphile_worker._private_jobs",
					   "graphile_worker._private_jobs"},
	[SIDE_BOSS] = {"pg-boss", "SELECT count(*) FROM pgboss.job WHERE state = 'created'",
				   "SELECT count(*) FROM pgboss.job WHERE state = 'completed'", "pgboss.job"},
};

static void
fill_graphile(int64_t n)
{
	char sql[512];

	snprintf(
		sql, sizeof(sql),
		"SELECT count(*) FROM graphile_worker.add_jobs((SELECT array_agg(('bench',"
		" json_build_object('text', left(text, 1000)), NULL, NULL, NULL, NULL, NULL, NULL)"
		"::graphile_worker.job_spec) FROM generate_series(1, %" PRId64 ") i, LATERAL"
		" (SELECT string_agg(md5(i || '-' || j), '') AS text FROM generate_series(1, 32) j) t))",
		n);
	run(db, sql);
}

static void
fill_side(int side)
{
	char text[256];
	int64_t n;

	/* its local queue may leave jobs locked when it stops */
	if (side == SIDE_GRAPHILE)
		run(db, "UPDATE graphile_worker._private_jobs SET locked_at = NULL, locked_by = NULL"
				" WHERE locked_at IS NOT NULL");
	n = ask_int(db, sides[side].waiting);
	n = n >= tasks ? 0 : tasks + tasks / 2 - n;
	if (n == 0)
		;
	else if (side == SIDE_EDUAI)
		fill_tasks(db, "bench", NULL, "normal", n);
	else if (side == SIDE_BOSS)
	{
		snprintf(text, sizeof(text), "fill n=%" PRId64, n);
		free(peer_run("pgboss", text));
	}
	else
		for (; n > 0; n -= 10000)
			fill_graphile(n < 10000 ? n : 10000);
	/* the tables as autovacuum leaves them in quieter times */
	snprintf(text, sizeof(text), "VACUUM ANALYZE %s", sides[side].tables);
	run(db, text);
}

/* ---- claims and completions ---- */

/* A side in one of its settings. */
typedef struct Variation
{
	int side;
	const char *name;
	int clients;           /* eduai: connections; else processes */
	Work work;             /* eduai */
	const char *arguments; /* of the peer's program, without the seconds */
} Variation;

#define EDUAI(what, connections, size, together)                                              \
	{                                                                                         \
		SIDE_EDUAI, what, connections, {"bench", size, together, "0", NULL, NULL, NULL}, NULL \
	}
#define PEER(side, what, processes, arguments)                                     \
	{                                                                              \
		side, what, processes, {NULL, 0, false, NULL, NULL, NULL, NULL}, arguments \
	}

static int64_t
drain(const Variation *v, double time, double *per_second, double *cpu_us)
{
	Load load = {.open = work_open, .step = work_step, .close = work_close, .arg = &v->work};
	char arguments[128];
	PeerResult peer;

	*cpu_us = 0;
	if (v->side == SIDE_EDUAI)
	{
		Work work = v->work;
		LoadResult result;
		int64_t n;

		work.completed = shared_memory(sizeof(int64_t));
		load.arg = &work;
		result = run_load(&load, v->clients, time, 1);
		*per_second = result.per_second;
		*cpu_us = result.cpu_us;
		n = *work.completed;
		return n;
	}
	snprintf(arguments, sizeof(arguments), "%s seconds=%.1f", v->arguments, time);
	peer = peer_load(v->side == SIDE_BOSS ? "pgboss" : "graphile", arguments, v->clients);
	*per_second = peer.per_second;
	return peer.finished;
}

/* What the clients counted must be in the tables; returns tasks a second. */
static double
measure_drain(const Variation *v, double time, double *cpu_us)
{
	/* graphile-worker may leave a job locked when it stops in the midst of its completion */
	int64_t slack = v->side == SIDE_GRAPHILE ? 1000 : 0;
	double per_second;
	int64_t before;
	int64_t counted;
	int64_t stored;

	fill_side(v->side);
	run(db, "CHECKPOINT");
	before = ask_int(db, sides[v->side].completed);
	counted = drain(v, time, &per_second, cpu_us);
	stored = ask_int(db, sides[v->side].completed) - before;
	if (stored > counted || stored < counted - slack)
		fail("%s, %s: %" PRId64 " completions were counted, the tables say %" PRId64,
			 sides[v->side].name, v->name, counted, stored);
	return per_second;
}

static const Variation batches[] = {
	EDUAI("2 connections, two commits", 2, 50, false),
	EDUAI("4 connections, two commits", 4, 50, false),
	EDUAI("8 connections, two commits", 8, 50, false),
	EDUAI("2 connections, one commit", 2, 50, true),
	EDUAI("4 connections, one commit", 4, 50, true),
	EDUAI("8 connections, one commit", 8, 50, true),
	PEER(SIDE_GRAPHILE, "24 at once, delay 0", 1, "drain concurrency=24 local=500 delay=0"),
	PEER(SIDE_GRAPHILE, "24 at once, delay 5 ms", 1, "drain concurrency=24 local=500 delay=5"),
	PEER(SIDE_GRAPHILE, "100 at once, delay 0", 1, "drain concurrency=100 local=500 delay=0"),
	PEER(SIDE_GRAPHILE, "2 processes of 24, delay 0", 2, "drain concurrency=24 local=500 delay=0"),
	PEER(SIDE_GRAPHILE, "2 processes of 50, delay 0", 2, "drain concurrency=50 local=500 delay=0"),
	PEER(SIDE_BOSS, "4 loops of 50", 1, "drain clients=4 batch=50"),
	PEER(SIDE_BOSS, "4 loops of 100", 1, "drain clients=4 batch=100"),
	PEER(SIDE_BOSS, "8 loops of 100", 1, "drain clients=8 batch=100"),
	PEER(SIDE_BOSS, "2 processes of 2 loops of 100", 2, "drain clients=2 batch=100"),
};
#define N_BATCHES ((int) (sizeof(batches) / sizeof(batches[0])))

/* Each side's best setting, by one run of each. */
static void
choose_best(const Variation *best[SIDES])
{
	double most[SIDES] = {0};

	printf("\nbatches: the settings tried, %.1f s each\n", seconds / 2);
	for (int i = 0; i < N_BATCHES; i++)
	{
		const Variation *v = &batches[i];
		double cpu_us;
		double rate;

		if (!here[v->side])
			continue;
		rate = measure_drain(v, seconds / 2, &cpu_us);
		printf("  %-16s %-32s %8.0f /s\n", sides[v->side].name, v->name, rate);
		if (rate <= most[v->side])
			continue;
		most[v->side] = rate;
		best[v->side] = v;
	}
}

#define MAX_CELLS 4

/* The first of the cells is eduai's; NULL where a peer is not there. */
static void
contest(const char *title, const Variation *const *cells, int n)
{
	Series rate[MAX_CELLS];
	Series cpu[MAX_CELLS];
	char names[MAX_CELLS][80];

	for (int i = 0; i < n; i++)
	{
		if (cells[i] != NULL)
			snprintf(names[i], sizeof(names[i]), "%s, %s", sides[cells[i]->side].name,
					 cells[i]->name);
		rate[i] = new_series(names[i], "%.0f /s", rounds);
		cpu[i] = new_series("  its backends' processor time", "%.1f us", rounds);
	}
	printf("\n");
	for (int round = 0; round < rounds; round++)
	{
		printf("  round %d:", round + 1);
		for (int k = 0; k < n; k++)
		{
			int i = round % 2 == 0 ? k : n - 1 - k;
			double cpu_us;

			if (cells[i] == NULL)
				continue;
			add_figure(&rate[i], measure_drain(cells[i], seconds, &cpu_us));
			add_figure(&cpu[i], cpu_us);
			printf("  %s %.0f /s", names[i], rate[i].values[round]);
		}
		printf("\n");
	}
	printf("%s\n", title);
	for (int i = 0; i < n; i++)
	{
		print_series(&rate[i]);
		if (cells[i] != NULL && cells[i]->side == SIDE_EDUAI)
			print_series(&cpu[i]);
	}
	for (int i = 1; i < n; i++)
		if (cells[i] != NULL)
		{
			char what[100];
			Series ratio;

			snprintf(what, sizeof(what), "first / %s", names[i]);
			ratio = quotient(what, &rate[0], &rate[i]);
			print_series(&ratio);
		}
}

static void
measure_batches(void)
{
	const Variation *best[SIDES] = {NULL};

	choose_best(best);
	contest("claim and complete, batches, each queue's best setting", best, SIDES);
}

static void
measure_singles(int clients)
{
	char graphile[64];
	char boss[64];
	const Variation eduai = EDUAI("two commits", clients, 1, false);
	const Variation joined = EDUAI("one commit for both", clients, 1, true);
	const Variation peer_graphile = PEER(SIDE_GRAPHILE, "no local queue", 1, graphile);
	const Variation peer_boss = PEER(SIDE_BOSS, "batch of 1", 1, boss);
	const Variation *cells[MAX_CELLS] = {&eduai, here[SIDE_GRAPHILE] ? &peer_graphile : NULL,
										 here[SIDE_BOSS] ? &peer_boss : NULL, &joined};
	char title[80];

	snprintf(graphile, sizeof(graphile), "drain concurrency=%d local=0 delay=-1", clients);
	snprintf(boss, sizeof(boss), "drain clients=%d batch=1", clients);
	snprintf(title, sizeof(title), "claim and complete, one at a time, %d clients", clients);
	contest(title, cells, MAX_CELLS);
}

/* ---- the whole ---- */

static void
install_peers(void)
{
	static const char *const programs[SIDES] = {NULL, "graphile", "pgboss"};

	for (int side = SIDE_GRAPHILE; side < SIDES; side++)
	{
		char *version;

		here[side] = peers_are_here();
		if (!here[side])
		{
			printf("%s: skipped: there is no Node with its package (npm, registry)\n",
				   sides[side].name);
			continue;
		}
		version = peer_run(programs[side], "install");
		printf("%s: version %s\n", sides[side].name, version);
		free(version);
	}
}

int
main(void)
{
	const char *parts;

	setvbuf(stdout, NULL, _IOLBF, 0);
	rounds = env_int("ROUNDS", 7);
	seconds = env_int("SECONDS", 5);
	tasks = env_int("TASKS", 300000);
	parts = getenv("PARTS") != NULL ? getenv("PARTS") : "enqueue batch single";
	printf("command: make bench BENCH=queue_peers ROUNDS=%d SECONDS=%.0f TASKS=%" PRId64
		   " PARTS=\"%s\"\n",
		   rounds, seconds, tasks, parts);
	db = new_database("bench_queue");
	define_bench_type(db);
	install_peers();
	if (strstr(parts, "enqueue") != NULL)
		measure_enqueues();
	if (strstr(parts, "batch") != NULL)
		measure_batches();
	if (strstr(parts, "single") != NULL)
	{
		measure_singles(8);
		measure_singles(24);
	}
	drop_database(db);
	return 0;
}
