/*
 * writer.c: clients that append in every shape, and tell the ledger.
 *
 * What a writer does is drawn from its own random numbers; what the server
 * answers, and so what it does next, depends on the timing.
 */
#include "soak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOT_STREAMS     16
#define POOL_STREAMS    2000
#define PRIVATE_STREAMS 2048 /* from here, one for each writer: idle transactions hold it */
#define BROAD_STREAMS   4096
#define MAX_IN_TXN      100000

typedef struct Writer
{
	Session session;
	int number;
	uint32_t txn;
	uint32_t count;   /* of events, ever */
	uint32_t *events; /* of the transaction, as far as not rolled back to a savepoint */
	int nevents;
	Text sql;
	char *given; /* the last committed append with a given id, to repeat */
	uint32_t given_event;
} Writer;

/* Batches over many streams seldom want a hot one: else all wait for all. */
static uint32_t
pick_stream(Writer *w, bool one_of_many)
{
	uint32_t kind = random_below(&w->session.random, 1000);

	if (kind < (one_of_many ? 1 : 150))
		return random_below(&w->session.random, HOT_STREAMS);
	if (kind < (one_of_many ? 50 : 600))
		return HOT_STREAMS + random_below(&w->session.random, POOL_STREAMS);
	return BROAD_STREAMS + random_below(&w->session.random, 1000000);
}

int
learner_of(uint32_t event)
{
	Random r = {options.seed + event};
	uint32_t kind = random_below(&r, 100);

	return kind < (uint32_t) options.learners ? (int) random_below(&r, (uint32_t) options.of) : -1;
}

void
add_data(Text *text, uint32_t event, uint32_t txn, int writer, uint32_t number, uint32_t stream)
{
	text_add(text, "{\"e\": %u, \"t\": %u, \"w\": %d, \"n\": %u, \"s\": \"%s-%u\"}", event, txn,
			 writer, number, ledger_category_names[stream % LEDGER_CATEGORIES], stream);
}

static uint32_t
new_event(Writer *w, uint32_t stream, int *type)
{
	uint32_t event;

	*type = (int) random_below(&w->session.random, LEDGER_TYPES);
	event = ledger_event(w->txn, stream, *type);
	if (w->nevents == MAX_IN_TXN)
		fail("a transaction of too many events");
	w->events[w->nevents++] = event;
	w->count++;
	return event;
}

static void
add_id(Writer *w, uint32_t event)
{
	text_add(&w->sql, "%08x-0000-4000-8000-%012x", (unsigned) options.seed, event);
}

/* ---- the calls; each is built into w->sql ---- */

static void
build_event(Writer *w, uint32_t stream, bool with_id)
{
	int type;
	uint32_t event = new_event(w, stream, &type);

	text_clear(&w->sql);
	text_add(&w->sql, "SELECT version FROM eduai.append_event('%s-%u', '%s', '",
			 ledger_category_names[stream % LEDGER_CATEGORIES], stream, ledger_type_names[type]);
	add_data(&w->sql, event, w->txn, w->number, w->count, stream);
	text_add(&w->sql, "'");
	if (with_id)
	{
		text_add(&w->sql, ", event_id => '");
		add_id(w, event);
		text_add(&w->sql, "'");
	}
	if (learner_of(event) >= 0)
		text_add(&w->sql, ", user_id => '" LEARNER_FORMAT "'", learner_of(event));
	text_add(&w->sql, ")");
}

static void
build_events(Writer *w, uint32_t stream, bool with_id)
{
	int n = 1 + (int) random_below(&w->session.random, 20);

	text_clear(&w->sql);
	text_add(&w->sql, "SELECT version FROM eduai.append_events('%s-%u', '[",
			 ledger_category_names[stream % LEDGER_CATEGORIES], stream);
	for (int i = 0; i < n; i++)
	{
		int type;
		uint32_t event = new_event(w, stream, &type);

		text_add(&w->sql, "%s{\"type\": \"%s\", \"data\": ", i > 0 ? ", " : "",
				 ledger_type_names[type]);
		add_data(&w->sql, event, w->txn, w->number, w->count, stream);
		if (with_id)
		{
			text_add(&w->sql, ", \"event_id\": \"");
			add_id(w, event);
			text_add(&w->sql, "\"");
		}
		if (learner_of(event) >= 0)
			text_add(&w->sql, ", \"user_id\": \"" LEARNER_FORMAT "\"", learner_of(event));
		text_add(&w->sql, "}");
	}
	text_add(&w->sql, "]')");
}

