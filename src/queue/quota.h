/*
 * quota.h: how many tasks a tenant has that are not final, counted in shared
 * memory, uncommitted ones included, so that eduai.queue_max_size is exact at
 * any concurrency.
 *
 * A reservation belongs to the current subtransaction and is given back when
 * it aborts.  A release (the task became final) counts when the transaction
 * commits.
 */
#ifndef EDUAI_QUEUE_QUOTA_H
#define EDUAI_QUEUE_QUOTA_H

#include "postgres.h"

extern void eduai_queue_quota_init(void);

/*
 * Reserves n places; false when that would pass "limit" (0: no limit, always
 * true).  Call with SPI connected, as the owner: the first use of a tenant
 * after a server start counts its tasks.
 */
extern bool eduai_queue_quota_reserve(const char *tenant, int n, int limit);

/*
 * The tenant's tasks are counted if they were not since the server started:
 * before a transaction writes the first of their rows, which the count would
 * see changed and the transaction's end would count again.
 */
extern void eduai_queue_quota_know(const char *tenant);

/* n tasks of the tenant become final with this transaction. */
extern void eduai_queue_quota_release(const char *tenant, int n);

/* Settles what prepared transactions did that have ended meanwhile; for the sweep. */
extern void eduai_queue_quota_settle(void);

#endif
