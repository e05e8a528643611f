/*
 * compact.h: moving sealed events into blocks.
 */
#ifndef EDUAI_EVENTS_COMPACT_H
#define EDUAI_EVENTS_COMPACT_H

#include "postgres.h"
#include "core/personal.h"
#include "datatype/timestamp.h"
#include "events/personal.h"

/* Defines eduai.compact_after and eduai.dedup_window. */
extern void eduai_events_compact_init(void);

/*
 * Moves up to one segment of the tenant's oldest events, recorded before the
 * limit, into blocks, in the caller's transaction; switches to the extension's
 * owner and connects to SPI by itself.  Returns how many; 0 when there is
 * nothing (or fewer than at_least) to move, when the segment would not be full
 * and none of its events was recorded before "overdue", or, with nowait, when
 * somebody else is at it.
 */
extern int64 eduai_events_compact_segment(const char *tenant, TimestampTz before,
										  TimestampTz overdue, int at_least, bool nowait);

/*
 * The projector's chore: compacts what eduai.compact_after says, all tenants,
 * a transaction a segment, and forgets given ids beyond eduai.dedup_window.
 * Outside any transaction.  Returns in how many milliseconds to look again.
 */
extern long eduai_events_compact_due(void);

/*
 * Removes compacted events: those of a stream, or those about a learner in
 * all streams together with all of the stream "learner-" and the id.  Other
 * events stay as they are, under their positions and versions; a stream that
 * has none left is forgotten.  In the caller's transaction, as
 * compact_segment; waits for a compaction of the tenant.  Returns how many
 * were removed.
 */
extern int64 eduai_events_block_remove(const char *tenant, const char *stream);
extern int64 eduai_events_block_erase_learner(const char *tenant, const char *user_id);

/*
 * The same for a learner's erasure: from a block of a segment on, one block or
 * more until work->until_us; *segment and *block become where to go on when
 * work->more.  Last events of mixed streams become
 * blank ones (personal.h).
 */
extern int64 eduai_events_block_erase_part(EduaiPersonalWork *work, EduaiTouched *touched,
										   int *segment, int *block);

/*
 * Afterwards: forgets those of the n streams, from *next on, that no block
 * holds any more, one stream or more until work->until_us; inside SPI, as the
 * owner, under the tenant's EDUAI_LOCK_COMPACT.
 */
extern void
eduai_events_block_forget_part(EduaiPersonalWork *work, char *const *streams, int n, int *next);

/* The projector's chore: moves what is due in transactions of its own; see core/chores.h. */
extern long eduai_events_compact_due(void);

/* Given ids of events recorded later than this are remembered. */
extern TimestampTz eduai_events_remember_after(void);

#endif
