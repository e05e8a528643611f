/*
 * queue_deadlines.c: how long tasks of each class wait, against their
 * deadlines: critical 1 s, high 5 s, normal 30 s, low 5 min.
 *
 * A pool of 20 slots with 2 reserved for critical tasks, and a provider that
 * takes 100 ms for each call: so many tasks a second at the most, measured
 * first.
 *
 * Mixed: tasks of all classes arrive by chance (Poisson) at 80 % of that.  The
 * wait of a task is from its enqueue to its start.  The floor is what a pool of
 * as many slots would do with the very same arrivals if it lost no time: always
 * the task with the earliest deadline, each for as long as calls took on the
 * average here.
 *
 * Overload: critical tasks arrive at 120 % of the capacity while tasks of the
 * other classes wait: what each class gets of the completions.
 */
#include "bench.h"
#include "floor.h"
#include "simulator.h"
#include "tasks.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODEL      "sim-chat"
#define SLOTS      20
#define SERVICE_MS 100
#define CLIENTS    4
#define CLASSES    4

static const char *const class_names[CLASSES] = {"critical", "high", "normal", "low"};
static const double deadline_ms[CLASSES] = {1000, 5000, 30000, 300000};
/* percent of the arrivals */
static const int mixture[CLASSES] = {10, 20, 40, 30};
static const int only_critical[CLASSES] = {100, 0, 0, 0};

#define LAST_TASK "SELECT coalesce(max(task_id), 0) FROM eduai.task_request"

static PGconn *db;

/* ---- arrivals ---- */

static int
class_of(const int *percent, uint64_t dice)
{
	int at = (int) (dice % 100);
	int class = 0;

	while (class < CLASSES - 1 && (at -= percent[class]) >= 0)
		class ++;
	return class;
}

/* A client that enqueues at random moments, so many a second, until then. */
static void
arrive(const int *percent, double per_second, int64_t until, uint64_t seed)
{
	PGconn *own = connect_db();
	uint64_t random = seed;
	double due = wall_us();
	char payload[PAYLOAD_SIZE];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prepare(own, "one", "SELECT eduai.enqueue('chat', $1, $2)");
	for (;;)
	{
		double chance = ((next_random(&random) >> 11) + 1) / 9007199254740993.0;
		int class = class_of(percent, next_random(&random));

		due += -log(chance) / per_second * 1e6;
		if (due >= until)
			break;
		while (wall_us() < due)
			usleep(due - wall_us() > 1000 ? due - wall_us() : 100);
		make_payload(payload, MODEL, &random);
		PQclear(execute(own, "one", 2, (const char *const[]){payload, class_names[class]}));
	}
	PQfinish(own);
	_exit(0);
}

static void
arrivals(const int *percent, double per_second, int seconds)
{
	int64_t until = wall_us() + (int64_t) seconds * 1000000;
	int status;

	fflush(stdout);
	for (int i = 0; i < CLIENTS; i++)
		if (fork() == 0)
			arrive(percent, per_second / CLIENTS, until, 1000 + i);
	for (int i = 0; i < CLIENTS; i++)
		if (wait(&status) < 0 || status != 0)
			fail("a client failed");
}

static void
await_empty(int timeout_s)
{
	int64_t give_up = wall_us() + (int64_t) timeout_s * 1000000;

	while (ask_int(db, TASKS_LEFT) != 0)
	{
		if (wall_us() > give_up)
			fail("the tasks did not end within %d s", timeout_s);
		usleep(50000);
	}
}

/* ---- capacity ---- */

/* Critical tasks, which may have every slot; without the first and the last tenth of them. */
static double
measure_capacity(int seconds)
{
	int64_t n = (int64_t) seconds * SLOTS * 1000 / SERVICE_MS;
	char sql[512];
	char *rate;
	double capacity;

	snprintf(sql, sizeof(sql),
			 "SELECT 0.8 * count(*) / extract(epoch FROM percentile_disc(0.9) WITHIN GROUP"
			 " (ORDER BY finished_at) - percentile_disc(0.1) WITHIN GROUP (ORDER BY finished_at))"
			 " FROM eduai.task_end WHERE task_id > %" PRId64,
			 ask_int(db, LAST_TASK));
	fill_tasks(db, "chat", MODEL, class_names[0], n);
	await_empty(seconds * 10 + 60);
	rate = ask(db, sql);
	capacity = atof(rate);
	free(rate);
	return capacity;
}

