/*
 * projections_async.c: how fast the projector folds a log, and how far it is
 * behind a steady one.
 *
 * Catch-up: a log of EVENTS events about LEARNERS learners, then
 * create_projection(mode async) with reducers that count, in C, PL/pgSQL and
 * SQL: from the call until every event is folded and committed.  Per second of
 * the clock, and per second of the processor time of the projector and its
 * helpers.  Their floors, in the same round:
 *   read_all   a client that reads the same events in pages of 1,000 and
 *              throws them away: what must be read at the least;
 *   statement  one INSERT ... SELECT ... GROUP BY of the same states from
 *              eduai.event: the ideal batch, which folds nothing twice and
 *              could not go on from where it is.
 * The states of all four must be the same.
 *
 * Lag: RATE events a second, a transaction each, by WRITERS clients that keep to
 * a timetable whatever the server does, for SECONDS, with the three projections
 * following.  MARKS of them a second are about one learner, whose states an
 * observer polls while one is missing: from the writer's return of the commit
 * until projection_state() shows it.  Below zero when the observer was faster
 * than the reply.  The floor is eduai.stream_version() in the same statement of
 * the observer: what seeing a committed event takes by itself.
 */
#include "bench.h"
#include "floor.h"
#include "folds.h"
#include "load.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARKS       20
#define MAX_WRITERS 64
#define DRAIN_US    INT64_C(120000000)
#define MARKED      "marked"

static PGconn *db;
static int rounds;
static int events;
static int learners;
static int seconds;
static int rate;
static int writers;

/* ---- catch-up ---- */

/* What one way to fold the log took. */
typedef struct Way
{
	Series wall;
	Series cpu;
	Series processes;
} Way;

enum
{
	READ_ALL = REDUCERS,
	STATEMENT,
	WAYS
};

static Way ways[WAYS];
static char *states; /* digest of every way's states */

static void
record(Way *way, int64_t took_us, double cpu_seconds, int processes)
{
	add_figure(&way->wall, events * 1e6 / took_us);
	add_figure(&way->cpu, events / cpu_seconds);
	add_figure(&way->processes, processes);
}

static void
same_states(char *digest, const char *who)
{
	if (states == NULL)
		states = digest;
	else if (strcmp(states, digest) != 0)
		fail("%s: %s, others: %s", who, digest, states);
}

static void
create_async(const char *name, const Reducer *reducer)
{
	char sql[300];

	snprintf(sql, sizeof(sql),
			 "SELECT eduai.create_projection('%s', '%s(jsonb, eduai.event_record)'::regprocedure)",
			 name, reducer->function);
	run(db, sql);
}

/* And waits until its states are gone: deleting them is work for the projector, too. */
static void
drop_async(const char *name, int projection)
{
	char sql[200];
	int64_t give_up = wall_us() + DRAIN_US;

	snprintf(sql, sizeof(sql), "SELECT eduai.drop_projection('%s')", name);
	run(db, sql);
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM eduai.projection_state WHERE projection = %d",
			 projection);
	while (ask_int(db, sql) > 0)
	{
		if (wall_us() > give_up)
			fail("the states of %s are still there", name);
		usleep(50000);
	}
	run(db, "VACUUM eduai.projection_state");
}

#define DIGEST "count(*) || ' ' || md5(string_agg(key || version || state, ' ' ORDER BY key))"

static void
fold_log(const Reducer *reducer, Way *way)
{
	CpuWatch watch = {0};
	int64_t start;
	int64_t took;
	int projection;
	char sql[300];

	cpu_watch_look(&watch, db);
	start = wall_us();
	create_async("catch_up", reducer);
	projection = fold_projection_id(db, "catch_up");
	while (fold_events(db, projection, NULL) < events)
	{
		if (wall_us() - start > DRAIN_US * 30)
			fail("%s: not caught up within an hour", reducer->name);
		usleep(10000);
		cpu_watch_look(&watch, db);
	}
	took = wall_us() - start;
	cpu_watch_look(&watch, db);
	record(way, took, cpu_watch_seconds(&watch), cpu_watch_processes(&watch));
	fold_await(db, "catch_up");
	snprintf(sql, sizeof(sql),
			 "SELECT " DIGEST " FROM eduai.projection_state"
			 " WHERE projection = %d",
			 projection);
	same_states(ask(db, sql), reducer->name);
	drop_async("catch_up", projection);
}

