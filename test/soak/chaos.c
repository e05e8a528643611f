/*
 * chaos.c: what goes wrong while the others work.
 *
 * Sessions are cancelled and terminated; backends, background workers and the
 * postmaster are killed; the server is shut down; pause points hold commits and
 * readers where their order matters; a thread of its own compacts events.
 *
 * EDUAI_SERVER is a program that starts ("start") and stops ("stop") the
 * server, EDUAI_DATA the data directory.
 */
#include "soak.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum Deed
{
	PAUSE,
	CANCEL,
	TERMINATE,
	KILL_BACKEND,
	KILL_WORKER,
	KILL_POSTMASTER,
	RESTART,
	DEEDS
} Deed;

/* Percent of the deeds. */
static const struct
{
	const char *name;
	int weight;
	int weight_without_kills;
} deeds[DEEDS] = {
	[PAUSE] = {"pauses", 65, 90},
	[CANCEL] = {"cancels", 9, 10},
	[TERMINATE] = {"terminations", 19, 0},
	[KILL_BACKEND] = {"backends killed", 2, 0},
	[KILL_WORKER] = {"workers killed", 1, 0},
	[KILL_POSTMASTER] = {"postmasters killed", 2, 0},
	[RESTART] = {"restarts", 2, 0},
};

static uint64_t done[DEEDS];
static _Atomic uint64_t compactions;

static void
server(const char *what)
{
	const char *program = getenv("EDUAI_SERVER");
	char command[600];

	snprintf(command, sizeof(command), "%s %s >/dev/null 2>&1", program, what);
	if (system(command) != 0 && strcmp(what, "stop") == 0)
		fail("the server could not be stopped");
}

int
chaos_random_backend(Random *random)
{
	for (int tries = 0; tries < 100; tries++)
	{
		int pid = backend_pids[random_below(random, MAX_SESSIONS - 4)];

		if (pid != 0)
			return pid;
	}
	return 0;
}

/* Holds commits or readers at a named point for some milliseconds. */
static bool
pause_some(Session *session)
{
	static const char *const points[] = {"events-drawn", "commit-visible", "feed-after-mark"};
	const char *point = points[random_below(&session->random, 3)];
	int ms =
		1 + (int) random_below(&session->random, random_chance(&session->random, 95) ? 30 : 400);
	char sql[100];

	snprintf(sql, sizeof(sql), "SELECT eduai.test_pause('%s', true)", point);
	if (session_do(session, sql) != DONE)
		return false;
	sleep_ms(ms);
	snprintf(sql, sizeof(sql), "SELECT eduai.test_pause('%s', false)", point);
	/* a server that went down meanwhile has forgotten it */
	return session_do(session, sql) == DONE;
}

static bool
signal_backend(Session *session, const char *function)
{
	char sql[100];
	int pid = chaos_random_backend(&session->random);

	snprintf(sql, sizeof(sql), "SELECT %s(%d)", function, pid);
	return pid != 0 && session_do(session, sql) == DONE;
}

static bool
kill_backend(Session *session)
{
	int pid = chaos_random_backend(&session->random);

	return pid != 0 && kill(pid, SIGKILL) == 0;
}

/* The projector, or the dispatcher. */
static bool
kill_worker(Session *session)
{
	Outcome outcome;
	PGresult *result = session_ask(session,
								   "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE "
								   "'eduai%' AND datname IS NOT NULL ORDER BY random() LIMIT 1",
								   &outcome);
	int pid = outcome == DONE && PQntuples(result) > 0 ? atoi(PQgetvalue(result, 0, 0)) : 0;

	PQclear(result);
	return pid > 1 && kill(pid, SIGKILL) == 0;
}

bool
chaos_kill_postmaster(void)
{
	char path[600];
	FILE *file;
	int pid = 0;

	snprintf(path, sizeof(path), "%s/postmaster.pid", getenv("EDUAI_DATA"));
	file = fopen(path, "r");
	if (file == NULL)
		return false;
	if (fscanf(file, "%d", &pid) != 1)
		pid = 0;
	fclose(file);
	if (pid <= 1 || kill(pid, SIGKILL) != 0)
		return false;
	/* its children find out; a new one starts only when the last is gone */
	sleep_ms(300);
	server("start");
	return true;
}

/*
 * A fast shutdown and a start.  Only of a server that is up: PostgreSQL 15 waits
 * for ever when it is asked to shut down while it recovers from a crash of a
 * backend, as nobody tells the checkpointer.
 */
bool
chaos_restart(Session *session)
{
	sleep_ms(200);
	(void) session_number(session, "SELECT 1");
	server("stop");
	server("start");
	return true;
}

static bool
do_deed(Session *session, Deed deed)
{
	switch (deed)
	{
		case PAUSE:
			return pause_some(session);
		case CANCEL:
			return signal_backend(session, "pg_cancel_backend");
		case TERMINATE:
			return signal_backend(session, "pg_terminate_backend");
		case KILL_BACKEND:
			return kill_backend(session);
		case KILL_WORKER:
			return kill_worker(session);
		case KILL_POSTMASTER:
			return chaos_kill_postmaster();
		case RESTART:
			return chaos_restart(session);
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
		at -= options.kills ? deeds[deed].weight : deeds[deed].weight_without_kills;
		if (at < 0)
			return (Deed) deed;
	}
	return PAUSE;
}

void *
chaos_main(void *arg)
{
	Session session;

	(void) arg;
	session_init(&session, MAX_SESSIONS - 4);
	session.setup = "SET statement_timeout = 0";
	while (!stopping)
	{
		Deed deed = choose(&session.random);

		if (do_deed(&session, deed))
			done[deed]++;
		sleep_ms((int) random_below(&session.random, 600));
	}
	if (session.db != NULL)
		session_close(&session);
	return NULL;
}

void *
compactor_main(void *arg)
{
	Session session;

	(void) arg;
	session_init(&session, 180);
	session.setup = "SET statement_timeout = 0";
	while (!stopping)
	{
		if (session_do(&session, "SELECT eduai.compact_events('0')") == DONE)
			compactions++;
		sleep_ms((int) random_below(&session.random, 2000));
	}
	if (session.db != NULL)
		session_close(&session);
	return NULL;
}

uint64_t
chaos_compactions(void)
{
	return compactions;
}

void
chaos_report(void)
{
	printf("chaos:   ");
	for (int deed = 0; deed < DEEDS; deed++)
		printf("%s %llu %s", deed > 0 ? "," : "", (unsigned long long) done[deed],
			   deeds[deed].name);
	printf(", %llu compactions\n", (unsigned long long) compactions);
}
