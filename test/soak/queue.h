/*
 * queue.h: what the parts of the soak of the queue share.
 */
#ifndef SOAK_QUEUE_H
#define SOAK_QUEUE_H

#include "soak.h"

/* ---- the book of enqueues: queue_book.c ---- */

/*
 * Every call of enqueue has a number, which its payload carries, and a
 * fate that the client knows, or does not.
 */
typedef enum Fate
{
	FATE_NONE,
	FATE_OPEN,        /* its transaction has not ended */
	FATE_ROLLED_BACK, /* or refused: must not exist */
	FATE_COMMITTED,
	FATE_AMBIGUOUS /* no answer came to its COMMIT */
} Fate;

extern void book_init(void);
extern uint32_t book_new(void);
/* keyed: an existing task's id may have been returned, so there may be none with the number */
extern void book_set(uint32_t number, Fate fate, int64_t task_id, bool keyed);
extern uint32_t book_size(void);
extern void book_report(void);
/* Compares it with the tables; everything has ended. */
extern void book_check(Session *session);

/* ---- tenants ---- */

#define TENANTS 2
extern const char *const tenant_names[TENANTS];
/* Statements for session.setup, by tenant. */
extern const char *const tenant_setups[TENANTS];

/* ---- pools: queue_pools.c ---- */

#define POOL_APP    0 /* soak_app: its size changes */
#define POOL_SCALED 1 /* soak_scaled: grows and shrinks by itself */
#define POOL_CHAT   2 /* chat, the gateway's: its size changes */
#define POOLS       3

extern const char *const pool_types[POOLS];

/* Makes the pools and types. */
extern void pools_create(Session *session);
/* Gives a pool another size; again until the server has answered. */
extern void pools_change(Session *session, int pool, int size);
extern int pools_size(int pool);
/* Until closing: looks at the running tasks, all in one statement. */
extern void *sampler_main(void *arg);
extern uint64_t pools_samples(void);
/* Nothing runs: a full pool's worth can start, and not one more. */
extern void pools_check(Session *session);

/* ---- threads ---- */

extern void *enqueuer_main(void *number); /* queue_enqueue.c; until stopping */
extern void *worker_main(void *number);   /* queue_worker.c; until closing */
extern void *kills_main(void *arg);       /* queue_chaos.c; until stopping */
extern int kills_done(void);
extern void kills_report(void);
extern void workers_report(void);

#endif
