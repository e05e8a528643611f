/*
 * review.h: when a learner should see an exercise again: spaced repetition.
 *
 * SM-2 (P. Wozniak, "Optimization of repetition spacing in the practice of
 * learning", 1990): a review that succeeds makes the interval 1 day, then 6,
 * then the last one times the easiness; the easiness follows the quality of
 * the answers.  Where it differs from the paper:
 *
 *   - the easiness stays between 1.3 and 2.5, where it starts;
 *   - a failure takes 0.15 off the easiness and goes one step back instead of
 *     to the start; the exercise is due the next day;
 *   - the quality is not asked of the learner but read off the answer;
 *   - a success before half of the interval is over is practice: it changes
 *     nothing, so that ten answers in a row do not count as ten reviews.
 *
 * Pure: no clock, no SQL; the same answers give the same schedule.
 */
#ifndef EDUAI_PROJECTIONS_REVIEW_H
#define EDUAI_PROJECTIONS_REVIEW_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define EDUAI_REVIEW_EASINESS_MIN 1.3
#define EDUAI_REVIEW_EASINESS_MAX 2.5

/* The first quality that is a success. */
#define EDUAI_REVIEW_PASS 3

/* What one answer says of how well the exercise is remembered. */
typedef struct EduaiReviewAnswer
{
	bool correct;
	int64 hints;       /* 0 when none were taken, or it is not known */
	double time_s;     /* what it took, and what it usually takes; */
	double usual_s;    /* either is 0 when not known */
	double confidence; /* 0 to 1, as the learner said; below 0 when not known */
	TimestampTz at;
} EduaiReviewAnswer;

typedef struct EduaiReview
{
	double easiness;
	int64 interval_days; /* 0: never reviewed */
	int64 repetitions;   /* steps of the ladder 1, 6, ... */
	TimestampTz due_at;
} EduaiReview;

/* Of an exercise that the learner has not answered. */
extern EduaiReview eduai_projections_review_new(void);

/* 0 to 5; from EDUAI_REVIEW_PASS on it is a success.  Documented in docs/projections.md. */
extern int eduai_projections_review_quality(const EduaiReviewAnswer *answer);

/* The schedule after an answer. */
extern void eduai_projections_review(EduaiReview *review, const EduaiReviewAnswer *answer);

#endif
