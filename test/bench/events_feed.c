/*
 * events_feed.c: how long from an append to the reader who waits for it.
 *
 *   fetch    a reader in eduai.fetch_events(), which waits in the server, and
 *            acknowledges each page; writers append to streams of one category;
 *   NOTIFY   a reader on LISTEN; writers INSERT into the floor (floor.h) and
 *            pg_notify() in the same statement.  "and SELECT" adds the reading of
 *            the row by its primary key, which is what fetch_events() returns.
 *
 * Each append is a transaction of its own.  "commit to reader" counts from the
 * writer's return of the commit to the reader's return, and is below zero when
 * the reader was faster than the reply; "append to reader" counts from the
 * start of the call.  One clock, one machine.
 *
 * At 1 event/s both take turns within the second; at 500 events/s, by four
 * writers that keep to a timetable, rounds alternate.
 */
#include "bench.h"
#include "floor.h"
#include "load.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define STREAMS      100
#define CATEGORY     "bench"
#define FAST_RATE    500
#define FAST_WRITERS 4
#define DEADLINE_US  20000000

static PGconn *db;
static Versions *versions;

typedef struct Stamp
{
	int64_t sent_us;
	int64_t returned_us;
	int64_t told_us; /* the notification's arrival */
	int64_t got_us;
} Stamp;

typedef struct Arena
{
	int reader_ready;
	int64_t start_us;
	Stamp stamps[];
} Arena;

typedef enum Mode
{
	FETCH,
	NOTIFY,
	MODES
} Mode;

/* One measurement under way. */
typedef struct Run
{
	Mode mode;
	int events;
	int writers;
	double rate;
	Arena *arena;
	pid_t reader;
	pid_t writer[FAST_WRITERS];
} Run;

/* ---- writers ---- */

static void
sleep_until(int64_t time_us)
{
	int64_t now = wall_us();

	if (now < time_us)
		usleep(time_us - now);
}

static void
append_event(PGconn *own, int n)
{
	char name[NAME_SIZE];
	char data[32];
	const char *values[3] = {name, EVENT_TYPE, data};

	stream_name(name, n % STREAMS);
	snprintf(data, sizeof(data), "{\"n\": %d}", n);
	PQclear(execute(own, "write", 3, values));
}

static void
insert_and_notify(PGconn *own, int n, uint64_t *random)
{
	char version[16];
	char id[UUID_SIZE];
	char name[NAME_SIZE];
	char data[32];
	char payload[96];
	const char *values[6] = {version, id, name, EVENT_TYPE, data, payload};

	snprintf(version, sizeof(version), "%d", next_version(versions, n % STREAMS));
	uuid7(id, random);
	stream_name(name, n % STREAMS);
	snprintf(data, sizeof(data), "{\"n\": %d}", n);
	snprintf(payload, sizeof(payload), "%d %s %s", n, name, version);
	PQclear(execute(own, "write", 6, values));
}

static void
be_writer(const Run *run, int number)
{
	static const char *const statements[MODES] = {"SELECT * FROM eduai.append_event($1, $2, $3)",
												  "WITH e AS (" FLOOR_INSERT
												  ") SELECT pg_notify('bench_feed', $6)"};
	PGconn *own = connect_db();
	uint64_t random = wall_us() + number;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prepare(own, "write", statements[run->mode]);
	while (__atomic_load_n(&run->arena->start_us, __ATOMIC_SEQ_CST) == 0)
		usleep(500);
	for (int n = number; n < run->events; n += run->writers)
	{
		Stamp *stamp = &run->arena->stamps[n];

		sleep_until(run->arena->start_us + (int64_t) (n * 1e6 / run->rate));
		stamp->sent_us = wall_us();
		if (run->mode == FETCH)
			append_event(own, n);
		else
			insert_and_notify(own, n, &random);
		stamp->returned_us = wall_us();
	}
	PQfinish(own);
	_exit(0);
}

/* ---- readers ---- */

