/*
 * replay.h: a tenant's answers in the order of the feed, and what the learner
 * model says of each before it is seen.
 */
#ifndef EDUAI_PROJECTIONS_REPLAY_H
#define EDUAI_PROJECTIONS_REPLAY_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "projections/answer.h"
#include "projections/model.h"

/* An answer; lives during the call. */
typedef struct EduaiLoggedAnswer
{
	const char *user_id;
	EduaiAnswer answer;
	TimestampTz at; /* as the model takes it */
	int64 position;
} EduaiLoggedAnswer;

typedef void (*EduaiLoggedAnswerSink)(const EduaiLoggedAnswer *answer, void *arg);

/*
 * Feeds the sink all answers that the learner model follows, in its order.
 * Interruptible.  Inside SPI, as the owner; raises what an upcaster raises.
 */
extern void
eduai_projections_answers_read(const char *tenant, EduaiLoggedAnswerSink sink, void *arg);

/* What was said of an answer before it was seen. */
typedef struct EduaiReplayedAnswer
{
	TimestampTz at;
	bool correct;
	EduaiModelPrediction model;
	double last_outcome; /* the learner's last in the skill; without one, as the tenant's share */
	double skill_mean;   /* the skill's share of right answers; without one, the tenant's */
} EduaiReplayedAnswer;

typedef void (*EduaiReplayedAnswerSink)(const EduaiReplayedAnswer *answer, void *arg);

/*
 * Replays all answers through the model, with the states in the current memory
 * context and the parameters in force at each.  The same rules as above.
 * Returns the tenant's state after all of them.
 */
extern const EduaiModelTenant *
eduai_projections_replay(const char *tenant, EduaiReplayedAnswerSink sink, void *arg);

#endif
