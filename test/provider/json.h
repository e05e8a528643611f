/*-------------------------------------------------------------------------
 * json.h
 *		A validating JSON scanner that builds no tree.
 *
 * Values are slices of the text.  A string's slice is what stands between
 * its quotes, still escaped: it can be copied into another JSON text as it
 * is.  json_scan() checks a whole text once (syntax, UTF-8, depth); the
 * iterator walks a container of a text that passed.
 *-------------------------------------------------------------------------
 */
#ifndef SIM_JSON_H
#define SIM_JSON_H

#include "buf.h"

#define JSON_MAX_DEPTH 200

typedef enum JsonKind
{
	JSON_NONE,
	JSON_OBJECT,
	JSON_ARRAY,
	JSON_STRING,
	JSON_NUMBER,
	JSON_TRUE,
	JSON_FALSE,
	JSON_NULL
} JsonKind;

typedef struct JsonValue
{
	JsonKind kind;
	Slice raw;
} JsonValue;

typedef struct JsonIter
{
	const char *p;
	const char *end;
	bool object;
	Slice key; /* of an object's member, still escaped */
	JsonValue value;
} JsonIter;

extern JsonValue json_scan(Slice text);
extern JsonIter json_iterate(JsonValue container);
extern bool json_next(JsonIter *iter);

/* Characters of a raw string, counted and walked as code points. */
extern uint32_t json_char(const char **p, const char *end);
extern size_t json_chars(Slice raw);
extern size_t json_prefix(Slice raw, size_t chars);
extern void json_decode(Slice raw, Buf *dst);

#endif /* SIM_JSON_H */
