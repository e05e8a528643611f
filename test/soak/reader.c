/*
 * reader.c: readers of the feed and of streams.
 *
 * The front follows the end of the feed with fresh snapshots. Pagers read it
 * from position 0 again and again, with and without filters, some pages in one
 * old snapshot. All hand what they got to the ledger.
 */
#include "soak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t
data_number(const char *data, const char *key)
{
	const char *at = strstr(data, key);

	return at ? (uint32_t) strtoul(at + strlen(key), NULL, 10) : 0;
}

static int
type_number(const char *name)
{
	for (int i = 0; i < LEDGER_TYPES; i++)
		if (strcmp(name, ledger_type_names[i]) == 0)
			return i;
	return -1;
}

static Sighting
sighting_of(const PGresult *result, int row)
{
	const char *stream = PQgetvalue(result, row, 1);
	const char *data = PQgetvalue(result, row, 4);
	const char *intended = strstr(data, "\"s\": \"");
	Sighting s;

	s.position = atoll(PQgetvalue(result, row, 0));
	s.version = atoll(PQgetvalue(result, row, 2));
	s.type = type_number(PQgetvalue(result, row, 3));
	s.event = data_number(data, "\"e\": ");
	s.txn = data_number(data, "\"t\": ");
	s.writer = (int) data_number(data, "\"w\": ");
	if (!ledger_stream_number(stream, &s.stream) || intended == NULL ||
		strncmp(intended + 6, stream, strlen(stream)) != 0 || intended[6 + strlen(stream)] != '"')
		ledger_violation("an event of the stream \"%s\" at position %lld has the data %s", stream,
						 (long long) s.position, data);
	return s;
}

int
read_events(Session *session, const char *sql, Sighting *seen, int room, Outcome *outcome)
{
	PGresult *result = session_ask(session, sql, outcome);
	int n;

	if (*outcome != DONE)
		return -1;
	n = PQntuples(result);
	if (n > room)
		ledger_violation("%d rows where at most %d were asked for: %s", n, room, sql);
	for (int i = 0; i < n && i < room; i++)
		seen[i] = sighting_of(result, i);
	PQclear(result);
	return n;
}

/* A commit whose client is gone may still be under way; one that was acknowledged must come. */
static bool
nothing_left(int64_t empty_since)
{
	LedgerTotals totals = ledger_totals();
	int64_t quiet = ledger_clock() - empty_since;

	return quiet > (totals.seen >= totals.committed ? INT64_C(500000000) : INT64_C(20000000000));
}

void *
front_main(void *arg)
{
	const Reader reader = {"the reader at the front", 0, -1, -1, 0};
	Session session;
	Sighting *seen = malloc(sizeof(Sighting) * PAGE_ROOM);
	int64_t after = 0;
	int64_t empty_since = ledger_clock();
	char sql[200];

	(void) arg;
	session_init(&session, 170);
	while (!(closing && nothing_left(empty_since)))
	{
		Outcome outcome;
		int n;

		snprintf(sql, sizeof(sql), "SELECT " EVENT_COLUMNS " FROM eduai.read_all(%lld, 3000)",
				 (long long) after);
		n = read_events(&session, sql, seen, 3000, &outcome);
		if (n > 0)
		{
			ledger_page(&reader, after, seen, n, ledger_clock());
			after = seen[n - 1].position;
		}
		if (n != 0)
			empty_since = ledger_clock();
		if (n < 500)
			sleep_ms(3);
	}
	session_close(&session);
	free(seen);
	return NULL;
}

/* ---- pagers ---- */

static void
add_filter(Text *sql, Reader *reader, Random *random)
{
	uint32_t kind = random_below(random, 100);

	reader->types = 0;
	reader->category = -1;
	if (kind >= 70 && kind < 90)
	{
		reader->types = 1 + random_below(random, (1u << LEDGER_TYPES) - 1);
		text_add(sql, ", event_types => '{");
		for (int i = 0, n = 0; i < LEDGER_TYPES; i++)
			if (reader->types & (1u << i))
				text_add(sql, "%s%s", n++ > 0 ? "," : "", ledger_type_names[i]);
		text_add(sql, "}'");
	}
	if (kind >= 80)
	{
		reader->category = (int) random_below(random, LEDGER_CATEGORIES);
		text_add(sql, ", category => '%s'", ledger_category_names[reader->category]);
	}
}

