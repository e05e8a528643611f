/*
 * privacy_erase.c: erasing a learner of many events while others write.
 *
 * EVENTS (1,000,000) events of one learner: nine tenths in the learner's own
 * stream, the rest spread over 100 streams of classes, which others write to as
 * well; half of all compacted, half hot, beside as many events of others.  The
 * server has a key store.  WRITERS (2) sessions append single events of other
 * learners, each its own transaction, all the time.  A round has these phases:
 *
 *   warm     SECONDS (10): not counted.
 *   floor    FLOOR (60) seconds in which nobody is erased: what the machine, the
 *            writers' own traces (vacuum) and the clock do to the rate.
 *   before   SECONDS.
 *   during   from erase_user to the end of the erasure.
 *   after    SECONDS.
 *
 * Told of each is the rate, the median of the appends in each tenth of a second;
 * the longest that one append took; the processor time of the writers' backends
 * for an append, and in seconds that of the keeper, the projector, autovacuum and
 * of everything else of the server; and WAL.  Told of the erasure is
 *
 *   erase_user  how long the call took;
 *   key         from the intent to the destruction of the learner's key;
 *   complete    from the intent to the end of the erasure;
 *   ratio       the rate during the erasure to that before, beside that of the
 *               floor's second half to its first.
 *
 * ERASURES (3) learners are erased one after the other: medians and spread.
 */
#include "bench.h"
#include "server_cpu.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_US   100000
#define MAX_WINDOWS 100000
#define MAX_WRITERS 32
/* of nobody: the bench's master key */
#define MASTER_KEY "bench AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

typedef struct Writer
{
	pthread_t thread;
	PGconn *db;
	int number;
	int64_t longest_us; /* since it was last reset */
} Writer;

/* What a moment shows; phases are told by differences. */
typedef struct Moment
{
	int64_t at_us;
	int64_t appends;
	double keeper;
	double projector;
	double vacuum;
	double writers;
	double all;
	int64_t wal;
} Moment;

static PGconn *db;
static int events;
static int seconds;
static int writers;
static Writer all[MAX_WRITERS];
static int windows[MAX_WINDOWS]; /* appends in each */
static int64_t appends = 0;
static int64_t started_us;
static volatile int stopping = 0;
static char store[200];

static void *
write_on(void *arg)
{
	Writer *w = arg;
	char sql[200];

	for (int n = 0; !stopping; n++)
	{
		int64_t begin = wall_us();
		int64_t end;
		PGresult *result;

		snprintf(sql, sizeof(sql),
				 "SELECT version FROM eduai.append_event('learner-w%d-%d', 'x',"
				 " '{\"exercise\": \"fractions\", \"correct\": true}', 'w%d-%d')",
				 w->number, n % 1000, w->number, n % 1000);
		result = PQexec(w->db, sql);
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			fail("append: %s", PQerrorMessage(w->db));
		PQclear(result);
		end = wall_us();
		if (end - begin > w->longest_us)
			w->longest_us = end - begin;
		if ((end - started_us) / WINDOW_US < MAX_WINDOWS)
			__sync_fetch_and_add(&windows[(end - started_us) / WINDOW_US], 1);
		__sync_fetch_and_add(&appends, 1);
	}
	return NULL;
}

static int64_t
longest_ms(void)
{
	int64_t longest = 0;

	for (int i = 0; i < writers; i++)
	{
		if (all[i].longest_us > longest)
			longest = all[i].longest_us;
		all[i].longest_us = 0;
	}
	return longest / 1000;
}

/* The median of the whole windows between two times, as appends in a second. */
static double
rate(int64_t from_us, int64_t to_us)
{
	int first = (int) ((from_us - started_us) / WINDOW_US) + 1;
	int last = (int) ((to_us - started_us) / WINDOW_US) - 1;
	double *values = malloc(sizeof(double) * (last - first + 2));
	double result;
	int n = 0;

	for (int i = first; i <= last; i++)
		values[n++] = windows[i];
	result = n > 0 ? median(values, n) * (1000000.0 / WINDOW_US) : 0;
	free(values);
	return result;
}

