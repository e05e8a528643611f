/*
 * queue_held.c: what a transaction that somebody leaves open costs a queue at
 * full load.
 *
 * The load: feeders add batches of 50 as long as fewer than so many tasks wait;
 * workers claim and complete batches of 50 as fast as they can; two clients
 * enqueue single tasks by a timetable, and how long each of those takes from
 * the moment it was due is what an application would have waited.  A third inserts
 * the same payload into a plain table as often (the floor): what stalls that, too,
 * is the disk's or the machine's.  Between two
 * times without (before, after) a session holds, for HOLD seconds each (during):
 *   snapshot  a REPEATABLE READ transaction with its snapshot;
 *   xid       an idle transaction with a transaction id;
 *   pg_dump   pg_dump of this database, whose output is read slowly.
 *
 * The contrast is a table that is claimed with FOR UPDATE SKIP LOCKED and
 * deleted from at completion, under the same load and the same holds, by turns.
 *
 * Figures: completions in each second, their median before, during and after,
 * and the ratio of the second to the mean of the others (disks and growing
 * tables make any load slower with time, held or not); the longest enqueue; the
 * dead tuples when the hold ends, and after a VACUUM at the end.
 */
#include "bench.h"
#include "floor.h"
#include "pressure.h"
#include "tasks.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH       50
#define FEEDERS     2
#define WORKERS     2
#define PROBES      2
#define PROBE_RATE  100 /* a second, by each */
#define MAX_WAITING 5000
#define WARM_US     3000000
#define MAX_SECONDS 3600

static PGconn *db;
static bool exact; /* pgstattuple counts the dead */

static struct
{
	int stop;
	int64_t enqueued; /* by feeders */
	int64_t completed;
} * shared;

/* ---- the two queues ---- */

typedef struct Side
{
	const char *name;
	const char *feed;  /* adds the array of payloads $1 */
	const char *probe; /* adds one; its key is $1, its payload @ */
	const char *claim; /* NULL: eduai's */
	const char *complete;
	const char *tables[4];
} Side;

static const Side queues[] = {
	{"eduai",
	 "SELECT cardinality(eduai.enqueue_batch('bench', $1::jsonb[]))",
	 "SELECT eduai.enqueue('bench', jsonb_build_object('key', $1::text, 'text', '@'))",
	 NULL,
	 NULL,
	 {"eduai.task_live", "eduai.task_request", "eduai.task_end", NULL}},
	{"SKIP LOCKED",
	 "INSERT INTO plain_queue (payload) SELECT unnest($1::jsonb[])",
	 "INSERT INTO plain_queue (payload)"
	 " VALUES (jsonb_build_object('key', $1::text, 'text', '@'))",
	 "UPDATE plain_queue SET state = 'running', attempt = attempt + 1 WHERE id IN"
	 " (SELECT id FROM plain_queue WHERE state = 'ready' AND $1::text IS NOT NULL"
	 " AND $2::text IS NOT NULL AND $4::text IS NOT NULL ORDER BY id LIMIT $3::int"
	 " FOR UPDATE SKIP LOCKED) RETURNING id, attempt, payload",
	 "DELETE FROM plain_queue WHERE id = ANY($1::bigint[]) AND $2::int[] IS NOT NULL",
	 {"plain_queue", NULL}},
};
#define SIDES 2

static void
create_plain_queue(void)
{
	run(db, "CREATE TABLE plain_queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
			" state text NOT NULL DEFAULT 'ready', attempt int NOT NULL DEFAULT 0,"
			" payload jsonb NOT NULL) WITH (autovacuum_vacuum_scale_factor = 0.02,"
			" autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0)");
	run(db, "CREATE INDEX ON plain_queue (id) WHERE state = 'ready'");
}

/* ---- the load ---- */

static bool
stopped(void)
{
	return __atomic_load_n(&shared->stop, __ATOMIC_RELAXED) != 0;
}

