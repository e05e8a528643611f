/*
 * queue.c: what the queue promises, under everything that happens to a server:
 * every acknowledged task exists and ends once, whatever is killed.
 *
 * Enqueuers (queue_enqueue.c) tell the book what became of every call;
 * applications' workers (queue_worker.c) complete, fail, stop and come late;
 * chat goes to the simulator, which fails by chance; a sampler
 * (queue_pools.c) looks at what runs; kills, cancels, changed pools and paused
 * types go on (queue_chaos.c).  Then nothing more is enqueued, and what is left
 * is worked off: of a task that still waits the parents are retried, and if
 * that does not let it go it is cancelled.
 *
 * At the end: every acknowledged task is there and in exactly one final state,
 * none that was rolled back is; no task was completed twice, each completion
 * that a worker had confirmed is of the attempt in the history, and handlers
 * ran once for each result; parents ended before their children started; no
 * edge is left; a full pool's worth of tasks can start; and the tenant's limit
 * lets in exactly as many tasks as it says.
 *
 *   SOAK_SECONDS=300  how long tasks are enqueued, and at least until
 *   MIN_KILLS=10      processes were killed
 *   SEED=1            of all random choices; the timing is the server's
 *   WRITERS=8         enqueuers;  WORKERS=6
 *   KILLS=1           0: nothing is killed
 *
 * Ends with 0, or prints the violation and the seed and ends with 1.
 */
#include "queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* those that have been started or changed, and those that have not */
#define COUNT_LIVING \
	"SELECT (SELECT count(*) FROM eduai.task_live) + (SELECT count(*) FROM eduai.fresh_task)"
#define MAX_THREADS 64
#define LIMIT       1000 /* eduai.queue_max_size */
#define FINAL_LIMIT 37   /* when it is tried at the end */
#define DRAIN_NS    INT64_C(300000000000)
#define PROGRESS_NS INT64_C(10000000000)

static int64_t started;
static int min_kills;
static int workers;

static void
on_violation(const char *text)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&once);
	printf("VIOLATION at %.6f s, seed %llu:\n%s\n", (double) (ledger_clock() - started) / 1e9,
		   (unsigned long long) options.seed, text);
	kills_report();
	fflush(NULL);
	_Exit(1);
}

static void
read_options(void)
{
	options.program = "queue";
	/* full; stale; a key whose task is among the parents; too many prepared; a lock not got in
	 * time; a unique key lives again */
	options.expected = "UE003 UE009 UE010 53200 55P03 23505";
	options.seed = (uint64_t) env_number("SEED", (int64_t) (ledger_clock() / 1000 % 1000000));
	options.seconds = (int) env_number("SOAK_SECONDS", 300);
	options.writers = (int) env_number("WRITERS", 8);
	options.kills = env_number("KILLS", 1) != 0;
	workers = (int) env_number("WORKERS", 6);
	min_kills = options.kills ? (int) env_number("MIN_KILLS", 10) : 0;
	if (options.writers < 1 || options.writers > 32 || workers < TENANTS || workers > 24)
		fail("WRITERS is 1 to 32, WORKERS %d to 24", TENANTS);
	if (getenv("EDUAI_SERVER") == NULL || getenv("EDUAI_DATA") == NULL ||
		getenv("SIMULATOR_URL") == NULL)
		fail("EDUAI_SERVER, EDUAI_DATA or SIMULATOR_URL is not set: run this through make soak");
}

/* ---- the start ---- */

static void
must(Session *session, const char *sql)
{
	if (session_do(session, sql) != DONE)
		fail("could not be done: %s", sql);
}

static void
set_limit(Session *session, int limit)
{
	char sql[100];

	snprintf(sql, sizeof(sql), "ALTER SYSTEM SET eduai.queue_max_size = %d", limit);
	must(session, sql);
	must(session, "SELECT pg_reload_conf()");
	snprintf(sql, sizeof(sql), "SELECT (current_setting('eduai.queue_max_size')::int = %d)::int",
			 limit);
	while (session_number(session, sql) == 0)
		sleep_ms(20);
}

static void
create_gateway(Session *session)
{
	char sql[400];

	snprintf(sql, sizeof(sql),
			 "SELECT eduai.add_provider('soak', 'openai', '%s/v1', NULL,"
			 " '{\"allow_loopback\": true}')",
			 getenv("SIMULATOR_URL"));
	must(session, sql);
	must(session,
		 "SELECT eduai.add_instance('soak', 'soak',"
		 " 'sim-chat@latency=lognormal:20:150;error=0.1', '{chat}', max_concurrent => 40)");
	must(session, "SELECT eduai.add_instance('spare', 'soak', 'sim-chat@latency=60;error=0.02',"
				  " '{chat}', max_concurrent => 40)");
}

