/*
 * queue_enqueue.c: clients that enqueue in every shape, and tell the book.
 *
 * A transaction has up to six enqueues, some of them rolled back to a
 * savepoint; it commits, rolls back, or is prepared and then either.  Now and
 * then a client cancels or retries a task of its own, or waits for one.
 */
#include "queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_IN_TXN 64
#define RECENT      64

const char *const tenant_names[TENANTS] = {"default", "soak-two"};
const char *const tenant_setups[TENANTS] = {"SET eduai.tenant = 'default'",
											"SET eduai.tenant = 'soak-two'"};

static const char *const priorities[] = {"critical", "high", "normal", "low"};

typedef struct Enqueuer
{
	Session session;
	int number;
	int tenant;
	int prepared; /* names of prepared transactions */
	Text sql;
	int n; /* of the transaction */
	uint32_t numbers[MOST_IN_TXN];
	int64_t ids[MOST_IN_TXN];
	bool keyed[MOST_IN_TXN];
	int64_t recent[RECENT]; /* committed */
	int nrecent;
	char *given; /* the last committed call with an idempotency key, to repeat */
	int64_t given_id;
} Enqueuer;

static bool
chance(Enqueuer *e, int percent)
{
	return random_chance(&e->session.random, percent);
}

static uint32_t
below(Enqueuer *e, uint32_t n)
{
	return random_below(&e->session.random, n);
}

/* ---- one call, built into e->sql ---- */

static void
add_type_and_payload(Enqueuer *e, uint32_t number)
{
	uint32_t kind = below(e, 100);
	int pool = kind < 55 ? POOL_APP : kind < 70 ? POOL_SCALED : POOL_CHAT;

	text_add(&e->sql,
			 "SELECT eduai.enqueue('%s', '{\"number\": %u, \"messages\": [{\"role\": \"user\","
			 " \"content\": \"number %u\"}]}', '%s'",
			 pool_types[pool], number, number, priorities[below(e, 4)]);
}

static void
add_metadata(Enqueuer *e)
{
	static const char *const policies[] = {"fail", "run", "wait"};

	text_add(&e->sql, ", metadata => '{\"on_parent_failure\": \"%s\"", policies[below(e, 3)]);
	if (chance(e, 15))
		text_add(&e->sql, ", \"concurrency_key\": \"key-%u\"", below(e, 6));
	if (chance(e, 50))
		text_add(&e->sql, ", \"follow_up\": false");
	text_add(&e->sql, "}'");
}

/* Up to three tasks of its own, of this transaction too; one twice is one. */
static void
add_parents(Enqueuer *e)
{
	int count = 1 + (int) below(e, 3);

	text_add(&e->sql, ", depends_on => ARRAY[");
	for (int i = 0; i < count; i++)
	{
		int known = e->nrecent < RECENT ? e->nrecent : RECENT;
		int64_t parent = e->n > 0 && chance(e, 50) && e->ids[e->n - 1] != 0
							 ? e->ids[e->n - 1]
							 : e->recent[below(e, (uint32_t) known)];

		text_add(&e->sql, "%s%lld", i > 0 ? "," : "", (long long) parent);
	}
	text_add(&e->sql, "]::bigint[]");
}

/* True when the call may return a task that is there already. */
static bool
add_keys(Enqueuer *e, uint32_t number)
{
	if (chance(e, 10))
	{
		text_add(&e->sql, ", unique_key => 'unique-%u'", below(e, 40));
		return true;
	}
	if (chance(e, 5))
		text_add(&e->sql, ", idempotency_key => 'call-%u'", number);
	return false;
}

static bool
build_call(Enqueuer *e, uint32_t number)
{
	static const char *const refusals[] = {"error", "defer", "skip"};
	bool keyed;

	text_clear(&e->sql);
	add_type_and_payload(e, number);
	if (chance(e, 10))
		text_add(&e->sql, ", run_at => now() + interval '%u ms'", below(e, 2000));
	if (e->nrecent > 0 && chance(e, 15))
		add_parents(e);
	keyed = add_keys(e, number);
	if (chance(e, 20))
		text_add(&e->sql, ", max_attempts => %u", 1 + below(e, 4));
	if (chance(e, 20))
		text_add(&e->sql, ", timeout => '%u s'", 5 + below(e, 20));
	if (chance(e, 20))
		text_add(&e->sql, ", user_id => 'learner%u'", below(e, 500));
	if (chance(e, 30))
		text_add(&e->sql, ", on_refusal => '%s'", refusals[below(e, 3)]);
	if (chance(e, 30))
		text_add(&e->sql, ", on_result => 'soak_result'");
	if (chance(e, 5))
		text_add(&e->sql, ", expires_at => clock_timestamp() + interval '%u ms'",
				 1000 + below(e, 3000));
	add_metadata(e);
	text_add(&e->sql, ")");
	return keyed;
}

