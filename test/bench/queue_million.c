/*
 * queue_million.c: a queue with a million low tasks waiting, beside an empty
 * one.
 *
 * Two databases of one server, both served: in one of them so many low tasks
 * of type chat wait.
 *
 * Rates, by turns in both: 8 clients enqueue more low tasks, one a commit;
 * then 4 workers claim and complete as many again, a part of them one by one
 * and the rest in batches of 50: so one queue goes from nothing to what was
 * enqueued and back, the other from a million to that much more.  Before each of
 * these both are vacuumed and a checkpoint is made.  Meanwhile
 * chat is served by applications; afterwards it is the gateway's again.
 *
 * Trials: a pool of 20 with 2 slots reserved, whose other 18 slots hold calls
 * of 60 s, which the simulator answers so late.  A critical task is enqueued,
 * in turn in the queue of a million and in the empty one (the floor), and
 * timed from the return of its commit to the arrival of its request at the
 * simulator, by the wall clock, one machine.
 *
 * Restarts, of a server with all this: stopped and started, and killed by
 * SIGKILL: from the first connection that it accepts to the first request that
 * arrives at the simulator.
 */
#include "bench.h"
#include "floor.h"
#include "simulator.h"
#include "tasks.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENQUEUERS 8
#define WORKERS   4
#define BATCH     50
/* one of so many tasks is claimed alone */
#define ALONE 8

#define SLOW "sim-slow"
#define FAST "sim-fast"

enum
{
	EMPTY,
	MILLION,
	QUEUES
};

static const char *const names[QUEUES] = {"bench_empty", "bench_million"};
static const char *const titles[QUEUES] = {"empty", "a million waiting"};
static PGconn *dbs[QUEUES];
static int64_t million;

static void
create_databases(void)
{
	for (int q = 0; q < QUEUES; q++)
	{
		dbs[q] = new_database(names[q]);
		define_bench_type(dbs[q]);
		add_simulated_instance(dbs[q], "slow", SLOW, 1000);
		add_simulated_instance(dbs[q], "fast", FAST, 1000);
		run(dbs[q], "SELECT eduai.define_task_type('chat', 'application', 'bench')");
	}
	run(dbs[0], "ALTER SYSTEM SET eduai.database = bench_empty, bench_million");
	run(dbs[0], "SELECT pg_reload_conf()");
}

static int64_t
shared_bytes(void)
{
	return ask_int(dbs[0], "SELECT coalesce(sum(allocated_size), 0) FROM pg_shmem_allocations"
						   " WHERE name ILIKE 'eduai%'");
}

/* ---- rates ---- */

static void
open_enqueue(LoadClient *client)
{
	prepare(client->db, "one", "SELECT eduai.enqueue('chat', $1, 'low')");
}

static int
enqueue_one(LoadClient *client)
{
	char payload[PAYLOAD_SIZE];

	make_payload(payload, SLOW, &client->random);
	PQclear(execute(client->db, "one", 1, (const char *const[]){payload}));
	return 1;
}

static int64_t *to_claim; /* shared */

static int
work_limited(LoadClient *client)
{
	const Work *what = load_arg();

	if (__atomic_fetch_sub(to_claim, what->batch, __ATOMIC_RELAXED) <= 0)
		return 0;
	return work_step(client);
}

enum
{
	CELL_ENQUEUE,
	CELL_ALONE,
	CELL_BATCH,
	CELLS
};
static const char *const cell_names[CELLS] = {"enqueue, 8 clients", "claim and complete one",
											  "claim and complete 50"};

static int64_t
waiting(int q)
{
	return ask_int(dbs[q], TASKS_READY);
}

static double
claim_cell(int q, int batch, int64_t n)
{
	Work what = {"chat", batch, batch > 1, "0", NULL, NULL, NULL};
	Load load = {.dbname = names[q],
				 .open = work_open,
				 .step = work_limited,
				 .close = work_close,
				 .arg = &what};

	*to_claim = n;
	return run_load(&load, WORKERS, 3600, 1).per_second;
}

/*
 * Both queues as autovacuum leaves them in quieter times, and no page logged since
 * the checkpoint: or the one pays for its million, and for the age of what it claims.
 */
static void
settle(void)
{
	for (int q = 0; q < QUEUES; q++)
		run(dbs[q], "VACUUM (ANALYZE) eduai.task_live, eduai.task_request, eduai.task_end");
	run(dbs[0], "CHECKPOINT");
}

