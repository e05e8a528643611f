/*
 * analytics.h: what a learner's state says in four figures.
 */
#ifndef EDUAI_PROJECTIONS_ANALYTICS_H
#define EDUAI_PROJECTIONS_ANALYTICS_H

#include "postgres.h"
#include "projections/state.h"
#include "utils/jsonb.h"

/*
 * {learning_velocity, skill_diversity, learning_efficiency,
 * emotional_stability}, computed from the state alone.
 */
extern Jsonb *eduai_projections_analytics(State *state);

#endif
