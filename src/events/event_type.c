/*
 * event_type.c: holding an event against the registration of its type.
 * See event_type.h.
 */
#include "postgres.h"

#include "core/json.h"
#include "events/event_type.h"
#include "events/event_type_cache.h"
#include "core/json_schema.h"
#include "utils/inval.h"
#include "utils/memutils.h"

void
eduai_events_type_init(void)
{
	eduai_events_type_cache_init();
}

static void
refuse(const char *event_type, const EduaiViolation *violation)
{
	ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
					errmsg("data of event type \"%s\" does not match its schema", event_type),
					violation->path[0] != '\0'
						? errdetail("The value at \"%s\" %s.", violation->path, violation->message)
						: errdetail("The data %s.", violation->message)));
}

static const Jsonb *
empty_object(void)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	return eduai_core_json_end(&j);
}

/* In a memory context of its own: a batch may have many thousand events. */
static void
check_data(const char *event_type, const Jsonb *schema, const Jsonb *data)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai JSON Schema", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EduaiViolation *violation = eduai_core_schema_violation(schema, data ? data : empty_object());

	if (violation)
		refuse(event_type, violation);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

int
eduai_events_type_check(const char *event_type, const Jsonb *data)
{
	EventType *type;
	const Jsonb *schema;

	/* a prepared call in an open transaction may take no lock that would do it */
	AcceptInvalidationMessages();
	type = eduai_events_type_find(event_type, strlen(event_type));
	if (type == NULL)
		return 1;
	schema = data ? eduai_events_type_schema(type) : NULL;
	if (schema)
		check_data(event_type, schema, data);
	return type->schema_version;
}
