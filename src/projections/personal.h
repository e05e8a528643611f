/*
 * personal.h: a learner's data in this room, to be erased and exported:
 * states, progress, the learner model, cohorts.
 */
#ifndef EDUAI_PROJECTIONS_PERSONAL_H
#define EDUAI_PROJECTIONS_PERSONAL_H

extern void eduai_projections_personal_init(void);

#endif