/* ---- the floor ---- */

typedef struct Arrived
{
	int class;
	double at_ms;
	double wait_ms;
	double ideal_ms;
} Arrived;

/* The earliest deadline among the heads of the classes that have arrived; -1: none has. */
static int
earliest(const Arrived *tasks, int n, const int *head, double now)
{
	int best = -1;

	for (int class = 0; class < CLASSES; class ++)
	{
		const Arrived *task = &tasks[head[class]];

		if (head[class] < n && task->at_ms <= now &&
			(best < 0 ||
			 task->at_ms + deadline_ms[class] < tasks[head[best]].at_ms + deadline_ms[best]))
			best = class;
	}
	return best;
}

static int
next_of(const Arrived *tasks, int n, int class, int from)
{
	while (from < n && tasks[from].class != class)
		from++;
	return from;
}

/* Slots that lose no time; tasks in the order of their arrival. */
static void
serve_ideally(Arrived *tasks, int n, double service_ms)
{
	double free_at[SLOTS] = {0};
	int head[CLASSES];

	for (int class = 0; class < CLASSES; class ++)
		head[class] = next_of(tasks, n, class, 0);
	for (int served = 0; served < n; served++)
	{
		int slot = 0;
		double now;
		int class;

		for (int i = 1; i < SLOTS; i++)
			if (free_at[i] < free_at[slot])
				slot = i;
		now = free_at[slot];
		class = earliest(tasks, n, head, now);
		if (class < 0)
		{
			now = INFINITY;
			for (int c = 0; c < CLASSES; c++)
				if (head[c] < n && tasks[head[c]].at_ms < now)
					now = tasks[head[c]].at_ms;
			class = earliest(tasks, n, head, now);
		}
		tasks[head[class]].ideal_ms = now - tasks[head[class]].at_ms;
		free_at[slot] = now + service_ms;
		head[class] = next_of(tasks, n, class, head[class] + 1);
	}
}

/* ---- mixed ---- */

static Arrived *
read_tasks(int64_t after, int *n, double *service_ms)
{
	char sql[512];
	PGresult *rows;
	Arrived *tasks;
	double sum = 0;

	snprintf(sql, sizeof(sql),
			 "SELECT r.priority, extract(epoch FROM r.enqueued_at) * 1000,"
			 " extract(epoch FROM e.started_at - r.enqueued_at) * 1000,"
			 " extract(epoch FROM e.finished_at - e.started_at) * 1000"
			 " FROM eduai.task_request r JOIN eduai.task_end e USING (tenant_id, task_id)"
			 " WHERE task_id > %" PRId64 " AND e.state = 'completed' ORDER BY r.enqueued_at",
			 after);
	rows = PQexec(db, sql);
	if (PQresultStatus(rows) != PGRES_TUPLES_OK)
		fail("%s", PQerrorMessage(db));
	*n = PQntuples(rows);
	tasks = calloc(*n + 1, sizeof(Arrived));
	for (int i = 0; i < *n; i++)
	{
		tasks[i].class = atoi(PQgetvalue(rows, i, 0));
		tasks[i].at_ms = atof(PQgetvalue(rows, i, 1)) - atof(PQgetvalue(rows, 0, 1));
		tasks[i].wait_ms = atof(PQgetvalue(rows, i, 2));
		sum += atof(PQgetvalue(rows, i, 3));
	}
	*service_ms = *n > 0 ? sum / *n : 0;
	PQclear(rows);
	return tasks;
}

