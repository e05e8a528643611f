/*
 * privacy_anonymise.c: what anonymising costs, and what writers notice of it.
 *
 * EVENTS old events are loaded (append_batch, occurred_at three years ago) and
 * compacted meanwhile.  Then WRITERS connections append, an event a transaction,
 * each at most RATE a second (0: as fast as they can): SECONDS alone, then while
 * anonymise_events() does all of it, then alone again.  Printed: events
 * anonymised a second; the writers' longest stall, and the median of their
 * appends in each tenth of a second, beside the mean of the two times alone.
 * Afterwards all is read: a name for each learner, and what each skill has.
 *
 * What writers without a RATE reach drifts within minutes by more than the job
 * takes of it: beside them it works TURN seconds and is still as long, by turns.
 * The tenths of all turns are compared, and each turn's median with those of the
 * still ones around it.
 *
 *   EVENTS=5000000  LEARNERS=100000  WRITERS=2  RATE=200  SECONDS=20
 *   TURN=10         seconds, with RATE=0
 *   SHARE=10        eduai.maintenance_share; 100: the job never rests
 */
#include "bench.h"
#include "load.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_WRITERS 16
#define SLOTS       100000 /* tenths of a second */
#define MAX_TURNS   200

typedef struct Writer
{
	pthread_t thread;
	int number;
	int64_t worst_us;
} Writer;

typedef struct Phase
{
	const char *name;
	double per_s; /* the median */
	double worst_ms;
	double seconds;
} Phase;

static volatile bool stopping;
static int64_t phase_start;
static int slots[SLOTS];
static Writer writers[MAX_WRITERS];
static int nwriters;
static int rate;

static void *
write_on(void *arg)
{
	Writer *w = arg;
	PGconn *db = connect_db();
	int64_t began = wall_us();
	int64_t n = 0;

	run(db, "SET synchronous_commit = off");
	while (!stopping)
	{
		char sql[256];
		int64_t due = rate > 0 ? began + n * 1000000 / rate : 0;
		int64_t now = wall_us();
		int64_t took;
		int64_t slot;

		n++;
		if (due > now)
			usleep((useconds_t) (due - now));
		snprintf(sql, sizeof(sql),
				 "SELECT eduai.append_event('learner-w%d-%d', 'exercise_attempted', "
				 "'{\"skill\": \"s\", \"correct\": true}', user_id => 'w%d-%d')",
				 w->number, (int) (n % 1000), w->number, (int) (n % 1000));
		now = wall_us();
		run(db, sql);
		took = wall_us() - now;
		slot = (wall_us() - phase_start) / 100000;
		if (slot >= 0 && slot < SLOTS)
			__atomic_fetch_add(&slots[slot], 1, __ATOMIC_RELAXED);
		if (took > w->worst_us)
			w->worst_us = took;
		/* who was held up does not catch up: that would hide it in the rate */
		if (rate > 0 && now - due > 1000000 / rate)
		{
			began = now;
			n = 0;
		}
	}
	PQfinish(db);
	return NULL;
}

static void
start_writers(void)
{
	stopping = false;
	memset(slots, 0, sizeof(slots));
	phase_start = wall_us();
	for (int i = 0; i < nwriters; i++)
	{
		writers[i].number = i;
		writers[i].worst_us = 0;
		if (pthread_create(&writers[i].thread, NULL, write_on, &writers[i]) != 0)
			fail("cannot start a thread");
	}
}

/* Adds their rates in the tenths of a second between two times to a series. */
static void
add_rates(Series *rates, int64_t from_us, int64_t to_us)
{
	int first = (int) ((from_us - phase_start + 99999) / 100000);
	int n = (int) ((to_us - phase_start) / 100000) - first;

	if (n <= 0 || first + n > SLOTS)
		fail("a time of %d tenths of a second cannot be measured", n);
	for (int i = 0; i < n; i++)
		add_figure(rates, slots[first + i] * 10.0);
}

/* Their median between two times. */
static double
rate_between(int64_t from_us, int64_t to_us)
{
	Series rates = new_series("", "", SLOTS);
	double result;

	add_rates(&rates, from_us, to_us);
	result = median(rates.values, rates.n);
	free(rates.values);
	return result;
}

static void
stop_writers(Phase *phase)
{
	int64_t now = wall_us();
	int64_t worst = 0;

	phase->seconds = (double) (now - phase_start) / 1e6;
	phase->per_s = rate_between(phase_start, now);
	stopping = true;
	for (int i = 0; i < nwriters; i++)
	{
		pthread_join(writers[i].thread, NULL);
		if (writers[i].worst_us > worst)
			worst = writers[i].worst_us;
	}
	phase->worst_ms = (double) worst / 1000;
}

