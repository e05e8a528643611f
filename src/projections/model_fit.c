/*
 * model_fit.c: expectation maximisation for Bayesian knowledge tracing with
 * forgetting (Baum, Petrie, Soules, Weiss 1970; Dempster, Laird, Rubin 1977).
 *
 * A learner's answers in a skill are a hidden Markov chain with the states
 * known and not known.  From one answer to the next a learner first learns with
 * probability learn, then keeps what is known over d days with
 * kept = (1 - forget)^d:
 *
 *              to known        to not known
 *   known      kept            1 - kept
 *   not known  learn * kept    1 - learn * kept
 *
 * A round computes, for each answer, how likely each state and step was given
 * all of the learner's answers (forward and backward), counts them, and sets
 * each parameter to what makes the counts likeliest.  Whoever goes from not
 * known to not known may have learnt and lost it again: those counts are split.
 * The step of forget has no closed form for several d; its objective is concave
 * in -log(1 - forget), where the slope's zero is found by bisection.
 *
 * The prior is a few answers that agree with the start, so that a parameter of
 * which the answers say nothing stays there.  A parameter whose best value
 * lies outside its bounds is set to the bound: the objective is concave in
 * each, so that is the best within them, and no round makes it smaller.
 */
#include <math.h>
#include <string.h>

#include "projections/model_fit.h"

#define PRIOR_ANSWERS 4.0

#define LEAST        0.001
#define MOST         0.999
#define MOST_SLIP    0.49 /* and guess */
#define LEAST_FORGET 1e-5
#define MOST_FORGET  0.2

#define BISECTIONS 40

/* A parameter's chances and how often they were taken. */
typedef struct Count
{
	double taken;
	double of;
} Count;

typedef struct Counts
{
	Count init;
	Count learn;
	Count slip;
	Count guess;
	double kept[EDUAI_MODEL_MOST_DAYS + 1]; /* what was known before, by days */
	double lost[EDUAI_MODEL_MOST_DAYS + 1];
	double log_likelihood;
} Counts;

static double
bounded(double value, double least, double most)
{
	return value < least ? least : value > most ? most : value;
}

EduaiModelBkt
eduai_projections_fit_start(const EduaiFitAnswer *answers, int n)
{
	EduaiModelSkill skill;
	EduaiModelBkt start;

	memset(&skill, 0, sizeof(skill));
	for (int i = 0; i < n; i++)
	{
		skill.attempts += 1;
		skill.correct += answers[i].correct;
		skill.learners += answers[i].first;
		skill.first_correct += answers[i].first && answers[i].correct;
	}
	start = eduai_projections_model_bkt_default(&skill);
	start.slip = bounded(start.slip, LEAST, MOST_SLIP);
	start.guess = bounded(start.guess, LEAST, MOST_SLIP);
	return start;
}

/* ---- the prior ---- */

static double
prior_of(double value, double expected)
{
	return PRIOR_ANSWERS * (expected * log(value) + (1 - expected) * log(1 - value));
}

static double
log_prior(const EduaiModelBkt *p, const EduaiModelBkt *start)
{
	return prior_of(p->init, start->init) + prior_of(p->learn, start->learn) +
		   prior_of(p->slip, start->slip) + prior_of(p->guess, start->guess) +
		   prior_of(p->forget, start->forget);
}

/* ---- counting ---- */

/* What is believed after a step of learning and forgetting. */
static EduaiFitBelief
step(const EduaiFitBelief *from, const EduaiModelBkt *p, double kept)
{
	return (EduaiFitBelief){
		.known = (from->known + from->unknown * p->learn) * kept,
		.unknown = from->known * (1 - kept) + from->unknown * (1 - p->learn * kept),
	};
}

/* Fills the scratch of one sequence; returns its log likelihood. */
static double
forward(const EduaiFitAnswer *a, int n, const EduaiModelBkt *p, const double *kept,
		EduaiFitScratch *scratch)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
	{
		EduaiFitBelief before = {p->init, 1 - p->init};
		double known;
		double unknown;

		if (i > 0)
			before = step(&scratch[i - 1].after, p, kept[a[i].days]);
		known = before.known * (a[i].correct ? 1 - p->slip : p->slip);
		unknown = before.unknown * (a[i].correct ? p->guess : 1 - p->guess);
		scratch[i].before = before;
		scratch[i].after.known = known / (known + unknown);
		scratch[i].after.unknown = unknown / (known + unknown);
		sum += log(known + unknown);
	}
	return sum;
}

static void
count_answer(Counts *c, bool correct, const EduaiFitBelief *belief)
{
	c->slip.of += belief->known;
	c->guess.of += belief->unknown;
	if (correct)
		c->guess.taken += belief->unknown;
	else
		c->slip.taken += belief->known;
}