/* ---- set up ---- */

static void
set_up(void)
{
	char sql[400];

	snprintf(store, sizeof(store), "/tmp/eduai-bench-%d.store", (int) getpid());
	run(db, "ALTER SYSTEM SET eduai.master_key_command = 'echo " MASTER_KEY "'");
	snprintf(sql, sizeof(sql), "ALTER SYSTEM SET eduai.key_store = '%s'", store);
	run(db, sql);
	run(db, "SELECT pg_reload_conf()");
	do
	{
		PQfinish(db);
		usleep(10000);
		db = connect_db();
	} while (strcmp(ask(db, "SHOW eduai.key_store"), store) != 0);
	run(db, "SELECT eduai.create_key_store()");
	run(db, "SELECT eduai.register_event_type('said', '{words}')");
}

/* The key store goes with the bench, by the server's hand that made it. */
static void
clean_up(void)
{
	char sql[300];

	run(db, "ALTER SYSTEM RESET eduai.key_store");
	run(db, "ALTER SYSTEM RESET eduai.master_key_command");
	run(db, "SELECT pg_reload_conf()");
	snprintf(sql, sizeof(sql), "COPY (SELECT 1) TO PROGRAM 'rm -f %s; cat > /dev/null'", store);
	run(db, sql);
}

static void
fill(int learner)
{
	char sql[1200];

	for (int part = 0; part < 2; part++)
	{
		for (int done = 0; done < events / 2; done += 10000)
		{
			snprintf(
				sql, sizeof(sql),
				"SELECT eduai.append_batch(array_agg(CASE WHEN n %% 10 = 0 THEN 'class-' ||"
				" n / 10 %% 100 ELSE 'learner-big%d' END), array_agg('x'::text),"
				" array_agg('{\"exercise\": \"fractions\", \"correct\": true}'::jsonb),"
				" array_agg('big%d'::text)), eduai.append_batch(array_agg(CASE WHEN n %% 10 = 0"
				" THEN 'class-' || n / 10 %% 100 ELSE 'learner-o' || n %% 500 END),"
				" array_agg('x'::text),"
				" array_agg('{\"exercise\": \"fractions\", \"correct\": true}'::jsonb),"
				" array_agg('o' || n %% 500)) FROM generate_series(1, 10000) n",
				learner, learner);
			run(db, sql);
		}
		if (part == 0)
			run(db, "SELECT eduai.compact_events('0')");
	}
	snprintf(sql, sizeof(sql),
			 "SELECT eduai.publish_event('said', 'big%d', NULL, '{\"words\": \"mine\"}')", learner);
	run(db, sql);
	run(db, "VACUUM ANALYZE eduai.event");
	run(db, "CHECKPOINT");
}

/* ---- phases ---- */

static Moment
now(void)
{
	Moment m = {.at_us = wall_us(), .appends = appends};

	server_cpu_sample();
	m.keeper = server_cpu("eduai keeper");
	m.projector = server_cpu("eduai projector");
	m.vacuum = server_cpu("autovacuum worker");
	for (int w = 0; w < writers; w++)
		m.writers += server_cpu_of(PQbackendPID(all[w].db));
	m.all = server_cpu("postgres");
	m.wal = ask_int(db, "SELECT pg_current_wal_insert_lsn() - '0/0'");
	return m;
}

static void
pause_seconds(int seconds_long)
{
	for (int i = 0; i < seconds_long * 5; i++)
	{
		usleep(200000);
		server_cpu_sample();
	}
}

/* Prints what was between two moments; the rate. */
static double
phase(const char *name, const Moment *from, const Moment *to)
{
	double n = (double) (to->appends - from->appends);
	double result = rate(from->at_us, to->at_us);

	printf(
		"%-7s %5.1f s  rate %6.0f/s  stall %4lld ms  writers %5.0f us and %5.0f B of WAL an "
		"append; keeper %.2f s, projector %.2f s, autovacuum %.2f s, others %.2f s; WAL %.1f MB\n",
		name, (double) (to->at_us - from->at_us) / 1e6, result, (long long) longest_ms(),
		(to->writers - from->writers) * 1e6 / n, (double) (to->wal - from->wal) / n,
		to->keeper - from->keeper, to->projector - from->projector, to->vacuum - from->vacuum,
		to->all - from->all - (to->keeper - from->keeper) - (to->projector - from->projector) -
			(to->vacuum - from->vacuum) - (to->writers - from->writers),
		(double) (to->wal - from->wal) / 1e6);
	fflush(stdout);
	return result;
}

