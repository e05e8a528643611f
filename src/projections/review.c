/*
 * review.c: spaced repetition.  See review.h.
 */
#include "postgres.h"

#include <math.h>

#include "projections/review.h"
#include "utils/timestamp.h"

#define FIRST_DAYS  1
#define SECOND_DAYS 6

/* A century: beyond it a date only overflows. */
#define MAX_DAYS 36500

#define FAILURE_COST 0.15

/* An answer that takes so much more time than usual was not at hand. */
#define SLOW 2

/* As sure as a learner is who does not know. */
#define EVEN_CONFIDENCE 0.5

EduaiReview
eduai_projections_review_new(void)
{
	return (EduaiReview){.easiness = EDUAI_REVIEW_EASINESS_MAX, .due_at = DT_NOBEGIN};
}

static int
quality_of_success(const EduaiReviewAnswer *answer)
{
	int quality = 5;

	if (answer->hints > 0)
		quality--;
	if (answer->usual_s > 0 && answer->time_s > SLOW * answer->usual_s)
		quality--;
	if (answer->confidence >= 0 && answer->confidence < EVEN_CONFIDENCE)
		quality--;
	return Max(quality, EDUAI_REVIEW_PASS);
}

/* A mistake made with help, or in the belief to be right, is the worse one. */
static int
quality_of_failure(const EduaiReviewAnswer *answer)
{
	int quality = EDUAI_REVIEW_PASS - 1;

	if (answer->hints > 0)
		quality--;
	if (answer->confidence > EVEN_CONFIDENCE)
		quality--;
	return quality;
}

int
eduai_projections_review_quality(const EduaiReviewAnswer *answer)
{
	return answer->correct ? quality_of_success(answer) : quality_of_failure(answer);
}

static double
clamp_easiness(double easiness)
{
	return Min(Max(easiness, EDUAI_REVIEW_EASINESS_MIN), EDUAI_REVIEW_EASINESS_MAX);
}

static int64
next_interval(const EduaiReview *review)
{
	if (review->repetitions == 1)
		return FIRST_DAYS;
	if (review->repetitions == 2)
		return SECOND_DAYS;
	/* after a failure the last interval is a day, from which the ladder would not rise */
	return Min((int64) floor(Max(review->interval_days, SECOND_DAYS) * review->easiness + 0.5),
			   MAX_DAYS);
}

static TimestampTz
days_after(TimestampTz at, int64 days)
{
	int64 end = END_TIMESTAMP - 1;

	return at > end - days * USECS_PER_DAY ? end : at + days * USECS_PER_DAY;
}

static bool
is_practice(const EduaiReview *review, TimestampTz at)
{
	int64 half = review->interval_days * USECS_PER_DAY / 2;

	return review->interval_days > 0 && at < review->due_at - half;
}

static void
succeed(EduaiReview *review, int quality)
{
	int missing = 5 - quality;

	review->repetitions++;
	review->interval_days = next_interval(review);
	review->easiness = clamp_easiness(review->easiness + 0.1 - missing * (0.08 + missing * 0.02));
}

static void
fail(EduaiReview *review)
{
	review->repetitions = Max(review->repetitions - 1, 0);
	review->interval_days = FIRST_DAYS;
	review->easiness = clamp_easiness(review->easiness - FAILURE_COST);
}

void
eduai_projections_review(EduaiReview *review, const EduaiReviewAnswer *answer)
{
	int quality = eduai_projections_review_quality(answer);

	if (quality < EDUAI_REVIEW_PASS)
		fail(review);
	else if (is_practice(review, answer->at))
		return;
	else
		succeed(review, quality);
	review->due_at = days_after(answer->at, review->interval_days);
}
