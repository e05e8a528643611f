/*
 * model.c: the learner model: its parts put together.  See model.h.
 *
 * One function makes a prediction, for predict() and update() alike and not
 * inlined, so that both round in the same places.
 */
#include <string.h>

#include "projections/model_internal.h"

/* The learner's moving averages: over some three and thirty answers. */
#define FAST_RATE 0.3
#define SLOW_RATE 0.03

/* A pair's recent answers: each counts half of the next. */
#define FAST_KEPT 0.5

static const EduaiModelLearner no_learner;
static const EduaiModelSkill no_skill;
static const EduaiModelItem no_item;
static const EduaiModelPair no_pair;
static const EduaiModelRepeat no_repeat;

void
eduai_projections_model_start(EduaiModelTenant *tenant)
{
	memset(tenant, 0, sizeof(*tenant));
	eduai_projections_model_logistic_start(tenant);
	eduai_projections_model_blend_start(tenant);
}

double
eduai_projections_model_tenant_share(const EduaiModelTenant *tenant)
{
	return (tenant->correct + PRIOR_CORRECT) / (tenant->attempts + PRIOR_ANSWERS);
}

double
eduai_projections_model_skill_share(const ModelView *view)
{
	return smoothed_share(view->skill->correct, view->skill->attempts,
						  eduai_projections_model_tenant_share(view->tenant), SHARE_WEIGHT);
}

static ModelView
view_of(const EduaiModelEntities *entities, double at)
{
	ModelView view = {
		.tenant = entities->tenant,
		.learner = entities->learner != NULL ? entities->learner : &no_learner,
		.skill = entities->skill != NULL ? entities->skill : &no_skill,
		.item = entities->item != NULL ? entities->item : &no_item,
		.pair = entities->pair != NULL ? entities->pair : &no_pair,
		.repeat = entities->repeat != NULL ? entities->repeat : &no_repeat,
		.bkt = entities->bkt,
		.at = at,
	};

	return view;
}

static __attribute__((noinline)) EduaiModelPrediction
predict(const ModelView *view, LogisticInput *input)
{
	EduaiModelPrediction p;

	p.bkt =
		clamp(eduai_projections_model_bkt_predict(view), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY);
	p.elo = to_probability(eduai_projections_model_elo_predict(view));
	p.logistic = to_probability(eduai_projections_model_logistic_predict(view, p.bkt, input));
	p.blend = eduai_projections_model_blend_predict(view, &p);
	return p;
}

EduaiModelPrediction
eduai_projections_model_predict(const EduaiModelEntities *entities, double at)
{
	ModelView view = view_of(entities, at);
	LogisticInput input;

	return predict(&view, &input);
}

/* Moves the counts that every state begins with. */
#define COUNT(state, outcome, at)                              \
	do                                                         \
	{                                                          \
		if ((state)->attempts == 0 || (at) > (state)->last_at) \
			(state)->last_at = (at);                           \
		(state)->attempts += 1;                                \
		(state)->correct += (outcome);                         \
	} while (0)

/* The moving averages of the learner, over all that he answers. */
static void
learn_learner(EduaiModelLearner *learner, double outcome, double surprise)
{
	learner->fast += (surprise - learner->fast) * FAST_RATE;
	learner->slow += (surprise - learner->slow) * SLOW_RATE;
	learner->last_correct = outcome;
}

static void
learn_pair(EduaiModelPair *pair, const EduaiModelLearner *learner, double outcome)
{
	pair->fast_correct = pair->fast_correct * FAST_KEPT + outcome;
	pair->fast_attempts = pair->fast_attempts * FAST_KEPT + 1;
	pair->last_place = learner->attempts + 1;
}

static void
learn_counts(const EduaiModelEntities *entities, double outcome, double at)
{
	EduaiModelSkill *skill = entities->skill;

	/* a first answer in the skill, while its pair says so */
	if (skill != NULL && entities->pair != NULL && entities->pair->attempts == 0)
	{
		skill->learners += 1;
		skill->first_correct += outcome;
	}
	COUNT(entities->tenant, outcome, at);
	if (entities->learner != NULL)
		COUNT(entities->learner, outcome, at);
	if (skill != NULL)
		COUNT(skill, outcome, at);
	if (entities->item != NULL)
		COUNT(entities->item, outcome, at);
	if (entities->pair != NULL)
		COUNT(entities->pair, outcome, at);
	if (entities->repeat != NULL)
		COUNT(entities->repeat, outcome, at);
}

EduaiModelPrediction
eduai_projections_model_update(const EduaiModelEntities *entities, bool correct, double at)
{
	ModelView view = view_of(entities, at);
	LogisticInput input;
	EduaiModelPrediction before = predict(&view, &input);
	double outcome = correct ? 1 : 0;
	double surprise = outcome - eduai_projections_model_skill_share(&view);

	/* from the states as they were: counts come last */
	eduai_projections_model_blend_learn(&view, &before, before.blend - outcome, entities->tenant);
	eduai_projections_model_logistic_learn(entities, &input, before.logistic - outcome);
	eduai_projections_model_elo_learn(entities, before.elo - outcome);
	if (entities->pair != NULL)
	{
		eduai_projections_model_bkt_learn(&view, correct, entities->pair);
		learn_pair(entities->pair, view.learner, outcome);
	}
	if (entities->learner != NULL)
		learn_learner(entities->learner, outcome, surprise);
	learn_counts(entities, outcome, at);
	return before;
}
