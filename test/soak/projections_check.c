/*
 * projections_check.c: what the states must be.
 *
 * A state holds the number of its events and a chain over their numbers in
 * which a lost, a repeated or a misplaced one changes all that follow.  At the
 * end the feed, which the ledger has proved to be what was committed, is
 * folded here once more.
 *
 * During the run an inline projection is never behind: in one snapshot a
 * stream has as many events as its state has counted, and a learner's progress
 * as many as the projection by learners.  An async one is never ahead.
 */
#include "projections.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHAIN_FACTOR INT64_C(1000003)
#define CHAIN_PRIME  INT64_C(1099511627689) /* below 2^40 */
#define MAX_SKIPPED  100000

typedef struct Chain
{
	int64_t hash;
	uint32_t count;
	bool shown;
} Chain;

static struct
{
	uint32_t events[MAX_SKIPPED];
	int n;
} skipped[FOLLOWED];

static _Atomic uint64_t observed;

uint64_t
observations(void)
{
	return observed;
}

void
check_skip(int projection, uint32_t event)
{
	if (skipped[projection].n == MAX_SKIPPED)
		fail("too many skipped events");
	skipped[projection].events[skipped[projection].n++] = event;
}

static int
compare_events(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *) a;
	uint32_t y = *(const uint32_t *) b;

	return x < y ? -1 : x > y;
}

static bool
is_skipped(int projection, uint32_t event)
{
	return bsearch(&event, skipped[projection].events, (size_t) skipped[projection].n,
				   sizeof(uint32_t), compare_events) != NULL;
}

/* ---- at the end ---- */

