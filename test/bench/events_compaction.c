/*
 * events_compaction.c: what compaction saves, and what a read of compacted
 * events costs.
 *
 * For each data set, in a database of its own:
 *   bytes	 per event of every table and index, before and after; the first
 *			 without dead rows, the others as a run of one segment after another
 *			 with VACUUM between them leaves them;
 *   reads	 of one stream, chosen at random, from a copy of the database that
 *			 was not compacted (hot) and from the compacted one (block), in
 *			 turn, through read_stream() from this client.  No cache of decoded
 *			 blocks serves these; both copies are in shared buffers;
 *   replay	 with read_all() in pages of 1,000 and of 10, hot and compacted in
 *			 turn: microseconds an event, from a new connection each time.
 *
 * Data sets: "mix", made here: sessions of learners at the same time, a
 * transaction an event, all kinds of types; oulad and algebra05, from the
 * directory EDUAI_DATA (../shared/data), imported in order of time in
 * transactions of 2,000 events, with their own occurred_at.
 *
 *   EVENTS=200000	of the mix
 *   READS=2000		pairs of reads in a round
 *   REPLAY=100000	events of a replay in pages of 1,000; a tenth in pages of 10
 *   SETS="mix oulad algebra05"
 */
#include "bench.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rounds;
static int reads;
static int replay;

static PGconn *
connect_to(const char *database)
{
	setenv("PGDATABASE", database, 1);
	return connect_db();
}

static void
runf(PGconn *db, const char *format, ...)
{
	char sql[8192];
	va_list args;

	va_start(args, format);
	vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	run(db, sql);
}

/* ---- the data sets ---- */

#define WORDS                                                                                      \
	"{time,number,because,half,whole,triangle,answer,first,second,equal,more,less,think,square,"   \
	"divide,multiply,share,part,group,line,angle,sum,again,wrong,right,maybe,picture,table,graph," \
	"unit,meter,hour,minute,coin,price,change,count,order,large,small}"

static const char *const mix_functions[] = {
	"CREATE FUNCTION words(n int) RETURNS text LANGUAGE sql AS $$"
	" SELECT string_agg(('" WORDS "'::text[])[1 + floor(random() * 40)::int], ' ')"
	" FROM generate_series(1, n) $$",

	"CREATE FUNCTION mix_data(kind int) RETURNS jsonb LANGUAGE sql AS $$ SELECT CASE"
	" WHEN kind < 30 THEN jsonb_build_object('content_id', 'unit-' || floor(random() * 40) || "
	"'-page-' || floor(random() * 12), 'content_type', ('{page,video,quiz}'::text[])[1 + "
	"floor(random() * 3)::int], 'time_spent', round((random() * 300)::numeric, 1))"
	" WHEN kind < 75 THEN jsonb_build_object('skill_name', 'skill-' || floor(random() * 60), "
	"'item', 'item-' || floor(random() * 3000), 'answer', words(1 + floor(random() * 3)::int),"
	" 'score', round(random()::numeric, 2), 'correct', random() < 0.7, 'attempts', "
	"1 + floor(random() * 3)::int, 'time_efficiency', round((0.5 + random())::numeric, 3))"
	" WHEN kind < 80 THEN jsonb_build_object('content_id', 'unit-' || floor(random() * 40), "
	"'course_id', 'math-' || floor(random() * 8))"
	" WHEN kind < 86 THEN jsonb_build_object('task_id', floor(random() * 1e6)::int, 'task_type', "
	"'chat', 'state', 'completed', 'instance', 'main-' || floor(random() * 3), 'finish_reason', "
	"'stop')"
	" WHEN kind < 90 THEN jsonb_build_object('emotion', ('{joy,frustration,boredom,confusion}'::"
	"text[])[1 + floor(random() * 4)::int], 'confidence', round(random()::numeric, 3), 'context', "
	"words(4))"
	" WHEN kind < 96 THEN jsonb_build_object('interaction_type', ('{click,drag,hint,help}'::text[])"
	"[1 + floor(random() * 4)::int], 'content', jsonb_build_object('x', floor(random() * 1200)::int,"
	" 'y', floor(random() * 800)::int, 'target', 'button-' || floor(random() * 20)))"
	" WHEN kind < 98 THEN jsonb_build_object('skill_name', 'skill-' || floor(random() * 60), "
	"'score', round(random()::numeric, 2), 'attempts', floor(random() * 20)::int)"
	" WHEN kind < 99 THEN jsonb_build_object('old_level', floor(random() * 5)::int, 'new_level', "
	"floor(random() * 5)::int, 'reason', 'performance')"
	" ELSE jsonb_build_object('prompt', 'How did you find the answer?', 'response', words(12)) END "
	"$$",

	"CREATE FUNCTION mix_type(kind int) RETURNS text LANGUAGE sql AS $$ SELECT CASE"
	" WHEN kind < 30 THEN 'content_viewed' WHEN kind < 60 THEN 'exercise_attempted'"
	" WHEN kind < 75 THEN 'exercise_completed' WHEN kind < 80 THEN 'learning_started'"
	" WHEN kind < 86 THEN 'ai_feedback_given' WHEN kind < 90 THEN 'emotion_detected'"
	" WHEN kind < 96 THEN 'interaction_recorded' WHEN kind < 98 THEN 'skill_mastered'"
	" WHEN kind < 99 THEN 'difficulty_adjusted' ELSE 'metacognition_triggered' END $$",

	/* 200 sessions at a time; a learner comes back now and then, some often */
	"CREATE PROCEDURE mix(events int, learners int) LANGUAGE plpgsql AS $$ DECLARE"
	" who text[]; session text[]; i int; kind int; BEGIN"
	" FOR n IN 1 .. events LOOP"
	"  i := 1 + floor(random() * 200);"
	"  IF who[i] IS NULL OR random() < 0.1 THEN"
	"   who[i] := 10000 + floor(learners * random() * random())::int;"
	"   session[i] := gen_random_uuid(); END IF;"
	"  kind := floor(random() * 100);"
	"  PERFORM eduai.append_event('learner-' || who[i], mix_type(kind), mix_data(kind),"
	"   user_id => who[i], session_id => session[i]);"
	"  COMMIT; END LOOP; END $$",
};

