/*
 * progress.c: a learner's progress as a pure fold.  See progress.h.
 *
 * The mastery of a skill is that of the latest result in it:
 * clamp(score * time_efficiency / attempts, 0, 1), with the event's data,
 * where score is a percentage when above 1 and, without one, 1 or 0 as
 * data.correct says; attempts below 1 counts as 1.
 */
#include "postgres.h"

#include <math.h>

#include "core/json.h"
#include "mb/pg_wchar.h"
#include "projections/analytics.h"
#include "projections/progress.h"
#include "projections/skill.h"
#include "projections/state.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* Longer names of skills, emotions and achievements are ignored. */
#define MAX_NAME_BYTES 512

/* A longer exercise (31 years) is ignored; the sum stops where an integer is near its end. */
#define MAX_TIME_SPENT_S 1e9
#define MAX_TOTAL_TIME_S 1e12

/* Times are summed as integers: no rounding depends on what is folded together. */
#define US_PER_S 1000000

struct EduaiProgress
{
	State state;
	int64 version;
	TimestampTz last_activity;
};

/* ---- reading an event's data ---- */

static bool
get_name(const Jsonb *data, const char *key, JsonbValue *name)
{
	return eduai_core_json_get(data, key, name) && name->type == jbvString &&
		   name->val.string.len > 0 && name->val.string.len <= MAX_NAME_BYTES;
}

static bool
get_skill(const Jsonb *data, JsonbValue *name)
{
	return get_name(data, "skill_name", name) || get_name(data, "skill", name);
}

/* A level is a number or a name. */
static bool
get_level(const Jsonb *data, const char *key, JsonbValue *level)
{
	return get_name(data, key, level) ||
		   (eduai_core_json_get(data, key, level) && level->type == jbvNumeric);
}

static bool
get_score(const Jsonb *data, double *score)
{
	bool correct;

	if (eduai_core_json_double(data, "score", score))
	{
		if (*score > 1)
			*score /= 100;
		return true;
	}
	if (!eduai_core_json_bool(data, "correct", &correct))
		return false;
	*score = correct ? 1 : 0;
	return true;
}

static double
clamp_unit(double value)
{
	return value < 0 ? 0 : value > 1 ? 1 : value;
}

static JsonbValue
number(double value)
{
	JsonbValue number = {.type = jbvNumeric};
	Datum numeric = DirectFunctionCall1(float8_numeric, Float8GetDatum(value));

	number.val.numeric = DatumGetNumeric(numeric);
	return number;
}

static double
mastery_of(const Jsonb *data, double score)
{
	double efficiency;
	double attempts;

	if (!eduai_core_json_double(data, "time_efficiency", &efficiency))
		efficiency = 1;
	if (!eduai_core_json_double(data, "attempts", &attempts) || attempts < 1)
		attempts = 1;
	return clamp_unit(score * efficiency / attempts);
}

static bool
is_correct(const Jsonb *data)
{
	bool correct;
	double score;

	if (eduai_core_json_bool(data, "correct", &correct))
		return correct;
	return get_score(data, &score) && score >= EDUAI_PROJECTIONS_MASTERY;
}

/* ---- what each event type does ---- */

static void
count(Skill *skill, SkillNumber number)
{
	JsonbValue *value = &skill->numbers[number].value;

	*value = eduai_projections_state_int(eduai_projections_state_as_int(value) + 1);
}

static void
put_skill(StateItem *skills, const JsonbValue *name, const Skill *skill)
{
	JsonbValue value = eduai_projections_skill_write(skill);

	eduai_projections_state_put(skills, name, &value);
}

static void
fold_attempt(State *state, const EduaiEvent *event)
{
	StateItem *skills;
	JsonbValue name;
	Skill skill;
	double score;

	if (!get_skill(event->data, &name))
		return;
	skills = eduai_projections_state_open(state, FIELD_SKILLS);
	skill = eduai_projections_skill_read(eduai_projections_state_get(skills, &name));
	count(&skill, SKILL_ATTEMPTS);
	if (is_correct(event->data))
		count(&skill, SKILL_CORRECT);
	if (get_score(event->data, &score))
		skill.numbers[SKILL_MASTERY].value = number(mastery_of(event->data, score));
	put_skill(skills, &name, &skill);
}

