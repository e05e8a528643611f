/*
 * lock_room.h: how many fine locks a transaction may keep, and the marks of
 * the one that keeps none.  Terms and the protocol are in lock.h; only lock.c
 * and core.c use this.
 */
#ifndef EDUAI_CORE_LOCK_ROOM_H
#define EDUAI_CORE_LOCK_ROOM_H

#include "postgres.h"

/* Classes of keys; and a group is the leading bits of a key. */
#define EDUAI_LOCK_ROOM_CLASSES 5

/* Shared memory and the transaction hooks. */
extern void eduai_core_lock_room_init(void);

/*
 * True when n more fine locks have room; takes it from the server's budget
 * where needed, to the end of the transaction.
 */
extern bool eduai_core_lock_room_has(int n);

/* Counts fine locks that the transaction has taken. */
extern void eduai_core_lock_room_use(int n);

/* The key of the turn and the door: the database's part of shared memory. */
extern uint64 eduai_core_lock_room_ground(void);

/* The transaction has taken the turn and the door, at the current savepoint. */
extern void eduai_core_lock_room_begin_bulk(void);
extern bool eduai_core_lock_room_is_bulk(void);

/* For the bulk: closes the key's group.  A full memory barrier. */
extern void eduai_core_lock_room_close(int class_index, uint64 key);

/*
 * For the others: true when a bulk of this database has closed the key's
 * group, or had until a moment ago.  A full memory barrier comes first.
 */
extern bool eduai_core_lock_room_is_closed(int class_index, uint64 key);

/* True when both keys are of one group. */
extern bool eduai_core_lock_room_same_group(uint64 a, uint64 b);

#endif