/* The rate in the second half of the floor to that of the first. */
static double
floor_of(int floor_seconds)
{
	Moment begin = now();
	Moment half;
	Moment end;

	pause_seconds(floor_seconds / 2);
	half = now();
	pause_seconds(floor_seconds - floor_seconds / 2);
	end = now();
	phase("floor", &begin, &end);
	return rate(half.at_us, end.at_us) / rate(begin.at_us, half.at_us);
}

static void
erase(int learner, double *ratio, double *complete)
{
	char sql[200];
	double floor_ratio;
	double called;
	Moment m[4];

	pause_seconds(seconds);
	longest_ms();
	floor_ratio = floor_of(env_int("FLOOR", 60));
	m[0] = now();
	pause_seconds(seconds);
	m[1] = now();
	*ratio = phase("before", &m[0], &m[1]);
	snprintf(sql, sizeof(sql), "SELECT eduai.erase_user('big%d')", learner);
	m[1] = now();
	run(db, sql);
	called = (double) (wall_us() - m[1].at_us) / 1000;
	while (ask_int(db, "SELECT count(*) FROM eduai.erasure WHERE completed_at IS NULL") > 0)
	{
		usleep(100000);
		server_cpu_sample();
	}
	m[2] = now();
	*ratio = phase("during", &m[1], &m[2]) / *ratio;
	pause_seconds(seconds);
	m[3] = now();
	phase("after", &m[2], &m[3]);
	*complete = (double) (m[2].at_us - m[1].at_us) / 1e6;
	printf(
		"erase_user %.1f ms, key %s s, complete %.1f s, ratio %.2f (floor %.2f)\n", called,
		ask(db,
			"SELECT coalesce(round(extract(epoch FROM keys_destroyed_at - requested_at), 3)::text,"
			" 'never') FROM eduai.erasure ORDER BY requested_at DESC LIMIT 1"),
		*complete, *ratio, floor_ratio);
	fflush(stdout);
}

static void
start_writers(void)
{
	stopping = 0;
	memset(windows, 0, sizeof(windows));
	started_us = wall_us();
	for (int w = 0; w < writers; w++)
	{
		all[w].number = w;
		all[w].db = connect_db();
		all[w].longest_us = 0;
		pthread_create(&all[w].thread, NULL, write_on, &all[w]);
	}
}

static void
stop_writers(void)
{
	stopping = 1;
	for (int w = 0; w < writers; w++)
	{
		pthread_join(all[w].thread, NULL);
		PQfinish(all[w].db);
	}
}

int
main(void)
{
	int erasures = env_int("ERASURES", 3);
	double *ratios = calloc(erasures, sizeof(double));
	double *completes = calloc(erasures, sizeof(double));

	events = env_int("EVENTS", 1000000);
	seconds = env_int("SECONDS", 10);
	writers = env_int("WRITERS", 2);
	if (writers > MAX_WRITERS)
		fail("at most %d writers", MAX_WRITERS);
	db = connect_db();
	set_up();
	printf("%s\n%d events of the learner, as many of others, half of all compacted; %d writers\n",
		   ask(db, "SELECT version()"), events, writers);
	for (int i = 0; i < erasures; i++)
	{
		fill(i);
		start_writers();
		server_cpu_open(db);
		erase(i, &ratios[i], &completes[i]);
		stop_writers();
	}
	printf("median of %d: rate %.2f of before (lowest %.2f), complete %.1f s (longest %.1f s)\n",
		   erasures, median(ratios, erasures), percentile(ratios, erasures, 0),
		   median(completes, erasures), percentile(completes, erasures, 1));
	clean_up();
	return 0;
}
