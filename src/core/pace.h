/*
 * pace.h: background work that leaves the processors to those who want them.
 *
 * A process that paces itself works for some milliseconds, then rests.  How
 * long depends on how much of that time it had to wait, for a processor or for
 * a disk: not at all where it waited for nothing, since then nobody wants what
 * it uses; where it waited for a quarter of the time or more, so long that it
 * takes eduai.maintenance_share of a processor.
 *
 * It rests where it calls eduai_core_pace(), with what it holds: locks of the
 * lock manager, snapshots, a page's pin; never an LWLock or a spinlock.
 */
#ifndef EDUAI_CORE_PACE_H
#define EDUAI_CORE_PACE_H

#include "postgres.h"

/* The length of a rest; pure.  worked: of a processor's time; waited: the share of the time. */
extern int64 eduai_core_pace_rest_us(int64 worked_us, double waited, int share_percent);

/*
 * From now on this process paces itself, but does not rest while hurry(arg) is
 * true: somebody waits for what it holds.
 */
extern void eduai_core_pace_begin(bool (*hurry)(const void *arg), const void *arg);

/* Rests when it is time to; nothing in a process that does not pace itself.  May raise. */
extern void eduai_core_pace(void);

extern void eduai_core_pace_init(void);

#endif
