/*
 * projections_rebuild.c: a rebuild beside readers and writers, and after a kill.
 *
 * The log: EVENTS events about LEARNERS learners, the first half compacted; a
 * tenth of that half is of a type whose schema has changed since, and passes
 * an upcaster; one event the reducer cannot fold.  For an async and an inline
 * projection over it, with a reducer whose states depend on the order:
 *
 *   quiet      rebuild_projection() and nobody else: events a second, from the
 *              call until the new generation is live;
 *   under load the same while WRITERS clients append RATE events a second
 *              about other learners and READERS clients read READS states a second,
 *              all by a timetable; how long any of them had to wait, and in
 *              the second before and after the new generation went live;
 *   no rebuild the same clients for SECONDS: the floor of the waits; rounds
 *              alternate;
 *   killed     kill -9 of the postmaster in a step, half way; how far the
 *              rebuild was when the server came back, and that it went on.
 *
 * Each rebuild must leave the states as they were: md5 of all of them; under
 * load of those that nobody writes to, and of all by the quiet rebuild after.
 *
 *   REDUCER=plpgsql    or c, eduai's own that counts, whose states show no order
 */
#include "bench.h"
#include "floor.h"
#include "folds.h"
#include "load.h"
#include "pressure.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OLD_TYPE    "bench_old_answer"
#define STEP        10000 /* events of which a tenth is of the old type */
#define DATABASE    "bench_rebuild"
#define PROJECTION  "rebuilt"
#define DEADLINE_US INT64_C(7200000000)
#define SECOND_US   INT64_C(1000000)

static PGconn *db;
static int rounds;
static int seconds;
static int events;
static int learners;
static int writers;
static int rate;
static int readers;
static int reads;
static bool in_c;

/* ---- the log ---- */

static const char reducer[] =
	"CREATE FUNCTION bench_ordered(state jsonb, event eduai.event_record) RETURNS jsonb"
	" LANGUAGE plpgsql IMMUTABLE AS $$ DECLARE points bigint := event.data ->> 'points';"
	" BEGIN IF points IS NULL THEN RAISE EXCEPTION 'an answer without points'; END IF;"
	" RETURN jsonb_build_object('count', (state ->> 'count')::bigint + 1,"
	" 'chain', ((state ->> 'chain')::bigint * 31 + points + 1) % 1000003); END $$";

static const char upcaster[] =
	"CREATE FUNCTION bench_upcast(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS"
	" $$ SELECT data - 'score' || jsonb_build_object('points', data -> 'score') $$";

static void
fill_half(int64_t first, int64_t n, const char *old_field)
{
	for (int64_t at = first; at < first + n; at += STEP)
	{
		int64_t step = at + STEP < first + n ? STEP : first + n - at;

		fold_fill(db, OLD_TYPE, old_field, at, step / 10, learners);
		fold_fill(db, FOLD_TYPE, "points", at + step / 10, step - step / 10, learners);
	}
}

static void
make_log(void)
{
	int64_t start = wall_us();

	run(db, reducer);
	run(db, upcaster);
	run(db, "SELECT eduai.register_event_type('" OLD_TYPE "')");
	fill_half(0, events / 2, "score");
	run(db, "SELECT eduai.compact_events('0')");
	run(db, "SELECT eduai.register_event_type('" OLD_TYPE "', schema_version => 2)");
	run(db,
		"SELECT eduai.register_upcaster('" OLD_TYPE "', 1, 'bench_upcast(jsonb)'::regprocedure)");
	run(db, "SELECT eduai.append_event('poisoned', '" FOLD_TYPE "', d, 'poisoned')"
			" FROM (VALUES (1, '{\"points\": 1}'::jsonb), (2, '{}'), (3, '{\"points\": 2}'))"
			" AS e (n, d) ORDER BY n");
	fill_half(events / 2, events - events / 2, "points");
	fold_await_all(db);
	run(db, "VACUUM ANALYZE");
	run(db, "CHECKPOINT");
	printf("log: %lld events, %lld of them compacted, %d learners, made in %.0f s\n",
		   (long long) ask_int(db, "SELECT hot_events + compacted_events FROM eduai.event_storage"),
		   (long long) ask_int(db, "SELECT compacted_events FROM eduai.event_storage"), learners,
		   (wall_us() - start) / 1e6);
}