static void
quiet(Phase *phase)
{
	start_writers();
	sleep((unsigned) env_int("SECONDS", 20));
	stop_writers(phase);
}

/* ---- loading ---- */

#define BATCH   16384
#define BATCHES 8 /* of a segment */

static void *
compact(void *arg)
{
	PGconn *db = connect_db();

	(void) arg;
	run(db, "SELECT eduai.compact_events('0 s')");
	PQfinish(db);
	return NULL;
}

/* A segment is compacted while the next one is appended. */
static void
load(PGconn *db, int events, int learners)
{
	pthread_t thread;
	bool compacting = false;
	int batches = 0;

	for (int done = 0; done < events; done += BATCH)
	{
		char sql[1024];

		snprintf(
			sql, sizeof(sql),
			"SELECT eduai.append_batch(array_agg('learner-p' || i %% %d),"
			" array_agg('exercise_attempted'::text), array_agg(jsonb_build_object("
			"'skill', 'skill ' || i %% 60, 'item', 'item ' || i %% 3000, 'correct', i %% 3 = 0,"
			" 'score', i %% 11 / 10.0, 'answer', 'said ' || i, 'time_spent', i %% 300)),"
			" array_agg('p' || i %% %d), NULL, NULL,"
			" array_agg(now() - interval '3 years' + i * interval '1 second'))"
			" FROM generate_series(%d, least(%d, %d) - 1) i",
			learners, learners, done, done + BATCH, events);
		run(db, sql);
		if (++batches % BATCHES != 0)
			continue;
		if (compacting)
			pthread_join(thread, NULL);
		compacting = pthread_create(&thread, NULL, compact, NULL) == 0;
	}
	if (compacting)
		pthread_join(thread, NULL);
	(void) compact(NULL);
}

/* ---- what became of it ---- */

static void
expect(PGconn *db, const char *sql, int64_t wanted, const char *what)
{
	int64_t got = ask_int(db, sql);

	if (got != wanted)
		fail("%s: %lld, not %lld", what, (long long) got, (long long) wanted);
}

static void
check(PGconn *db, int events, int learners)
{
	int skills = events < 60 ? events : 60;

	run(db, "CREATE TEMP TABLE seen (name text, skill text, n bigint, correct bigint)");
	run(db, "DO $$ DECLARE p bigint := 0; last bigint; BEGIN LOOP"
			" CREATE TEMP TABLE page ON COMMIT DROP AS SELECT * FROM eduai.read_all(p, 10000);"
			" SELECT max(position) INTO last FROM page; EXIT WHEN last IS NULL; p := last;"
			" INSERT INTO seen SELECT user_id, data->>'skill', count(*),"
			" count(*) FILTER (WHERE (data->>'correct')::boolean) FROM page"
			" WHERE user_id LIKE 'anon-%' GROUP BY 1, 2; DROP TABLE page; END LOOP; END $$");
	expect(db, "SELECT sum(n)::bigint FROM seen", events, "events with a new name");
	expect(db, "SELECT count(DISTINCT name) FROM seen", events < learners ? events : learners,
		   "names");
	expect(db, "SELECT count(DISTINCT skill) FROM seen", skills, "skills");
	expect(db, "SELECT sum(correct)::bigint FROM seen", (events + 2) / 3, "correct answers");
	if (events % 60 == 0)
		expect(db,
			   "SELECT count(*) FROM (SELECT sum(n) AS n FROM seen GROUP BY skill) s"
			   " WHERE n <> (SELECT sum(n) / 60 FROM seen)",
			   0, "skills with another number of answers");
	printf("read again: %d events, a name for each learner, each skill as it was\n", events);
}

/* ---- the two ways ---- */

static void
set(PGconn *db, const char *name, int value)
{
	char sql[100];

	snprintf(sql, sizeof(sql), "ALTER SYSTEM SET eduai.%s = %d", name, value);
	run(db, sql);
	run(db, "SELECT pg_reload_conf()");
}

