/*
 * skill.c: what a learner's state says of one skill.  See skill.h.
 */
#include "postgres.h"

#include "projections/skill.h"
#include "projections/state.h"

static const char *const names[SKILL_NUMBERS] = {"correct", "mastery", "attempts"};

static JsonbValue
number_in(const JsonbValue *stored, const char *name)
{
	JsonbValue value;

	if (stored != NULL && stored->type == jbvBinary &&
		JsonContainerIsObject(stored->val.binary.data) &&
		getKeyJsonValueFromContainer(stored->val.binary.data, name, strlen(name), &value) != NULL &&
		value.type == jbvNumeric)
		return value;
	return eduai_projections_state_int(0);
}

Skill
eduai_projections_skill_read(const JsonbValue *stored)
{
	Skill skill;

	for (int i = 0; i < SKILL_NUMBERS; i++)
	{
		JsonbValue key = {.type = jbvString};

		key.val.string.val = (char *) names[i];
		key.val.string.len = strlen(names[i]);
		skill.numbers[i] = (PackEntry){key, number_in(stored, names[i])};
	}
	return skill;
}

JsonbValue
eduai_projections_skill_write(const Skill *skill)
{
	return eduai_projections_pack_value(
		eduai_projections_pack_object(skill->numbers, SKILL_NUMBERS));
}
