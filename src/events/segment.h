/*
 * segment.h: cutting the events of a segment into blocks, and taking a
 * learner's or a stream's events out again.
 */
#ifndef EDUAI_EVENTS_SEGMENT_H
#define EDUAI_EVENTS_SEGMENT_H

#include "postgres.h"
#include "events/block_table.h"
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

/*
 * The events of a segment, in the order of their streams and versions, in the
 * current context; "row" names the segment and becomes its last block's row.
 */
extern EduaiRecord *
eduai_events_segment_load(EduaiBlockReader *reader, const char *tenant, EduaiBlockRow *row, int *n);

/*
 * Puts other events in a segment's place, sorted, at positions of its own; "was"
 * is a row of it.  streams are those that it had, sorted: what they have
 * elsewhere stays, a stream that has nothing left is not named any more.  As
 * eduai_events_segment_write().
 */
extern void
eduai_events_segment_replace(const char *tenant, const EduaiBlockRow *was,
							 const EduaiRecord *records, int n, const EduaiSlices *streams,
							 TimestampTz remember, Snapshot snapshot);

#endif
