/*
 * cache.h: what the parts of the search for stale values share.
 */
#ifndef SOAK_CACHE_H
#define SOAK_CACHE_H

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Session
{
	PGconn *conn;
	uint64_t random;
	int number;
	int redis; /* its socket, or 0 */
} Session;

typedef struct Counts
{
	atomic_long reads, hits, stale, transactions, writes, prepared, terminated, kills, pauses;
} Counts;

extern Counts counts;
extern atomic_bool stopping;
extern int aside_port;

extern void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
extern void nap_ms(int ms);
extern uint32_t random_below(Session *s, uint32_t n);
extern bool random_chance(Session *s, int percent);
extern bool session_open(Session *s);
extern PGresult *
session_ask(Session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern bool session_do(Session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One random transaction; false: it failed as it may, and must be rolled back. */
extern bool work_transaction(Session *s);

/* Ends what the session has prepared, or a session of its number before it. */
extern void work_settle(Session *s, bool commit);

/* A checked read through a Redis, or a write that deletes the key there. */
extern bool aside_read(Session *s);

#endif