static void
round_of(int q, int round, double seconds, Series figures[CELLS])
{
	static const Load enqueues = {.open = open_enqueue, .step = enqueue_one};
	Load load = enqueues;
	int64_t before = waiting(q);
	int64_t added;

	load.dbname = names[q];
	settle();
	add_figure(&figures[CELL_ENQUEUE], run_load(&load, ENQUEUERS, seconds, round + 1).per_second);
	added = waiting(q) - before;
	settle();
	add_figure(&figures[CELL_ALONE], claim_cell(q, 1, added / ALONE));
	settle();
	/* what a worker has claimed beside its last batch is completed, too */
	add_figure(&figures[CELL_BATCH], claim_cell(q, BATCH, waiting(q) - before));
}

static void
measure_rates(int rounds, double seconds)
{
	Series figures[QUEUES][CELLS];
	char what[QUEUES][CELLS][80];

	for (int q = 0; q < QUEUES; q++)
		for (int c = 0; c < CELLS; c++)
		{
			snprintf(what[q][c], sizeof(what[q][c]), "%s, %s", cell_names[c], titles[q]);
			figures[q][c] = new_series(what[q][c], "%.0f /s", rounds);
		}
	printf("\n");
	for (int round = 0; round < rounds; round++)
	{
		for (int i = 0; i < QUEUES; i++)
			round_of(round % 2 == 0 ? i : QUEUES - 1 - i, round, seconds,
					 figures[round % 2 == 0 ? i : QUEUES - 1 - i]);
		printf("  round %d:", round + 1);
		for (int c = 0; c < CELLS; c++)
			printf("  %s %.0f and %.0f /s", cell_names[c], figures[EMPTY][c].values[round],
				   figures[MILLION][c].values[round]);
		printf("\n");
	}
	printf("rates, an empty queue and one of %" PRId64 "\n", million);
	for (int c = 0; c < CELLS; c++)
	{
		Series ratio = quotient("  a million / empty", &figures[MILLION][c], &figures[EMPTY][c]);

		print_series(&figures[EMPTY][c]);
		print_series(&figures[MILLION][c]);
		print_series(&ratio);
	}
}

/* ---- a critical task ---- */

static void
await_running(int q, int wanted)
{
	int64_t give_up = wall_us() + 60000000;

	while (ask_int(dbs[q], "SELECT count(*) FROM eduai.task_live WHERE state = 'running'") < wanted)
	{
		if (wall_us() > give_up)
			fail("the pool is not full within a minute");
		usleep(20000);
	}
}

/* The gateway's again, with slots for slow and critical calls. */
static void
give_to_gateway(void)
{
	for (int q = 0; q < QUEUES; q++)
	{
		run(dbs[q],
			"SELECT eduai.configure_pool('chat', '{chat}', 20, NULL, reserved_critical => 2)");
		run(dbs[q], "SELECT eduai.define_task_type('chat', 'gateway', 'chat')");
	}
	await_running(MILLION, 18);
}

/* Milliseconds from the commit's return to the request's arrival. */
static double
trial(int q, int number, int64_t *after, double *whole_ms)
{
	char nonce[64];
	char payload[256];
	const char *values[1] = {payload};
	int64_t start;
	int64_t end;
	int64_t arrival;

	snprintf(nonce, sizeof(nonce), "trial-%d-%d", number, q);
	snprintf(payload, sizeof(payload),
			 "{\"model\": \"" FAST "\", \"user\": \"%s\", \"messages\":"
			 " [{\"role\": \"user\", \"content\": \"Explain fractions to a pupil of ten.\"}]}",
			 nonce);
	start = wall_us();
	PQclear(execute(dbs[q], "critical", 1, values));
	end = wall_us();
	arrival = simulator_await(nonce, after, 30000);
	*whole_ms = (arrival - start) / 1000.0;
	return (arrival - end) / 1000.0;
}

static void
report_trials(const char *what, double *ms, int n)
{
	double p50 = percentile(ms, n, 0.5);
	double p99 = percentile(ms, n, 0.99);

	printf("  %-52s p50 %8.2f ms   p99 %8.2f ms   longest %8.2f ms\n", what, p50, p99,
		   percentile(ms, n, 1));
}

