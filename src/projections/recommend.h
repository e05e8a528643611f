/*
 * recommend.h: which exercises a learner should do next.
 */
#ifndef EDUAI_PROJECTIONS_RECOMMEND_H
#define EDUAI_PROJECTIONS_RECOMMEND_H

/* Defines the settings; called once, from the room's init. */
extern void eduai_projections_recommend_init(void);

#endif
