/*
 * stand_internal.h: between stand.c (what happens to an entry), stand_table.c
 * (where it is) and stand_sql.c (who looks at all of them).
 */
#ifndef EDUAI_GATEWAY_STAND_INTERNAL_H
#define EDUAI_GATEWAY_STAND_INTERNAL_H

#include "datatype/timestamp.h"
#include "gateway/headroom.h"
#include "gateway/stand.h"
#include "storage/lwlock.h"

/* Successful calls by duration: eight steps to a doubling, from 1/8 ms up to more than an hour. */
#define TIMES_STEPS 8
#define TIMES_ROOM  208
#define TIMES_MOST  10000 /* then all are halved: the figures are of the latest ones */

typedef struct StandTotals
{
	int64 requests;
	int64 successes;
	int64 failures;
	int64 tokens_in;
	int64 tokens_out;
	int64 cost_picousd;
	int64 success_us;
	uint32 counted; /* in times */
	uint32 times[TIMES_ROOM];
} StandTotals;

/* Of an instance, since the server started. */
typedef struct Stand
{
	Oid database;
	char name[NAMEDATALEN];
	uint32 identity; /* of provider, URL and model */
	bool gone;       /* removed, with calls in flight: free when the last of them ends */
	int in_flight;
	Breaker breaker;
	Headroom headroom;
	InstanceHealth health;
	int64 checked_us;
	int64 called_us; /* when a call last entered; 0: never */
	char last_error[64];
	BalanceStats stats;
	StandTotals totals;
} Stand;

/* ---- stand_table.c ---- */

extern void eduai_gateway_stand_table_init(void);

/* Takes the table's lock, if there is a table.  Nothing that can raise until unlock(). */
extern void eduai_gateway_stand_lock(LWLockMode mode);
extern void eduai_gateway_stand_unlock(void);

/* The entry, NULL: none yet.  The lock is held. */
extern Stand *eduai_gateway_stand_find(const Instance *instance);

/* The same, made at need; NULL: no room.  The lock is held exclusively. */
extern Stand *eduai_gateway_stand_make(const Instance *instance);

/* An entry of this process's own, where make() has no room.  The lock is not held. */
extern Stand *eduai_gateway_stand_make_own(const Instance *instance);

/* Is it still of the provider, URL and model that the instance has? */
extern bool eduai_gateway_stand_is_same(const Stand *stand, const Instance *instance);

/* Frees a shared entry.  The lock is held exclusively. */
extern void eduai_gateway_stand_free(Stand *stand);

/* Copies the entry; false, and nothing but zeros, when there is none.  Takes the lock. */
extern bool eduai_gateway_stand_copy(const Instance *instance, Stand *copy);

/* Calls visit for every entry of the database, InvalidOid: of all.  The lock is held. */
extern void
eduai_gateway_stand_each(Oid database, void (*visit)(Stand *stand, void *arg), void *arg);

/* How many shared entries there can be and are, and how often one more was wanted. */
extern void eduai_gateway_stand_room(int *slots, int *used, int64 *refused);

/* ---- stand_sql.c, stand_health.c ---- */

/* The wall clock's time of a monotonic one. */
extern TimestampTz eduai_gateway_stand_wall(int64 mono_us);

extern void eduai_gateway_stand_health_init(void);

#endif
