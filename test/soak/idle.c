/*
 * idle.c: idle transactions hold up nobody else.
 *
 * Writers commit RATE events a second to streams of their own, a reader waits
 * for them.  First for a quarter of the time alone; then beside transactions
 * that have appended and sit idle, and transactions that took a transaction id
 * early and append late.  Prints how long events took from their commit to the
 * reader; ends with 1 when the 99th percentile beside idle ones is above
 * LIMIT_MS.  In the end the idle ones commit, and must arrive, in order.
 *
 *   SOAK_SECONDS=60 RATE=500 LIMIT_MS=50
 */
#include "soak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PACED       8
#define IDLERS      6
#define MAX_SAMPLES 4000000
#define IDLE_STREAM 100000 /* from here, the idle transactions' */

/* By event; nanoseconds, 0 where it has not happened. */
static int64_t *asked, *acknowledged;
static _Atomic int64_t *arrived;
static _Atomic int rate;
static bool with_fetch;
static const Reader reader = {"the waiting reader", 0, -1, -1, 0};

static uint32_t
append(Session *session, int writer, uint32_t txn, uint32_t stream)
{
	Text sql = {0};
	uint32_t event = ledger_event(txn, stream, 0);
	Outcome outcome;

	if (event >= MAX_SAMPLES)
		fail("too many events");
	text_add(&sql, "SELECT version FROM eduai.append_event('%s-%u', '%s', '",
			 ledger_category_names[stream % LEDGER_CATEGORIES], stream, ledger_type_names[0]);
	add_data(&sql, event, txn, writer, event, stream);
	text_add(&sql, "')");
	asked[event] = ledger_clock();
	PQclear(session_ask(session, sql.data, &outcome));
	if (outcome != DONE)
		fail("an append failed");
	acknowledged[event] = ledger_clock();
	free(sql.data);
	return event;
}

/* Commits its share of the rate, evenly. */
static void *
paced_main(void *number)
{
	int me = (int) (intptr_t) number;
	Session session;
	int64_t next;

	session_init(&session, me);
	session_connect(&session);
	next = ledger_clock();
	while (!stopping)
	{
		uint32_t txn = ledger_begin(me);
		uint32_t stream = random_below(&session.random, 200) * PACED + (uint32_t) me;
		int64_t now = ledger_clock();

		if (now < next)
			sleep_ms((int) ((next - now) / 1000000));
		ledger_committing(txn);
		append(&session, me, txn, stream);
		ledger_committed(txn);
		next += INT64_C(1000000000) * PACED / rate;
	}
	session_close(&session);
	return NULL;
}

static int
next_page(Session *session, int64_t after, Sighting *seen)
{
	Outcome outcome;
	char sql[300];

	if (with_fetch)
		snprintf(sql, sizeof(sql),
				 "SELECT " EVENT_COLUMNS " FROM eduai.fetch_events('idle', 1000, wait => '1 s')");
	else
		snprintf(sql, sizeof(sql), "SELECT " EVENT_COLUMNS " FROM eduai.read_all(%lld, 1000)",
				 (long long) after);
	return read_events(session, sql, seen, 1000, &outcome);
}

static void *
waiter_main(void *arg)
{
	Session session;
	Sighting *seen = malloc(sizeof(Sighting) * PAGE_ROOM);
	int64_t after = 0;
	char sql[100];

	(void) arg;
	session_init(&session, 200);
	while (true)
	{
		int n = next_page(&session, after, seen);
		int64_t now = ledger_clock();

		if (n < 0)
			fail("the reader failed");
		ledger_page(&reader, after, seen, n, now);
		for (int i = 0; i < n; i++)
			arrived[seen[i].event] = now;
		if (n > 0)
			after = seen[n - 1].position;
		else if (closing)
			break;
		else if (!with_fetch)
			sleep_ms(2);
		snprintf(sql, sizeof(sql), "SELECT eduai.ack_events('idle', %lld)", (long long) after);
		if (n > 0 && with_fetch && session_do(&session, sql) != DONE)
			fail("an acknowledgement failed");
	}
	session_close(&session);
	free(seen);
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return x < y ? -1 : x > y;
}

