/*
 * followers.h: the projector's chore that lets all followers of this database
 * step, and how each of them fares.
 */
#ifndef EDUAI_PROJECTIONS_FOLLOWERS_H
#define EDUAI_PROJECTIONS_FOLLOWERS_H

#include "postgres.h"

extern void eduai_projections_followers_init(void);

#endif
