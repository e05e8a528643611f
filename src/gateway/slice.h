/*
 * slice.h: values of an answer, read where they lie (scan.h).
 *
 * Most of an answer is never looked at: a jsonb of the whole costs more than
 * all else that is done with it.  What is wanted is copied out here, and a
 * jsonb made of the parts that a result keeps as they are.
 */
#ifndef EDUAI_GATEWAY_SLICE_H
#define EDUAI_GATEWAY_SLICE_H

#include "gateway/adapter.h"
#include "gateway/scan.h"

/*
 * The body of a 2xx answer that is JSON without an error in it; else false, and
 * the outcome says why.  As eduai_gateway_open_answer() (wire.h), but for answers
 * nested more than 200 levels deep, which are refused.
 */
extern bool eduai_gateway_open_slice(const WireResponse *response, int64 now_unix,
									 CallOutcome *outcome, JsonSlice *body);

/* eduai_gateway_has_error() of a slice. */
extern bool eduai_gateway_slice_has_error(JsonSlice value);

/* Is it an object or an array? */
extern bool eduai_gateway_slice_is_container(JsonSlice value);
extern bool eduai_gateway_slice_is_string(JsonSlice value);

/* A string's text; NULL when it is none, or has what the server's encoding has not. */
extern char *eduai_gateway_slice_text(JsonSlice value);

/* As jsonb, scalars too; NULL when absent, or when jsonb cannot have it. */
extern Jsonb *eduai_gateway_slice_json(JsonSlice value);

/* A number, rounded and within bounds, as eduai_gateway_count(); 0 for anything else. */
extern int64 eduai_gateway_slice_count(JsonSlice value);

/* The first element of an array; absent when there is none. */
extern JsonSlice eduai_gateway_slice_first(JsonSlice array);

#endif