static void
read_log(Way *way)
{
	PGconn *own = connect_db();
	char position[32] = "0";
	const char *values[1] = {position};
	int pid = PQbackendPID(own);
	int64_t start;
	int64_t cpu_ns;
	int64_t got = 0;

	prepare(own, "page", "SELECT * FROM eduai.read_all($1, 1000)");
	start = wall_us();
	cpu_ns = cpu_ns_of(pid);
	while (got < events)
	{
		PGresult *page = execute(own, "page", 1, values);
		int n = PQntuples(page);

		if (n == 0)
			fail("the feed has only %lld events", (long long) got);
		snprintf(position, sizeof(position), "%s", PQgetvalue(page, n - 1, 0));
		got += n;
		PQclear(page);
	}
	record(way, wall_us() - start, (cpu_ns_of(pid) - cpu_ns) / 1e9, 1);
	PQfinish(own);
}

static void
fold_by_statement(Way *way)
{
	PGconn *own = connect_db();
	int pid = PQbackendPID(own);
	int64_t start;
	int64_t cpu_ns;

	run(own, "SET client_min_messages = warning; DROP TABLE IF EXISTS ideal;"
			 " CREATE TABLE ideal (version bigint, tenant_id text COLLATE \"C\", key text COLLATE"
			 " \"C\", state jsonb, PRIMARY KEY (tenant_id, key));"
			 " SET max_parallel_workers_per_gather = 0");
	start = wall_us();
	cpu_ns = cpu_ns_of(pid);
	run(own, "INSERT INTO ideal SELECT sum(n), tenant_id, user_id, jsonb_object_agg(event_type, n)"
			 " FROM (SELECT count(*) AS n, tenant_id, user_id, event_type FROM eduai.event"
			 " WHERE user_id IS NOT NULL GROUP BY tenant_id, user_id, event_type) AS e"
			 " GROUP BY tenant_id, user_id");
	record(way, wall_us() - start, (cpu_ns_of(pid) - cpu_ns) / 1e9, 1);
	same_states(ask(own, "SELECT " DIGEST " FROM ideal"), "the statement");
	PQfinish(own);
}

static void
fold_one_way(int way)
{
	if (way < REDUCERS)
		fold_log(&fold_reducers[way], &ways[way]);
	else if (way == READ_ALL)
		read_log(&ways[way]);
	else
		fold_by_statement(&ways[way]);
}

static void
measure_catch_up(void)
{
	static const char *const names[WAYS] = {"reducer in C", "reducer in PL/pgSQL", "reducer in SQL",
											"read_all by a client (floor)",
											"one statement (floor)"};

	for (int way = 0; way < WAYS; way++)
		ways[way] = (Way){new_series(names[way], "%.0f /s", rounds),
						  new_series("  per second of processor time", "%.0f /s", rounds),
						  new_series("  processes", "%.0f", rounds)};
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < WAYS; i++)
			fold_one_way(round % 2 == 0 ? i : WAYS - 1 - i);
	printf("\ncatch-up: %d events, %d learners, %d rounds; %s\n", events, learners, rounds, states);
	for (int way = 0; way < WAYS; way++)
	{
		print_series(&ways[way].wall);
		print_series(&ways[way].cpu);
		if (way < REDUCERS)
			print_series(&ways[way].processes);
	}
	for (int way = 0; way < REDUCERS; way++)
	{
		char what[100];
		Series q;

		snprintf(what, sizeof(what), "%s / read_all, processor time", fold_reducers[way].name);
		q = quotient(what, &ways[READ_ALL].cpu, &ways[way].cpu);
		print_series(&q);
	}
}

/* ---- lag ---- */

typedef struct Mark
{
	int64_t returned_us; /* the commit */
	int64_t shown_us[REDUCERS + 1];
} Mark;

typedef struct Arena
{
	int64_t start_us;
	int64_t appended;
	int64_t behind_us; /* the latest that a writer was behind its timetable */
	int sent;          /* marks, or about to be */
	int writing;
	Mark marks[];
} Arena;

static void
sleep_until(int64_t time_us)
{
	int64_t now = wall_us();

	if (now < time_us)
		usleep(time_us - now);
}

static void
note_behind(Arena *arena, int64_t due_us)
{
	int64_t late = wall_us() - due_us;

	/* several may write it: the figure is for the reader's eye */
	if (late > __atomic_load_n(&arena->behind_us, __ATOMIC_RELAXED))
		__atomic_store_n(&arena->behind_us, late, __ATOMIC_RELAXED);
}

static void
append_about(PGconn *own, const char *user)
{
	const char *values[1] = {user};

	PQclear(execute(own, "append", 1, values));
}

