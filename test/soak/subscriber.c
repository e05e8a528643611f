/*
 * subscriber.c: a thread for each member of each subscription, which fetches,
 * acknowledges, rolls back, loses its session, and comes back.
 *
 * A member knows up to where it has acknowledged: nothing at or below that may
 * come again, and everything above it must.  When the answer to an
 * acknowledgement was lost, the next fetch tells which of two it is.
 */
#include "soak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Kind
{
	const char *name;
	unsigned types;
	int category;
	int members;
	bool repeatable; /* prefers REPEATABLE READ */
} Kind;

static const Kind kinds[] = {
	{"soak_all", 0, -1, 1, false},          {"soak_members", 0, -1, 3, false},
	{"soak_types", 0x5, -1, 1, true},       {"soak_category", 0, 1, 2, false},
	{"soak_old_snapshots", 0, -1, 1, true}, {"soak_narrow", 0x8, 2, 1, false},
};

typedef struct Member
{
	Session session;
	Reader reader;
	char label[64];
	bool repeatable;
	int64_t acked;
	int64_t maybe; /* an acknowledgement without an answer; 0: none */
	int64_t now;   /* what the open transaction acknowledged; 0: nothing */
	Sighting *seen;
} Member;

static int
fetch(Member *m, bool wait, int size, Outcome *outcome)
{
	char sql[300];
	int n;

	snprintf(sql, sizeof(sql),
			 "SELECT " EVENT_COLUMNS " FROM eduai.fetch_events('%s', %d, %d, wait => '%s')",
			 m->reader.name, size, m->reader.member, wait ? "1 s" : "0");
	n = read_events(&m->session, sql, m->seen, size, outcome);
	if (n <= 0)
		return n;
	if (m->maybe != 0 && m->seen[0].position > m->maybe)
		m->acked = m->maybe;
	m->maybe = 0;
	ledger_page(&m->reader, m->acked, m->seen, n, ledger_clock());
	return n;
}

/* Acknowledges all of the page, or a part, or nothing. */
static Outcome
acknowledge(Member *m, int n)
{
	uint32_t kind = random_below(&m->session.random, 100);
	int upto = kind < 85 ? n - 1 : (int) random_below(&m->session.random, (uint32_t) n);
	char sql[200];

	m->now = 0;
	if (kind >= 95)
		return DONE;
	m->now = m->seen[upto].position;
	snprintf(sql, sizeof(sql), "SELECT eduai.ack_events('%s', %lld, %d)", m->reader.name,
			 (long long) m->now, m->reader.member);
	return session_do(&m->session, sql);
}

/* What the end of a transaction, or of a statement alone, means. */
static void
conclude(Member *m, Outcome outcome, bool committed)
{
	if (outcome == DONE && committed && m->now != 0)
		m->acked = m->now;
	if (outcome == LOST && committed && m->now != 0)
		m->maybe = m->now;
	m->now = 0;
}

static void
run_apart(Member *m)
{
	int size = 1 + (int) random_below(&m->session.random, 1500);
	Outcome outcome;
	int n = fetch(m, random_chance(&m->session.random, 50), size, &outcome);

	if (n > 0)
		conclude(m, acknowledge(m, n), true);
	else
		sleep_ms(2);
}

/* BEGIN; fetch; ack; COMMIT, or ROLLBACK, after which all comes again. */
static void
run_together(Member *m)
{
	bool repeatable = random_chance(&m->session.random, m->repeatable ? 80 : 20);
	int size = 1 + (int) random_below(&m->session.random, 1500);
	Outcome outcome =
		session_do(&m->session, repeatable ? "BEGIN ISOLATION LEVEL REPEATABLE READ" : "BEGIN");
	int n = 0;
	PGresult *result;

	if (outcome == DONE && repeatable && random_chance(&m->session.random, 10))
		grow_old(&m->session, 1000);
	if (outcome == DONE)
		n = fetch(m, !repeatable && random_chance(&m->session.random, 30), size, &outcome);
	if (outcome == DONE && n > 0)
		outcome = acknowledge(m, n);
	if (outcome == LOST)
	{
		m->now = 0;
		return;
	}
	if (outcome == REFUSED || random_chance(&m->session.random, 15))
	{
		m->now = 0;
		session_do(&m->session, "ROLLBACK");
		return;
	}
	result = session_ask(&m->session, "COMMIT", &outcome);
	conclude(m, outcome, outcome != DONE || strcmp(PQcmdStatus(result), "COMMIT") == 0);
	PQclear(result);
	if (n == 0)
		sleep_ms(2);
}

/* Nobody writes any more: the rest, until nothing is left. */
static void
drain(Member *m)
{
	Outcome outcome;
	int n;

	while ((n = fetch(m, false, PAGE_ROOM, &outcome)) != 0)
		if (n > 0)
			conclude(m, acknowledge(m, n), true);
	ledger_drained(&m->reader);
}

static void *
member_main(void *arg)
{
	Member *m = arg;

	while (!closing)
	{
		if (random_chance(&m->session.random, 50))
			run_together(m);
		else
			run_apart(m);
	}
	drain(m);
	if (m->session.db != NULL)
		session_close(&m->session);
	free(m->seen);
	return NULL;
}

static void
create(Session *session, const Kind *kind)
{
	Text sql = {0};
	char types[200] = "NULL";
	char category[40] = "NULL";

	if (kind->types != 0)
	{
		int length = snprintf(types, sizeof(types), "'{");

		for (int i = 0; i < LEDGER_TYPES; i++)
			if (kind->types & (1u << i))
				length += snprintf(types + length, sizeof(types) - (size_t) length, "%s%s",
								   types[length - 1] == '{' ? "" : ",", ledger_type_names[i]);
		snprintf(types + length, sizeof(types) - (size_t) length, "}'");
	}
	if (kind->category >= 0)
		snprintf(category, sizeof(category), "'%s'", ledger_category_names[kind->category]);
	text_add(&sql,
			 "SELECT eduai.create_subscription('%s', event_types => %s, category => %s, members "
			 "=> %d)",
			 kind->name, types, category, kind->members);
	if (session_do(session, sql.data) != DONE)
		fail("the subscription %s could not be created", kind->name);
	free(sql.data);
}

int
subscribers_start(pthread_t *threads)
{
	Session session;
	int started = 0;

	session_init(&session, MAX_SESSIONS - 3);
	for (int k = 0; k < (int) (sizeof(kinds) / sizeof(kinds[0])) && k < options.subscriptions; k++)
	{
		int index;

		create(&session, &kinds[k]);
		index =
			ledger_subscription(kinds[k].name, kinds[k].types, kinds[k].category, kinds[k].members);
		for (int member = 0; member < kinds[k].members; member++)
		{
			Member *m = calloc(1, sizeof(Member));

			session_init(&m->session, 100 + started);
			m->reader = (Reader){kinds[k].name, kinds[k].types, kinds[k].category, index, member};
			m->repeatable = kinds[k].repeatable;
			m->seen = malloc(sizeof(Sighting) * PAGE_ROOM);
			pthread_create(&threads[started++], NULL, member_main, m);
		}
	}
	session_close(&session);
	return started;
}