/* All pages from position 0 on, or until the session or its snapshot is gone. */
static void
page_through(Session *session, Reader *reader, const char *filter, Sighting *seen, bool slowly)
{
	int64_t after = 0;
	char sql[400];

	while (!closing)
	{
		int size = 1 + (int) random_below(&session->random, PAGE_ROOM);
		int64_t started = ledger_clock();
		Outcome outcome;
		int n;

		snprintf(sql, sizeof(sql), "SELECT " EVENT_COLUMNS " FROM eduai.read_all(%lld, %d%s)",
				 (long long) after, size, filter);
		n = read_events(session, sql, seen, size, &outcome);
		if (n < 0)
			return;
		ledger_page(reader, after, seen, n, ledger_clock());
		if (n < size)
			return;
		after = seen[n - 1].position;
		/* a third of the time: writers have work to do, too */
		sleep_ms((int) ((ledger_clock() - started) / 500000) + (slowly ? 50 : 0));
	}
}

/* The stream as it is now: versions 1 to n. */
static int
read_stream(Session *session, uint32_t stream, Sighting *seen, bool to_end)
{
	char sql[200];
	char name[64];
	Outcome outcome;
	int all = 0;

	ledger_stream_name(stream, name, sizeof(name));
	while (true)
	{
		int n;

		/* position is NULL here, which reads as 0 */
		snprintf(sql, sizeof(sql), "SELECT " EVENT_COLUMNS " FROM eduai.read_stream('%s', %d, %d)",
				 name, all + 1, 1000);
		n = read_events(session, sql, seen + all, 1000, &outcome);
		if (n < 0)
			return -1;
		all += n;
		if (n < 1000 || !to_end || all > PAGE_ROOM * 20 - 1000)
			return all;
	}
}

void
grow_old(Session *session, int ms)
{
	if (session_do(session, "SELECT 1") == DONE)
		sleep_ms((int) random_below(&session->random, (uint32_t) ms));
}

void *
pager_main(void *number)
{
	static const char *const levels[] = {"REPEATABLE READ", "SERIALIZABLE, READ ONLY"};
	Session session;
	Sighting *seen = malloc(sizeof(Sighting) * PAGE_ROOM);
	Text filter = {0};
	Reader reader = {"a pager", 0, -1, -1, 0};
	char sql[100];

	session_init(&session, 150 + (int) (intptr_t) number);
	while (!closing)
	{
		bool old_snapshot = random_chance(&session.random, 40);
		uint32_t stream = random_below(&session.random, 2000);
		int n;

		text_clear(&filter);
		text_add(&filter, " ");
		add_filter(&filter, &reader, &session.random);
		reader.name = old_snapshot ? "a pager with one snapshot" : "a pager";
		snprintf(sql, sizeof(sql), "BEGIN ISOLATION LEVEL %s",
				 levels[random_below(&session.random, 2)]);
		if (old_snapshot && session_do(&session, sql) != DONE)
			continue;
		if (old_snapshot && random_chance(&session.random, 50))
			grow_old(&session, 3000);
		page_through(&session, &reader, filter.data, seen, random_chance(&session.random, 10));
		if (old_snapshot && session.db != NULL)
			session_do(&session, "ROLLBACK");
		n = read_stream(&session, stream, seen, false);
		if (n > 0)
			ledger_stream_page(stream, seen, n, ledger_clock());
		sleep_ms(20);
	}
	if (session.db != NULL)
		session_close(&session);
	free(seen);
	return NULL;
}

/* At the end, quiet: what read_stream gives is what the feed had. */
void
check_streams(void)
{
	Session session;
	Sighting *seen = malloc(sizeof(Sighting) * PAGE_ROOM * 20);
	int checked = 0;

	session_init(&session, MAX_SESSIONS - 2);
	for (int i = 0; i < 3000; i++)
	{
		uint32_t stream = i < 2200 ? (uint32_t) i : 4096 + random_below(&session.random, 1000000);
		int n = read_stream(&session, stream, seen, true);

		if (n < 0)
			fail("read_stream failed although nobody disturbs it");
		ledger_stream_page(stream, seen, n, ledger_clock());
		if (n <= PAGE_ROOM * 20 - 1000)
			ledger_stream_end(stream, n);
		checked++;
	}
	printf("read_stream agrees with the feed on %d streams\n", checked);
	session_close(&session);
	free(seen);
}