/* Of the events from "first" to before "end"; the 99th percentile from the acknowledgement. */
static double
report(const char *phase, uint32_t first, uint32_t end)
{
	double *from_asked = malloc(sizeof(double) * (end - first + 1));
	double *from_known = malloc(sizeof(double) * (end - first + 1));
	double result;
	int n = 0;

	for (uint32_t e = first; e < end; e++)
	{
		if (ledger_stream_of(e) >= IDLE_STREAM || acknowledged[e] == 0)
			continue;
		if (arrived[e] == 0)
			fail("event %u has not arrived in time to be measured", e);
		from_asked[n] = (double) (arrived[e] - asked[e]) / 1e6;
		from_known[n] = (double) (arrived[e] - acknowledged[e]) / 1e6;
		if (from_known[n] < 0)
			from_known[n] = 0;
		n++;
	}
	if (n == 0)
		fail("nothing was measured");
	qsort(from_asked, (size_t) n, sizeof(double), compare);
	qsort(from_known, (size_t) n, sizeof(double), compare);
	result = from_known[(int) (0.99 * (n - 1))];
	printf("%s: %d events; from the acknowledged commit to the reader p50 %.2f ms, p99 %.2f ms, "
		   "max %.2f ms; from the call p50 %.2f ms, p99 %.2f ms\n",
		   phase, n, from_known[n / 2], result, from_known[n - 1], from_asked[n / 2],
		   from_asked[(int) (0.99 * (n - 1))]);
	free(from_asked);
	free(from_known);
	return result;
}

typedef struct Idler
{
	Session session;
	uint32_t txn;
	uint32_t event;
} Idler;

static void
must(Session *session, const char *sql)
{
	if (session_do(session, sql) != DONE)
		fail("%s failed", sql);
}

/* Every second one appends now; the others take their id now and append late. */
static void
open_idlers(Idler *idlers)
{
	for (int i = 0; i < IDLERS; i++)
	{
		session_init(&idlers[i].session, 210 + i);
		must(&idlers[i].session, "BEGIN; SELECT pg_current_xact_id()");
		idlers[i].txn = ledger_begin(PACED + i);
		if (i % 2 == 0)
			idlers[i].event =
				append(&idlers[i].session, PACED + i, idlers[i].txn, IDLE_STREAM + (uint32_t) i);
	}
}

/* In one order; theirs are the last positions in the same order, which the ledger checks. */
static void
commit_idlers(Idler *idlers)
{
	for (int i = IDLERS - 1; i >= 0; i--)
	{
		if (i % 2 == 1)
			idlers[i].event =
				append(&idlers[i].session, PACED + i, idlers[i].txn, IDLE_STREAM + (uint32_t) i);
		ledger_committing(idlers[i].txn);
		must(&idlers[i].session, "COMMIT");
		ledger_committed(idlers[i].txn);
		session_close(&idlers[i].session);
	}
}

static void
prepare(void)
{
	Session session;

	session_init(&session, 220);
	asked = calloc(MAX_SAMPLES, sizeof(int64_t));
	acknowledged = calloc(MAX_SAMPLES, sizeof(int64_t));
	arrived = calloc(MAX_SAMPLES, sizeof(int64_t));
	with_fetch =
		session_number(&session, "SELECT count(*) FROM pg_proc WHERE proname = 'fetch_events' AND "
								 "pronamespace = 'eduai'::regnamespace") > 0;
	if (with_fetch)
		must(&session, "SELECT eduai.create_subscription('idle')");
	else
		printf("fetch_events is not there: the reader polls read_all every 2 ms\n");
	session_close(&session);
}

int
run_idle(void)
{
	pthread_t paced[PACED];
	pthread_t waiter;
	Idler idlers[IDLERS];
	int seconds = options.seconds;
	int64_t limit_ms = env_number("LIMIT_MS", 50);
	uint32_t start, alone_end, idle_start, idle_end;
	double p99;

	rate = (int) env_number("RATE", 500);
	prepare();
	pthread_create(&waiter, NULL, waiter_main, NULL);
	for (int i = 0; i < PACED; i++)
		pthread_create(&paced[i], NULL, paced_main, (void *) (intptr_t) i);
	sleep_ms(2000);
	start = (uint32_t) ledger_totals().events + 1;
	sleep_ms(seconds * 250);
	alone_end = (uint32_t) ledger_totals().events - PACED;
	open_idlers(idlers);
	idle_start = (uint32_t) ledger_totals().events + 1;
	sleep_ms(seconds * 750);
	idle_end = (uint32_t) ledger_totals().events - PACED;
	sleep_ms(1000);
	printf("rate %d/s, %d s, %d idle transactions\n", (int) rate, seconds, IDLERS);
	report("alone", start, alone_end);
	p99 = report("beside idle transactions", idle_start, idle_end);
	commit_idlers(idlers);
	stopping = true;
	for (int i = 0; i < PACED; i++)
		pthread_join(paced[i], NULL);
	closing = true;
	pthread_join(waiter, NULL);
	ledger_finish();
	for (int i = 0; i < IDLERS; i++)
		if (arrived[idlers[i].event] == 0)
			fail("an idle transaction's event never arrived");
	printf("the idle transactions' events arrived when they had committed, in order\n");
	return p99 > (double) limit_ms;
}
