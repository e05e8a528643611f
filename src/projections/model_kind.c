/*
 * model_kind.c: the learner model as a projection of eduai's own: answers are
 * folded in the order of the feed, all learners' together, since the states
 * of skills, items and the tenant couple them.  One lane follows the feed.
 *
 * An answer's time is its occurred_at, which a client may have set, but never
 * after it was recorded: a clock that runs ahead would otherwise stop the
 * learner's time.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/json.h"
#include "core/plan.h"
#include "projections/answer.h"
#include "projections/catalog.h"
#include "projections/model_kind.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* A longer answer (a day) was not worked on all the time: it counts as not timed. */
#define MAX_ANSWER_S 86400.0

/* From so many timed answers on, their mean is what an item usually takes. */
#define USUAL_FROM 5

/* Microseconds beyond which a double does not tell them apart: before 1715. */
#define EARLIEST (-INT64CONST(9000000000000000))

static bool model_on = true;

double
eduai_projections_model_time(TimestampTz at)
{
	return (double) Max(at, EARLIEST) / USECS_PER_SEC;
}

EduaiModelConcerned
eduai_projections_model_concerned(EduaiModelRows *set, const char *user_id, const char *skill,
								  const char *item)
{
	EduaiModelConcerned c = {0};
	EduaiModelRow **rows = c.rows;

	rows[EDUAI_MODEL_TENANT] =
		eduai_projections_model_row(set, EDUAI_MODEL_TENANT, NULL, NULL, NULL);
	rows[EDUAI_MODEL_LEARNER] =
		eduai_projections_model_row(set, EDUAI_MODEL_LEARNER, user_id, NULL, NULL);
	rows[EDUAI_MODEL_SKILL] =
		eduai_projections_model_row(set, EDUAI_MODEL_SKILL, skill, NULL, NULL);
	if (item != NULL)
		rows[EDUAI_MODEL_ITEM] =
			eduai_projections_model_row(set, EDUAI_MODEL_ITEM, skill, item, NULL);
	rows[EDUAI_MODEL_PAIR] =
		eduai_projections_model_row(set, EDUAI_MODEL_PAIR, user_id, skill, NULL);
	rows[EDUAI_MODEL_REPEAT] =
		eduai_projections_model_row(set, EDUAI_MODEL_REPEAT, user_id, skill, item ? item : "");
	c.entities.tenant = rows[EDUAI_MODEL_TENANT]->state;
	c.entities.learner = rows[EDUAI_MODEL_LEARNER]->state;
	c.entities.skill = rows[EDUAI_MODEL_SKILL]->state;
	c.entities.item = item ? rows[EDUAI_MODEL_ITEM]->state : NULL;
	c.entities.pair = rows[EDUAI_MODEL_PAIR]->state;
	c.entities.repeat = item ? rows[EDUAI_MODEL_REPEAT]->state : NULL;
	return c;
}

/* ---- folding ---- */

/* 0 when absent, or nothing that an answer could have taken. */
static double
read_time_s(const Jsonb *data)
{
	double seconds;

	if (!eduai_core_json_double(data, "time_spent", &seconds) || !(seconds > 0) ||
		seconds > MAX_ANSWER_S)
		return 0;
	return seconds;
}

static int64
read_hints(const Jsonb *data)
{
	int64 hints;

	if (!eduai_core_json_int64(data, "hints", &hints) &&
		!eduai_core_json_int64(data, "hints_used", &hints))
		return 0;
	return Max(hints, 0);
}

/* As scores are: above 1 it is a percentage. */
static double
read_confidence(const Jsonb *data)
{
	double confidence;

	if (!eduai_core_json_double(data, "confidence", &confidence) || !(confidence >= 0) ||
		confidence > 100)
		return -1;
	return confidence > 1 ? confidence / 100 : confidence;
}

static double
usual_s(const EduaiModelTally *tally)
{
	return tally->timed < USUAL_FROM ? 0 : (double) tally->time_us / tally->timed / USECS_PER_SEC;
}

static void
count_time(EduaiModelTally *tally, double time_s)
{
	if (time_s <= 0)
		return;
	tally->timed++;
	tally->time_us += (int64) rint(time_s * USECS_PER_SEC);
}

/* Answers that name no item are no repeats to the model, but practice of the skill. */
static void
count_repeat(EduaiModelRepeat *repeat, bool correct, double at)
{
	repeat->last_at = repeat->attempts > 0 ? Max(repeat->last_at, at) : at;
	repeat->attempts++;
	repeat->correct += correct;
}

