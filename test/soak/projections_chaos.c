/*
 * projections_chaos.c: kills, and rebuilds for them to fall upon.
 *
 * A kill is SIGKILL to the postmaster, the projector, a helper of it or a
 * client's backend, at a random moment or with somebody held at a pause point.
 * It waits for a moment at which there is something to tear: a step of a
 * follower, a rebuild or an append under way; what there was is counted.
 */
#include "projections.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum Victim
{
	POSTMASTER,
	PROJECTOR,
	HELPER,
	BACKEND,
	VICTIMS
} Victim;

static const char *const victim_names[VICTIMS] = {"postmasters", "projectors", "helpers",
												  "backends"};

/* All are reached by following, rebuilding or appending. */
static const char *const points[] = {
	"projections-folded", "projections-positioned", "projections-committed",
	"events-ordered",     "commit-visible",
};
#define N_POINTS ((int) (sizeof(points) / sizeof(points[0])))

/* What was under way. */
typedef struct Scene
{
	int appends; /* clients' transactions that have written */
	int steps;   /* of followers */
	int rebuilds;
	int held; /* at the pause point */
} Scene;

static uint64_t killed[VICTIMS];
static uint64_t held_at[N_POINTS];
static _Atomic int counting;
static struct
{
	uint64_t appends, steps, rebuilds, held, nothing;
} with;
static uint64_t other_deeds[3]; /* terminations, cancels, restarts */
static uint64_t rebuilt[FOLLOWED];

int
kills_that_count(void)
{
	return counting;
}

static const char *const look_sql =
	"SELECT count(*) FILTER (WHERE backend_type = 'client backend' AND backend_xid IS NOT NULL),"
	" count(*) FILTER (WHERE backend_type LIKE 'eduai %%' AND backend_xid IS NOT NULL),"
	" (SELECT count(*) FROM eduai.projection_generation WHERE next <> 0), eduai.test_paused('%s')"
	" FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

static bool
look(Session *session, const char *point, Scene *scene)
{
	char sql[600];
	Outcome outcome;
	PGresult *row;

	snprintf(sql, sizeof(sql), look_sql, point);
	row = session_ask(session, sql, &outcome);
	if (outcome != DONE)
		return false;
	*scene = (Scene){atoi(PQgetvalue(row, 0, 0)), atoi(PQgetvalue(row, 0, 1)),
					 atoi(PQgetvalue(row, 0, 2)), atoi(PQgetvalue(row, 0, 3))};
	PQclear(row);
	return true;
}

static bool
worth_it(Victim victim, bool at_point, const Scene *scene)
{
	if (at_point)
		return scene->held > 0;
	if (victim == PROJECTOR || victim == HELPER)
		return scene->steps > 0;
	return scene->steps + scene->appends > 0;
}

static int
pid_of_worker(Session *session, bool helper)
{
	Outcome outcome;
	PGresult *result = session_ask(
		session,
		helper ? "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND "
				 "backend_type LIKE 'eduai %' AND backend_type NOT IN ('eduai projector', 'eduai "
				 "dispatcher') ORDER BY random() LIMIT 1"
			   : "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND "
				 "backend_type = 'eduai projector'",
		&outcome);
	int pid = outcome == DONE && PQntuples(result) > 0 ? atoi(PQgetvalue(result, 0, 0)) : 0;

	PQclear(result);
	return pid;
}

/* Found before the moment, so that nothing is between it and the kill. */
static int
pid_of(Session *session, Victim victim)
{
	if (victim == BACKEND)
		return chaos_random_backend(&session->random);
	return pid_of_worker(session, victim == HELPER);
}

static void
note(Victim victim, const Scene *scene, int point)
{
	killed[victim]++;
	with.appends += scene->appends > 0;
	with.steps += scene->steps > 0;
	with.rebuilds += scene->rebuilds > 0;
	with.held += scene->held > 0;
	if (scene->held > 0)
		held_at[point]++;
	if (scene->appends + scene->steps + scene->held > 0)
		counting++;
	else
		with.nothing++;
}

static void
set_point(Session *session, int point, bool armed)
{
	char sql[100];

	snprintf(sql, sizeof(sql), "SELECT eduai.test_pause('%s', %s)", points[point],
			 armed ? "true" : "false");
	(void) session_do(session, sql);
}

