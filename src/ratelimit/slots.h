/*
 * slots.h: who holds the slots of concurrency limits.
 *
 * A slot belongs to the session that took it: a session that ends, however it
 * ends, gives back what it still holds; a crash of the server, which ends all
 * sessions, gives back everything.  A rolled back transaction keeps its slots.
 * Another session may give a slot back (a connection pool): it then takes its
 * own first, or else anybody's.
 *
 * A record is (entry, session, how many), from a pool of eduai.rate_slots; when
 * that is used up, slots are refused.  Chains belong to their entry and are
 * guarded by its shard's lock; the free ones by the slots' own lock, which is
 * taken after that of a shard and before nothing.
 */
#ifndef EDUAI_RATELIMIT_SLOTS_H
#define EDUAI_RATELIMIT_SLOTS_H

#include "ratelimit/table.h"

extern void eduai_ratelimit_slots_init(void);

/* Outside of locks, before the first take(): a number for this session, its end watched. */
extern void eduai_ratelimit_slots_ready(void);

/* ---- under the entry's shard's lock ---- */

/* Notes that this session holds n more; false: there is no record left. */
extern bool eduai_ratelimit_slots_take(RateEntry *entry, uint32 n);

/* Gives back up to n; returns how many.  The counter is the caller's. */
extern uint32 eduai_ratelimit_slots_give(RateEntry *entry, uint32 n);

/* How many records there are, and are in use, and how often one more was wanted. */
extern void eduai_ratelimit_slots_room(int *slots, int *used, int64 *refused);

#endif
