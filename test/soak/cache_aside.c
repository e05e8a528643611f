/*
 * cache_aside.c: the usual way, for comparison: a Redis beside the database.
 * A reader looks there, else reads the table and sets the key; a writer deletes
 * the key once it has committed.  Kinder conditions than eduai's: autocommit
 * only, and a value is called stale only when the table said the same, and
 * another thing than Redis, before and after Redis was asked.
 */
#include "cache.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void
open_redis(Session *s)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t) aside_port)};

	inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
	s->redis = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(s->redis, (struct sockaddr *) &to, sizeof(to)) != 0)
		fail("no Redis at port %d", aside_port);
}

/* Sends a command and reads its answer, which ends in a line: "$N" has one more. */
static char *
command(Session *s, const char *text, char *answer, size_t size)
{
	size_t n = 0;
	char *line;

	if (s->redis == 0)
		open_redis(s);
	if (write(s->redis, text, strlen(text)) < 0)
		fail("Redis is gone");
	for (;;)
	{
		ssize_t got = read(s->redis, answer + n, size - 1 - n);

		if (got <= 0)
			fail("Redis is gone");
		n += (size_t) got;
		answer[n] = '\0';
		line = strstr(answer, "\r\n");
		if (line == NULL)
			continue;
		if (answer[0] != '$' || answer[1] == '-')
			return NULL;
		if (n < (size_t) (line + 2 - answer) + (size_t) atoi(answer + 1) + 2)
			continue;
		line[2 + atoi(answer + 1)] = '\0';
		return line + 2;
	}
}

static void
set_key(Session *s, int key, const char *value)
{
	char text[4096], answer[64];

	snprintf(text, sizeof(text), "*3\r\n$3\r\nSET\r\n$%d\r\nk%02d\r\n$%zu\r\n%s\r\n", 3, key,
			 strlen(value), value);
	command(s, text, answer, sizeof(answer));
}

static PGresult *
read_table(Session *s, int key)
{
	return session_ask(s, "SELECT jsonb_agg(v ORDER BY id) FROM stale.plain WHERE s = %d", key);
}

bool
aside_read(Session *s)
{
	int key = (int) random_below(s, 16);
	char text[64], answer[8192], *cached;
	PGresult *before, *after;

	if (random_chance(s, 10))
	{
		atomic_fetch_add(&counts.writes, 1);
		if (!session_do(s, "UPDATE stale.plain SET v = %u WHERE s = %d", random_below(s, 1000),
						key))
			return false;
		snprintf(text, sizeof(text), "*2\r\n$3\r\nDEL\r\n$3\r\nk%02d\r\n", key);
		command(s, text, answer, sizeof(answer));
		return true;
	}
	snprintf(text, sizeof(text), "*2\r\n$3\r\nGET\r\n$3\r\nk%02d\r\n", key);
	before = read_table(s, key);
	cached = command(s, text, answer, sizeof(answer));
	after = read_table(s, key);
	if (before == NULL || after == NULL)
		return false;
	atomic_fetch_add(&counts.reads, 1);
	if (cached == NULL)
		set_key(s, key, PQgetvalue(after, 0, 0));
	else
	{
		atomic_fetch_add(&counts.hits, 1);
		if (strcmp(PQgetvalue(before, 0, 0), PQgetvalue(after, 0, 0)) == 0 &&
			strcmp(cached, PQgetvalue(after, 0, 0)) != 0)
			atomic_fetch_add(&counts.stale, 1);
	}
	PQclear(before);
	PQclear(after);
	return true;
}
