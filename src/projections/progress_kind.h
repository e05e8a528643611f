/*
 * progress_kind.h: the learners' progress as a projection of eduai's own.
 */
#ifndef EDUAI_PROJECTIONS_PROGRESS_KIND_H
#define EDUAI_PROJECTIONS_PROGRESS_KIND_H

extern void eduai_projections_progress_init(void);

#endif