static void
measure_trials(int n)
{
	double *request[QUEUES];
	double *whole[QUEUES];
	int64_t after = simulator_last();
	char what[80];

	for (int q = 0; q < QUEUES; q++)
	{
		request[q] = malloc(sizeof(double) * n);
		whole[q] = malloc(sizeof(double) * n);
		prepare(dbs[q], "critical", "SELECT eduai.enqueue('chat', $1, 'critical')");
	}
	for (int i = -5; i < n; i++) /* the first warm up plans and connections */
		for (int k = 0; k < QUEUES; k++)
		{
			int q = i % 2 == 0 ? k : QUEUES - 1 - k;
			int at = i < 0 ? 0 : i;

			request[q][at] = trial(q, i, &after, &whole[q][at]);
			usleep(50000);
		}
	printf("\n%d critical tasks; in the queue of a million %" PRId64 " calls run meanwhile\n", n,
		   ask_int(dbs[MILLION], "SELECT count(*) FROM eduai.task_live WHERE state = 'running'"));
	for (int q = 0; q < QUEUES; q++)
	{
		snprintf(what, sizeof(what), "%s: commit to request", titles[q]);
		report_trials(what, request[q], n);
		snprintf(what, sizeof(what), "%s: start of enqueue to request", titles[q]);
		report_trials(what, whole[q], n);
	}
}

/* ---- restarts ---- */

static void
server(const char *what)
{
	char command[600];

	snprintf(command, sizeof(command), "%s %s >/dev/null 2>&1", required_env("EDUAI_SERVER"), what);
	if (system(command) != 0)
		fail("the server could not be %sed", what);
}

static void
kill_server(void)
{
	char path[1024];
	char *data = ask(dbs[0], "SHOW data_directory");
	FILE *file;
	int pid = 0;

	snprintf(path, sizeof(path), "%s/postmaster.pid", data);
	file = fopen(path, "r");
	if (file == NULL || fscanf(file, "%d", &pid) != 1 || pid <= 1 || kill(pid, SIGKILL) != 0)
		fail("the server could not be killed");
	fclose(file);
	free(data);
}

/* Starts the server; the moment at which a connection is accepted. */
static int64_t
start_server(void)
{
	char conninfo[64];
	pid_t pid;
	int64_t up;
	int status;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		server("start");
		_exit(0);
	}
	snprintf(conninfo, sizeof(conninfo), "dbname=%s", names[MILLION]);
	for (;;)
	{
		PGconn *db = PQconnectdb(conninfo);

		up = wall_us();
		if (PQstatus(db) == CONNECTION_OK)
		{
			PQfinish(db);
			break;
		}
		PQfinish(db);
		usleep(5000);
	}
	if (waitpid(pid, &status, 0) < 0 || status != 0)
		fail("the server did not start");
	return up;
}

static void
measure_restart(bool killed)
{
	int64_t after;
	int64_t down = wall_us();
	int64_t up;
	int64_t first;

	if (killed)
		kill_server();
	else
		server("stop");
	for (int q = 0; q < QUEUES; q++)
		PQfinish(dbs[q]);
	after = simulator_last();
	up = start_server();
	first = simulator_await(NULL, &after, 120000);
	printf("  %-20s accepts connections after %6.2f s; the first request %7.1f ms later\n",
		   killed ? "killed by SIGKILL" : "stopped and started", (up - down) / 1e6,
		   (first - up) / 1000.0);
	for (int q = 0; q < QUEUES; q++)
		dbs[q] = connect_to(names[q]);
	await_running(MILLION, 18);
}

/* ---- the whole ---- */

static void
drop_databases(void)
{
	/* drop_database() resets what names them */
	for (int q = 0; q < QUEUES; q++)
		drop_database(dbs[q]);
}

int
main(void)
{
	int rounds = env_int("ROUNDS", 5);
	int seconds = env_int("SECONDS", 5);
	int trials = env_int("SAMPLES", 100);
	int64_t bytes;

	setvbuf(stdout, NULL, _IOLBF, 0);
	million = env_int("TASKS", 1000000);
	printf("command: make bench BENCH=queue_million ROUNDS=%d SECONDS=%d SAMPLES=%d TASKS=%" PRId64
		   "\n",
		   rounds, seconds, trials, million);
	simulator_reset();
	simulator_behave(SLOW, "latency=60000");
	simulator_behave(FAST, "latency=5");
	to_claim = shared_memory(sizeof(int64_t));
	create_databases();
	bytes = shared_bytes();
	fill_tasks(dbs[MILLION], "chat", SLOW, "low", million);
	for (int q = 0; q < QUEUES; q++)
		run(dbs[q], "VACUUM ANALYZE");
	run(dbs[0], "CHECKPOINT");
	printf("waiting: %" PRId64 " and %" PRId64 "; shared memory of eduai: %" PRId64
		   " bytes before, %" PRId64 " now\n",
		   waiting(EMPTY), waiting(MILLION), bytes, shared_bytes());
	measure_rates(rounds, seconds);
	give_to_gateway();
	measure_trials(trials);
	printf("\nrestarts\n");
	measure_restart(false);
	measure_restart(true);
	printf("shared memory of eduai: %" PRId64 " bytes\n", shared_bytes());
	drop_databases();
	return 0;
}
