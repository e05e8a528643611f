/*
 * anthropic.h: the files of the adapter for Anthropic.
 */
#ifndef EDUAI_GATEWAY_ANTHROPIC_H
#define EDUAI_GATEWAY_ANTHROPIC_H

#include "core/json.h"
#include "gateway/adapter.h"

/* Puts "messages", translated; false (and "outcome") when they cannot be. */
extern bool
eduai_gateway_anthropic_messages(EduaiJson *j, const Jsonb *messages, CallOutcome *outcome);

/* A JSON schema without what the API refuses in one; NULL for one that would mean something else. */
extern Jsonb *eduai_gateway_plain_schema(const Jsonb *schema);

extern void eduai_gateway_anthropic_read(const GatewayCall *call, const WireResponse *response,
										 int64 now_unix, CallOutcome *outcome);

#endif
