/*
 * soak.h: what the threads of the soak share: options, random numbers, and
 * sessions that may lose their server at any time.
 */
#ifndef SOAK_H
#define SOAK_H

#include "ledger.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#define MAX_SESSIONS 256

typedef struct Options
{
	const char *program;
	const char *expected; /* SQLSTATEs besides those that every soak expects, or NULL */
	uint64_t seed;
	int64_t events; /* stop after as many were committed; 0: after seconds */
	int seconds;
	int writers;
	int pagers;
	int batch;    /* times as many events in a bulk call */
	int learners; /* percent of the events that are about a learner */
	int of;       /* as many */
	int subscriptions;
	bool kills;
	bool compact;
	bool subscribe; /* there are subscriptions to test */
} Options;

extern Options options;

/* Writers and the chaos stop. */
extern atomic_bool stopping;
/* Writers append by single statements only: no transaction is open for long. */
extern atomic_bool calm;
/* Writers wait: somebody is too far behind them. */
extern atomic_bool holding;
/* Nothing is written any more: readers stop once they have everything. */
extern atomic_bool closing;

/* Prints to stderr, with the seed, and ends the process with 2. */
extern void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
extern int64_t env_number(const char *name, int64_t otherwise);

/* ---- random numbers: one generator for each thread, all from the seed ---- */

typedef struct Random
{
	uint64_t state;
} Random;

extern Random random_of(int stream);
extern uint32_t random_below(Random *r, uint32_t n);
extern bool random_chance(Random *r, int percent);

extern void sleep_ms(int ms);

/* ---- text ---- */

typedef struct Text
{
	char *data;
	size_t length;
	size_t size;
} Text;

extern void text_clear(Text *text);
extern void text_add(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- sessions ---- */

typedef enum Outcome
{
	DONE,
	REFUSED, /* an error; the session goes on, and nothing of the statement is left */
	LOST     /* no answer came: the session is gone, what it asked for may have happened */
} Outcome;

typedef struct Session
{
	PGconn *db;
	int slot;          /* in backend_pids */
	const char *setup; /* run on each connection; may be NULL */
	char sqlstate[6];  /* of the last refusal */
	Random random;
} Session;

/* The backends that may be killed; 0 where there is none. */
extern _Atomic int backend_pids[MAX_SESSIONS];
extern _Atomic uint64_t connections_lost;

/* Not connected yet: the first statement does that. */
extern void session_init(Session *session, int slot);
/* Waits for a server that is down. */
extern void session_connect(Session *session);
extern void session_close(Session *session);
/*
 * One statement or several; the result, NULL unless DONE.  An SQLSTATE that no
 * application should meet here is a violation.
 */
extern PGresult *session_ask(Session *session, const char *sql, Outcome *outcome);
extern Outcome session_do(Session *session, const char *sql);
/* The first column of the first row as a number; waits and repeats until there is one. */
extern int64_t session_number(Session *session, const char *sql);

/* Prints how often each SQLSTATE was met. */
extern void report_refusals(void);

/* ---- the threads ---- */

extern void *writer_main(void *number); /* writer.c */
extern void *front_main(void *arg);     /* reader.c */
extern void *pager_main(void *number);  /* reader.c */
extern void *chaos_main(void *arg);     /* chaos.c */
extern void *compactor_main(void *arg); /* chaos.c */
extern void chaos_report(void);
extern int chaos_random_backend(Random *random);
/* Kills the postmaster, or shuts it down, and starts it again. */
extern bool chaos_kill_postmaster(void);
extern bool chaos_restart(Session *session);
extern uint64_t chaos_compactions(void);
/* reader.c: the open transaction's snapshot is taken, and ages up to as many milliseconds. */
extern void grow_old(Session *session, int ms);
extern void check_streams(void); /* reader.c: read_stream against the feed, at the end */

/* subscriber.c: creates them; starts a thread for each member; how many there are */
extern int subscribers_start(pthread_t *threads);
extern int run_idle(void); /* idle.c: the latency beside idle transactions */

/* reader.c: runs a read, and makes sightings of its rows; -1 unless DONE. */
extern int
read_events(Session *session, const char *sql, Sighting *seen, int room, Outcome *outcome);
#define EVENT_COLUMNS "\"position\", stream, version, event_type, data"
#define PAGE_ROOM     5000

/* writer.c: whom an event is about: 0 .. options.of - 1, or -1 for nobody. */
extern int learner_of(uint32_t event);
#define LEARNER_FORMAT "learner%u"

/* One event's data, as the writers make it and the readers take it apart. */
extern void
add_data(Text *text, uint32_t event, uint32_t txn, int writer, uint32_t number, uint32_t stream);

#endif
