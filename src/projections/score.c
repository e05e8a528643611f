/*
 * score.c: how good predictions were.  See score.h.
 */
#include <math.h>
#include <stdlib.h>

#include "projections/score.h"

#define LEAST 0.001

static int
compare_entries(const void *a, const void *b)
{
	double x = ((const EduaiScoreEntry *) a)->predicted;
	double y = ((const EduaiScoreEntry *) b)->predicted;

	return (x > y) - (x < y);
}

/* By the sum of the ranks of the right answers (Mann and Whitney 1947), ties sharing theirs. */
static double
area(const EduaiScoreEntry *sorted, size_t n)
{
	double ranks = 0;
	double right = 0;

	for (size_t start = 0; start < n;)
	{
		size_t end = start;
		double right_here = 0;

		for (; end < n && sorted[end].predicted == sorted[start].predicted; end++)
			right_here += sorted[end].correct;
		/* ranks start + 1 to end */
		ranks += right_here * (double) (start + 1 + end) / 2;
		right += right_here;
		start = end;
	}
	if (right == 0 || right == (double) n)
		return NAN;
	return (ranks - right * (right + 1) / 2) / (right * ((double) n - right));
}

static double
calibration_error(const EduaiScoreEntry *entries, size_t n)
{
	double gap[EDUAI_SCORE_BINS] = {0}; /* sum of predictions less that of outcomes */
	double sum = 0;

	for (size_t i = 0; i < n; i++)
	{
		int bin = (int) (entries[i].predicted * EDUAI_SCORE_BINS);

		gap[bin < EDUAI_SCORE_BINS ? bin : EDUAI_SCORE_BINS - 1] +=
			entries[i].predicted - entries[i].correct;
	}
	for (int i = 0; i < EDUAI_SCORE_BINS; i++)
		sum += fabs(gap[i]);
	return sum / (double) n;
}

EduaiScore
eduai_projections_score(const double *predicted, const bool *correct, size_t n,
						EduaiScoreEntry *scratch)
{
	double squares = 0;
	double loss = 0;
	EduaiScore score;

	for (size_t i = 0; i < n; i++)
	{
		double error = predicted[i] - correct[i];
		double certain = fmin(fmax(1 - fabs(error), LEAST), 1 - LEAST);

		squares += error * error;
		loss -= log(certain);
		scratch[i] = (EduaiScoreEntry){predicted[i], correct[i]};
	}
	score.rmse = sqrt(squares / (double) n);
	score.log_loss = loss / (double) n;
	score.calibration_error = calibration_error(scratch, n);
	qsort(scratch, n, sizeof(EduaiScoreEntry), compare_entries);
	score.auc = area(scratch, n);
	return score;
}
