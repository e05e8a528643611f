/*
 * lease.h: what becomes of tasks whose worker was not heard of in time.
 */
#ifndef EDUAI_QUEUE_LEASE_H
#define EDUAI_QUEUE_LEASE_H

#include "postgres.h"
#include "datatype/timestamp.h"

/*
 * Ends attempts whose lease has been over for late_ms as failed ones (code
 * lease_lapsed): their tasks can be claimed at once, or are dead when no attempt
 * is left.  Never waits for locks; who is busy is tried again.  At most some
 * hundred at a time; returns how many were written.  Inside a transaction, SPI
 * connected, as the owner, attempts loaded.
 *
 * For the dispatcher's turns, when eduai_queue_next_lapse_ms() says so, with
 * late_ms 0; claim_tasks() does what it leaves undone for a second.
 */
extern int eduai_queue_reap_leases(int64 late_ms, bool by_dispatcher);

/* A lease's length; raises 22023 outside 1 s to 1 day (from 1 ms with eduai.test_mode). */
extern int64 eduai_queue_lease_ms(const Interval *lease);

#endif
