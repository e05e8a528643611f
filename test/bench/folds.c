/*
 * folds.c: see folds.h.
 */
#include "folds.h"

#include "bench.h"
#include "load.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILL_STEP   1000
#define DEADLINE_US INT64_C(3600000000)

const Reducer fold_reducers[REDUCERS] = {
	{"C", "eduai.test_count_reducer", NULL},
	{"PL/pgSQL", "bench_count_plpgsql",
	 "CREATE FUNCTION bench_count_plpgsql(state jsonb, event eduai.event_record) RETURNS jsonb"
	 " LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
	 " RETURN state || jsonb_build_object(event.event_type,"
	 " coalesce((state ->> event.event_type)::bigint, 0) + 1); END $$"},
	{"SQL", "bench_count_sql",
	 "CREATE FUNCTION bench_count_sql(state jsonb, event eduai.event_record) RETURNS jsonb"
	 " LANGUAGE sql IMMUTABLE AS $$"
	 " SELECT state || jsonb_build_object(event.event_type,"
	 " coalesce((state ->> event.event_type)::bigint, 0) + 1) $$"},
};

void
fold_define_reducers(PGconn *db)
{
	for (int i = 0; i < REDUCERS; i++)
		if (fold_reducers[i].define != NULL)
			run(db, fold_reducers[i].define);
}

