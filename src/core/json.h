/*
 * json.h: reading and building jsonb without ceremony.
 */
#ifndef EDUAI_CORE_JSON_H
#define EDUAI_CORE_JSON_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

/* Reading.  "json" may be NULL or not an object; the answer is then "absent". */
extern bool eduai_core_json_is_object(const Jsonb *json);
extern bool eduai_core_json_get(const Jsonb *json, const char *key, JsonbValue *value);
extern char *
eduai_core_json_text(const Jsonb *json,
					 const char *key); /* strings, numbers and booleans as text; else NULL */
extern bool eduai_core_json_double(const Jsonb *json, const char *key, double *value);
extern bool eduai_core_json_int64(const Jsonb *json, const char *key,
								  int64 *value); /* rounds; false when absent or out of range */
extern bool eduai_core_json_bool(const Jsonb *json, const char *key, bool *value);
extern Numeric
eduai_core_json_numeric(const Jsonb *json, const char *key); /* NULL when absent or no number */
extern Jsonb *
eduai_core_json_child(const Jsonb *json, const char *key); /* object or array; else NULL */
extern Jsonb *
eduai_core_json_element(const Jsonb *array, int index); /* object or array element; else NULL */
extern char *eduai_core_json_element_text(const Jsonb *array, int index);
extern int eduai_core_json_length(const Jsonb *array); /* 0 unless an array */
extern char *eduai_core_json_cstring(const Jsonb *json);

/* Parses text; raises 22P02 and the like, as jsonb's input function does. */
extern Jsonb *eduai_core_json_parse(const char *text);

/*
 * Parses bytes from outside: no transaction is needed, nothing is raised.
 * Checks that they are valid UTF-8 without NUL and converts to the server's
 * encoding.  On failure returns NULL and sets *why to a palloc'd reason.
 */
extern Jsonb *eduai_core_json_parse_bytes(const char *bytes, size_t length, char **why);

/*
 * Building: a stack of objects and arrays.  "key" is NULL inside an array.
 *
 *	EduaiJson j;
 *	eduai_core_json_begin(&j);
 *	eduai_core_json_put_text(&j, "name", name);
 *	eduai_core_json_open_array(&j, "items");
 *	eduai_core_json_put_int(&j, NULL, 7);
 *	eduai_core_json_close_array(&j);
 *	jsonb = eduai_core_json_end(&j);
 */
typedef struct EduaiJson
{
	JsonbParseState *state;
	JsonbValue *result;
} EduaiJson;

extern void eduai_core_json_begin(EduaiJson *j); /* an object */
extern Jsonb *eduai_core_json_end(EduaiJson *j);
extern void
eduai_core_json_put_text(EduaiJson *j, const char *key, const char *value); /* NULL: null */
extern void eduai_core_json_put_textn(EduaiJson *j, const char *key, const char *value, int length);
extern void eduai_core_json_put_int(EduaiJson *j, const char *key, int64 value);
extern void eduai_core_json_put_double(EduaiJson *j, const char *key, double value);
extern void eduai_core_json_put_numeric(EduaiJson *j, const char *key, Numeric value);
extern void eduai_core_json_put_bool(EduaiJson *j, const char *key, bool value);
extern void eduai_core_json_put_null(EduaiJson *j, const char *key);
extern void eduai_core_json_put_json(EduaiJson *j, const char *key,
									 const Jsonb *value); /* any jsonb, scalars too; NULL: null */
extern void eduai_core_json_put_value(EduaiJson *j, const char *key, const JsonbValue *value);
extern void eduai_core_json_put_time(EduaiJson *j, const char *key,
									 int64 timestamptz); /* ISO 8601, UTC, microseconds */
extern void eduai_core_json_open_object(EduaiJson *j, const char *key);
extern void eduai_core_json_close_object(EduaiJson *j);
extern void eduai_core_json_open_array(EduaiJson *j, const char *key);
extern void eduai_core_json_close_array(EduaiJson *j);

/* A copy of "json" (an object, or NULL for {}) with one top-level key set. */
extern Jsonb *eduai_core_json_with_text(const Jsonb *json, const char *key, const char *value);

#endif
