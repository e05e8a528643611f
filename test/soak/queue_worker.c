/*
 * queue_worker.c: applications' workers, good ones and others.
 *
 * A completion and a row of soak_done are of one transaction, so that a task
 * that was completed twice has two.  Some workers fail tasks, stop without a
 * word, are late, complete twice or with another attempt's number; what
 * fencing must refuse, and does not, is a violation at once.
 */
#include "queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEASE_MS 2000
#define MOST     10

typedef struct Worker
{
	Session session;
	int number;
	int incarnation;
	Text sql;
} Worker;

static struct
{
	_Atomic uint64_t claimed, completed, failed, stale, vanished, late;
} counts;

void
workers_report(void)
{
	printf("workers:  %llu claimed, %llu completed, %llu failed on purpose, %llu refused as stale, "
		   "%llu late, %llu left without a word\n",
		   (unsigned long long) counts.claimed, (unsigned long long) counts.completed,
		   (unsigned long long) counts.failed, (unsigned long long) counts.stale,
		   (unsigned long long) counts.late, (unsigned long long) counts.vanished);
}

static bool
stale(const Worker *w, Outcome outcome)
{
	bool is = outcome == REFUSED && strcmp(w->session.sqlstate, "UE009") == 0;

	if (is)
		atomic_fetch_add(&counts.stale, 1);
	return is;
}

/* One transaction: one message. */
static Outcome
complete(Worker *w, const char *id, const char *attempt)
{
	Outcome outcome;

	text_clear(&w->sql);
	text_add(&w->sql,
			 "SELECT eduai.complete_task(%s, %s, '{\"json\": {\"by\": %d}}');"
			 " INSERT INTO soak_done VALUES (%s, %s, %d)",
			 id, attempt, w->number, id, attempt, w->number);
	outcome = session_do(&w->session, w->sql.data);
	if (outcome == DONE)
		atomic_fetch_add(&counts.completed, 1);
	else
		(void) stale(w, outcome);
	return outcome;
}

static void
fail_it(Worker *w, const char *id, const char *attempt, bool retry)
{
	text_clear(&w->sql);
	text_add(&w->sql, "SELECT eduai.fail_task(%s, %s, 'bad luck', %s, %s)", id, attempt,
			 retry ? "true" : "false", random_chance(&w->session.random, 50) ? "'200 ms'" : "NULL");
	if (!stale(w, session_do(&w->session, w->sql.data)))
		atomic_fetch_add(&counts.failed, 1);
}

static void
extend(Worker *w, const char *id, const char *attempt)
{
	text_clear(&w->sql);
	text_add(&w->sql,
			 "SELECT eduai.extend_lease(%s, %s, '%d ms', '{\"current\": 1, \"total\": 2}')", id,
			 attempt, LEASE_MS);
	(void) stale(w, session_do(&w->session, w->sql.data));
}

/* Fencing: this must not be taken. */
static void
expect_stale(Worker *w, const char *id, const char *attempt, const char *why)
{
	if (complete(w, id, attempt) == DONE)
		ledger_violation("task %s, attempt %s: %s, and it was taken", id, attempt, why);
}

static void
work_on(Worker *w, const char *id, const char *attempt)
{
	uint32_t kind = stopping ? 0 : random_below(&w->session.random, 100);
	char other[16];

	sleep_ms((int) random_below(&w->session.random, 20));
	if (kind < 70)
		(void) complete(w, id, attempt);
	else if (kind < 84)
		fail_it(w, id, attempt, kind < 81);
	else if (kind < 91)
	{
		extend(w, id, attempt);
		(void) complete(w, id, attempt);
	}
	else if (kind < 95)
	{
		snprintf(other, sizeof(other), "%d", atoi(attempt) + 1);
		expect_stale(w, id, other, "an attempt that was not made was completed");
		(void) complete(w, id, attempt);
	}
	else if (kind < 98)
	{
		if (complete(w, id, attempt) == DONE)
			expect_stale(w, id, attempt, "it was completed a second time");
	}
	else
	{
		atomic_fetch_add(&counts.late, 1);
		sleep_ms(LEASE_MS + 500);
		extend(w, id, attempt);
		(void) complete(w, id, attempt);
	}
}

static PGresult *
claim(Worker *w)
{
	Outcome outcome;

	text_clear(&w->sql);
	text_add(&w->sql,
			 "SELECT task_id, attempt FROM eduai.claim_tasks('worker-%d-%d', '{%s}', %u, '%d ms',"
			 " '%u ms')",
			 w->number, w->incarnation,
			 random_chance(&w->session.random, 20) ? "soak_scaled" : "soak_app,soak_scaled",
			 1 + random_below(&w->session.random, MOST), LEASE_MS,
			 random_chance(&w->session.random, 50) ? 200u : 0u);
	return session_ask(&w->session, w->sql.data, &outcome);
}

void *
worker_main(void *number)
{
	Worker w = {.number = (int) (intptr_t) number};

	session_init(&w.session, 100 + w.number);
	w.session.setup = tenant_setups[w.number % TENANTS];
	while (!closing)
	{
		PGresult *tasks = claim(&w);
		int n = PQntuples(tasks);

		atomic_fetch_add(&counts.claimed, (uint64_t) n);
		for (int i = 0; i < n; i++)
		{
			if (!stopping && random_chance(&w.session.random, 1))
			{
				atomic_fetch_add(&counts.vanished, (uint64_t) (n - i));
				session_close(&w.session);
				w.incarnation++;
				break;
			}
			work_on(&w, PQgetvalue(tasks, i, 0), PQgetvalue(tasks, i, 1));
		}
		PQclear(tasks);
		if (n == 0)
			sleep_ms(20);
	}
	session_close(&w.session);
	return NULL;
}
