/*
 * due.h: tasks that become ready at a time: scheduled ones on the wall clock,
 * failed ones on the steady clock.
 *
 * Shared memory has for each database and clock the earliest time that was
 * announced since the dispatcher took it; the dispatcher keeps the earliest time
 * of which there may be a task, so that a turn in which nothing is due reads no
 * index, and one in which something is reads only from there: the entries of
 * tasks that were woken stay in the index until vacuum may remove them.
 *
 * What no callback sees (COMMIT PREPARED, a restore) is found by the sweep, which
 * reads from the beginning; it takes at most a hundredth of the time.
 */
#ifndef EDUAI_QUEUE_DUE_H
#define EDUAI_QUEUE_DUE_H

#include "postgres.h"
#include "datatype/timestamp.h"

extern void eduai_queue_due_init(void);

/*
 * This transaction gave a task this due_at: the dispatcher hears of it at the
 * commit.  Savepoints are not heeded: it may look for nothing.
 */
extern void eduai_queue_due_at(TimestampTz due_at, bool backoff);

/* ---- for the dispatcher, inside a transaction, as the owner; nothing waits ---- */

/* Tasks that are due become ready, up to a thousand; returns how many. */
extern int eduai_queue_wake_due(void);

/* Milliseconds until the next may be due, -1 for none; also outside of transactions. */
extern int64 eduai_queue_next_due_ms(void);

/* For the sweep: the next look is from the beginning, unless the last such took too long. */
extern void eduai_queue_due_recheck(void);

#endif
