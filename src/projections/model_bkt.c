/*
 * model_bkt.c: Bayesian knowledge tracing with forgetting.
 *
 * A learner knows a skill or does not, unseen.  The answer is right with 1 - slip
 * when he knows it, with guess when he does not; after the answer he learns it
 * with learn if he did not know it (Corbett and Anderson 1995).  Between two
 * answers a known skill is lost with forget per whole day (Qiu, Qi, Lu,
 * Pardos, Heffernan 2011; Khajah, Lindsey, Mozer 2016), whole days so that the
 * minutes spent on an answer say nothing about it.
 *
 * Without fitted parameters, three come from what the skill's answers show by
 * moments: slip and guess from the share of right answers, init from that of
 * the learners' first answers.
 */
#include "projections/model_internal.h"

/* Without fitted parameters: of the share of wrong, and of right answers. */
#define SLIP_OF_WRONG  0.4
#define GUESS_OF_RIGHT 0.5
#define LEARN          0.1
#define FORGET_A_DAY   0.005
#define LEAST_INIT     0.05

static const EduaiModelPair no_pair;
static const EduaiModelSkill no_skill;

EduaiModelBkt
eduai_projections_model_bkt_default(const EduaiModelSkill *skill)
{
	EduaiModelBkt p;
	double share;
	double first;

	share = smoothed_share(skill->correct, skill->attempts, PRIOR_CORRECT / PRIOR_ANSWERS,
						   SHARE_WEIGHT);
	first = smoothed_share(skill->first_correct, skill->learners, share, SHARE_WEIGHT);
	p.slip = SLIP_OF_WRONG * (1 - share);
	p.guess = GUESS_OF_RIGHT * share;
	p.learn = LEARN;
	p.forget = FORGET_A_DAY;
	/* solves first = init * (1 - slip) + (1 - init) * guess */
	p.init = clamp((first - p.guess) / (1 - p.slip - p.guess), LEAST_INIT, 1 - LEAST_INIT);
	return p;
}

static EduaiModelBkt
parameters(const EduaiModelSkill *skill, const EduaiModelBkt *fitted)
{
	return fitted != NULL ? *fitted : eduai_projections_model_bkt_default(skill);
}

double
eduai_projections_model_days(double since, double at)
{
	return at > since ? fmin(floor((at - since) / SECONDS_PER_DAY), EDUAI_MODEL_MOST_DAYS) : 0;
}

static double
known_at(const EduaiModelPair *pair, const EduaiModelBkt *p, double at)
{
	double days;

	if (pair->attempts == 0)
		return p->init;
	days = eduai_projections_model_days(pair->last_at, at);
	return days > 0 ? pair->known * pow(1 - p->forget, days) : pair->known;
}

double
eduai_projections_model_bkt_predict(const ModelView *view)
{
	EduaiModelBkt p = parameters(view->skill, view->bkt);
	double known = known_at(view->pair, &p, view->at);

	return known * (1 - p.slip) + (1 - known) * p.guess;
}

void
eduai_projections_model_bkt_learn(const ModelView *view, bool correct, EduaiModelPair *pair)
{
	EduaiModelBkt p = parameters(view->skill, view->bkt);
	double known = known_at(view->pair, &p, view->at);
	double if_known = known * (correct ? 1 - p.slip : p.slip);
	double if_not = (1 - known) * (correct ? p.guess : 1 - p.guess);
	double after = if_known / (if_known + if_not);

	pair->known = after + (1 - after) * p.learn;
}

double
eduai_projections_model_known(const EduaiModelPair *pair, const EduaiModelSkill *skill,
							  const EduaiModelBkt *bkt, double at)
{
	EduaiModelBkt p = parameters(skill != NULL ? skill : &no_skill, bkt);

	return known_at(pair != NULL ? pair : &no_pair, &p, at);
}
