/*
 * parameters.h: the fitted parameters of the learner model, and from which
 * event on they hold.
 *
 * The rows of eduai.model_parameters are only ever added: one for each skill
 * and fit, with the position from which it holds, which no follower has passed
 * when it is written.  So the parameters in force at a position are the same
 * for whoever folds the event there, now or in a replay.
 */
#ifndef EDUAI_PROJECTIONS_PARAMETERS_H
#define EDUAI_PROJECTIONS_PARAMETERS_H

#include "postgres.h"
#include "projections/model.h"
#include "utils/snapshot.h"

typedef struct EduaiModelParameters EduaiModelParameters;

/*
 * A tenant's, in the current context; each skill's are read at the first
 * mention and kept.  By the latest snapshot: a follower calls it after it has
 * its lock, once a batch.  By heap and index calls: no SPI, no switch of role.
 */
extern EduaiModelParameters *eduai_projections_parameters_load(const char *tenant);

/* The same for reading in a snapshot that the caller keeps registered. */
extern EduaiModelParameters *
eduai_projections_parameters_view(const char *tenant, Snapshot snapshot);

/*
 * Those in force for a skill at a position: of the row with the greatest
 * from_position that is not above.  NULL when there is none.  What is returned
 * lives until the next call.  For a prediction the position is the follower's
 * plus one, or PG_INT64_MAX, which is the same.
 */
extern const EduaiModelBkt *eduai_projections_parameters_at(const EduaiModelParameters *parameters,
															const char *skill, int64 position);

#endif