static void
create(Session *session)
{
	must(session, "CREATE TABLE soak_done (task_id bigint, attempt int, worker int)");
	must(session, "CREATE TABLE soak_ended (task_id bigint, state text, attempt int)");
	must(session, "CREATE FUNCTION soak_result(task eduai.task_status) RETURNS void"
				  " LANGUAGE plpgsql AS $$ BEGIN"
				  " INSERT INTO public.soak_ended VALUES (task.task_id, task.state, task.attempt);"
				  " IF task.task_id % 50 = 0 THEN RAISE EXCEPTION 'poison'; END IF; END $$");
	must(session, "SELECT eduai.allow_tenant('postgres', 'default')");
	must(session, "SELECT eduai.allow_tenant('postgres', 'soak-two')");
	pools_create(session);
	create_gateway(session);
	set_limit(session, LIMIT);
}

/* ---- watching ---- */

static void
report_progress(Session *session)
{
	static int64_t last;
	Outcome outcome;
	PGresult *row;

	if (ledger_clock() - last < PROGRESS_NS)
		return;
	last = ledger_clock();
	row = session_ask(
		session,
		"SELECT count(*), count(*) FILTER (WHERE state = 'running'),"
		" count(*) FILTER (WHERE state = 'waiting'),"
		" (SELECT count(*) FROM eduai.task_end) FROM (SELECT state FROM eduai.task_live UNION ALL"
		" SELECT 'ready' FROM eduai.fresh_task) t",
		&outcome);
	if (outcome != DONE)
		return;
	printf("%6.0f s  %u enqueued; %s live, %s of them running, %s waiting; %s ended; %d kills,"
		   " %llu samples\n",
		   (double) (last - started) / 1e9, book_size(), PQgetvalue(row, 0, 0),
		   PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2), PQgetvalue(row, 0, 3), kills_done(),
		   (unsigned long long) pools_samples());
	PQclear(row);
}

/* What a client left in two phases when it lost its server. */
static void
end_prepared(Session *session, const char *older_than)
{
	char sql[300];
	Outcome outcome;
	PGresult *names;

	snprintf(sql, sizeof(sql),
			 "SELECT gid FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - interval '%s'",
			 older_than);
	names = session_ask(session, sql, &outcome);
	for (int i = 0; i < PQntuples(names); i++)
	{
		snprintf(sql, sizeof(sql), "ROLLBACK PREPARED '%s'", PQgetvalue(names, i, 0));
		(void) session_do(session, sql);
	}
	PQclear(names);
}

/* ---- the drain ---- */

static int64_t
live(Session *session)
{
	return session_number(session, COUNT_LIVING);
}

/* Of what waits: its parents again, or not at all. */
static void
help_waiting(Session *session, bool cancel)
{
	for (int i = 0; i < TENANTS; i++)
	{
		must(session, tenant_setups[i]);
		(void) session_do(
			session, cancel
						 ? "SELECT count(eduai.cancel_task(task_id)) FROM eduai.task_live"
						   " WHERE state = 'waiting' AND tenant_id = eduai.current_tenant()"
						 : "SELECT count(eduai.retry_task(p)) FROM (SELECT DISTINCT parent_id AS p"
						   " FROM eduai.task_dependency d JOIN eduai.task_end e"
						   " ON e.tenant_id = d.tenant_id AND e.task_id = d.parent_id"
						   " WHERE d.tenant_id = eduai.current_tenant()"
						   " AND e.state <> 'completed') parents");
	}
}

static void
drain(Session *session)
{
	int64_t deadline = ledger_clock() + DRAIN_NS;
	int64_t moved = ledger_clock();
	int64_t before = -1;
	int helps = 0;
	int64_t now;

	while ((now = live(session)) > 0)
	{
		report_progress(session);
		if (now != before)
			moved = ledger_clock();
		before = now;
		if (ledger_clock() > deadline)
			ledger_violation("%lld tasks do not end", (long long) now);
		if (ledger_clock() - moved > INT64_C(4000000000))
		{
			help_waiting(session, helps++ >= 3);
			moved = ledger_clock();
		}
		sleep_ms(200);
	}
}

/* ---- the end ---- */

/* A number that must be 0. */
static void
none(Session *session, const char *what, const char *sql)
{
	int64_t n = session_number(session, sql);

	if (n != 0)
		ledger_violation("%lld %s", (long long) n, what);
}

static void
check_tables(Session *session)
{
	none(session, "tasks are live", COUNT_LIVING);
	none(session, "tasks have no end",
		 "SELECT count(*) FROM eduai.task_request r WHERE NOT EXISTS (SELECT FROM eduai.task_end e"
		 " WHERE e.tenant_id = r.tenant_id AND e.task_id = r.task_id)");
	none(session, "ends have no task",
		 "SELECT count(*) FROM eduai.task_end e WHERE NOT EXISTS (SELECT FROM eduai.task_request r"
		 " WHERE r.tenant_id = e.tenant_id AND r.task_id = e.task_id)");
	none(session, "tasks were completed twice",
		 "SELECT count(*) FROM (SELECT FROM soak_done GROUP BY task_id HAVING count(*) > 1) d");
	none(session, "completions that were confirmed are not in the history",
		 "SELECT count(*) FROM soak_done d WHERE NOT EXISTS (SELECT FROM eduai.task_end e"
		 " WHERE e.task_id = d.task_id AND e.state = 'completed' AND e.attempt = d.attempt)");
	none(session, "tasks of applications are completed, but no worker did that",
		 "SELECT count(*) FROM eduai.task t WHERE state = 'completed' AND task_type LIKE 'soak%'"
		 " AND NOT EXISTS (SELECT FROM soak_done d WHERE d.task_id = t.task_id)");
	/* whoever retries a task, or a parent, changes its run_at */
	none(session, "children started before a parent of theirs had ended",
		 "SELECT count(*) FROM eduai.task c, unnest(c.depends_on) p JOIN eduai.task t"
		 " ON t.task_id = p WHERE c.started_at < t.finished_at AND t.state = 'completed'"
		 " AND c.run_at = c.enqueued_at AND t.run_at = t.enqueued_at");
}