/* One page; returns how many events were in it. */
static int
fetch_page(const Run *run, PGconn *own)
{
	PGresult *page = execute(own, "fetch", 0, NULL);
	int64_t now = wall_us();
	int rows = PQntuples(page);

	for (int i = 0; i < rows; i++)
	{
		int n = atoi(PQgetvalue(page, i, 1));

		if (n < 0 || n >= run->events || run->arena->stamps[n].got_us != 0)
			fail("event %d came twice or never was", n);
		run->arena->stamps[n].told_us = run->arena->stamps[n].got_us = now;
	}
	if (rows > 0)
	{
		const char *last = PQgetvalue(page, rows - 1, 0);

		PQclear(execute(own, "ack", 1, &last));
	}
	PQclear(page);
	return rows;
}

/* Waits for notifications up to a second and reads the rows that they name. */
static int
take_notifications(const Run *run, PGconn *own)
{
	struct pollfd wait_for = {.fd = PQsocket(own), .events = POLLIN};
	PGnotify *notice;
	int taken = 0;

	(void) poll(&wait_for, 1, 1000);
	if (!PQconsumeInput(own))
		fail("%s", PQerrorMessage(own));
	while ((notice = PQnotifies(own)) != NULL)
	{
		char name[NAME_SIZE];
		char version[16];
		const char *values[2] = {name, version};
		PGresult *result;
		int n;

		if (sscanf(notice->extra, "%d %31s %15s", &n, name, version) != 3)
			fail("cannot read the notification \"%s\"", notice->extra);
		PQfreemem(notice);
		run->arena->stamps[n].told_us = wall_us();
		result = execute(own, "row", 2, values);
		if (PQntuples(result) != 1)
			fail("no row of %s", name);
		PQclear(result);
		run->arena->stamps[n].got_us = wall_us();
		taken++;
	}
	return taken;
}

static void
be_reader(const Run *run)
{
	PGconn *own = connect_db();
	int64_t give_up;
	int taken = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (run->mode == FETCH)
	{
		prepare(
			own, "fetch",
			"SELECT \"position\", data ->> 'n', * FROM eduai.fetch_events('bench_feed', 100, 0, '1 second')");
		prepare(own, "ack", "SELECT eduai.ack_events('bench_feed', $1)");
	}
	else
	{
		prepare(own, "row",
				"SELECT * FROM plain_event WHERE tenant_id = '" TENANT
				"' AND stream = $1 AND version = $2");
		PQclear(PQexec(own, "LISTEN bench_feed"));
	}
	__atomic_store_n(&run->arena->reader_ready, 1, __ATOMIC_SEQ_CST);
	give_up = wall_us() + (int64_t) (run->events * 1e6 / run->rate) + DEADLINE_US;
	while (taken < run->events)
	{
		taken += run->mode == FETCH ? fetch_page(run, own) : take_notifications(run, own);
		if (wall_us() > give_up)
			fail("only %d of %d events arrived", taken, run->events);
	}
	PQfinish(own);
	_exit(0);
}

/* ---- runs ---- */

static Run
start_run(Mode mode, int events, double rate, int writers)
{
	Run run = {.mode = mode, .events = events, .writers = writers, .rate = rate};

	run.arena = shared_memory(sizeof(Arena) + sizeof(Stamp) * events);
	fflush(stdout);
	run.reader = fork();
	if (run.reader == 0)
		be_reader(&run);
	for (int i = 0; i < writers; i++)
	{
		run.writer[i] = fork();
		if (run.writer[i] == 0)
			be_writer(&run, i);
	}
	return run;
}

/* Lets the writers go, "delay" from now. */
static void
release(const Run *run, int64_t delay_us)
{
	while (__atomic_load_n(&run->arena->reader_ready, __ATOMIC_SEQ_CST) == 0)
	{
		if (waitpid(run->reader, NULL, WNOHANG) != 0)
			fail("the reader failed");
		usleep(1000);
	}
	usleep(50000); /* the reader waits in its call */
	__atomic_store_n(&run->arena->start_us, wall_us() + delay_us, __ATOMIC_SEQ_CST);
}

static void
await(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || status != 0)
		fail("a process of the benchmark failed");
}

static void
await_run(const Run *run)
{
	for (int i = 0; i < run->writers; i++)
		await(run->writer[i]);
	await(run->reader);
}

enum
{
	COMMIT_P50,
	COMMIT_P99,
	APPEND_P50,
	APPEND_P99,
	ROW_P50,
	ROW_P99,
	FIGURES
};

