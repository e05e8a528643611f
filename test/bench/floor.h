/*
 * floor.h: the plain table that the log is measured beside, and the events
 * that both are given.
 *
 * The floor has the columns of eduai.event and the unique indexes of one of
 * its partitions, and its clients pay for nothing else: they know the next
 * version of every stream from a counter in memory, and make the ids, UUIDv7
 * as eduai's, so that both sides' ids grow with time.
 */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include "load.h"

#define EVENT_TYPE "exercise_completed"
#define EVENT_DATA \
	"{\"skill_name\": \"fractions\", \"item\": \"f-12\", \"score\": 0.9, \"correct\": true, \"time_spent\": 42}"
#define TENANT "default"

#define NAME_SIZE 32
#define UUID_SIZE 37
/* bytes enough for one line of COPY */
#define LINE_SIZE 512

/*
 * A new database with the extension, served by eduai's workers and by default
 * this program's: benchmarks that run one after the other meet empty logs.
 */
extern PGconn *new_database(const char *name);
extern void drop_database(PGconn *db);

/* Makes plain_event in the database; fails when its columns are not eduai.event's. */
extern void floor_create(PGconn *db);
/* The same with "position" bigserial PRIMARY KEY in front. */
extern void floor_create_log(PGconn *db);
/* The floor's DDL, and the definitions of a partition's indexes beside it. */
extern void floor_print(PGconn *db);

/* The next version of each stream, counted from 1, shared by all clients. */
typedef struct Versions
{
	int streams;
	int32_t last[];
} Versions;

extern Versions *new_versions(int streams);
extern int next_version(Versions *versions, int stream);

extern void stream_name(char *name, int stream);
extern void uuid7(char *id, uint64_t *random);

/* Inserts an event of the stream by a statement prepared from FLOOR_INSERT. */
extern void
floor_insert(PGconn *db, const char *statement, Versions *versions, int stream, uint64_t *ids);
#define FLOOR_INSERT                                                                           \
	"INSERT INTO plain_event (version, recorded_at, occurred_at, event_id, tenant_id, stream," \
	" event_type, data, metadata)"                                                             \
	" VALUES ($1, now(), now(), $2, '" TENANT "', $3, $4, $5, '{}')"

/* Appends an event of the stream by a statement of three parameters. */
extern void append_to(PGconn *db, const char *statement, int stream);
#define APPEND_FROM "SELECT * FROM eduai.append_event($1, $2, $3)"

/* Writes one line of COPY ... (FLOOR_COLUMNS) FROM STDIN; returns its length. */
extern int copy_line(char *line, int stream, int version, uint64_t *random);
#define FLOOR_COLUMNS                                                                            \
	"version, recorded_at, occurred_at, event_id, schema_version, id_given, tenant_id, stream, " \
	"event_type, user_id, session_id, data, metadata"

/* Text for COPY, made ahead. */
typedef struct CopyText
{
	char *text;
	size_t length;
	int rows;
} CopyText;

extern CopyText copy_text_begin(int rows);
extern void copy_text_add(CopyText *copy, int stream, int version, uint64_t *random);
/* One COPY, one commit; table is plain_event or plain_log. */
extern void copy_in(PGconn *db, const char *table, const CopyText *copy);

/*
 * The arguments of append_batch(streams, event_types, data) for n events:
 * event i belongs to stream first + i % streams.
 */
typedef struct BatchArgs
{
	char *values[3];
} BatchArgs;

extern BatchArgs batch_args(int first, int streams, int n);
extern void free_batch_args(BatchArgs *args);
#define APPEND_BATCH "SELECT eduai.append_batch($1, $2, $3)"

#endif
