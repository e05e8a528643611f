/*
 * event_type.h: the registered event types, their JSON Schemas and upcasters,
 * cached per backend.
 */
#ifndef EDUAI_EVENTS_EVENT_TYPE_H
#define EDUAI_EVENTS_EVENT_TYPE_H

#include "postgres.h"
#include "utils/jsonb.h"

extern void eduai_events_type_init(void);

/*
 * The schema version of a type, 1 for a type that is not registered.  Checks
 * data against the type's JSON Schema where it has one and raises 23514.
 * NULL data is not checked.  Cheap when the cache is warm; the first call after a change reads tables,
 * as the extension's owner, by itself.
 */
extern int eduai_events_type_check(const char *event_type, const Jsonb *data);

/*
 * Data brought from the schema version it was appended with to the type's
 * current one by the registered upcasters, each run as its registrant.  The
 * same pointer when there is nothing to do.
 */
extern Jsonb *
eduai_events_upcast(const char *event_type, size_t length, int schema_version, Jsonb *data);

#endif
