/*
 * parked_chore.h: trying parked events by itself, and telling of those that wait.
 */
#ifndef EDUAI_PROJECTIONS_PARKED_CHORE_H
#define EDUAI_PROJECTIONS_PARKED_CHORE_H

extern void eduai_projections_parked_chore_init(void);

#endif