static void
feed(const Side *side, int number)
{
	PGconn *own = connect_db();
	uint64_t random = 100 + number;
	char *array = payload_array(BATCH, NULL, &random);

	prepare(own, "feed", side->feed);
	while (!stopped())
	{
		int64_t waiting = __atomic_load_n(&shared->enqueued, __ATOMIC_RELAXED) -
						  __atomic_load_n(&shared->completed, __ATOMIC_RELAXED);

		if (waiting >= MAX_WAITING)
		{
			usleep(500);
			continue;
		}
		PQclear(execute(own, "feed", 1, (const char *const[]){array}));
		__atomic_add_fetch(&shared->enqueued, BATCH, __ATOMIC_RELAXED);
	}
	PQfinish(own);
}

static void
work(const Side *side, int number)
{
	Work what = {"bench", BATCH, true, "0", &shared->completed, side->claim, side->complete};
	LoadClient client = {.number = number, .clients = WORKERS, .db = connect_db()};

	work_open_with(&client, &what);
	while (!stopped())
		if (work_step(&client) == 0)
			usleep(500);
	work_close(&client);
	PQfinish(client.db);
}

static pid_t
start(void (*body)(const Side *side, int number), const Side *side, int number)
{
	pid_t pid = fork();

	if (pid == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body(side, number);
		_exit(0);
	}
	return pid;
}

#define FLOOR_PROBE                     \
	"INSERT INTO probe_floor (payload)" \
	" VALUES (jsonb_build_object('key', $1::text, 'text', '@'))"

/* a statement with the text of a payload in the place of its @ */
static void
put_payload(char *statement, size_t size, const char *pattern)
{
	uint64_t random = 7;
	char payload[PAYLOAD_SIZE];
	const char *at = strchr(pattern, '@');

	make_payload(payload, NULL, &random);
	/* the text alone */
	payload[PAYLOAD_SIZE - 30] = '\0';
	snprintf(statement, size, "%.*s%s%s", (int) (at - pattern), pattern, payload + 60, at + 1);
}

static Pressure *
start_probes(const Side *side)
{
	static char statement[2048];
	static char floor[2048];
	PressureClient clients[PROBES + 1];

	put_payload(statement, sizeof(statement), side->probe);
	put_payload(floor, sizeof(floor), FLOOR_PROBE);
	for (int i = 0; i <= PROBES; i++)
		clients[i] =
			(PressureClient){i < PROBES ? statement : floor, "probe-%d", 1000000, PROBE_RATE};
	return pressure_start(clients, PROBES + 1);
}

/* ---- holds ---- */

enum
{
	HOLD_SNAPSHOT,
	HOLD_XID,
	HOLD_DUMP,
	HOLDS
};
static const char *const hold_names[HOLDS] = {"a REPEATABLE READ snapshot",
											  "an idle transaction with an xid", "pg_dump"};

typedef struct Held
{
	PGconn *session;
	pid_t dump;
	pid_t reader;
} Held;

/* Reads slowly, so that pg_dump is at it until it is ended. */
static void
read_slowly(int from)
{
	static char buffer[65536];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(from, buffer, sizeof(buffer)) > 0)
		usleep(200000);
	_exit(0);
}

static void
be_pg_dump(int to)
{
	char program[512];

	snprintf(program, sizeof(program), "%s/pg_dump", required_env("PG_BIN"));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(to, STDOUT_FILENO);
	/* that it was ended early is no news */
	if (freopen("/dev/null", "w", stderr) == NULL)
		_exit(126);
	execl(program, program, (char *) NULL);
	_exit(127);
}

#define DUMPING                                                                \
	"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'" \
	" AND datname = current_database() AND state <> 'idle' AND query LIKE 'COPY %'"

static void
start_dump(Held *held)
{
	int64_t give_up = wall_us() + 30000000;
	int ends[2];

	if (pipe(ends) != 0)
		fail("no pipe");
	fflush(stdout);
	held->reader = fork();
	if (held->reader == 0)
	{
		close(ends[1]);
		read_slowly(ends[0]);
	}
	held->dump = fork();
	if (held->dump == 0)
	{
		close(ends[0]);
		be_pg_dump(ends[1]);
	}
	close(ends[0]);
	close(ends[1]);
	while (ask_int(db, DUMPING) == 0)
	{
		if (wall_us() > give_up || waitpid(held->dump, NULL, WNOHANG) != 0)
			fail("pg_dump does not copy");
		usleep(10000);
	}
}

