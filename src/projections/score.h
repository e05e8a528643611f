/*
 * score.h: how good predictions of right and wrong answers were.  Pure.
 */
#ifndef EDUAI_PROJECTIONS_SCORE_H
#define EDUAI_PROJECTIONS_SCORE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct EduaiScore
{
	double auc; /* NaN when all answers are right, or all wrong */
	double rmse;
	double log_loss;          /* nats; a probability counts as within 0.001 and 0.999 */
	double calibration_error; /* expected, in EDUAI_SCORE_BINS bins of equal width */
} EduaiScore;

#define EDUAI_SCORE_BINS 15

/* A prediction with its outcome, for sorting: scratch. */
typedef struct EduaiScoreEntry
{
	double predicted;
	bool correct;
} EduaiScoreEntry;

/*
 * The score of n > 0 predictions; scratch has room for n and is left sorted.
 * The area under the ROC curve is exact: the share of pairs of a right and a
 * wrong answer in which the right one had the greater prediction, ties half.
 */
extern EduaiScore eduai_projections_score(const double *predicted, const bool *correct, size_t n,
										  EduaiScoreEntry *scratch);

#endif
