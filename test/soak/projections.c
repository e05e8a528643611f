/*
 * projections.c: what projections promise, under everything that happens to a
 * server: every event is folded once, in order, into every state, whatever is
 * killed and whatever is rebuilt.
 *
 * Writers append as those of events_feed do (writer.c) and tell the ledger; a
 * reader at the front gives it the feed. Two inline and three async
 * projections fold the same chain over the events' numbers (projections_check.c)
 * with a reducer that raises by chance, and always on some events; those
 * are parked with what comes behind them.  Kills and rebuilds go on
 * (projections_chaos.c).  At the end the reducer is repaired, what is parked is
 * retried, in some projections skipped, and every state must be what the feed
 * gives; once more after another rebuild of each.
 *
 *   SOAK_SECONDS=300  how long writers write, and at least until
 *   MIN_KILLS=100     kills had something under way
 *   SEED=1            of all random choices; the timing is the server's
 *   WRITERS=12 BATCH=1 OBSERVERS=2
 *   COMPACT=1         0: nothing is compacted
 *   KILLS=1           0: nothing is killed
 *   REBUILDS=1        0: nothing is rebuilt during the run
 *   POISON=1          0: the reducer never raises
 *
 * Ends with 0, or prints the violation and the seed and ends with 1.
 */
#include "projections.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_THREADS 120
#define TOO_FAR     100000 /* events behind: writers wait */
#define STALL_NS    INT64_C(120000000000)

Followed followed[FOLLOWED] = {
	{"soak_stream", false, false, 0, 1, false, 0},
	{"soak_learner", false, true, 0, 4, false, 0},
	{"soak_types", false, false, 0x5, 4, true, 0},
	{"soak_inline_stream", true, false, 0, 1, true, 0},
	{"soak_inline_learner", true, true, 0, 1, false, 0},
};

static int64_t started;
static int min_kills;
static bool rebuilds;
static bool poison;
static int observers;
static pthread_t threads[MAX_THREADS];
static int n_threads;

static void
on_violation(const char *text)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&once);
	printf("VIOLATION at %.6f s, seed %llu:\n%s\n", (double) (ledger_clock() - started) / 1e9,
		   (unsigned long long) options.seed, text);
	kills_report();
	fflush(NULL);
	_exit(1);
}

static void
read_options(void)
{
	options.program = "projections";
	/* a rebuild is under way already; a lock was not got in time */
	options.expected = "55006 55P03";
	options.seed = (uint64_t) env_number("SEED", (int64_t) (ledger_clock() / 1000 % 1000000));
	options.seconds = (int) env_number("SOAK_SECONDS", 300);
	options.writers = (int) env_number("WRITERS", 12);
	options.batch = (int) env_number("BATCH", 1);
	options.learners = 40;
	options.of = 5000;
	options.kills = env_number("KILLS", 1) != 0;
	options.compact = env_number("COMPACT", 1) != 0;
	min_kills = options.kills ? (int) env_number("MIN_KILLS", 100) : 0;
	rebuilds = env_number("REBUILDS", 1) != 0;
	poison = env_number("POISON", 1) != 0;
	observers = (int) env_number("OBSERVERS", 2);
	if (options.writers < 1 || options.writers > 90 || options.batch < 1 || options.batch > 10 ||
		observers < 0 || observers > 16)
		fail("WRITERS is 1 to 90, BATCH 1 to 10, OBSERVERS 0 to 16");
	if (getenv("EDUAI_SERVER") == NULL || getenv("EDUAI_DATA") == NULL)
		fail("EDUAI_SERVER and EDUAI_DATA are not set: run this through make soak");
}

/* ---- the projections ---- */

