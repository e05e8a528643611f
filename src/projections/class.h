/*
 * class.h: what a teacher sees of a cohort.
 */
#ifndef EDUAI_PROJECTIONS_CLASS_H
#define EDUAI_PROJECTIONS_CLASS_H

/* Defines eduai.at_risk_after. */
extern void eduai_projections_class_init(void);

#endif