/* What is kept beside the model: the schedule, and what the statistics count. */
static void
fold_practice(const EduaiModelConcerned *c, const EduaiEvent *event, bool correct, TimestampTz at)
{
	EduaiModelRow *skill = c->rows[EDUAI_MODEL_SKILL];
	EduaiModelRow *item = c->rows[EDUAI_MODEL_ITEM];
	EduaiModelRow *repeat = c->rows[EDUAI_MODEL_REPEAT];
	EduaiReviewAnswer answer = {.correct = correct,
								.hints = read_hints(event->data),
								.time_s = read_time_s(event->data),
								.usual_s = item ? usual_s(&item->tally) : 0,
								.confidence = read_confidence(event->data),
								.at = at};

	count_time(&skill->tally, answer.time_s);
	if (item != NULL)
	{
		item->tally.learners += ((EduaiModelRepeat *) repeat->state)->attempts == 1;
		count_time(&item->tally, answer.time_s);
	}
	eduai_projections_review(&repeat->review, &answer);
}

static void
fold_answer(EduaiModelRows *rows, const EduaiModelParameters *parameters, const EduaiEvent *event,
			int64 position)
{
	TimestampTz at = Min(event->occurred_at, event->recorded_at);
	double seconds = eduai_projections_model_time(at);
	EduaiModelConcerned c;
	EduaiAnswer answer;

	if (!eduai_projections_answer_read(event->data, &answer))
		return;
	c = eduai_projections_model_concerned(rows, event->user_id, answer.skill, answer.item);
	c.entities.bkt = eduai_projections_parameters_at(parameters, answer.skill, position);
	(void) eduai_projections_model_update(&c.entities, answer.correct, seconds);
	if (answer.item == NULL)
		count_repeat(c.rows[EDUAI_MODEL_REPEAT]->state, answer.correct, seconds);
	fold_practice(&c, event, answer.correct, at);
	for (int i = 0; i < EDUAI_MODEL_ENTITIES; i++)
		if (c.rows[i] != NULL)
			c.rows[i]->touched = true;
}

static void
fold_model(const EduaiFold *fold)
{
	EduaiModelParameters *parameters = eduai_projections_parameters_load(fold->tenant);
	EduaiModelRows *rows = eduai_projections_model_open(fold->tenant, fold->generation);

	for (int i = 0; i < fold->nevents; i++)
		fold_answer(rows, parameters, fold->events[i], fold->positions[i]);
	eduai_projections_model_close(rows);
}

/* ---- clearing ---- */

/* Rows of one tenant at a time, by the start of the primary key. */
static int64
clear_tenant(Datum tenant, int generation, int64 limit)
{
#define CLEAR(table)                                                                        \
	{                                                                                       \
		"DELETE FROM eduai." table " WHERE ctid = ANY (ARRAY(SELECT ctid FROM eduai." table \
		" WHERE tenant_id = $1 AND generation = $2 LIMIT $3))",                             \
			3,                                                                              \
		{                                                                                   \
			TEXTOID, INT4OID, INT8OID                                                       \
		}                                                                                   \
	}
	/* the tenant's own row last: it is how the tenant is found */
	static EduaiPlan plans[] = {CLEAR("model_learner_item"), CLEAR("model_learner_skill"),
								CLEAR("model_item"),         CLEAR("model_skill"),
								CLEAR("model_learner"),      CLEAR("model_tenant")};
	int64 cleared = 0;

	for (int i = 0; i < lengthof(plans) && cleared < limit; i++)
	{
		Datum args[3] = {tenant, Int32GetDatum(generation), Int64GetDatum(limit - cleared)};

		cleared += (int64) eduai_core_run_latest(&plans[i], args, NULL);
	}
	return cleared;
}

static int64
clear_model(int projection, int generation, int64 limit)
{
	static EduaiPlan find = {
		"SELECT tenant_id FROM eduai.model_tenant WHERE generation = $1 LIMIT 1", 1, {INT4OID}};
	int64 cleared = 0;

	while (cleared < limit)
	{
		Datum args[1] = {Int32GetDatum(generation)};
		int64 n;

		if (eduai_core_run_latest(&find, args, NULL) == 0)
			break;
		n = clear_tenant(CStringGetTextDatum(eduai_core_text(0, 1)), generation, limit - cleared);
		if (n == 0)
			break;
		cleared += n;
	}
	return cleared;
}

static bool
is_on(void)
{
	return model_on;
}

void
eduai_projections_model_init(void)
{
	static const EduaiProjectionKind kind = {
		.name = "learner model", .fold = fold_model, .clear = clear_model, .is_on = is_on};

	eduai_projections_kind_register(EDUAI_PROJECTION_MODEL, &kind);
	DefineCustomBoolVariable(
		"eduai.learner_model", "Learn from the answers that are appended.",
		"While it is off answers wait in the log; switched on again, the model learns from them, too.",
		&model_on, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
}
