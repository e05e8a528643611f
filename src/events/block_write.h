/*
 * block_write.h: writing the tables of compacted events.
 *
 * All of it as the extension's owner, inside SPI, holding the tenant's
 * EDUAI_LOCK_COMPACT.
 */
#ifndef EDUAI_EVENTS_BLOCK_WRITE_H
#define EDUAI_EVENTS_BLOCK_WRITE_H

#include "postgres.h"
#include "events/block_table.h"

/* Takes the tenant's lock to the end of the transaction; false only with nowait. */
extern bool eduai_events_compact_lock(const char *tenant, bool nowait);

extern void eduai_events_block_insert(const char *tenant, const EduaiBlockRow *row, bytea *body);

/*
 * Replaces a block's body; removes the block when events is 0.  Before the
 * transaction ends its segment is to be touched.
 */
extern void
eduai_events_block_replace(const char *tenant, int segment, int block, int events, bytea *body);

/* Gives a segment a new stamp, once for all of its blocks that were replaced: from "block" on. */
extern void eduai_events_segment_touch(const char *tenant, int segment, int block);

/* Removes a segment's blocks and the ids that they remember; returns how many events they had. */
extern int64 eduai_events_segment_remove(const char *tenant, int segment);

/* The versions of a stream that a new block holds. */
typedef struct EduaiStreamPart
{
	EduaiSlice stream;
	int segment;
	int block;
	int64 last_version;
} EduaiStreamPart;

/* Adds parts, sorted by stream and then by version, to the directory. */
extern void eduai_events_directory_add(const char *tenant, const EduaiStreamPart *parts, int n,
									   Snapshot snapshot);

/*
 * The same in place of what the directory says of a segment: "streams", sorted,
 * lose what they have in it.  Refs cover a stream's versions without a gap: the
 * one after what is lost covers it, too.
 */
extern void
eduai_events_directory_replace(const char *tenant, int segment, const EduaiSlices *streams,
							   const EduaiStreamPart *parts, int n, Snapshot snapshot);

/* Takes a stream out of the directory. */
extern void
eduai_events_directory_remove(const char *tenant, const EduaiSlice *stream, Snapshot snapshot);

/* A dictionary for new blocks: the tenant's newest, NULL without one; close it. */
extern EduaiDictionary *eduai_events_dictionary_newest(const char *tenant);

/* Keeps a new one, from the segment on, and opens it. */
extern EduaiDictionary *
eduai_events_dictionary_keep(const char *tenant, int segment, bytea *dictionary);

extern void eduai_events_seen_add(const char *tenant, const Datum *ids, const int32 *blocks, int n,
								  int segment);
extern void eduai_events_seen_remove(const char *tenant, const Datum *ids, int n);

#endif