/* ---- a rebuild ---- */

typedef struct Rebuild
{
	int projection;
	int live; /* before */
	PGconn *caller;
	int64_t start_us;
	int64_t live_us; /* the new generation was seen to be live */
	int64_t end_us;
} Rebuild;

static Rebuild
rebuild_start(int projection)
{
	Rebuild rebuild = {projection, fold_live(db, projection), connect_db(), wall_us(), 0, 0};

	if (!PQsendQuery(rebuild.caller, "SELECT eduai.rebuild_projection('" PROJECTION "')"))
		fail("%s", PQerrorMessage(rebuild.caller));
	return rebuild;
}

static void
rebuild_await_live(Rebuild *rebuild)
{
	while (fold_live(db, rebuild->projection) == rebuild->live)
	{
		if (wall_us() - rebuild->start_us > DEADLINE_US)
			fail("the rebuild has not ended after two hours");
		usleep(5000);
	}
	rebuild->live_us = wall_us();
}

static void
rebuild_finish(Rebuild *rebuild)
{
	PGresult *result;

	rebuild_await_live(rebuild);
	while ((result = PQgetResult(rebuild->caller)) != NULL)
	{
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			fail("rebuild_projection: %s", PQerrorMessage(rebuild->caller));
		PQclear(result);
	}
	rebuild->end_us = wall_us();
	PQfinish(rebuild->caller);
}

/* Deleting the old generation's states is work that the next measurement must not meet. */
static void
await_cleared(int projection)
{
	char sql[300];
	int64_t give_up = wall_us() + DEADLINE_US;

	snprintf(sql, sizeof(sql),
			 "SELECT count(*) FROM eduai.projection_generation WHERE projection = %d AND"
			 " retired <> '{}'",
			 projection);
	while (ask_int(db, sql) > 0)
	{
		if (wall_us() > give_up)
			fail("the old generation is still there after two hours");
		usleep(50000);
	}
}

static void
same(const char *what, char *before, char *after)
{
	if (strcmp(before, after) != 0)
		fail("%s: %s before, %s after the rebuild", what, before, after);
	printf("  %s: before and after %s\n", what, after);
	free(before);
	free(after);
}

/* ---- waits ---- */

enum
{
	WRITES,
	READS,
	KINDS
};

/* Of writers or of readers. */
typedef struct Gaps
{
	Series p50[2]; /* without and with a rebuild */
	Series p99[2];
	Series longest[2];
	Series around[2]; /* the cut-over; without: the middle of the time */
} Gaps;

static Gaps gaps[KINDS];

static void
new_gaps(void)
{
	static const char *const names[KINDS][2][4] = {
		{{"writers, no rebuild: p50", "writers, no rebuild: p99", "writers, no rebuild: longest",
		  "writers, no rebuild: longest in 2 s"},
		 {"writers, rebuild: p50", "writers, rebuild: p99", "writers, rebuild: longest",
		  "writers, rebuild: longest around the cut-over"}},
		{{"readers, no rebuild: p50", "readers, no rebuild: p99", "readers, no rebuild: longest",
		  "readers, no rebuild: longest in 2 s"},
		 {"readers, rebuild: p50", "readers, rebuild: p99", "readers, rebuild: longest",
		  "readers, rebuild: longest around the cut-over"}}};

	for (int kind = 0; kind < KINDS; kind++)
		for (int with = 0; with < 2; with++)
		{
			gaps[kind].p50[with] = new_series(names[kind][with][0], "%.2f ms", rounds);
			gaps[kind].p99[with] = new_series(names[kind][with][1], "%.2f ms", rounds);
			gaps[kind].longest[with] = new_series(names[kind][with][2], "%.2f ms", rounds);
			gaps[kind].around[with] = new_series(names[kind][with][3], "%.2f ms", rounds);
		}
}

