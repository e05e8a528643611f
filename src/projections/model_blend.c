/*
 * model_blend.c: the single models' predictions, mixed and calibrated.
 *
 * Stacking (Wolpert 1992) in logit space: logistic regressions on the single
 * models' logits, learnt online by AdaGrad.  There is one for each situation,
 * after the gated mixtures of data compressors (Mahoney 2005): which model to
 * trust depends on how much is known of the learner in the skill, and how
 * fresh it is.  Constant and slopes are Platt's calibration (1999) of each
 * situation at the same time.  It starts as the logistic model alone.
 */
#include "projections/model_internal.h"

enum
{
	CONSTANT,
	BKT,
	ELO,
	LOGISTIC,
};

#define RATE 0.01

/* Answers in other skills after which a skill is no longer fresh. */
#define FRESH 10

void
eduai_projections_model_blend_start(EduaiModelTenant *tenant)
{
	for (int i = 0; i < EDUAI_MODEL_SITUATIONS; i++)
		tenant->blend[i][LOGISTIC].value = 1;
}

/* 0 for a first answer; then by 1, 2 or 3, 4 to 8, more answers, and three degrees of freshness. */
static int
situation(const ModelView *view)
{
	double n = view->pair->attempts;
	double others = view->learner->attempts - view->pair->last_place;
	int experience = n < 2 ? 0 : n < 4 ? 1 : n < 9 ? 2 : 3;
	int age = others < 1 ? 0 : others < FRESH ? 1 : 2;

	return n < 1 ? 0 : 1 + 3 * experience + age;
}

static void
fill(const EduaiModelPrediction *single, double *x)
{
	x[CONSTANT] = 1;
	x[BKT] = to_logit(single->bkt);
	x[ELO] = to_logit(single->elo);
	x[LOGISTIC] = to_logit(single->logistic);
}

double
eduai_projections_model_blend_predict(const ModelView *view, const EduaiModelPrediction *single)
{
	const EduaiModelWeight *weights = view->tenant->blend[situation(view)];
	double x[EDUAI_MODEL_MIXED];
	double logit = 0;

	fill(single, x);
	for (int i = 0; i < EDUAI_MODEL_MIXED; i++)
		logit += weights[i].value * x[i];
	return to_probability(logit);
}

void
eduai_projections_model_blend_learn(const ModelView *view, const EduaiModelPrediction *single,
									double error, EduaiModelTenant *tenant)
{
	EduaiModelWeight *weights = tenant->blend[situation(view)];
	double x[EDUAI_MODEL_MIXED];

	fill(single, x);
	for (int i = 0; i < EDUAI_MODEL_MIXED; i++)
		weight_step(&weights[i], error * x[i], RATE, 0);
}
