/*
 * lane_wait.h: sessions that wait for tasks of applications' types.
 *
 * A task that becomes ready wakes one session that waits for its type and
 * tenant, the one that has waited longest; a session that claimed and left more
 * wakes the next.  So a thousand waiting workers are not all woken for one task.
 *
 * To wait: begin, claim, and while that gave nothing, wait and claim again; end
 * also when anything is raised (a (sub)transaction's abort does it, too).  What
 * is announced between begin and wait is not missed.
 */
#ifndef EDUAI_QUEUE_LANE_WAIT_H
#define EDUAI_QUEUE_LANE_WAIT_H

#include "postgres.h"

/*
 * This session waits for tasks of the tenant of any of these types from now on.
 * Needs preload; SPI connected, as the owner.
 */
extern void eduai_queue_lane_wait_begin(const char *tenant, char *const *task_types, int n);

/* Sleeps until there may be one (true), or for that long (false).  Interruptible. */
extern bool eduai_queue_lane_wait(long timeout_ms);

/*
 * It waits no longer.  "satisfied": it claimed, or has nothing to pass on; else a
 * wake that it got and did not use goes to another session.
 */
extern void eduai_queue_lane_wait_end(bool satisfied);

/*
 * Wakes one session that waits for this; tenant 0: of any tenant.  Hashes of
 * names (eduai_queue_lane_word()).  May be called in commit and abort callbacks.
 */
extern void eduai_queue_lane_wake(uint64 tenant, uint64 task_type);

/*
 * The same for a slot in each of these pools, which were full; a set of bits.
 * Whether there is something for the slot the session that is woken sees: after
 * its look, when slots are left, it calls eduai_queue_lane_wake_next(), whatever
 * it claimed, and a session that waits for the pool and has not looked since is
 * woken.
 */
extern uint64 eduai_queue_lane_pool_bit(const char *pool);
extern void eduai_queue_lane_wake_pools(uint64 pools);
extern uint64 eduai_queue_lane_woken_pools(void); /* 0: for no slot */
extern void eduai_queue_lane_wake_next(void);

/* This session waits (begun, and no subtransaction that was rolled back has ended it). */
extern bool eduai_queue_lane_waits(void);

/*
 * At the commit, all sessions that wait for tasks of this type look again, and
 * at the catalog, too.
 */
extern void eduai_queue_lane_wake_all_at_commit(const char *task_type);

#endif