static void
report_class(int class, const Arrived *tasks, int n)
{
	double *waits = malloc(sizeof(double) * (n + 1));
	double *ideal = malloc(sizeof(double) * (n + 1));
	int of = 0;

	for (int i = 0; i < n; i++)
		if (tasks[i].class == class)
		{
			waits[of] = tasks[i].wait_ms;
			ideal[of++] = tasks[i].ideal_ms;
		}
	printf("  %-9s %7d tasks   wait p50 %8.1f ms   p99 %8.1f ms   longest %8.1f ms"
		   "   floor p99 %8.1f ms   deadline %6.0f ms: %s\n",
		   class_names[class], of, percentile(waits, of, 0.5), percentile(waits, of, 0.99),
		   percentile(waits, of, 1), percentile(ideal, of, 0.99), deadline_ms[class],
		   percentile(waits, of, 0.99) <= deadline_ms[class] ? "met at p99" : "NOT met at p99");
	free(waits);
	free(ideal);
}

static void
measure_mixed(double per_second, int seconds)
{
	int64_t before = ask_int(db, LAST_TASK);
	double service_ms;
	Arrived *tasks;
	int n;

	arrivals(mixture, per_second, seconds);
	await_empty(600);
	tasks = read_tasks(before, &n, &service_ms);
	serve_ideally(tasks, n, service_ms);
	printf("\nmixed, %.0f tasks/s for %d s (%.1f/s came), calls of %.1f ms\n", per_second, seconds,
		   (double) n / seconds, service_ms);
	for (int class = 0; class < CLASSES; class ++)
		report_class(class, tasks, n);
	free(tasks);
}

/* ---- overload ---- */

static void
measure_overload(double capacity, int seconds)
{
	int64_t backlog = (int64_t) (capacity * seconds) + 1000;
	int64_t counts[CLASSES];
	int64_t all = 0;
	char sql[512];

	for (int class = CLASSES - 1; class > 0; class --)
		fill_tasks(db, "chat", MODEL, class_names[class], backlog);
	run(db, "CREATE TABLE overload_from AS SELECT clock_timestamp() + interval '2 s' AS at");
	arrivals(only_critical, capacity * 1.2, seconds + 2);
	printf("\noverload, %.0f critical tasks/s for %d s, %" PRId64
		   " of each other class waiting: completions\n",
		   capacity * 1.2, seconds, backlog);
	for (int class = 0; class < CLASSES; class ++)
	{
		snprintf(sql, sizeof(sql),
				 "SELECT count(*) FROM eduai.task_end e JOIN eduai.task_request r"
				 " USING (tenant_id, task_id), overload_from f WHERE r.priority = %d"
				 " AND e.state = 'completed' AND e.finished_at BETWEEN f.at"
				 " AND f.at + interval '%d s'",
				 class, seconds);
		counts[class] = ask_int(db, sql);
		all += counts[class];
	}
	for (int class = 0; class < CLASSES; class ++)
		printf("  %-9s %7" PRId64 "   %5.1f %%\n", class_names[class], counts[class],
			   all > 0 ? 100.0 * counts[class] / all : 0);
	printf("  of a capacity of %.0f tasks/s %.0f /s were completed\n", capacity,
		   (double) all / seconds);
}

int
main(void)
{
	int seconds = env_int("SECONDS", 60);
	int rounds = env_int("ROUNDS", 2);
	double *capacities = malloc(sizeof(double) * rounds);
	char behaviour[64];
	double capacity;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("command: make bench BENCH=queue_deadlines SECONDS=%d ROUNDS=%d\n", seconds, rounds);
	simulator_reset();
	snprintf(behaviour, sizeof(behaviour), "latency=%d", SERVICE_MS);
	simulator_behave(MODEL, behaviour);
	db = new_database("bench_deadlines");
	define_bench_type(db);
	add_simulated_instance(db, "bench", MODEL, 1000);
	run(db, "SELECT eduai.configure_pool('chat', '{chat}', 20, NULL, reserved_critical => 2)");
	for (int i = 0; i < rounds; i++)
		capacities[i] = measure_capacity(seconds / 6 + 1);
	capacity = median(capacities, rounds);
	printf("capacity: %.0f tasks/s (%d slots of %d ms: %d /s), median of %d\n", capacity, SLOTS,
		   SERVICE_MS, SLOTS * 1000 / SERVICE_MS, rounds);
	for (int i = 0; i < rounds; i++)
		measure_mixed(capacity * 0.8, seconds);
	measure_overload(capacity, seconds);
	drop_database(db);
	return 0;
}