static Chain *
new_chains(void)
{
	Chain *chains = mmap(NULL, sizeof(Chain) * LEDGER_STREAMS, PROT_READ | PROT_WRITE,
						 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (chains == MAP_FAILED)
		fail("no memory for the chains");
	return chains;
}

/* The key's number, or -1 for an event that the projection does not want. */
static int
key_of(const Followed *f, uint32_t event)
{
	if (f->types != 0 && (f->types & (1u << ledger_type_of(event))) == 0)
		return -1;
	return f->by_learner ? learner_of(event) : (int) ledger_stream_of(event);
}

/* Folds the feed; returns how many keys have a state. */
static int
fold_feed(int projection, Chain *chains, uint64_t *folded)
{
	const Followed *f = &followed[projection];
	int keys = 0;

	qsort(skipped[projection].events, (size_t) skipped[projection].n, sizeof(uint32_t),
		  compare_events);
	for (int64_t p = 1; p <= ledger_front(); p++)
	{
		uint32_t event = ledger_event_at(p);
		int key = event == 0 ? -1 : key_of(f, event);

		if (key < 0 || is_skipped(projection, event))
			continue;
		if (chains[key].count++ == 0)
			keys++;
		chains[key].hash = (chains[key].hash * CHAIN_FACTOR + event) % CHAIN_PRIME;
		(*folded)++;
	}
	return keys;
}

static bool
key_number(const Followed *f, const char *name, uint32_t *key)
{
	char again[64];

	if (!f->by_learner)
		return ledger_stream_number(name, key);
	if (sscanf(name, LEARNER_FORMAT, key) != 1 || *key >= (uint32_t) options.of)
		return false;
	snprintf(again, sizeof(again), LEARNER_FORMAT, *key);
	return strcmp(again, name) == 0;
}

/* Columns: key, hash, count, version, parked. */
static void
check_row(const Followed *f, const PGresult *row, int n, Chain *chains, const char *when)
{
	const char *name = PQgetvalue(row, n, 0);
	uint32_t key;
	Chain *chain;

	if (!key_number(f, name, &key) || chains[key].shown || chains[key].count == 0)
	{
		ledger_violation("%s, %s: a state of \"%s\" that nobody has or that is there twice", when,
						 f->name, name);
		return;
	}
	chain = &chains[key];
	chain->shown = true;
	if (strcmp(PQgetvalue(row, n, 4), "t") == 0)
		ledger_violation("%s, %s: \"%s\" is still parked", when, f->name, name);
	if (atoll(PQgetvalue(row, n, 1)) != chain->hash ||
		atoll(PQgetvalue(row, n, 2)) != chain->count ||
		atoll(PQgetvalue(row, n, 3)) != chain->count)
		ledger_violation("%s, %s: the state of \"%s\" is {h %s, n %s} of %s events; the feed gives "
						 "{h %lld, n %u}",
						 when, f->name, name, PQgetvalue(row, n, 1), PQgetvalue(row, n, 2),
						 PQgetvalue(row, n, 3), (long long) chain->hash, chain->count);
}

/* All rows of one projection, a page at a time. */
static int
check_rows(Session *session, const Followed *f, Chain *chains, const char *when)
{
	char last[64] = "";
	char sql[500];
	int rows = 0;
	int n;

	do
	{
		Outcome outcome;
		PGresult *page;

		snprintf(
			sql, sizeof(sql),
			"SELECT key, state ->> 'h', state ->> 'n', version, parked"
			" FROM eduai.projection_state s WHERE tenant_id = 'default' AND projection = %d AND"
			" generation = (SELECT live FROM eduai.projection_generation g"
			" WHERE g.projection = %d) AND key > '%s' ORDER BY key LIMIT 10000",
			f->id, f->id, last);
		page = session_ask(session, sql, &outcome);
		if (outcome != DONE)
			fail("the states could not be read although nobody disturbs it");
		n = PQntuples(page);
		for (int i = 0; i < n; i++)
			check_row(f, page, i, chains, when);
		if (n > 0)
			snprintf(last, sizeof(last), "%s", PQgetvalue(page, n - 1, 0));
		rows += n;
		PQclear(page);
	} while (n > 0);
	return rows;
}

void
check_states(Session *session, const char *when)
{
	for (int i = 0; i < FOLLOWED; i++)
	{
		Chain *chains = new_chains();
		uint64_t folded = 0;
		int keys = fold_feed(i, chains, &folded);
		int rows = check_rows(session, &followed[i], chains, when);

		if (rows != keys)
			ledger_violation("%s, %s: %d states, the feed gives %d", when, followed[i].name, rows,
							 keys);
		printf("%s: %s: %d states of %llu events are what the feed gives, %d skipped\n", when,
			   followed[i].name, rows, (unsigned long long) folded, skipped[i].n);
		munmap(chains, sizeof(Chain) * LEDGER_STREAMS);
	}
}

/* ---- during the run ---- */

#define PARKED                                                                                   \
	"coalesce((SELECT bool_or(parked) FROM eduai.projection_state s WHERE tenant_id = 'default'" \
	" AND projection = %d AND key = k), false)"

static void
observe(Session *session, const Followed *f)
{
	char sql[900];
	char key[64];
	Outcome outcome;
	PGresult *row;
	long long count;
	long long there;

	if (f->by_learner)
		snprintf(key, sizeof(key), LEARNER_FORMAT,
				 random_below(&session->random, (uint32_t) options.of));
	else
		ledger_stream_name(random_below(&session->random, 2000), key, sizeof(key));
	snprintf(sql, sizeof(sql),
			 "SELECT coalesce(eduai.projection_state('%s', k) ->> 'n', '0'), %s, " PARKED
			 " FROM (VALUES ('%s')) AS v (k)",
			 f->name,
			 f->by_learner ? "eduai.user_progress(k) ->> 'version'" : "eduai.stream_version(k)",
			 f->id, key);
	row = session_ask(session, sql, &outcome);
	if (outcome != DONE)
		return;
	count = atoll(PQgetvalue(row, 0, 0));
	there = atoll(PQgetvalue(row, 0, 1));
	if (count > there || (f->is_inline && count < there && *PQgetvalue(row, 0, 2) == 'f'))
		ledger_violation("%s: the state of \"%s\" has counted %lld events of %lld in the same "
						 "snapshot",
						 f->name, key, count, there);
	atomic_fetch_add(&observed, 1);
	PQclear(row);
}

void *
observer_main(void *number)
{
	Session session;

	session_init(&session, 150 + (int) (intptr_t) number);
	while (!closing)
	{
		observe(&session, &followed[random_below(&session.random, FOLLOWED)]);
		sleep_ms(5);
	}
	if (session.db != NULL)
		session_close(&session);
	return NULL;
}
