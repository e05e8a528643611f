/*
 * block.h: reading compacted events.
 *
 * Compaction moves the oldest positions of a tenant into segments: each a
 * range of positions, its events sorted by (stream, version) and cut into
 * small blocks.  Every position of the tenant up to
 * eduai_events_compacted_through() is in a block, every later one is hot; in
 * each stream likewise the versions up to the one in eduai.event_stream.
 *
 * A snapshot sees an event either hot or in a block, never twice.
 */
#ifndef EDUAI_EVENTS_BLOCK_H
#define EDUAI_EVENTS_BLOCK_H

#include "postgres.h"
#include "events/block_column.h"
#include "events/record.h"
#include "utils/snapshot.h"

/* The last compacted version of a stream, 0 without one. */
extern int64 eduai_events_block_version(const char *tenant, const char *stream, Snapshot snapshot);
/* The same for n sorted streams: reads each page of the directory once. */
extern void eduai_events_block_versions(const char *tenant, const EduaiSlice *streams, int n,
										Snapshot snapshot, int64 *versions);

/* As eduai_events_hot_read(), for compacted events. */
extern int64
eduai_events_block_read(const char *tenant, const char *stream, int64 from, int64 to, bool backward,
						int64 limit, Snapshot snapshot, EduaiRecordSink sink, void *arg);

/* The last compacted position of the tenant, 0 without one. */
extern int64 eduai_events_compacted_through(const char *tenant, Snapshot snapshot);

/*
 * Feeds the sink compacted events with after < position <= through in order
 * of position.  Returns false when the sink stopped it.
 */
extern bool eduai_events_block_feed(const char *tenant, int64 after, int64 through,
									Snapshot snapshot, EduaiRecordSink sink, void *arg);

/* How many compacted events lie in after < position <= through; exact unless cut within a block. */
extern int64
eduai_events_block_count(const char *tenant, int64 after, int64 through, Snapshot snapshot);

/* Feeds the sink the compacted events remembered under the ids (given ones, in the window). */
extern void eduai_events_block_find(const char *tenant, const pg_uuid_t *ids, int n,
									Snapshot snapshot, EduaiRecordSink sink, void *arg);

#endif