/* Waits for the moment and strikes; false when it did not come or nobody was there. */
static bool
strike(Session *session, Victim victim)
{
	bool at_point = random_chance(&session->random, 50);
	int point = (int) random_below(&session->random, N_POINTS);
	int pid = victim == POSTMASTER ? 0 : pid_of(session, victim);
	int64_t deadline = ledger_clock() + INT64_C(2000000000);
	Scene scene = {0};
	bool struck;

	if (victim != POSTMASTER && pid <= 1)
		return false;
	if (at_point)
		set_point(session, point, true);
	while (look(session, points[point], &scene) && !worth_it(victim, at_point, &scene) &&
		   ledger_clock() < deadline)
		sleep_ms(1);
	struck = worth_it(victim, at_point, &scene) &&
			 (victim == POSTMASTER ? chaos_kill_postmaster() : kill(pid, SIGKILL) == 0);
	if (struck)
		note(victim, &scene, point);
	else if (at_point)
		set_point(session, point, false);
	return struck;
}

static void
disturb(Session *session, int what)
{
	static const char *const functions[] = {"pg_terminate_backend", "pg_cancel_backend"};
	char sql[100];
	int pid = random_chance(&session->random, 40) ? pid_of_worker(session, false)
												  : chaos_random_backend(&session->random);

	if (what == 2)
		(void) chaos_restart(session);
	else if (pid > 1)
	{
		snprintf(sql, sizeof(sql), "SELECT %s(%d)", functions[what], pid);
		(void) session_do(session, sql);
	}
	other_deeds[what]++;
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
		uint32_t kind = random_below(&session.random, 100);

		if (kind < 30)
			disturb(&session, kind < 15 ? 0 : kind < 28 ? 1 : 2);
		else if (options.kills)
			(void) strike(&session, kind < 45   ? POSTMASTER
									: kind < 65 ? PROJECTOR
									: kind < 88 ? HELPER
												: BACKEND);
		sleep_ms((int) random_below(&session.random, 1000));
	}
	if (session.db != NULL)
		session_close(&session);
	return NULL;
}

void *
rebuilder_main(void *inlines)
{
	Session session;

	session_init(&session, 181 + (inlines != NULL));
	session.setup = "SET statement_timeout = 0";
	while (!stopping)
	{
		int i = (int) random_below(&session.random, FOLLOWED);
		char sql[100];

		if (followed[i].is_inline != (inlines != NULL))
			continue;
		snprintf(sql, sizeof(sql), "SELECT eduai.rebuild_projection('%s')", followed[i].name);
		if (session_do(&session, sql) == DONE)
			rebuilt[i]++;
		sleep_ms((int) random_below(&session.random, 1000));
	}
	if (session.db != NULL)
		session_close(&session);
	return NULL;
}

void
kills_check(int wanted)
{
	if (counting < wanted)
		ledger_violation("%d kills had something to tear, not %d", counting, wanted);
	if (wanted >= 50 &&
		(with.appends == 0 || with.steps == 0 || with.rebuilds == 0 || with.held == 0))
		ledger_violation("of %d kills none fell upon appends, steps, rebuilds or a pause point",
						 counting);
}

void
kills_report(void)
{
	printf("killed:  ");
	for (int i = 0; i < VICTIMS; i++)
		printf(" %s %llu", victim_names[i], (unsigned long long) killed[i]);
	printf("; under way: appends at %llu, followers' steps at %llu, rebuilds at %llu, nothing at "
		   "%llu\nheld:    ",
		   (unsigned long long) with.appends, (unsigned long long) with.steps,
		   (unsigned long long) with.rebuilds, (unsigned long long) with.nothing);
	for (int i = 0; i < N_POINTS; i++)
		printf(" %s %llu", points[i], (unsigned long long) held_at[i]);
	printf(
		"\nbesides:  %llu terminations, %llu cancels, %llu restarts, %llu compactions\nasked:   ",
		(unsigned long long) other_deeds[0], (unsigned long long) other_deeds[1],
		(unsigned long long) other_deeds[2], (unsigned long long) chaos_compactions());
	for (int i = 0; i < FOLLOWED; i++)
		printf(" %s %llu", followed[i].name, (unsigned long long) rebuilt[i]);
	printf("\n");
}
