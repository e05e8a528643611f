/*
 * cache_work.c: one random transaction of the search for stale values.
 */
#include "cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Queries of one parameter, a key below 16. */
static const char *const queries[] = {
	"SELECT id, v FROM stale.plain WHERE s = $1 ORDER BY id",
	"SELECT count(*) AS n, sum(v) AS v FROM stale.loose WHERE s >= $1",
	"SELECT id, v FROM stale.part WHERE s = $1 ORDER BY id",
	"SELECT count(*) AS n, sum(v) AS v FROM stale.part WHERE s <> $1",
	"SELECT v, w FROM stale.both WHERE s = $1 ORDER BY v, w",
	"SELECT p.v, c.v AS w FROM stale.plain p JOIN stale.parent c ON c.s = p.s WHERE p.s = $1 ORDER BY p.id",
};

#define NQUERIES (int) (sizeof(queries) / sizeof(queries[0]))

/* "query" with the column k for its parameter */
static void
with_key(const char *query, const char *key, char *out, size_t size)
{
	const char *at = strstr(query, "$1");

	snprintf(out, size, "%.*s%s%s", (int) (at - query), query, key, at + 2);
}

static void
count_reads(PGresult *result, const char *what)
{
	for (int i = 0; i < PQntuples(result); i++)
	{
		atomic_fetch_add(&counts.reads, 1);
		if (strcmp(PQgetvalue(result, i, 3), "t") == 0)
			atomic_fetch_add(&counts.hits, 1);
		if (strcmp(PQgetvalue(result, i, 0), "t") == 0)
			continue;
		atomic_fetch_add(&counts.stale, 1);
		fprintf(stderr, "stale: %s\n  cache: %s\n  table: %s\n", what, PQgetvalue(result, i, 1),
				PQgetvalue(result, i, 2));
	}
	PQclear(result);
}

/*
 * Several keys of one query.  A hit is known by the count of computations that
 * the session has made, which test_cache_computed() tells.
 */
static bool
read_cached(Session *s)
{
	const char *query = queries[random_below(s, NQUERIES)];
	char direct[512];
	PGresult *result;
	int from = (int) random_below(s, 16), to = from + (int) random_below(s, 8);

	with_key(query, "k.i", direct, sizeof(direct));
	result = session_ask(
		s,
		"SELECT cached = direct, cached, direct, before = eduai.test_cache_computed() FROM ("
		"SELECT eduai.test_cache_computed() AS before, eduai.cached_query($q$%s$q$, ARRAY[k.i::text]) "
		"AS cached, (SELECT coalesce(jsonb_agg(to_jsonb(q.*)), '[]') FROM (%s) q) AS direct "
		"FROM (SELECT i %% 16 AS i FROM generate_series(%d, %d) i) k OFFSET 0) x",
		query, direct, from, to);
	if (result == NULL)
		return false;
	count_reads(result, query);
	return true;
}

/* A value set by hand, tagged by the rows that it was made of. */
static bool
read_by_hand(Session *s)
{
	int key = (int) random_below(s, 16);
	PGresult *result = session_ask(
		s,
		"SELECT value IS NULL OR value = direct, value, direct, value IS NOT NULL FROM ("
		"SELECT eduai.cache_get('hand:%d') AS value, "
		"(SELECT coalesce(jsonb_agg(v ORDER BY id), '[]') FROM stale.plain WHERE s = %d)"
		" AS direct OFFSET 0) x",
		key, key);

	if (result == NULL)
		return false;
	count_reads(result, "by hand");
	return session_do(s,
					  "SELECT eduai.cache_set('hand:%d', coalesce(jsonb_agg(v ORDER BY id), '[]'), "
					  "'1 min', ARRAY['plain:%d']) FROM stale.plain WHERE s = %d",
					  key, key, key);
}

static bool
copy_rows(Session *s, const char *table)
{
	char rows[64];
	PGresult *result = session_ask(s, "COPY stale.%s (s, v) FROM STDIN", table);
	bool done;

	if (result == NULL)
		return false;
	PQclear(result);
	snprintf(rows, sizeof(rows), "%u\t%u\n", random_below(s, 8), random_below(s, 1000));
	PQputCopyData(s->conn, rows, (int) strlen(rows));
	PQputCopyEnd(s->conn, NULL);
	result = PQgetResult(s->conn);
	done = PQresultStatus(result) == PGRES_COMMAND_OK;
	while (result != NULL)
	{
		PQclear(result);
		result = PQgetResult(s->conn);
	}
	return done;
}