static Held
start_hold(int hold)
{
	Held held = {NULL, 0, 0};

	if (hold == HOLD_DUMP)
		start_dump(&held);
	else
	{
		held.session = connect_db();
		run(held.session,
			hold == HOLD_SNAPSHOT ? "BEGIN ISOLATION LEVEL REPEATABLE READ" : "BEGIN");
		run(held.session, hold == HOLD_SNAPSHOT ? "SELECT count(*) FROM pg_class"
												: "SELECT pg_current_xact_id()");
	}
	return held;
}

static void
end_hold(Held *held)
{
	if (held->session != NULL)
	{
		run(held->session, "ROLLBACK");
		PQfinish(held->session);
		return;
	}
	if (ask_int(db, DUMPING) == 0)
		fail("pg_dump ended before its time: there is too little to dump");
	kill(held->dump, SIGTERM);
	waitpid(held->dump, NULL, 0);
	kill(held->reader, SIGTERM);
	waitpid(held->reader, NULL, 0);
	while (ask_int(db, DUMPING) > 0)
		usleep(10000);
}

/* ---- dead tuples ---- */

static int64_t
dead_in(const char *table)
{
	char sql[256];

	if (exact)
		snprintf(sql, sizeof(sql), "SELECT dead_tuple_count FROM pgstattuple('%s')", table);
	else
		snprintf(sql, sizeof(sql),
				 "SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = '%s'::regclass", table);
	return ask_int(db, sql);
}

static void
print_dead(const Side *side, const char *when)
{
	char sql[128];

	printf("    %s:", when);
	for (int i = 0; side->tables[i] != NULL; i++)
	{
		snprintf(sql, sizeof(sql), "SELECT pg_size_pretty(pg_table_size('%s'))", side->tables[i]);
		printf("  %s %" PRId64 " dead, %s", side->tables[i], dead_in(side->tables[i]),
			   ask(db, sql));
	}
	printf("\n");
}

static void
vacuum(const Side *side)
{
	char sql[128];

	for (int i = 0; side->tables[i] != NULL; i++)
	{
		snprintf(sql, sizeof(sql), "VACUUM %s", side->tables[i]);
		run(db, sql);
	}
}

/* ---- a hold ---- */

/* Completions in each of so many seconds, their median. */
static double
watch(int seconds, double *least)
{
	double rates[MAX_SECONDS];
	int64_t count = __atomic_load_n(&shared->completed, __ATOMIC_RELAXED);
	int64_t at = wall_us();
	double middle;

	for (int i = 0; i < seconds; i++)
	{
		int64_t now;
		int64_t then = at + 1000000;

		while ((now = wall_us()) < then)
		{
			if (waitpid(-1, NULL, WNOHANG) > 0)
				fail("a client failed");
			usleep(then - now < 20000 ? then - now : 20000);
		}
		rates[i] = __atomic_load_n(&shared->completed, __ATOMIC_RELAXED) - count;
		count += rates[i];
		rates[i] /= (now - at) / 1e6;
		at = now;
	}
	middle = median(rates, seconds);
	*least = percentile(rates, seconds, 0);
	return middle;
}

static void
report(const char *when, double middle, double least, const Waits *waits, const Waits *floor)
{
	printf("    %-7s median %7.0f /s, least in a second %7.0f /s;  %d enqueues: p50 %.2f ms,"
		   " p99 %.2f ms, longest %.1f ms;  plain INSERT: p50 %.2f ms, p99 %.2f ms, longest"
		   " %.1f ms;  longest enqueue / longest INSERT %.2f\n",
		   when, middle, least, waits->n, waits->p50_ms, waits->p99_ms, waits->longest_ms,
		   floor->p50_ms, floor->p99_ms, floor->longest_ms,
		   floor->longest_ms > 0 ? waits->longest_ms / floor->longest_ms : 0);
}