static void
define_reducer(Session *session, bool raises)
{
	char sql[1200];

	snprintf(sql, sizeof(sql),
			 "CREATE OR REPLACE FUNCTION soak_chain(state jsonb, event eduai.event_record)"
			 " RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE e bigint := event.data ->> 'e'; BEGIN"
			 " IF %s AND e %% %d = 0 THEN RAISE EXCEPTION 'poison'; END IF;"
			 " IF %s AND random() < 0.001 THEN RAISE EXCEPTION 'bad luck'; END IF;"
			 " RETURN jsonb_build_object('h', ((state ->> 'h')::bigint * 1000003 + e) %% "
			 "1099511627689,"
			 " 'n', (state ->> 'n')::bigint + 1); END $$",
			 raises ? "true" : "false", POISON_EVERY, raises ? "true" : "false");
	if (session_do(session, sql) != DONE)
		fail("the reducer could not be defined");
}

static void
create(Session *session, Followed *f)
{
	char sql[600];
	char types[200] = "NULL";

	if (f->types != 0)
	{
		int length = snprintf(types, sizeof(types), "ARRAY[");

		for (int i = 0; i < LEDGER_TYPES; i++)
			if (f->types & (1u << i))
				length += snprintf(types + length, sizeof(types) - (size_t) length, "%s'%s'",
								   types[length - 1] == '[' ? "" : ",", ledger_type_names[i]);
		snprintf(types + length, sizeof(types) - (size_t) length, "]");
	}
	snprintf(sql, sizeof(sql),
			 "SELECT eduai.create_projection('%s', 'soak_chain(jsonb, "
			 "eduai.event_record)'::regprocedure, key => '%s', mode => '%s', event_types => %s,"
			 " initial => '{\"h\": 0, \"n\": 0}', lanes => %d)",
			 f->name, f->by_learner ? "user_id" : "stream", f->is_inline ? "inline" : "async",
			 types, f->lanes);
	if (session_do(session, sql) != DONE)
		fail("the projection %s could not be created", f->name);
	snprintf(sql, sizeof(sql), "SELECT projection FROM eduai.projection WHERE name = '%s'",
			 f->name);
	f->id = (int) session_number(session, sql);
}

/* ---- watching ---- */

/* Events that async projections and rebuilds have still to fold; asks again until answered. */
static int64_t
behind(Session *session)
{
	return session_number(session,
						  "SELECT coalesce(sum(lag_events), 0) FROM eduai.projection_status");
}

static int64_t
parked(Session *session)
{
	return session_number(session, "SELECT count(*) FROM eduai.projection_parked");
}

static void
report_progress(Session *session, int64_t lag)
{
	LedgerTotals now = ledger_totals();
	static uint64_t committed;
	static int64_t last;
	double seconds = (double) (ledger_clock() - (last ? last : started)) / 1e9;

	last = ledger_clock();
	printf("%6.0f s  %llu committed (%.0f/s), %llu read back, %llu ambiguous, %llu rolled back; "
		   "%lld behind, %lld parked; %llu observations; %d kills\n",
		   (double) (last - started) / 1e9, (unsigned long long) now.committed,
		   (double) (now.committed - committed) / seconds, (unsigned long long) now.seen,
		   (unsigned long long) now.ambiguous, (unsigned long long) now.dropped, (long long) lag,
		   (long long) parked(session), (unsigned long long) observations(), kills_that_count());
	fflush(stdout);
	committed = now.committed;
}

/* What is behind must move. */
static void
check_stall(Session *session, int64_t lag)
{
	static int64_t at;
	static int64_t moved;
	int64_t now = session_number(
		session, "SELECT coalesce(sum(events + position), 0) FROM eduai.projection_position");

	if (now != at || lag == 0 || moved == 0)
		moved = ledger_clock();
	at = now;
	if (ledger_clock() - moved > STALL_NS)
		ledger_violation("stall: %lld events behind, none folded for %lld s", (long long) lag,
						 (long long) (STALL_NS / 1000000000));
}

static void
watch(Session *session)
{
	static int64_t reported;
	int64_t lag = behind(session);

	ledger_audit();
	holding = lag > TOO_FAR;
	/* by turns: an inline projection cuts over only where no transaction stays open */
	calm = (ledger_clock() - started) / INT64_C(4000000000) % 2 == 1;
	check_stall(session, lag);
	if (ledger_clock() - reported > INT64_C(10000000000))
	{
		reported = ledger_clock();
		report_progress(session, lag);
	}
	sleep_ms(200);
}