static void
print_gaps(void)
{
	for (int kind = 0; kind < KINDS; kind++)
		for (int with = 0; with < 2; with++)
		{
			print_series(&gaps[kind].p50[with]);
			print_series(&gaps[kind].p99[with]);
			print_series(&gaps[kind].longest[with]);
			print_series(&gaps[kind].around[with]);
		}
}

static Pressure *
start_pressure(void)
{
	static const PressureClient writer = {"SELECT * FROM eduai.append_event($1, '" FOLD_TYPE
										  "', '{\"points\": 3}', $1)",
										  "active-%d", 5000, 0};
	static const PressureClient reader = {"SELECT eduai.projection_state('" PROJECTION "', $1)",
										  "learner-%d", 0, 0};
	PressureClient *clients = malloc(sizeof(PressureClient) * (writers + readers));
	Pressure *pressure;

	for (int i = 0; i < writers + readers; i++)
	{
		clients[i] = i < writers ? writer : reader;
		clients[i].per_second = i < writers ? (double) rate / writers : (double) reads / readers;
		if (i >= writers)
			clients[i].nkeys = learners;
	}
	pressure = pressure_start(clients, writers + readers);
	free(clients);
	usleep(SECOND_US);
	return pressure;
}

static void
add_gaps(const Pressure *pressure, int with, int64_t from_us, int64_t until_us, int64_t middle_us)
{
	for (int kind = 0; kind < KINDS; kind++)
	{
		int first = kind == WRITES ? 0 : writers;
		int n = kind == WRITES ? writers : readers;
		Waits all = pressure_waits(pressure, first, n, from_us, until_us);
		Waits around =
			pressure_waits(pressure, first, n, middle_us - SECOND_US, middle_us + SECOND_US);

		if (all.n == 0 || around.n == 0)
			fail("%s did nothing", kind == WRITES ? "writers" : "readers");
		add_figure(&gaps[kind].p50[with], all.p50_ms);
		add_figure(&gaps[kind].p99[with], all.p99_ms);
		add_figure(&gaps[kind].longest[with], all.longest_ms);
		add_figure(&gaps[kind].around[with], around.longest_ms);
	}
}

static void
without_rebuild(void)
{
	Pressure *pressure = start_pressure();
	int64_t start = wall_us();
	int64_t end;

	while (wall_us() < start + seconds * SECOND_US)
	{
		(void) fold_live(db, 0); /* as the rebuild's observer */
		usleep(5000);
	}
	end = wall_us();
	pressure_stop(pressure);
	add_gaps(pressure, 0, start, end, start + (end - start) / 2);
	pressure_free(pressure);
}

static void
with_rebuild(int projection, Series *speed)
{
	char *before = fold_digest(db, projection, "learner-%");
	Pressure *pressure = start_pressure();
	Rebuild rebuild = rebuild_start(projection);
	int64_t folded;

	rebuild_finish(&rebuild);
	folded = fold_total(db, projection);
	usleep(SECOND_US);
	pressure_stop(pressure);
	add_figure(speed, folded * 1e6 / (rebuild.live_us - rebuild.start_us));
	add_gaps(pressure, 1, rebuild.start_us, rebuild.end_us + SECOND_US, rebuild.live_us);
	pressure_free(pressure);
	fold_await(db, PROJECTION);
	same("under load, learners that nobody writes to", before,
		 fold_digest(db, projection, "learner-%"));
	await_cleared(projection);
}

static void
quiet_rebuild(int projection, Series *speed)
{
	char *before;
	Rebuild rebuild;

	fold_await(db, PROJECTION);
	before = fold_digest(db, projection, "%");
	rebuild = rebuild_start(projection);
	rebuild_finish(&rebuild);
	add_figure(speed,
			   fold_total(db, projection) * 1e6 / (double) (rebuild.live_us - rebuild.start_us));
	same("quiet, all", before, fold_digest(db, projection, "%"));
	await_cleared(projection);
}

