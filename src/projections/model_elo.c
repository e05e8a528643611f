/*
 * model_elo.c: ratings after Elo, with a step that decays (Pelanek 2016).
 *
 * The logit of a right answer is what the learner can, in all and in the
 * skill, less how hard the skill and the item are.  A rating moves by
 * K * (outcome - expected), where K = first / (1 + decay * n) after n answers.
 */
#include "projections/model_internal.h"

#define LEARNER_FIRST 0.4
#define LEARNER_DECAY 0.03
#define PAIR_FIRST    0.5
#define PAIR_DECAY    0.1
#define SKILL_FIRST   0.5
#define SKILL_DECAY   0.02
#define ITEM_FIRST    0.5
#define ITEM_DECAY    0.1

double
eduai_projections_model_elo_predict(const ModelView *view)
{
	return view->learner->elo + view->pair->elo - view->skill->elo - view->item->elo;
}

static double
step(double attempts, double first, double decay)
{
	return first / (1 + decay * attempts);
}

void
eduai_projections_model_elo_learn(const EduaiModelEntities *e, double error)
{
	if (e->learner != NULL)
		e->learner->elo -= error * step(e->learner->attempts, LEARNER_FIRST, LEARNER_DECAY);
	if (e->pair != NULL)
		e->pair->elo -= error * step(e->pair->attempts, PAIR_FIRST, PAIR_DECAY);
	if (e->skill != NULL)
		e->skill->elo += error * step(e->skill->attempts, SKILL_FIRST, SKILL_DECAY);
	if (e->item != NULL)
		e->item->elo += error * step(e->item->attempts, ITEM_FIRST, ITEM_DECAY);
}
