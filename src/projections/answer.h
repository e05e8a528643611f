/*
 * answer.h: which events are answers, and what they say.
 *
 * An answer is an event about a learner with data.correct, a boolean, and a
 * skill: the string data.skill_name or data.skill, the first that is one, of 1
 * to 512 bytes.  data.item or data.exercise, a string of that length or a
 * number, is the item where there is one.  The event's type does not matter.
 */
#ifndef EDUAI_PROJECTIONS_ANSWER_H
#define EDUAI_PROJECTIONS_ANSWER_H

#include "postgres.h"
#include "utils/jsonb.h"

typedef struct EduaiAnswer
{
	bool correct;
	char *skill;
	char *item; /* NULL: unknown */
} EduaiAnswer;

/*
 * Reads an event's data, brought to its type's current schema version.  False
 * when it is no answer.  The strings are in the current context.  Never raises.
 * The caller has seen to the learner (user_id).
 */
extern bool eduai_projections_answer_read(const Jsonb *data, EduaiAnswer *answer);

#endif
