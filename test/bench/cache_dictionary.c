/*
 * cache_dictionary.c: how small values become with a dictionary of their kind,
 * beside zstd alone; and what packing costs.
 *
 * Learners' progress as JSON of 0.5 to 2 KB, DOCUMENTS of them (5000), put
 * twice into two kinds, of which one may train: the first time so that there
 * is something to train on, the second time packed with what came of it.  The
 * ratio is of the bytes that were set to those that are stored (cache_stats),
 * the one of memory counts whole blocks with their headers and keys, too.
 */
#include "bench.h"
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static PGconn *db;

static void
put(const char *kind, int documents)
{
	char sql[512];

	snprintf(
		sql, sizeof(sql),
		"SELECT count(eduai.cache_set('%s:' || i, document, '1 day', kind => '%s')) FROM document"
		" WHERE i <= %d",
		kind, kind, documents);
	run(db, sql);
}

static double
number(const char *sql)
{
	char *text = ask(db, sql);
	double n = atof(text);

	free(text);
	return n;
}

static void
await_dictionary(void)
{
	for (int i = 0; i < 1000; i++)
	{
		if (ask_int(db, "SELECT dictionaries FROM eduai.cache_memory()") > 0)
			return;
		usleep(20000);
	}
	fail("there is no dictionary");
}

static void
print_kind(const char *what, const char *kind)
{
	char sql[256];
	double packed;
	double memory;

	snprintf(sql, sizeof(sql),
			 "SELECT raw_bytes::float8 / packed_bytes FROM eduai.cache_stats WHERE kind = '%s'",
			 kind);
	packed = number(sql);
	snprintf(sql, sizeof(sql),
			 "SELECT raw_bytes::float8 / bytes FROM eduai.cache_stats WHERE kind = '%s'", kind);
	memory = number(sql);
	printf("%s: %.2f to 1, of memory %.2f to 1\n", what, packed, memory);
}

static double
time_gets(const char *kind)
{
	char sql[256];
	int64_t start = wall_us();

	snprintf(sql, sizeof(sql), "SELECT count(eduai.cache_get('%s:' || i)) FROM document", kind);
	run(db, sql);
	return (double) (wall_us() - start);
}

int
main(void)
{
	int documents = env_int("DOCUMENTS", 5000);
	int rounds = env_int("ROUNDS", 7);
	Series with = new_series("a get with a dictionary", "%.2f us", rounds);
	Series without = new_series("a get without", "%.2f us", rounds);
	char sql[2048];

	db = connect_db();
	snprintf(
		sql, sizeof(sql),
		"CREATE TABLE document AS SELECT i, jsonb_build_object('user_id', 'student-' || i,"
		" 'current_level', (random() * 9)::int, 'total_time_spent', (random() * 90000)::int,"
		" 'last_activity', timestamptz '2026-03-01' + random() * interval '90 days',"
		" 'emotion_patterns', jsonb_build_object('calm', (random() * 50)::int, 'frustrated', (random() * 50)::int),"
		" 'skills', (SELECT jsonb_object_agg('skill_' || s, jsonb_build_object('mastery', round(random()::numeric, 3),"
		" 'attempts', (random() * 40)::int, 'correct', (random() * 20)::int))"
		" FROM generate_series(1, 4 + i %% 21) s)) AS document FROM generate_series(1, %d) i",
		documents);
	run(db, "SELECT setseed(0.5)");
	run(db, sql);
	run(db, "SELECT eduai.define_cache_kind('bench_dictionary', '1 day', 1000000)");
	run(db, "SELECT eduai.define_cache_kind('bench_plain', '1 day', 1000000, train => false)");
	put("bench_dictionary", 1000);
	await_dictionary();
	put("bench_dictionary", documents);
	put("bench_dictionary", documents);
	put("bench_plain", documents);
	printf("%d documents of %.0f to %.0f bytes of JSON, %.0f on average\n", documents,
		   number("SELECT min(length(document::text)) FROM document"),
		   number("SELECT max(length(document::text)) FROM document"),
		   number("SELECT avg(length(document::text)) FROM document"));
	print_kind("zstd alone", "bench_plain");
	print_kind("zstd with a dictionary", "bench_dictionary");
	for (int i = 0; i < rounds; i++)
	{
		add_figure(&with, time_gets("bench_dictionary") / documents);
		add_figure(&without, time_gets("bench_plain") / documents);
	}
	print_series(&with);
	print_series(&without);
	run(db, "DROP TABLE document");
	run(db, "SELECT eduai.cache_clear()");
	run(db, "DELETE FROM eduai.cache_kind WHERE name IN ('bench_dictionary', 'bench_plain')");
	PQfinish(db);
	return 0;
}
