/*
 * signal.h: how commits that appended tell the projector which tenants have
 * something new, in shared memory.
 *
 * A projector has a board from its start to its end.  An appender marks its
 * tenant there once its events are visible, and sets the projector's latch
 * only when that sleeps (it is "armed"): at high rates nobody signals.  A
 * tenant that the projector does not know yet makes it look for tenants.
 *
 * The order that loses nothing: an appender is visible, marks, looks whether
 * the projector is armed; the projector takes the marks, then reads; with
 * nothing left it arms, then looks for marks once more.
 */
#ifndef EDUAI_PROJECTIONS_SIGNAL_H
#define EDUAI_PROJECTIONS_SIGNAL_H

#include "postgres.h"
#include "core/hooks.h"

extern void eduai_projections_signal_init(void);

/* Of an append, before it writes: its transaction's end will be told. */
extern void eduai_projections_signal_append(const EduaiAppendBatch *batch);

/* ---- the projector's side ---- */

/* Takes a board for this database, or does nothing when this process has one. */
extern void eduai_projections_signal_attach(void);

/* The number of a tenant on the board; -1 when there is no place: it is then always marked. */
extern int eduai_projections_signal_place(const char *tenant);

/* Takes a tenant's mark: whether it had one. */
extern bool eduai_projections_signal_taken(int place);

/* Whether somebody appended for a tenant without a place since the last call. */
extern bool eduai_projections_signal_unknown(void);

/* Whether anything is marked; takes nothing. */
extern bool eduai_projections_signal_any(void);

/* From now on appenders set the latch; the first that does disarms. */
extern void eduai_projections_signal_arm(void);
extern void eduai_projections_signal_disarm(void);

#endif