static bool
load_mix(PGconn *db)
{
	int events = env_int("EVENTS", 200000);

	for (size_t i = 0; i < sizeof(mix_functions) / sizeof(mix_functions[0]); i++)
		run(db, mix_functions[i]);
	run(db, "SET synchronous_commit = off");
	run(db, "SELECT setseed(0.5)");
	runf(db, "CALL mix(%d, %d)", events, events / 8);
	return true;
}

/* The lines of a compressed file into a table. */
static void
copy_file(PGconn *db, const char *path, const char *copy)
{
	char command[1200];
	char line[4096];
	FILE *in;
	PGresult *result = PQexec(db, copy);

	if (PQresultStatus(result) != PGRES_COPY_IN)
		fail("%s", PQerrorMessage(db));
	PQclear(result);
	snprintf(command, sizeof(command), "gzip -dcf '%s'", path);
	in = popen(command, "r");
	if (in == NULL)
		fail("cannot run %s", command);
	while (fgets(line, sizeof(line), in) != NULL)
		if (PQputCopyData(db, line, (int) strlen(line)) != 1)
			fail("%s", PQerrorMessage(db));
	if (pclose(in) != 0 || PQputCopyEnd(db, NULL) != 1)
		fail("could not load %s", path);
	result = PQgetResult(db);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fail("%s", PQerrorMessage(db));
	PQclear(result);
	while ((result = PQgetResult(db)) != NULL)
		PQclear(result);
}

static const char *
data_file(const char *name)
{
	static char path[1024];
	const char *directory = getenv("EDUAI_DATA");

	snprintf(path, sizeof(path), "%s/%s", directory ? directory : "../shared/data", name);
	return access(path, R_OK) == 0 ? path : NULL;
}

