/*
 * standby.h: how readers of a standby learn how far they may read.
 */
#ifndef EDUAI_EVENTS_STANDBY_H
#define EDUAI_EVENTS_STANDBY_H

#include "postgres.h"
#include "utils/snapshot.h"

extern void eduai_events_standby_init(void);

/*
 * The safe mark may have moved: a range of positions was settled, by a commit
 * or an abort.  Call it after the settling, from the transaction callback: it
 * does not raise, allocate or wait.
 */
extern void eduai_events_standby_note(void);

/* The mark that the projector stored, as the snapshot shows it; 0 without one. */
extern int64 eduai_events_standby_mark(Snapshot snapshot);

#endif