/* ---- a transaction ---- */

/* The transaction's calls since "from" have this fate. */
static void
note(Enqueuer *e, int from, Fate fate)
{
	for (int i = from; i < e->n; i++)
	{
		bool refused = fate == FATE_COMMITTED && e->ids[i] == 0;

		book_set(e->numbers[i], refused ? FATE_ROLLED_BACK : fate, e->ids[i], e->keyed[i]);
		if (fate == FATE_COMMITTED && !refused)
			e->recent[e->nrecent++ % RECENT] = e->ids[i];
	}
	e->n = from;
}

static int64_t
first_id(const PGresult *result)
{
	return PQntuples(result) > 0 && !PQgetisnull(result, 0, 0) ? atoll(PQgetvalue(result, 0, 0))
															   : 0;
}

static Outcome
enqueue_one(Enqueuer *e)
{
	uint32_t number = book_new();
	Outcome outcome;
	PGresult *result;

	e->numbers[e->n] = number;
	e->keyed[e->n] = build_call(e, number);
	e->ids[e->n] = 0;
	result = session_ask(&e->session, e->sql.data, &outcome);
	if (outcome == DONE)
		e->ids[e->n] = first_id(result);
	PQclear(result);
	e->n++;
	return outcome;
}

/* Five of one type in one statement. */
static Outcome
enqueue_batch(Enqueuer *e)
{
	Outcome outcome;
	PGresult *result;
	uint32_t first = book_new();
	int from = e->n;

	e->numbers[e->n++] = first;
	for (int i = 1; i < 5; i++)
		e->numbers[e->n++] = book_new();
	text_clear(&e->sql);
	text_add(&e->sql, "SELECT unnest(eduai.enqueue_batch('%s', ARRAY[",
			 pool_types[chance(e, 60) ? POOL_APP : POOL_CHAT]);
	for (int i = from; i < e->n; i++)
	{
		e->ids[i] = 0;
		e->keyed[i] = false;
		text_add(&e->sql,
				 "%s'{\"number\": %u, \"messages\": [{\"role\": \"user\", \"content\": \"b\"}]}'",
				 i > from ? "," : "", e->numbers[i]);
	}
	text_add(&e->sql, "]::jsonb[], '%s'))", priorities[below(e, 4)]);
	result = session_ask(&e->session, e->sql.data, &outcome);
	for (int i = from; outcome == DONE && i < e->n; i++)
		e->ids[i] = atoll(PQgetvalue(result, i - from, 0));
	PQclear(result);
	return outcome;
}

static Outcome
enqueue_some(Enqueuer *e)
{
	return chance(e, 10) ? enqueue_batch(e) : enqueue_one(e);
}

/* Arguments that change with the time are other content. */
static void
keep_given(Enqueuer *e)
{
	if (strstr(e->sql.data, "idempotency_key") == NULL || strstr(e->sql.data, "interval") != NULL ||
		e->ids[0] == 0)
		return;
	free(e->given);
	e->given = strdup(e->sql.data);
	e->given_id = e->ids[0];
}

static void
repeat_given(Enqueuer *e)
{
	Outcome outcome;
	PGresult *result;

	if (e->given == NULL)
		return;
	result = session_ask(&e->session, e->given, &outcome);
	if (outcome == DONE && first_id(result) != e->given_id)
		ledger_violation("a repeated call returned task %lld, at first it was %lld: %s",
						 (long long) first_id(result), (long long) e->given_id, e->given);
	PQclear(result);
}

static void
single(Enqueuer *e)
{
	Outcome outcome = enqueue_some(e);

	if (outcome == DONE)
		keep_given(e);
	note(e, 0,
		 outcome == DONE   ? FATE_COMMITTED
		 : outcome == LOST ? FATE_AMBIGUOUS
						   : FATE_ROLLED_BACK);
}

