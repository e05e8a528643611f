/*
 * status.h: how the projections fare.
 */
#ifndef EDUAI_PROJECTIONS_STATUS_H
#define EDUAI_PROJECTIONS_STATUS_H

/* Registers the health reporter. */
extern void eduai_projections_status_init(void);

#endif
