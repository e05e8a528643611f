/*
 * ratelimit.h: the ratelimit room, exact limits in shared memory.
 */
#ifndef EDUAI_RATELIMIT_RATELIMIT_H
#define EDUAI_RATELIMIT_RATELIMIT_H

/* Registers the room's parts; called once, from _PG_init(). */
extern void eduai_ratelimit_init(void);

/* rate_sql.c */
extern void eduai_ratelimit_rate_init(void);

/* status_sql.c */
extern void eduai_ratelimit_status_init(void);

#endif