/* Nothing is left to fold or to build. */
static void
settle(Session *session)
{
	while (session_number(session, "SELECT count(*) FROM eduai.projection_status"
								   " WHERE coalesce(lag_events, 0) > 0 OR rebuilding") > 0)
		watch(session);
}

/* ---- the parked ---- */

/* The number of a parked event, from the log. */
static uint32_t
event_at(Session *session, const char *stream, const char *version)
{
	char sql[300];

	snprintf(sql, sizeof(sql), "SELECT data ->> 'e' FROM eduai.read_stream('%s', %s, 1)", stream,
			 version);
	return (uint32_t) session_number(session, sql);
}

/* One pass over the heads that raised: poison is skipped, the rest tried again. */
static void
skip_heads(Session *session, int projection)
{
	const Followed *f = &followed[projection];
	char sql[400];
	Outcome outcome;
	PGresult *heads;

	snprintf(sql, sizeof(sql),
			 "SELECT event_id, stream, version FROM eduai.projection_parked p WHERE projection = %d"
			 " AND error IS NOT NULL AND generation = (SELECT live FROM "
			 "eduai.projection_generation g WHERE g.projection = %d)",
			 f->id, f->id);
	heads = session_ask(session, sql, &outcome);
	if (outcome != DONE)
		fail("the parked events could not be read");
	for (int i = 0; i < PQntuples(heads); i++)
	{
		uint32_t event = event_at(session, PQgetvalue(heads, i, 1), PQgetvalue(heads, i, 2));

		if (event % POISON_EVERY != 0)
			continue;
		snprintf(sql, sizeof(sql), "SELECT eduai.skip_parked('%s', '%s')", f->name,
				 PQgetvalue(heads, i, 0));
		if (session_do(session, sql) != DONE)
			fail("%s: an event could not be skipped", f->name);
		check_skip(projection, event);
	}
	PQclear(heads);
}

static int64_t
parked_of(Session *session, const Followed *f)
{
	char sql[200];

	snprintf(sql, sizeof(sql), "SELECT count(*) FROM eduai.projection_parked WHERE projection = %d",
			 f->id);
	return session_number(session, sql);
}

static void
retry(Session *session, const Followed *f)
{
	char sql[200];

	snprintf(sql, sizeof(sql), "SELECT eduai.retry_parked('%s')", f->name);
	if (session_do(session, sql) != DONE)
		fail("%s: what is parked could not be retried", f->name);
}

/* Until nothing is parked; a state without a hole is left in every key. */
static void
resolve_parked(Session *session)
{
	int64_t deadline = ledger_clock() + INT64_C(600000000000);

	printf("parked:  ");
	for (int i = 0; i < FOLLOWED; i++)
		printf(" %s %lld", followed[i].name, (long long) parked_of(session, &followed[i]));
	printf("\n");
	for (int i = 0; i < FOLLOWED; i++)
		while (followed[i].skips && parked_of(session, &followed[i]) > 0)
		{
			skip_heads(session, i);
			retry(session, &followed[i]);
			if (ledger_clock() > deadline)
				fail("%s: still parked after ten minutes", followed[i].name);
		}
	define_reducer(session, false);
	for (int i = 0; i < FOLLOWED; i++)
	{
		if (parked_of(session, &followed[i]) > 0)
			retry(session, &followed[i]);
		if (parked_of(session, &followed[i]) > 0)
			ledger_violation("%s: %lld events are parked although the reducer raises no more",
							 followed[i].name, (long long) parked_of(session, &followed[i]));
	}
}

/* ---- the run ---- */

static void
start_thread(void *(*body)(void *), int number)
{
	if (pthread_create(&threads[n_threads++], NULL, body, (void *) (intptr_t) number) != 0)
		fail("a thread could not be started");
}

static bool
enough(void)
{
	return ledger_clock() - started > (int64_t) options.seconds * 1000000000 &&
		   kills_that_count() >= min_kills;
}

