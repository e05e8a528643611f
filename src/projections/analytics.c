/*
 * analytics.c: what a learner's state says in four figures.  See analytics.h.
 *
 * Hours and minutes are those of total_time_spent, the sum of the time_spent
 * of completed exercises.
 */
#include "postgres.h"

#include "core/json.h"
#include "projections/analytics.h"

static const char *const positive_emotions[] = {"joy", "excitement", "confidence", "satisfaction"};

static bool
is_positive(const JsonbValue *emotion)
{
	for (int i = 0; i < lengthof(positive_emotions); i++)
		if (emotion->val.string.len == strlen(positive_emotions[i]) &&
			memcmp(emotion->val.string.val, positive_emotions[i], emotion->val.string.len) == 0)
			return true;
	return false;
}

/* The share of positive emotions; one half when none was ever detected. */
static double
emotional_stability(State *state)
{
	StateItem *emotions = eduai_projections_state_open(state, FIELD_EMOTION_PATTERNS);
	double positive = 0;
	double all = 0;

	for (int i = 0; i < emotions->nentries; i++)
	{
		double count = eduai_projections_state_as_double(&emotions->entries[i].value);

		all += count;
		if (is_positive(&emotions->entries[i].key))
			positive += count;
	}
	return all > 0 ? positive / all : 0.5;
}

/* Distinct skills, practised or mastered. */
static int
skill_diversity(State *state)
{
	StateItem *skills = eduai_projections_state_open(state, FIELD_SKILLS);
	StateItem *mastered = eduai_projections_state_open(state, FIELD_SKILLS_MASTERED);
	int distinct = skills->nentries;

	for (int i = 0; i < mastered->nentries; i++)
		if (eduai_projections_state_get(skills, &mastered->entries[i].value) == NULL)
			distinct++;
	return distinct;
}

Jsonb *
eduai_projections_analytics(State *state)
{
	StateItem *mastered = eduai_projections_state_open(state, FIELD_SKILLS_MASTERED);
	const JsonbValue *completed = &state->items[FIELD_EXERCISES_COMPLETED].packed;
	const JsonbValue *seconds = &state->items[FIELD_TOTAL_TIME_SPENT].packed;
	double hours = eduai_projections_state_as_double(seconds) / 3600;
	double minutes = eduai_projections_state_as_double(seconds) / 60;
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_double(&j, "learning_velocity", mastered->nentries / Max(1, hours));
	eduai_core_json_put_int(&j, "skill_diversity", skill_diversity(state));
	eduai_core_json_put_double(&j, "learning_efficiency",
							   eduai_projections_state_as_double(completed) / Max(1, minutes));
	eduai_core_json_put_double(&j, "emotional_stability", emotional_stability(state));
	return eduai_core_json_end(&j);
}
