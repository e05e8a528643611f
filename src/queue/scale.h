/*
 * scale.h: pools that grow while tasks wait too long and shrink when idle or
 * pushed back.  The rule is eduai_queue_scale() (schedule.h).
 */
#ifndef EDUAI_QUEUE_SCALE_H
#define EDUAI_QUEUE_SCALE_H

#include "postgres.h"

/*
 * For the dispatcher, inside a transaction, SPI connected, as the owner: adjusts
 * the sizes of all pools; looks at most every 100 ms, whenever it is called.
 * Milliseconds until it wants to be called again, -1: when a task is ready.
 */
extern int64 eduai_queue_scale_pools(void);

#endif
