/*
 * access_log.h: the access log: who read what about which learner.
 *
 * A read leaves a note in shared memory (access_ring.h) and goes on; the keeper
 * adds the notes to the tenants' chains (access_chain.h) in eduai.access_log.
 * What was noted and not yet chained when the server crashed is lost.
 */
#ifndef EDUAI_PRIVACY_ACCESS_LOG_H
#define EDUAI_PRIVACY_ACCESS_LOG_H

#include "postgres.h"
#include "core/lock.h"

extern bool eduai_privacy_access_log; /* the setting */

extern void eduai_privacy_access_log_init(void);
extern void eduai_privacy_access_drain_init(void);
extern void eduai_privacy_access_store_init(void);

/* Serialises whoever adds to or removes from the chains of this database. */
#define EDUAI_ACCESS_LOG_LOCK 0

/*
 * Removes a tenant's rows that were written before "before", at most "limit",
 * the oldest first, and adds the row that says so to the chain.  As the owner,
 * inside SPI.  Returns how many were removed.
 */
extern int64 eduai_privacy_access_prune(const char *tenant, TimestampTz before, int limit);

/* ---- the head outside: eduai.access_log_head ---- */

typedef struct EduaiAccessHead
{
	char *tenant;
	int64 seq;
	uint8 hash[32];
} EduaiAccessHead;

extern bool eduai_privacy_access_heads_kept(void);
/* The heads as the file has them, palloc'd; an empty list without one.  Raises when it cannot be read. */
extern EduaiAccessHead *eduai_privacy_access_heads_read(int *n);
/* Writes these over the file's, by tenant.  Raises. */
extern void eduai_privacy_access_heads_write(const EduaiAccessHead *heads, int n);
extern void eduai_privacy_access_heads_init(void);

#endif
