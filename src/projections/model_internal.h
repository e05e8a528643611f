/*
 * model_internal.h: what the parts of the learner model share.  See model.h.
 *
 * A part predicts a logit from the states as they are, and learns from an
 * outcome given its own prediction.  The parts' states do not overlap but for
 * the counts, which model.c moves after all parts have learnt.
 */
#ifndef EDUAI_PROJECTIONS_MODEL_INTERNAL_H
#define EDUAI_PROJECTIONS_MODEL_INTERNAL_H

#include <math.h>
#include <stddef.h>

#include "projections/model.h"

#define SECONDS_PER_DAY  86400.0
#define SECONDS_PER_HOUR 3600.0

/* No prediction is surer than this. */
#define LEAST_PROBABILITY 0.001

/* A tenant's share of right answers starts at 2 of 3, as if 3 had been seen. */
#define PRIOR_ANSWERS 3.0
#define PRIOR_CORRECT 2.0

/* Shares of right answers start as if this many answers had shown the share expected. */
#define SHARE_WEIGHT 5.0

/* An unknown entity is one not seen before. */
typedef struct ModelView
{
	const EduaiModelTenant *tenant;
	const EduaiModelLearner *learner;
	const EduaiModelSkill *skill;
	const EduaiModelItem *item;
	const EduaiModelPair *pair;
	const EduaiModelRepeat *repeat;
	const EduaiModelBkt *bkt; /* may be NULL */
	double at;
} ModelView;

/* The features of an answer. */
typedef struct LogisticInput
{
	double x[EDUAI_MODEL_FEATURES];
} LogisticInput;

static inline double
clamp(double value, double least, double most)
{
	return value < least ? least : value > most ? most : value;
}

static inline double
to_probability(double logit)
{
	return clamp(1 / (1 + exp(-logit)), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY);
}

static inline double
to_logit(double probability)
{
	double p = clamp(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY);

	return log(p / (1 - p));
}

/* The share of right answers, pulled to "expected" as if "weight" answers had shown that. */
static inline double
smoothed_share(double correct, double attempts, double expected, double weight)
{
	return (correct + weight * expected) / (attempts + weight);
}

static inline double
elapsed(double attempts, double last_at, double at)
{
	return attempts > 0 && at > last_at ? at - last_at : 0;
}

/* A step of AdaGrad (Duchi, Hazan, Singer 2011) with weight decay. */
static inline void
weight_step(EduaiModelWeight *weight, double gradient, double rate, double decay)
{
	double g = gradient + decay * weight->value;

	weight->squares += g * g;
	weight->value -= rate * g / sqrt(1 + weight->squares);
}

/* The shares of right answers among all of the tenant's, and of the skill's. */
extern double eduai_projections_model_tenant_share(const EduaiModelTenant *tenant);
extern double eduai_projections_model_skill_share(const ModelView *view);

/* model_bkt.c */
extern double eduai_projections_model_bkt_predict(const ModelView *view);
extern void
eduai_projections_model_bkt_learn(const ModelView *view, bool correct, EduaiModelPair *pair);

/* model_elo.c: the logit */
extern double eduai_projections_model_elo_predict(const ModelView *view);
extern void eduai_projections_model_elo_learn(const EduaiModelEntities *entities, double error);

/* model_logistic.c: the logit */
extern void eduai_projections_model_logistic_start(EduaiModelTenant *tenant);
extern double
eduai_projections_model_logistic_predict(const ModelView *view, double bkt, LogisticInput *input);
extern void eduai_projections_model_logistic_learn(const EduaiModelEntities *entities,
												   const LogisticInput *input, double error);

/* model_blend.c */
extern void eduai_projections_model_blend_start(EduaiModelTenant *tenant);
extern double
eduai_projections_model_blend_predict(const ModelView *view, const EduaiModelPrediction *single);
extern void
eduai_projections_model_blend_learn(const ModelView *view, const EduaiModelPrediction *single,
									double error, EduaiModelTenant *tenant);

#endif
