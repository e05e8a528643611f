/*
 * floor.c: see floor.h.
 */
#include "floor.h"

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS                                     \
	"  version bigint NOT NULL,\n"                  \
	"  recorded_at timestamptz NOT NULL,\n"         \
	"  occurred_at timestamptz NOT NULL,\n"         \
	"  event_id uuid NOT NULL,\n"                   \
	"  schema_version int NOT NULL DEFAULT 1,\n"    \
	"  id_given boolean NOT NULL DEFAULT false,\n"  \
	"  tenant_id text COLLATE \"C\" NOT NULL,\n"    \
	"  stream text COLLATE \"C\" NOT NULL,\n"       \
	"  event_type text COLLATE \"C\" NOT NULL,\n"   \
	"  user_id text COLLATE \"C\",\n"               \
	"  session_id text COLLATE \"C\",\n"            \
	"  data jsonb NOT NULL,\n"                      \
	"  metadata jsonb NOT NULL,\n"                  \
	"  PRIMARY KEY (tenant_id, stream, version),\n" \
	"  UNIQUE (event_id, tenant_id)\n"

static const char plain_event[] = "CREATE TABLE plain_event (\n" COLUMNS ")";
static const char plain_log[] =
	"CREATE TABLE plain_log (\n  \"position\" bigserial UNIQUE,\n" COLUMNS ")";

/* the columns in their order with all that makes a row cost what it does */
#define COLUMN_LIST                                                                           \
	"(SELECT string_agg(format('%%s %%s %%s %%s', attname, format_type(atttypid, atttypmod)," \
	" attcollation, attnotnull), ', ' ORDER BY attnum) FROM pg_attribute"                     \
	" WHERE attrelid = '%s'::regclass AND attnum > 0 AND NOT attisdropped)"

PGconn *
new_database(const char *name)
{
	PGconn *admin = connect_to("postgres");
	PGconn *db;
	char sql[256];

	run(admin, "SET client_min_messages = warning");
	snprintf(sql, sizeof(sql), "DROP DATABASE IF EXISTS %s WITH (FORCE)", name);
	run(admin, sql);
	snprintf(sql, sizeof(sql), "CREATE DATABASE %s", name);
	run(admin, sql);
	snprintf(sql, sizeof(sql), "ALTER SYSTEM SET eduai.database = %s", name);
	run(admin, sql);
	run(admin, "SELECT pg_reload_conf()");
	PQfinish(admin);
	setenv("PGDATABASE", name, 1);
	db = connect_db();
	run(db, "CREATE EXTENSION eduai");
	return db;
}

void
drop_database(PGconn *db)
{
	PGconn *admin = connect_to("postgres");
	char sql[256];

	run(admin, "ALTER SYSTEM RESET eduai.database");
	run(admin, "SELECT pg_reload_conf()");
	snprintf(sql, sizeof(sql), "DROP DATABASE %s WITH (FORCE)", PQdb(db));
	PQfinish(db);
	run(admin, sql);
	PQfinish(admin);
}

void
floor_create(PGconn *db)
{
	char sql[1024];
	char *difference;

	run(db, plain_event);
	snprintf(sql, sizeof(sql),
			 "SELECT 'eduai.event has ' || a || '; plain_event ' || b FROM (SELECT " COLUMN_LIST
			 " AS a, " COLUMN_LIST " AS b) AS c WHERE a <> b",
			 "eduai.event", "plain_event");
	difference = ask(db, sql);
	if (*difference != '\0')
		fail("the floor cannot be compared: %s", difference);
	free(difference);
}

void
floor_create_log(PGconn *db)
{
	run(db, plain_log);
}

void
floor_print(PGconn *db)
{
	char *indexes = ask(
		db,
		"SELECT string_agg(pg_get_indexdef(indexrelid), E'\\n  ' ORDER BY indexrelid)"
		" FROM pg_index WHERE indrelid = coalesce((SELECT inhrelid FROM pg_inherits"
		" WHERE inhparent = 'eduai.event'::regclass ORDER BY inhrelid LIMIT 1), 'eduai.event'::regclass)");

	printf("floor:\n%s;\n", plain_event);
	printf("a partition of eduai.event has\n  %s\n", indexes);
	free(indexes);
}

Versions *
new_versions(int streams)
{
	Versions *versions = shared_memory(sizeof(Versions) + sizeof(int32_t) * streams);

	versions->streams = streams;
	return versions;
}

int
next_version(Versions *versions, int stream)
{
	return __atomic_add_fetch(&versions->last[stream], 1, __ATOMIC_RELAXED);
}

void
stream_name(char *name, int stream)
{
	snprintf(name, NAME_SIZE, "bench-%07d", stream);
}