static int64
to_us(const JsonbValue *seconds)
{
	double value = eduai_projections_state_as_double(seconds);

	/* written so that it refuses what is no number, too */
	if (!(value > 0))
		return 0;
	return llround(Min(value, MAX_TOTAL_TIME_S) * US_PER_S);
}

static void
add_time(State *state, const Jsonb *data)
{
	JsonbValue *total = &state->items[FIELD_TOTAL_TIME_SPENT].packed;
	JsonbValue spent;
	int64 sum;
	Datum seconds;

	if (!eduai_core_json_get(data, "time_spent", &spent) || spent.type != jbvNumeric ||
		to_us(&spent) > (int64) MAX_TIME_SPENT_S * US_PER_S)
		return;
	sum = Min(to_us(total) + to_us(&spent), (int64) MAX_TOTAL_TIME_S * US_PER_S);
	/* as seconds, without zeros at the end */
	seconds = NumericGetDatum(int64_div_fast_to_numeric(sum, 6));
	total->type = jbvNumeric;
	total->val.numeric = DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, seconds));
}

static void
fold_completed(State *state, const EduaiEvent *event)
{
	JsonbValue *count = &state->items[FIELD_EXERCISES_COMPLETED].packed;

	fold_attempt(state, event);
	*count = eduai_projections_state_int(eduai_projections_state_as_int(count) + 1);
	add_time(state, event->data);
}

static void
fold_mastered(State *state, const EduaiEvent *event)
{
	StateItem *mastered;
	StateItem *skills;
	JsonbValue name;
	Skill skill;
	double mastery;
	double score;

	if (!get_skill(event->data, &name))
		return;
	mastered = eduai_projections_state_open(state, FIELD_SKILLS_MASTERED);
	if (!eduai_projections_state_has(mastered, &name))
		eduai_projections_state_add(mastered, &name);

	/* the event is the word that the skill is mastered, whatever its score */
	skills = eduai_projections_state_open(state, FIELD_SKILLS);
	skill = eduai_projections_skill_read(eduai_projections_state_get(skills, &name));
	mastery = get_score(event->data, &score)
				  ? mastery_of(event->data, score)
				  : eduai_projections_state_as_double(&skill.numbers[SKILL_MASTERY].value);
	skill.numbers[SKILL_MASTERY].value = number(Max(mastery, EDUAI_PROJECTIONS_MASTERY));
	put_skill(skills, &name, &skill);
}

/* The reason's start: a history of a thousand reasons is rewritten by every event. */
static char *
get_reason(const Jsonb *data)
{
	char *reason = eduai_core_json_text(data, "reason");

	if (reason != NULL && strlen(reason) > MAX_NAME_BYTES)
		reason[pg_mbcliplen(reason, strlen(reason), MAX_NAME_BYTES)] = '\0';
	return reason;
}

static void
fold_difficulty(State *state, const EduaiEvent *event)
{
	StateItem *history;
	JsonbValue *current = &state->items[FIELD_CURRENT_LEVEL].packed;
	JsonbValue old_level;
	JsonbValue new_level;
	JsonbValue entry;
	EduaiJson j;

	if (!get_level(event->data, "new_level", &new_level))
		return;
	if (!get_level(event->data, "old_level", &old_level))
		old_level = *current;
	history = eduai_projections_state_open(state, FIELD_DIFFICULTY_HISTORY);
	eduai_core_json_begin(&j);
	eduai_core_json_put_time(&j, "timestamp", event->occurred_at);
	eduai_core_json_put_value(&j, "old_level", &old_level);
	eduai_core_json_put_value(&j, "new_level", &new_level);
	eduai_core_json_put_text(&j, "reason", get_reason(event->data));
	entry = eduai_projections_pack_value(eduai_core_json_end(&j));
	eduai_projections_state_add(history, &entry);
	eduai_projections_state_keep_last(history, EDUAI_PROJECTIONS_HISTORY);
	*current = new_level;
}

static void
fold_emotion(State *state, const EduaiEvent *event)
{
	StateItem *emotions;
	JsonbValue name;
	JsonbValue count;

	if (!get_name(event->data, "emotion", &name))
		return;
	emotions = eduai_projections_state_open(state, FIELD_EMOTION_PATTERNS);
	count = eduai_projections_state_int(
		eduai_projections_state_as_int(eduai_projections_state_get(emotions, &name)) + 1);
	eduai_projections_state_put(emotions, &name, &count);
}

