/*
 * privacy_erase.c: erasing a learner of many events while others write.
 *
 * EVENTS (1,000,000) events of one learner: nine tenths in the learner's own
 * stream, the rest spread over 100 streams of classes; half of all compacted,
 * half hot, beside as many events of others. WRITERS (2) sessions append single
 * events of other learners, each its own transaction, all the time: for SECONDS
 * (10) before the erasure, which is what it is compared with, until it is
 * complete, and for SECONDS after. Told are
 *
 *   erase_user  how long the call took;
 *   key         from the intent to the destruction of the learner's key, where
 *               the server has a key store;
 *   complete    from the intent to the end of the erasure;
 *   rate        median of the appends in each tenth of a second, before, during
 *               and after; the ratio of during to before;
 *   stall       the longest that one append took, before and during.
 *
 * ERASURES (3) learners are erased one after the other: medians and spread.
 */
#include "bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_US   100000
#define MAX_WINDOWS 100000
#define MAX_WRITERS 32

typedef struct Writer
{
	pthread_t thread;
	PGconn *db;
	int number;
	int64_t longest_us; /* since it was last reset */
} Writer;

static PGconn *db;
static int events;
static int seconds;
static int writers;
static Writer all[MAX_WRITERS];
static int windows[MAX_WINDOWS]; /* appends in each */
static int64_t started_us;
static volatile int stopping = 0;

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

static void
fill(int learner)
{
	char sql[1000];

	for (int part = 0; part < 2; part++)
	{
		for (int done = 0; done < events / 2; done += 10000)
		{
			snprintf(sql, sizeof(sql),
					 "SELECT eduai.append_batch(array_agg(CASE WHEN n %% 10 = 0 THEN 'class-' ||"
					 " n %% 100 ELSE 'learner-big%d' END), array_agg('x'::text),"
					 " array_agg('{\"exercise\": \"fractions\", \"correct\": true}'::jsonb),"
					 " array_agg('big%d'::text)), eduai.append_batch(array_agg('learner-o' ||"
					 " n %% 500), array_agg('x'::text),"
					 " array_agg('{\"exercise\": \"fractions\", \"correct\": true}'::jsonb),"
					 " array_agg('o' || n %% 500)) FROM generate_series(1, 10000) n",
					 learner, learner);
			run(db, sql);
		}
		if (part == 0)
			run(db, "SELECT eduai.compact_events('0')");
	}
	run(db, "VACUUM ANALYZE eduai.event");
	run(db, "CHECKPOINT");
}

static void
pause_seconds(void)
{
	usleep((useconds_t) seconds * 1000000);
}

/* Prints a line; the figures of one erasure. */
static void
erase(int learner, double *ratios, double *completes)
{
	char sql[200];
	int64_t before = wall_us();
	int64_t begin;
	int64_t end;
	int64_t called;
	int64_t stall_before;
	int64_t stall;

	pause_seconds();
	stall_before = longest_ms();
	begin = wall_us();
	snprintf(sql, sizeof(sql), "SELECT eduai.erase_user('big%d')", learner);
	run(db, sql);
	called = wall_us() - begin;
	while (ask_int(db, "SELECT count(*) FROM eduai.erasure WHERE completed_at IS NULL") > 0)
		usleep(20000);
	end = wall_us();
	stall = longest_ms();
	pause_seconds();
	*ratios = rate(begin, end) / rate(before, begin);
	*completes = (double) (end - begin) / 1e6;
	printf(
		"erase_user %.1f ms, key %s s, complete %.1f s, rate %.0f before, %.0f during (%.2f), %.0f "
		"after, stall %lld ms before, %lld ms during\n",
		(double) called / 1000,
		ask(db,
			"SELECT coalesce(round(extract(epoch FROM keys_destroyed_at - requested_at), 3)::text,"
			" '(no store)') FROM eduai.erasure ORDER BY requested_at DESC LIMIT 1"),
		*completes, rate(before, begin), rate(begin, end), *ratios, rate(end, wall_us()),
		(long long) stall_before, (long long) stall);
	fflush(stdout);
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
	printf("%s\n%d events of the learner, as many of others, half of all compacted; %d writers\n",
		   ask(db, "SELECT version()"), events, writers);
	for (int i = 0; i < erasures; i++)
	{
		fill(i);
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
		erase(i, &ratios[i], &completes[i]);
		stopping = 1;
		for (int w = 0; w < writers; w++)
		{
			pthread_join(all[w].thread, NULL);
			PQfinish(all[w].db);
		}
	}
	printf("median of %d: rate %.2f of before (lowest %.2f), complete %.1f s (longest %.1f s)\n",
		   erasures, median(ratios, erasures), percentile(ratios, erasures, 0),
		   median(completes, erasures), percentile(completes, erasures, 1));
	return 0;
}
