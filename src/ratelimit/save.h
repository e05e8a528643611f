/*
 * save.h: the counters on disk.
 *
 * The file pg_stat/eduai_rate.stat is written every eduai.rate_save_interval by
 * the launcher, when something changed, and by the postmaster when the server
 * stops; read when shared memory is made.  It is written beside, flushed and
 * renamed, and ends with a checksum: one that is torn, or of another version, is
 * as none.  After a crash, of the server or of one of its processes, what was
 * admitted since the last save is forgotten.
 *
 * The limiter's time goes on: by the monotonic clock where the machine has not
 * been restarted, else by as much as the wall clock has, and never back.
 */
#ifndef EDUAI_RATELIMIT_SAVE_H
#define EDUAI_RATELIMIT_SAVE_H

#include "datatype/timestamp.h"

extern void eduai_ratelimit_save_init(void);

/* The table was made, empty: reads the file.  In the postmaster. */
extern void eduai_ratelimit_save_started(void);

/* Outside of locks, after a change: sees to it that it is saved. */
extern void eduai_ratelimit_save_soon(void);

typedef struct RateSaved
{
	TimestampTz saved_at; /* 0: not since the start */
	uint64 saves;
	uint64 failures; /* since the last success */
	int loaded;      /* counters, at the start */
} RateSaved;

extern RateSaved eduai_ratelimit_saved(void);

#endif
