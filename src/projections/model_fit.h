/*
 * model_fit.h: fitting Bayesian knowledge tracing to a skill's answers, by
 * expectation maximisation.  Pure, as model.h is; the caller owns all memory.
 */
#ifndef EDUAI_PROJECTIONS_MODEL_FIT_H
#define EDUAI_PROJECTIONS_MODEL_FIT_H

#include <stdbool.h>

#include "projections/model.h"

/* An answer in the sequence of a learner's answers in the skill. */
typedef struct EduaiFitAnswer
{
	unsigned short days; /* since the answer before, by eduai_projections_model_days() */
	bool correct;
	bool first; /* of its learner: a sequence begins */
} EduaiFitAnswer;

/*
 * Scratch for one answer.  Both probabilities are kept: one of them may be too
 * small to be seen in one less the other.
 */
typedef struct EduaiFitBelief
{
	double known;
	double unknown;
} EduaiFitBelief;

typedef struct EduaiFitScratch
{
	EduaiFitBelief before; /* the answer, from those before it */
	EduaiFitBelief after;  /* right after it, before learning */
} EduaiFitScratch;

/* Where a fit starts: the parameters that the model uses without one. */
extern EduaiModelBkt eduai_projections_fit_start(const EduaiFitAnswer *answers, int n);

/*
 * One round: replaces the parameters by better ones, within the bounds in
 * which they can be told apart (slip and guess below a half).  "start" is what
 * eduai_projections_fit_start() said.  Returns what is maximised, the log
 * likelihood of the answers plus that of the prior, for the parameters as they
 * were: no round makes it smaller.  scratch has room for n.
 */
extern double
eduai_projections_fit_round(const EduaiFitAnswer *answers, int n, const EduaiModelBkt *start,
							EduaiModelBkt *parameters, EduaiFitScratch *scratch);

#endif
