/*
 * store.h: how the log touches its hot table, eduai.event.
 *
 * The only code that probes, reads and writes the partitions of eduai.event,
 * by heap and index calls, so that another way to store events (through SPI,
 * to shards) can stand behind the same calls.  None of them needs SPI or a
 * switch of role: the caller has checked what may be done.
 */
#ifndef EDUAI_EVENTS_STORE_H
#define EDUAI_EVENTS_STORE_H

#include "postgres.h"
#include "core/hooks.h"
#include "events/record.h"
#include "storage/itemptr.h"
#include "utils/snapshot.h"

/*
 * Fills versions[i] with the last committed or own version of streams[i], 0
 * without one, compacted events included.  The caller holds the streams'
 * locks; reads with the latest snapshot.
 */
extern void
eduai_events_last_versions(const char *tenant, char *const *streams, int n, int64 *versions);

/*
 * Gives the events their recorded_at, moved forward where the clock went back
 * over the start of the newest partition, and ids to those without; then
 * inserts all of them.  "order" has them sorted by stream and version.
 */
extern void eduai_events_insert(EduaiAppendBatch *batch, EduaiEvent **order);

/*
 * A reader of hot events in one snapshot, which the caller keeps registered.
 * It keeps the relations open between calls.
 */
typedef struct EduaiHotReader EduaiHotReader;

extern EduaiHotReader *eduai_events_hot_open(Snapshot snapshot);
extern void eduai_events_hot_close(EduaiHotReader *reader);

/*
 * Feeds the sink the hot events of a stream with from <= version <= to, in
 * order of version or, backward, in the opposite one, at most limit.  Returns
 * how many it fed.
 */
extern int64
eduai_events_hot_read(EduaiHotReader *reader, const char *tenant, const char *stream, int64 from,
					  int64 to, bool backward, int64 limit, EduaiRecordSink sink, void *arg);

/* The last hot version of a stream, 0 without one. */
extern int64
eduai_events_hot_version(EduaiHotReader *reader, const char *tenant, const char *stream);

/* Feeds the sink the hot events that have one of the ids, in any order. */
extern void eduai_events_hot_find(EduaiHotReader *reader, const char *tenant, const pg_uuid_t *ids,
								  int n, EduaiRecordSink sink, void *arg);

/* Where a hot event lies: for compaction, which removes what it has copied. */
typedef struct EduaiHotPlace
{
	Oid partition;
	ItemPointerData tid;
} EduaiHotPlace;

/* In a sink: the place of the record that it was called for. */
extern EduaiHotPlace eduai_events_hot_place(const EduaiHotReader *reader);

/* Deletes hot events; raises when one is gone or being changed. */
extern void eduai_events_hot_delete(const EduaiHotPlace *places, int n);

#endif
