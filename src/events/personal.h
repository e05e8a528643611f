/*
 * personal.h: a learner's events, to be erased and exported.
 *
 * An event is about a learner by its user_id, or by standing in the stream
 * "learner-" and the id.  Erasing takes them out of the hot table and out of
 * blocks; their positions are not used again, and readers pass over them.
 *
 * Terms
 *
 *   own stream     held nothing but the learner's events: its name goes, too,
 *                  and nothing is appended to it any more (eduai.erased_stream).
 *   mixed stream   holds others' events as well: keeps them, and its versions.
 *                  Where the learner's event is its last, a blank one of type
 *                  "event_erased" keeps the version from being used again.
 */
#ifndef EDUAI_EVENTS_PERSONAL_H
#define EDUAI_EVENTS_PERSONAL_H

#include "postgres.h"
#include "core/personal.h"
#include "events/record.h"
#include "events/store.h"

#define EDUAI_EVENT_ERASED "event_erased"

extern void eduai_events_personal_init(void);

/* ---- between the files of this topic ---- */

/* What an erasure knows of the streams it meets. */
typedef struct EduaiTouched EduaiTouched;

extern void eduai_events_touched_init(void);

/*
 * What was noted before: read, or kept from the backend's last transaction when
 * that was of the same erasure and was committed.  Inside SPI, as the owner; for
 * this transaction.
 */
extern EduaiTouched *eduai_events_touched_open(const EduaiPersonalWork *work);
/* Nothing is kept any more. */
extern void eduai_events_touched_drop(void);
/* The streams, in one order as long as none is added. */
extern char **eduai_events_touched_streams(const EduaiTouched *touched, int *n);
/* Is the event the learner's? */
extern bool eduai_events_touched_is_theirs(const EduaiTouched *touched, const EduaiRecord *record);
/* May the stream hold events of the learner, by what was noted? */
extern bool eduai_events_touched_knows(const EduaiTouched *touched, const char *stream);
/*
 * Notes an event that is being erased, its stream and session, for good.  True
 * when a blank one has to take its place.
 */
extern bool eduai_events_touched_note(EduaiTouched *touched, const EduaiRecord *record);
/* Notes streams and sessions of all hot events of the learner. */
extern void eduai_events_touched_find(EduaiTouched *touched);

/* Makes a hot event a blank one, in its place. */
extern void eduai_events_hot_blank(const EduaiHotPlace *place);

/* The same for a record about to be encoded. */
extern void eduai_events_record_blank(EduaiRecord *record);

/* Erases hot events, order row by order row, from a position on; see erase_part. */
extern int64 eduai_events_erase_hot(EduaiPersonalWork *work, EduaiTouched *touched, int64 *after);

#endif
