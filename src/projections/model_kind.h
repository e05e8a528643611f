/*
 * model_kind.h: the learner model as a projection of eduai's own.
 */
#ifndef EDUAI_PROJECTIONS_MODEL_KIND_H
#define EDUAI_PROJECTIONS_MODEL_KIND_H

#include "projections/model.h"
#include "projections/model_table.h"
#include "projections/parameters.h"

/* The rows that an answer of a learner in a skill concerns, by their entities. */
typedef struct EduaiModelConcerned
{
	EduaiModelRow *rows[EDUAI_MODEL_ENTITIES]; /* that of an item NULL without one */
	EduaiModelEntities entities;               /* their states; without parameters */
} EduaiModelConcerned;

/* item NULL: the answer names none.  The strings outlive the set. */
extern EduaiModelConcerned
eduai_projections_model_concerned(EduaiModelRows *rows, const char *user_id, const char *skill,
								  const char *item);

/* The model's time of a timestamp. */
extern double eduai_projections_model_time(TimestampTz at);

extern void eduai_projections_model_init(void);

#endif
