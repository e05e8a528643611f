/*
 * reducer_kind.h: the kind of users' projections.
 */
#ifndef EDUAI_PROJECTIONS_REDUCER_KIND_H
#define EDUAI_PROJECTIONS_REDUCER_KIND_H

extern void eduai_projections_reducer_init(void);

#endif