/* ---- a kill ---- */

static void
hold_steps(bool hold)
{
	run(db, hold ? "SELECT eduai.test_pause('projections-folded', true)"
				 : "SELECT eduai.test_pause('projections-folded', false)");
}

/*
 * Lets it go step by step until half is folded, and leaves it in the next step,
 * whose states are written and not committed, for a second: what a step commits
 * without waiting for the disk may be lost for 0.6 s.
 */
static int64_t
hold_half_way(const Rebuild *rebuild, int64_t total, int *generation)
{
	while (true)
	{
		while (ask_int(db, "SELECT eduai.test_paused('projections-folded')") == 0)
			if (fold_live(db, rebuild->projection) != rebuild->live ||
				wall_us() - rebuild->start_us > DEADLINE_US)
				fail("the rebuild was over before it could be killed: EVENTS is too small");
		if (fold_events(db, rebuild->projection, generation) >= total / 2 &&
			*generation != rebuild->live)
			break;
		hold_steps(false);
		usleep(5000);
		hold_steps(true);
	}
	usleep(SECOND_US);
	return fold_events(db, rebuild->projection, generation);
}

/*
 * Kills when half is folded.  Nobody works when the server is up again, until
 * we have looked how far it was.
 */
static int64_t
kill_and_look(Rebuild *rebuild, int64_t total, int *generation, int64_t *killed_at)
{
	int postmaster = fold_postmaster(db);
	int64_t folded;
	int again;

	/* read at the start only */
	run(db, "ALTER SYSTEM RESET eduai.database");
	hold_steps(true);
	*rebuild = rebuild_start(rebuild->projection);
	*killed_at = hold_half_way(rebuild, total, generation);
	db = fold_kill_server(db, postmaster);
	PQfinish(rebuild->caller);
	if (fold_live(db, rebuild->projection) != rebuild->live)
		fail("the rebuild was over before it was killed: EVENTS is too small");
	folded = fold_events(db, rebuild->projection, &again);
	if (again != *generation || folded == 0)
		fail("killed at %lld events of generation %d, came back with %lld of generation %d",
			 (long long) *killed_at, *generation, (long long) folded, again);
	run(db, "ALTER SYSTEM SET eduai.database = '" DATABASE "'");
	run(db, "SELECT pg_reload_conf()");
	return folded;
}

/* It goes on from "last", and never back, until it is live. */
static void
await_resumed(const Rebuild *rebuild, int generation, int64_t last)
{
	int64_t give_up = wall_us() + DEADLINE_US;

	do
	{
		/* looked at first: live, an inline projection needs no position any more */
		int again;
		int64_t now = fold_events(db, rebuild->projection, &again);

		if (fold_live(db, rebuild->projection) != rebuild->live)
			break;
		if (again != generation || now < last || wall_us() > give_up)
			fail("after the kill: %lld events of generation %d after %lld of generation %d",
				 (long long) now, again, (long long) last, generation);
		last = now;
		usleep(5000);
	} while (true);
	if (fold_live(db, rebuild->projection) != generation)
		fail("generation %d was being built, %d is live", generation,
			 fold_live(db, rebuild->projection));
}

static void
killed_rebuild(int projection)
{
	char *before = fold_digest(db, projection, "%");
	int64_t total = fold_total(db, projection);
	Rebuild rebuild = {.projection = projection};
	int generation;
	int64_t killed_at;
	int64_t resumed_at = kill_and_look(&rebuild, total, &generation, &killed_at);
	int64_t start = wall_us();

	await_resumed(&rebuild, generation, resumed_at);
	printf("  killed at %lld of %lld events, %lld of them there after the restart, live %.1f s "
		   "after it could go on\n",
		   (long long) killed_at, (long long) total, (long long) resumed_at,
		   (wall_us() - start) / 1e6);
	fold_await(db, PROJECTION);
	same("killed, all", before, fold_digest(db, projection, "%"));
	await_cleared(projection);
}