static double
ratio(double probability, double of)
{
	return of > 0 ? probability / of : 0;
}

/*
 * Counts the step from one answer to the next, of which "belief" says what is
 * believed given all answers; returns the same for the former.
 */
static EduaiFitBelief
count_step(Counts *c, const EduaiModelBkt *p, int days, double kept, const EduaiFitScratch *from,
		   const EduaiFitScratch *to, const EduaiFitBelief *belief)
{
	/* what the later answers say, over what the earlier ones had said */
	double for_known = ratio(belief->known, to->before.known);
	double for_unknown = ratio(belief->unknown, to->before.unknown);
	double known_known = from->after.known * kept * for_known;
	double known_unknown = from->after.known * (1 - kept) * for_unknown;
	double unknown_known = from->after.unknown * p->learn * kept * for_known;
	double unknown_unknown = from->after.unknown * (1 - p->learn * kept) * for_unknown;
	double lost_again = unknown_unknown * p->learn * (1 - kept) / (1 - p->learn * kept);

	c->learn.of += unknown_known + unknown_unknown;
	c->learn.taken += unknown_known + lost_again;
	c->kept[days] += known_known + unknown_known;
	c->lost[days] += known_unknown + lost_again;
	return (EduaiFitBelief){known_known + known_unknown, unknown_known + unknown_unknown};
}

static void
count_sequence(Counts *c, const EduaiFitAnswer *a, int n, const EduaiModelBkt *p,
			   const double *kept, EduaiFitScratch *scratch)
{
	EduaiFitBelief belief;

	c->log_likelihood += forward(a, n, p, kept, scratch);
	belief = scratch[n - 1].after;
	for (int i = n - 1; i > 0; i--)
	{
		count_answer(c, a[i].correct, &belief);
		belief =
			count_step(c, p, a[i].days, kept[a[i].days], &scratch[i - 1], &scratch[i], &belief);
	}
	count_answer(c, a[0].correct, &belief);
	c->init.of += 1;
	c->init.taken += belief.known;
}

static void
count_all(Counts *c, const EduaiFitAnswer *answers, int n, const EduaiModelBkt *p,
		  EduaiFitScratch *scratch)
{
	double kept[EDUAI_MODEL_MOST_DAYS + 1];

	memset(c, 0, sizeof(*c));
	for (int d = 0; d <= EDUAI_MODEL_MOST_DAYS; d++)
		kept[d] = pow(1 - p->forget, d);
	for (int start = 0; start < n;)
	{
		int end = start + 1;

		while (end < n && !answers[end].first)
			end++;
		count_sequence(c, answers + start, end - start, p, kept, scratch);
		start = end;
	}
}

/* ---- improving ---- */

static double
share(const Count *count, double expected, double most)
{
	return bounded((count->taken + PRIOR_ANSWERS * expected) / (count->of + PRIOR_ANSWERS), LEAST,
				   most);
}

/* The slope of the objective at rate = -log(1 - forget). */
static double
slope_at(const Counts *c, double rate)
{
	double slope = 0;

	for (int d = 1; d <= EDUAI_MODEL_MOST_DAYS; d++)
	{
		if (c->kept[d] > 0)
			slope -= c->kept[d] * d;
		if (c->lost[d] > 0)
			slope += c->lost[d] * d / expm1(rate * d);
	}
	return slope;
}

/* The counts get the prior's: as many learners over one day. */
static double
best_forget(Counts *c, double expected)
{
	double least = -log1p(-LEAST_FORGET);
	double most = -log1p(-MOST_FORGET);

	c->kept[1] += PRIOR_ANSWERS * (1 - expected);
	c->lost[1] += PRIOR_ANSWERS * expected;
	if (slope_at(c, least) <= 0)
		return LEAST_FORGET;
	if (slope_at(c, most) >= 0)
		return MOST_FORGET;
	for (int i = 0; i < BISECTIONS; i++)
	{
		double middle = (least + most) / 2;

		if (slope_at(c, middle) > 0)
			least = middle;
		else
			most = middle;
	}
	return -expm1(-(least + most) / 2);
}

double
eduai_projections_fit_round(const EduaiFitAnswer *answers, int n, const EduaiModelBkt *start,
							EduaiModelBkt *parameters, EduaiFitScratch *scratch)
{
	EduaiModelBkt *p = parameters;
	double objective;
	Counts c;

	count_all(&c, answers, n, p, scratch);
	objective = c.log_likelihood + log_prior(p, start);
	p->init = share(&c.init, start->init, MOST);
	p->learn = share(&c.learn, start->learn, MOST);
	p->slip = share(&c.slip, start->slip, MOST_SLIP);
	p->guess = share(&c.guess, start->guess, MOST_SLIP);
	p->forget = best_forget(&c, start->forget);
	return objective;
}