static void
build_batch(Writer *w, int n)
{
	int first = w->nevents;

	for (int i = 0; i < n; i++)
	{
		int type;

		new_event(w, pick_stream(w, true), &type);
	}
	text_clear(&w->sql);
	text_add(&w->sql, "SELECT eduai.append_batch(ARRAY[");
	for (int i = first; i < w->nevents; i++)
		text_add(&w->sql, "%s'%s-%u'", i > first ? "," : "",
				 ledger_category_names[ledger_stream_of(w->events[i]) % LEDGER_CATEGORIES],
				 ledger_stream_of(w->events[i]));
	text_add(&w->sql, "], ARRAY[");
	for (int i = first; i < w->nevents; i++)
		text_add(&w->sql, "%s'%s'", i > first ? "," : "",
				 ledger_type_names[ledger_type_of(w->events[i])]);
	text_add(&w->sql, "], ARRAY[");
	for (int i = first; i < w->nevents; i++)
	{
		text_add(&w->sql, "%s'", i > first ? "," : "");
		add_data(&w->sql, w->events[i], w->txn, w->number,
				 w->count - (uint32_t) (w->nevents - 1 - i), ledger_stream_of(w->events[i]));
		text_add(&w->sql, "'");
	}
	text_add(&w->sql, "]::jsonb[], user_ids => ARRAY[");
	for (int i = first; i < w->nevents; i++)
	{
		text_add(&w->sql, i > first ? "," : "");
		if (learner_of(w->events[i]) >= 0)
			text_add(&w->sql, "'" LEARNER_FORMAT "'", learner_of(w->events[i]));
		else
			text_add(&w->sql, "NULL");
	}
	text_add(&w->sql, "]::text[])");
}

/* Says whether the call returns versions. */
static bool
build_any(Writer *w, bool with_id)
{
	uint32_t kind = random_below(&w->session.random, 100);

	if (kind < 60)
		build_event(w, pick_stream(w, false), with_id);
	else if (kind < 80)
		build_events(w, pick_stream(w, false), with_id);
	else
	{
		build_batch(
			w, 1 + (int) random_below(&w->session.random, (kind < 98 ? 60 : 600) * options.batch));
		return false;
	}
	return true;
}

/* Sends w->sql, which appends the transaction's events from "first" on. */
static Outcome
send_append(Writer *w, int first, bool versions)
{
	Outcome outcome;
	PGresult *result = session_ask(&w->session, w->sql.data, &outcome);
	int n = w->nevents - first;

	if (outcome != DONE)
		return outcome;
	if (versions ? PQntuples(result) != n : atoi(PQgetvalue(result, 0, 0)) != n)
		ledger_violation("%d events appended, %d rows or \"%s\" returned", n, PQntuples(result),
						 PQgetvalue(result, 0, 0));
	for (int i = 0; versions && i < n; i++)
		ledger_versioned(w->events[first + i], atoll(PQgetvalue(result, i, 0)));
	PQclear(result);
	return DONE;
}

static void
drop_from(Writer *w, int first)
{
	for (int i = first; i < w->nevents; i++)
		ledger_drop(w->events[i]);
	w->nevents = first;
}

/* ---- transactions of one statement ---- */

static void
remember_given(Writer *w)
{
	free(w->given);
	w->given = strdup(w->sql.data);
	w->given_event = w->events[0];
}

/* Without ids nobody knows; with them the same again tells, and changes nothing. */
static void
settle_ambiguous(Writer *w, bool with_id, bool versions)
{
	ledger_ambiguous(w->txn);
	if (!with_id)
		return;
	for (int tries = 0; tries < 100; tries++)
	{
		Outcome outcome = send_append(w, 0, versions);

		if (outcome == DONE)
		{
			ledger_committed(w->txn);
			return;
		}
		if (outcome == REFUSED && strcmp(w->session.sqlstate, "UE006") == 0)
			ledger_violation("a repeat was refused as another event: %.300s", w->sql.data);
	}
}

