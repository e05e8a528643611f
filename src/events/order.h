/*
 * order.h: which events a transaction appended, and the rows that say in
 * which order.
 *
 * A row of eduai.event_order covers a dense range of positions of one tenant
 * and lists runs: a stream, a first version, a count.  A transaction writes
 * one row for each 1,024 of its events (and tenant), at pre-commit.
 */
#ifndef EDUAI_EVENTS_ORDER_H
#define EDUAI_EVENTS_ORDER_H

#include "postgres.h"
#include "core/hooks.h"
#include "utils/snapshot.h"

extern void eduai_events_order_init(void);

/* Notes what was inserted, in the order of the batch; positions come at commit. */
extern void eduai_events_order_note(const EduaiAppendBatch *batch);

/* Whether this transaction has appended anything that still stands. */
extern bool eduai_events_order_noted(void);

/*
 * A stretch of consecutive positions and versions.  In a row's bytes, one with
 * an empty name stands for positions whose events were erased; readers pass
 * over them.
 */
typedef struct EduaiRun
{
	int64 position;
	const char *stream;
	int64 version;
	int count;
} EduaiRun;

typedef bool (*EduaiRunSink)(const EduaiRun *run, void *arg);

/*
 * Feeds the sink the runs with after < position <= through, in order, cut to
 * that range.  Returns false when the sink stopped it.  The stream's name
 * lives only during the call.
 */
extern bool eduai_events_order_read(const char *tenant, int64 after, int64 through,
									Snapshot snapshot, EduaiRunSink sink, void *arg);

/*
 * Up to where a snapshot that cannot be refreshed may be read: the greatest
 * position such that it shows all that will ever be at or below it.
 */
extern int64 eduai_events_order_bound(const char *tenant, Snapshot snapshot);

/* How many events lie in after < position <= through. */
extern int64
eduai_events_order_count(const char *tenant, int64 after, int64 through, Snapshot snapshot);

/* Deletes the rows with last_position <= through, which end a row; returns how many. */
extern int64 eduai_events_order_delete(const char *tenant, int64 through);

#endif
