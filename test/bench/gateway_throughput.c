/*
 * gateway_throughput.c: tasks through the dispatcher and back, what each costs
 * of its processor time, what it adds to a call, and whether anything delays or
 * grows. The simulator answers after 1 ms.
 *
 * Throughput, rounds in turn with answers in one piece and with streams: two
 * clients enqueue batches; from the first enqueue to the last result committed.
 * Processor time is the dispatcher's own (/proc): on a machine with other work
 * it says more than the rate, and 1 s over it is the rate that one dispatcher
 * cannot exceed. Beside it stand the simulator's and the whole machine's, clients,
 * sessions, WAL writer and simulator included: what all cores together cannot
 * exceed. That one is right on a machine without other work only.
 *
 * Added latency, an idle dispatcher, each sample in turn: the call alone, by
 * this program's libcurl; a committed INSERT of the payload; the task, from
 * enqueue to its result in the client (wait_task).
 *
 * One slow call: the same samples while a call of 60 s is in flight, which it
 * still is afterwards.
 *
 * Memory: the dispatcher's own resident memory (RssAnon), and its share of all that it
 * has mapped (Pss), after a warm-up and after MEMORY_TASKS
 * more, a line for each tenth of them (60,000; MEMORY_TASKS=1000000 ROUNDS=1
 * TASKS=2000 SAMPLES=20 for the whole promise: about 200 s on a quiet machine).
 */
#include "bench.h"
#include "simulator.h"
#include "tasks.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAYLOAD \
	"{\"messages\": [{\"role\": \"user\", \"content\": \"Explain fractions to a pupil of ten.\"}], \"model\": \"%s\"}"
#define BATCH        500
#define MEMORY_ROUND 20000

#define Max(x, y) ((x) > (y) ? (x) : (y))
#define Min(x, y) ((x) < (y) ? (x) : (y))

static PGconn *db;

static void
add(const char *name, const char *options)
{
	char sql[512];

	snprintf(sql, sizeof(sql),
			 "SELECT eduai.add_instance('%s', 'bench', '%s', '{chat}', max_concurrent => 500, "
			 "price_input => 0.15, price_output => 0.60, options => '%s')",
			 name, name, options);
	run(db, sql);
}

static void
set_up(void)
{
	char sql[512];

	snprintf(
		sql, sizeof(sql),
		"SELECT eduai.add_provider('bench', 'openai', '%s', NULL, '{\"allow_loopback\": true}')",
		simulator_url("/v1"));
	run(db, sql);
	add("whole", "{\"stream\": false}");
	add("streamed", "{\"stream\": true}");
	add("slow", "{\"first_byte_ms\": 100000, \"timeout_ms\": 100000}");
	run(db, "SELECT eduai.configure_pool('chat', '{chat}', 500)");
	run(db, "ALTER SYSTEM SET eduai.queue_max_size = 0");
	run(db, "SELECT pg_reload_conf()");
	run(db, "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY, payload jsonb)");
	simulator_reset();
	simulator_behave("whole", "latency=1");
	simulator_behave("streamed", "latency=1");
	simulator_behave("slow", "latency=60000");
}

/* ---- the dispatcher's process ---- */

static int
dispatcher(void)
{
	return (int) ask_int(
		db, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher'");
}

static double
processor_s(int pid)
{
	char path[64];
	char line[1024];
	unsigned long user = 0;
	unsigned long kernel = 0;
	char *at;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (f == NULL || fgets(line, sizeof(line), f) == NULL || (at = strrchr(line, ')')) == NULL ||
		sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2)
		fail("cannot read %s", path);
	fclose(f);
	return (double) (user + kernel) / sysconf(_SC_CLK_TCK);
}

/* All processes on all cores. */
static double
machine_s(void)
{
	unsigned long user = 0, nice = 0, kernel = 0, idle = 0, wait = 0, irq = 0, softirq = 0;
	FILE *f = fopen("/proc/stat", "r");

	if (f == NULL || fscanf(f, "cpu %lu %lu %lu %lu %lu %lu %lu", &user, &nice, &kernel, &idle,
							&wait, &irq, &softirq) != 7)
		fail("cannot read /proc/stat");
	fclose(f);
	return (double) (user + nice + kernel + irq + softirq) / sysconf(_SC_CLK_TCK);
}

/* A line of a file of /proc, "NAME: N kB"; -1: none. */
static long
kb_of(int pid, const char *file, const char *name)
{
	char path[64];
	char line[256];
	size_t length = strlen(name);
	long kb = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	f = fopen(path, "r");
	while (f != NULL && kb < 0 && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, name, length) == 0 && line[length] == ':')
			kb = atol(line + length + 1);
	if (f != NULL)
		fclose(f);
	return kb;
}

