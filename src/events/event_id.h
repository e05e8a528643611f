/*
 * event_id.h: the ids that eduai makes.
 */
#ifndef EDUAI_EVENTS_EVENT_ID_H
#define EDUAI_EVENTS_EVENT_ID_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

/*
 * The id of an event: a version 7 UUID (RFC 9562) of the time of recording
 * whose last 62 bits are a hash of tenant, stream, version and time.  Blocks
 * need not store what they can derive, so the function must never change.
 * Ids are unique and grow with time; they are no secrets.
 */
extern void eduai_events_derive_id(const char *tenant, const char *stream, size_t stream_length,
								   int64 version, TimestampTz recorded_at, pg_uuid_t *id);

#endif