static void
run_single(Writer *w)
{
	bool with_id = random_chance(&w->session.random, 25);
	bool versions = build_any(w, with_id);
	Outcome outcome;

	with_id = with_id && versions;
	session_connect(&w->session);
	ledger_committing(w->txn);
	outcome = send_append(w, 0, versions);
	if (outcome == REFUSED)
		ledger_rolled_back(w->txn);
	else if (outcome == LOST)
		settle_ambiguous(w, with_id, versions);
	else
	{
		ledger_committed(w->txn);
		if (with_id && w->nevents == 1)
			remember_given(w);
	}
}

/* ---- what must be refused ---- */

static void
expect_refusal(Writer *w, Outcome outcome, const char *state)
{
	if (outcome == DONE)
		ledger_violation("not refused with %s: %.300s", state, w->sql.data);
	if (outcome == REFUSED && strncmp(w->session.sqlstate, "UE", 2) == 0 &&
		strcmp(w->session.sqlstate, state) != 0)
		ledger_violation("refused with %s, not %s: %.300s", w->session.sqlstate, state,
						 w->sql.data);
}

/* An append with a version that no stream reaches, or an id that another event has. */
static Outcome
provoke(Writer *w)
{
	int first = w->nevents;
	Outcome outcome;

	if (w->given == NULL || random_chance(&w->session.random, 50))
	{
		build_event(w, pick_stream(w, false), false);
		w->sql.length--;
		text_add(&w->sql, ", expected_version => 999999999)");
		outcome = session_do(&w->session, w->sql.data);
		expect_refusal(w, outcome, "UE001");
	}
	else
	{
		build_event(w, pick_stream(w, false), false);
		w->sql.length--;
		text_add(&w->sql, ", event_id => '");
		add_id(w, w->given_event);
		text_add(&w->sql, "')");
		outcome = session_do(&w->session, w->sql.data);
		expect_refusal(w, outcome, "UE006");
	}
	drop_from(w, first);
	return outcome;
}

/* The same id and content once more gives the first version. */
static Outcome
repeat_given(Writer *w)
{
	Outcome outcome;
	PGresult *result;

	if (w->given == NULL)
		return DONE;
	result = session_ask(&w->session, w->given, &outcome);
	if (outcome == DONE)
		ledger_versioned(w->given_event, atoll(PQgetvalue(result, 0, 0)));
	PQclear(result);
	return outcome;
}

/* ---- transactions of several statements ---- */

static void
pause_inside(Writer *w)
{
	uint32_t kind = random_below(&w->session.random, 100);

	if (kind < 85)
		return;
	sleep_ms((int) random_below(&w->session.random, kind < 99 ? 10 : 200));
}

/* After what is there when asked; others may be faster, which UE001 says. */
static Outcome
append_expected(Writer *w)
{
	uint32_t stream = pick_stream(w, false);
	int first = w->nevents;
	char sql[128];
	Outcome outcome;
	PGresult *result;
	int64_t version;

	snprintf(sql, sizeof(sql), "SELECT eduai.stream_version('%s-%u')",
			 ledger_category_names[stream % LEDGER_CATEGORIES], stream);
	result = session_ask(&w->session, sql, &outcome);
	if (outcome != DONE)
		return outcome;
	version = atoll(PQgetvalue(result, 0, 0));
	PQclear(result);
	build_event(w, stream, false);
	w->sql.length--;
	text_add(&w->sql, ", expected_version => %lld)", (long long) version);
	return send_append(w, first, true);
}

static Outcome
append_any(Writer *w)
{
	int first = w->nevents;
	uint32_t kind = random_below(&w->session.random, 100);

	if (w->nevents > MAX_IN_TXN - 700)
		return DONE;
	if (kind < 8)
		return append_expected(w);
	if (kind < 12)
		return repeat_given(w);
	if (kind < 14)
		return provoke(w);
	return send_append(w, first, build_any(w, kind < 30));
}

/* Appends under a savepoint, which is then released or rolled back. */
static Outcome
append_nested(Writer *w, int depth)
{
	int first = w->nevents;
	int n = 1 + (int) random_below(&w->session.random, 3);
	Outcome outcome = session_do(&w->session, "SAVEPOINT s");

	for (int i = 0; i < n && outcome == DONE; i++)
	{
		if (depth < 3 && random_chance(&w->session.random, 20))
			outcome = append_nested(w, depth + 1);
		else if (random_chance(&w->session.random, 10))
			outcome = provoke(w);
		else
			outcome = append_any(w);
		pause_inside(w);
	}
	if (outcome == LOST)
		return LOST;
	if (outcome == DONE && random_chance(&w->session.random, 60))
		return session_do(&w->session, "RELEASE SAVEPOINT s");
	drop_from(w, first);
	return session_do(&w->session, "ROLLBACK TO SAVEPOINT s; RELEASE SAVEPOINT s");
}

