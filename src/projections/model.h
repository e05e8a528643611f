/*
 * model.h: the learner model, a pure core: how likely the next answer is right.
 *
 * Three single models and a blend of them, learnt online: each answer is
 * predicted first and learnt from then, in constant time.  No clock, no SQL,
 * no shared memory, no allocation, no randomness: the same answers in the same
 * order give bit-equal states.  Formulas and sources: docs/learner-model.md.
 *
 * Terms
 *
 *   entity   what has a state: the tenant, a learner, a skill, an item (an
 *            exercise or a step of one), a pair (a learner and a skill), a
 *            repeat (a learner and an item).
 *   state    a struct of doubles and nothing else, so that it can be kept as
 *            an array of them.  All zeros is the state of an entity not seen
 *            before, but for the tenant's, which has a function.
 *   at       a time: seconds since 2000-01-01, a TimestampTz / 1e6.  One
 *            earlier than the state's last_at counts as equal to it.
 *
 * Every state begins with attempts, correct and last_at (of the last answer).
 * The other fields are the models' own, and may change between releases:
 * the states are then rebuilt from the log.
 */
#ifndef EDUAI_PROJECTIONS_MODEL_H
#define EDUAI_PROJECTIONS_MODEL_H

#include <stdbool.h>

/* How many doubles a state is. */
#define EDUAI_MODEL_FIELDS(type) ((int) (sizeof(type) / sizeof(double)))

/* The features of the logistic model (model_logistic.c lists them). */
#define EDUAI_MODEL_FEATURES 20

/* More days without an answer than these make no more difference to BKT. */
#define EDUAI_MODEL_MOST_DAYS 365

/* What the blend mixes: a constant and the logits of the single models. */
#define EDUAI_MODEL_MIXED 4

/* The situations that the blend has a mixture of its own for (model_blend.c). */
#define EDUAI_MODEL_SITUATIONS 13

/* Parameters of Bayesian knowledge tracing for a skill. */
typedef struct EduaiModelBkt
{
	double init;   /* knows the skill at the first answer */
	double learn;  /* learns it at an answer */
	double slip;   /* knows it and answers wrong */
	double guess;  /* does not and answers right */
	double forget; /* loses it in a day without an answer */
} EduaiModelBkt;

/* A coefficient learnt online, with its AdaGrad accumulator. */
typedef struct EduaiModelWeight
{
	double value;
	double squares;
} EduaiModelWeight;

typedef struct EduaiModelLearner
{
	double attempts;
	double correct;
	double last_at;
	double elo;
	double fast; /* moving averages of outcome less expectation, over some 3 and 30 answers */
	double slow;
	double last_correct;
	EduaiModelWeight bias;
} EduaiModelLearner;

typedef struct EduaiModelSkill
{
	double attempts;
	double correct;
	double last_at;
	double elo;                                      /* difficulty */
	double learners;                                 /* who answered it at least once */
	double first_correct;                            /* of their first answers */
	EduaiModelWeight logistic[EDUAI_MODEL_FEATURES]; /* beside the tenant's */
} EduaiModelSkill;

typedef struct EduaiModelItem
{
	double attempts;
	double correct;
	double last_at;
	double elo; /* difficulty, beside its skill's */
	EduaiModelWeight bias;
} EduaiModelItem;

typedef struct EduaiModelPair
{
	double attempts;
	double correct;
	double last_at;
	double known; /* BKT: probability that the skill is known, right after the last answer */
	double elo;
	double fast_correct; /* decaying counts, over some two answers */
	double fast_attempts;
	double last_place; /* the learner's attempts after the last answer */
} EduaiModelPair;

typedef struct EduaiModelRepeat
{
	double attempts;
	double correct;
	double last_at;
} EduaiModelRepeat;

typedef struct EduaiModelTenant
{
	double attempts;
	double correct;
	double last_at;
	EduaiModelWeight logistic[EDUAI_MODEL_FEATURES];
	EduaiModelWeight blend[EDUAI_MODEL_SITUATIONS][EDUAI_MODEL_MIXED];
} EduaiModelTenant;

/*
 * Whose answer it is.  NULL: unknown, or not kept; a pair needs its skill, a
 * repeat its item.  bkt NULL: the skill has no fitted parameters.
 */
typedef struct EduaiModelEntities
{
	EduaiModelTenant *tenant; /* never NULL */
	EduaiModelLearner *learner;
	EduaiModelSkill *skill;
	EduaiModelItem *item;
	EduaiModelPair *pair;
	EduaiModelRepeat *repeat;
	const EduaiModelBkt *bkt;
} EduaiModelEntities;

/* Probabilities of a right answer, each within 0.001 and 0.999. */
typedef struct EduaiModelPrediction
{
	double bkt;
	double elo;
	double logistic;
	double blend; /* the one to show */
} EduaiModelPrediction;

/* The state of a tenant without answers. */
extern void eduai_projections_model_start(EduaiModelTenant *tenant);

/* What the models say of an answer given at a time.  Changes no state. */
extern EduaiModelPrediction
eduai_projections_model_predict(const EduaiModelEntities *entities, double at);

/*
 * Learns from an answer, changing the state of every entity given.  Returns
 * what predict() says right before, bit by bit.
 */
extern EduaiModelPrediction
eduai_projections_model_update(const EduaiModelEntities *entities, bool correct, double at);

/*
 * The parameters of a skill that has no fitted ones: from its share of right
 * answers and that of its learners' first answers.
 */
extern EduaiModelBkt eduai_projections_model_bkt_default(const EduaiModelSkill *skill);

/* Whole days between two times, 0 to EDUAI_MODEL_MOST_DAYS: what forgetting counts in. */
extern double eduai_projections_model_days(double since, double at);

/*
 * The probability that the learner knows the skill at a time, for statistics
 * and recommendations; of a pair not seen before (or NULL), the initial one.
 */
extern double
eduai_projections_model_known(const EduaiModelPair *pair, const EduaiModelSkill *skill,
							  const EduaiModelBkt *bkt, double at);

#endif
