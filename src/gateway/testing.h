/*
 * testing.h: what the files of test functions share.
 */
#ifndef EDUAI_GATEWAY_TESTING_H
#define EDUAI_GATEWAY_TESTING_H

#include "gateway/call.h"

/* Everything of an outcome but its times. */
extern Jsonb *eduai_gateway_outcome_json(const CallOutcome *outcome);

#endif