static void
fold_achievement(State *state, const EduaiEvent *event)
{
	StateItem *achievements;
	JsonbValue name;

	if (!get_name(event->data, "achievement", &name))
		return;
	achievements = eduai_projections_state_open(state, FIELD_ACHIEVEMENTS);
	if (!eduai_projections_state_has(achievements, &name))
		eduai_projections_state_add(achievements, &name);
}

/* Any event may carry preferences: of equal keys the latest value holds. */
static void
fold_preferences(State *state, const EduaiEvent *event)
{
	StateItem *preferences;
	PackEntry *entries;
	JsonbValue given;
	int n;

	if (!eduai_core_json_get(event->data, "preferences", &given) || given.type != jbvBinary ||
		!JsonContainerIsObject(given.val.binary.data))
		return;
	preferences = eduai_projections_state_open(state, FIELD_LEARNING_PREFERENCES);
	n = JsonContainerSize(given.val.binary.data);
	entries = palloc(sizeof(PackEntry) * (n + 1));
	eduai_projections_pack_read(given.val.binary.data, entries);
	for (int i = 0; i < n; i++)
		eduai_projections_state_put(preferences, &entries[i].key, &entries[i].value);
}

static const struct
{
	const char *event_type;
	void (*fold)(State *state, const EduaiEvent *event);
} folds[] = {
	{"exercise_attempted", fold_attempt}, {"exercise_completed", fold_completed},
	{"skill_mastered", fold_mastered},    {"difficulty_adjusted", fold_difficulty},
	{"emotion_detected", fold_emotion},   {"achievement_unlocked", fold_achievement},
};

/* ---- the contract ---- */

EduaiProgress *
eduai_projections_progress_read(const Jsonb *state, int64 version, TimestampTz last_activity)
{
	EduaiProgress *progress = palloc(sizeof(EduaiProgress));

	eduai_projections_state_read(&progress->state, state);
	progress->version = version;
	progress->last_activity = last_activity;
	return progress;
}

void
eduai_projections_progress_fold(EduaiProgress *progress, const EduaiEvent *event)
{
	progress->version++;
	progress->last_activity = Max(progress->last_activity, event->occurred_at);
	fold_preferences(&progress->state, event);
	for (int i = 0; i < lengthof(folds); i++)
		if (pg_strcasecmp(event->event_type, folds[i].event_type) == 0)
			folds[i].fold(&progress->state, event);
}

int64
eduai_projections_progress_version(const EduaiProgress *progress)
{
	return progress->version;
}

TimestampTz
eduai_projections_progress_last_activity(const EduaiProgress *progress)
{
	return progress->last_activity;
}

Jsonb *
eduai_projections_progress_state(const EduaiProgress *progress)
{
	PackEntry entries[FIELDS];

	eduai_projections_state_entries(&progress->state, entries);
	return eduai_projections_pack_object(entries, FIELDS);
}

static int
compare_entries(const void *a, const void *b)
{
	return eduai_projections_pack_compare(&((const PackEntry *) a)->key,
										  &((const PackEntry *) b)->key);
}

/* What is shown beside the state. */
static Jsonb *
about(EduaiProgress *progress, const char *user_id)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "user_id", user_id);
	eduai_core_json_put_json(&j, "analytics", eduai_projections_analytics(&progress->state));
	/* no event, no time: an infinite one is written as null */
	eduai_core_json_put_time(&j, "last_activity", progress->last_activity);
	eduai_core_json_put_int(&j, "version", progress->version);
	return eduai_core_json_end(&j);
}

Jsonb *
eduai_projections_progress_show(EduaiProgress *progress, const char *user_id)
{
	Jsonb *more = about(progress, user_id);
	int n = FIELDS + JB_ROOT_COUNT(more);
	PackEntry *entries = palloc(sizeof(PackEntry) * n);

	eduai_projections_state_entries(&progress->state, entries);
	eduai_projections_pack_read(&more->root, entries + FIELDS);
	qsort(entries, n, sizeof(PackEntry), compare_entries);
	return eduai_projections_pack_object(entries, n);
}
