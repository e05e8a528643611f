/*
 * skill.h: what a learner's state says of one skill.
 */
#ifndef EDUAI_PROJECTIONS_SKILL_H
#define EDUAI_PROJECTIONS_SKILL_H

#include "postgres.h"
#include "projections/pack.h"

/* The numbers of a skill, in the order of their names as keys. */
typedef enum SkillNumber
{
	SKILL_CORRECT,
	SKILL_MASTERY, /* 0 to 1 */
	SKILL_ATTEMPTS,
	SKILL_NUMBERS,
} SkillNumber;

typedef struct Skill
{
	PackEntry numbers[SKILL_NUMBERS];
} Skill;

/* A stored skill; NULL, or what is no skill, is one that was never practised. */
extern Skill eduai_projections_skill_read(const JsonbValue *stored);

extern JsonbValue eduai_projections_skill_write(const Skill *skill);

#endif
