/*
 * anthropic.h: the three files of the adapter for Anthropic.
 */
#ifndef EDUAI_GATEWAY_ANTHROPIC_H
#define EDUAI_GATEWAY_ANTHROPIC_H

#include "core/json.h"
#include "gateway/adapter.h"

/* Puts "messages", translated; false (and "outcome") when they cannot be. */
extern bool
eduai_gateway_anthropic_messages(EduaiJson *j, const Jsonb *messages, CallOutcome *outcome);

extern void eduai_gateway_anthropic_read(const GatewayCall *call, const WireResponse *response,
										 int64 now_unix, CallOutcome *outcome);

#endif
