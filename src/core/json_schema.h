/*
 * json_schema.h: JSON Schema, as much of it as docs/events.md promises; for types of
 * events and for answers of models.
 *
 * Pure: no SQL, no tables, no state.  What a schema says is decided by
 * interpreting its Jsonb; there is no compiled form.
 */
#ifndef EDUAI_CORE_JSON_SCHEMA_H
#define EDUAI_CORE_JSON_SCHEMA_H

#include "postgres.h"
#include "utils/jsonb.h"

/*
 * What is wrong with some data.  The message completes "The value at PATH";
 * it tells what the schema wants and never what the data has, but the path
 * may hold names of properties.
 */
typedef struct EduaiViolation
{
	const char *path; /* a JSON pointer, "" for the data itself */
	const char *message;
} EduaiViolation;

/*
 * The first violation of the schema, palloc'd, or NULL when the data matches.
 * The schema must have passed eduai_core_schema_require().  Leaves garbage
 * in the current memory context.  Raises 54001 when the schema's references
 * lead nowhere but to each other, or data and schema are nested too deeply.
 */
extern EduaiViolation *eduai_core_schema_violation(const Jsonb *schema, const Jsonb *data);

/*
 * The same for a schema that not an administrator wrote: its alternatives may
 * refer to each other so that holding the data against them never ends.
 * Raises 54001 after so many steps (a keyword that is looked at, and what it
 * lists); below 0 for no limit.
 */
extern EduaiViolation *
eduai_core_schema_violation_within(const Jsonb *schema, const Jsonb *data, int64 steps);

/*
 * Does it have regular expressions, whose time nothing limits?  The schema
 * must be well-formed.
 */
extern bool eduai_core_schema_has_pattern(const Jsonb *schema);

/*
 * Raises 22023 unless the schema is well-formed, and 0A000 when it uses a
 * keyword that would not be heeded; the detail has the place in the schema.
 */
extern void eduai_core_schema_require(const Jsonb *schema);

#endif