/* Appends a table of (stream, type, data, user_id, at) in order of time. */
static void
append_rows(PGconn *db)
{
	run(db,
		"CREATE PROCEDURE import() LANGUAGE plpgsql AS $$ DECLARE last int; BEGIN"
		" SELECT max(n) INTO last FROM import_row;"
		" FOR i IN 0 .. last / 2000 LOOP"
		"  PERFORM eduai.append_batch(array_agg(stream ORDER BY n), array_agg(type ORDER BY n),"
		"   array_agg(data ORDER BY n), array_agg(user_id ORDER BY n), NULL, NULL,"
		"   array_agg(at ORDER BY n)) FROM import_row WHERE n BETWEEN i * 2000 + 1 AND i * 2000 "
		"+ 2000;"
		"  COMMIT; END LOOP; END $$");
	run(db, "SET synchronous_commit = off");
	run(db, "CALL import()");
	run(db, "DROP TABLE import_row");
}

static bool
load_oulad(PGconn *db)
{
	const char *path = data_file("oulad/studentAssessment.csv.gz");

	if (path == NULL)
		return false;
	run(db, "CREATE TABLE answer (a int, s int, day int, banked int, score numeric)");
	copy_file(db, path, "COPY answer FROM STDIN (FORMAT csv, HEADER)");
	run(db, "CREATE TABLE assessment (m text, p text, a int, t text, day text, weight text)");
	copy_file(db, data_file("oulad/assessments.csv"),
			  "COPY assessment FROM STDIN (FORMAT csv, HEADER)");
	run(db,
		"CREATE TABLE import_row AS SELECT row_number() OVER (ORDER BY x.day, x.s, x.a)::int AS n,"
		" 'learner-' || x.s AS stream, 'exercise_completed' AS type, x.s::text AS user_id,"
		" jsonb_strip_nulls(jsonb_build_object('skill_name', y.m, 'item', x.a::text, 'score', "
		"x.score / 100, 'correct', x.score >= 40)) AS data,"
		" '2014-10-01Z'::timestamptz + x.day * interval '1 day' AS at"
		" FROM answer x JOIN assessment y USING (a)");
	run(db, "CREATE INDEX ON import_row (n)");
	append_rows(db);
	return true;
}

static bool
load_algebra(PGconn *db)
{
	const char *path = data_file("algebra05/attempts.tsv.gz");

	if (path == NULL)
		return false;
	run(db, "CREATE TABLE attempt (u int, item int, at bigint, correct int, skill int)");
	copy_file(db, path, "COPY attempt FROM STDIN (FORMAT csv, HEADER, DELIMITER E'\\t')");
	run(db, "CREATE TABLE import_row AS SELECT row_number() OVER (ORDER BY at, u, item)::int AS n,"
			" 'learner-' || u AS stream, 'exercise_attempted' AS type, u::text AS user_id,"
			" jsonb_build_object('skill_name', 'skill-' || skill, 'item', item::text, 'correct', "
			"correct = 1) AS data,"
			" '2005-09-01Z'::timestamptz + at * interval '1 second' AS at FROM attempt");
	run(db, "CREATE INDEX ON import_row (n)");
	append_rows(db);
	return true;
}

/* ---- bytes ---- */

#define RELATIONS                                                                              \
	"SELECT CASE WHEN c.relname ~ '^event_p' THEN 'event (hot)' || regexp_replace(c.relname, " \
	"'^event_p[0-9_]*[0-9]', '') WHEN t.oid IS NOT NULL THEN t.relname || ' toast' ELSE "      \
	"c.relname::text END, sum(pg_relation_size(c.oid) + pg_relation_size(c.oid, 'fsm') + "     \
	"pg_relation_size(c.oid, 'vm'))"                                                           \
	" FROM pg_class c LEFT JOIN pg_class t ON t.reltoastrelid = c.oid"                         \
	" WHERE c.relkind IN ('r', 'i', 't') AND (c.relname ~ '^event_(p[0-9]|order|block|stream|" \
	"dictionary|seen)' AND c.relnamespace = 'eduai'::regnamespace OR t.relname ~ "             \
	"'^event_(p[0-9]|order|block|stream|dictionary|seen)')"                                    \
	" GROUP BY 1 HAVING sum(pg_relation_size(c.oid)) > 0 ORDER BY 2 DESC"