static PGconn *
open_writer(void)
{
	PGconn *own = connect_db();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prepare(own, "append",
			"SELECT * FROM eduai.append_event($1, '" FOLD_TYPE
			"', '{\"item\": \"f-12\", \"points\": 3}', $1)");
	return own;
}

static void
be_writer(Arena *arena, int number)
{
	PGconn *own = open_writer();
	uint64_t random = 77 + number;
	double own_rate = (double) (rate - MARKS) / writers;

	sleep_until(arena->start_us);
	for (int n = 0; n < own_rate * seconds; n++)
	{
		int64_t due =
			arena->start_us + (int64_t) ((n + (double) number / writers) * 1e6 / own_rate);
		char user[NAME_SIZE];

		sleep_until(due);
		note_behind(arena, due);
		snprintf(user, sizeof(user), "learner-%d", (int) (next_random(&random) % learners));
		append_about(own, user);
		__atomic_add_fetch(&arena->appended, 1, __ATOMIC_RELAXED);
	}
	PQfinish(own);
	_exit(0);
}

static void
be_marker(Arena *arena)
{
	PGconn *own = open_writer();

	for (int n = 0; n < MARKS * seconds; n++)
	{
		int64_t due = arena->start_us + n * INT64_C(1000000) / MARKS;

		sleep_until(due);
		note_behind(arena, due);
		__atomic_store_n(&arena->sent, n + 1, __ATOMIC_SEQ_CST);
		append_about(own, MARKED);
		arena->marks[n].returned_us = wall_us();
		__atomic_add_fetch(&arena->appended, 1, __ATOMIC_RELAXED);
	}
	PQfinish(own);
	_exit(0);
}

/* Marks of earlier rounds are counted, too. */
static int
look(PGconn *own, Arena *arena, int *shown, const int *before)
{
	PGresult *result = execute(own, "look", 0, NULL);
	int64_t now = wall_us();
	int least = MARKS * seconds;

	for (int i = 0; i <= REDUCERS; i++)
	{
		int count = atoi(PQgetvalue(result, 0, i)) - before[i];

		for (; shown[i] < count; shown[i]++)
			arena->marks[shown[i]].shown_us[i] = now;
		least = shown[i] < least ? shown[i] : least;
	}
	PQclear(result);
	return least;
}

static void
be_observer(Arena *arena, const int *before)
{
	PGconn *own = connect_db();
	int shown[REDUCERS + 1] = {0};
	int least = 0;
	int64_t give_up = arena->start_us + seconds * INT64_C(1000000) + DRAIN_US;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prepare(own, "look",
			"SELECT coalesce(eduai.projection_state('lag_0', '" MARKED "') ->> '" FOLD_TYPE
			"', '0'),"
			" coalesce(eduai.projection_state('lag_1', '" MARKED "') ->> '" FOLD_TYPE "', '0'),"
			" coalesce(eduai.projection_state('lag_2', '" MARKED "') ->> '" FOLD_TYPE "', '0'),"
			" eduai.stream_version('" MARKED "')");
	while (least < MARKS * seconds)
	{
		if (least == __atomic_load_n(&arena->sent, __ATOMIC_SEQ_CST))
			usleep(200);
		else
		{
			least = look(own, arena, shown, before);
			usleep(300);
		}
		if (wall_us() > give_up)
			fail("mark %d is not shown two minutes after the last", least + 1);
	}
	PQfinish(own);
	_exit(0);
}

static void
await_children(int n)
{
	int status;

	for (int i = 0; i < n; i++)
		if (wait(&status) < 0 || status != 0)
			fail("a process of the benchmark failed");
}

typedef struct LagFigures
{
	Series p50;
	Series p99;
	Series max;
} LagFigures;

static LagFigures lags[REDUCERS + 1];
static Series achieved;
static Series behind;
static Series core;

static void
add_lags(const Arena *arena)
{
	int n = MARKS * seconds;
	double *values = malloc(sizeof(double) * n);

	for (int i = 0; i <= REDUCERS; i++)
	{
		for (int m = 0; m < n; m++)
			values[m] = (arena->marks[m].shown_us[i] - arena->marks[m].returned_us) / 1000.0;
		add_figure(&lags[i].p50, percentile(values, n, 0.5));
		add_figure(&lags[i].p99, percentile(values, n, 0.99));
		add_figure(&lags[i].max, percentile(values, n, 1));
	}
	free(values);
}