enum
{
	BEFORE,
	DURING,
	AFTER,
	PHASES
};
static const char *const phase_names[PHASES] = {"before", "during", "after"};

static void
measure(int hold, const Side *side, int free_s, int hold_s)
{
	pid_t pids[FEEDERS + WORKERS];
	int n = 0;
	int64_t times[PHASES + 1];
	double middle[PHASES];
	double least[PHASES];
	Pressure *probes;
	Held held;

	printf("  %s\n", side->name);
	fflush(stdout);
	memset(shared, 0, sizeof(*shared));
	for (int i = 0; i < FEEDERS; i++)
		pids[n++] = start(feed, side, i);
	for (int i = 0; i < WORKERS; i++)
		pids[n++] = start(work, side, i);
	probes = start_probes(side);
	usleep(WARM_US);
	times[BEFORE] = wall_us();
	middle[BEFORE] = watch(free_s, &least[BEFORE]);
	times[DURING] = wall_us();
	held = start_hold(hold);
	middle[DURING] = watch(hold_s, &least[DURING]);
	times[AFTER] = wall_us();
	print_dead(side, "still held");
	end_hold(&held);
	/* counting the dead took a while: the clock of "after" starts behind it */
	times[AFTER + 1] = wall_us();
	middle[AFTER] = watch(free_s, &least[AFTER]);
	pressure_stop(probes);
	__atomic_store_n(&shared->stop, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < n; i++)
		waitpid(pids[i], NULL, 0);
	for (int phase = 0; phase < PHASES; phase++)
	{
		int64_t from = phase == AFTER ? times[PHASES] : times[phase];
		int64_t until = phase == AFTER ? wall_us() : times[phase + 1];
		Waits waits = pressure_waits(probes, 0, PROBES, from, until);
		Waits floor = pressure_waits(probes, PROBES, 1, from, until);

		report(phase_names[phase], middle[phase], least[phase], &waits, &floor);
	}
	printf("    during / mean of before and after %.2f\n",
		   2 * middle[DURING] / (middle[BEFORE] + middle[AFTER]));
	vacuum(side);
	print_dead(side, "vacuumed");
	pressure_free(probes);
}

int
main(void)
{
	int free_s = env_int("FREE", 30);
	int hold_s = env_int("HOLD", 60);
	PGresult *result;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (free_s < 1 || hold_s < 1 || free_s > MAX_SECONDS || hold_s > MAX_SECONDS)
		fail("FREE and HOLD are 1 to %d seconds", MAX_SECONDS);
	printf("command: make bench BENCH=queue_held FREE=%d HOLD=%d\n", free_s, hold_s);
	printf("load: %d feeders and %d workers with batches of %d, at most %d waiting; %d clients"
		   " enqueue %d a second each, one more inserts as often into a plain table\n",
		   FEEDERS, WORKERS, BATCH, MAX_WAITING, PROBES, PROBE_RATE);
	shared = shared_memory(sizeof(*shared));
	db = new_database("bench_held");
	define_bench_type(db);
	create_plain_queue();
	run(db, "CREATE TABLE probe_floor (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
			" payload jsonb NOT NULL)");
	result = PQexec(db, "CREATE EXTENSION pgstattuple");
	exact = PQresultStatus(result) == PGRES_COMMAND_OK;
	PQclear(result);
	printf("dead tuples: %s\n", exact ? "counted by pgstattuple" : "as the statistics know them");
	for (int hold = 0; hold < HOLDS; hold++)
	{
		printf("\n%s, %d s between %d s without\n", hold_names[hold], hold_s, free_s);
		for (int i = 0; i < SIDES; i++)
			measure(hold, &queues[hold % 2 == 0 ? i : SIDES - 1 - i], free_s, hold_s);
	}
	drop_database(db);
	return 0;
}