static bool
write_something(Session *s)
{
	static const char *const tables[] = {"plain", "loose", "part"};
	const char *table = tables[random_below(s, 3)];
	int key = (int) random_below(s, 16), value = (int) random_below(s, 1000);

	atomic_fetch_add(&counts.writes, 1);
	switch (random_below(s, 12))
	{
		case 0:
		case 1:
			return session_do(s, "INSERT INTO stale.%s (s, v) VALUES (%d, %d)", table, key, value);
		case 2:
		case 3:
			return session_do(s, "UPDATE stale.%s SET v = %d WHERE s = %d", table, value, key);
		case 4:
			return session_do(s, "UPDATE stale.%s SET s = %d WHERE s = %d AND v < %d", table,
							  (int) random_below(s, 16), key, value);
		case 5:
			return session_do(
				s,
				"DELETE FROM stale.%s WHERE id IN (SELECT id FROM stale.%s WHERE s = %d"
				" ORDER BY id LIMIT (SELECT greatest(count(*) - 3, 0) FROM stale.%s "
				"WHERE s = %d))",
				table, table, key, table, key);
		case 6:
			return session_do(s, "INSERT INTO stale.part_%s (s, v) VALUES (%d, %d)",
							  key < 8 ? "a" : "b", key, value);
		case 7:
			return session_do(s, "UPDATE stale.part_%s SET v = v + 1 WHERE s = %d",
							  key < 8 ? "a" : "b", key);
		case 8:
			return copy_rows(s, random_chance(s, 50) ? table : "part_a");
		case 9:
			return session_do(s, "DELETE FROM stale.parent WHERE s = %d", key) &&
				   session_do(s, "INSERT INTO stale.parent VALUES (%d, %d)", key, value) &&
				   session_do(s, "INSERT INTO stale.child VALUES (%d, %d)", key, value);
		case 10:
			if (!random_chance(s, 10))
				return session_do(s, "UPDATE stale.parent SET v = %d WHERE s = %d", value, key);
			return session_do(s, "TRUNCATE stale.%s", random_chance(s, 30) ? "part_b" : table);
		default:
			return session_do(s, "SET LOCAL track_counts = off") &&
				   session_do(s, "UPDATE stale.%s SET v = %d WHERE s = %d", table, value, key) &&
				   (random_chance(s, 50) || session_do(s, "SET LOCAL track_counts = on"));
	}
}

static bool
within_savepoint(Session *s)
{
	if (!session_do(s, "SAVEPOINT a") || !write_something(s) || !read_cached(s))
		return false;
	if (random_chance(s, 50))
		return session_do(s, "ROLLBACK TO a") && read_cached(s);
	return session_do(s, "RELEASE a");
}

/* Whatever happens: what is prepared holds locks. */
void
work_settle(Session *s, bool commit)
{
	for (;;)
	{
		PGresult *left;

		if (PQstatus(s->conn) != CONNECTION_OK)
			session_open(s);
		session_do(s, "ROLLBACK");
		left = session_ask(s, "SELECT 1 FROM pg_prepared_xacts WHERE gid = 'stale-%d'", s->number);
		if (left != NULL && PQntuples(left) == 0)
		{
			PQclear(left);
			return;
		}
		PQclear(left);
		session_do(s, "%s PREPARED 'stale-%d'", commit ? "COMMIT" : "ROLLBACK", s->number);
	}
}

static bool
end_transaction(Session *s)
{
	char name[32];
	bool done;

	if (random_chance(s, 15))
		return session_do(s, "ROLLBACK");
	if (!random_chance(s, 5))
		return session_do(s, "COMMIT");
	snprintf(name, sizeof(name), "stale-%d", s->number);
	if (!session_do(s, "PREPARE TRANSACTION '%s'", name))
		return false;
	atomic_fetch_add(&counts.prepared, 1);
	done = read_cached(s);
	work_settle(s, random_chance(s, 70));
	return done;
}

static bool
read_only(Session *s, const char *level)
{
	int n = 2 + (int) random_below(s, 6);

	if (!session_do(s, "BEGIN ISOLATION LEVEL %s", level))
		return false;
	for (int i = 0; i < n; i++)
	{
		if (!(random_chance(s, 85) ? read_cached(s) : read_by_hand(s)))
			return false;
		if (random_chance(s, 5))
			nap_ms(1);
	}
	return session_do(s, "COMMIT");
}

bool
work_transaction(Session *s)
{
	static const char *const levels[] = {"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"};
	uint32_t draw = random_below(s, 10);
	const char *level = levels[draw < 6 ? 0 : draw < 9 ? 1 : 2];
	int n = 1 + (int) random_below(s, 4);

	if (aside_port > 0)
		return aside_read(s);
	if (random_chance(s, 80))
		return read_only(s, level);
	if (!session_do(s, "BEGIN ISOLATION LEVEL %s", level))
		return false;
	for (int i = 0; i < n; i++)
	{
		bool done = random_chance(s, 40)   ? read_cached(s)
					: random_chance(s, 25) ? within_savepoint(s)
										   : write_something(s);

		if (!done)
			return false;
	}
	return end_transaction(s);
}
