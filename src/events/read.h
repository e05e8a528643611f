/*
 * read.h: reading a stream, wherever its events are.
 */
#ifndef EDUAI_EVENTS_READ_H
#define EDUAI_EVENTS_READ_H

#include "postgres.h"
#include "events/record.h"
#include "fmgr.h"
#include "utils/snapshot.h"

/* A page small enough to hold in memory, large enough to be worth a call. */
#define EDUAI_EVENTS_MAX_PAGE 10000

/* Raises 22023 unless max_count is a legal page size. */
extern int eduai_events_page_size(int32 max_count);

/* Feeds the sink the stream's events, from <= version <= to, at most limit. */
extern void eduai_events_read_stream(const char *tenant, const char *stream, int64 from, int64 to,
									 bool backward, int64 limit, Snapshot snapshot,
									 EduaiRecordSink sink, void *arg);

/* The stream's last version in the snapshot, 0 without one. */
extern int64 eduai_events_version(const char *tenant, const char *stream, Snapshot snapshot);

/* Notes for the access log how many rows this call returns, of a stream or (NULL) of the feed. */
extern void eduai_events_note_read(const char *tenant, const char *stream, FunctionCallInfo fcinfo);

#endif
