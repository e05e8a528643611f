/*
 * analysis.h: tasks of type analysis: chats whose answers are data.
 *
 * {"text", "analyses": ["sentiment", "emotion", "comprehension"]} becomes a
 * chat with a JSON schema; a chat with a response_format of its own stays what
 * it is.  An answer that does not match the schema is no success.  Pure.
 */
#ifndef EDUAI_GATEWAY_ANALYSIS_H
#define EDUAI_GATEWAY_ANALYSIS_H

#include "gateway/call.h"

/*
 * The payload as the chat that is sent; itself when it is one already.  NULL,
 * and the outcome is bad_payload, when it cannot be one.
 */
extern Jsonb *eduai_gateway_analysis_chat(Jsonb *payload, CallOutcome *outcome);

/*
 * Makes call->payload that chat, and sees to it that its schema can be
 * checked; false: the outcome is bad_payload.  Calls of other types are left
 * alone.
 */
extern bool eduai_gateway_analysis_prepare(GatewayCall *call, CallOutcome *outcome);

/* Of a completed call: turns the outcome into invalid_answer when the result does not match. */
extern void eduai_gateway_analysis_check(const GatewayCall *call, CallOutcome *outcome);

/* The schema of a response_format of type json_schema, or NULL. */
extern Jsonb *eduai_gateway_response_schema(const Jsonb *payload);

#endif
