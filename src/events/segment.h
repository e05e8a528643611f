/*
 * segment.h: cutting the events of a segment into blocks, and taking a
 * learner's or a stream's events out again.
 */
#ifndef EDUAI_EVENTS_SEGMENT_H
#define EDUAI_EVENTS_SEGMENT_H

#include "postgres.h"
#include "events/record.h"
#include "utils/snapshot.h"

/*
 * Writes the blocks, directory entries and remembered ids of a new segment of
 * the tenant.  The events are sorted by stream and version; ids of events
 * recorded after "remember" are kept for repeats.  As block_write.h; the
 * caller gives a context that goes away, and a snapshot without the segment.
 */
extern void eduai_events_segment_write(const char *tenant, const EduaiRecord *records, int n,
									   int64 first_position, int64 last_position,
									   TimestampTz remember, Snapshot snapshot);

#endif