/* Part of a transaction; what is rolled back to the savepoint is noted at once. */
static Outcome
within_savepoint(Enqueuer *e)
{
	int from = e->n;
	Outcome outcome = session_do(&e->session, "SAVEPOINT s");

	if (outcome != DONE)
		return outcome;
	outcome = enqueue_some(e);
	if (outcome == LOST)
		return LOST;
	if (outcome == DONE && chance(e, 50))
		return session_do(&e->session, "RELEASE s");
	outcome = session_do(&e->session, "ROLLBACK TO s");
	if (outcome == DONE)
		note(e, from, FATE_ROLLED_BACK);
	return outcome;
}

/* In two phases; what is left prepared is rolled back at the end of the run. */
static void
end_prepared(Enqueuer *e)
{
	bool commit = chance(e, 70);
	char name[64];
	char sql[128];
	Outcome outcome;

	snprintf(name, sizeof(name), "soak-%d-%d", e->number, e->prepared++);
	snprintf(sql, sizeof(sql), "PREPARE TRANSACTION '%s'", name);
	outcome = session_do(&e->session, sql);
	if (outcome != DONE)
	{
		note(e, 0, outcome == LOST ? FATE_AMBIGUOUS : FATE_ROLLED_BACK);
		return;
	}
	sleep_ms((int) below(e, 300));
	snprintf(sql, sizeof(sql), "%s PREPARED '%s'", commit ? "COMMIT" : "ROLLBACK", name);
	outcome = session_do(&e->session, sql);
	if (!commit)
		note(e, 0, outcome == DONE ? FATE_ROLLED_BACK : FATE_AMBIGUOUS);
	else
		note(e, 0, outcome == DONE ? FATE_COMMITTED : FATE_AMBIGUOUS);
}

static void
end_transaction(Enqueuer *e)
{
	Outcome outcome;

	if (chance(e, 4))
	{
		end_prepared(e);
		return;
	}
	if (chance(e, 12))
	{
		(void) session_do(&e->session, "ROLLBACK");
		note(e, 0, FATE_ROLLED_BACK);
		return;
	}
	outcome = session_do(&e->session, "COMMIT");
	note(e, 0,
		 outcome == DONE   ? FATE_COMMITTED
		 : outcome == LOST ? FATE_AMBIGUOUS
						   : FATE_ROLLED_BACK);
}

static void
transaction(Enqueuer *e)
{
	int calls = 1 + (int) below(e, 6);
	Outcome outcome = session_do(&e->session, "BEGIN");

	for (int i = 0; i < calls && outcome == DONE; i++)
	{
		outcome = chance(e, 20) ? within_savepoint(e) : enqueue_some(e);
		if (chance(e, 3))
			sleep_ms((int) below(e, 400));
	}
	if (outcome == DONE)
	{
		end_transaction(e);
		return;
	}
	if (outcome == REFUSED)
		(void) session_do(&e->session, "ROLLBACK");
	note(e, 0, FATE_ROLLED_BACK);
}

/* ---- the rest ---- */

static void
handle_one(Enqueuer *e)
{
	static const char *const calls[] = {"SELECT eduai.cancel_task(%lld)",
										"SELECT eduai.retry_task(%lld)",
										"SELECT count(*) FROM eduai.get_task(%lld)",
										"SELECT state FROM eduai.wait_task(%lld, '100 ms')"};
	int known = e->nrecent < RECENT ? e->nrecent : RECENT;

	if (known == 0)
		return;
	text_clear(&e->sql);
/* the formats are those above */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	text_add(&e->sql, calls[below(e, 4)], (long long) e->recent[below(e, (uint32_t) known)]);
#pragma GCC diagnostic pop
	(void) session_do(&e->session, e->sql.data);
}

void *
enqueuer_main(void *number)
{
	Enqueuer e = {.number = (int) (intptr_t) number};

	session_init(&e.session, e.number);
	e.tenant = e.number % TENANTS;
	e.session.setup = tenant_setups[e.tenant];
	while (!stopping)
	{
		uint32_t kind = below(&e, 100);

		if (holding)
			sleep_ms(20);
		else if (kind < 40)
			single(&e);
		else if (kind < 88)
			transaction(&e);
		else if (kind < 90)
			repeat_given(&e);
		else
			handle_one(&e);
		/* a queue that is full is no reason to knock without pause */
		sleep_ms(strcmp(e.session.sqlstate, "UE003") == 0 ? 20 : 1 + (int) below(&e, 10));
		e.session.sqlstate[0] = '\0';
	}
	session_close(&e.session);
	return NULL;
}