/* Its own memory: shared memory counts to a process as far as it has touched it. */
static long
own_kb(int pid)
{
	long kb = kb_of(pid, "status", "RssAnon");

	if (kb < 0)
		fail("cannot read the memory of process %d", pid);
	return kb;
}

/* The program that listens where SIMULATOR_URL says, which this one did not start. */
static int
simulator(void)
{
	const char *pid = getenv("SIMULATOR_PID");

	return pid != NULL ? atoi(pid) : 0;
}

/* ---- throughput ---- */

static void
enqueue_share(const char *model, int n)
{
	PGconn *own = connect_db();
	char payload[512];
	char sql[1024];

	snprintf(payload, sizeof(payload), PAYLOAD, model);
	snprintf(sql, sizeof(sql),
			 "SELECT cardinality(eduai.enqueue_batch('chat', array_fill('%s'::jsonb, ARRAY[%d])))",
			 payload, BATCH);
	for (int done = 0; done < n; done += BATCH)
		run(own, sql);
	PQfinish(own);
	_exit(0);
}

static void
await_all(void)
{
	int64_t give_up = wall_us() + 600 * (int64_t) 1000000;

	while (ask_int(db, TASKS_LEFT) > 0)
	{
		if (wall_us() > give_up)
			fail("the tasks did not end within 600 s");
		usleep(20000);
	}
}

/* Processor time for each task, in microseconds. */
typedef struct Cost
{
	double dispatcher;
	double simulator;
	double machine;
} Cost;

static Cost
spent(int pid)
{
	return (Cost){.dispatcher = processor_s(pid),
				  .simulator = simulator() > 0 ? processor_s(simulator()) : 0,
				  .machine = machine_s()};
}

/* Tasks a second. */
static double
one_round(const char *model, int n, Cost *cost)
{
	int pid = dispatcher();
	Cost before = spent(pid);
	Cost after;
	int64_t start = wall_us();
	int64_t end;

	for (int client = 0; client < 2; client++)
		if (fork() == 0)
			enqueue_share(model, n / 2);
	for (int client = 0; client < 2; client++)
		wait(NULL);
	await_all();
	end = wall_us();
	after = spent(pid);
	cost->dispatcher = (after.dispatcher - before.dispatcher) * 1e6 / n;
	cost->simulator = (after.simulator - before.simulator) * 1e6 / n;
	cost->machine = (after.machine - before.machine) * 1e6 / n;
	return n / ((end - start) / 1e6);
}

static double
median_of(const Cost *costs, size_t offset, int n)
{
	double *values = malloc(sizeof(double) * n);
	double middle;

	for (int i = 0; i < n; i++)
		memcpy(&values[i], (const char *) &costs[i] + offset, sizeof(double));
	middle = median(values, n);
	free(values);
	return middle;
}

static void
report_rounds(const char *what, double *rates, const Cost *costs, int n)
{
	double slowest = percentile(rates, n, 0);
	double fastest = percentile(rates, n, 1);
	double own = median_of(costs, offsetof(Cost, dispatcher), n);
	double all = median_of(costs, offsetof(Cost, machine), n);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	printf("  %-10s %6.0f tasks/s (%.0f to %.0f), dispatcher %4.0f us a task: at most %6.0f /s\n",
		   what, median(rates, n), slowest, fastest, own, 1e6 / own);
	printf("  %-10s whole machine %4.0f us a task: at most %6.0f /s on %ld cores", "", all,
		   cores * 1e6 / all, cores);
	if (simulator() > 0)
		printf("; simulator %.0f us", median_of(costs, offsetof(Cost, simulator), n));
	printf("\n");
}

static void
measure_throughput(int rounds, int n)
{
	static const char *const models[] = {"whole", "streamed"};
	double *rates[2];
	Cost *costs[2];
	Cost ignored;

	for (int m = 0; m < 2; m++)
	{
		rates[m] = malloc(sizeof(double) * rounds);
		costs[m] = malloc(sizeof(Cost) * rounds);
		(void) one_round(models[m], BATCH * 2, &ignored);
	}
	for (int i = 0; i < rounds; i++)
		for (int m = 0; m < 2; m++)
			rates[m][i] = one_round(models[m], n, &costs[m][i]);
	printf("\nthroughput, %d rounds of %d tasks each, medians\n", rounds, n);
	for (int m = 0; m < 2; m++)
		report_rounds(models[m], rates[m], costs[m], rounds);
	printf("  not completed: %s of %s\n",
		   ask(db, "SELECT count(*) FROM eduai.task_end WHERE state <> 'completed'"),
		   ask(db, "SELECT count(*) FROM eduai.task_end"));
}

/* ---- latency ---- */

static double
direct_ms(void)
{
	char body[512];
	int64_t start;

	snprintf(body, sizeof(body), PAYLOAD, "whole");
	start = wall_us();
	free(http(simulator_url("/v1/chat/completions"), body));
	return (wall_us() - start) / 1000.0;
}

