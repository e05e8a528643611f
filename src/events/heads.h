/*
 * heads.h: the last versions of recently written streams, in shared memory.
 *
 * An append under its stream's lock asks here before it probes the index.
 * What is here is exact: the commit callback of every append writes it before
 * the stream's lock is released, and nothing else moves a stream's end.
 * Losing an entry costs one probe.
 */
#ifndef EDUAI_EVENTS_HEADS_H
#define EDUAI_EVENTS_HEADS_H

#include "postgres.h"

extern void eduai_events_heads_init(void);

/*
 * The last committed version of a stream, for a caller that holds its lock and
 * whose transaction has not appended anything; false when it is not known.
 */
extern bool eduai_events_head_get(const char *tenant, const char *stream, int64 *version);

/* From the commit callback, for each stream appended to, while its lock is still held. */
extern void eduai_events_head_put(const char *tenant, const char *stream, int64 version);

/*
 * Events are removed by other means (erasure): this database's entries are
 * void, now and again when the transaction commits.
 */
extern void eduai_events_heads_forget(void);

#endif