static pthread_t joiner;
static _Atomic int alive;

static void *
join_main(void *arg)
{
	(void) arg;
	for (int i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	n_threads = 0;
	alive = 0;
	return NULL;
}

/* Joins all threads, while the audit goes on. */
static void
join(Session *session)
{
	alive = 1;
	pthread_create(&joiner, NULL, join_main, NULL);
	while (alive)
		watch(session);
	pthread_join(joiner, NULL);
}

static void
disturb_and_write(Session *session)
{
	pthread_t readers[20];
	int n_readers = 0;

	pthread_create(&readers[n_readers++], NULL, front_main, NULL);
	for (int i = 0; i < observers; i++)
		pthread_create(&readers[n_readers++], NULL, observer_main, (void *) (intptr_t) i);
	for (int i = 0; i < options.writers; i++)
		start_thread(writer_main, i);
	start_thread(kills_main, 0);
	for (int inlines = 0; rebuilds && inlines < 2; inlines++)
		start_thread(rebuilder_main, inlines);
	if (options.compact)
		start_thread(compactor_main, 0);
	while (!enough())
		watch(session);
	stopping = true;
	join(session);
	closing = true;
	for (int i = 0; i < n_readers; i++)
		threads[n_threads++] = readers[i];
	join(session);
}

/* Rebuilds that came to their end, whoever asked for them and however often they were killed. */
static void
check_rebuilds(Session *session)
{
	int64_t flips = 0;

	printf("live:    ");
	for (int i = 0; i < FOLLOWED; i++)
	{
		char sql[200];
		int64_t live;

		snprintf(sql, sizeof(sql),
				 "SELECT live FROM eduai.projection_generation WHERE projection = %d",
				 followed[i].id);
		live = session_number(session, sql);
		flips += live - 1;
		printf(" %s %lld", followed[i].name, (long long) live);
	}
	printf(" (the generation; the first is 1)\n");
	if (rebuilds && flips == 0)
		ledger_violation("no rebuild has come to its end");
}

static void
rebuild_all(Session *session)
{
	for (int i = 0; i < FOLLOWED; i++)
	{
		char sql[100];

		snprintf(sql, sizeof(sql), "SELECT eduai.rebuild_projection('%s')", followed[i].name);
		if (session_do(session, sql) != DONE)
			fail("%s could not be rebuilt", followed[i].name);
	}
}

static void
run_soak(void)
{
	Session session;
	LedgerTotals totals;

	session_init(&session, MAX_SESSIONS - 3);
	session.setup = "SET statement_timeout = 0";
	define_reducer(&session, poison);
	for (int i = 0; i < FOLLOWED; i++)
		create(&session, &followed[i]);
	disturb_and_write(&session);
	ledger_finish();
	totals = ledger_totals();
	printf("all of %llu events in %llu transactions checked: %llu in the feed, %llu committed, "
		   "%llu ambiguous, %llu rolled back\n",
		   (unsigned long long) totals.events, (unsigned long long) totals.transactions,
		   (unsigned long long) totals.seen, (unsigned long long) totals.committed,
		   (unsigned long long) totals.ambiguous, (unsigned long long) totals.dropped);
	settle(&session);
	kills_report();
	kills_check(min_kills);
	report_refusals();
	check_rebuilds(&session);
	resolve_parked(&session);
	settle(&session);
	check_states(&session, "at the end");
	rebuild_all(&session);
	settle(&session);
	check_states(&session, "rebuilt");
	session_close(&session);
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	started = ledger_clock();
	ledger_on_violation = on_violation;
	ledger_init();
	read_options();
	printf("seed %llu, %d writers, %s, %s, %s, %s\n", (unsigned long long) options.seed,
		   options.writers, options.kills ? "kills" : "no kills",
		   rebuilds ? "rebuilds" : "no rebuilds", options.compact ? "compaction" : "no compaction",
		   poison ? "poison" : "no poison");
	run_soak();
	return 0;
}