static double
insert_ms(void)
{
	char payload[512];
	char sql[700];
	int64_t start;

	snprintf(payload, sizeof(payload), PAYLOAD, "whole");
	snprintf(sql, sizeof(sql), "INSERT INTO plain (payload) VALUES ('%s')", payload);
	start = wall_us();
	run(db, sql);
	return (wall_us() - start) / 1000.0;
}

static double
task_ms(void)
{
	char payload[512];
	char sql[700];
	int64_t start;
	char *id;
	char *state;

	snprintf(payload, sizeof(payload), PAYLOAD, "whole");
	snprintf(sql, sizeof(sql), "SELECT eduai.enqueue('chat', '%s')", payload);
	start = wall_us();
	id = ask(db, sql);
	snprintf(sql, sizeof(sql), "SELECT state FROM eduai.wait_task(%s, '10 s')", id);
	state = ask(db, sql);
	if (strcmp(state, "completed") != 0)
		fail("task %s is %s", id, state);
	free(id);
	free(state);
	return (wall_us() - start) / 1000.0;
}

static void
measure_latency(const char *what, int n)
{
	double *direct = malloc(sizeof(double) * n);
	double *insert = malloc(sizeof(double) * n);
	double *task = malloc(sizeof(double) * n);

	for (int i = 0; i < n; i++)
	{
		direct[i] = direct_ms();
		insert[i] = insert_ms();
		task[i] = task_ms();
		usleep(2000);
	}
	printf("\nlatency, %d samples%s\n", n, what);
	printf("  %-32s p50 %7.3f ms   p99 %7.3f ms\n", "the call alone", percentile(direct, n, 0.5),
		   percentile(direct, n, 0.99));
	printf("  %-32s p50 %7.3f ms   p99 %7.3f ms\n", "a committed INSERT",
		   percentile(insert, n, 0.5), percentile(insert, n, 0.99));
	printf("  %-32s p50 %7.3f ms   p99 %7.3f ms\n", "enqueue to result", percentile(task, n, 0.5),
		   percentile(task, n, 0.99));
	printf("  %-32s p50 %7.3f ms   p99 %7.3f ms\n", "added to the call",
		   percentile(task, n, 0.5) - percentile(direct, n, 0.5),
		   percentile(task, n, 0.99) - percentile(direct, n, 0.99));
	free(direct);
	free(insert);
	free(task);
}

static void
measure_slow(int n)
{
	char payload[512];
	char sql[700];
	char *id;

	snprintf(payload, sizeof(payload), PAYLOAD, "slow");
	snprintf(sql, sizeof(sql), "SELECT eduai.enqueue('chat', '%s')", payload);
	id = ask(db, sql);
	measure_latency(", while a call of 60 s is in flight", n);
	snprintf(sql, sizeof(sql), "SELECT state FROM eduai.get_task(%s)", id);
	printf("  the slow call is %s\n", ask(db, sql));
	snprintf(sql, sizeof(sql), "SELECT eduai.cancel_task(%s)", id);
	run(db, sql);
	free(id);
}

/* ---- memory ---- */

static void
measure_memory(int n)
{
	int pid = dispatcher();
	int tenth = Max(n / 10 / BATCH / 2 * BATCH * 2, BATCH * 2);
	Cost ignored;
	long before;

	for (int i = 0; i < 2; i++)
		(void) one_round(i == 0 ? "whole" : "streamed", 5000, &ignored);
	before = own_kb(pid);
	printf("\nmemory of the dispatcher after a warm-up: %ld kB of its own, %ld kB of all (Pss)\n",
		   before, kb_of(pid, "smaps_rollup", "Pss"));
	/* a leak goes on as it began; caches fill up */
	for (int done = 0; done < n;)
	{
		int share = Min(MEMORY_ROUND, tenth - done % tenth);

		(void) one_round(done / MEMORY_ROUND % 2 == 0 ? "whole" : "streamed", share, &ignored);
		done += share;
		if (done % tenth == 0)
			printf("  after %d more tasks: %+ld kB of its own, %ld kB of all\n", done,
				   own_kb(pid) - before, kb_of(pid, "smaps_rollup", "Pss"));
	}
	if (pid != dispatcher())
		fail("the dispatcher was restarted");
	printf("  in all: %+ld kB of its own, %ld kB\n", own_kb(pid) - before, own_kb(pid));
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	db = connect_db();
	set_up();
	measure_throughput(env_int("ROUNDS", 5), env_int("TASKS", 20000));
	measure_latency("", env_int("SAMPLES", 400));
	measure_slow(env_int("SAMPLES", 400));
	measure_memory(env_int("MEMORY_TASKS", 60000));
	PQfinish(db);
	return 0;
}
