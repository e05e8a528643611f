/*
 * quota_prepared.h: what prepared transactions did to tenants' task counts.
 *
 * A prepared transaction ends in another session, whom nothing tells.  What it
 * reserved and released is kept here until somebody finds that it has ended.
 */
#ifndef EDUAI_QUEUE_QUOTA_PREPARED_H
#define EDUAI_QUEUE_QUOTA_PREPARED_H

#include "postgres.h"

extern void eduai_queue_prepared_init(void);

/* From the prepare callback: never raises.  False when there is no room to remember. */
extern bool eduai_queue_prepared_note(TransactionId xid, int place, int64 reserved, int64 released);

/* Calls apply(place, change) for what has ended in this database since. */
extern void eduai_queue_prepared_settle(void (*apply)(int place, int64 change));

/*
 * The tenant's rows in task_live with those of transactions in progress, which
 * are noted: for the first count after a server start, when only prepared ones
 * can be.
 */
extern int64 eduai_queue_prepared_count(const char *tenant, int place);

#endif