static void
end_transaction(Writer *w, Outcome outcome)
{
	PGresult *result;

	if (outcome == LOST)
	{
		ledger_rolled_back(w->txn);
		return;
	}
	if (outcome == REFUSED || random_chance(&w->session.random, 12))
	{
		ledger_rolled_back(w->txn);
		session_do(&w->session, "ROLLBACK");
		return;
	}
	ledger_committing(w->txn);
	result = session_ask(&w->session, "COMMIT", &outcome);
	if (outcome == LOST)
		ledger_ambiguous(w->txn);
	else if (outcome == DONE && strcmp(PQcmdStatus(result), "COMMIT") == 0)
		ledger_committed(w->txn);
	else
		ledger_rolled_back(w->txn);
	PQclear(result);
}

static Outcome
open_transaction(Writer *w)
{
	static const char *const levels[] = {"READ COMMITTED", "READ COMMITTED", "REPEATABLE READ",
										 "SERIALIZABLE"};
	char sql[100];

	snprintf(sql, sizeof(sql), "BEGIN ISOLATION LEVEL %s",
			 levels[random_below(&w->session.random, 4)]);
	return session_do(&w->session, sql);
}

static void
run_transaction(Writer *w)
{
	int n = 1 + (int) random_below(&w->session.random, 5);
	Outcome outcome = open_transaction(w);

	if (outcome == DONE && random_chance(&w->session.random, 20))
	{
		/* the order of the transaction ids is not the order of the feed */
		outcome = session_do(&w->session, "SELECT pg_current_xact_id()");
		pause_inside(w);
	}
	for (int i = 0; i < n && outcome == DONE; i++)
	{
		outcome = random_chance(&w->session.random, 30) ? append_nested(w, 1) : append_any(w);
		pause_inside(w);
	}
	end_transaction(w, outcome);
}

static void
sit_idle(Writer *w)
{
	int ms = 200 + (int) random_below(&w->session.random, 8000);

	for (; ms > 0 && !stopping && !calm; ms -= 50)
		sleep_ms(50);
}

/* Holds a stream of its own for seconds; or has a transaction id for seconds and appends late. */
static void
run_idler(Writer *w)
{
	uint32_t own = PRIVATE_STREAMS + (uint32_t) w->number;
	Outcome outcome = open_transaction(w);

	if (outcome == DONE && random_chance(&w->session.random, 50))
	{
		build_event(w, own, false);
		outcome = send_append(w, 0, true);
		sit_idle(w);
		if (outcome == DONE && random_chance(&w->session.random, 50))
			outcome = append_any(w);
	}
	else if (outcome == DONE)
	{
		outcome = session_do(&w->session, "SELECT pg_current_xact_id()");
		sit_idle(w);
		if (outcome == DONE)
			outcome = append_any(w);
	}
	end_transaction(w, outcome);
}

/* Readers keep up, or memory and the run's end do not. */
static void
wait_for_readers(void)
{
	LedgerTotals totals = ledger_totals();

	while ((holding || totals.committed > totals.seen + 300000) && !stopping)
	{
		sleep_ms(20);
		totals = ledger_totals();
	}
}

void *
writer_main(void *number)
{
	Writer w = {0};

	session_init(&w.session, (int) (intptr_t) number);
	w.number = (int) (intptr_t) number;
	w.events = malloc(sizeof(uint32_t) * MAX_IN_TXN);
	/* what an asynchronous commit promised, a crash may take back */
	if (!options.kills && w.number % 4 == 3)
		w.session.setup = "SET synchronous_commit = off";
	while (!stopping)
	{
		uint32_t kind = random_below(&w.session.random, 100);

		w.txn = ledger_begin(w.number);
		w.nevents = 0;
		if (w.number % 16 == 1 && kind < 50 && !calm)
			run_idler(&w);
		else if (kind < 60 || calm)
			run_single(&w);
		else
			run_transaction(&w);
		wait_for_readers();
	}
	if (w.session.db != NULL)
		session_close(&w.session);
	return NULL;
}
