/*
 * model_logistic.c: logistic regression on counts, learnt online.
 *
 * The features go back to performance factors analysis (Pavlik, Cen, Koedinger
 * 2009: counts of right and wrong answers, logarithmic as in Gervet,
 * Koedinger, Schneider, Mitchell 2020), recent performance factors analysis
 * (Galyardt, Goldin 2015: answers weighted by how recent they are), DAS3H
 * (Choffin, Popineau, Bourda, Vie 2019: how long ago), Elo's ratings and BKT's
 * prediction.  A coefficient is the tenant's plus the skill's own deviation
 * from it; learners and items have a constant each.  All are learnt by AdaGrad.
 *
 * Times count in hours, on a scale that makes nothing of seconds: when the
 * answer came must not tell how long it took, which nobody knows before.
 */
#include "projections/model_internal.h"

enum
{
	CONSTANT,
	LEARNER_ELO,
	PAIR_ELO,
	ITEM_ELO,
	ITEM_SHARE,    /* of right answers, as a logit, as are the shares below */
	LEARNER_SHARE, /* less the tenant's */
	PAIR_RIGHT,    /* log(1 + how many) */
	PAIR_WRONG,
	PAIR_FAST,    /* the share among the latest */
	PAIR_NEW,     /* no answer yet */
	PAIR_RECENT,  /* how few answers in other skills since the last in this one */
	PAIR_SAME,    /* none */
	PAIR_GAP,     /* log(1 + hours since) */
	LEARNER_FAST, /* moving averages of outcome less the skill's share */
	LEARNER_SLOW,
	LEARNER_LAST, /* 1 right, -1 wrong */
	LEARNER_GAP,
	REPEAT_RIGHT,
	REPEAT_WRONG,
	BKT,
};

/* Steps of AdaGrad; weights of an entity of its own decay towards none. */
#define TENANT_RATE 0.05
#define SKILL_RATE  0.02
#define BIAS_RATE   0.1
#define ITEM_RATE   0.3
#define DECAY       0.01
#define ITEM_DECAY  0.02

/* How much the expected share weighs in the shares of items, learners and latest answers. */
#define ITEM_WEIGHT 3.0
#define FAST_WEIGHT 1.0

/* The answers after which PAIR_RECENT has fallen to 1/e. */
#define RECENT_ANSWERS 10.0

/* A tenant starts with round numbers near to what real courses teach. */
void
eduai_projections_model_logistic_start(EduaiModelTenant *tenant)
{
	tenant->logistic[LEARNER_ELO].value = 0.3;
	tenant->logistic[PAIR_ELO].value = 0.3;
	tenant->logistic[ITEM_SHARE].value = 0.5;
	tenant->logistic[PAIR_FAST].value = 0.3;
}

static double
hours(double attempts, double last_at, double at)
{
	return log1p(elapsed(attempts, last_at, at) / SECONDS_PER_HOUR);
}

static void
fill_pair(const ModelView *view, double skill_share, double *x)
{
	const EduaiModelPair *pair = view->pair;
	double others = view->learner->attempts - pair->last_place;

	x[PAIR_ELO] = pair->elo;
	x[PAIR_RIGHT] = log1p(pair->correct);
	x[PAIR_WRONG] = log1p(pair->attempts - pair->correct);
	x[PAIR_FAST] =
		to_logit(smoothed_share(pair->fast_correct, pair->fast_attempts, skill_share, FAST_WEIGHT));
	x[PAIR_NEW] = pair->attempts == 0;
	x[PAIR_RECENT] = pair->attempts > 0 ? exp(-others / RECENT_ANSWERS) : 0;
	x[PAIR_SAME] = pair->attempts > 0 && others == 0;
	x[PAIR_GAP] = hours(pair->attempts, pair->last_at, view->at);
}

static void
fill_learner(const ModelView *view, double *x)
{
	const EduaiModelLearner *learner = view->learner;
	double share = eduai_projections_model_tenant_share(view->tenant);

	x[LEARNER_ELO] = learner->elo;
	x[LEARNER_SHARE] =
		to_logit(smoothed_share(learner->correct, learner->attempts, share, SHARE_WEIGHT)) -
		to_logit(share);
	x[LEARNER_FAST] = learner->fast;
	x[LEARNER_SLOW] = learner->slow;
	x[LEARNER_LAST] = learner->attempts == 0 ? 0 : learner->last_correct > 0 ? 1 : -1;
	x[LEARNER_GAP] = hours(learner->attempts, learner->last_at, view->at);
}

static void
fill(const ModelView *view, double bkt, double *x)
{
	const EduaiModelItem *item = view->item;
	const EduaiModelRepeat *repeat = view->repeat;
	double share = eduai_projections_model_skill_share(view);

	x[CONSTANT] = 1;
	fill_learner(view, x);
	fill_pair(view, share, x);
	x[ITEM_ELO] = -item->elo;
	x[ITEM_SHARE] = to_logit(smoothed_share(item->correct, item->attempts, share, ITEM_WEIGHT));
	x[REPEAT_RIGHT] = log1p(repeat->correct);
	x[REPEAT_WRONG] = log1p(repeat->attempts - repeat->correct);
	x[BKT] = to_logit(bkt);
}

double
eduai_projections_model_logistic_predict(const ModelView *view, double bkt, LogisticInput *input)
{
	const EduaiModelWeight *common = view->tenant->logistic;
	const EduaiModelWeight *own = view->skill->logistic;
	double logit = view->learner->bias.value + view->item->bias.value;

	fill(view, bkt, input->x);
	for (int i = 0; i < EDUAI_MODEL_FEATURES; i++)
		logit += (common[i].value + own[i].value) * input->x[i];
	return logit;
}

void
eduai_projections_model_logistic_learn(const EduaiModelEntities *entities,
									   const LogisticInput *input, double error)
{
	const double *x = input->x;

	for (int i = 0; i < EDUAI_MODEL_FEATURES; i++)
		weight_step(&entities->tenant->logistic[i], error * x[i], TENANT_RATE, 0);
	if (entities->skill != NULL)
	{
		weight_step(&entities->skill->logistic[CONSTANT], error, BIAS_RATE, DECAY);
		for (int i = CONSTANT + 1; i < EDUAI_MODEL_FEATURES; i++)
			weight_step(&entities->skill->logistic[i], error * x[i], SKILL_RATE, DECAY);
	}
	if (entities->learner != NULL)
		weight_step(&entities->learner->bias, error, BIAS_RATE, DECAY);
	if (entities->item != NULL)
		weight_step(&entities->item->bias, error, ITEM_RATE, ITEM_DECAY);
}
