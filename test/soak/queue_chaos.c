/*
 * queue_chaos.c: what goes wrong while the queue works, and what an
 * administrator does meanwhile.
 */
#include "queue.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum Deed
{
	KILL_BACKEND,
	KILL_DISPATCHER,
	KILL_POSTMASTER,
	RESTART,
	TERMINATE,
	CANCEL,
	RESIZE,
	PAUSE,
	REDRIVE,
	DEEDS
} Deed;

/* Percent of the deeds. */
static const struct
{
	const char *name;
	int weight;
	bool kills;
} deeds[DEEDS] = {
	[KILL_BACKEND] = {"backends killed", 4, true},
	[KILL_DISPATCHER] = {"dispatchers killed", 4, true},
	[KILL_POSTMASTER] = {"postmasters killed", 3, true},
	[RESTART] = {"restarts", 2, true},
	[TERMINATE] = {"terminations", 18, false},
	[CANCEL] = {"cancels", 14, false},
	[RESIZE] = {"pools resized", 30, false},
	[PAUSE] = {"types paused and resumed", 15, false},
	[REDRIVE] = {"redrives", 10, false},
};

static _Atomic uint64_t done[DEEDS];

int
kills_done(void)
{
	return (int) (done[KILL_BACKEND] + done[KILL_DISPATCHER] + done[KILL_POSTMASTER]);
}

void
kills_report(void)
{
	printf("chaos:   ");
	for (int deed = 0; deed < DEEDS; deed++)
		printf("%s %llu %s", deed > 0 ? "," : "", (unsigned long long) done[deed],
			   deeds[deed].name);
	printf("\n");
}

static int
dispatcher(Session *session)
{
	Outcome outcome;
	PGresult *result =
		session_ask(session,
					"SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher'"
					" AND datname = current_database()",
					&outcome);
	int pid = outcome == DONE && PQntuples(result) > 0 ? atoi(PQgetvalue(result, 0, 0)) : 0;

	PQclear(result);
	return pid;
}

static bool
kill_it(int pid)
{
	return pid > 1 && kill(pid, SIGKILL) == 0;
}

static bool
signal_one(Session *session, const char *function)
{
	char sql[100];
	int pid = random_chance(&session->random, 20) ? dispatcher(session)
												  : chaos_random_backend(&session->random);

	snprintf(sql, sizeof(sql), "SELECT %s(%d)", function, pid);
	return pid > 1 && session_do(session, sql) == DONE;
}

static bool
resize(Session *session)
{
	int pool = random_chance(&session->random, 60) ? POOL_APP : POOL_CHAT;

	pools_change(session, pool, 1 + (int) random_below(&session->random, 14));
	return true;
}

/* Again until the server has answered: what stays paused would never end. */
static bool
pause_some(Session *session)
{
	const char *type = pool_types[random_below(&session->random, POOLS)];
	char sql[100];

	snprintf(sql, sizeof(sql), "SELECT eduai.pause_queue('%s')", type);
	(void) session_do(session, sql);
	sleep_ms((int) random_below(&session->random, 500));
	snprintf(sql, sizeof(sql), "SELECT eduai.resume_queue('%s')", type);
	while (session_do(session, sql) != DONE)
		sleep_ms(20);
	return true;
}

static bool
redrive(Session *session)
{
	char sql[200];

	snprintf(sql, sizeof(sql), "%s; SELECT eduai.redrive('%s', now() - interval '20 s')",
			 tenant_setups[random_below(&session->random, TENANTS)],
			 pool_types[random_below(&session->random, POOLS)]);
	return session_do(session, sql) == DONE;
}

static bool
do_deed(Session *session, Deed deed)
{
	switch (deed)
	{
		case KILL_BACKEND:
			return kill_it(chaos_random_backend(&session->random));
		case KILL_DISPATCHER:
			return kill_it(dispatcher(session));
		case KILL_POSTMASTER:
			return chaos_kill_postmaster();
		case RESTART:
			return chaos_restart(session);
		case TERMINATE:
			return signal_one(session, "pg_terminate_backend");
		case CANCEL:
			return signal_one(session, "pg_cancel_backend");
		case RESIZE:
			return resize(session);
		case PAUSE:
			return pause_some(session);
		case REDRIVE:
			return redrive(session);
		default:
			return false;
	}
}

static Deed
choose(Random *random)
{
	int at = (int) random_below(random, 100);

	for (int deed = 0; deed < DEEDS; deed++)
	{
		at -= deeds[deed].weight;
		if (at < 0 && (options.kills || !deeds[deed].kills))
			return (Deed) deed;
	}
	return RESIZE;
}

void *
kills_main(void *arg)
{
	Session session;

	(void) arg;
	session_init(&session, MAX_SESSIONS - 4);
	session.setup = "SET statement_timeout = 0";
	while (!stopping)
	{
		Deed deed = choose(&session.random);

		if (do_deed(&session, deed))
			atomic_fetch_add(&done[deed], 1);
		sleep_ms((int) random_below(&session.random, 800));
	}
	if (session.db != NULL)
		session_close(&session);
	return NULL;
}