static int64_t
at_once(PGconn *db)
{
	Phase before = {.name = "before"};
	Phase during = {.name = "during"};
	Phase after = {.name = "after"};
	const Phase *all[] = {&before, &during, &after};
	int64_t changed;

	quiet(&before);
	start_writers();
	changed = ask_int(db, "CALL eduai.anonymise_events('2 years', NULL)");
	stop_writers(&during);
	quiet(&after);
	printf("anonymised %lld events in %.1f s: %.0f a second\n", (long long) changed, during.seconds,
		   (double) changed / during.seconds);
	for (int i = 0; i < 3; i++)
		printf("%-8s median %.0f appends/s, longest %.1f ms (%.1f s)\n", all[i]->name,
			   all[i]->per_s, all[i]->worst_ms, all[i]->seconds);
	printf("median rate during, of the mean of before and after: %.2f\n",
		   2 * during.per_s / (before.per_s + after.per_s));
	return changed;
}

/* A turn of the job; the events that it anonymised. */
static int64_t
work(PGconn *db, bool *more)
{
	char *result = ask(db, "CALL eduai.run_maintenance('retain_events', NULL)");
	char outcome[32];
	long long rows;

	if (sscanf(result, "(%*[^,],%31[^,],%lld", outcome, &rows) != 2)
		fail("cannot read \"%s\"", result);
	if (strcmp(outcome, "done") != 0 && strcmp(outcome, "unfinished") != 0)
		fail("a turn ended with \"%s\"", result);
	*more = strcmp(outcome, "unfinished") == 0;
	free(result);
	return rows;
}

static double
mean(const Series *series)
{
	double sum = 0;

	for (int i = 0; i < series->n; i++)
		sum += series->values[i];
	return sum / series->n;
}

static int64_t
in_turns(PGconn *db)
{
	int turn = env_int("TURN", 10);
	Series still = new_series("alone", "%.0f appends/s", SLOTS);
	Series works = new_series("beside the job", "%.0f appends/s", SLOTS);
	Series ratio = new_series("a turn's median / of those around it", "%.2f", MAX_TURNS);
	double before;
	int64_t worked_us = 0;
	int64_t changed = 0;
	bool more = true;
	Phase all;

	set(db, "maintenance_time_limit", turn * 1000);
	run(db, "SELECT eduai.set_retention('events', '2 years', 'anonymise')");
	start_writers();
	sleep((unsigned) turn);
	add_rates(&still, phase_start, wall_us());
	before = rate_between(phase_start, wall_us());
	while (more && ratio.n < MAX_TURNS)
	{
		int64_t from = wall_us();
		int64_t to;
		double after;

		changed += work(db, &more);
		to = wall_us();
		worked_us += to - from;
		sleep((unsigned) turn);
		add_rates(&works, from, to);
		add_rates(&still, to, wall_us());
		after = rate_between(to, wall_us());
		add_figure(&ratio, 2 * rate_between(from, to) / (before + after));
		before = after;
	}
	stop_writers(&all);
	run(db, "ALTER SYSTEM RESET eduai.maintenance_time_limit");
	printf("anonymised %lld events in %.1f s of work: %.0f a second; longest append %.1f ms\n",
		   (long long) changed, (double) worked_us / 1e6,
		   (double) changed * 1e6 / (double) worked_us, all.worst_ms);
	print_series(&still);
	print_series(&works);
	print_series(&ratio);
	printf("all tenths of a second beside the job / all alone: median %.2f, mean %.2f\n",
		   median(works.values, works.n) / median(still.values, still.n),
		   mean(&works) / mean(&still));
	return changed;
}

int
main(void)
{
	PGconn *db = connect_db();
	int events = env_int("EVENTS", 5000000);
	int learners = env_int("LEARNERS", 100000);
	int64_t changed;
	int64_t began;

	nwriters = env_int("WRITERS", 2);
	rate = env_int("RATE", 200);
	if (nwriters < 1 || nwriters > MAX_WRITERS || rate < 0)
		fail("WRITERS is 1 to %d, RATE at least 0", MAX_WRITERS);
	set(db, "maintenance_share", env_int("SHARE", 10));
	printf("%d events of %d learners; %d writers, %d appends a second each at most (0: any);"
		   " maintenance_share %d\n",
		   events, learners, nwriters, rate, env_int("SHARE", 10));
	fflush(stdout);
	began = wall_us();
	load(db, events, learners);
	run(db, "CHECKPOINT");
	printf("loaded and compacted in %.0f s\n", (double) (wall_us() - began) / 1e6);
	fflush(stdout);
	changed = rate > 0 ? at_once(db) : in_turns(db);
	if (changed < events)
		fail("%lld events were anonymised, not %d", (long long) changed, events);
	fflush(stdout);
	check(db, events, learners);
	run(db, "ALTER SYSTEM RESET eduai.maintenance_share");
	run(db, "SELECT pg_reload_conf()");
	PQfinish(db);
	return 0;
}