/* The processor time of those who fold, while the writers write. */
static double
share_of_a_core(const Arena *arena)
{
	CpuWatch watch = {0};

	sleep_until(arena->start_us);
	cpu_watch_look(&watch, db);
	while (wall_us() < arena->start_us + seconds * INT64_C(1000000))
	{
		usleep(100000);
		cpu_watch_look(&watch, db);
	}
	return cpu_watch_seconds(&watch) / seconds;
}

static void
lag_round(void)
{
	Arena *arena = shared_memory(sizeof(Arena) + sizeof(Mark) * MARKS * seconds);
	int before[REDUCERS + 1];

	fold_await_all(db);
	for (int i = 0; i <= REDUCERS; i++)
		before[i] = (int) ask_int(db, "SELECT eduai.stream_version('" MARKED "')");
	arena->start_us = wall_us() + 500000;
	fflush(stdout);
	for (int i = 0; i < writers; i++)
		if (fork() == 0)
			be_writer(arena, i);
	if (fork() == 0)
		be_marker(arena);
	if (fork() == 0)
		be_observer(arena, before);
	add_figure(&core, 100 * share_of_a_core(arena));
	add_figure(&achieved, (double) arena->appended / seconds);
	await_children(writers + 2);
	add_figure(&behind, arena->behind_us / 1000.0);
	add_lags(arena);
	munmap(arena, sizeof(Arena) + sizeof(Mark) * MARKS * seconds);
}

static void
new_lag_series(void)
{
	static const char *const names[REDUCERS + 1][3] = {
		{"reducer in C: commit to state, p50", "reducer in C, p99", "reducer in C, max"},
		{"reducer in PL/pgSQL: commit to state, p50", "reducer in PL/pgSQL, p99",
		 "reducer in PL/pgSQL, max"},
		{"reducer in SQL: commit to state, p50", "reducer in SQL, p99", "reducer in SQL, max"},
		{"stream_version (floor), p50", "stream_version (floor), p99",
		 "stream_version (floor), max"}};

	for (int i = 0; i <= REDUCERS; i++)
		lags[i] = (LagFigures){new_series(names[i][0], "%.2f ms", rounds),
							   new_series(names[i][1], "%.2f ms", rounds),
							   new_series(names[i][2], "%.2f ms", rounds)};
	achieved = new_series("appended in the time", "%.0f /s", rounds);
	behind = new_series("a writer behind its timetable, at most", "%.1f ms", rounds);
	core = new_series("processor time of those who fold", "%.0f %% of a core", rounds);
}

static void
measure_lag(void)
{
	int64_t marked;

	for (int i = 0; i < REDUCERS; i++)
	{
		char name[16];

		snprintf(name, sizeof(name), "lag_%d", i);
		create_async(name, &fold_reducers[i]);
	}
	new_lag_series();
	for (int round = 0; round < rounds; round++)
		lag_round();
	printf("\nlag: %d events/s offered by %d writers, three projections, %d rounds of %d s, %d "
		   "marks/s\n",
		   rate, writers, rounds, seconds, MARKS);
	print_series(&achieved);
	print_series(&behind);
	print_series(&core);
	for (int i = 0; i <= REDUCERS; i++)
	{
		print_series(&lags[i].p50);
		print_series(&lags[i].p99);
		print_series(&lags[i].max);
	}
	fold_await_all(db);
	marked = ask_int(db, "SELECT count(DISTINCT state) FROM eduai.projection_state"
						 " WHERE projection >= 100 AND key = '" MARKED "'");
	if (marked != 1)
		fail("%lld states of one learner in three projections that count the same",
			 (long long) marked);
}

int
main(void)
{
	rounds = env_int("ROUNDS", 3);
	seconds = env_int("SECONDS", 30);
	events = env_int("EVENTS", 500000);
	learners = env_int("LEARNERS", 10000);
	rate = env_int("RATE", 2000);
	writers = env_int("WRITERS", 8);
	if (writers < 1 || writers > MAX_WRITERS || rate <= MARKS || learners < 1)
		fail("WRITERS is 1 to %d, RATE more than %d", MAX_WRITERS, MARKS);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("command: make bench BENCH=projections_async ROUNDS=%d SECONDS=%d EVENTS=%d LEARNERS=%d "
		   "RATE=%d WRITERS=%d\n",
		   rounds, seconds, events, learners, rate, writers);
	db = fold_test_mode(new_database("bench_async"), true);
	fold_define_reducers(db);
	fold_fill(db, FOLD_TYPE, "points", 0, events, learners);
	fold_await_all(db);
	run(db, "VACUUM ANALYZE");
	run(db, "CHECKPOINT");
	measure_catch_up();
	measure_lag();
	drop_database(fold_test_mode(db, false));
	return 0;
}