/* Prints and adds up the tables of either side; their bytes per event. */
static double
report_bytes(PGconn *db, int64_t events, bool hot)
{
	PGresult *result = PQexec(db, RELATIONS);
	double total = 0;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail("%s", PQerrorMessage(db));
	for (int i = 0; i < PQntuples(result); i++)
	{
		const char *name = PQgetvalue(result, i, 0);
		double bytes = atof(PQgetvalue(result, i, 1));
		bool is_hot =
			strncmp(name, "event (hot)", 11) == 0 || strncmp(name, "event_order", 11) == 0;

		if (is_hot != hot)
			continue;
		printf("    %-30s %8.2f bytes an event\n", name, bytes / events);
		total += bytes;
	}
	PQclear(result);
	printf("    %-30s %8.2f bytes an event\n", "total", total / events);
	return total / events;
}

static void
compact(PGconn *db)
{
	PGresult *steps = PQexec(
		db, "SELECT recorded_at FROM (SELECT recorded_at, row_number() OVER (ORDER BY recorded_at) "
			"AS n FROM eduai.event) AS e WHERE n % 131072 = 0 ORDER BY n");
	int64_t start = wall_us();
	int64_t moved;

	for (int i = 0; i < PQntuples(steps); i++)
	{
		runf(db, "SELECT eduai.compact_events(clock_timestamp() - '%s'::timestamptz)",
			 PQgetvalue(steps, i, 0));
		run(db, "VACUUM eduai.event_stream");
	}
	PQclear(steps);
	run(db, "SELECT eduai.compact_events('0')");
	moved = ask_int(db, "SELECT compacted_events FROM eduai.event_storage");
	printf("  compacted %lld events a second\n",
		   (long long) (moved * 1000000.0 / (wall_us() - start)));
}

/* ---- reads ---- */

static double
read_ms(PGconn *db, const char *stream, char **rows)
{
	const char *values[1] = {stream};
	int64_t start = wall_us();
	PGresult *result = PQexecPrepared(db, "read", 1, values, NULL, NULL, 0);
	double ms = (wall_us() - start) / 1000.0;

	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) == 0)
		fail("could not read %s: %s", stream, PQerrorMessage(db));
	*rows = strdup(PQgetvalue(result, PQntuples(result) - 1, 7));
	if (PQntuples(result) > 1)
	{
		free(*rows);
		*rows = strdup(PQgetvalue(result, PQntuples(result) / 2, 7));
	}
	PQclear(result);
	return ms;
}

static void
prepare_read(PGconn *db)
{
	PQclear(PQprepare(db, "read", "SELECT * FROM eduai.read_stream($1)", 1, NULL));
}

static void
report_reads(PGconn *hot, PGconn *block)
{
	PGresult *streams = PQexec(hot, "SELECT stream FROM eduai.event GROUP BY stream");
	int n = PQntuples(streams);
	double *hot_ms = malloc(sizeof(double) * reads);
	double *block_ms = malloc(sizeof(double) * reads);
	double *ratios = malloc(sizeof(double) * rounds);
	char *one;
	char *other;

	prepare_read(hot);
	prepare_read(block);
	srandom(1);
	for (int i = 0; i < n; i++) /* once through all: into memory */
	{
		read_ms(hot, PQgetvalue(streams, i, 0), &one);
		read_ms(block, PQgetvalue(streams, i, 0), &other);
		if (strcmp(one, other) != 0)
			fail("stream %s reads differently", PQgetvalue(streams, i, 0));
		free(one);
		free(other);
	}
	for (int round = 0; round < rounds; round++)
	{
		double h;
		double b;

		for (int i = 0; i < reads; i++)
		{
			const char *stream = PQgetvalue(streams, (int) (random() % n), 0);

			hot_ms[i] = read_ms(hot, stream, &one);
			block_ms[i] = read_ms(block, stream, &other);
			free(one);
			free(other);
		}
		h = median(hot_ms, reads);
		b = median(block_ms, reads);
		ratios[round] = b / h;
		printf("    round %d: hot p50 %.3f p99 %.3f ms, block p50 %.3f p99 %.3f ms, %.2f times\n",
			   round + 1, h, percentile(hot_ms, reads, 0.99), b, percentile(block_ms, reads, 0.99),
			   b / h);
	}
	printf("  point reads from blocks: %.2f times a hot one (median of %d rounds), %d streams\n",
		   median(ratios, rounds), rounds, n);
	PQclear(streams);
}

/* ---- replay ---- */

