/*
 * append.h: the one way into the log.
 *
 * Rooms that write events in C (a task's follow-up) fill an EduaiAppendBatch
 * and call eduai_events_append(); the SQL functions do the same.
 */
#ifndef EDUAI_EVENTS_APPEND_H
#define EDUAI_EVENTS_APPEND_H

#include "postgres.h"
#include "core/hooks.h"

/* occurred_at of an event whose time is the time of recording. */
#define EDUAI_EVENTS_NOW DT_NOBEGIN

/*
 * Appends the batch: all of it or, by raising, nothing.
 *
 * On entry each event has its stream, type, data and what else is known of it;
 * own_id says that eduai makes the id, EDUAI_EVENTS_NOW that it sets the time.
 * NULL data and metadata mean {}.  On return each has its id, version and
 * times; an event whose given id was already stored with the same content has
 * those of the stored one, and nothing was inserted for it.  Do not read data
 * and metadata after the call: they may point to memory that is gone.
 *
 * expected_version: NULL to append after whatever is there, or the version
 * that every stream of the batch must have.
 *
 * inserted: how many events were new; may be NULL.
 *
 * Takes the locks of the given event ids, of the streams and of the append
 * hooks, in this order, each kind sorted, all before anything is written, and
 * holds them to the end of the transaction.  With batch->nowait it returns
 * false, with nothing written, when one of them is not free; otherwise it
 * waits and returns true.
 *
 * Where an append hook wants the batch, switches to the extension's owner by
 * itself and connects to SPI; the hooks run there.  May be called inside
 * another SPI connection.
 *
 * Raises 22004, 22023 (bad input), 23514 (the type's JSON Schema), 25006
 * (read-only), UE001, UE006, UE011 and what the hooks raise.
 */
extern bool
eduai_events_append(EduaiAppendBatch *batch, const int64 *expected_version, int64 *inserted);

#endif
