/*
 * intern.h: names by dense numbers, 0, 1, 2 ... in the order of first mention.
 */
#ifndef EDUAI_PROJECTIONS_INTERN_H
#define EDUAI_PROJECTIONS_INTERN_H

#include "postgres.h"

typedef struct EduaiIntern EduaiIntern;

/* Everything lives in the context that is current here. */
extern EduaiIntern *eduai_projections_intern_create(void);

/* The number of a name, a new one when it has none. */
extern uint32 eduai_projections_intern(EduaiIntern *names, const char *name);

extern const char *eduai_projections_interned(const EduaiIntern *names, uint32 number);
extern uint32 eduai_projections_interned_count(const EduaiIntern *names);

#endif
