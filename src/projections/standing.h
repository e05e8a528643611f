/*
 * standing.h: where a learner stands, in the figures that a teacher looks at.
 *
 * Computed from the learner's progress alone.  A learner is at risk when he is
 * inactive (no event since a given time, or none at all) or failing (fewer
 * than half of at least five attempts correct).
 */
#ifndef EDUAI_PROJECTIONS_STANDING_H
#define EDUAI_PROJECTIONS_STANDING_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "projections/state.h"

/* As many of the weakest skills are shown. */
#define EDUAI_PROJECTIONS_WEAKEST 3

typedef struct EduaiStanding
{
	State state;
	int mastered;
	int64 attempts; /* at skills, and those correct */
	int64 correct;
	int64 exercises;
	double seconds;
	TimestampTz last_activity; /* DT_NOBEGIN without events */
	bool inactive;
	bool failing;
} EduaiStanding;

/* json NULL is a learner without events; active_since DT_NOBEGIN takes nobody for inactive. */
extern void eduai_projections_standing(EduaiStanding *standing, const Jsonb *json,
									   TimestampTz last_activity, TimestampTz active_since);

/* The level as text, whether a number or a name. */
extern char *eduai_projections_standing_level(const EduaiStanding *standing);

/*
 * Fills the names of the skills that were practised and have the lowest
 * mastery below the one that counts as mastered, equal ones by name; returns
 * how many.
 */
extern int eduai_projections_standing_weakest(EduaiStanding *standing,
											  JsonbValue names[EDUAI_PROJECTIONS_WEAKEST]);

#endif