static void
check_handlers(Session *session)
{
	none(session, "results had their handler run twice",
		 "SELECT count(*) FROM (SELECT FROM soak_ended WHERE state = 'completed' GROUP BY task_id"
		 " HAVING count(*) > 1) d");
	none(session, "handlers' work stayed although they raised",
		 "SELECT count(*) FROM soak_ended WHERE task_id % 50 = 0");
	none(session, "completed tasks had no handler run, and no error of it recorded",
		 "SELECT count(*) FROM eduai.task t WHERE state = 'completed' AND on_result IS NOT NULL"
		 " AND error IS NULL AND NOT EXISTS (SELECT FROM soak_ended s WHERE s.task_id = t.task_id"
		 " AND s.state = 'completed')");
}

/* The count in shared memory is that of the rows, none: exactly so many come in. */
static void
check_limit(Session *session)
{
	set_limit(session, FINAL_LIMIT);
	for (int t = 0; t < TENANTS; t++)
	{
		int n = 0;

		must(session, tenant_setups[t]);
		while (n <= FINAL_LIMIT &&
			   session_do(session, "SELECT eduai.enqueue('soak_app', '{}', 'low')") == DONE)
			n++;
		if (n != FINAL_LIMIT)
			ledger_violation("tenant %s has no task and a limit of %d: %d came in", tenant_names[t],
							 FINAL_LIMIT, n);
		must(session, "SELECT count(eduai.cancel_task(task_id)) FROM eduai.task"
					  " WHERE tenant_id = eduai.current_tenant() AND finished_at IS NULL");
	}
	must(session, tenant_setups[0]);
	none(session, "tasks are live after all were cancelled", COUNT_LIVING);
	set_limit(session, 0);
}

static void
report_states(Session *session)
{
	Outcome outcome;
	PGresult *row = session_ask(
		session,
		"SELECT string_agg(format('%s %s', n, state), ', ' ORDER BY state) FROM (SELECT state,"
		" count(*) AS n FROM eduai.task_end GROUP BY state) s",
		&outcome);

	if (outcome == DONE)
		printf("ended:    %s\n", PQgetvalue(row, 0, 0));
	PQclear(row);
}

/* ---- the run ---- */

static void
disturb_and_enqueue(Session *session)
{
	pthread_t threads[MAX_THREADS];
	int n = 0;

	for (int i = 0; i < options.writers; i++)
		pthread_create(&threads[n++], NULL, enqueuer_main, (void *) (intptr_t) i);
	pthread_create(&threads[n++], NULL, kills_main, NULL);
	while (ledger_clock() - started < (int64_t) options.seconds * 1000000000 ||
		   kills_done() < min_kills)
	{
		report_progress(session);
		end_prepared(session, "30 s");
		sleep_ms(500);
	}
	stopping = true;
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	/* again where the session, or the server, went away: what is prepared counts for the limit */
	do
		end_prepared(session, "0 s");
	while (session_number(session, "SELECT count(*) FROM pg_prepared_xacts") > 0);
}

static void
run_soak(void)
{
	pthread_t threads[MAX_THREADS];
	int n = 0;
	Session session;

	session_init(&session, MAX_SESSIONS - 3);
	session.setup = "SET statement_timeout = 0";
	create(&session);
	for (int i = 0; i < workers; i++)
		pthread_create(&threads[n++], NULL, worker_main, (void *) (intptr_t) i);
	pthread_create(&threads[n++], NULL, sampler_main, NULL);
	disturb_and_enqueue(&session);
	drain(&session);
	closing = true;
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	book_report();
	workers_report();
	kills_report();
	report_refusals();
	report_states(&session);
	must(&session, tenant_setups[0]);
	check_tables(&session);
	check_handlers(&session);
	book_check(&session);
	check_limit(&session);
	pools_check(&session);
	none(&session, "tasks are live", COUNT_LIVING);
	none(&session, "edges are left", "SELECT count(*) FROM eduai.task_dependency");
	session_close(&session);
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	started = ledger_clock();
	ledger_on_violation = on_violation;
	ledger_init();
	book_init();
	read_options();
	printf("seed %llu, %d enqueuers, %d workers, %s\n", (unsigned long long) options.seed,
		   options.writers, workers, options.kills ? "kills" : "no kills");
	run_soak();
	return 0;
}
