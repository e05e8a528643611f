/*
 * standing.c: where a learner stands.  See standing.h.
 */
#include "postgres.h"

#include "projections/progress.h"
#include "projections/skill.h"
#include "projections/standing.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#define FAILING_ATTEMPTS 5
#define FAILING_SHARE    0.5

static double
number_of(const Skill *skill, SkillNumber number)
{
	return eduai_projections_state_as_double(&skill->numbers[number].value);
}

static int64
count_of(const Skill *skill, SkillNumber number)
{
	return eduai_projections_state_as_int(&skill->numbers[number].value);
}

void
eduai_projections_standing(EduaiStanding *standing, const Jsonb *json, TimestampTz last_activity,
						   TimestampTz active_since)
{
	State *state = &standing->state;
	const StateItem *skills;

	memset(standing, 0, sizeof(EduaiStanding));
	eduai_projections_state_read(state, json);
	skills = eduai_projections_state_open(state, FIELD_SKILLS);
	for (int i = 0; i < skills->nentries; i++)
	{
		Skill skill = eduai_projections_skill_read(&skills->entries[i].value);

		standing->attempts += count_of(&skill, SKILL_ATTEMPTS);
		standing->correct += count_of(&skill, SKILL_CORRECT);
	}
	standing->mastered = eduai_projections_state_open(state, FIELD_SKILLS_MASTERED)->nentries;
	standing->exercises =
		eduai_projections_state_as_int(&state->items[FIELD_EXERCISES_COMPLETED].packed);
	standing->seconds =
		eduai_projections_state_as_double(&state->items[FIELD_TOTAL_TIME_SPENT].packed);
	standing->last_activity = last_activity;
	standing->inactive = last_activity < active_since;
	standing->failing = standing->attempts >= FAILING_ATTEMPTS &&
						standing->correct < FAILING_SHARE * standing->attempts;
}

char *
eduai_projections_standing_level(const EduaiStanding *standing)
{
	const JsonbValue *level = &standing->state.items[FIELD_CURRENT_LEVEL].packed;

	if (level->type == jbvString)
		return pnstrdup(level->val.string.val, level->val.string.len);
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(level->val.numeric)));
}

typedef struct Weak
{
	const JsonbValue *name;
	double mastery;
} Weak;

static int
compare_names(const JsonbValue *a, const JsonbValue *b)
{
	int order =
		memcmp(a->val.string.val, b->val.string.val, Min(a->val.string.len, b->val.string.len));

	return order != 0 ? order : a->val.string.len - b->val.string.len;
}

static int
compare_weak(const void *a, const void *b)
{
	const Weak *x = a;
	const Weak *y = b;

	if (x->mastery != y->mastery)
		return x->mastery < y->mastery ? -1 : 1;
	return compare_names(x->name, y->name);
}

int
eduai_projections_standing_weakest(EduaiStanding *standing,
								   JsonbValue names[EDUAI_PROJECTIONS_WEAKEST])
{
	const StateItem *skills = eduai_projections_state_open(&standing->state, FIELD_SKILLS);
	Weak *weak = palloc(sizeof(Weak) * (skills->nentries + 1));
	int n = 0;

	for (int i = 0; i < skills->nentries; i++)
	{
		Skill skill = eduai_projections_skill_read(&skills->entries[i].value);
		double mastery = number_of(&skill, SKILL_MASTERY);

		if (count_of(&skill, SKILL_ATTEMPTS) > 0 && mastery < EDUAI_PROJECTIONS_MASTERY)
			weak[n++] = (Weak){&skills->entries[i].key, mastery};
	}
	qsort(weak, n, sizeof(Weak), compare_weak);
	n = Min(n, EDUAI_PROJECTIONS_WEAKEST);
	for (int i = 0; i < n; i++)
		names[i] = *weak[i].name;
	pfree(weak);
	return n;
}