/* The figures of one kind of latency: two numbers a run. */
static void
add_percentiles(Series *p50, Series *p99, double *values, int n)
{
	add_figure(p50, percentile(values, n, 0.50));
	add_figure(p99, percentile(values, n, 0.99));
}

static void
add_run(const Run *run, Series *figures)
{
	double *values = malloc(sizeof(double) * run->events);

	for (int kind = 0; kind < FIGURES; kind += 2)
	{
		for (int i = 0; i < run->events; i++)
		{
			const Stamp *stamp = &run->arena->stamps[i];
			int64_t until = kind == ROW_P50 ? stamp->got_us : stamp->told_us;

			values[i] =
				(until - (kind == APPEND_P50 ? stamp->sent_us : stamp->returned_us)) / 1000.0;
		}
		add_percentiles(&figures[kind], &figures[kind + 1], values, run->events);
	}
	free(values);
}

static void
new_figures(Mode mode, Series *figures, int rounds)
{
	static const char *const names[MODES][FIGURES] = {
		{"fetch_events: commit to reader, p50", "fetch_events: commit to reader, p99",
		 "fetch_events: append to reader, p50", "fetch_events: append to reader, p99"},
		{"NOTIFY: commit to reader, p50", "NOTIFY: commit to reader, p99",
		 "NOTIFY: append to reader, p50", "NOTIFY: append to reader, p99",
		 "NOTIFY and SELECT: commit to row, p50", "NOTIFY and SELECT: commit to row, p99"}};

	for (int kind = 0; kind < FIGURES; kind++)
		figures[kind] = new_series(names[mode][kind], "%.3f ms", rounds);
}

static void
report(Mode mode, Series *figures)
{
	for (int kind = 0; kind < (mode == FETCH ? ROW_P50 : FIGURES); kind++)
		print_series(&figures[kind]);
}

static void
measure_slow(int first, int samples)
{
	Series figures[MODES][FIGURES];
	Run runs[MODES];

	for (int mode = first; mode < MODES; mode++)
	{
		new_figures(mode, figures[mode], 1);
		runs[mode] = start_run(mode, samples, 1, 1);
	}
	for (int mode = first; mode < MODES; mode++)
		release(&runs[mode], mode * 500000);
	printf("\n1 event/s, %d events\n", samples);
	for (int mode = first; mode < MODES; mode++)
	{
		await_run(&runs[mode]);
		add_run(&runs[mode], figures[mode]);
		report(mode, figures[mode]);
	}
}

static void
measure_fast(int first, int rounds, int seconds)
{
	Series figures[MODES][FIGURES];

	for (int mode = first; mode < MODES; mode++)
		new_figures(mode, figures[mode], rounds);
	for (int round = 0; round < rounds; round++)
		for (int i = first; i < MODES; i++)
		{
			int mode = round % 2 == 0 ? i : MODES - 1 - i + first;
			Run run = start_run(mode, FAST_RATE * seconds, FAST_RATE, FAST_WRITERS);

			release(&run, 0);
			await_run(&run);
			add_run(&run, figures[mode]);
		}
	printf("\n%d events/s, %d writers, %d rounds of %d s\n", FAST_RATE, FAST_WRITERS, rounds,
		   seconds);
	for (int mode = first; mode < MODES; mode++)
		report(mode, figures[mode]);
}

int
main(void)
{
	int rounds = env_int("ROUNDS", 7);
	int seconds = env_int("SECONDS", 5);
	int samples = env_int("SAMPLES", 100);
	int first = FETCH;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("command: make bench BENCH=events_feed ROUNDS=%d SECONDS=%d SAMPLES=%d\n", rounds,
		   seconds, samples);
	db = new_database("bench_feed");
	floor_create(db);
	versions = new_versions(STREAMS);
	if (has_function(db, "eduai.fetch_events"))
		run(db, "SELECT eduai.create_subscription('bench_feed', category => '" CATEGORY "')");
	else
	{
		first = NOTIFY;
		printf("fetch_events: skipped: there is no eduai.fetch_events()\n");
	}
	measure_slow(first, samples);
	measure_fast(first, rounds, seconds);
	drop_database(db);
	return 0;
}
