/*
 * events_feed.c: the feed's promises under everything that happens to a
 * server; see ledger.h for what is checked, writer.c, reader.c, subscriber.c
 * and chaos.c for who does what.
 *
 *   SOAK_SECONDS=300  how long writers write; or
 *   EVENTS=0          until as many events are committed
 *   SEED=1            of all random choices; the timing is the server's
 *   WRITERS=32 PAGERS=2 SUBSCRIPTIONS=6
 *   BATCH=1           times as many events in a bulk call
 *   COMPACT=1         0: nothing is compacted
 *   KILLS=1           0: nothing is killed, and some commit asynchronously
 *   IDLE=0            1: only the latency beside idle transactions; see idle.c
 *
 * Ends with 0, or prints the violation and the seed and ends with 1.
 */
#include "soak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_THREADS 240
#define STALL_NS    INT64_C(90000000000)

static int64_t started;
static int64_t moved; /* when something new was seen last */
static LedgerTotals before;

static void
on_violation(const char *text)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&once);
	printf("VIOLATION at %.6f s (monotonic %.6f), seed %llu:\n%s\n",
		   (double) (ledger_clock() - started) / 1e9, (double) ledger_clock() / 1e9,
		   (unsigned long long) options.seed, text);
	fflush(NULL);
	_exit(1);
}

static void
read_options(void)
{
	options.program = "events_feed";
	options.learners = 3;
	options.of = 500;
	options.seed = (uint64_t) env_number("SEED", (int64_t) (ledger_clock() / 1000 % 1000000));
	options.events = env_number("EVENTS", 0);
	options.seconds = (int) env_number("SOAK_SECONDS", 300);
	options.writers = (int) env_number("WRITERS", 32);
	options.pagers = (int) env_number("PAGERS", 2);
	options.subscriptions = (int) env_number("SUBSCRIPTIONS", 6);
	options.batch = (int) env_number("BATCH", 1);
	options.kills = env_number("KILLS", 1) != 0;
	if (options.writers < 1 || options.writers > 90 || options.pagers < 0 || options.pagers > 16)
		fail("WRITERS is 1 to 90, PAGERS 0 to 16");
	if (options.batch < 1 || options.batch > 10)
		fail("BATCH is 1 to 10");
	if (getenv("EDUAI_SERVER") == NULL || getenv("EDUAI_DATA") == NULL)
		fail("EDUAI_SERVER and EDUAI_DATA are not set: run this through make soak");
}

static void
look_what_is_there(void)
{
	Session session;

	session_init(&session, MAX_SESSIONS - 3);
	options.subscribe =
		session_number(&session, "SELECT count(*) FROM pg_proc WHERE proname = 'fetch_events' AND "
								 "pronamespace = 'eduai'::regnamespace") > 0;
	options.compact =
		env_number("COMPACT", 1) != 0 &&
		session_number(&session, "SELECT count(*) FROM pg_proc WHERE proname = 'compact_events' "
								 "AND pronamespace = 'eduai'::regnamespace") > 0;
	session_close(&session);
}

static void
report_progress(void)
{
	LedgerTotals now = ledger_totals();
	static int64_t last;
	double seconds = (double) (ledger_clock() - (last ? last : started)) / 1e9;

	last = ledger_clock();
	printf("%6.0f s  %llu committed (%.0f/s), %llu read back (%.0f/s); %.0f rows/s read; "
		   "%llu deliveries; %llu ambiguous, %llu rolled back; front at %lld\n",
		   (double) (last - started) / 1e9, (unsigned long long) now.committed,
		   (double) (now.committed - before.committed) / seconds, (unsigned long long) now.seen,
		   (double) (now.seen - before.seen) / seconds, (double) (now.rows - before.rows) / seconds,
		   (unsigned long long) now.deliveries, (unsigned long long) now.ambiguous,
		   (unsigned long long) now.dropped, (long long) now.front);
	fflush(stdout);
	before = now;
}

/* Committed events that do not arrive are a violation, too. */
static void
check_stall(void)
{
	static uint64_t seen;
	LedgerTotals now = ledger_totals();

	if (now.seen != seen || now.committed <= now.seen)
		moved = ledger_clock();
	seen = now.seen;
	if (ledger_clock() - moved > STALL_NS)
		ledger_violation("stall: %llu events are committed, %llu were seen, none for %lld s",
						 (unsigned long long) now.committed, (unsigned long long) now.seen,
						 (long long) (STALL_NS / 1000000000));
}

static bool
enough(void)
{
	if (options.events > 0)
		return ledger_totals().committed >= (uint64_t) options.events;
	return ledger_clock() - started > (int64_t) options.seconds * 1000000000;
}

/* Audits and reports until the condition holds. */
static void
watch(bool (*over)(void))
{
	static int64_t reported;

	while (!over())
	{
		ledger_audit();
		check_stall();
		if (ledger_clock() - reported > INT64_C(10000000000))
		{
			reported = ledger_clock();
			report_progress();
		}
		sleep_ms(100);
	}
}

static pthread_t threads[MAX_THREADS];
static int n_threads;
static _Atomic int alive;

/* Joins threads from "first" on, while the audit goes on. */
static void *
join_main(void *first)
{
	for (int i = (int) (intptr_t) first; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	alive = 0;
	return NULL;
}

static bool
all_gone(void)
{
	return alive == 0;
}

static void
start_thread(void *(*body)(void *), int number)
{
	if (pthread_create(&threads[n_threads++], NULL, body, (void *) (intptr_t) number) != 0)
		fail("a thread could not be started");
}

static void
run_soak(void)
{
	pthread_t joiner;
	int n_writing;
	LedgerTotals totals;

	for (int i = 0; i < options.writers; i++)
		start_thread(writer_main, i);
	start_thread(chaos_main, 0);
	if (options.compact)
		start_thread(compactor_main, 0);
	n_writing = n_threads;
	start_thread(front_main, 0);
	for (int i = 0; i < options.pagers; i++)
		start_thread(pager_main, i);
	if (options.subscribe)
		n_threads += subscribers_start(&threads[n_threads]);
	watch(enough);
	stopping = true;
	for (int i = 0; i < n_writing; i++)
		pthread_join(threads[i], NULL);
	closing = true;
	alive = 1;
	pthread_create(&joiner, NULL, join_main, (void *) (intptr_t) n_writing);
	watch(all_gone);
	pthread_join(joiner, NULL);
	report_progress();
	ledger_finish();
	check_streams();
	totals = ledger_totals();
	printf("all of %llu events in %llu transactions checked: %llu in the feed, %llu committed, "
		   "%llu ambiguous, %llu rolled back\n",
		   (unsigned long long) totals.events, (unsigned long long) totals.transactions,
		   (unsigned long long) totals.seen, (unsigned long long) totals.committed,
		   (unsigned long long) totals.ambiguous, (unsigned long long) totals.dropped);
	chaos_report();
	report_refusals();
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	started = moved = ledger_clock();
	ledger_on_violation = on_violation;
	ledger_init();
	read_options();
	if (env_number("IDLE", 0) != 0)
		return run_idle();
	look_what_is_there();
	printf("seed %llu, %d writers, %d pagers, %s, %s, %s\n", (unsigned long long) options.seed,
		   options.writers, options.pagers,
		   options.subscribe ? "subscriptions" : "no subscriptions: fetch_events is not there",
		   options.compact ? "compaction" : "no compaction: compact_events is not there",
		   options.kills ? "kills" : "no kills");
	run_soak();
	return 0;
}
