/*
 * options.h: which options providers and instances have.
 */
#ifndef EDUAI_GATEWAY_OPTIONS_H
#define EDUAI_GATEWAY_OPTIONS_H

#include "postgres.h"
#include "utils/jsonb.h"

/*
 * Raise 22023 for an option that is unknown, of another kind of provider, of
 * the wrong type or out of range.
 */
extern void eduai_gateway_check_provider_options(const char *kind, const Jsonb *options);
extern void eduai_gateway_check_instance_options(const Jsonb *options);

#endif