static char *
askf(PGconn *db, const char *format, ...)
{
	char sql[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	return ask(db, sql);
}

static int64_t
number(char *text)
{
	int64_t value = atoll(text);

	free(text);
	return value;
}

void
fold_fill(PGconn *db, const char *type, const char *field, int64_t first, int64_t n, int learners)
{
	for (int64_t at = first; at < first + n; at += FILL_STEP)
	{
		int64_t end = at + FILL_STEP < first + n ? at + FILL_STEP : first + n;

		free(askf(
			db,
			"SELECT eduai.append_batch(array_agg('learner-' || l), array_agg('%s'::text),"
			" array_agg(jsonb_build_object('item', 'f-' || i %% 50, '%s', i %% 10)),"
			" array_agg('learner-' || l))"
			" FROM (SELECT i, i * 7919 %% %d AS l FROM generate_series(%lld::bigint, %lld) AS i)"
			" AS e",
			type, field, learners, (long long) at, (long long) end - 1));
	}
}

/* ---- the server ---- */

static void
server(const char *what)
{
	char command[600];

	snprintf(command, sizeof(command), "%s %s >/dev/null 2>&1", required_env("EDUAI_SERVER"), what);
	if (system(command) != 0)
		fail("the server could not %s", what);
}

PGconn *
fold_test_mode(PGconn *db, bool on)
{
	run(db, on ? "ALTER SYSTEM SET eduai.test_mode = on" : "ALTER SYSTEM RESET eduai.test_mode");
	PQfinish(db);
	server("stop");
	server("start");
	return connect_db();
}

int
fold_postmaster(PGconn *db)
{
	char *data = ask(db, "SHOW data_directory");
	char path[600];
	FILE *file;
	int pid = 0;

	snprintf(path, sizeof(path), "%s/postmaster.pid", data);
	free(data);
	file = fopen(path, "r");
	if (file == NULL || fscanf(file, "%d", &pid) != 1 || pid <= 1)
		fail("cannot read %s", path);
	fclose(file);
	return pid;
}

PGconn *
fold_kill_server(PGconn *db, int postmaster)
{
	if (kill(postmaster, SIGKILL) != 0)
		fail("the postmaster is not there");
	PQfinish(db);
	server("start");
	return connect_db();
}

/* ---- how far a projection is ---- */

int
fold_projection_id(PGconn *db, const char *name)
{
	return (int) number(
		askf(db, "SELECT projection FROM eduai.projection WHERE name = '%s'", name));
}

int
fold_live(PGconn *db, int projection)
{
	return (int) number(
		askf(db, "SELECT live FROM eduai.projection_generation WHERE projection = %d", projection));
}

int64_t
fold_total(PGconn *db, int projection)
{
	return number(askf(db,
					   "SELECT coalesce(sum(version), 0) FROM eduai.projection_state s"
					   " WHERE projection = %d AND generation = (SELECT live FROM"
					   " eduai.projection_generation g WHERE g.projection = %d)",
					   projection, projection));
}

int64_t
fold_events(PGconn *db, int projection, int *generation)
{
	char *both = askf(
		db,
		"SELECT coalesce(sum(events), 0) || ' ' || coalesce(max(generation), 0)"
		" FROM eduai.projection_position WHERE projection = %d AND generation ="
		" (SELECT greatest(live, next) FROM eduai.projection_generation WHERE projection = %d)",
		projection, projection);
	long long events = 0;
	int newest = 0;

	sscanf(both, "%lld %d", &events, &newest);
	free(both);
	if (generation != NULL)
		*generation = newest;
	return events;
}

static void
await_none(PGconn *db, const char *what, const char *sql)
{
	int64_t give_up = wall_us() + DEADLINE_US;

	while (ask_int(db, sql) != 0)
	{
		if (wall_us() > give_up)
			fail("%s: not up to date within an hour", what);
		usleep(20000);
	}
}

void
fold_await(PGconn *db, const char *name)
{
	char sql[300];

	snprintf(sql, sizeof(sql),
			 "SELECT count(*) FROM eduai.projection_status WHERE name = '%s'"
			 " AND (coalesce(lag_events, 0) > 0 OR rebuilding)",
			 name);
	await_none(db, name, sql);
}

void
fold_await_all(PGconn *db)
{
	await_none(db, "the projections",
			   "SELECT count(*) FROM eduai.projection_status"
			   " WHERE coalesce(lag_events, 0) > 0 OR rebuilding");
}

char *
fold_digest(PGconn *db, int projection, const char *keys)
{
	return askf(db,
				"SELECT count(*) || ' keys, md5 ' || coalesce(md5(string_agg(concat_ws('|', key,"
				" version, last_at, parked, state), E'\\n' ORDER BY key)), '')"
				" FROM eduai.projection_state JOIN eduai.projection_generation g USING (projection)"
				" WHERE projection = %d AND generation = g.live AND key LIKE '%s'",
				projection, keys);
}

/* ---- what it cost ---- */

int64_t
cpu_ns_of(int pid)
{
	char path[64];
	long long ns = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	file = fopen(path, "r");
	if (file == NULL || fscanf(file, "%lld", &ns) != 1)
		ns = 0;
	if (file != NULL)
		fclose(file);
	return ns;
}

static void
look_at(CpuWatch *watch, int pid)
{
	int64_t ns = cpu_ns_of(pid);
	int i = 0;

	if (ns == 0)
		return;
	while (i < watch->n && watch->seen[i].pid != pid)
		i++;
	if (i == (int) (sizeof(watch->seen) / sizeof(watch->seen[0])))
		fail("more than %d processes fold", i);
	if (i == watch->n)
	{
		watch->n++;
		watch->seen[i].pid = pid;
		watch->seen[i].first_ns = watch->begun ? 0 : ns;
	}
	watch->seen[i].last_ns = ns;
}

void
cpu_watch_look(CpuWatch *watch, PGconn *db)
{
	PGresult *result =
		PQexec(db, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND"
				   " backend_type LIKE 'eduai %' AND backend_type <> 'eduai dispatcher'");

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail("%s", PQerrorMessage(db));
	for (int i = 0; i < PQntuples(result); i++)
		look_at(watch, atoi(PQgetvalue(result, i, 0)));
	PQclear(result);
	watch->begun = true;
}

double
cpu_watch_seconds(const CpuWatch *watch)
{
	int64_t ns = 0;

	for (int i = 0; i < watch->n; i++)
		ns += watch->seen[i].last_ns - watch->seen[i].first_ns;
	return (double) ns / 1e9;
}

int
cpu_watch_processes(const CpuWatch *watch)
{
	int n = 0;

	for (int i = 0; i < watch->n; i++)
		if (watch->seen[i].last_ns - watch->seen[i].first_ns > 1000000)
			n++;
	return n;
}
