/*
 * projections.h: the projections room, what the log says about each learner.
 */
#ifndef EDUAI_PROJECTIONS_PROJECTIONS_H
#define EDUAI_PROJECTIONS_PROJECTIONS_H

/* Registers the room's hooks; called once, from _PG_init(). */
extern void eduai_projections_init(void);

#endif
