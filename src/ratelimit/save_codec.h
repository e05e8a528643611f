/*
 * save_codec.h: an entry as bytes in the file of counters.  Pure.
 *
 * In the machine's byte order: the file is read where it was written.
 */
#ifndef EDUAI_RATELIMIT_SAVE_CODEC_H
#define EDUAI_RATELIMIT_SAVE_CODEC_H

#include "ratelimit/table.h"

/* The most bytes of an entry. */
#define RATE_SAVED_MOST (64 + RATE_LABEL + RATE_BUCKETS * 5)

/* Returns how many bytes were written.  Slots are left out: their sessions end with the server. */
extern int eduai_ratelimit_save_encode(const RateName *name, const RateCounter *counter, char *out);

/*
 * Reads one entry; returns how many bytes it took, 0 when they are none.  The
 * hash is as it was when it was written.
 */
extern int
eduai_ratelimit_save_decode(const char *in, size_t length, RateName *name, RateCounter *counter);

#endif
