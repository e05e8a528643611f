/*
 * validate.h: what an event must look like before anything is locked.
 */
#ifndef EDUAI_EVENTS_VALIDATE_H
#define EDUAI_EVENTS_VALIDATE_H

#include "postgres.h"
#include "core/hooks.h"

/* The longest name of a stream, type, learner or session, in bytes. */
#define EDUAI_EVENTS_NAME_BYTES 512

/* Adds "event N of M" to the errors raised between push and pop. */
typedef struct EduaiEventsPlace
{
	int number; /* of the event at hand, from 1 */
	int total;
	ErrorContextCallback callback;
} EduaiEventsPlace;

extern void eduai_events_place_push(EduaiEventsPlace *place, int total);
extern void eduai_events_place_pop(EduaiEventsPlace *place);

/* Whether a name would pass eduai_events_check_name(). */
extern bool eduai_events_legal_name(const char *value);

/*
 * Raises 22004 when a required name is NULL, 22023 when a name is empty, too
 * long or has control characters; "kind" names it in the message.
 */
extern void eduai_events_check_name(const char *kind, const char *value, bool required);

/* Raises 22023 unless the value is NULL or a JSON object. */
extern void eduai_events_check_object(const char *kind, const Jsonb *value);

/* Returns a time that a caller gave for an event; raises 22023 for an infinite one. */
extern TimestampTz eduai_events_check_time(TimestampTz given);

/* Checks every event of a batch; NULL data and metadata pass. */
extern void eduai_events_check(const EduaiAppendBatch *batch);

#endif