void
uuid7(char *id, uint64_t *random)
{
	uint64_t ms = wall_us() / 1000;
	uint64_t a = next_random(random);
	uint64_t b = next_random(random);

	snprintf(id, UUID_SIZE, "%08x-%04x-7%03x-%04x-%012llx", (unsigned) (ms >> 16),
			 (unsigned) (ms & 0xffff), (unsigned) (a & 0xfff),
			 (unsigned) (0x8000 | (a >> 16 & 0x3fff)), (unsigned long long) (b & 0xffffffffffff));
}

void
floor_insert(PGconn *db, const char *statement, Versions *versions, int stream, uint64_t *ids)
{
	char version[16];
	char id[UUID_SIZE];
	char name[NAME_SIZE];
	const char *values[5] = {version, id, name, EVENT_TYPE, EVENT_DATA};

	snprintf(version, sizeof(version), "%d", next_version(versions, stream));
	uuid7(id, ids);
	stream_name(name, stream);
	PQclear(execute(db, statement, 5, values));
}

void
append_to(PGconn *db, const char *statement, int stream)
{
	char name[NAME_SIZE];
	const char *values[3] = {name, EVENT_TYPE, EVENT_DATA};

	stream_name(name, stream);
	PQclear(execute(db, statement, 3, values));
}

int
copy_line(char *line, int stream, int version, uint64_t *random)
{
	char name[NAME_SIZE];
	char id[UUID_SIZE];

	stream_name(name, stream);
	uuid7(id, random);
	return snprintf(
		line, LINE_SIZE,
		"%d\t2026-01-01 12:00:00.123456+00\t2026-01-01 12:00:00.123456+00\t%s\t1\tf\t" TENANT
		"\t%s\t" EVENT_TYPE "\t\\N\t\\N\t" EVENT_DATA "\t{}\n",
		version, id, name);
}

CopyText
copy_text_begin(int rows)
{
	CopyText copy = {malloc((size_t) rows * LINE_SIZE), 0, 0};

	if (copy.text == NULL)
		fail("no memory for %d rows", rows);
	return copy;
}

void
copy_text_add(CopyText *copy, int stream, int version, uint64_t *random)
{
	copy->length += copy_line(copy->text + copy->length, stream, version, random);
	copy->rows++;
}

void
copy_in(PGconn *db, const char *table, const CopyText *copy)
{
	char sql[256];
	PGresult *result;

	snprintf(sql, sizeof(sql), "COPY %s (" FLOOR_COLUMNS ") FROM STDIN", table);
	result = PQexec(db, sql);
	if (PQresultStatus(result) != PGRES_COPY_IN)
		fail("%s", PQerrorMessage(db));
	PQclear(result);
	for (size_t at = 0; at < copy->length; at += 1 << 20)
	{
		size_t rest = copy->length - at;

		if (PQputCopyData(db, copy->text + at, rest < 1 << 20 ? rest : 1 << 20) != 1)
			fail("%s", PQerrorMessage(db));
	}
	if (PQputCopyEnd(db, NULL) != 1)
		fail("%s", PQerrorMessage(db));
	while ((result = PQgetResult(db)) != NULL)
	{
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			fail("%s", PQerrorMessage(db));
		PQclear(result);
	}
}

/* {"...","..."}: an array of n equal or numbered elements. */
static char *
text_array(int n, size_t element_size, void (*element)(char *to, int i, const int *numbers),
		   const int *numbers)
{
	char *array = malloc((size_t) n * (element_size + 1) + 3);
	char *at = array;

	*at++ = '{';
	for (int i = 0; i < n; i++)
	{
		element(at, i, numbers);
		at += strlen(at);
		*at++ = i < n - 1 ? ',' : '}';
	}
	*at = '\0';
	return array;
}

static void
put_stream(char *to, int i, const int *numbers)
{
	stream_name(to, numbers[0] + i % numbers[1]);
}

static void
put_type(char *to, int i, const int *numbers)
{
	(void) i;
	(void) numbers;
	strcpy(to, EVENT_TYPE);
}

static void
put_data(char *to, int i, const int *numbers)
{
	(void) i;
	(void) numbers;
	*to++ = '"';
	for (const char *from = EVENT_DATA; *from; from++)
	{
		if (*from == '"')
			*to++ = '\\';
		*to++ = *from;
	}
	strcpy(to, "\"");
}

BatchArgs
batch_args(int first, int streams, int n)
{
	int numbers[2] = {first, streams};

	return (BatchArgs){{text_array(n, NAME_SIZE, put_stream, numbers),
						text_array(n, sizeof(EVENT_TYPE), put_type, numbers),
						text_array(n, 2 * sizeof(EVENT_DATA), put_data, numbers)}};
}

void
free_batch_args(BatchArgs *args)
{
	for (int i = 0; i < 3; i++)
		free(args->values[i]);
}
