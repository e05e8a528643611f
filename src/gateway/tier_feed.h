/*
 * tier_feed.h: how calls fare, for the limiter's adaptive tiers.
 *
 * A tier named "provider:NAME" or "instance:NAME", where there is one and it
 * is adaptive, hears each outcome that speaks of the provider: answers, and
 * refusals and failures that are not the request's own.  How long an answer
 * took is not said: that is mostly how long it is.
 */
#ifndef EDUAI_GATEWAY_TIER_FEED_H
#define EDUAI_GATEWAY_TIER_FEED_H

#include "gateway/call.h"
#include "gateway/fleet.h"

extern void eduai_gateway_tier_feed(const Instance *instance, const char *tenant, const char *type,
									const CallOutcome *outcome);

#endif