/* Microseconds an event of reading the first events in pages, from the client. */
static double
replay_us(const char *database, int64_t events, int page)
{
	PGconn *db = connect_to(database);
	char position[32] = "0";
	char size[32];
	const char *values[2] = {position, size};
	int64_t read = 0;
	int64_t start;
	int got = page;

	snprintf(size, sizeof(size), "%d", page);
	PQclear(PQprepare(db, "page", "SELECT * FROM eduai.read_all($1, $2)", 2, NULL));
	start = wall_us();
	while (read < events && got == page)
	{
		PGresult *result = PQexecPrepared(db, "page", 2, values, NULL, NULL, 0);

		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			fail("could not read: %s", PQerrorMessage(db));
		got = PQntuples(result);
		read += got;
		if (got > 0)
			snprintf(position, sizeof(position), "%s", PQgetvalue(result, got - 1, 0));
		PQclear(result);
	}
	PQfinish(db);
	return (double) (wall_us() - start) / (double) read;
}

static void
report_replay(const char *hot, const char *block, int page, int64_t events)
{
	double *ratios = malloc(sizeof(double) * rounds);
	double *hot_us = malloc(sizeof(double) * rounds);
	double *block_us = malloc(sizeof(double) * rounds);

	for (int round = 0; round < rounds; round++)
	{
		hot_us[round] = replay_us(hot, events, page);
		block_us[round] = replay_us(block, events, page);
		ratios[round] = block_us[round] / hot_us[round];
	}
	printf("  replay of %lld events in pages of %d: hot %.2f, compacted %.2f us an event, %.2f "
		   "times (medians of %d rounds)\n",
		   (long long) events, page, median(hot_us, rounds), median(block_us, rounds),
		   median(ratios, rounds), rounds);
	free(ratios);
	free(hot_us);
	free(block_us);
}

/* ---- a data set ---- */

static void
measure(const char *name, bool (*load)(PGconn *db))
{
	char hot_name[64];
	PGconn *admin;
	PGconn *hot;
	PGconn *block;
	int64_t events;
	double before;
	double after;

	snprintf(hot_name, sizeof(hot_name), "%s_hot", name);
	admin = connect_to("postgres");
	runf(admin, "CREATE DATABASE %s", name);
	block = connect_to(name);
	run(block, "CREATE EXTENSION eduai");
	printf("%s:\n", name);
	if (!load(block))
	{
		printf("  skipped: its files are not in %s\n",
			   getenv("EDUAI_DATA") ? getenv("EDUAI_DATA") : "../shared/data");
		PQfinish(block);
		runf(admin, "DROP DATABASE %s", name);
		PQfinish(admin);
		return;
	}
	events = ask_int(block, "SELECT count(*) FROM eduai.event");
	run(block, "VACUUM ANALYZE");
	printf("  %lld events in %lld streams, hot:\n", (long long) events,
		   (long long) ask_int(block, "SELECT count(DISTINCT stream) FROM eduai.event"));
	before = report_bytes(block, events, true);
	PQfinish(block);
	runf(admin, "CREATE DATABASE %s TEMPLATE %s", hot_name, name);
	hot = connect_to(hot_name);
	block = connect_to(name);
	compact(block);
	run(block, "VACUUM ANALYZE");
	printf("  compacted:\n");
	after = report_bytes(block, events, false);
	printf("  ratio %.1f\n", before / after);
	report_reads(hot, block);
	PQfinish(hot);
	PQfinish(block);
	report_replay(hot_name, name, 1000, replay < events ? replay : events);
	report_replay(hot_name, name, 10, replay / 10);
	runf(admin, "DROP DATABASE %s", name);
	runf(admin, "DROP DATABASE %s", hot_name);
	PQfinish(admin);
}

static bool
wanted(const char *name)
{
	const char *sets = getenv("SETS");

	return sets == NULL || strstr(sets, name) != NULL;
}

int
main(void)
{
	rounds = env_int("ROUNDS", 5);
	reads = env_int("READS", 2000);
	replay = env_int("REPLAY", 100000);
	if (wanted("mix"))
		measure("mix", load_mix);
	if (wanted("oulad"))
		measure("oulad", load_oulad);
	if (wanted("algebra05"))
		measure("algebra05", load_algebra);
	return 0;
}