/* ---- a mode ---- */

/* What the writers appended under the projection of before stays in the log. */
static int
create(const char *mode, Series *speed)
{
	char sql[400];
	int64_t start = wall_us();
	int projection;

	snprintf(sql, sizeof(sql),
			 "SELECT eduai.create_projection('" PROJECTION
			 "', '%s(jsonb, eduai.event_record)'::regprocedure, mode => '%s', initial => '%s')",
			 in_c ? "eduai.test_count_reducer" : "bench_ordered", mode,
			 in_c ? "{}" : "{\"count\": 0, \"chain\": 0}");
	run(db, sql);
	projection = fold_projection_id(db, PROJECTION);
	fold_await(db, PROJECTION);
	add_figure(speed, fold_total(db, projection) * 1e6 / (double) (wall_us() - start));
	return projection;
}

/* The poison event and the one behind it, and what came before. */
static void
check_parked(int projection)
{
	char sql[400];

	snprintf(sql, sizeof(sql),
			 "SELECT count(*) FROM eduai.projection_parked p JOIN eduai.projection_generation g"
			 " USING (projection) WHERE projection = %d AND generation = g.live AND key = "
			 "'poisoned'",
			 projection);
	if (!in_c && ask_int(db, sql) != 2)
		fail("%lld events of the poisoned learner are parked, not 2", (long long) ask_int(db, sql));
}

static void
measure(const char *mode)
{
	Series built = new_series("first build", "%.0f /s", 1);
	Series quiet = new_series("rebuild, quiet", "%.0f /s", rounds);
	Series loaded = new_series("rebuild, under load", "%.0f /s", rounds);
	int projection;

	printf("\n%s:\n", mode);
	projection = create(mode, &built);
	new_gaps();
	for (int round = 0; round < rounds; round++)
	{
		if (round % 2 == 0)
			without_rebuild();
		with_rebuild(projection, &loaded);
		if (round % 2 != 0)
			without_rebuild();
		quiet_rebuild(projection, &quiet);
	}
	check_parked(projection);
	killed_rebuild(projection);
	check_parked(projection);
	print_series(&built);
	print_series(&quiet);
	print_series(&loaded);
	print_gaps();
	run(db, "SELECT eduai.drop_projection('" PROJECTION "')");
}

int
main(void)
{
	const char *which = getenv("REDUCER");
	const char *mode = getenv("MODE"); /* async or inline; both without it */

	rounds = env_int("ROUNDS", 3);
	seconds = env_int("SECONDS", 30);
	events = env_int("EVENTS", 1000000);
	learners = env_int("LEARNERS", 10000);
	writers = env_int("WRITERS", 4);
	rate = env_int("RATE", 200);
	readers = env_int("READERS", 2);
	reads = env_int("READS", 200);
	in_c = which != NULL && strcmp(which, "c") == 0;
	if (seconds < 2 || writers < 1 || readers < 1 || rate < 1 || reads < 1 || learners < 1)
		fail("SECONDS is at least 2, the others at least 1");
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("command: make bench BENCH=projections_rebuild ROUNDS=%d SECONDS=%d EVENTS=%d "
		   "LEARNERS=%d WRITERS=%d RATE=%d READERS=%d READS=%d REDUCER=%s\n",
		   rounds, seconds, events, learners, writers, rate, readers, reads,
		   in_c ? "c" : "plpgsql");
	db = fold_test_mode(new_database(DATABASE), true);
	make_log();
	if (mode == NULL || strcmp(mode, "async") == 0)
		measure("async");
	if (mode == NULL || strcmp(mode, "inline") == 0)
		measure("inline");
	drop_database(fold_test_mode(db, false));
	return 0;
}
