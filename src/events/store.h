/*
 * store.h: how the log touches its table.
 *
 * The only code that probes and writes eduai.event, so that another way to
 * store events can stand behind the same two calls.  Both run inside SPI, as
 * the extension's owner, while the caller holds the streams' locks.
 */
#ifndef EDUAI_EVENTS_STORE_H
#define EDUAI_EVENTS_STORE_H

#include "postgres.h"
#include "core/hooks.h"

/* Fills versions[i] with the last committed or own version of streams[i], 0 without one. */
extern void
eduai_events_last_versions(const char *tenant, char *const *streams, int n, int64 *versions);

/* Inserts all events of the batch with one statement. */
extern void eduai_events_insert(const EduaiAppendBatch *batch);

#endif
