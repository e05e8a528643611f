/*
 * scan.h: looking into JSON where it lies, for libcurl's callbacks: nothing is
 * allocated, nothing raised.
 *
 * Only eduai_gateway_scan() takes bytes of any kind.  What it accepted is cut
 * into slices, which the other functions take: they point into the same bytes
 * and live as long.  A slice of length 0 is "absent"; reading into it finds
 * nothing.  Keys are compared as they are written: providers do not escape
 * theirs.
 */
#ifndef EDUAI_GATEWAY_SCAN_H
#define EDUAI_GATEWAY_SCAN_H

#include "postgres.h"

typedef struct JsonSlice
{
	const char *at;
	size_t length;
} JsonSlice;

/* True when the bytes are one JSON value (RFC 8259, at most 200 levels deep); its slice. */
extern bool eduai_gateway_scan(const char *bytes, size_t n, JsonSlice *value);

extern bool eduai_gateway_scan_is_object(JsonSlice value);
extern bool eduai_gateway_scan_is_array(JsonSlice value);
extern bool eduai_gateway_scan_is_null(JsonSlice value); /* or absent */

/* The value of a key, of several the last; absent when there is none or "object" is no object. */
extern JsonSlice eduai_gateway_scan_member(JsonSlice object, const char *key);

/* The same of several keys, in one walk. */
extern void
eduai_gateway_scan_members(JsonSlice object, const char *const *keys, int n, JsonSlice *values);

/* Walks an object or array; *position is 0 at first.  key may be NULL. */
extern bool
eduai_gateway_scan_next(JsonSlice container, size_t *position, JsonSlice *key, JsonSlice *value);

/* What is between a string's quotes, escapes as they are; false when it is no string. */
extern bool eduai_gateway_scan_string(JsonSlice value, JsonSlice *inside);
extern bool eduai_gateway_scan_is(JsonSlice value, const char *text); /* that string? */

/* A whole number that is not negative; false when it is none or too large. */
extern bool eduai_gateway_scan_count(JsonSlice value, int *count);

#endif
