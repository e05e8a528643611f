/*
 * event_type_cache.h: what a backend remembers of the registered event types.
 */
#ifndef EDUAI_EVENTS_EVENT_TYPE_CACHE_H
#define EDUAI_EVENTS_EVENT_TYPE_CACHE_H

#include "postgres.h"
#include "executor/spi.h"
#include "utils/jsonb.h"

typedef struct EventTypeName
{
	const char *text; /* not terminated */
	size_t length;
} EventTypeName;

/* From one schema version to the next. */
typedef struct UpcastStep
{
	int from_version;
	const char *function; /* schema.name(jsonb), quoted where needed */
	const char *registrant;
	SPIPlanPtr plan; /* NULL until first used */
} UpcastStep;

typedef struct EventType
{
	EventTypeName name; /* the key */
	int schema_version;
	bool has_schema;
	Jsonb *schema;     /* NULL until first needed */
	UpcastStep *steps; /* by from_version, all below schema_version */
	int nsteps;
	char **sensitive; /* keys of data that hold what is sensitive */
	int nsensitive;
} EventType;

/*
 * The registered or built-in type, or NULL.  The entry is valid until the next call,
 * also of code that this backend runs meanwhile, unless the cache is pinned.
 */
extern EventType *eduai_events_type_find(const char *text, size_t length);

/* Between the two, entries found before stay; they nest.  An error in between must unpin. */
extern void eduai_events_type_pin(void);
extern void eduai_events_type_unpin(void);

/* Tells every backend, at commit, that registrations have changed, and this one now. */
extern void eduai_events_type_forget(void);

/* The entry's JSON Schema; it has one, or had one when it was loaded: NULL if it is gone. */
extern const Jsonb *eduai_events_type_schema(EventType *type);

extern void eduai_events_type_cache_init(void);

#endif
