/*
 * progress.h: a learner's progress as a pure fold over events.
 *
 * No clock, no SQL, no shared memory: the same states come from the same
 * events, whether folded one by one, in batches or in a replay.
 *
 * A progress and what it points to live in the memory context that was current
 * when it was read; the state and the events given to it must outlive it.
 */
#ifndef EDUAI_PROJECTIONS_PROGRESS_H
#define EDUAI_PROJECTIONS_PROGRESS_H

#include "postgres.h"
#include "core/hooks.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* A skill at this mastery or above is mastered. */
#define EDUAI_PROJECTIONS_MASTERY 0.8

/* difficulty_history keeps this many of the latest entries; the log has all. */
#define EDUAI_PROJECTIONS_HISTORY 1000

typedef struct EduaiProgress EduaiProgress;

/*
 * Starts from a stored state, or from the initial one with state NULL, version
 * 0 and last_activity DT_NOBEGIN.
 */
extern EduaiProgress *
eduai_projections_progress_read(const Jsonb *state, int64 version, TimestampTz last_activity);

/* Folds one event.  Data that is absent or of another type changes nothing; never raises. */
extern void eduai_projections_progress_fold(EduaiProgress *progress, const EduaiEvent *event);

/* How many events were folded, and the latest time among them (DT_NOBEGIN without any). */
extern int64 eduai_projections_progress_version(const EduaiProgress *progress);
extern TimestampTz eduai_projections_progress_last_activity(const EduaiProgress *progress);

/* The state to store. */
extern Jsonb *eduai_projections_progress_state(const EduaiProgress *progress);

/* What user_progress() shows: the state, the analytics, last_activity and version. */
extern Jsonb *eduai_projections_progress_show(EduaiProgress *progress, const char *user_id);

#endif
